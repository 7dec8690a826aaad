/*
 * libedit as a coroutine: el_wgets() runs on a stack of its own and asks for characters with
 * read_char(), which switches back to the caller of editor_key() when none waits. So a key is
 * handed in, worked off to the end, and the state can be looked at, at any depth of libedit.
 *
 * Its terminal is a pseudo-terminal that nobody looks at, and TERM names none while it starts:
 * it then neither paints nor shares libtinfo's state with a screen library.
 */
#include "ui/editor_internal.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { STACK_BYTES = 1 << 20, GUARD_BYTES = 1 << 16 };

struct editor *editor_of(EditLine *el) {
    void *data = NULL;
    el_get(el, EL_CLIENTDATA, &data);
    return data;
}

/* --- the coroutine ---------------------------------------------------------------------------- */

static int read_char(EditLine *el, wchar_t *c) {
    struct editor *e = editor_of(el);
    e->has_read = true;
    while (e->queue_at == e->n_queue) {
        if (e->is_closing) return 0;
        swapcontext(&e->libedit, &e->caller);
    }
    *c = e->queue[e->queue_at++];
    return 1;
}

/* makecontext() passes ints only. */
static void run_libedit(unsigned high, unsigned low) {
    struct editor *e = (struct editor *)((uintptr_t)high << 32 | (uintptr_t)low);
    int n;
    while (!e->is_closing) {
        e->has_read = false;
        el_wgets(e->el, &n);
        if (!e->has_read) swapcontext(&e->libedit, &e->caller); /* libedit's terminal has failed */
    }
}

static void resume(struct editor *e) {
    swapcontext(&e->caller, &e->libedit);
}

static void send(struct editor *e, const wchar_t *characters, size_t n) {
    memcpy(e->queue, characters, n * sizeof *characters);
    e->n_queue = n;
    e->queue_at = 0;
    e->is_redoing = false;
    resume(e);
}

/*
 * One of our own codes. A key sequence that was begun (emacs: Escape, vi: f, r) swallows the first
 * one; it is ended by that.
 */
static void ask(struct editor *e, enum editor_code code) {
    e->is_asked = true;
    for (int tries = 0; e->is_asked && tries < 3; tries++) send(e, (wchar_t[]){(wchar_t)code}, 1);
}

/* --- searching -------------------------------------------------------------------------------- */

/* Puts `text` into the line; `text` may be e->text itself. */
static void put(struct editor *e, const char *text, size_t n, size_t cursor) {
    buf_clear(&e->pending);
    if (n > 0) buf_add(&e->pending, text, n);
    e->pending_cursor = e->pending.failed ? 0 : cursor;
    ask(e, CODE_REPLACE);
}

static void show_match(struct editor *e) {
    const char *match = search_match(&e->search);
    if (match) put(e, match, strlen(match), e->search.offset);
    if (!match) put(e, e->before_search.data, e->before_search.n, e->cursor_before_search);
    e->event = e->search.is_failing ? EDITOR_BELL : EDITOR_CHANGED;
}

static void begin_search(struct editor *e) {
    editor_look(e);
    editor_keep_draft(e);
    e->wants_search = false;
    e->is_searching = true;
    buf_clear(&e->before_search);
    buf_puts(&e->before_search, e->text.data);
    e->cursor_before_search = e->cursor;
    search_begin(&e->search, e->options.history);
}

/* The match stays as the entry being edited. */
static void accept_search(struct editor *e) {
    if (e->search.has_match) e->back = e->options.history->n - e->search.at;
    e->is_searching = false;
}

void editor_stop_search(struct editor *e) {
    if (!e->is_searching) return;
    e->is_searching = false;
    put(e, e->before_search.data, e->before_search.n, e->cursor_before_search);
    editor_look(e);
}

static void type_query(struct editor *e, const struct key *key) {
    char bytes[4];
    if (key->name == K_PASTE) {
        const char *newline = memchr(key->text, '\n', key->n_text);
        search_type(&e->search, key->text, newline ? (size_t)(newline - key->text) : key->n_text);
    } else {
        search_type(&e->search, bytes, utf8_encode(key->c, bytes));
    }
}

