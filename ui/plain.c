/*
 * Line mode: a prompt at the bottom of the terminal, answers scrolling above it. The chat decides
 * what happens; this file shows it and waits. The model loads behind the prompt, and while an
 * answer streams what is typed waits for the next prompt.
 */
#include "app/chat.h"
#include "app/language.h"
#include "engine/base/mem.h"
#include "ui/answer_stream.h"
#include "ui/line_input.h"
#include "ui/signals.h"
#include "ui/skin.h"
#include "ui/skins.h"
#include "ui/table.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    LADDER_MS = 2000,  /* a second Ctrl-C within this leaves */
    PROGRESS_MS = 100, /* between two paintings of a bar */
};

static const char prompt_text[] = "> ";

struct plain {
    struct config *config;
    struct frontend front;
    struct chat chat;
    struct line_input input;
    struct answer_stream stream;
    struct table table;
    bool has_color, is_still;
    bool is_piped;        /* answers go to a pipe or file, everything else to the terminal */
    bool is_broken;       /* that pipe was closed */
    bool has_answer_line; /* part of an answer stands in the last line */
    char *progress_what;  /* of the progress line that is up, or NULL */
    char *loading;        /* what the model's loading was at when last heard of, or NULL */
    double loading_share;
    int64_t progress_ms;  /* when it was painted */
    int64_t interrupt_ms; /* of the last Ctrl-C at an empty prompt */
    bool is_cancelling;   /* Ctrl-C has stopped the answer; it has not ended yet */
};

/* --- printing --------------------------------------------------------------------------------- */

static void print(struct plain *p, const char *text) {
    terminal_puts(&p->input.terminal, text);
}

static void print_styled(struct plain *p, const char *style, const char *text) {
    if (p->has_color) print(p, style);
    print(p, text);
    if (p->has_color) print(p, "\033[0m");
    print(p, "\n");
}

static void clear_progress(struct plain *p) {
    if (!p->progress_what) return;
    if (!p->is_still) print(p, "\r\033[K");
    mem_free(p->progress_what);
    p->progress_what = NULL;
}

/* Whatever is in the last line makes room for a line of its own. */
static void begin_line(struct plain *p) {
    line_input_hide(&p->input);
    clear_progress(p);
    if (p->has_answer_line) print(p, "\n");
    p->has_answer_line = false;
}

static void say(void *ui, enum tone tone, const char *text) {
    static const char *const styles[] = {
        [TONE_OUTPUT] = "", [TONE_NOTICE] = "\033[2m", [TONE_ERROR] = "\033[31m"};
    struct plain *p = ui;
    char *line = mem_strdup(text);
    begin_line(p);
    if (line) sanitize_line(line); /* with answers in a pipe the chat has not done it */
    print_styled(p, styles[tone], line ? line : "");
    line_input_show(&p->input);
    mem_free(line);
}

static void print_row(void *ui, const char *text) {
    print(ui, text);
    print(ui, "\n");
}

static void row(void *ui, const char *const *cells, size_t n, bool is_head) {
    struct plain *p = ui;
    if (n > 0) {
        table_row(&p->table, cells, n, is_head);
        return;
    }
    begin_line(p);
    table_print(&p->table, p->has_color, print_row, p);
    line_input_show(&p->input);
}

static void write_progress(const char *what, double share, double seconds_left, char *out,
                           size_t room) {
    char percent[16] = "", left[32] = "";
    if (share >= 0) snprintf(percent, sizeof percent, " %d%%", (int)(share * 100));
    if (seconds_left >= 0) snprintf(left, sizeof left, ", %.0f s left", seconds_left);
    snprintf(out, room, "%s …%s%s", *what ? _(what) : _("working"), percent, left);
}

static void paint_progress(struct plain *p, const char *what, double share, double seconds_left) {
    char text[160];
    write_progress(what, p->is_still ? -1 : share, p->is_still ? -1 : seconds_left, text,
                   sizeof text);
    if (p->input.terminal.columns <= (int)strlen(text)) snprintf(text, sizeof text, "…");
    begin_line(p);
    if (p->has_color) print(p, "\033[2m");
    print(p, text);
    if (p->has_color) print(p, "\033[0m");
    if (p->is_still) print(p, "\n");
    p->progress_what = mem_strdup(what);
    p->progress_ms = skin_now_ms();
}

/* At a prompt the model loads unseen; how far it is shows when a message waits for it. */
static void progress(void *ui, const char *what, double share, double seconds_left, bool done) {
    struct plain *p = ui;
    if (done || p->input.is_prompting) {
        clear_progress(p);
        mem_free(p->loading);
        p->loading = done ? NULL : mem_strdup(what);
        p->loading_share = share;
        return;
    }
    bool is_new = !p->progress_what || strcmp(p->progress_what, what) != 0;
    bool is_due = !p->is_still && skin_now_ms() - p->progress_ms >= PROGRESS_MS;
    if (is_new || is_due) paint_progress(p, what, share, seconds_left);
}

