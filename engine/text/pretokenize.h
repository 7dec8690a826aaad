/*
 * The pattern that cuts text into the pieces that merges stay within. Text here is valid UTF-8;
 * what is not is kept away by the caller. Immutable once opened.
 */
#pragma once

#include "engine/base/err.h"
#include "engine/text/tokenizer.h"

#include <stddef.h>

struct pretokenize_pattern;

int pretokenize_open(struct pretokenize_pattern **out, enum pretokenizer rule, struct err *err);
void pretokenize_close(struct pretokenize_pattern *pattern);

/* The pattern as published (for SmolLM's two steps: one pattern that does both). */
const char *pretokenize_published(enum pretokenizer rule);

/*
 * A walk over the pieces of text[0..n), which join to the whole text. One scan belongs to one
 * thread; it may be set on several texts one after another.
 */
struct pretokenize_scan {
    const struct pretokenize_pattern *pattern;
    void *match; /* PCRE2's match data */
    const char *text;
    size_t n, at;
};
int pretokenize_scan_open(struct pretokenize_scan *scan, const struct pretokenize_pattern *pattern,
                          struct err *err);
void pretokenize_scan_close(struct pretokenize_scan *scan);
void pretokenize_scan_set(struct pretokenize_scan *scan, const char *text, size_t n);

/* The next piece: 1 and its place, 0 at the end, -1 with a sentence. */
int pretokenize_next(struct pretokenize_scan *scan, size_t *begin, size_t *end, struct err *err);
