/* A table: cells as they come, then rows whose columns are aligned and fit the screen. Those of
 * markdown have rules; those of commands have blanks. */
#pragma once

#include "ui/lines.h"

/* Cells beyond which a table is refused: a short text can ask for a square of them. */
enum { GRID_CELLS = 20000, GRID_COLUMNS = 64 };

/* Zero it before use. */
struct grid {
    struct styled *cells; /* row by row */
    unsigned char *sides; /* of each cell: 0 left, 1 middle, 2 right */
    size_t n, capacity, sides_capacity;
    size_t n_columns;
    bool has_head; /* the first row is one */
    bool is_ruled;
};

void grid_release(struct grid *t);
void grid_begin(struct grid *t, size_t n_columns, bool has_head, bool is_ruled);
/* Takes the next cell (`text` is left empty). Not 0: the table is too large. */
int grid_cell(struct grid *t, struct styled *text, int side);
/* prefixes: before the first row and before the others; they are as wide. */
void grid_put(const struct grid *t, const struct styled *first, const struct styled *rest,
              int columns, struct lines *out);