/* false: the key ends the search and is to be worked off as usual. */
static bool search_key(struct editor *e, const struct key *key) {
    enum { CTRL_G = 7, CTRL_H = 8, CTRL_R = 18, CTRL_S = 19, ESCAPE = 27, DELETE = 127 };
    bool is_typed = key->name == K_PASTE ||
                    (key->name == K_CHAR && !key->is_alt && key->c >= ' ' && key->c != DELETE);
    bool is_control = key->name == K_CHAR && !key->is_alt;
    if (is_typed) {
        type_query(e, key);
    } else if (is_control && key->c == CTRL_R) {
        search_older(&e->search);
    } else if (is_control && key->c == CTRL_S) {
        search_newer(&e->search);
    } else if (is_control && (key->c == CTRL_H || key->c == DELETE)) {
        search_erase(&e->search);
    } else if (is_control && (key->c == CTRL_G || key->c == ESCAPE)) {
        editor_stop_search(e);
        return true;
    } else {
        accept_search(e);
        return is_control && key->c == '\r';
    }
    show_match(e);
    return true;
}

/* --- public ----------------------------------------------------------------------------------- */

static int open_terminal(struct editor *e, struct err *err) {
    struct winsize size = {.ws_row = EDITOR_SCREEN_ROWS, .ws_col = EDITOR_SCREEN_COLUMNS};
    if (openpty(&e->master, &e->slave, NULL, NULL, &size) != 0) {
        e->master = e->slave = -1;
        return err_set(err, ERR_IO, "cannot open a pseudo-terminal for the line editor: %s",
                       strerror(errno));
    }
    fcntl(e->master, F_SETFD, FD_CLOEXEC);
    fcntl(e->slave, F_SETFD, FD_CLOEXEC);
    e->nowhere = fopen("/dev/null", "r+e");
    if (!e->nowhere) return err_set(err, ERR_IO, "/dev/null: cannot open: %s", strerror(errno));
    return 0;
}

static int open_libedit(struct editor *e, struct err *err) {
    setenv("TERM", "none-such", 1);
    e->el =
        el_init_fd("qwen-chat", e->nowhere, e->nowhere, e->nowhere, e->slave, e->slave, e->slave);
    if (*e->options.term) {
        setenv("TERM", e->options.term, 1);
    } else {
        unsetenv("TERM");
    }
    if (!e->el) return err_set(err, ERR_OTHER, "the line editor (libedit) does not start");
    el_set(e->el, EL_CLIENTDATA, e);
    el_set(e->el, EL_SIGNAL, 0);
    el_wset(e->el, EL_GETCFN, read_char);
    editor_add_functions(e);
    editor_bind(e->el, e->options.is_vi);
    for (size_t i = 0; i < e->options.n_rc_files; i++)
        editor_read_rc(e->el, e->options.rc_files[i]);
    return 0;
}

/* The guard page turns an overflow of the stack into a fault. */
static int start_coroutine(struct editor *e, struct err *err) {
    void *memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return err_memory(err, STACK_BYTES, "the line editor");
    e->stack = memory;
    mprotect(e->stack, GUARD_BYTES, PROT_NONE);
    getcontext(&e->libedit);
    e->libedit.uc_stack.ss_sp = e->stack;
    e->libedit.uc_stack.ss_size = STACK_BYTES;
    e->libedit.uc_link = &e->caller;
    uintptr_t self = (uintptr_t)e;
    makecontext(&e->libedit, (void (*)(void))run_libedit, 2, (unsigned)(self >> 32),
                (unsigned)self);
    resume(e);
    return 0;
}

int editor_open(struct editor **out, const struct editor_options *options, struct err *err) {
    struct editor *e = mem_zalloc(1, sizeof *e);
    if (!e) return err_memory(err, sizeof *e, "the line editor");
    e->options = *options;
    e->master = e->slave = -1;
    editor_drop_drafts(e);
    if (open_terminal(e, err) != 0 || open_libedit(e, err) != 0 || start_coroutine(e, err) != 0) {
        editor_close(e);
        return -1;
    }
    editor_look(e);
    if (!e->text.data) {
        editor_close(e);
        return err_memory(err, 1, "the line editor");
    }
    *out = e;
    return 0;
}

void editor_close(struct editor *e) {
    if (!e) return;
    e->is_closing = true;
    if (e->stack) {
        resume(e);
        munmap(e->stack, STACK_BYTES);
    }
    if (e->el) el_end(e->el);
    if (e->nowhere) fclose(e->nowhere);
    if (e->master >= 0) close(e->master);
    if (e->slave >= 0) close(e->slave);
    editor_drop_choices(e);
    editor_drop_drafts(e);
    search_release(&e->search);
    buf_release(&e->text);
    buf_release(&e->entry);
    buf_release(&e->pending);
    buf_release(&e->before_search);
    mem_free(e);
}

