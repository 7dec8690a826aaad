/*
 * Our functions among libedit's: the history (libedit's own keeps 1,024 characters of a draft),
 * moves by lines, entering, completion, and what carries out the editor's requests.
 */
#include "ui/editor_internal.h"

#include "engine/base/mem.h"
#include "engine/base/sanitize.h"
#include "engine/base/utf8.h"

#include <string.h>

static unsigned char bell(struct editor *e) {
    e->event = EDITOR_BELL;
    return CC_NORM;
}

/* --- history ---------------------------------------------------------------------------------- */

void editor_drop_drafts(struct editor *e) {
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

void editor_keep_draft(struct editor *e) {
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
    editor_keep_draft(e);
    e->back = back;
    const char *text = text_at(e, back);
    size_t n = strlen(text);
    editor_replace(e, text, n, cursor < n ? cursor : n);
    return CC_REFRESH;
}

static unsigned char qc_older(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    editor_look(e);
    return e->back < e->options.history->n ? go_to(e, e->back + 1, SIZE_MAX) : bell(e);
}

static unsigned char qc_newer(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    editor_look(e);
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
    editor_look(e);
    for (size_t back = e->back + 1; back <= e->options.history->n; back++)
        if (has_prefix(e, back)) return go_to(e, back, e->cursor);
    return bell(e);
}

static unsigned char qc_prefix_newer(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    editor_look(e);
    for (size_t back = e->back; back > 0; back--)
        if (has_prefix(e, back - 1)) return go_to(e, back - 1, e->cursor);
    return bell(e);
}

/* --- our functions among libedit's ------------------------------------------------------------ */

static unsigned char move(struct editor *e, size_t to) {
    if (to == e->cursor) return bell(e);
    editor_move_to(e, to);
    return CC_REFRESH;
}

static unsigned char qc_up(EditLine *el, wint_t c) {
    struct editor *e = editor_of(el);
    editor_look(e);
    size_t begin = editor_line_begin(e, e->cursor);
    if (begin == 0) return qc_older(el, c);
    return move(
        e, editor_at_column(e, editor_line_begin(e, begin - 1), editor_column_of(e, e->cursor)));
}

static unsigned char qc_down(EditLine *el, wint_t c) {
    struct editor *e = editor_of(el);
    editor_look(e);
    size_t end = editor_line_end(e, e->cursor);
    if (end == e->text.n) return qc_newer(el, c);
    return move(e, editor_at_column(e, end + 1, editor_column_of(e, e->cursor)));
}

static unsigned char qc_home(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    editor_look(e);
    editor_move_to(e, editor_line_begin(e, e->cursor));
    return CC_REFRESH;
}

static unsigned char qc_end(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    editor_look(e);
    editor_move_to(e, editor_line_end(e, e->cursor));
    return CC_REFRESH;
}

static unsigned char qc_delete(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    editor_look(e);
    size_t to = editor_cluster_after(e, e->cursor);
    if (to == e->cursor) return bell(e);
    e->is_rewritten = true;
    editor_move_to(e, to);
    el_deletestr(el, editor_count_code_points(e->text.data + e->cursor, to - e->cursor));
    return CC_REFRESH;
}

static unsigned char qc_delete_or_end(EditLine *el, wint_t c) {
    struct editor *e = editor_of(el);
    editor_look(e);
    if (e->text.n > 0) return qc_delete(el, c);
    e->event = EDITOR_END;
    return CC_NORM;
}

static unsigned char qc_newline(EditLine *el, wint_t c) {
    (void)c;
    editor_insert(editor_of(el), "\n", 1);
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
    editor_look(e);
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
    editor_replace(e, e->pending.data ? e->pending.data : "", e->pending.n, e->pending_cursor);
    buf_clear(&e->pending);
    e->pending_cursor = 0;
    return CC_REFRESH;
}

static unsigned char qc_insert(EditLine *el, wint_t c) {
    (void)c;
    struct editor *e = editor_of(el);
    if (!e->is_asked) return CC_NORM;
    e->is_asked = false;
    if (e->pending.n > 0) editor_insert(e, e->pending.data, e->pending.n);
    buf_clear(&e->pending);
    return CC_REFRESH;
}

/* --- completion ------------------------------------------------------------------------------- */

void editor_drop_choices(struct editor *e) {
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
    editor_look(e);
    editor_drop_choices(e);
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
    el_deletestr(el, editor_count_code_points(e->text.data + e->choices.begin, has));
    editor_insert(e, word, n);
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

void editor_add_functions(struct editor *e) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        el_wset(e->el, EL_ADDFN, functions[i].name, functions[i].help, functions[i].run);
}
