/*
 * The full screen: the chat decides what happens, this skin shows it. One poll() over the keyboard,
 * the signal pipe and the chat; what a key changed is painted at once, what streams in at most 30
 * times a second. The model loads behind the first frame, and what is entered while an answer runs
 * waits in a queue.
 */
#include "ui/fullscreen_internal.h"

#include "app/language.h"
#include "engine/base/mem.h"
#include "ui/signals.h"
#include "ui/skin.h"
#include "ui/skins.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { FRAME_MS = 33, TAIL_ROWS = 200 };

static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGCONT};

void fullscreen_touch(struct fullscreen *f, bool is_urgent) {
    f->is_dirty = true;
    f->is_urgent |= is_urgent;
}

void fullscreen_hint(struct fullscreen *f, const char *text) {
    snprintf(f->hint, sizeof f->hint, "%s", text);
    fullscreen_touch(f, true);
}

/* --- what the chat says ----------------------------------------------------------------------- */

static void say(void *ui, enum tone tone, const char *text) {
    struct fullscreen *f = ui;
    if (f->view.is_collecting)
        view_say(&f->view, text);
    else
        transcript_say(&f->transcript, tone, text);
    fullscreen_touch(f, false);
}

void fullscreen_row(struct fullscreen *f, const char *const *cells, size_t n, bool is_head) {
    if (n > 0 && f->table.n_columns == 0) grid_begin(&f->table, n, is_head, false);
    for (size_t i = 0; n > 0 && i < f->table.n_columns; i++) {
        struct styled cell = {0};
        styled_puts(&cell, i < n ? cells[i] : "", is_head ? INK_text | STYLE_BOLD : INK_text);
        if (grid_cell(&f->table, &cell, 0) != 0) styled_release(&cell);
    }
    if (n > 0 || f->table.n_columns == 0) return;
    const struct item *before =
        f->transcript.n > 0 ? f->transcript.items[f->transcript.n - 1] : NULL;
    bool goes_on = before && before->kind == ITEM_TABLE &&
                   before->grid.n_columns == f->table.n_columns && !f->table.has_head;
    struct item *item = transcript_add(&f->transcript, ITEM_TABLE, "");
    if (item) {
        item->is_attached = goes_on; /* a table whose rows come one by one */
        item->grid = f->table;
        f->table = (struct grid){0};
    }
    grid_release(&f->table);
    fullscreen_touch(f, false);
}

static void row(void *ui, const char *const *cells, size_t n, bool is_head) {
    struct fullscreen *f = ui;
    if (f->view.is_collecting)
        view_row(&f->view, cells, n, is_head);
    else
        fullscreen_row(f, cells, n, is_head);
    fullscreen_touch(f, false);
}

static void progress(void *ui, const char *what, double share, double seconds_left, bool done) {
    struct fullscreen *f = ui;
    progress_set(&f->progress, what, share, seconds_left, !done);
    fullscreen_touch(f, false);
}

static void answer_text(void *ui, enum answer_part part, const char *text, size_t n) {
    struct fullscreen *f = ui;
    f->transcript.hides_thinking = !f->config->show_thinking;
    transcript_answer_text(&f->transcript, part, text, n);
    fullscreen_touch(f, false);
}

static void answer_end(void *ui, const struct answer *answer) {
    struct fullscreen *f = ui;
    struct item *item = transcript_answer(&f->transcript);
    char text[200];
    f->is_cancelling = false;
    if (item) item->turn = f->chat.conversation.leaf;
    transcript_answer_end(&f->transcript);
    if (answer->err) transcript_say(&f->transcript, TONE_ERROR, answer->err->text);
    if (answer->left_out_turns > 0) {
        snprintf(text, sizeof text, _("The %d oldest turns were left out: the context is full."),
                 answer->left_out_turns);
        transcript_note(&f->transcript, item, TONE_NOTICE, text);
    }
    if (f->config->show_stats && !answer->err) {
        skin_describe_answer(answer, text, sizeof text);
        transcript_note(&f->transcript, item, TONE_NOTICE, text);
    } else if (answer->stop == STOP_CANCELLED) {
        transcript_note(&f->transcript, item, TONE_NOTICE, _("[interrupted]"));
    }
    chat_want_roof(&f->chat);
    fullscreen_touch(f, true);
}

static void clear(void *ui) {
    struct fullscreen *f = ui;
    fullscreen_stop_finding(f);
    transcript_clear(&f->transcript);
    f->is_following = true;
    fullscreen_touch(f, true);
}

