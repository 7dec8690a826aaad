/*
 * Columns get the width of their widest cell; where the screen is too narrow the widest ones are
 * cut to an equal width and their cells wrap, and where even that does not fit each cell becomes a
 * line behind its column's name.
 */
#include "ui/grid.h"

#include "engine/base/mem.h"
#include "ui/wrap.h"

#include <string.h>

enum { LEAST_WIDTH = 4 };

static int between(const struct grid *t) {
    return t->is_ruled ? 3 : 2;
}

void grid_release(struct grid *t) {
    for (size_t i = 0; i < t->n; i++) styled_release(&t->cells[i]);
    mem_free(t->cells);
    mem_free(t->sides);
    *t = (struct grid){0};
}

void grid_begin(struct grid *t, size_t n_columns, bool has_head, bool is_ruled) {
    grid_release(t);
    t->n_columns = n_columns > 0 ? n_columns : 1;
    t->has_head = has_head;
    t->is_ruled = is_ruled;
}

int grid_cell(struct grid *t, struct styled *text, int side) {
    if (t->n >= GRID_CELLS || text->failed) return 1;
    if (mem_grow((void **)&t->cells, &t->capacity, t->n + 1, sizeof *t->cells) != 0 ||
        mem_grow((void **)&t->sides, &t->sides_capacity, t->n + 1, sizeof *t->sides) != 0)
        return 1;
    t->sides[t->n] = (unsigned char)side;
    t->cells[t->n++] = *text;
    *text = (struct styled){0};
    return 0;
}

/* --- widths ----------------------------------------------------------------------------------- */

static int total_of(const struct grid *t, const int *widths, int cap) {
    int total = between(t) * ((int)t->n_columns - 1);
    for (size_t i = 0; i < t->n_columns; i++) total += widths[i] < cap ? widths[i] : cap;
    return total;
}

/* false: they do not fit at all. */
static bool fit_widths(const struct grid *t, int room, int *widths) {
    int cap = room;
    if (t->n_columns > GRID_COLUMNS) return false;
    memset(widths, 0, GRID_COLUMNS * sizeof *widths);
    for (size_t i = 0; i < t->n; i++) {
        int width = styled_width(&t->cells[i]), *most = &widths[i % t->n_columns];
        if (width > *most) *most = width;
    }
    for (size_t i = 0; i < t->n_columns; i++)
        if (widths[i] < 1) widths[i] = 1;
    while (cap >= LEAST_WIDTH && total_of(t, widths, cap) > room) cap--;
    for (size_t i = 0; i < t->n_columns; i++)
        if (cap >= 1 && widths[i] > cap) widths[i] = cap;
    return total_of(t, widths, 1 << 20) <= room;
}

/* --- rows ------------------------------------------------------------------------------------- */

static void pad(struct lines *out, int n) {
    for (; n > 0; n--) styled_add(&out->content, " ", 1, INK_text);
}

static void put_piece(struct lines *out, const struct lines *cell, size_t row, int width, int side,
                      bool is_last) {
    int own = row < cell->n ? cell->rows[row].width : 0;
    int left = side == 2 ? width - own : side == 1 ? (width - own) / 2 : 0;
    pad(out, left);
    if (row < cell->n) {
        const struct row *r = &cell->rows[row];
        size_t begin = r->begin;
        for (size_t run = r->run; begin < r->end; run++) {
            size_t end =
                cell->content.runs[run].end < r->end ? cell->content.runs[run].end : r->end;
            styled_add(&out->content, cell->content.text.data + begin, end - begin,
                       cell->content.runs[run].style);
            begin = end;
        }
    }
    if (!is_last) pad(out, width - own - left);
}

static void begin_row(struct lines *out, const struct styled *prefix) {
    lines_begin_row(out, false);
    styled_add_all(&out->content, prefix);
}

static void put_cells(const struct grid *t, size_t first_cell, const int *widths,
                      const struct styled *prefix, const struct styled *rest, struct lines *out) {
    struct lines cells[GRID_COLUMNS] = {0};
    size_t height = 1;
    int width = styled_width(prefix) + total_of(t, widths, 1 << 20);
    for (size_t i = 0; i < t->n_columns && first_cell + i < t->n; i++) {
        const struct wrap how = {.columns = widths[i]};
        const struct styled *text = &t->cells[first_cell + i];
        wrap_text(&cells[i], &how, text, 0, text->text.n);
        if (cells[i].n > height) height = cells[i].n;
    }
    for (size_t row = 0; row < height; row++) {
        begin_row(out, row == 0 ? prefix : rest);
        for (size_t i = 0; i < t->n_columns; i++) {
            int side = first_cell + i < t->n ? t->sides[first_cell + i] : 0;
            if (i > 0)
                styled_puts(&out->content, t->is_ruled ? one_column(" │ ", " | ") : "  ", INK_dim);
            put_piece(out, &cells[i], row, widths[i], side, i + 1 == t->n_columns);
        }
        lines_end_row(out, width);
    }
    for (size_t i = 0; i < t->n_columns; i++) lines_release(&cells[i]);
}

static void put_rule(const struct grid *t, const int *widths, const struct styled *rest,
                     struct lines *out) {
    begin_row(out, rest);
    for (size_t i = 0; i < t->n_columns; i++) {
        if (i > 0) styled_puts(&out->content, one_column("─┼─", "-+-"), INK_dim);
        for (int k = 0; k < widths[i]; k++)
            styled_puts(&out->content, one_column("─", "-"), INK_dim);
    }
    lines_end_row(out, styled_width(rest) + total_of(t, widths, 1 << 20));
}

/* Each cell in a row of its own, behind the name of its column. */
static void put_stacked(const struct grid *t, const struct styled *first, const struct styled *rest,
                        int columns, struct lines *out) {
    size_t begin = t->has_head ? t->n_columns : 0;
    for (size_t i = begin; i < t->n; i++) {
        struct styled text = {0};
        size_t column = i % t->n_columns;
        const struct wrap how = {
            .columns = columns, .first = i == begin ? first : rest, .rest = rest};
        if (t->has_head) {
            styled_add_all(&text, &t->cells[column]);
            styled_puts(&text, ": ", INK_dim);
        }
        styled_add_all(&text, &t->cells[i]);
        if (column == 0 && i > begin) {
            begin_row(out, rest);
            lines_end_row(out, styled_width(rest));
        }
        wrap_text(out, &how, &text, 0, text.text.n);
        styled_release(&text);
    }
}

void grid_put(const struct grid *t, const struct styled *first, const struct styled *rest,
              int columns, struct lines *out) {
    int widths[GRID_COLUMNS];
    if (!fit_widths(t, columns - styled_width(rest), widths)) {
        put_stacked(t, first, rest, columns, out);
        return;
    }
    for (size_t i = 0; i < t->n; i += t->n_columns) {
        put_cells(t, i, widths, i == 0 ? first : rest, rest, out);
        if (i == 0 && t->has_head && t->is_ruled) put_rule(t, widths, rest, out);
    }
}
