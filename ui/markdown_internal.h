/* What markdown.c (chunks) and markdown_blocks.c (what is in one) share. */
#pragma once

#include "ui/markdown.h"

struct fence {
    bool is_open, is_at_margin;
    char c;
    size_t n, indent;
};

/* Appends a chunk that begins outside of code, with a blank row before it where there are rows.
 * Left in m->highlight: how its last code block ended. */
void markdown_blocks(struct markdown *m, const char *text, size_t n, int columns,
                     struct lines *out);

/* One line of a code block at the margin. */
void markdown_code_line(struct highlight *h, const char *line, size_t n, int columns,
                        struct lines *out);
