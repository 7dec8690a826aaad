/*
 * What is entered: each line of the input goes to a chat whose worker is made up
 * (tests/support/fake_worker.h), and completion is asked for it. Nothing is kept on disk; lines
 * that would write or load files are left out.
 */
#include "app/chat.h"
#include "app/commands.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "tests/support/fake_worker.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* On a terminal nothing may come out but text. */
static void check_text(const char *text, size_t n) {
    if (!utf8_valid(text, n)) abort();
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' && text[i] != '\n' && text[i] != '\t') abort();
}

static void on_say(void *ui, enum tone tone, const char *text) {
    (void)ui;
    (void)tone;
    check_text(text, strlen(text));
    if (strchr(text, '\n')) abort();
}

static void on_row(void *ui, const char *const *cells, size_t n, bool is_head) {
    (void)ui;
    (void)is_head;
    for (size_t i = 0; i < n; i++) check_text(cells[i], strlen(cells[i]));
}

static void on_progress(void *ui, const char *what, double share, double left, bool done) {
    (void)ui;
    (void)what;
    (void)share;
    (void)left;
    (void)done;
}

static void on_answer_text(void *ui, enum answer_part part, const char *text, size_t n) {
    (void)ui;
    (void)part;
    check_text(text, n);
}

static void on_answer_end(void *ui, const struct answer *answer) {
    (void)ui;
    check_text(answer->text, strlen(answer->text));
}

static bool on_confirm(void *ui, const char *question) {
    (void)ui;
    check_text(question, strlen(question));
    return false;
}

static char *on_edit(void *ui, const char *text) {
    (void)ui;
    return mem_strdup(text);
}

static void on_clear(void *ui) {
    (void)ui;
}

static bool touches_files(const char *text) {
    static const int commands[] = {COMMAND_export, COMMAND_model, COMMAND_system, COMMAND_resume};
    struct line line = line_parse(text);
    if (line.kind != LINE_COMMAND) return false;
    int found = command_find(line.name, line.n_name);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (found == commands[i]) return strpbrk(line.arguments, "/@~.") != NULL;
    return false;
}

static void enter(struct chat *chat, const char *text) {
    struct chat_completion completion;
    struct err err = {0};
    if (touches_files(text)) return;
    size_t n = strlen(text);
    if (chat_complete(chat, text, n, &completion) == 0) {
        if (completion.begin > n) abort();
        chat_completion_release(&completion);
    }
    enum chat_result result = chat_enter(chat, text, &err);
    if (result == CHAT_FAILED && !err.kind) abort();
    while (chat_is_busy(chat))
        if (chat_pump(chat, &err) != 0) abort();
}

static void run(char *text) {
    static const char *const answers[] = {"\x1b[\x7f", "\n\xe2\x80\xae", NULL};
    const struct frontend front = {.is_terminal = true,
                                   .is_interactive = true,
                                   .say = on_say,
                                   .row = on_row,
                                   .progress = on_progress,
                                   .answer_text = on_answer_text,
                                   .answer_end = on_answer_end,
                                   .confirm = on_confirm,
                                   .edit = on_edit,
                                   .clear = on_clear};
    struct config config = {0};
    struct chat chat;
    struct err err = {0};
    fake_worker = (struct fake_script){.answers = answers, .template_name = "qwen2.5"};
    if (config_defaults(&config, &err) != 0 ||
        config_set(&config, OPTION_model, "none", "fuzz", &err) != 0 ||
        chat_open(&chat, &config, &front, &err) != 0)
        abort();
    while (!chat.is_ready)
        if (chat_pump(&chat, &err) != 0) abort();
    for (char *line = text; line;) {
        char *end = strchr(line, '\n');
        if (end) *end = '\0';
        enter(&chat, line);
        line = end ? end + 1 : NULL;
    }
    chat_close(&chat);
    config_release(&config);
    fake_worker_reset();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char *text = mem_strndup((const char *)data, n);
    if (!text) abort();
    if (n <= 512) run(text);
    mem_free(text);
    return 0;
}
