/*
 * The script mode with the fake worker: what stands on standard output to the byte, what does not,
 * where messages come from, and every exit code.
 */
#include "app/config.h"
#include "engine/base/clock.h"
#include "engine/base/io.h"
#include "tests/support/environment.h"
#include "tests/support/fake_worker.h"
#include "ui/skins.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { DEADLINE_MS = 120000 }; /* of what hangs, whatever else the machine does */

static char folder[64];

/* A run: set args and the input, look at the results. */
struct run {
    const char *args[8];
    const char *input;       /* stdin is a pipe with this; NULL: /dev/null */
    size_t n_input;          /* 0: strlen(input) */
    const char *output_file; /* stdout is this file */
    bool closes_output;      /* stdout is a pipe that nobody reads any more */
    bool keeps_input_open;
    int kill_by; /* signal, once `kill_after` stands on stdout */
    const char *kill_after;
    /* results */
    struct buf out, err;
    int code; /* 128 + n for signal n */
};

static int make(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/qwen-script-XXXXXX");
    assert_non_null(mkdtemp(folder));
    environment_clear();
    fake_worker_reset();
    fake_worker.template_name = "chatml";
    return 0;
}

static int unmake(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    fake_worker_reset();
    return system(command);
}

static _Noreturn void be_child(const struct run *r, int in, int out, int err) {
    char *argv[16] = {(char[]){"qwen-chat"}, (char[]){"-m"}, (char[]){"fake-model"}};
    int argc = 3;
    struct config config;
    struct err why = {0};
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    for (int fd = 3; fd < 20; fd++) close(fd);
    for (int i = 0; r->args[i]; i++) argv[argc++] = (char *)(uintptr_t)r->args[i];
    setenv("HOME", folder, 1);
    signal(SIGPIPE, SIG_DFL);
    if (config_open(&config, argc, argv, &why) != 0) {
        fprintf(stderr, "%s\n", why.text);
        exit((int)why.kind);
    }
    int code = script_run(&config);
    config_release(&config);
    exit(code);
}

static int64_t now_ms(void) {
    return (int64_t)(clock_seconds() * 1e3);
}

/* Reads what is there; false: the end. */
static bool collect(int fd, struct buf *out) {
    char bytes[65536];
    ssize_t n = read(fd, bytes, sizeof bytes);
    if (n > 0) buf_add(out, bytes, (size_t)n);
    return n != 0;
}

static void feed(struct run *r, int fd, size_t *at) {
    size_t n = r->input ? r->n_input ? r->n_input : strlen(r->input) : 0;
    ssize_t put = *at < n ? write(fd, r->input + *at, n - *at) : 0;
    if (put > 0) *at += (size_t)put;
}

static bool is_fed(const struct run *r, size_t at) {
    return at >= (r->input ? r->n_input ? r->n_input : strlen(r->input) : 0);
}

/* Both sides at once, until the outputs end. */
static void converse(struct run *r, pid_t pid, int in, int out, int err) {
    int64_t end = now_ms() + DEADLINE_MS;
    bool is_killed = false;
    size_t at = 0;
    while ((out >= 0 || err >= 0) && now_ms() < end) {
        if (in >= 0 && is_fed(r, at) && !r->keeps_input_open) {
            close(in);
            in = -1;
        }
        struct pollfd fds[] = {{.fd = out, .events = POLLIN},
                               {.fd = err, .events = POLLIN},
                               {.fd = is_fed(r, at) ? -1 : in, .events = POLLOUT}};
        poll(fds, 3, 50);
        if (fds[2].revents & POLLERR)
            r->n_input = at; /* not read to its end */
        else if (fds[2].revents)
            feed(r, in, &at);
        if (fds[0].revents && !collect(out, &r->out)) {
            close(out);
            out = -1;
        }
        if (fds[1].revents && !collect(err, &r->err)) {
            close(err);
            err = -1;
        }
        bool is_time = r->kill_by && !is_killed &&
                       (!r->kill_after || (r->out.data && strstr(r->out.data, r->kill_after)));
        if (is_time) {
            is_killed = true;
            kill(pid, r->kill_by);
        }
    }
    if (in >= 0) close(in);
    assert_true(out < 0 && err < 0); /* else it hangs */
}

