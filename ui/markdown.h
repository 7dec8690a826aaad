/*
 * Markdown to rows, also while it streams. The text is cut into chunks at places that later text
 * cannot change (a blank line before a plain block; inside a long code block every CHUNK_LINES
 * lines); a chunk is laid out once, and only the open tail behind the last cut again and again. The
 * cuts depend on the text alone, so that a text comes out the same in whatever pieces it came.
 *
 * CommonMark with tables, strikethrough and task lists (md4c), but no HTML and no indented code,
 * and the author's line breaks stay. The text must be sanitized; what entities stand for is, here.
 */
#pragma once

#include "ui/highlight.h"
#include "ui/lines.h"

enum { MARKDOWN_CHUNK_LINES = 64, MARKDOWN_NESTING = 16 };

/* Zero it for a new text, or to lay it out for other columns. */
struct markdown {
    size_t at;     /* the text up to here is laid out for good */
    size_t n_rows; /* in so many rows */
    int n_codes;   /* code blocks in it */
    /* the code block that `at` is in */
    bool is_code;
    char fence;
    size_t n_fence; /* characters of the fence */
    struct highlight highlight;
};

/*
 * Brings `out` up to text[0..n): cuts off the rows of the old tail and appends what is new. `text`
 * is NUL-terminated at n, and begins with what it was at the call before. Rows of 0 columns or more
 * than fit are never made; columns is at least 1.
 */
void markdown_lay_out(struct markdown *m, const char *text, size_t n, int columns,
                      struct lines *out);

/* The content of the n-th code block (from 1), without its fences. false: there is none. */
bool markdown_code(const char *text, size_t n, int number, struct buf *out);
