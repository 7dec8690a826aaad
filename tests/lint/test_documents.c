/* config.yaml and the manual pages say what the tables say, all of it and nothing else. */
#include "app/bench_options.h"
#include "app/commands.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void read_text(const char *path, struct buf *out) {
    struct err err;
    if (io_read_file(path, 1 << 20, out, &err) != 0) fail_msg("%s", err.text);
}

/* Calls `take` for each line of `text` that begins with `head`, with what follows it. */
static int for_lines(const char *text, const char *head, void (*take)(const char *rest)) {
    size_t n = strlen(head);
    int found = 0;
    for (const char *line = text; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char rest[256];
        if (strncmp(line, head, n) != 0) continue;
        snprintf(rest, sizeof rest, "%.*s", (int)strcspn(line + n, "\n"), line + n);
        if (take) take(rest);
        found++;
    }
    return found;
}

static void need(const char *page, const char *name, const char *text) {
    if (!strstr(page, text)) fail_msg("%s lacks \"%s\"", name, text);
}

/* --- config.yaml ------------------------------------------------------------------------------ */

static void test_config_yaml(void **state) {
    (void)state;
    struct buf shipped = {0}, made = {0};
    read_text("config.yaml", &shipped);
    config_print_yaml(&made);
    assert_string_equal(shipped.data, made.data);
    buf_release(&shipped);
    buf_release(&made);
}

/* Reading it changes nothing. */
static void test_config_yaml_is_the_default(void **state) {
    (void)state;
    struct config c = {0}, d = {0};
    struct buf shipped = {0}, a = {0}, b = {0};
    struct err err;
    read_text("config.yaml", &shipped);
    assert_int_equal(config_defaults(&c, &err), 0);
    assert_int_equal(config_defaults(&d, &err), 0);
    if (config_read_yaml(&c, shipped.data, shipped.n, "config.yaml", &err) != 0)
        fail_msg("%s", err.text);
    for (int id = 0; id < N_OPTIONS; id++) {
        buf_clear(&a);
        buf_clear(&b);
        config_print_value(&c, (enum option_id)id, &a);
        config_print_value(&d, (enum option_id)id, &b);
        assert_string_equal(a.data, b.data);
        if (option_is_in_file(&option_table[id]) && strncmp(c.from[id], "config.yaml:", 12) != 0)
            fail_msg("config.yaml lacks %s", option_table[id].name);
    }
    config_release(&c);
    config_release(&d);
    buf_release(&shipped);
    buf_release(&a);
    buf_release(&b);
}

/* --- qwen-chat(1) ----------------------------------------------------------------------------- */

/* "m , Fl -model Ar PATH" or "-raw , Fl -no-raw": each flag of the line must be one of the table.
 */
static void take_flags(const char *rest) {
    char line[260];
    snprintf(line, sizeof line, "Fl %s", rest);
    for (const char *at = strstr(line, "Fl "); at; at = strstr(at + 3, "Fl ")) {
        char name[64];
        bool is_known = false;
        sscanf(at + 3, "%63s", name);
        for (int id = 0; id < N_OPTIONS && !is_known; id++) {
            const struct option_info *o = &option_table[id];
            char twin[64];
            if (!o->flag_name) continue;
            snprintf(twin, sizeof twin, "no-%s", o->flag_name);
            bool has_twin = o->type == TYPE_BOOL && option_is_in_file(o);
            is_known = name[0] == '-' ? strcmp(name + 1, o->flag_name) == 0 ||
                                            (has_twin && strcmp(name + 1, twin) == 0)
                                      : name[0] == o->flag && !name[1];
        }
        if (!is_known) fail_msg("qwen-chat.1 has the flag %s, the program has not", name);
    }
}

static void test_flags(void **state) {
    (void)state;
    struct buf page = {0};
    int n_flags = 0;
    read_text("man/qwen-chat.1", &page);
    for (int id = 0; id < N_OPTIONS; id++) {
        const struct option_info *o = &option_table[id];
        char item[256], letter[16] = "", twin[64] = "", argument[64] = "";
        if (!o->flag_name) continue;
        n_flags++;
        if (o->flag) snprintf(letter, sizeof letter, "Fl %c , ", o->flag);
        if (o->type == TYPE_BOOL && option_is_in_file(o))
            snprintf(twin, sizeof twin, " , Fl -no-%s", o->flag_name);
        if (o->argument && o->argument[0] != '[')
            snprintf(argument, sizeof argument, " Ar %s", o->argument);
        snprintf(item, sizeof item, "\n.It %sFl -%s%s%s", letter, o->flag_name, twin, argument);
        need(page.data, "qwen-chat.1", item);
    }
    assert_int_equal(for_lines(page.data, ".It Fl ", take_flags), n_flags);
    buf_release(&page);
}

static void take_command(const char *rest) {
    if (rest[0] == '/' && command_find(rest + 1, strcspn(rest + 1, " ")) < 0)
        fail_msg("qwen-chat.1 has the command %s, the program has not", rest);
}

