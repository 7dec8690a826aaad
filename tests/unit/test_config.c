/* Options: values, layers and their places, and that the shipped config.yaml is the table. */
#include "app/config.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "tests/support/environment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* A folder of its own for each test, with XDG_… pointing into it. */
static char root[64];

static int make_root(void **state) {
    (void)state;
    char path[128];
    snprintf(root, sizeof root, "/tmp/qwen-config-XXXXXX");
    if (!mkdtemp(root)) return -1;
    environment_clear();
    setenv("HOME", root, 1);
    snprintf(path, sizeof path, "%s/etc", root);
    setenv("XDG_CONFIG_DIRS", path, 1);
    snprintf(path, sizeof path, "%s/user", root);
    setenv("XDG_CONFIG_HOME", path, 1);
    setenv("TERM", "xterm", 1);
    return 0;
}

static int drop_root(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void write_file(const char *name, const char *text) {
    char path[256];
    struct err err = {0};
    snprintf(path, sizeof path, "%s/%s", root, name);
    *strrchr(path, '/') = '\0';
    assert_int_equal(io_make_folders(path, 0700, &err), 0);
    snprintf(path, sizeof path, "%s/%s", root, name);
    assert_int_equal(io_write_atomic(path, 0600, text, strlen(text), &err), 0);
}

/* Opens with the given words behind the program's name. */
static int open_with(struct config *c, struct err *err, const char *const *words) {
    char *argv[32] = {(char *)(uintptr_t) "qwen-chat"};
    int argc = 1;
    *err = (struct err){0};
    for (; words && *words; words++) argv[argc++] = (char *)(uintptr_t)*words;
    return config_open(c, argc, argv, err);
}
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static int read_text(struct config *c, const char *text, struct err *err) {
    *err = (struct err){0};
    return config_read_yaml(c, text, strlen(text), "c.yaml", err);
}

static void test_defaults(void **state) {
    (void)state;
    struct config c;
    struct err err;
    assert_int_equal(open_with(&c, &err, NULL), 0);
    assert_false(config_is_set(&c, OPTION_temperature));
    assert_false(config_is_set(&c, OPTION_seed));
    assert_null(c.model);
    assert_int_equal(c.max_tokens, -1);
    assert_true(c.history);
    assert_string_equal(c.from[OPTION_history], "default");
    assert_int_equal(c.warnings.n, 0);
    char path[128];
    snprintf(path, sizeof path, "%s/.local/share/qwen-chat/conversations", root);
    assert_string_equal(c.conversations_folder, path);
    config_release(&c);
}

static void test_layers(void **state) {
    (void)state;
    struct config c;
    struct err err;
    write_file("etc/qwen-chat/config.yaml", "sampling:\n  temperature: 0.1\n  top_k: 1\n"
                                            "  top_p: 0.1\n  min_p: 0.1\n");
    write_file("user/qwen-chat/config.yaml", "sampling:\n  top_k: 2\n  top_p: 0.2\n  min_p: 0.2\n");
    setenv("QWEN_CHAT_TOP_P", "0.3", 1);
    setenv("QWEN_CHAT_MIN_P", "0.3", 1);
    assert_int_equal(open_with(&c, &err, WORDS("--min-p", "0.4")), 0);
    assert_true(c.temperature == 0.1 && c.top_k == 2 && c.top_p == 0.3 && c.min_p == 0.4);
    char from[128];
    snprintf(from, sizeof from, "%s/etc/qwen-chat/config.yaml:2", root);
    assert_string_equal(c.from[OPTION_temperature], from);
    assert_string_equal(c.from[OPTION_top_p], "QWEN_CHAT_TOP_P");
    assert_string_equal(c.from[OPTION_min_p], "--min-p");
    config_release(&c);

    /* --config stands for the user's file; the system's is still read */
    write_file("other.yaml", "sampling: {min_p: 0.9}\n");
    unsetenv("QWEN_CHAT_TOP_P");
    unsetenv("QWEN_CHAT_MIN_P");
    snprintf(from, sizeof from, "%s/other.yaml", root);
    assert_int_equal(open_with(&c, &err, WORDS("--config", from)), 0);
    assert_true(c.top_k == 1 && c.top_p == 0.1 && c.min_p == 0.9);
    config_release(&c);
}

static void test_more_system_folders(void **state) {
    (void)state;
    struct config c;
    struct err err;
    char folders[256];
    snprintf(folders, sizeof folders, "%s/a:relative:%s/b", root, root);
    setenv("XDG_CONFIG_DIRS", folders, 1);
    write_file("a/qwen-chat/config.yaml", "sampling:\n  top_k: 1\n");
    write_file("b/qwen-chat/config.yaml", "sampling:\n  top_k: 2\n  top_p: 0.5\n");
    assert_int_equal(open_with(&c, &err, NULL), 0);
    assert_true(c.top_k == 1 && c.top_p == 0.5); /* the first folder is the most important */
    config_release(&c);
}

static void test_flags(void **state) {
    (void)state;
    struct config c;
    struct err err;
    assert_int_equal(open_with(&c, &err,
                               WORDS("-m", "~/model", "-n", "5", "-t2", "-c", "4096", "--temp=0.5",
                                     "--top-k", "3", "--repeat-penalty", "1.1", "--stop", "a",
                                     "--stop", "b", "--think", "off", "--no-history", "-p", "hi")),
                     0);
    char path[128];
    snprintf(path, sizeof path, "%s/model", root);
    assert_string_equal(c.model, path);
    assert_true(c.max_tokens == 5 && c.threads == 2 && c.context == 4096 && c.temperature == 0.5);
    assert_true(c.top_k == 3 && c.repeat_penalty == 1.1 && !c.history && c.think == 2);
    assert_int_equal(c.stop.n, 2); /* once each, though flags are read twice */
    assert_string_equal(c.stop.items[1], "b");
    assert_string_equal(c.prompt, "hi");
    config_release(&c);

    assert_int_equal(open_with(&c, &err, WORDS("inspect", "-v", "some/path")), 0);
    assert_int_equal(c.arguments.n, 2);
    assert_string_equal(c.arguments.items[1], "some/path");
    assert_true(c.verbose);
    config_release(&c);
}

static void test_resume_flag(void **state) {
    (void)state;
    struct config c;
    struct err err;
    assert_int_equal(open_with(&c, &err, WORDS("--resume")), 0);
    assert_string_equal(c.resume, "");
    config_release(&c);
    assert_int_equal(open_with(&c, &err, WORDS("--resume=2026")), 0);
    assert_string_equal(c.resume, "2026");
    config_release(&c);
    assert_int_equal(open_with(&c, &err, WORDS("--resume", "2026")), 0);
    assert_string_equal(c.resume, "2026");
    assert_int_equal(c.arguments.n, 0);
    config_release(&c);
    assert_int_equal(open_with(&c, &err, NULL), 0);
    assert_null(c.resume);
    config_release(&c);
}

static void test_bad_flags(void **state) {
    (void)state;
    static const struct {
        const char *words[4];
        const char *expected;
    } cases[] = {
        {{"--tempp", "1"}, "unknown flag --tempp; did you mean --temp?"},
        {{"-Z"}, "unknown flag -Z; --help lists them"},
        {{"--temp"}, "--temp: its value is missing"},
        {{"-n"}, "-n: its value is missing"},
        {{"--raw=yes"}, "--raw=yes: takes no value"},
        {{"--temp", "0.7x"}, "--temp: sampling.temperature: a number is needed, found \"0.7x\""},
        {{"--seed", "-1"},
         "--seed: sampling.seed: must be from 0 to 9007199254740991, found \"-1\""},
        {{"--think", "maybe"},
         "--think: chat.think: one of default|on|off is needed, found \"maybe\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config c;
        struct err err;
        assert_int_equal(open_with(&c, &err, cases[i].words), -1);
        assert_string_equal(err.text, cases[i].expected);
        assert_int_equal(err.kind, ERR_USAGE);
    }
}

static void test_values(void **state) {
    (void)state;
    static const struct {
        enum option_id id;
        const char *text;
        bool is_good;
    } cases[] = {
        {OPTION_temperature, "0.7", true},
        {OPTION_temperature, ".5", true},
        {OPTION_temperature, "5.", true},
        {OPTION_temperature, "1e-3", true},
        {OPTION_temperature, "100", true},
        {OPTION_temperature, "100.1", false},
        {OPTION_temperature, "0.7x", false},
        {OPTION_temperature, "0.7 ", false},
        {OPTION_temperature, " 0.7", false},
        {OPTION_temperature, "1e400", false},
        {OPTION_temperature, "00.5", false},
        {OPTION_temperature, "0x1p0", false},
        {OPTION_temperature, "inf", false},
        {OPTION_temperature, "nan", false},
        {OPTION_temperature, "", false},
        {OPTION_temperature, ".", false},
        {OPTION_temperature, "-", false},
        {OPTION_temperature, "1e", false},
        {OPTION_temperature, "0,7", false},
        {OPTION_presence_penalty, "-2", true},
        {OPTION_top_k, "0", true},
        {OPTION_top_k, "010", false},
        {OPTION_top_k, "1_000", false},
        {OPTION_top_k, "0x10", false},
        {OPTION_top_k, "+1", false},
        {OPTION_top_k, "1.0", false},
        {OPTION_top_k, "99999999999999999999999", false},
        {OPTION_max_tokens, "-1", true},
        {OPTION_max_tokens, "-2", false},
        {OPTION_seed, "9007199254740991", true},
        {OPTION_seed, "9007199254740992", false},
        {OPTION_raw, "true", true},
        {OPTION_raw, "yes", false},
        {OPTION_raw, "True", false},
        {OPTION_raw, "on", false},
        {OPTION_raw, "1", false},
        {OPTION_memory, "6G", true},
        {OPTION_memory, "0", true},
        {OPTION_memory, "512M", true},
        {OPTION_memory, "6g", false},
        {OPTION_memory, "6GB", false},
        {OPTION_memory, "G", false},
        {OPTION_memory, "-1", false},
        {OPTION_memory, "999999999999999999T", false},
        {OPTION_keys, "vi", true},
        {OPTION_keys, "v", false},
        {OPTION_keys, "emacs|vi", false},
        {OPTION_keys, "", false},
        {OPTION_stop, "", false},
        {OPTION_model, "", false},
        {OPTION_system, "", true},
    };
    struct config c;
    struct err err;
    assert_int_equal(open_with(&c, &err, NULL), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int result = config_set(&c, cases[i].id, cases[i].text, "test", &err);
        if ((result == 0) != cases[i].is_good)
            fail_msg("%s = \"%s\"", option_table[cases[i].id].name, cases[i].text);
        if (result != 0) assert_int_equal(err.kind, ERR_USAGE);
    }
    assert_true(c.memory == (uint64_t)512 << 20);
    config_release(&c);
}

/* A value that is refused leaves the option as it was; a value survives being printed and read. */
static void test_printing(void **state) {
    (void)state;
    struct config c;
    struct err err;
    struct buf out = {0};
    assert_int_equal(
        open_with(&c, &err, WORDS("--temp", "0.7", "--memory", "6144M", "--stop", "a\"")), 0);
    assert_int_equal(config_set(&c, OPTION_temperature, "x", "test", &err), -1);
    config_print_value(&c, OPTION_temperature, &out);
    assert_string_equal(out.data, "0.7");
    buf_clear(&out);
    config_print_value(&c, OPTION_memory, &out);
    assert_string_equal(out.data, "6G");
    buf_clear(&out);
    config_print_value(&c, OPTION_stop, &out);
    assert_string_equal(out.data, "[\"a\\\"\"]");
    buf_clear(&out);
    config_print_value(&c, OPTION_seed, &out);
    assert_string_equal(out.data, "null");
    buf_clear(&out);
    config_print_all(&c, &out);
    assert_non_null(strstr(out.data, "sampling.temperature: 0.7 "));
    assert_non_null(strstr(out.data, "# --temp\n"));
    buf_release(&out);
    config_release(&c);
}

/* Every way to write a colour, and how it is written back. */
static void test_colors(void **state) {
    (void)state;
    static const struct {
        const char *text, *printed; /* NULL: refused */
    } cases[] = {{"cyan", "cyan"},
                 {"bright-white", "bright-white"},
                 {"0", "black"},
                 {"15", "bright-white"},
                 {"117", "117"},
                 {"255", "255"},
                 {"#87d7af", "\"#87d7af\""},
                 {"#87D7AF", "\"#87d7af\""},
                 {"#000000", "\"#000000\""},
                 {"none", "none"},
                 {"256", NULL},
                 {"-1", NULL},
                 {"07", NULL},
                 {"1.5", NULL},
                 {"", NULL},
                 {"#fff", NULL},
                 {"#87d7ag", NULL},
                 {"#87d7af0", NULL},
                 {"Cyan", NULL},
                 {"bright", NULL}};
    struct config c;
    struct err err;
    struct buf out = {0};
    assert_int_equal(open_with(&c, &err, WORDS(NULL)), 0);
    assert_false(config_is_set(&c, OPTION_color_code));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int result = config_set(&c, OPTION_color_code, cases[i].text, "test", &err);
        if ((result == 0) != (cases[i].printed != NULL)) fail_msg("colour %s", cases[i].text);
        if (result != 0) continue;
        buf_clear(&out);
        config_print_value(&c, OPTION_color_code, &out);
        assert_string_equal(out.data, cases[i].printed);
        struct buf yaml = {0};
        buf_printf(&yaml, "colors: {link: %s}\n", out.data);
        assert_int_equal(config_read_yaml(&c, yaml.data, yaml.n, "c.yaml", &err), 0);
        assert_int_equal(c.color_link, c.color_code);
        buf_release(&yaml);
    }
    buf_release(&out);
    config_release(&c);
}

static void test_bad_yaml(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"sampling:\n  temprature: 1\n",
         "c.yaml:2:3: unknown key \"sampling.temprature\"; did you mean sampling.temperature?"},
        {"temperature: 1\n",
         "c.yaml:1:1: unknown key \"temperature\"; did you mean sampling.temperature?"},
        {"samplin:\n  top_k: 1\n", "c.yaml:1:1: unknown key \"samplin\"; did you mean sampling?"},
        {"chat:\n  top_k: 1\n",
         "c.yaml:2:3: unknown key \"chat.top_k\"; did you mean sampling.top_k?"},
        {"sampling:\n  top_k: 010\n",
         "c.yaml:2:10: sampling.top_k: a whole number is needed, found \"010\""},
        {"sampling:\n  temperature: 1e400\n",
         "c.yaml:2:16: sampling.temperature: must be from 0 to 100, found \"1e400\""},
        {"sampling:\n  temperature: \"0.7\"\n",
         "c.yaml:2:16: sampling.temperature: the value is written without quotes"},
        {"colors:\n  code: #87d7af\n", "c.yaml:2:8: a colour is needed; one with a # stands in "
                                       "quotes: \"#87d7af\""},
        {"colors:\n  code: 256\n", "c.yaml:2:9: colors.code: a colour such as cyan, bright-blue, "
                                   "117, \"#87d7af\" or none is needed, found \"256\""},
        {"chat:\n  raw: yes\n", "c.yaml:2:8: chat.raw: true or false is needed, found \"yes\""},
        {"chat:\n  raw: true\n  raw: true\n", "c.yaml:3:3: this option was given before"},
        {"chat:\n  raw: true\nchat:\n  think: on\n", "c.yaml:3:1: this group was given before"},
        {"chat: &a\n  raw: true\n", "c.yaml:1:7: anchors and aliases are not used here"},
        {"chat:\n  system: *a\n", "c.yaml:2:11: anchors and aliases are not used here"},
        {"chat:\n  system: !!str a\n", "c.yaml:2:11: tags are not used here"},
        {"chat:\n  raw: true\n---\nchat:\n  raw: true\n",
         "c.yaml:3:1: one document is expected, here begins another"},
        {"chat:\n  <<: {raw: true}\n", "c.yaml:2:3: unknown key \"chat.<<\""},
        {"sampling:\n  stop: one\n", "c.yaml:2:9: a list is needed, such as [\"one\", \"two\"]"},
        {"sampling:\n  stop: [~]\n", "c.yaml:2:10: a text is needed"},
        {"sampling:\n  stop: [a, \"\"]\n",
         "c.yaml:2:13: sampling.stop: some text is needed, found \"\""},
        {"sampling:\n  stop: [[[[a]]]]\n", "c.yaml:2:10: nested too deep"},
        {"sampling:\n  top_k: [1]\n", "c.yaml:2:10: one value is needed, without NUL"},
        {"chat:\n  system: \"a\\0b\"\n", "c.yaml:2:11: one value is needed, without NUL"},
        {"- chat\n", "c.yaml:1:1: \"model:\", \"sampling:\" … are needed here"},
        {"chat: 1\n", "c.yaml:1:7: options are needed here, one \"name: value\" a line"},
        {"chat:\n\traw: true\n", "c.yaml:2:1: found character that cannot start any token"},
        {"chat:\n  raw: true\n  system: \xff\n", "c.yaml:3:11: invalid leading UTF-8 octet"},
        {"prompt: hi\n", "c.yaml:1:1: unknown key \"prompt\""},
    };
    struct config c;
    struct err err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(open_with(&c, &err, NULL), 0);
        assert_int_equal(read_text(&c, cases[i].text, &err), -1);
        if (strcmp(err.text, cases[i].expected) != 0)
            fail_msg("\"%s\" gave\n%s, expected\n%s", cases[i].text, err.text, cases[i].expected);
        assert_int_equal(err.kind, ERR_USAGE);
        config_release(&c);
    }
}

