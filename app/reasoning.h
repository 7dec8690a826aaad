/*
 * The split of an answer's text into reasoning and answer: "<think>…</think>" at its beginning, or
 * all up to "</think>" where the template's prompt has opened the block. A marker may come in any
 * pieces; what might still become one is held back. Line breaks around the markers belong to them.
 */
#pragma once

#include "engine/base/buf.h"

enum reasoning_state {
    REASONING_START, /* nothing yet: a marker may open the block */
    REASONING_OPEN,  /* behind the opening marker, before the first character */
    REASONING_INSIDE,
    REASONING_CLOSED, /* behind the closing marker, before the answer's first character */
    REASONING_ANSWER, /* all that comes is answer */
};

struct reasoning {
    enum reasoning_state state;
    struct buf held;
};

/* thinks: the model's family has such blocks; is_open: the prompt ended within one. */
void reasoning_begin(struct reasoning *r, bool thinks, bool is_open);
void reasoning_release(struct reasoning *r);

/* Appends what has become certain to `reasoning` and `answer`. */
void reasoning_feed(struct reasoning *r, const char *text, size_t n, struct buf *reasoning,
                    struct buf *answer);
/* The end: what was held back is text after all. */
void reasoning_finish(struct reasoning *r, struct buf *reasoning, struct buf *answer);
