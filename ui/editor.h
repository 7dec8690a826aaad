/*
 * The line editor of every skin with a terminal: libedit does the editing (emacs and vi keys,
 * kill and yank, undo, editrc), but sees neither the terminal nor a signal. It runs as a coroutine
 * on a pseudo-terminal of its own, takes keys one by one and never paints; whoever owns the screen
 * shows editor_text() with its cursor.
 *
 * Added to libedit: entries of several lines, whole pastes, cursor and deletion by grapheme
 * clusters, history of any length, incremental search, completion.
 */
#pragma once

#include "engine/base/err.h"
#include "ui/input_history.h"
#include "ui/keys.h"
#include "ui/search.h"

#include <stdbool.h>
#include <stddef.h>

struct editor;

/* Whole words to stand in place of text[begin..cursor). All of it mem_alloc()ed. */
struct editor_words {
    size_t begin;
    char **words;
    size_t n;
};

struct editor_options {
    bool is_vi;
    const char *const *rc_files; /* editrc files, read in this order where they exist */
    size_t n_rc_files;
    const char *term;              /* TERM as it is, "" if unset: it is changed for a moment */
    struct input_history *history; /* not owned; changes only between two entries */
    void *ud;
    void (*complete)(void *ud, const char *text, size_t cursor, struct editor_words *out);
};

enum editor_event {
    EDITOR_CHANGED, /* text, cursor or search may be different: show them */
    EDITOR_ENTERED, /* editor_entry() has the text; a new, empty entry has begun */
    EDITOR_END,     /* Ctrl-D on an empty line */
    EDITOR_CHOICES, /* several words fit: editor_choices() */
    EDITOR_CLEAR,   /* Ctrl-L: clear the screen, then show everything again */
    EDITOR_BELL,    /* the key could do nothing */
};

int editor_open(struct editor **out, const struct editor_options *options, struct err *err);
void editor_close(struct editor *e);

enum editor_event editor_key(struct editor *e, const struct key *key);

/* The entry as it stands, UTF-8; valid until the next call. *cursor in bytes, may be NULL. */
const char *editor_text(const struct editor *e, size_t *cursor);
const char *editor_entry(const struct editor *e);                  /* after EDITOR_ENTERED */
const struct editor_words *editor_choices(const struct editor *e); /* after EDITOR_CHOICES */

/* Puts that one of the choices in place of what was to be completed, and a blank behind it unless
 * it is a folder; the text must be as it was at EDITOR_CHOICES. */
void editor_choose(struct editor *e, size_t index);

/* Replaces the entry, the cursor behind it: to change an earlier text, or "" to begin anew. */
void editor_set(struct editor *e, const char *text);

/* The search in progress, or NULL. While there is one, the text is its match. */
const struct search *editor_search(const struct editor *e);
void editor_stop_search(struct editor *e); /* gives it up: the text from before is back */