static void write_answer(void *ud, const char *text, size_t n) {
    struct plain *p = ud;
    if (!p->is_piped) {
        terminal_write(&p->input.terminal, text, n);
        p->has_answer_line = n > 0 && text[n - 1] != '\n';
        return;
    }
    while (n > 0 && !p->is_broken) {
        ssize_t put = write(STDOUT_FILENO, text, n);
        if (put < 0 && errno != EINTR) p->is_broken = true;
        if (put > 0) {
            text += put;
            n -= (size_t)put;
        }
    }
}

static void answer_text(void *ui, enum answer_part part, const char *text, size_t n) {
    struct plain *p = ui;
    clear_progress(p);
    p->stream.view = p->is_piped                ? REASONING_NONE
                     : p->config->show_thinking ? REASONING_SHOWN
                                                : REASONING_FOLDED;
    answer_stream_text(&p->stream, part, text, n);
}

static void print_stats(struct plain *p, const struct answer *answer) {
    char text[200];
    skin_describe_answer(answer, text, sizeof text);
    print_styled(p, "\033[2m", text);
}

static void answer_end(void *ui, const struct answer *answer) {
    struct plain *p = ui;
    clear_progress(p);
    answer_stream_end(&p->stream);
    begin_line(p);
    p->is_cancelling = false;
    if (answer->err) print_styled(p, "\033[31m", answer->err->text);
    if (answer->left_out_turns > 0) {
        char text[120];
        snprintf(text, sizeof text, "The %d oldest turns were left out: the context is full.",
                 answer->left_out_turns);
        print_styled(p, "\033[33m", text);
    }
    if (p->config->show_stats && !answer->err) {
        print_stats(p, answer);
    } else if (answer->stop == STOP_CANCELLED) {
        print_styled(p, "\033[2m", _("[interrupted]"));
    }
}

/* --- asking ----------------------------------------------------------------------------------- */

/* A prompt of its own, inside a command. false: given up. */
static bool ask(struct plain *p, const char *prompt, const char *text) {
    begin_line(p);
    line_input_prompt(&p->input, prompt, p->has_color ? "\033[1m" : "", text);
    for (;;) {
        switch (line_input_wait(&p->input, -1)) {
        case INPUT_ENTERED:
            return true;
        case INPUT_INTERRUPT:
            line_input_abandon(&p->input);
            return false;
        case INPUT_END:
        case INPUT_QUIT:
            return false;
        case INPUT_READABLE:
            break;
        }
    }
}

static bool confirm(void *ui, const char *question) {
    struct plain *p = ui;
    struct buf prompt = {0};
    buf_printf(&prompt, "%s [y/N] ", question);
    bool is_yes = !prompt.failed && ask(p, prompt.data, "") && p->input.entry.n > 0 &&
                  strchr("yY", p->input.entry.data[0]);
    buf_release(&prompt);
    return is_yes;
}

static char *edit(void *ui, const char *text) {
    struct plain *p = ui;
    return ask(p, "edit> ", text) ? mem_strdup(p->input.entry.data) : NULL;
}

static void clear_screen(void *ui) {
    struct plain *p = ui;
    if (p->is_still) return;
    begin_line(p);
    print(p, "\033[H\033[2J");
    line_input_show(&p->input);
}

static bool copy(void *ui, const char *answer, int code) {
    struct plain *p = ui;
    return skin_copy(&p->input.terminal, answer, code);
}

/* --- the conversation ------------------------------------------------------------------------- */

/* Until the answer has ended; false: the chat is broken or the program must end. */
static bool wait_for_answer(struct plain *p, struct err *err) {
    while (chat_is_busy(&p->chat)) {
        switch (line_input_wait(&p->input, chat_fd(&p->chat))) {
        case INPUT_READABLE:
            if (chat_pump(&p->chat, err) != 0) return false;
            if (p->is_broken) p->input.quit_signal = SIGPIPE;
            break;
        case INPUT_INTERRUPT:
            if (p->is_cancelling) { /* it does not end: leave without it */
                p->input.quit_signal = SIGINT;
                return false;
            }
            p->is_cancelling = true;
            line_input_hold_back(&p->input);
            chat_interrupt(&p->chat);
            break;
        case INPUT_QUIT:
            return false;
        case INPUT_ENTERED:
        case INPUT_END:
            break; /* only at a prompt */
        }
    }
    p->is_cancelling = false;
    return true;
}

/* Ctrl-C where nothing is left to stop. true: it was the second one. */
static bool interrupt_at_prompt(struct plain *p) {
    int64_t now = skin_now_ms();
    if (p->interrupt_ms && now - p->interrupt_ms <= LADDER_MS) return true;
    p->interrupt_ms = now;
    say(p, TONE_NOTICE, "Ctrl-C again or Ctrl-D to leave");
    return false;
}