static void test_good_yaml(void **state) {
    (void)state;
    struct config c;
    struct err err;
    assert_int_equal(open_with(&c, &err, NULL), 0);
    assert_int_equal(read_text(&c, "", &err), 0);
    assert_int_equal(read_text(&c, "# nothing\n", &err), 0);
    assert_int_equal(read_text(&c, "chat:\n", &err), 0);
    assert_int_equal(read_text(&c,
                               "chat:\n  system: |\n    你好\n    there\n  think: on\n"
                               "sampling:\n  stop:\n    - \"a\"\n    - b\n  seed: 7\n",
                               &err),
                     0);
    assert_string_equal(c.system, "你好\nthere\n");
    assert_int_equal(c.stop.n, 2);
    assert_int_equal(c.seed, 7);
    assert_int_equal(c.think, 1);
    assert_string_equal(c.from[OPTION_seed], "c.yaml:10");
    assert_int_equal(read_text(&c, "sampling: {seed: null, stop: ~}\nchat: {system: null}", &err),
                     0);
    assert_false(config_is_set(&c, OPTION_seed));
    assert_int_equal(c.stop.n, 0);
    assert_null(c.system);
    config_release(&c);
}

static void test_file_faults(void **state) {
    (void)state;
    struct config c;
    struct err err;
    char path[128];
    assert_int_equal(open_with(&c, &err, WORDS("--config", "/nonexistent.yaml")), -1);
    assert_int_equal(err.kind, ERR_USAGE);
    assert_int_equal(open_with(&c, &err, WORDS("--config", root)), -1);
    assert_int_equal(err.kind, ERR_USAGE);

    char *big = malloc((1 << 20) + 2);
    memset(big, '#', (1 << 20) + 1);
    big[(1 << 20) + 1] = '\0';
    write_file("big.yaml", big);
    free(big);
    snprintf(path, sizeof path, "%s/big.yaml", root);
    assert_int_equal(open_with(&c, &err, WORDS("--config", path)), -1);
    assert_int_equal(err.kind, ERR_USAGE);

    write_file("open.yaml", "chat:\n  raw: true\n");
    snprintf(path, sizeof path, "%s/open.yaml", root);
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(open_with(&c, &err, WORDS("--config", path)), 0);
    assert_int_equal(c.warnings.n, 1);
    config_release(&c);
}