static void go(struct run *r) {
    int in[2], out[2], err[2], status;
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC) | pipe2(err, O_CLOEXEC), 0);
    fcntl(in[1], F_SETFL, O_NONBLOCK);
    signal(SIGPIPE, SIG_IGN);
    fflush(NULL);
    if (r->closes_output) close(out[0]); /* before it writes */
    pid_t pid = fork();
    if (pid == 0) {
        int from = r->input || r->keeps_input_open ? in[0] : open("/dev/null", O_RDONLY);
        int to = r->output_file ? open(r->output_file, O_WRONLY | O_CREAT | O_TRUNC, 0600) : out[1];
        close(in[1]);
        if (!r->closes_output) close(out[0]);
        be_child(r, from, to, err[1]);
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    buf_puts(&r->out, "");
    buf_puts(&r->err, "");
    converse(r, pid, in[1], r->closes_output ? -1 : out[0], err[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    r->code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void done(struct run *r) {
    buf_release(&r->out);
    buf_release(&r->err);
}

static void expect(struct run r, int code, const char *out, const char *err) {
    go(&r);
    if (r.code != code) print_error("standard error was: %s\n", r.err.data);
    assert_int_equal(r.code, code);
    assert_string_equal(r.out.data, out);
    if (*err ? !strstr(r.err.data, err) : r.err.n > 0)
        fail_msg("standard error is \"%s\", expected \"%s\"", r.err.data, err);
    done(&r);
}

/* Tell the turns apart. */
static const char *const numbered[] = {"one", "two", "three", "four", NULL};

static void test_sources(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/message.txt", folder);
    assert_int_equal(io_write_atomic(path, 0600, "from a file\n", 12, NULL), 0);
    fake_worker.answers = numbered;
    expect((struct run){.args = {"-p", "hi"}}, 0, "one\n", "");
    expect((struct run){.input = "hi\n"}, 0, "one\n", "");
    expect((struct run){.args = {"-f", path}}, 0, "one\n", "");
    expect((struct run){.args = {"-f", "-"}, .input = "hi"}, 0, "one\n", "");
    expect((struct run){.args = {"-p", "hi"}, .input = "piped"}, 0, "one\n", "");
    expect((struct run){0}, 0, "", "nothing to answer");
    expect((struct run){.input = ""}, 0, "", "nothing to answer");
    expect((struct run){.input = " \n\n\t\n"}, 0, "", "nothing to answer");
    expect((struct run){.args = {"-f", "/none/such"}}, 5, "", "/none/such");
    expect((struct run){.args = {"-f", "/"}}, 5, "", "a folder");
}

/* With --lines each line is a turn; /history shows (on standard error) what was sent. */
static void test_lines(void **state) {
    (void)state;
    fake_worker.answers = numbered;
    expect((struct run){.args = {"--lines"}, .input = "a\n\nb\r\n  \nc"}, 0, "one\ntwo\nthree\n",
           "");
    expect((struct run){.args = {"--lines", "-p", "first"}, .input = "second\n"}, 0, "one\ntwo\n",
           "");
    struct run r = {.args = {"--lines"}, .input = "你好\r\n//slash\n/history\n/exit\nnever sent\n"};
    go(&r);
    assert_int_equal(r.code, 0);
    assert_string_equal(r.out.data, "one\ntwo\n");
    assert_non_null(strstr(r.err.data, "你好"));
    assert_null(strchr(r.err.data, '\r'));
    assert_non_null(strstr(r.err.data, "/slash"));
    assert_null(strstr(r.err.data, "//slash"));
    assert_null(strstr(r.err.data, "never sent"));
    done(&r);
    expect((struct run){.args = {"--lines"}, .input = "a\n/nonsense\nb\n"}, 2, "one\n", "nonsense");
}

/* The parts of one message: prompt, an empty line, input. A conversation that is resumed is kept.
 */
static void test_prompt_and_input(void **state) {
    (void)state;
    struct run r = {.args = {"--lines", "--resume"}, .input = "/history\n"};
    expect((struct run){.args = {"-p", "first"}}, 0, "answer\n", "");
    go(&r);
    assert_int_equal(r.code, 5); /* scripts are not kept, so there is nothing to resume */
    done(&r);
}

static void test_exact_output(void **state) {
    (void)state;
    static const struct {
        const char *answer, *output;
    } cases[] = {
        {"plain", "plain\n"},
        {"with newline\n", "with newline\n"},
        {"\n\nmany\n\n\nof them\n\n\n\n", "many\n\n\nof them\n"},
        {"", "\n"},
        {"\n\n", "\n"},
        {"你好 👩‍👩‍👧 é", "你好 👩‍👩‍👧 é\n"},
        {"\033[31mraw\a\xe2\x80\xae", "\033[31mraw\a\xe2\x80\xae\n"}, /* a pipe gets the bytes */
        {"  spaces stay  ", "  spaces stay  \n"},
        {"tab\tand\rreturn", "tab\tand\rreturn\n"},
    };
    static const char *const reasoning[] = {"thinking that nobody sees", NULL};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *const answers[] = {cases[i].answer, NULL};
        fake_worker.answers = answers;
        fake_worker.reasoning = i % 2 ? reasoning : NULL;
        expect((struct run){.args = {"-p", "x"}}, 0, cases[i].output, "");
    }
}

static void test_json(void **state) {
    (void)state;
    static const char *const answers[] = {"a \"quoted\"\n\\ 你好\t", "second", NULL};
    static const char *const reasoning[] = {"hm\n", "", NULL};
    fake_worker.answers = answers;
    fake_worker.reasoning = reasoning;
    expect((struct run){.args = {"--json", "--lines", "--seed=5"}, .input = "a\nb\n"}, 0,
           "{\"answer\": \"a \\\"quoted\\\"\\n\\\\ 你好\\t\", \"reasoning\": \"hm\\n\", "
           "\"stop\": \"stop\", \"usage\": {\"prompt_tokens\": 10, \"cached_tokens\": 0, "
           "\"answer_tokens\": 19, \"prompt_seconds\": 0.500000, \"answer_seconds\": 1.000000}, "
           "\"seed\": 5, \"model\": \"fake\"}\n"
           "{\"answer\": \"second\", \"reasoning\": \"\", "
           "\"stop\": \"stop\", \"usage\": {\"prompt_tokens\": 10, \"cached_tokens\": 0, "
           "\"answer_tokens\": 6, \"prompt_seconds\": 0.500000, \"answer_seconds\": 1.000000}, "
           "\"seed\": 5, \"model\": \"fake\"}\n",
           "");
}

static void test_bad_input(void **state) {
    (void)state;
    expect((struct run){.input = "a\0b", .n_input = 3}, 5, "", "line 1: a NUL byte");
    expect((struct run){.input = "fine\n\xff\xfe"}, 5, "", "line 2: not UTF-8");
    expect((struct run){.input = "half \xe4\xbd"}, 5, "", "line 1: not UTF-8");
    fake_worker.answers = numbered;
    expect((struct run){.args = {"--lines"}, .input = "1\n2\n3\n\xc0\x80\n"}, 5, "",
           "line 4: not UTF-8");
    expect((struct run){.input = "\xEF\xBB\xBF"
                                 "a mark at the beginning"},
           0, "one\n", "");
}

static void test_large_input(void **state) {
    (void)state;
    size_t n = (size_t)65 << 20;
    char *text = malloc(n);
    memset(text, 'a', n);
    expect((struct run){.input = text, .n_input = n}, 6, "", "more than 64 MiB");
    expect((struct run){.input = text, .n_input = 1 << 20}, 0, "answer\n", "");
    free(text);
}

static void test_failures(void **state) {
    (void)state;
    static const struct {
        enum err_kind kind;
        int code;
    } kinds[] = {{ERR_OTHER, 1}, {ERR_MODEL, 3}, {ERR_MEMORY, 4}, {ERR_IO, 5}, {ERR_CONTEXT, 6}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        fake_worker_reset();
        fake_worker.template_name = "chatml";
        err_set(&fake_worker.load_error, kinds[i].kind, "the model says no");
        expect((struct run){.args = {"-p", "x"}}, kinds[i].code, "", "error: the model says no\n");
        fake_worker.load_error = (struct err){0};
        fake_worker.answers = numbered;
        fake_worker.error_after = 2;
        err_set(&fake_worker.answer_error, kinds[i].kind, "it breaks here");
        expect((struct run){.args = {"-p", "x"}}, kinds[i].code, "on\n", "error: it breaks here\n");
        expect((struct run){.args = {"--lines"}, .input = "a\nb\n"}, kinds[i].code, "on\n",
               "it breaks here");
        fake_worker.breaks = true;
        expect((struct run){.args = {"-p", "x"}}, kinds[i].code, "on\n", "it breaks here");
    }
    fake_worker_reset();
    expect((struct run){.args = {"--no-such-flag"}}, 2, "", "no-such-flag");
    expect((struct run){.args = {"--temp", "0.7x"}}, 2, "", "0.7x");
}

static void test_notices(void **state) {
    (void)state;
    fake_worker.left_out_turns = 2;
    fake_worker.notice = "the template is unknown";
    expect((struct run){.args = {"-p", "x"}}, 0, "answer\n", "the 2 oldest turns were left out");
    expect((struct run){.args = {"-p", "x"}}, 0, "answer\n", "the template is unknown");
}

/* --- pipes and signals ----------------------------------------------------------------------- */

static void test_output_faults(void **state) {
    (void)state;
    expect((struct run){.args = {"-p", "x"}, .output_file = "/dev/full"}, 5, "",
           "standard output: No space left");
    expect((struct run){.args = {"-p", "x", "--json"}, .output_file = "/dev/full"}, 5, "",
           "standard output");
    expect((struct run){.args = {"-p", "x"}, .closes_output = true}, 128 + SIGPIPE, "", "");
    expect((struct run){.args = {"--lines"}, .input = "a\nb\nc\n", .closes_output = true},
           128 + SIGPIPE, "", "");
}

static void test_signals(void **state) {
    (void)state;
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    static const char *const slow[] = {"partial text that would go on", NULL};
    for (size_t i = 0; i < 3; i++) {
        fake_worker.answers = slow;
        fake_worker.loading_ms = 0;
        fake_hold_answers();
        fake_let(12);
        struct run r = {.args = {"-p", "x"}, .kill_by = numbers[i], .kill_after = "partial"};
        go(&r); /* while it answers: what came is there, with its newline */
        assert_int_equal(r.code, 128 + numbers[i]);
        assert_memory_equal(r.out.data, "partial", 7);
        assert_int_equal(r.out.data[r.out.n - 1], '\n');
        assert_true(r.out.n < strlen(slow[0]));
        assert_int_equal(r.err.n, 0);
        done(&r);
        fake_worker.loading_ms = 600000;
        expect((struct run){.args = {"-p", "x"}, .kill_by = numbers[i]}, 128 + numbers[i], "", "");
        fake_worker.loading_ms = 0; /* while it waits for input */
        expect((struct run){.kill_by = numbers[i], .keeps_input_open = true}, 128 + numbers[i], "",
               "");
    }
}

/* Each line is answered when it comes, so that the other side may wait for the answer. */
static void test_lines_as_a_dialogue(void **state) {
    (void)state;
    fake_worker.answers = numbered;
    expect((struct run){.args = {"--lines"},
                        .input = "a\nb\n",
                        .keeps_input_open = true,
                        .kill_by = SIGTERM,
                        .kill_after = "one\ntwo\n"},
           128 + SIGTERM, "one\ntwo\n", "");
}

int main(void) {
#define FRESH(test) cmocka_unit_test_setup_teardown(test, make, unmake)
    const struct CMUnitTest tests[] = {
        FRESH(test_sources),       FRESH(test_lines),    FRESH(test_prompt_and_input),
        FRESH(test_exact_output),  FRESH(test_json),     FRESH(test_bad_input),
        FRESH(test_large_input),   FRESH(test_failures), FRESH(test_notices),
        FRESH(test_output_faults), FRESH(test_signals),  FRESH(test_lines_as_a_dialogue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
