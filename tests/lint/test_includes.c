/*
 * The house's rules that a compiler does not check: which folder may include which, and calls that
 * only one place may make. ui -> app -> engine -> kernels, and nothing back.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A file below `from` may include what begins with `to`. */
static const struct {
    const char *from, *to;
} edges[] = {
    {"kernels/", "kernels/"},
    {"engine/base/", "engine/base/"},
    {"engine/", "engine/"},
    {"engine/", "kernels/"},
    {"app/", "app/"},
    {"app/", "engine/base/"},
    {"app/", "engine/engine.h"},
    {"app/", "engine/text/chat_template.h"},
    {"app/", "kernels/format"},
    {"ui/", "ui/"},
    {"ui/", "app/"},
    {"ui/", "engine/base/"},
    /* the seams: the composition root, and the subcommands that look into the machinery */
    {"app/main.c", "ui/"},
    {"app/cmd_inspect.c", "engine/weights/inspect.h"},
    {"app/cmd_doctor.c", "engine/weights/inspect.h"},
    {"app/cmd_doctor.c", "kernels/device.h"},
};

/* Folders whose files may include no more than their own rows say, though a wider row fits. */
static const char *const narrow[] = {"engine/base/"};

/* Calls that only these files make; "" for nobody. Words end at what is no letter. */
static const struct {
    const char *call, *files[4];
} calls[] = {
    {"getenv", {"app/config.c", "engine/weights/hub_cache.c"}},
    {"malloc", {"engine/base/mem.c", "kernels/"}},
    {"calloc", {"engine/base/mem.c", "kernels/"}},
    {"realloc", {"engine/base/mem.c", "kernels/"}},
    {"strdup", {NULL}},
    {"fopen",
     {"kernels/cpu/machine.c", "ui/editor.c"}}, /* kernels have no io.h; libedit wants FILE */
    {"atoi", {NULL}},
    {"atof", {NULL}},
    {"alloca", {NULL}},
    {"system", {NULL}},
    {"popen", {NULL}},
    {"strcpy", {NULL}},
    {"strcat", {NULL}},
    {"sprintf", {NULL}},
    {"gets", {NULL}},
    {"rand", {NULL}},
};

static int n_files, n_faults;

static bool begins_with(const char *text, const char *head) {
    return strncmp(text, head, strlen(head)) == 0;
}

static bool may_include(const char *file, const char *header) {
    const char *only = "";
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++)
        if (begins_with(file, narrow[i])) only = narrow[i];
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        if (begins_with(file, edges[i].from) && begins_with(edges[i].from, only) &&
            begins_with(header, edges[i].to))
            return true;
    return false;
}

static void check_include(const char *file, int number, const char *line) {
    char header[256];
    if (sscanf(line, "#include \"%255[^\"]\"", header) != 1) return;
    if (may_include(file, header)) return;
    print_error("%s:%d: may not include \"%s\"\n", file, number, header);
    n_faults++;
}

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool may_call(const char *file, size_t k) {
    for (size_t i = 0; i < 4 && calls[k].files[i]; i++)
        if (begins_with(file, calls[k].files[i])) return true;
    return false;
}

/* Code only: text in quotes and behind a comment's beginning does not count. */
static void check_calls(const char *file, int number, const char *line) {
    const char *text = line + strspn(line, " \t");
    if (text[0] == '*' || begins_with(text, "/*") || begins_with(text, "//")) return;
    for (size_t k = 0; k < sizeof calls / sizeof *calls; k++) {
        size_t n = strlen(calls[k].call);
        for (const char *at = strstr(line, calls[k].call); at; at = strstr(at + n, calls[k].call)) {
            bool is_call = (at == line || !is_letter(at[-1])) && at[n] == '(';
            const char *comment = strstr(line, "/*");
            if (!is_call || (comment && comment < at) || may_call(file, k)) continue;
            print_error("%s:%d: may not call %s()\n", file, number, calls[k].call);
            n_faults++;
        }
    }
}

static void check_file(const char *path) {
    FILE *file = fopen(path, "r");
    char line[1024];
    assert_non_null(file);
    for (int number = 1; fgets(line, sizeof line, file); number++) {
        check_include(path, number, line);
        check_calls(path, number, line);
    }
    fclose(file);
    n_files++;
}

static bool is_source(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot && (strcmp(dot, ".c") == 0 || strcmp(dot, ".h") == 0 || strcmp(dot, ".cu") == 0 ||
                   strcmp(dot, ".cuh") == 0 || strcmp(dot, ".def") == 0);
}

static void check_folder(const char *path) {
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, alphasort);
    if (n < 0) fail_msg("%s: cannot be listed", path);
    for (int i = 0; i < n; i++) {
        char name[512];
        const char *entry = entries[i]->d_name;
        snprintf(name, sizeof name, "%s/%s", path, entry);
        if (entry[0] != '.' && entries[i]->d_type == DT_DIR)
            check_folder(name);
        else if (is_source(entry))
            check_file(name);
        free(entries[i]);
    }
    free(entries);
}

static void test_house(void **state) {
    (void)state;
    static const char *const folders[] = {"kernels", "engine", "app", "ui"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) check_folder(folders[i]);
    assert_true(n_files > 50);
    assert_int_equal(n_faults, 0);
}

/* The rules themselves: what they must refuse. */
static void test_rules(void **state) {
    (void)state;
    assert_false(may_include("engine/engine.c", "app/chat.h"));
    assert_false(may_include("engine/base/err.c", "engine/text/tokenizer.h"));
    assert_false(may_include("engine/base/err.c", "kernels/format.h"));
    assert_false(may_include("kernels/ops.c", "engine/base/mem.h"));
    assert_false(may_include("app/chat.c", "ui/skins.h"));
    assert_false(may_include("app/chat.c", "engine/forward/forward.h"));
    assert_false(may_include("ui/plain.c", "engine/engine.h"));
    assert_true(may_include("app/main.c", "ui/skins.h"));
    assert_true(may_include("engine/base/io.c", "engine/base/mem.h"));
    n_faults = 0;
    check_calls("app/chat.c", 1, "    x = getenv(\"A\");\n");
    check_calls("app/chat.c", 1, "    /* getenv( */\n");
    check_calls("app/chat.c", 1, "    mem_strdup(x), vsnprintf(y)\n");
    check_calls("app/config.c", 1, "    x = getenv(\"A\");\n");
    assert_int_equal(n_faults, 1);
    n_faults = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rules), cmocka_unit_test(test_house)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
