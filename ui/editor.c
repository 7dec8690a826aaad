/*
 * libedit as a coroutine: el_wgets() runs on a stack of its own and asks for characters with
 * read_char(), which switches back to the caller of editor_key() when none waits. So a key is
 * handed in, worked off to the end, and the state can be looked at, at any depth of libedit.
 *
 * Its terminal is a pseudo-terminal that nobody looks at, and TERM names none while it starts:
 * it then neither paints nor shares libtinfo's state with a screen library.
 */
#include "ui/editor.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "ui/editor_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { STACK_BYTES = 1 << 20, GUARD_BYTES = 1 << 16, MAX_ENTRY_BYTES = 4 << 20 };

struct editor {
    EditLine *el;
    FILE *nowhere;
    int master, slave;
    struct editor_options options;

    ucontext_t caller, libedit;
    char *stack;
    bool is_closing;
    wchar_t queue[4]; /* characters of the key in work */
    size_t n_queue, queue_at;

    enum editor_event event; /* what the key in work has come to */
    struct buf text;         /* the line as UTF-8 */
    size_t cursor;           /* in text */
    struct buf entry;
    struct buf pending; /* what CODE_REPLACE and CODE_INSERT are about, and the cursor in it */
    size_t pending_cursor;
    bool is_asked;     /* the function behind such a code has not run yet */
    bool is_rewritten; /* the key has changed the text otherwise than by typing */
    bool is_redoing;   /* vi's '.' runs: its keys come from libedit */
    struct editor_words choices;

    struct search search;
    bool is_searching, wants_search;
    struct buf before_search;
    size_t cursor_before_search;

    size_t back;   /* how far in the history, 1: its newest entry; 0: the new entry */
    char **drafts; /* [n_drafts], by `back`: places left with a changed text, else NULL */
    size_t n_drafts;
};

/* --- the coroutine --------------------------------------------------------------------------- */

static struct editor *editor_of(EditLine *el) {
    void *data = NULL;
    el_get(el, EL_CLIENTDATA, &data);
    return data;
}

