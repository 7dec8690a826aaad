/* What keys and signals do: scrolling, finding, editing, and the ladder of Ctrl-C. */
#include "ui/fullscreen_internal.h"

#include "app/language.h"
#include "engine/base/mem.h"
#include "ui/external_editor.h"
#include "ui/signals.h"
#include "ui/skin.h"

#include <signal.h>
#include <string.h>

enum { LADDER_MS = 2000 };
enum { CONTROL_E = 5, CONTROL_O = 15, CONTROL_X = 24, ESCAPE = 27 };

/* --- scrolling -------------------------------------------------------------------------------- */

static void scroll_to(struct fullscreen *f, size_t row) {
    size_t last = f->transcript.n_rows > f->height ? f->transcript.n_rows - f->height : 0;
    f->top = row < last ? row : last;
    f->is_following = f->top == last;
}

static void scroll_by(struct fullscreen *f, long rows) {
    if (rows < 0 && (size_t)-rows > f->top)
        scroll_to(f, 0);
    else
        scroll_to(f, f->top + (size_t)rows);
}

/* To the message of the user above or below the first row. */
static void scroll_by_message(struct fullscreen *f, bool is_up) {
    const struct transcript *t = &f->transcript;
    size_t best = is_up ? 0 : t->n_rows;
    for (size_t i = 0; i < t->n; i++) {
        size_t row = t->items[i]->first_row;
        if (t->items[i]->kind != ITEM_USER) continue;
        if (is_up && row < f->top) best = row;
        if (!is_up && row > f->top && best == t->n_rows) best = row;
    }
    scroll_to(f, best);
}

static bool is_input_empty(const struct fullscreen *f) {
    return !*editor_text(f->editor, NULL);
}

/* false: it is none of these. */
static bool scroll_key(struct fullscreen *f, const struct key *key) {
    long page = f->height > 2 ? (long)f->height - 1 : 1;
    switch (key->name) {
    case K_PAGE_UP:
        scroll_by(f, -page);
        return true;
    case K_PAGE_DOWN:
        scroll_by(f, page);
        return true;
    case K_UP:
    case K_DOWN:
        if (!key->is_alt) return false;
        scroll_by_message(f, key->name == K_UP);
        return true;
    case K_HOME:
    case K_END:
        if (!is_input_empty(f)) return false;
        scroll_to(f, key->name == K_HOME ? 0 : f->transcript.n_rows);
        return true;
    default:
        return false;
    }
}

/* --- finding ---------------------------------------------------------------------------------- */

static void show_match(struct fullscreen *f) {
    if (f->find.n == 0) return;
    size_t row = f->find.matches[f->find.at].row;
    if (row < f->top || row >= f->top + f->height)
        scroll_to(f, row > f->height / 2 ? row - f->height / 2 : 0);
}

void fullscreen_find_again(struct fullscreen *f) {
    mem_free(f->find.matches);
    f->find.matches = transcript_find(&f->transcript, f->find.text, &f->find.n);
    if (f->find.at >= f->find.n) f->find.at = f->find.n > 0 ? f->find.n - 1 : 0;
}

/* The newest match is shown first. */
void fullscreen_find(struct fullscreen *f, const char *text) {
    fullscreen_stop_finding(f);
    f->find.text = mem_strdup(text);
    if (!f->find.text) return;
    fullscreen_find_again(f);
    f->find.at = f->find.n > 0 ? f->find.n - 1 : 0;
    show_match(f);
}

void fullscreen_stop_finding(struct fullscreen *f) {
    mem_free(f->find.text);
    mem_free(f->find.matches);
    memset(&f->find, 0, sizeof f->find);
}

/* n, N and Escape; any other key ends it and does what it always does. */
static bool find_key(struct fullscreen *f, const struct key *key) {
    uint32_t c = key->name == K_CHAR && !key->is_alt ? key->c : 0;
    if (!f->find.text) return false;
    if (c == 'n' || c == 'N') {
        size_t n = f->find.n;
        if (n > 0) f->find.at = (f->find.at + (c == 'n' ? n - 1 : 1)) % n;
        show_match(f);
        return true;
    }
    if (scroll_key(f, key)) return true;
    fullscreen_stop_finding(f);
    return c == ESCAPE;
}

/* --- editing ---------------------------------------------------------------------------------- */

void fullscreen_keep_text(struct fullscreen *f) {
    editor_stop_search(f->editor);
    const char *text = editor_text(f->editor, NULL);
    if (text[strspn(text, " \n\t")] && f->question != QUESTION_OPEN)
        input_history_add(&f->history, text, NULL);
    editor_set(f->editor, "");
}

/* false: there is no menu, or it has nothing to do with the key. */
static bool walk_menu(struct fullscreen *f, const struct key *key) {
    switch (menu_key(&f->menu, key)) {
    case MENU_IGNORED:
        return false;
    case MENU_TAKEN:
        editor_choose(f->editor, f->menu.chosen);
        menu_close(&f->menu);
        return true;
    case MENU_MOVED:
    case MENU_LEFT:
        return true;
    }
    return false;
}

static void take_entry(struct fullscreen *f) {
    char *text = mem_strdup(editor_entry(f->editor));
    if (!text) return;
    if (f->question == QUESTION_OPEN) {
        buf_clear(&f->answer);
        buf_puts(&f->answer, text);
        f->question = QUESTION_ANSWERED;
    } else {
        fullscreen_enter(f, text);
    }
    mem_free(text);
}

