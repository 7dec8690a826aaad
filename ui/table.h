/* Rows that arrive one by one (frontend.row), printed with aligned columns when the last is there.
 */
#pragma once

#include "engine/base/buf.h"

enum { TABLE_COLUMNS = 16 };

/* Zero it before the first row. */
struct table {
    struct buf cells;
    size_t widths[TABLE_COLUMNS];
    bool has_head;
};

void table_row(struct table *t, const char *const *cells, size_t n, bool is_head);

/* Gives every line to `line` and empties the table. */
void table_print(struct table *t, bool has_color, void (*line)(void *ud, const char *text),
                 void *ud);