static int read_char(EditLine *el, wchar_t *c) {
    struct editor *e = editor_of(el);
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
    while (!e->is_closing) el_wgets(e->el, &n);
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

/* --- the text -------------------------------------------------------------------------------- */

/* Copies libedit's line to e->text. Some vi commands leave the cursor outside of the line ($ on an
 * empty one), and the next command would then write there: it is put back first. */
static void look(struct editor *e) {
    const LineInfoW *line = el_wline(e->el);
    if (line->cursor < line->buffer) el_cursor(e->el, (int)(line->buffer - line->cursor));
    if (line->cursor > line->lastchar) el_cursor(e->el, (int)(line->lastchar - line->cursor));
    buf_clear(&e->text);
    e->cursor = 0;
    for (const wchar_t *c = line->buffer; c < line->lastchar; c++) {
        if (c == line->cursor) e->cursor = e->text.n;
        buf_put_utf8(&e->text, (uint32_t)*c);
    }
    if (line->cursor >= line->lastchar) e->cursor = e->text.n;
    if (!e->text.data) buf_puts(&e->text, "");
}

static int count_code_points(const char *text, size_t n) {
    int count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* Moves the cursor to byte `to` of the text as look() has seen it. */
static void move_to(struct editor *e, size_t to) {
    int by = to > e->cursor ? count_code_points(e->text.data + e->cursor, to - e->cursor)
                            : -count_code_points(e->text.data + to, e->cursor - to);
    el_cursor(e->el, by);
}

static void insert(struct editor *e, const char *text, size_t n) {
    wchar_t *wide = mem_alloc((n + 1) * sizeof *wide);
    size_t n_wide = 0;
    if (!wide) return;
    for (size_t at = 0; at < n;) {
        uint32_t c;
        at += utf8_decode(text + at, n - at, &c);
        if (c != 0 && c != UTF8_BAD) wide[n_wide++] = (wchar_t)c;
    }
    wide[n_wide] = L'\0';
    if (n_wide > 0) el_winsertstr(e->el, wide);
    mem_free(wide);
}

static void replace(struct editor *e, const char *text, size_t n, size_t cursor) {
    const LineInfoW *line = el_wline(e->el);
    int n_wide = (int)(line->lastchar - line->buffer);
    e->is_rewritten = true;
    el_cursor(e->el, (int)(line->lastchar - line->cursor));
    el_deletestr(e->el, n_wide);
    insert(e, text, n);
    el_cursor(e->el, -count_code_points(text + cursor, n - cursor));
}

static size_t line_begin(const struct editor *e, size_t at) {
    while (at > 0 && e->text.data[at - 1] != '\n') at--;
    return at;
}

static size_t line_end(const struct editor *e, size_t at) {
    while (at < e->text.n && e->text.data[at] != '\n') at++;
    return at;
}

static size_t cluster_after(const struct editor *e, size_t at) {
    int width;
    return at < e->text.n ? at + utf8_cluster(e->text.data + at, e->text.n - at, &width) : at;
}

static size_t cluster_before(const struct editor *e, size_t at) {
    if (at == 0) return 0;
    size_t begin = line_begin(e, at), previous = begin > 0 ? begin - 1 : 0;
    while (begin < at) {
        previous = begin;
        begin = cluster_after(e, begin);
    }
    return previous;
}

static int column_of(const struct editor *e, size_t at) {
    int column = 0, width;
    for (size_t i = line_begin(e, at); i < at;) {
        i += utf8_cluster(e->text.data + i, e->text.n - i, &width);
        column += width;
    }
    return column;
}

/* The place in the line at `begin` that is nearest to `column` from the left. */
static size_t at_column(const struct editor *e, size_t begin, int column) {
    size_t at = begin, end = line_end(e, begin);
    int width;
    while (at < end) {
        size_t bytes = utf8_cluster(e->text.data + at, e->text.n - at, &width);
        if (column < width) break;
        column -= width;
        at += bytes;
    }
    return at;
}

static unsigned char bell(struct editor *e) {
    e->event = EDITOR_BELL;
    return CC_NORM;
}

/* --- history ----------------------------------------------------------------------------------
 */

static void drop_drafts(struct editor *e) {
    for (size_t i = 0; i < e->n_drafts; i++) mem_free(e->drafts[i]);
    mem_free(e->drafts);
    e->drafts = NULL;
    e->n_drafts = e->back = 0;
}

/* The text of a place: as it was left, else as it is in the history. */
static const char *text_at(const struct editor *e, size_t back) {
    const struct input_history *h = e->options.history;
    if (back < e->n_drafts && e->drafts[back]) return e->drafts[back];
    return back > 0 && back <= h->n ? h->entries[h->n - back] : "";
}

static void keep_draft(struct editor *e) {
    size_t n = e->options.history->n + 1;
    if (!e->drafts) {
        e->drafts = mem_zalloc(n, sizeof *e->drafts);
        e->n_drafts = e->drafts ? n : 0;
    }
    if (e->back >= e->n_drafts || strcmp(text_at(e, e->back), e->text.data) == 0) return;
    mem_free(e->drafts[e->back]);
    e->drafts[e->back] = mem_strdup(e->text.data);
}

/* cursor: where to put it, SIZE_MAX: behind the text. */
static unsigned char go_to(struct editor *e, size_t back, size_t cursor) {
    keep_draft(e);
    e->back = back;
    const char *text = text_at(e, back);
    size_t n = strlen(text);
    replace(e, text, n, cursor < n ? cursor : n);
    return CC_REFRESH;
}

static unsigned char qc_older(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    look(e);
    return e->back < e->options.history->n ? go_to(e, e->back + 1, SIZE_MAX) : bell(e);
}

static unsigned char qc_newer(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    look(e);
    return e->back > 0 ? go_to(e, e->back - 1, SIZE_MAX) : bell(e);
}

/* Does the text of a place begin with what stands before the cursor, and differ from it all? */
static bool has_prefix(const struct editor *e, size_t back) {
    const char *text = text_at(e, back);
    return strncmp(text, e->text.data, e->cursor) == 0 && strcmp(text, e->text.data) != 0;
}

static unsigned char qc_prefix_older(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    look(e);
    for (size_t back = e->back + 1; back <= e->options.history->n; back++)
        if (has_prefix(e, back)) return go_to(e, back, e->cursor);
    return bell(e);
}

static unsigned char qc_prefix_newer(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    look(e);
    for (size_t back = e->back; back > 0; back--)
        if (has_prefix(e, back - 1)) return go_to(e, back - 1, e->cursor);
    return bell(e);
}

/* --- our functions among libedit's ----------------------------------------------------------- */

static unsigned char move(struct editor *e, size_t to) {
    if (to == e->cursor) return bell(e);
    move_to(e, to);
    return CC_REFRESH;
}

static unsigned char qc_up(EditLine *el, wint_t c) {
    struct editor *e = editor_of(el);
    look(e);
    size_t begin = line_begin(e, e->cursor);
    if (begin == 0) return qc_older(el, c);
    return move(e, at_column(e, line_begin(e, begin - 1), column_of(e, e->cursor)));
}

static unsigned char qc_down(EditLine *el, wint_t c) {
    struct editor *e = editor_of(el);
    look(e);
    size_t end = line_end(e, e->cursor);
    if (end == e->text.n) return qc_newer(el, c);
    return move(e, at_column(e, end + 1, column_of(e, e->cursor)));
}

static unsigned char qc_home(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    look(e);
    move_to(e, line_begin(e, e->cursor));
    return CC_REFRESH;
}

static unsigned char qc_end(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    look(e);
    move_to(e, line_end(e, e->cursor));
    return CC_REFRESH;
}

static unsigned char qc_delete(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    look(e);
    size_t to = cluster_after(e, e->cursor);
    if (to == e->cursor) return bell(e);
    e->is_rewritten = true;
    move_to(e, to);
    el_deletestr(el, count_code_points(e->text.data + e->cursor, to - e->cursor));
    return CC_REFRESH;
}

static unsigned char qc_delete_or_end(EditLine *el, wint_t c) {
    struct editor *e = editor_of(el);
    look(e);
    if (e->text.n > 0) return qc_delete(el, c);
    e->event = EDITOR_END;
    return CC_NORM;
}

static unsigned char qc_newline(EditLine *el, wint_t c) {
    (void)c;
    el_winsertstr(el, L"\n");
    return CC_REFRESH;
}

/* An odd number of backslashes at the end asks for another line. */
static bool ends_with_backslash(const struct editor *e) {
    size_t n = 0;
    while (n < e->text.n && e->text.data[e->text.n - 1 - n] == '\\') n++;
    return n % 2 == 1;
}

static unsigned char qc_enter(EditLine *el, wint_t c) {
    struct editor *e = editor_of(el);
    look(e);
    if (e->is_redoing) return qc_newline(el, c); /* '.' sends nothing */
    if (e->cursor == e->text.n && ends_with_backslash(e)) {
        e->is_rewritten = true;
        el_deletestr(el, 1);
        return qc_newline(el, c);
    }
    buf_clear(&e->entry);
    sanitize_text(e->text.data, e->text.n, &e->entry);
    e->event = EDITOR_ENTERED;
    return CC_NEWLINE;
}

static unsigned char qc_clear_screen(EditLine *el, wint_t c) {
    (void)c;
    editor_of(el)->event = EDITOR_CLEAR;
    return CC_NORM;
}

static unsigned char qc_search(EditLine *el, wint_t c) {
    (void)c;
    editor_of(el)->wants_search = true;
    return CC_NORM;
}

/* '.' types what was typed since the last command, and that may have a '.' in it: without a guard
 * libedit never comes back. */
static unsigned char qc_redo(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    if (e->is_redoing) return bell(e);
    e->is_redoing = true;
    el_wpush(el, (wchar_t[]){CODE_REDO, L'\0'});
    return CC_ARGHACK; /* keeps a count */
}

/* The next three do something only when they are asked: '.' may repeat their codes. */

static unsigned char qc_restart(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    if (!e->is_asked) return CC_NORM;
    e->is_asked = false;
    return CC_EOF; /* el_wgets() returns and is called again */
}

static unsigned char qc_replace(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    if (!e->is_asked) return CC_NORM;
    e->is_asked = false;
    replace(e, e->pending.data ? e->pending.data : "", e->pending.n, e->pending_cursor);
    buf_clear(&e->pending);
    e->pending_cursor = 0;
    return CC_REFRESH;
}

static unsigned char qc_insert(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    if (!e->is_asked) return CC_NORM;
    e->is_asked = false;
    if (e->pending.n > 0) insert(e, e->pending.data, e->pending.n);
    buf_clear(&e->pending);
    return CC_REFRESH;
}

/* --- completion ------------------------------------------------------------------------------ */

static void drop_choices(struct editor *e) {
    for (size_t i = 0; i < e->choices.n; i++) mem_free(e->choices.words[i]);
    mem_free(e->choices.words);
    e->choices = (struct editor_words){0};
}

/* Bytes that all the words begin with; whole characters. */
static size_t common_prefix(const struct editor_words *words) {
    size_t n = strlen(words->words[0]);
    for (size_t i = 1; i < words->n; i++) {
        size_t k = 0;
        while (k < n && words->words[i][k] == words->words[0][k]) k++;
        n = k;
    }
    return n - utf8_incomplete_tail(words->words[0], n);
}

static unsigned char qc_complete(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    look(e);
    drop_choices(e);
    if (e->options.complete)
        e->options.complete(e->options.ud, e->text.data, e->cursor, &e->choices);
    if (e->choices.n == 0 || e->choices.begin > e->cursor) return bell(e);

    const char *word = e->choices.words[0];
    size_t has = e->cursor - e->choices.begin, n = common_prefix(&e->choices);
    bool is_new = n != has || strncmp(word, e->text.data + e->choices.begin, has) != 0;
    bool is_whole = e->choices.n == 1 && n > 0 && word[n - 1] != '/';
    if (n < has || (!is_new && !is_whole)) {
        e->event = EDITOR_CHOICES;
        return CC_NORM;
    }
    e->is_rewritten = true;
    el_deletestr(el, count_code_points(e->text.data + e->choices.begin, has));
    insert(e, word, n);
    if (is_whole) el_winsertstr(el, L" ");
    return CC_REFRESH;
}

static const struct {
    const wchar_t *name, *help;
    unsigned char (*run)(EditLine *el, wint_t c);
} functions[] = {
    {L"qc-up", L"Line above, or the history", qc_up},
    {L"qc-down", L"Line below, or the history", qc_down},
    {L"qc-older", L"Older entry of the history", qc_older},
    {L"qc-newer", L"Newer entry of the history", qc_newer},
    {L"qc-prefix-older", L"Older entry that begins like this one", qc_prefix_older},
    {L"qc-prefix-newer", L"Newer entry that begins like this one", qc_prefix_newer},
    {L"qc-search-older", L"Incremental search", qc_search},
    {L"qc-search-newer", L"Incremental search", qc_search},
    {L"qc-home", L"Beginning of the line", qc_home},
    {L"qc-end", L"End of the line", qc_end},
    {L"qc-delete", L"Delete the character behind", qc_delete},
    {L"qc-delete-or-end", L"Delete, or leave when empty", qc_delete_or_end},
    {L"qc-newline", L"A new line in the entry", qc_newline},
    {L"qc-enter", L"Enter, or a new line behind a backslash", qc_enter},
    {L"qc-complete", L"Complete the word", qc_complete},
    {L"qc-clear-screen", L"Clear the screen", qc_clear_screen},
    {L"qc-redo", L"vi redo, once", qc_redo},
    {L"qc-restart", L"Begin the entry anew", qc_restart},
    {L"qc-replace", L"Replace the entry", qc_replace},
    {L"qc-insert", L"Insert a paste", qc_insert},
};

/* --- searching ------------------------------------------------------------------------------- */

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
    look(e);
    keep_draft(e);
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
    look(e);
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

/* --- public ---------------------------------------------------------------------------------- */

static int open_terminal(struct editor *e, struct err *err) {
    struct winsize size = {.ws_row = 24, .ws_col = 80};
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
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        el_wset(e->el, EL_ADDFN, functions[i].name, functions[i].help, functions[i].run);
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
    drop_drafts(e);
    if (open_terminal(e, err) != 0 || open_libedit(e, err) != 0 || start_coroutine(e, err) != 0) {
        editor_close(e);
        return -1;
    }
    look(e);
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
    drop_choices(e);
    drop_drafts(e);
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
        from = cluster_before(e, e->cursor);
    if (key->name == K_RIGHT || (is_control && key->c == CTRL_F)) to = cluster_after(e, e->cursor);
    int n = count_code_points(e->text.data + from, to - from);
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
    return n > 0 && e->text.n + n > MAX_ENTRY_BYTES;
}

enum editor_event editor_key(struct editor *e, const struct key *key) {
    if (is_too_long(e, key)) return EDITOR_BELL;
    e->event = EDITOR_CHANGED;
    e->is_rewritten = false;
    if (!e->is_searching || !search_key(e, key)) work_off(e, key);
    if (e->event == EDITOR_ENTERED) drop_drafts(e);
    if (e->event == EDITOR_ENTERED || e->is_rewritten) begin_typing(e);
    look(e);
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
    drop_drafts(e);
    ask(e, CODE_RESTART);
    put(e, text, strlen(text), strlen(text));
    begin_typing(e);
    look(e);
}

const struct search *editor_search(const struct editor *e) {
    return e->is_searching ? &e->search : NULL;
}
