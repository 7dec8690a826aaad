/*
 * How an answer is written while it comes, in line mode and in scripts: reasoning dimmed, folded or
 * left out; newlines around the text taken off, so that it ends with exactly one.
 */
#pragma once

#include "app/frontend.h"

enum reasoning_view {
    REASONING_NONE, /* nothing of it, not even a mark */
    REASONING_FOLDED,
    REASONING_SHOWN,
};

/* Set the first group; zero the rest. */
struct answer_stream {
    void (*write)(void *ud, const char *text, size_t n);
    void *ud;
    enum reasoning_view view;
    bool has_color;

    size_t n_newlines; /* held back until text follows */
    bool is_reasoning; /* the mark of its beginning was written */
    bool has_text;     /* something of the part was written */
    bool has_begun;    /* something was written */
};

void answer_stream_text(struct answer_stream *s, enum answer_part part, const char *text, size_t n);

/* Ends the last line; also when the answer is cut short. Ready for the next answer then. */
void answer_stream_end(struct answer_stream *s);