static void test_environment(void **state) {
    (void)state;
    struct config c;
    struct err err;
    setenv("QWEN_CHAT_SEED", "12a", 1);
    assert_int_equal(open_with(&c, &err, NULL), -1);
    assert_string_equal(err.text,
                        "QWEN_CHAT_SEED: sampling.seed: a whole number is needed, found \"12a\"");
    setenv("QWEN_CHAT_SEED", "12", 1);
    setenv("NO_COLOR", "1", 1);
    setenv("TERM", "dumb", 1);
    assert_int_equal(open_with(&c, &err, NULL), 0);
    assert_int_equal(c.seed, 12);
    assert_int_equal(c.color, COLORS_NEVER);
    assert_true(c.plain);
    assert_string_equal(c.from[OPTION_plain], "TERM");
    config_release(&c);
    assert_int_equal(open_with(&c, &err, WORDS("--color=always", "--no-plain")), 0);
    assert_int_equal(c.color, COLORS_ALWAYS);
    assert_false(c.plain);
    config_release(&c);
    setenv("QWEN_CHAT_TEMP", "1", 1); /* it is QWEN_CHAT_TEMPERATURE */
    assert_int_equal(open_with(&c, &err, NULL), 0);
    assert_int_equal(c.warnings.n, 1);
    assert_string_equal(c.warnings.items[0], "QWEN_CHAT_TEMP: is the name of no option");
    config_release(&c);
    unsetenv("QWEN_CHAT_TEMP");
    setenv("NO_COLOR", "", 1); /* empty does not count */
    setenv("TERM", "xterm", 1);
    setenv("XDG_DATA_HOME", "relative/path", 1); /* neither do relative paths */
    assert_int_equal(open_with(&c, &err, NULL), 0);
    assert_int_equal(c.color, COLORS_AUTO);
    assert_int_equal(strncmp(c.data_folder, root, strlen(root)), 0);
    config_release(&c);
}

