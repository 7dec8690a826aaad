/* The command line: getopt_long() fed from the table, and the texts of --help and --show-config. */
#include "app/config.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

/* getopt_long's values of long flags: an option's number, and whether it is the --no- form. */
enum { WORD = 1, LONG_FLAG = 256 };

struct flag_table {
    struct option flags[2 * N_OPTIONS + 1];
    char letters[3 * N_OPTIONS + 3];
    char names[2 * N_OPTIONS][40];
};

static bool has_twin(const struct option_info *o) {
    return o->type == TYPE_BOOL && option_is_in_file(o);
}

static void table_fill(struct flag_table *t) {
    int n = 0;
    char *letter = t->letters;
    *t = (struct flag_table){0};
    *letter++ = '-'; /* words that are no flags come in their place, as flag 1 */
    *letter++ = ':'; /* a missing argument gives ':', not '?' */
    for (int id = 0; id < N_OPTIONS; id++) {
        const struct option_info *o = &option_table[id];
        if (!o->flag_name) continue;
        bool may_lack = o->argument && o->argument[0] == '[';
        int takes = !o->argument ? no_argument : may_lack ? optional_argument : required_argument;
        for (int twin = 0; twin <= (has_twin(o) ? 1 : 0); twin++, n++) {
            snprintf(t->names[n], sizeof t->names[n], "%s%s", twin ? "no-" : "", o->flag_name);
            t->flags[n] = (struct option){t->names[n], takes, NULL, LONG_FLAG + 2 * id + twin};
        }
        if (!o->flag) continue;
        *letter++ = o->flag;
        if (o->argument) *letter++ = ':';
    }
}

static int option_of_letter(int letter) {
    for (int id = 0; id < N_OPTIONS; id++)
        if (option_table[id].flag && option_table[id].flag == letter) return id;
    return -1;
}

static int refuse_flag(const struct flag_table *t, int found, char *word, struct err *err) {
    const char *hint = "; --help lists them";
    if (found == ':') return err_set(err, ERR_USAGE, "%.100s: its value is missing", word);
    if (optopt && optopt < LONG_FLAG)
        return err_set(err, ERR_USAGE, "unknown flag -%c%s", optopt, hint);
    if (optopt) return err_set(err, ERR_USAGE, "%.100s: takes no value", word);
    const char *names[2 * N_OPTIONS];
    char name[64];
    size_t n = 0;
    while (t->flags[n].name) {
        names[n] = t->flags[n].name;
        n++;
    }
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word + 2, "="), word + 2);
    const char *nearest = name_nearest(name, names, n);
    if (nearest)
        return err_set(err, ERR_USAGE, "unknown flag --%s; did you mean --%s?", name, nearest);
    return err_set(err, ERR_USAGE, "unknown or ambiguous flag --%s%s", name, hint);
}

static int take_flag(struct config *c, int id, bool is_twin, bool is_again, struct err *err) {
    const struct option_info *o = &option_table[id];
    char from[48];
    snprintf(from, sizeof from, "--%s%s", is_twin ? "no-" : "", o->flag_name);
    const char *value = o->argument ? (optarg ? optarg : "") : is_twin ? "false" : "true";
    int result = o->type == TYPE_LIST && is_again
                     ? config_add(c, (enum option_id)id, value, from, err)
                     : config_set(c, (enum option_id)id, value, from, err);
    return result == 0 ? 0 : err_within(err, "%s", from);
}

/* "--resume ID" as well as "--resume=ID": ids begin with a digit, subcommands do not. */
static int take_detached_id(struct config *c, struct err *err) {
    if (!c->resume || *c->resume || c->arguments.n != 1 ||
        !isdigit((unsigned char)c->arguments.items[0][0]))
        return 0;
    if (config_set(c, OPTION_resume, c->arguments.items[0], "--resume", err) != 0) return -1;
    strings_release(&c->arguments);
    return 0;
}

enum subcommand_flags { FLAGS_COMMON, FLAGS_OWN };