static bool enter(struct plain *p, struct err *err) {
    struct err notice = {0};
    const char *text = p->input.entry.data;
    p->interrupt_ms = 0;
    if (!text[strspn(text, " \n\t")]) return true;
    if (input_history_add(&p->input.history, text, &notice) != 0) {
        say(p, TONE_NOTICE, notice.text);
        mem_free(p->input.history.path); /* said once; it goes on in memory */
        p->input.history.path = NULL;
    }
    switch (chat_enter(&p->chat, text, err)) {
    case CHAT_SENT:
        if (p->loading) paint_progress(p, p->loading, p->loading_share, -1);
        if (!wait_for_answer(p, err)) return false;
        print(p, "\n");
        return true;
    case CHAT_QUIT:
        return false;
    case CHAT_DONE:
    case CHAT_FAILED: /* has been said */
        *err = (struct err){0};
        return p->input.quit_signal == 0;
    }
    return false;
}

/* Prompt after prompt; returns when the program is to end, with *err where that is an error. */
static void converse(struct plain *p, struct err *err) {
    for (;;) {
        if (!p->input.is_prompting)
            line_input_prompt(&p->input, prompt_text, p->has_color ? "\033[1;34m" : "", "");
        switch (line_input_wait(&p->input, chat_fd(&p->chat))) {
        case INPUT_READABLE:
            if (chat_pump(&p->chat, err) != 0) return;
            break;
        case INPUT_ENTERED:
            if (!enter(p, err)) return;
            break;
        case INPUT_INTERRUPT:
            if (!interrupt_at_prompt(p)) break;
            line_input_abandon(&p->input);
            p->input.quit_signal = SIGINT;
            return;
        case INPUT_END:
        case INPUT_QUIT:
            return;
        }
    }
}

static void say_how_to_resume(struct plain *p) {
    char text[128];
    if (!p->is_piped && skin_describe_resume(&p->chat, text, sizeof text))
        say(p, TONE_NOTICE, text);
}

/* --- beginning and end ------------------------------------------------------------------------ */

static void set_up(struct plain *p) {
    const struct config *c = p->config;
    p->is_piped = !isatty(STDOUT_FILENO);
    p->is_still = c->plain;
    p->has_color = c->color == COLORS_ALWAYS || (c->color == COLORS_AUTO && c->term && *c->term);
    p->stream = (struct answer_stream){
        .write = write_answer, .ud = p, .has_color = p->has_color && !p->is_piped};
    p->front = (struct frontend){.ui = p,
                                 .is_terminal = !p->is_piped,
                                 .is_interactive = true,
                                 .say = say,
                                 .row = row,
                                 .progress = progress,
                                 .answer_text = answer_text,
                                 .answer_end = answer_end,
                                 .confirm = confirm,
                                 .edit = edit,
                                 .clear = clear_screen,
                                 .copy = copy};
}

static int open_input(struct plain *p, struct err *notice, struct err *err) {
    const struct config *c = p->config;
    struct skin_files files;
    struct line_input_options options = {.in = STDIN_FILENO,
                                         .out = !p->is_piped            ? STDOUT_FILENO
                                                : isatty(STDERR_FILENO) ? STDERR_FILENO
                                                                        : STDIN_FILENO,
                                         .term = c->term ? c->term : "",
                                         .is_still = p->is_still,
                                         .editor = {.ud = &p->chat, .complete = skin_complete}};
    skin_files_find(&files, c, &options.editor);
    options.history_path = files.history;
    int result = line_input_open(&p->input, &options, notice, err);
    skin_files_release(&files);
    return result;
}

static void greet(struct plain *p, bool has_locale, const struct err *notice) {
    if (!has_locale)
        say(p, TONE_NOTICE, "The locale's encoding is not UTF-8; input and output are UTF-8 here.");
    if (*notice->text) say(p, TONE_NOTICE, notice->text);
    if (!p->is_piped)
        say(p, TONE_NOTICE, "qwen-chat " QWEN_CHAT_VERSION ": /help lists the commands");
}

static int run(struct plain *p, bool has_locale, const struct err *notice, struct err *err) {
    greet(p, has_locale, notice);
    if (chat_open(&p->chat, p->config, &p->front, err) != 0) return -1;
    converse(p, err);
    skin_stop_answer(&p->chat);
    begin_line(p);
    say_how_to_resume(p);
    chat_close(&p->chat);
    return err->kind == ERR_NONE ? 0 : -1;
}

int plain_run(struct config *config) {
    struct plain p = {.config = config};
    struct err err = {0}, notice = {0};
    bool has_locale = terminal_set_locale((enum ambiguous_width)config->ambiguous_width);
    set_up(&p);
    signal(SIGPIPE, SIG_IGN); /* a pipe that breaks is seen where it is written to */
    if (open_input(&p, &notice, &err) != 0) {
        fprintf(stderr, "qwen-chat: error: %s\n", err.text);
        return (int)err.kind;
    }
    int result = run(&p, has_locale, &notice, &err);
    int number = p.input.quit_signal;
    line_input_abandon(&p.input);
    if (result != 0 && !number) say(&p, TONE_ERROR, err.text);
    line_input_close(&p.input);
    mem_free(p.progress_what);
    mem_free(p.loading);
    buf_release(&p.table.cells);
    if (number) signals_default(number);
    return number ? 128 + number : (int)err.kind;
}
