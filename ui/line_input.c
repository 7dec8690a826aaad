/*
 * One poll() over the terminal, the signal pipe and the chat. Signals are worked off first, then
 * what the keyboard gave is decoded and edited, and the view is brought up to date once.
 */
#include "ui/line_input.h"

#include "app/language.h"
#include "engine/base/mem.h"
#include "ui/signals.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { TYPED_AHEAD_BYTES = 1 << 20, SHOWN_CHOICES = 200 };

static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGCONT};

/* --- showing ---------------------------------------------------------------------------------- */

static void show_search(struct line_input *i, const struct search *search) {
    struct buf label = {0};
    size_t cursor;
    const char *text = editor_text(i->editor, &cursor);
    buf_puts(&label, search->is_failing ? _("(no match) ") : _("(search) "));
    if (search->query.n > 0) buf_puts(&label, search->query.data);
    buf_puts(&label, ": ");
    line_view_show(&i->view, label.data ? label.data : "", i->style, text, cursor);
    buf_release(&label);
}

static void show(struct line_input *i) {
    if (!i->is_prompting || i->is_hidden || !i->editor) return;
    const struct search *search = editor_search(i->editor);
    size_t cursor;
    const char *text = editor_text(i->editor, &cursor);
    if (search) {
        show_search(i, search);
    } else {
        line_view_show(&i->view, i->prompt, i->style, text, cursor);
    }
}

void line_input_hide(struct line_input *i) {
    if (!i->is_prompting || i->is_hidden) return;
    i->is_hidden = true;
    if (i->editor) {
        line_view_erase(&i->view);
    } else {
        terminal_puts(&i->terminal, "\n");
    }
}

void line_input_show(struct line_input *i) {
    if (!i->is_prompting || !i->is_hidden) return;
    i->is_hidden = false;
    if (!i->editor) terminal_puts(&i->terminal, i->prompt);
    show(i);
}

void line_input_prompt(struct line_input *i, const char *prompt, const char *style,
                       const char *text) {
    i->is_prompting = true;
    i->is_hidden = true;
    i->prompt = prompt;
    i->style = style;
    if (i->editor) {
        editor_set(i->editor, text);
    } else if (*text) { /* cannot be edited here: it is shown, to be typed anew */
        terminal_puts(&i->terminal, text);
        terminal_puts(&i->terminal, "\n");
    }
    line_input_show(i);
}

/* The prompt stays on the screen as it is, and the cursor goes below it. */
static void take_down(struct line_input *i) {
    if (i->is_prompting && i->editor && !i->is_hidden) line_view_finish(&i->view);
    i->is_prompting = false;
}

/* Text that is given up comes back with the up arrow. */
static void keep_text(struct line_input *i) {
    if (!i->editor) return;
    editor_stop_search(i->editor);
    const char *text = editor_text(i->editor, NULL);
    if (text[strspn(text, " \n\t")]) input_history_add(&i->history, text, NULL);
    editor_set(i->editor, "");
}

void line_input_abandon(struct line_input *i) {
    if (!i->is_prompting) return;
    take_down(i);
    keep_text(i);
}

static void show_choices(struct line_input *i) {
    const struct editor_words *words = editor_choices(i->editor);
    struct buf out = {0};
    for (size_t k = 0; k < words->n && k < SHOWN_CHOICES; k++) {
        struct buf word = {0};
        buf_puts(&word, words->words[k]);
        if (!word.failed) sanitize_line(word.data);
        buf_printf(&out, "%s%s", k ? "  " : "", word.failed ? "" : word.data);
        buf_release(&word);
    }
    if (words->n > SHOWN_CHOICES) buf_puts(&out, "  …");
    buf_puts(&out, "\n");
    line_input_hide(i);
    terminal_write(&i->terminal, out.data, out.n);
    line_input_show(i);
    buf_release(&out);
}

/* --- signals ---------------------------------------------------------------------------------- */

static void stop(struct line_input *i) {
    if (i->editor && i->is_prompting && !i->is_hidden) line_view_finish(&i->view);
    terminal_give_back(&i->terminal);
    i->was_stopped = true;
    signals_default(SIGTSTP);
    terminal_take(&i->terminal);
    terminal_measure(&i->terminal);
    show(i);
}

