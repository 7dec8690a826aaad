/* Light highlighting of code, line by line: comments, strings, numbers, keywords (languages.def).
 */
#pragma once

#include "ui/lines.h"

struct language;

/* Zero it for text that is no known language. */
struct highlight {
    const struct language *language; /* NULL: everything has the ink of code */
    bool is_in_comment;              /* the line before ended within a block comment */
};

/* The language of ```name, of n bytes. */
void highlight_begin(struct highlight *h, const char *name, size_t n);
/* Appends the line (no newline in it) to `out`. */
void highlight_line(struct highlight *h, const char *line, size_t n, struct styled *out);