static void test_default_model(void **state) {
    (void)state;
    struct config c;
    struct err err;
    char *path, expected[160];
    assert_int_equal(open_with(&c, &err, NULL), 0);
    assert_int_equal(config_find_model(&c, &path, &err), -1);
    assert_int_equal(err.kind, ERR_MODEL);
    write_file(".local/share/qwen-chat/models/notes.txt", "");
    write_file(".local/share/qwen-chat/models/x.gguf.part", "");
    assert_int_equal(config_find_model(&c, &path, &err), -1);
    write_file(".local/share/qwen-chat/models/starter.gguf", "");
    assert_int_equal(config_find_model(&c, &path, &err), 0);
    snprintf(expected, sizeof expected, "%s/.local/share/qwen-chat/models/starter.gguf", root);
    assert_string_equal(path, expected);
    mem_free(path);
    config_release(&c);
}

static void test_names(void **state) {
    (void)state;
    const char *nearest = NULL;
    assert_int_equal(config_find("sampling.top_k", NULL), OPTION_top_k);
    assert_int_equal(config_find("top_k", NULL), OPTION_top_k);
    assert_int_equal(config_find("top-k", NULL), OPTION_top_k);
    assert_int_equal(config_find("temp", NULL), OPTION_temperature);
    assert_int_equal(config_find("prompt", &nearest), -1); /* not an option of the file */
    assert_int_equal(config_find("tepm", &nearest), -1);
    assert_int_equal(config_find("top_kk", &nearest), -1);
    assert_string_equal(nearest, "top_k");
    assert_int_equal(config_find("quantization", &nearest), -1);
    assert_null(nearest);
    assert_int_equal(name_distance("", "abc"), 3);
    assert_int_equal(name_distance("kitten", "sitting"), 3);
    assert_int_equal(name_distance("hepl", "help"), 1);
}