/* Aliases stand as ".Cm /name" on lines of their own; option pages use .Cm for subcommands too. */
static void test_commands(void **state) {
    (void)state;
    struct buf page = {0};
    read_text("man/qwen-chat.1", &page);
    for (int i = 0; i < N_COMMANDS; i++) {
        const struct command *c = &command_table[i];
        char item[128];
        snprintf(item, sizeof item, "\n.It Cm /%s%s%s\n", c->name, *c->arguments ? " Ar " : "",
                 c->arguments);
        need(page.data, "qwen-chat.1", item);
        for (const char *word = c->aliases; *word;) {
            size_t n = strcspn(word, " ");
            snprintf(item, sizeof item, "\n.Cm /%.*s ", (int)n, word);
            need(page.data, "qwen-chat.1", item);
            word += n + (word[n] == ' ');
        }
    }
    assert_int_equal(for_lines(page.data, ".It Cm /", NULL), N_COMMANDS);
    for_lines(page.data, ".It Cm ", take_command);
    for_lines(page.data, ".Cm ", take_command);
    int n_subcommands = 0;
#define COMMAND(...)
#define SUBCOMMAND(name, ...)                                                                      \
    need(page.data, "qwen-chat.1", "\n.It Cm " #name);                                             \
    n_subcommands++;
#include "app/commands.def"
#undef SUBCOMMAND
#undef COMMAND
    assert_int_equal(for_lines(page.data, ".It Cm ", NULL), N_COMMANDS + n_subcommands);
    buf_release(&page);
}

/* --- qwen-chat-bench(1) ----------------------------------------------------------------------- */

static void test_bench_flags(void **state) {
    (void)state;
    struct bench_option_info o;
    struct buf page = {0};
    size_t n = 0;
    read_text("man/qwen-chat-bench.1", &page);
    for (; bench_option_at(n, &o); n++) {
        char item[160];
        bool is_optional = o.argument && !o.short_name;
        snprintf(item, sizeof item, "\n.It %s%s%s%s%s%s%s\n", o.short_name ? "Fl " : "",
                 o.short_name ? o.short_name + 1 : "", o.short_name && o.long_name ? " , " : "",
                 o.long_name ? "Fl " : "", o.long_name ? o.long_name + 1 : "",
                 !o.argument   ? ""
                 : is_optional ? " Ns Op = Ns Ar "
                               : " Ar ",
                 o.argument ? o.argument : "");
        need(page.data, "qwen-chat-bench.1", item);
        if (!o.fallback) continue;
        const char *entry = strstr(page.data, item);
        snprintf(item, sizeof item, "\nDefault: %s.\n", o.fallback);
        need(entry, o.short_name, item);
    }
    assert_int_equal(for_lines(page.data, ".It Fl ", NULL), n);
    buf_release(&page);
}

static void test_exit_codes(void **state) {
    (void)state;
    static const int codes[] = {0,           ERR_OTHER, ERR_USAGE, ERR_MODEL, ERR_MEMORY, ERR_IO,
                                ERR_CONTEXT, 129,       130,       141,       143};
    struct buf page = {0};
    read_text("man/qwen-chat.1", &page);
    const char *section = strstr(page.data, ".Sh EXIT STATUS\n");
    assert_non_null(section);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        char item[32];
        snprintf(item, sizeof item, "\n.It %d\n", codes[i]);
        need(section, "EXIT STATUS", item);
    }
    buf_release(&page);
}

/* --- qwen-chat.yaml(5) ------------------------------------------------------------------------ */

static void take_option(const char *rest) {
    char name[64];
    sscanf(rest, "%63s", name);
    int id = config_find(name, NULL);
    if (id < 0 || strcmp(option_table[id].name, name) != 0)
        fail_msg("qwen-chat.yaml.5 has the option %s, the program has not", name);
}

static void test_options(void **state) {
    (void)state;
    struct buf page = {0}, variable = {0};
    int n_options = 0;
    read_text("man/qwen-chat.yaml.5", &page);
    for (int id = 0; id < N_OPTIONS; id++) {
        const struct option_info *o = &option_table[id];
        char text[160];
        if (!option_is_in_file(o)) continue;
        n_options++;
        snprintf(text, sizeof text, "\n.It Sy %s ", o->name);
        need(page.data, "qwen-chat.yaml.5", text);
        char *entry = mem_strdup(strstr(page.data, text) + 1);
        assert_non_null(entry);
        char *next = strstr(entry, "\n.It ");
        char *end = next ? next : strstr(entry, "\n.El");
        assert_non_null(end);
        end[1] = '\0';
        snprintf(text, sizeof text, "\nDefault:\n.Ql %s .\n", o->fallback ? o->fallback : "null");
        need(entry, o->name, text);
        buf_clear(&variable);
        option_environment(o, &variable);
        snprintf(text, sizeof text, "\n.Ev %s ", variable.data);
        need(entry, o->name, text);
        if (o->flag_name) {
            snprintf(text, sizeof text, "\n.Fl -%s .\n", o->flag_name);
            need(entry, o->name, text);
        }
        if (o->choices) {
            snprintf(text, sizeof text, "\n.Ql %s .\n", o->choices);
            need(entry, o->name, text);
        }
        if (o->has_range) {
            snprintf(text, sizeof text, "From %.16g to %.16g", o->min, o->max);
            need(entry, o->name, text);
        }
        mem_free(entry);
    }
    assert_int_equal(for_lines(page.data, ".It Sy ", take_option), n_options);
    buf_release(&page);
    buf_release(&variable);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config_yaml), cmocka_unit_test(test_config_yaml_is_the_default),
        cmocka_unit_test(test_flags),       cmocka_unit_test(test_commands),
        cmocka_unit_test(test_exit_codes),  cmocka_unit_test(test_options),
        cmocka_unit_test(test_bench_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
