/*
 * The composition root: reads the options, picks a skin by what stdin and stdout are, and turns
 * errors into exit codes. The only file outside ui/ that knows ui/.
 */
#include "app/config.h"
#include "app/language.h"
#include "app/subcommands.h"
#include "ui/skins.h"
#include "ui/table.h"

#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- the front end of subcommands: tables and sentences, nothing to answer -------------------- */

static void print_line(void *ud, const char *text) {
    (void)ud;
    puts(text);
}

static void say(void *ui, enum tone tone, const char *text) {
    (void)ui;
    fprintf(tone == TONE_OUTPUT ? stdout : stderr, "%s\n", text);
    fflush(stdout); /* a table that grows slowly is seen growing, in a pipe too */
}

/* One line on a terminal's standard error, written over and over. */
static void progress(void *ui, const char *what, double share, double seconds_left, bool done) {
    (void)ui;
    (void)seconds_left;
    if (!isatty(STDERR_FILENO)) return;
    if (done)
        fputs("\r\033[K", stderr);
    else
        fprintf(stderr, "\r\033[K%s %3.0f %%", what, share * 100);
}

static void row(void *ui, const char *const *cells, size_t n, bool is_head) {
    if (n)
        table_row(ui, cells, n, is_head);
    else
        table_print(ui, false, print_line, NULL);
}

static int run_subcommand(const struct config *config, struct err *err) {
    struct table table = {0};
    const struct frontend front = {.ui = &table,
                                   .is_terminal = isatty(STDOUT_FILENO) != 0,
                                   .say = say,
                                   .row = row,
                                   .progress = progress};
    const char *name = config->arguments.items[0];
#define SUBCOMMAND(id, ...)                                                                        \
    if (strcmp(name, #id) == 0) return subcommand_##id(config, &front, err);
#define COMMAND(...)
#include "app/commands.def"
#undef COMMAND
#undef SUBCOMMAND
    return err_set(err, ERR_USAGE,
                   "unknown subcommand \"%s\"; a message is given with -p, --help lists the rest",
                   name);
}

/* --- the process ------------------------------------------------------------------------------ */

/* Files opened later must not become a standard stream. */
static void open_standard_streams(void) {
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

/* Only the types of characters: numbers keep their point. */
static void set_locale(void) {
    if (!setlocale(LC_CTYPE, "") || strcmp(setlocale(LC_CTYPE, NULL), "C") == 0)
        setlocale(LC_CTYPE, "C.UTF-8");
}

static int fail(const struct err *err) {
    fprintf(stderr, "qwen-chat: %s\n", err->text);
    if (err->kind == ERR_USAGE) fprintf(stderr, "%s\n", _("Try 'qwen-chat --help'."));
    return err->kind ? (int)err->kind : ERR_OTHER;
}

static int print(void (*text)(const struct config *, struct buf *), const struct config *config) {
    struct buf out = {0};
    text(config, &out);
    bool is_written = !out.failed && fwrite(out.data, 1, out.n, stdout) == out.n;
    is_written = fflush(stdout) == 0 && is_written;
    buf_release(&out);
    return is_written ? 0 : ERR_IO;
}

static void help_text(const struct config *config, struct buf *out) {
    (void)config;
    config_print_help(out);
}

static void version_text(const struct config *config, struct buf *out) {
    (void)config;
    buf_puts(out, "qwen-chat " QWEN_CHAT_VERSION "\n");
}

static int run(struct config *config) {
    struct err err = {0};
    if (config->help) return print(help_text, config);
    if (config->version) return print(version_text, config);
    if (config->show_config) return print(config_print_all, config);
    for (size_t i = 0; i < config->warnings.n; i++)
        fprintf(stderr, "qwen-chat: %s\n", config->warnings.items[i]);
    if (config->arguments.n) {
        if (run_subcommand(config, &err) != 0) return fail(&err);
        return fflush(stdout) == 0 ? 0 : ERR_IO;
    }
    bool has_prompt = config->prompt || config->file || config->json || config->lines;
    if (has_prompt || !isatty(STDIN_FILENO)) return script_run(config);
    bool is_plain = config->plain || !isatty(STDOUT_FILENO);
    return is_plain ? plain_run(config) : fullscreen_run(config);
}

int main(int argc, char **argv) {
    struct config config;
    struct err err = {0};
    open_standard_streams();
    signal(SIGPIPE, SIG_DFL); /* a parent may have it ignored; ended by it, the shell sees 141 */
    set_locale();
    language_open(NULL);
    if (config_open(&config, argc, argv, &err) != 0) return fail(&err);
    language_open(&config);
    int code = run(&config);
    config_release(&config);
    return code;
}
