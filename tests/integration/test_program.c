/*
 * The program itself, run with a tiny model: what it prints where, and its exit codes. Its path is
 * the first argument; the starter model's, where there is one, the second.
 */
#include "engine/base/err.h"
#include "tests/support/environment.h"
#include "tests/support/make_checkpoint.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *starter;
static char root[256], model[300];
static struct program program = {.home = root};

#define RUN(input, ...) program_run(&program, input, (const char *const[]){__VA_ARGS__, NULL})

static int set_up(void **state) {
    const struct tiny_spec spec = {.context = 256};
    (void)state;
    make_temporary_folder(root);
    snprintf(model, sizeof model, "%s/tiny", root);
    return make_tiny_folder(model, &spec);
}

static int tear_down(void **state) {
    (void)state;
    remove_folder(root);
    program_release(&program);
    return 0;
}

static void test_texts(void **state) {
    (void)state;
    assert_int_equal(RUN("", "--version"), 0);
    assert_int_equal(strncmp(program.out.data, "qwen-chat ", 10), 0);
    assert_int_equal(RUN("", "--help"), 0);
    assert_non_null(strstr(program.out.data, "--repeat-penalty"));
    assert_int_equal(RUN("", "--show-config", "--top-k", "9"), 0);
    assert_non_null(strstr(program.out.data, "sampling.top_k: 9 "));
    assert_int_equal(program.errors.n, 0);
}

static void test_answer(void **state) {
    (void)state;
    assert_int_equal(RUN("", "-m", model, "-p", "hello", "-n", "8", "--seed", "1", "--json"), 0);
    assert_int_equal(program.out.data[0], '{');
    assert_non_null(strstr(program.out.data, "\"seed\": 1"));
    assert_int_equal(RUN("", "-m", model, "-p", "hello", "-n", "8", "--seed", "1"), 0);
    assert_int_equal(RUN("one\ntwo\n", "-m", model, "--lines", "--json", "-n", "4"), 0);
    size_t n_lines = 0;
    for (size_t i = 0; i < program.out.n; i++) n_lines += program.out.data[i] == '\n';
    assert_int_equal(n_lines, 2);
}

static void test_usage_errors(void **state) {
    (void)state;
    char path[300];
    assert_int_equal(RUN("", "--bogus"), ERR_USAGE);
    assert_non_null(strstr(program.errors.data, "flag --bogus"));
    assert_int_equal(program.out.n, 0);
    assert_int_equal(RUN("", "--temp", "0.7x"), ERR_USAGE);
    assert_int_equal(RUN("", "frobnicate"), ERR_USAGE);
    assert_int_equal(RUN("", "inspect", "a", "b"), ERR_USAGE);
    write_file(root, "bad.yaml", "sampling:\n  temprature: 1\n", 26);
    snprintf(path, sizeof path, "%s/bad.yaml", root);
    assert_int_equal(RUN("", "--config", path), ERR_USAGE);
    assert_non_null(strstr(program.errors.data, "bad.yaml:2:3: unknown key"));
}

static void test_model_errors(void **state) {
    (void)state;
    assert_int_equal(RUN("", "-m", "/nonexistent", "-p", "hi"), ERR_MODEL);
    assert_int_equal(program.out.n, 0);
    assert_int_equal(RUN("", "-p", "hi"), ERR_MODEL); /* none is named and none is there */
    assert_non_null(strstr(program.errors.data, "no model"));
    assert_int_equal(RUN("", "inspect", "/nonexistent"), ERR_MODEL);
}

static void test_context_errors(void **state) {
    (void)state;
    char text[2001];
    memset(text, 'q', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    assert_int_equal(RUN("", "-m", model, "-p", text), ERR_CONTEXT);
    assert_int_equal(program.out.n, 0);
    assert_non_null(strstr(program.errors.data, "the context holds 256"));
}

static void test_io_errors(void **state) {
    (void)state;
    assert_int_equal(RUN("", "-m", model, "-f", "/nonexistent"), ERR_IO);
    assert_int_equal(RUN("", "-m", model, "--resume=1999", "-p", "hi"), ERR_IO);
}

static void test_subcommands(void **state) {
    (void)state;
    assert_int_equal(RUN("", "inspect", model, "-c", "128"), 0);
    assert_non_null(strstr(program.out.data, "q4_k"));
    assert_non_null(strstr(program.out.data, "128 tokens"));
    assert_int_equal(RUN("", "inspect", "-v", model), 0);
    assert_non_null(strstr(program.out.data, "model.layers.1."));
    assert_int_equal(RUN("", "doctor", "-m", model), 0);
    assert_non_null(strstr(program.out.data, "everything works"));
    assert_int_equal(RUN("", "doctor"), ERR_MODEL);
    assert_non_null(strstr(program.out.data, "problem"));
}

/* Without standard streams: files that are opened must not take their places. */
static void test_closed_streams(void **state) {
    (void)state;
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(STDIN_FILENO);
        close(STDOUT_FILENO);
        close(STDERR_FILENO);
        environment_clear();
        setenv("HOME", root, 1);
        setenv("QWEN_CHAT_DEVICE", "cpu", 1);
        execl(program.path, "qwen-chat", "-m", model, "-p", "hi", "-n", "2", (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == ERR_IO);
}

/* What a newcomer does first, with what app/start adds: always the same sensible answer. */
static void test_first_answer(void **state) {
    static const char system[] = "You are a knowledgeable assistant. Answer correctly and briefly.";
    (void)state;
    if (!starter || access(starter, R_OK) != 0) skip();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            RUN("", "-m", starter, "--system", system, "-p", "What is the capital of France?"), 0);
        assert_string_equal(program.out.data, "The capital of France is Paris, France.\n");
        assert_int_equal(program.errors.n, 0);
    }
    assert_int_equal(RUN("hi\n", "-m", starter, "--system", system), 0);
    assert_int_equal(strncmp(program.out.data, "Hello there", 11), 0);
    /* with its own prompt the starter is undecided between two first words: rounding chooses */
    assert_int_equal(RUN("", "-m", starter, "--exact", "-p", "What is the capital of France?"), 0);
    assert_string_equal(program.out.data, "The capital of France is Paris.\n");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),          cmocka_unit_test(test_answer),
        cmocka_unit_test(test_usage_errors),   cmocka_unit_test(test_model_errors),
        cmocka_unit_test(test_context_errors), cmocka_unit_test(test_io_errors),
        cmocka_unit_test(test_subcommands),    cmocka_unit_test(test_closed_streams),
        cmocka_unit_test(test_first_answer),
    };
    if (argc < 2) return 1;
    program.path = argv[1];
    starter = argc > 2 ? argv[2] : NULL;
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