/* Names that the rows give must be unique, or one option would hide another. */
static void test_table(void **state) {
    (void)state;
    for (int a = 0; a < N_OPTIONS; a++) {
        const struct option_info *x = &option_table[a];
        assert_true(strlen(x->help) > 10);
        assert_true(strncmp(x->help, "No", 2) != 0);
        if (option_is_in_file(x)) {
            assert_int_equal(config_find(x->name, NULL), a);
            assert_int_equal(config_find(x->field, NULL), a);
            if (x->flag_name) assert_int_equal(config_find(x->flag_name, NULL), a);
        }
        assert_int_equal(x->choices != NULL, x->type == TYPE_ENUM);
        assert_int_equal(x->has_range,
                         x->type == TYPE_INT || x->type == TYPE_FLOAT || x->type == TYPE_SIZE);
        for (int b = 0; b < a; b++) {
            const struct option_info *y = &option_table[b];
            assert_string_not_equal(x->name, y->name);
            if (x->flag) assert_int_not_equal(x->flag, y->flag);
            if (x->flag_name && y->flag_name) assert_string_not_equal(x->flag_name, y->flag_name);
        }
    }
}

static void test_help(void **state) {
    (void)state;
    struct buf out = {0};
    config_print_help(&out);
    assert_false(out.failed);
    for (int id = 0; id < N_OPTIONS; id++) {
        char flag[64];
        if (!option_table[id].flag_name) continue;
        snprintf(flag, sizeof flag, "%s%s", "--", option_table[id].flag_name);
        bool twin = option_table[id].type == TYPE_BOOL && option_is_in_file(&option_table[id]);
        if (twin) snprintf(flag, sizeof flag, "--[no-]%s", option_table[id].flag_name);
        if (!strstr(out.data, flag)) fail_msg("--help lacks %s", flag);
    }
    for (char *line = out.data, *end; (end = strchr(line, '\n')); line = end + 1)
        if (end - line > 100)
            fail_msg("--help is wider than 100 columns: %.*s", (int)(end - line), line);
    buf_release(&out);
}