static void turns(void *ui, const struct shown_turn *turns, size_t n) {
    struct fullscreen *f = ui;
    bool has_messages = false;
    for (size_t i = 0; i < f->transcript.n; i++)
        has_messages |= f->transcript.items[i]->kind == ITEM_USER;
    if (n > 0 || has_messages) clear(f); /* a new, empty one leaves the greeting */
    for (size_t i = 0; i < n; i++) {
        struct item *item = transcript_add(
            &f->transcript, turns[i].is_user ? ITEM_USER : ITEM_ANSWER, turns[i].text);
        if (!item) return;
        buf_puts(&item->reasoning, turns[i].reasoning);
        item->turn = turns[i].id;
        if (turns[i].is_partial)
            transcript_note(&f->transcript, item, TONE_NOTICE, _("[interrupted]"));
    }
}

static bool copy(void *ui, const char *answer, int code) {
    struct fullscreen *f = ui;
    return skin_copy(&f->screen.terminal, answer, code);
}

static void find(void *ui, const char *text) {
    fullscreen_find(ui, text);
    fullscreen_touch(ui, true);
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Whoever runs turn() has something to look at first. */
static bool is_decided(const struct fullscreen *f) {
    return f->is_over || f->quit_signal || f->question == QUESTION_ANSWERED ||
           f->question == QUESTION_GIVEN_UP;
}

static void take_keys(struct fullscreen *f) {
    struct key key;
    while (!is_decided(f) && keys_next(&f->keys, &key)) fullscreen_key(f, &key);
}

static void read_keyboard(struct fullscreen *f) {
    char bytes[4096];
    ssize_t n = read(f->screen.terminal.in, bytes, sizeof bytes);
    f->keys_ms = skin_now_ms();
    if (n > 0)
        keys_feed(&f->keys, bytes, (size_t)n);
    else if (n == 0 || (errno != EINTR && errno != EAGAIN))
        f->quit_signal = SIGHUP;
}

/* Milliseconds until a key or a paste that has begun counts as all that comes, -1: none has. Frames
 * in between change nothing in that. */
static int keys_timeout(const struct fullscreen *f) {
    int timeout = keys_timeout_ms(&f->keys);
    if (timeout < 0) return -1;
    int64_t left = f->keys_ms + timeout - skin_now_ms();
    return left > 0 ? (int)left : 0;
}

/* Milliseconds until the next frame is due, -1: none is. */
static int frame_timeout(const struct fullscreen *f) {
    if (!f->is_dirty) return -1;
    int64_t left = f->is_urgent ? 0 : f->painted_ms + FRAME_MS - skin_now_ms();
    return left > 0 ? (int)left : 0;
}

static int shorter(int a, int b) {
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

/* Waits for the next thing and works it off; the chat's events only where `with_chat` is set. */
static void turn(struct fullscreen *f, bool with_chat) {
    fullscreen_signals(f);
    take_keys(f);
    if (f->screen.terminal.is_gone && !f->quit_signal) f->quit_signal = SIGHUP;
    if (is_decided(f)) return;
    if (f->is_cancelling && !chat_is_busy(&f->chat)) f->is_cancelling = false;
    if (frame_timeout(f) == 0) fullscreen_paint(f);
    /* between two frames the chat's events gather: the loop wakes for a frame, not for a token */
    with_chat = with_chat && frame_timeout(f) < 0;
    struct pollfd fds[] = {{.fd = f->screen.terminal.in, .events = POLLIN},
                           {.fd = signals_fd(), .events = POLLIN},
                           {.fd = with_chat ? chat_fd(&f->chat) : -1, .events = POLLIN}};
    int until_frame = frame_timeout(f), until_flush = keys_timeout(f);
    int timeout = shorter(until_frame, until_flush);
    int n = poll(fds, 3, timeout);
    if (n == 0 && timeout == until_flush) keys_flush(&f->keys);
    if (n <= 0) return;
    if (fds[0].revents) read_keyboard(f);
    if (fds[2].revents && chat_pump(&f->chat, &f->err) != 0) f->is_over = true;
}

/* --- asking ----------------------------------------------------------------------------------- */

bool fullscreen_ask(struct fullscreen *f, const char *prompt, const char *text) {
    char *draft = mem_strdup(editor_text(f->editor, NULL));
    f->question = QUESTION_OPEN;
    f->question_text = prompt;
    menu_close(&f->menu); /* it is about another text */
    editor_set(f->editor, text);
    fullscreen_touch(f, true);
    while (f->question == QUESTION_OPEN && !f->is_over && !f->quit_signal) turn(f, false);
    bool is_answered = f->question == QUESTION_ANSWERED;
    f->question = QUESTION_NONE;
    menu_close(&f->menu);
    editor_set(f->editor, draft ? draft : "");
    mem_free(draft);
    return is_answered;
}

static bool confirm(void *ui, const char *question) {
    struct fullscreen *f = ui;
    struct buf prompt = {0};
    buf_printf(&prompt, _("%s [y/N] "), question);
    bool is_yes = !prompt.failed && fullscreen_ask(f, prompt.data, "") && f->answer.n > 0 &&
                  strchr("yY", f->answer.data[0]);
    buf_release(&prompt);
    return is_yes;
}

static char *edit(void *ui, const char *text) {
    struct fullscreen *f = ui;
    return fullscreen_ask(f, _("edit> "), text) ? mem_strdup(f->answer.data ? f->answer.data : "")
                                                : NULL;
}

/* --- entering --------------------------------------------------------------------------------- */

static void keep_entry(struct fullscreen *f, const char *text) {
    struct err notice = {0};
    if (input_history_add(&f->history, text, &notice) == 0) return;
    say(f, TONE_NOTICE, notice.text);
    mem_free(f->history.path); /* said once; it goes on in memory */
    f->history.path = NULL;
}

void fullscreen_echo(struct fullscreen *f, const char *text) {
    struct buf line = {0};
    buf_printf(&line, "> %s", text);
    transcript_say(&f->transcript, TONE_NOTICE, line.failed ? text : line.data);
    buf_release(&line);
}

static void enter_now(struct fullscreen *f, const char *text) {
    struct err err = {0};
    struct line line = line_parse(text);
    f->is_following = true;
    bool is_find = line.kind == LINE_COMMAND &&
                   command_find(line.name, line.n_name) == COMMAND_find; /* it would find itself */
    if (fullscreen_open_view(f, text)) return;
    if (line.kind == LINE_COMMAND && !is_find) fullscreen_echo(f, text);
    enum chat_result result = chat_enter(&f->chat, text, &err);
    if (result == CHAT_QUIT) f->is_over = true;
    if (result == CHAT_SENT && line.kind == LINE_MESSAGE) {
        struct item *item = transcript_add(&f->transcript, ITEM_USER, line.text);
        if (item) item->turn = f->chat.conversation.leaf;
    }
    fullscreen_touch(f, true);
}

static bool must_wait(const struct fullscreen *f, const char *text) {
    struct line line = line_parse(text);
    if (!chat_is_busy(&f->chat)) return false;
    int command = line.kind == LINE_COMMAND ? command_find(line.name, line.n_name) : -1;
    return line.kind == LINE_MESSAGE || (command >= 0 && command_table[command].when == WHEN_IDLE);
}

void fullscreen_enter(struct fullscreen *f, const char *text) {
    if (!text[strspn(text, " \n\t")]) return;
    keep_entry(f, text);
    if (!must_wait(f, text)) {
        enter_now(f, text);
        return;
    }
    char *copy = mem_strdup(text);
    if (copy &&
        mem_grow((void **)&f->queue, &f->queue_capacity, f->n_queue + 1, sizeof *f->queue) == 0)
        f->queue[f->n_queue++] = copy;
    else
        mem_free(copy);
}

/* The next of the entries that wait, when nothing runs. */
static void work_off_queue(struct fullscreen *f) {
    if (f->n_queue == 0 || chat_is_busy(&f->chat)) return;
    char *text = f->queue[0];
    memmove(f->queue, f->queue + 1, --f->n_queue * sizeof *f->queue);
    enter_now(f, text);
    mem_free(text);
}

/* --- beginning and end ------------------------------------------------------------------------ */

static int open_editor(struct fullscreen *f, struct err *notice, struct err *err) {
    const struct config *c = f->config;
    struct skin_files files;
    struct editor_options options = {.term = c->term ? c->term : "",
                                     .history = &f->history,
                                     .ud = &f->chat,
                                     .complete = skin_complete};
    skin_files_find(&files, c, &options);
    input_history_open(&f->history, files.history, INPUT_HISTORY_ENTRIES, notice);
    int result = editor_open(&f->editor, &options, err);
    skin_files_release(&files);
    return result;
}

static void set_up(struct fullscreen *f) {
    f->is_following = true;
    f->front = (struct frontend){.ui = f,
                                 .is_terminal = true,
                                 .is_interactive = true,
                                 .say = say,
                                 .row = row,
                                 .progress = progress,
                                 .answer_text = answer_text,
                                 .answer_end = answer_end,
                                 .confirm = confirm,
                                 .edit = edit,
                                 .clear = clear,
                                 .turns = turns,
                                 .find = find,
                                 .copy = copy};
}

/* The last of what was on the screen, and how to go on with it, for the normal screen. */
static void print_tail(struct fullscreen *f, const char *resume) {
    const struct transcript *t = &f->transcript;
    size_t most = f->screen.terminal.rows > 4 ? (size_t)f->screen.terminal.rows - 3 : 1;
    if (most > TAIL_ROWS) most = TAIL_ROWS;
    for (size_t i = t->n_rows > most ? t->n_rows - most : 0; i < t->n_rows; i++) {
        struct transcript_row row = transcript_row(t, i);
        const struct row *r = row.lines ? &row.lines->rows[row.row] : NULL;
        if (r && r->end > r->begin)
            terminal_write(&f->screen.terminal, row.lines->content.text.data + r->begin,
                           r->end - r->begin);
        terminal_puts(&f->screen.terminal, "\n");
    }
    if (!*resume) return;
    terminal_puts(&f->screen.terminal, resume);
    terminal_puts(&f->screen.terminal, "\n");
}

static void converse(struct fullscreen *f) {
    while (!f->is_over && !f->quit_signal) {
        turn(f, true);
        fullscreen_check_work(f);
        work_off_queue(f);
    }
    fullscreen_close_view(f);
    fullscreen_keep_text(f);
    for (size_t i = 0; i < f->n_queue; i++) input_history_add(&f->history, f->queue[i], NULL);
}

static void run(struct fullscreen *f, bool has_locale) {
    struct err notice = {0};
    char greeting[200];
    snprintf(greeting, sizeof greeting, "qwen-chat " QWEN_CHAT_VERSION ": %s",
             _("/help lists the commands"));
    say(f, TONE_NOTICE, greeting);
    if (!has_locale)
        say(f, TONE_NOTICE,
            _("The locale's encoding is not UTF-8; input and output are UTF-8 here."));
    fullscreen_paint(f);
    if (open_editor(f, &notice, &f->err) != 0) return;
    if (chat_open(&f->chat, f->config, &f->front, &f->err) != 0) return;
    f->is_chat_open = true;
    if (*notice.text) say(f, TONE_NOTICE, notice.text);
    converse(f);
    if (f->err.kind == ERR_NONE) skin_stop_answer(&f->chat);
}

static void release(struct fullscreen *f) {
    signals_close();
    editor_close(f->editor);
    transcript_release(&f->transcript);
    input_area_release(&f->input);
    grid_release(&f->table);
    lines_release(&f->menu_lines);
    lines_release(&f->panel);
    view_release(&f->view);
    fullscreen_stop_finding(f);
    keys_release(&f->keys);
    input_history_release(&f->history);
    for (size_t i = 0; i < f->n_queue; i++) mem_free(f->queue[i]);
    mem_free(f->queue);
    buf_release(&f->answer);
}

struct screen_colors fullscreen_colors(const struct config *c) {
    struct screen_colors colors = {.theme = (enum theme)c->theme};
#define INK(name, ...)                                                                             \
    colors.is_own[INK_##name] = config_is_set(c, OPTION_color_##name);                             \
    colors.own[INK_##name] = c->color_##name;
#include "ui/theme.def"
#undef INK
    return colors;
}

int fullscreen_run(struct config *config) {
    struct fullscreen f = {.config = config};
    char resume[128] = "";
    bool has_locale = terminal_set_locale((enum ambiguous_width)config->ambiguous_width);
    const struct screen_options options = {.in = STDIN_FILENO,
                                           .out = STDOUT_FILENO,
                                           .term = config->term ? config->term : "",
                                           .colors = fullscreen_colors(config),
                                           .has_colors = config->color != COLORS_NEVER};
    /* before the screen: ncurses leaves alone what is handled already, and would lose a SIGTSTP */
    if (signals_open(watched, sizeof watched / sizeof *watched, &f.err) != 0 ||
        screen_open(&f.screen, &options, &f.err) != 0) {
        signals_close();
        return plain_run(config);
    }
    set_up(&f);
    run(&f, has_locale);
    transcript_lay_out(&f.transcript, f.screen.terminal.columns);
    screen_close(&f.screen);
    if (f.is_chat_open) {
        skin_describe_resume(&f.chat, resume, sizeof resume);
        print_tail(&f, resume);
        chat_close(&f.chat);
    }
    if (f.err.kind != ERR_NONE && !f.quit_signal) fprintf(stderr, "qwen-chat: %s\n", f.err.text);
    int number = f.quit_signal, code = (int)f.err.kind;
    release(&f);
    if (number) signals_default(number);
    return number ? 128 + number : code;
}
