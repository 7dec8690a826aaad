/*
 * Incremental search over the input history, newest first, for any text: libedit's own search
 * indexes a table of 256 with the low byte of a character and fails on Chinese. No terminal here;
 * the editor feeds it and shows what it found.
 */
#pragma once

#include "engine/base/buf.h"
#include "ui/input_history.h"

/* Zero it before search_begin(). */
struct search {
    const struct input_history *history;
    struct buf query;
    size_t at;     /* entry of the match, valid while has_match */
    size_t offset; /* of the match in the entry, bytes */
    bool has_match;
    bool is_failing; /* nothing more was found; the last match still stands */
};

void search_begin(struct search *s, const struct input_history *history);
void search_release(struct search *s);

/* A longer query keeps the entry if it still matches, else goes on to older ones. */
void search_type(struct search *s, const char *text, size_t n);
/* Takes the last character (a cluster) off the query and starts at the newest entry again. */
void search_erase(struct search *s);
/* The next match in an older or newer entry. */
void search_older(struct search *s);
void search_newer(struct search *s);

const char *search_match(const struct search *s); /* the entry, NULL while there is none */