/* libedit moves and deletes by code points: a cluster of n of them is n presses. */
static int count_presses(const struct editor *e, const struct key *key) {
    enum { CTRL_B = 2, CTRL_F = 6, CTRL_H = 8, DELETE = 127 };
    bool is_control = key->name == K_CHAR && !key->is_alt;
    size_t from = e->cursor, to = e->cursor;
    if (key->name == K_LEFT ||
        (is_control && (key->c == CTRL_B || key->c == CTRL_H || key->c == DELETE)))
        from = editor_cluster_before(e, e->cursor);
    if (key->name == K_RIGHT || (is_control && key->c == CTRL_F))
        to = editor_cluster_after(e, e->cursor);
    int n = editor_count_code_points(e->text.data + from, to - from);
    return n > 0 ? n : 1;
}

static void work_off(struct editor *e, const struct key *key) {
    if (key->name == K_PASTE) {
        buf_clear(&e->pending);
        buf_add(&e->pending, key->text, key->n_text);
        ask(e, CODE_INSERT);
    } else if (key->name == K_CHAR && key->is_alt) {
        send(e, (wchar_t[]){0x1B, (wchar_t)key->c}, 2);
    } else {
        enum editor_code code = editor_code_of(key->name);
        wchar_t character = key->name == K_CHAR ? (wchar_t)key->c : (wchar_t)code;
        for (int n = count_presses(e, key); n > 0; n--) send(e, &character, 1);
    }
    if (e->wants_search) begin_search(e);
}

/* What is typed from here on belongs together for vi's '.'; in emacs or command mode it is nothing.
 */
static void begin_typing(struct editor *e) {
    send(e, (wchar_t[]){CODE_FRESH}, 1);
}

/* Text beyond the limit is refused, so that no key takes long. */
static bool is_too_long(const struct editor *e, const struct key *key) {
    size_t n = key->name == K_PASTE ? key->n_text : key->name == K_CHAR && key->c >= ' ' ? 4 : 0;
    return n > 0 && e->text.n + n > EDITOR_ENTRY_BYTES;
}

enum editor_event editor_key(struct editor *e, const struct key *key) {
    if (is_too_long(e, key)) return EDITOR_BELL;
    if (key->name == K_BACKTAB) return EDITOR_CHANGED; /* it edits nothing */
    e->event = EDITOR_CHANGED;
    e->is_rewritten = false;
    if (!e->is_searching || !search_key(e, key)) work_off(e, key);
    if (e->event == EDITOR_ENTERED) editor_drop_drafts(e);
    if (e->event == EDITOR_ENTERED || e->is_rewritten) begin_typing(e);
    editor_look(e);
    if (e->text.n > EDITOR_ENTRY_BYTES) { /* a count, a yank */
        size_t n = EDITOR_ENTRY_BYTES - utf8_incomplete_tail(e->text.data, EDITOR_ENTRY_BYTES);
        put(e, e->text.data, n, e->cursor < n ? e->cursor : n);
        editor_look(e);
    }
    return e->event;
}

const char *editor_text(const struct editor *e, size_t *cursor) {
    if (cursor) *cursor = e->cursor;
    return e->text.data ? e->text.data : "";
}

const char *editor_entry(const struct editor *e) {
    return e->entry.data ? e->entry.data : "";
}

const struct editor_words *editor_choices(const struct editor *e) {
    return &e->choices;
}

void editor_set(struct editor *e, const char *text) {
    e->is_searching = false;
    editor_drop_drafts(e);
    struct buf clean = {0};
    sanitize_text(text, strlen(text), &clean);
    ask(e, CODE_RESTART);
    put(e, clean.data, clean.n, clean.n);
    buf_release(&clean);
    begin_typing(e);
    editor_look(e);
}

void editor_choose(struct editor *e, size_t index) {
    const char *word = e->choices.words[index];
    struct buf text = {0};
    size_t n = strlen(word);
    if (e->choices.begin > e->cursor) return;
    buf_add(&text, e->text.data, e->choices.begin);
    buf_add(&text, word, n);
    if (n > 0 && word[n - 1] != '/') buf_putc(&text, ' ');
    size_t cursor = text.n;
    buf_puts(&text, e->text.data + e->cursor);
    if (!text.failed && text.n <= EDITOR_ENTRY_BYTES) put(e, text.data, text.n, cursor);
    buf_release(&text);
    begin_typing(e);
    editor_look(e);
}

const struct search *editor_search(const struct editor *e) {
    return e->is_searching ? &e->search : NULL;
}
