/*
 * Breaks styled text into rows. By grapheme clusters and their columns: between words, between CJK
 * characters (closing punctuation never begins a row, opening punctuation never ends one), behind
 * hyphens and slashes, and within a word only where it is longer than a row.
 */
#pragma once

#include "ui/lines.h"

struct wrap {
    int columns;                /* at least 1 */
    const struct styled *first; /* stands before the first row; NULL: nothing */
    const struct styled *rest;  /* stands before the others; NULL: nothing */
    bool is_verbatim;           /* code: blanks are kept, rows are cut where they are full */
};

/* Appends text[begin..end) to `out`; newlines in it begin rows. A prefix that leaves no room is
 * left out. Empty text makes one row with its prefix. */
void wrap_text(struct lines *out, const struct wrap *how, const struct styled *text, size_t begin,
               size_t end);

/* Columns of a cluster at `column` as a screen shows it: a tab goes to the next multiple of 8, a
 * lone mark stands on a dotted circle. */
int wrap_cluster(const char *text, size_t n, int column, size_t *bytes);