/* Somebody else may have used the terminal since. */
static void go_on(struct line_input *i) {
    i->terminal.is_taken = false;
    terminal_take(&i->terminal);
    if (i->was_stopped) {
        i->was_stopped = false;
        return;
    }
    if (i->editor && i->is_prompting && !i->is_hidden) line_view_finish(&i->view);
    show(i);
}

/* Ctrl-C, from the nearest thing to the farthest: the search, the text, then it is the caller's. */
static bool interrupt(struct line_input *i) {
    if (i->is_prompting && i->editor) {
        keys_drop_partial(&i->keys);
        if (editor_search(i->editor)) {
            editor_stop_search(i->editor);
            show(i);
            return false;
        }
        if (*editor_text(i->editor, NULL)) {
            line_view_finish(&i->view);
            keep_text(i);
            show(i);
            return false;
        }
    }
    if (i->is_prompting && !i->editor && i->lines.n > 0) {
        buf_clear(&i->lines);
        terminal_puts(&i->terminal, "\n");
        terminal_puts(&i->terminal, i->prompt);
        return false;
    }
    return true;
}

/* true: *event is for the caller. */
static bool take_signals(struct line_input *i, enum input_event *event) {
    bool is_resized = false;
    int number;
    while ((number = signals_take()) != 0) {
        if (number == SIGWINCH) is_resized = true;
        if (number == SIGTSTP) stop(i);
        if (number == SIGCONT) go_on(i);
        if (number == SIGTERM || number == SIGHUP) i->quit_signal = number;
        if (number == SIGINT && interrupt(i)) {
            *event = INPUT_INTERRUPT;
            return true;
        }
    }
    if (is_resized) {
        terminal_measure(&i->terminal);
        line_view_resized(&i->view);
        show(i);
    }
    return false;
}

/* --- keys ------------------------------------------------------------------------------------- */

static bool keep_entry(struct line_input *i, const char *text, enum input_event *event) {
    buf_clear(&i->entry);
    buf_puts(&i->entry, text);
    take_down(i);
    *event = INPUT_ENTERED;
    return true;
}

/* Works off one key; true: *event is for the caller. */
static bool edit(struct line_input *i, const struct key *key, enum input_event *event) {
    const char *entry;
    switch (editor_key(i->editor, key)) {
    case EDITOR_ENTERED: /* the line as it is sent stays on the screen */
        entry = editor_entry(i->editor);
        line_view_show(&i->view, i->prompt, i->style, entry, strlen(entry));
        return keep_entry(i, entry, event);
    case EDITOR_END:
        show(i);
        take_down(i);
        *event = INPUT_END;
        return true;
    case EDITOR_CHOICES:
        show_choices(i);
        return false;
    case EDITOR_CLEAR:
        line_view_erase(&i->view);
        terminal_puts(&i->terminal, "\033[H\033[2J");
        return false;
    case EDITOR_BELL:
        if (!i->is_still) terminal_puts(&i->terminal, "\a");
        return false;
    case EDITOR_CHANGED:
        return false;
    }
    return false;
}

static bool edit_all(struct line_input *i, enum input_event *event) {
    struct key key;
    if (!i->is_prompting || !i->editor) return false;
    while (keys_next(&i->keys, &key))
        if (edit(i, &key, event)) return true;
    show(i);
    return false;
}

/* The kernel's lines: one that ends with a backslash goes on in the next. */
static bool take_line(struct line_input *i, enum input_event *event) {
    char *at = i->keys.in.data ? i->keys.in.data + i->keys.at : NULL;
    char *newline = at ? memchr(at, '\n', i->keys.in.n - i->keys.at) : NULL;
    if (!newline) return false;
    size_t n = (size_t)(newline - at);
    i->keys.at += n + 1;
    bool goes_on = n > 0 && at[n - 1] == '\\';
    struct buf clean = {0};
    sanitize_text(at, goes_on ? n - 1 : n, &clean);
    if (clean.n > 0) buf_add(&i->lines, clean.data, clean.n);
    buf_release(&clean);
    if (goes_on) {
        buf_putc(&i->lines, '\n');
        return false;
    }
    keep_entry(i, i->lines.data ? i->lines.data : "", event);
    buf_clear(&i->lines);
    return true;
}

