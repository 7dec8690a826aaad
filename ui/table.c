/* A row is kept as the number of its cells in one byte, then the cells, each with its NUL. */
#include "ui/table.h"

#include "engine/base/utf8.h"

#include <string.h>

enum { GAP = 2 };

static size_t columns_of(const char *text) {
    size_t n = strlen(text), columns = 0;
    int width;
    for (size_t at = 0; at < n; columns += (size_t)width)
        at += utf8_cluster(text + at, n - at, &width);
    return columns;
}

void table_row(struct table *t, const char *const *cells, size_t n, bool is_head) {
    if (n > TABLE_COLUMNS) n = TABLE_COLUMNS;
    if (t->cells.n == 0) t->has_head = is_head;
    buf_putc(&t->cells, (char)n);
    for (size_t i = 0; i < n; i++) {
        size_t width = columns_of(cells[i]);
        if (width > t->widths[i]) t->widths[i] = width;
        buf_add(&t->cells, cells[i], strlen(cells[i]) + 1);
    }
}

void table_print(struct table *t, bool has_color, void (*line)(void *ud, const char *text),
                 void *ud) {
    struct buf text = {0};
    bool is_head = t->has_head;
    for (size_t at = 0; at < t->cells.n && !t->cells.failed;) {
        size_t n = (size_t)t->cells.data[at++];
        if (is_head && has_color) buf_puts(&text, "\033[1m");
        for (size_t i = 0; i < n; i++) {
            const char *cell = t->cells.data + at;
            buf_puts(&text, cell);
            for (size_t k = columns_of(cell); i + 1 < n && k < t->widths[i] + GAP; k++)
                buf_putc(&text, ' ');
            at += strlen(cell) + 1;
        }
        if (is_head && has_color) buf_puts(&text, "\033[0m");
        line(ud, text.data ? text.data : "");
        buf_clear(&text);
        is_head = false;
    }
    buf_release(&text);
    buf_release(&t->cells);
    *t = (struct table){0};
}
