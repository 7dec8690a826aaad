/*
 * Styled text, and styled text laid out in rows: what markdown, wrapping and the transcript make
 * and a screen paints. Plain data; no terminal here.
 */
#pragma once

#include "engine/base/buf.h"

enum ink {
#define INK(name, ...) INK_##name,
#include "ui/theme.def"
#undef INK
    N_INKS
};

/* An ink in the low byte, attributes above it. */
typedef uint16_t text_style;
enum {
    STYLE_BOLD = 1 << 8,
    STYLE_ITALIC = 1 << 9,
    STYLE_UNDERLINE = 1 << 10,
    STYLE_REVERSE = 1 << 11,
    STYLE_DIM = 1 << 12,
    STYLE_STRIKE = 1 << 13,
    STYLE_INK = 0xFF,
};

/* A sign that is drawn in one column where it takes one; else the plain one. All of line drawing
 * and bars is of ambiguous width. */
const char *one_column(const char *drawn, const char *plain);

/* Text with a style for each byte: runs[i] goes from the end of the run before it to its own. */
struct styled {
    struct buf text;
    struct style_run {
        size_t end;
        text_style style;
    } * runs;
    size_t n_runs, capacity;
    bool failed; /* out of memory: what was added last is not there */
};

void styled_release(struct styled *s);
void styled_clear(struct styled *s); /* keeps the memory */
void styled_add(struct styled *s, const char *text, size_t n, text_style style);
void styled_puts(struct styled *s, const char *text, text_style style);
void styled_add_all(struct styled *s, const struct styled *other);
/* Cuts it to its first n bytes. */
void styled_cut(struct styled *s, size_t n);
/* The run that byte `at` is in; n_runs behind the text. */
size_t styled_run_at(const struct styled *s, size_t at);
int styled_width(const struct styled *s); /* columns, were it one row */

/* Rows: pieces of one styled text. Between two rows stands what the break took the place of: a
 * newline, a blank, or nothing. */
struct row {
    size_t begin, end; /* bytes of content.text */
    size_t run;        /* the run of its first byte */
    int width;         /* columns */
    bool is_joined;    /* the row before goes on in this one */
};
struct lines {
    struct styled content;
    struct row *rows;
    size_t n, capacity;
};

void lines_release(struct lines *l);
void lines_clear(struct lines *l);
void lines_cut(struct lines *l, size_t n_rows); /* the first n rows stay */

/* Begins a row at the end of the content; what is added to the content until lines_end_row()
 * belongs to it. */
void lines_begin_row(struct lines *l, bool is_joined);
void lines_end_row(struct lines *l, int width);
/* A row of one text; width is counted. */
void lines_put(struct lines *l, const char *text, text_style style);
bool lines_failed(const struct lines *l);