/* What is there already: typed ahead, or left over behind an entry. */
static bool take_keys(struct line_input *i, enum input_event *event) {
    if (!i->is_prompting) return false;
    return i->editor ? edit_all(i, event) : take_line(i, event);
}

/* false: the terminal is gone, or (where the kernel edits) Ctrl-D was pressed: *event says which.
 */
static bool read_keyboard(struct line_input *i, enum input_event *event) {
    char bytes[4096];
    ssize_t n = read(i->terminal.in, bytes, sizeof bytes);
    if (n > 0) {
        keys_feed(&i->keys, bytes, (size_t)n);
        return true;
    }
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    *event = INPUT_END;
    if (n < 0 || i->editor) {
        i->quit_signal = SIGHUP;
        *event = INPUT_QUIT;
    }
    return false;
}

/* Keys that were pressed before this and are not read yet: the signal of Ctrl-C overtakes them. */
static void read_pending(struct line_input *i) {
    struct pollfd keyboard = {.fd = i->terminal.in, .events = POLLIN};
    enum input_event event;
    while (i->editor && i->keys.in.n - i->keys.at <= TYPED_AHEAD_BYTES &&
           poll(&keyboard, 1, 0) > 0 && read_keyboard(i, &event))
        continue;
}

void line_input_hold_back(struct line_input *i) {
    read_pending(i);
    for (size_t k = i->keys.at; k < i->keys.in.n; k++)
        if (i->keys.in.data[k] == '\r') i->keys.in.data[k] = '\n';
}

static enum input_event quit(struct line_input *i) {
    line_input_abandon(i);
    return INPUT_QUIT;
}

enum input_event line_input_wait(struct line_input *i, int other) {
    enum input_event event = INPUT_READABLE;
    for (;;) {
        if (i->terminal.is_gone && !i->quit_signal) i->quit_signal = SIGHUP;
        if (take_signals(i, &event)) return event;
        if (i->quit_signal) return quit(i);
        if (take_keys(i, &event)) return event;

        bool is_full = i->keys.in.n - i->keys.at > TYPED_AHEAD_BYTES;
        struct pollfd fds[] = {{.fd = is_full ? -1 : i->terminal.in, .events = POLLIN},
                               {.fd = signals_fd(), .events = POLLIN},
                               {.fd = other, .events = POLLIN}};
        bool is_editing = i->is_prompting && i->editor;
        int n = poll(fds, 3, is_editing ? keys_timeout_ms(&i->keys) : -1);
        if (n == 0) keys_flush(&i->keys);
        if (n <= 0) continue;
        if (fds[1].revents) continue;
        if (fds[0].revents && !read_keyboard(i, &event)) {
            if (event == INPUT_QUIT) return quit(i);
            if (i->is_prompting) {
                take_down(i);
                return event;
            }
        }
        if (fds[2].revents) return INPUT_READABLE;
    }
}

/* --- opening ---------------------------------------------------------------------------------- */

int line_input_open(struct line_input *i, const struct line_input_options *options,
                    struct err *notice, struct err *err) {
    *i = (struct line_input){.is_still = options->is_still, .prompt = "", .style = ""};
    notice->text[0] = '\0';
    if (terminal_open(&i->terminal, options->in, options->out, options->term, err) != 0) return -1;
    if (signals_open(watched, sizeof watched / sizeof *watched, err) != 0) {
        terminal_close(&i->terminal);
        return -1;
    }
    i->view.terminal = &i->terminal;
    input_history_open(&i->history, options->history_path, INPUT_HISTORY_ENTRIES, notice);
    struct editor_options editor = options->editor;
    editor.term = options->term;
    editor.history = &i->history;
    /* without a pseudo-terminal the kernel's editing has to do */
    if (!i->terminal.is_dumb && editor_open(&i->editor, &editor, notice) != 0)
        i->terminal.is_dumb = true;
    terminal_take(&i->terminal);
    return 0;
}

void line_input_close(struct line_input *i) {
    line_input_abandon(i);
    terminal_close(&i->terminal);
    editor_close(i->editor);
    signals_close();
    line_view_release(&i->view);
    keys_release(&i->keys);
    input_history_release(&i->history);
    buf_release(&i->entry);
    buf_release(&i->lines);
}