static bool has_own_flags(const char *subcommand) {
#define SUBCOMMAND(name, arguments, flags, help)                                                   \
    if (strcmp(subcommand, #name) == 0) return FLAGS_##flags == FLAGS_OWN;
#define COMMAND(...)
#include "app/commands.def"
#undef COMMAND
#undef SUBCOMMAND
    return false;
}

int config_read_flags(struct config *c, int argc, char **argv, struct err *err) {
    struct flag_table table;
    bool seen[N_OPTIONS] = {false};
    bool ends = false;
    int found;
    table_fill(&table);
    optind = 0; /* glibc: begin anew */
    opterr = 0;
    while (!ends && (found = getopt_long(argc, argv, table.letters, table.flags, NULL)) != -1) {
        if (found == '?' || found == ':') return refuse_flag(&table, found, argv[optind - 1], err);
        if (found == WORD) {
            ends = c->arguments.n == 0 && has_own_flags(optarg);
            if (strings_add(&c->arguments, optarg, err) != 0) return -1;
            continue;
        }
        int id = found >= LONG_FLAG ? (found - LONG_FLAG) / 2 : option_of_letter(found);
        bool is_twin = found >= LONG_FLAG && (found - LONG_FLAG) % 2;
        if (take_flag(c, id, is_twin, seen[id], err) != 0) return -1;
        seen[id] = true;
    }
    for (int i = optind; i < argc; i++)
        if (strings_add(&c->arguments, argv[i], err) != 0) return -1;
    return take_detached_id(c, err);
}

/* --- the text of --help ----------------------------------------------------------------------- */

enum { HELP_COLUMN = 30, HELP_WIDTH = 100 };

static void print_wrapped(const char *text, size_t column, struct buf *out) {
    for (const char *word = text; *word;) {
        size_t n = strcspn(word, " ");
        if (column + 1 + n > HELP_WIDTH) {
            buf_printf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (word != text) {
            buf_putc(out, ' ');
            column++;
        }
        buf_add(out, word, n);
        column += n;
        word += n + (word[n] == ' ');
    }
    buf_putc(out, '\n');
}

static void print_entry(const char *head, const char *help, struct buf *out) {
    size_t n = strlen(head);
    buf_puts(out, head);
    if (n + 2 > HELP_COLUMN)
        buf_printf(out, "\n%*s", HELP_COLUMN, "");
    else
        buf_printf(out, "%*s", (int)(HELP_COLUMN - n), "");
    print_wrapped(help, HELP_COLUMN, out);
}

static void print_flag(const struct option_info *o, struct buf *out) {
    char letter[8] = "    ", argument[24] = "";
    char head[80];
    if (o->flag) snprintf(letter, sizeof letter, "-%c, ", o->flag);
    if (o->argument && o->argument[0] == '[')
        snprintf(argument, sizeof argument, "[=%s", o->argument + 1);
    else if (o->argument)
        snprintf(argument, sizeof argument, " %s", o->argument);
    snprintf(head, sizeof head, "  %s--%s%s%s", letter, has_twin(o) ? "[no-]" : "", o->flag_name,
             argument);
    struct buf help = {0};
    buf_puts(&help, o->help);
    if (o->choices) buf_printf(&help, " (%s)", o->choices);
    if (!help.failed) print_entry(head, help.data, out);
    buf_release(&help);
}

void config_print_help(struct buf *out) {
    buf_puts(out, "qwen-chat: talk with a Qwen model on your own machine\n\n"
                  "Usage: qwen-chat [flags]               chat, or answer standard input\n"
                  "       qwen-chat -p TEXT [flags]       answer TEXT and end\n"
                  "       qwen-chat SUBCOMMAND [flags]\n\nSubcommands:\n");
#define SUBCOMMAND(name, arguments, flags, help) print_entry("  " #name " " arguments, help, out);
#define COMMAND(...)
#include "app/commands.def"
#undef COMMAND
#undef SUBCOMMAND
    buf_puts(out, "\nFlags:\n");
    for (int id = 0; id < N_OPTIONS; id++)
        if (option_table[id].flag_name) print_flag(&option_table[id], out);
    buf_puts(out, "\nEvery flag but the last ones is an option of config.yaml too; --show-config "
                  "lists them with\ntheir values and where those came from. In the chat, /help "
                  "lists its commands.\nSee qwen-chat(1) and qwen-chat.yaml(5).\n");
}

void config_print_all(const struct config *c, struct buf *out) {
    for (int id = 0; id < N_OPTIONS; id++) {
        if (!option_is_in_file(&option_table[id])) continue;
        struct buf line = {0};
        buf_printf(&line, "%s: ", option_table[id].name);
        config_print_value(c, (enum option_id)id, &line);
        if (line.failed)
            out->failed = true;
        else
            buf_printf(out, "%-44s # %s\n", line.data, c->from[id]);
        buf_release(&line);
    }
}