static void edit(struct fullscreen *f, const struct key *key) {
    switch (editor_key(f->editor, key)) {
    case EDITOR_CHANGED:
        break;
    case EDITOR_ENTERED:
        take_entry(f);
        break;
    case EDITOR_END:
        if (f->question == QUESTION_OPEN)
            f->question = QUESTION_GIVEN_UP;
        else
            f->is_over = true;
        break;
    case EDITOR_CHOICES:
        menu_open(&f->menu, editor_choices(f->editor));
        break;
    case EDITOR_CLEAR:
        screen_redraw(&f->screen);
        break;
    case EDITOR_BELL:
        screen_bell(&f->screen);
        break;
    }
}

static bool is_control(const struct key *key, uint32_t c) {
    return key->name == K_CHAR && !key->is_alt && key->c == c;
}

/* Ctrl-X Ctrl-E: what stands in the input goes through the user's own editor. */
static void edit_outside(struct fullscreen *f) {
    struct buf text = {0};
    struct err err = {0};
    const char *command = f->config->editor ? f->config->editor : "vi";
    screen_leave(&f->screen);
    int result = external_editor(command, "/tmp", editor_text(f->editor, NULL), &text, &err);
    screen_return(&f->screen);
    for (int number; (number = signals_take()) != 0;) /* its Ctrl-C was not ours */
        if (number == SIGTERM || number == SIGHUP) f->quit_signal = number;
    if (result == 0)
        editor_set(f->editor, text.data ? text.data : "");
    else
        fullscreen_hint(f, err.text);
    buf_release(&text);
}

/* true: the key is, or may be, part of Ctrl-X Ctrl-E. */
static bool edit_outside_key(struct fullscreen *f, const struct key *key) {
    bool was_begun = f->has_control_x;
    f->has_control_x = !was_begun && is_control(key, CONTROL_X);
    if (f->has_control_x) return true;
    if (!was_begun) return false;
    if (is_control(key, CONTROL_E)) {
        edit_outside(f);
        return true;
    }
    edit(f, &(struct key){.name = K_CHAR, .c = CONTROL_X}); /* it was another sequence */
    return false;
}

void fullscreen_key(struct fullscreen *f, const struct key *key) {
    fullscreen_touch(f, true);
    *f->hint = '\0';
    f->interrupt_ms = 0;
    if (fullscreen_view_key(f, key) || find_key(f, key) || walk_menu(f, key)) return;
    if (edit_outside_key(f, key)) return;
    bool is_searching = editor_search(f->editor) != NULL;
    if (!is_searching && scroll_key(f, key)) return;
    if (is_control(key, CONTROL_O)) {
        transcript_show_thinking(&f->transcript, !f->transcript.shows_thinking);
        return;
    }
    edit(f, key);
}

/* --- signals ---------------------------------------------------------------------------------- */

static void stop(struct fullscreen *f) {
    screen_leave(&f->screen);
    f->was_stopped = true;
    signals_default(SIGTSTP);
    screen_return(&f->screen);
}

/* Stopped by somebody else: the terminal may have been used since. */
static void go_on(struct fullscreen *f) {
    if (f->was_stopped) {
        f->was_stopped = false;
        return;
    }
    screen_leave(&f->screen);
    screen_return(&f->screen);
}

/* The messages that wait come back: the first into the input, all into the history. */
static void take_queue_back(struct fullscreen *f) {
    for (size_t i = f->n_queue; i > 0; i--) {
        if (i > 1 || !is_input_empty(f)) input_history_add(&f->history, f->queue[i - 1], NULL);
        if (i == 1 && is_input_empty(f)) editor_set(f->editor, f->queue[0]);
        mem_free(f->queue[i - 1]);
    }
    f->n_queue = 0;
}

/* Ctrl-C, from the nearest thing to the farthest. */
static void interrupt(struct fullscreen *f) {
    int64_t now = skin_now_ms();
    keys_drop_partial(&f->keys);
    if (f->view.kind && !f->view.is_running && f->question != QUESTION_OPEN) {
        fullscreen_close_view(f);
    } else if (f->view.is_running && !f->is_cancelling) {
        fullscreen_stop_work(f);
    } else if (f->find.text) {
        fullscreen_stop_finding(f);
    } else if (f->menu.words) {
        menu_close(&f->menu);
    } else if (editor_search(f->editor)) {
        editor_stop_search(f->editor);
    } else if (f->question == QUESTION_OPEN) {
        f->question = QUESTION_GIVEN_UP;
    } else if (!is_input_empty(f)) {
        fullscreen_keep_text(f);
    } else if (chat_is_busy(&f->chat) && !f->is_cancelling) {
        f->is_cancelling = true;
        take_queue_back(f);
        chat_interrupt(&f->chat);
    } else if (f->is_cancelling || (f->interrupt_ms && now - f->interrupt_ms <= LADDER_MS)) {
        f->quit_signal = SIGINT;
    } else {
        f->interrupt_ms = now;
        fullscreen_hint(f, _("Ctrl-C again or Ctrl-D to leave"));
    }
}

void fullscreen_signals(struct fullscreen *f) {
    bool is_resized = false;
    int number;
    while ((number = signals_take()) != 0) {
        if (number == SIGWINCH) is_resized = true;
        if (number == SIGTSTP) stop(f);
        if (number == SIGCONT) go_on(f);
        if (number == SIGTERM || number == SIGHUP) f->quit_signal = number;
        if (number == SIGINT) interrupt(f);
        fullscreen_touch(f, true);
    }
    if (is_resized) screen_resized(&f->screen);
}
