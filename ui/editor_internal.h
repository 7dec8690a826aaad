/*
 * What the files of the editor share: editor.c (the coroutine and the calls of editor.h),
 * editor_text.c (the line as text), editor_functions.c (our functions among libedit's) and
 * editor_keys.c (which key does what). Nobody else includes it.
 */
#pragma once

#include "ui/editor.h"

#include <histedit.h>
#include <stdio.h>
#include <ucontext.h>

/*
 * An entry's limit, and a screen that holds any: no character takes more than 10 columns (a
 * noncharacter is 7 for 1 byte of newline), and one key at most doubles the entry or, with a count,
 * adds a million characters.
 */
enum {
    EDITOR_ENTRY_BYTES = KEYS_PASTE_BYTES + (1 << 16),
    EDITOR_SCREEN_COLUMNS = 60000,
    EDITOR_SCREEN_ROWS = 400,
};

struct editor {
    EditLine *el;
    FILE *nowhere;
    int master, slave;
    struct editor_options options;

    ucontext_t caller, libedit;
    char *stack;
    bool is_closing;
    bool has_read;    /* el_wgets() has asked for a character */
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

struct editor *editor_of(EditLine *el);

/* --- editor_text.c; places are bytes of e->text as editor_look() has seen it --- */

/* Copies libedit's line to e->text. */
void editor_look(struct editor *e);
int editor_count_code_points(const char *text, size_t n);
void editor_move_to(struct editor *e, size_t to);
void editor_insert(struct editor *e, const char *text, size_t n); /* at the cursor */
void editor_replace(struct editor *e, const char *text, size_t n, size_t cursor);

size_t editor_line_begin(const struct editor *e, size_t at);
size_t editor_line_end(const struct editor *e, size_t at);
size_t editor_cluster_after(const struct editor *e, size_t at);
size_t editor_cluster_before(const struct editor *e, size_t at);
int editor_column_of(const struct editor *e, size_t at);
/* The place in the line at `begin` that is nearest to `column` from the left. */
size_t editor_at_column(const struct editor *e, size_t begin, int column);

/* --- editor_functions.c --- */

void editor_add_functions(struct editor *e);
void editor_drop_drafts(struct editor *e); /* back to the new entry */
void editor_keep_draft(struct editor *e);
void editor_drop_choices(struct editor *e);

/* --- editor_keys.c --- */

/*
 * Named keys and requests of editor.c reach libedit as C1 codes, which no keyboard sends: escape
 * sequences would leave vi's insert mode. 0x88, 0x8C and 0x9F have a meaning in emacs mode
 * (Alt with a control character).
 */
enum editor_code {
    CODE_UP = 0x80,
    CODE_DOWN,
    CODE_LEFT,
    CODE_RIGHT,
    CODE_WORD_LEFT,
    CODE_WORD_RIGHT,
    CODE_HOME,
    CODE_END,
    CODE_PAGE_UP = 0x89,
    CODE_PAGE_DOWN,
    CODE_DELETE,
    CODE_REPLACE = 0x8D, /* the whole text by what waits in struct editor */
    CODE_INSERT,         /* what waits, at the cursor */
    CODE_RESTART,        /* an empty entry */
    CODE_FRESH,          /* vi's insert mode: what is typed from here on is what '.' repeats */
    CODE_REDO,           /* libedit's vi-redo */
};

/* The code of a named key, 0 for K_CHAR, K_BACKTAB and K_PASTE. */
enum editor_code editor_code_of(enum key_name name);

/* Emacs or vi keys from the beginning, ours over them. */
void editor_bind(EditLine *el, bool is_vi);

/* Runs an editrc file's `bind` lines; a missing file is none. Functions that only work with
 * libedit's own history or screen are replaced by ours. */
void editor_read_rc(EditLine *el, const char *path);
