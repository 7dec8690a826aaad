/*
 * Tokens to text as they come: never half a character, never a stop string or the beginning of
 * one. What might still become a stop string is held back until it is decided.
 */
#pragma once

#include "engine/text/tokenizer.h"

struct detokenizer {
    const struct tokenizer *tokenizer; /* NULL: ids have no text */
    const char *const *stops; /* not owned; must outlive the detokenizer */
    size_t n_stops;
    bool with_control; /* control tokens show as their text */
    struct buf held;   /* bytes not given out yet */
    bool stopped;      /* a stop string was found; nothing comes any more */
};

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, const char *const *stops,
                      size_t n_stops);
void detokenizer_release(struct detokenizer *d);

/* Appends to `out` what has become certain; true when a stop string ended the text (text up to
 * the stop string is given, the stop string and what follows is not). */
bool detokenizer_add(struct detokenizer *d, int32_t id, struct buf *out);

/* The end: gives out what was held back; an incomplete character becomes U+FFFD. */
void detokenizer_finish(struct detokenizer *d, struct buf *out);