/* Every allocation fails once: an error, no crash, nothing lost. */
static void test_without_memory(void **state) {
    (void)state;
    struct err err;
    write_file("user/qwen-chat/config.yaml", "sampling:\n  top_k: 2\n  stop: [a, b]\n");
    for (unsigned long n = 1;; n++) {
        struct config c;
        mem_fail_at(n, false);
        int result = open_with(&c, &err, WORDS("--stop", "x", "--seed", "3", "-m", "a", "word"));
        mem_fail_at(0, false);
        if (result == 0) {
            assert_int_equal(c.stop.n, 1);
            config_release(&c);
            assert_true(n > 50);
            break;
        }
        assert_int_equal(err.kind, ERR_MEMORY);
    }
}

/* Writing an option back changes its scalar and no other byte. */
static void test_edit_yaml(void **state) {
    static const struct {
        const char *text, *name, *value, *expected; /* NULL: refused */
    } cases[] = {
        {"", "sampling.top_k", "5", "sampling:\n  top_k: 5\n"},
        {"# only this", "chat.system", "\"x\"", "# only this\nchat:\n  system: \"x\"\n"},
        {"sampling:\n  top_k: 40 # c\n\n  top_p: 1\n", "sampling.top_k", "5",
         "sampling:\n  top_k: 5 # c\n\n  top_p: 1\n"},
        {"sampling:\n  top_k: 'forty'\r\n", "sampling.top_k", "5", "sampling:\n  top_k: 5\r\n"},
        {"sampling:\n      top_p: 1\n", "sampling.top_k", "5",
         "sampling:\n      top_k: 5\n      top_p: 1\n"},
        {"sampling: {top_p: 1}\n", "sampling.top_k", "5", "sampling: {top_k: 5, top_p: 1}\n"},
        {"sampling: {top_p: 1, top_k: 2}", "sampling.top_k", "5", "sampling: {top_p: 1, top_k: 5}"},
        {"sampling:\n  top_k:\n  top_p: 1\n", "sampling.top_k", "5",
         "sampling:\n  top_k: 5\n  top_p: 1\n"},
        {"sampling:\nchat:\n  think: on\n", "sampling.top_k", "5",
         "sampling:\n  top_k: 5\nchat:\n  think: on\n"},
        {"# 中文 注释\nchat:\n  system: 你好 # 问\n", "chat.system", "\"再见\"",
         "# 中文 注释\nchat:\n  system: \"再见\" # 问\n"},
        {"chat:\n  system: |\n    a\n    b\n  think: on\n", "chat.system", "\"x\"",
         "chat:\n  system: \"x\"\n  think: on\n"},
        {"interface:\n  keys: vi\nchat:\n  keys: 1\n", "interface.keys", "emacs",
         "interface:\n  keys: emacs\nchat:\n  keys: 1\n"},
        {"sampling:\n  stop: [a, b]\n", "sampling.stop", "x", NULL},
        {"sampling: [", "sampling.top_k", "5", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf out = {0};
        struct err err;
        int result = config_edit_yaml(cases[i].text, strlen(cases[i].text), cases[i].name,
                                      cases[i].value, &out, &err);
        if ((result == 0) != (cases[i].expected != NULL))
            fail_msg("case %zu: %s", i, result == 0 ? out.data : err.text);
        if (result == 0) assert_string_equal(out.data, cases[i].expected);
        buf_release(&out);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, drop_root)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edit_yaml),
        TEST(test_defaults),
        TEST(test_layers),
        TEST(test_more_system_folders),
        TEST(test_flags),
        TEST(test_resume_flag),
        TEST(test_bad_flags),
        TEST(test_values),
        TEST(test_printing),
        TEST(test_colors),
        TEST(test_bad_yaml),
        TEST(test_good_yaml),
        TEST(test_file_faults),
        TEST(test_environment),
        TEST(test_default_model),
        TEST(test_names),
        TEST(test_table),
        TEST(test_help),
        TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
