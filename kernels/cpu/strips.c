/* Rounding the rows of x, and strips by rows. */
#include "kernels/cpu/strips.h"

#include <assert.h>

enum { UNIT = 32, UNITS_AT_ONCE = 8 };
enum { HELPED = 3 }; /* runs of others that a thread looks into: each look is a cache line */

bool is_strips(const struct matrix *w, const struct cpu_variant *variant) {
    if (w->layout == LAYOUT_STRIPS16) return variant->multiply[w->format] != NULL;
    return w->layout == LAYOUT_ROUNDED && variant->multiply_bf16 && w->cols % UNIT == 0;
}

static size_t unit_bytes(const struct matrix *w) {
    return w->layout == LAYOUT_STRIPS16 ? sizeof(struct rounded) : UNIT * sizeof(uint16_t);
}

static size_t rounded_bytes(const struct matrix *w, int n) {
    return (size_t)n * (size_t)(w->cols / UNIT) * unit_bytes(w);
}

bool strips_are_few(const struct matrix *w, int n) {
    return n <= FEW_ROWS && rounded_bytes(w, n) <= CPU_SCRATCH_BYTES - STRIPS_SCRATCH;
}

size_t strips_shared_bytes(const struct matrix *w, int n) {
    return strips_are_few(w, n) ? 0 : rounded_bytes(w, n);
}

/* n values of a row, from value `at` on, into the row's place. */
static void round_values(const struct matrix *w, const float *x, int at, int n, char *row,
                         struct part part) {
    char *to = row + (size_t)(at / UNIT) * unit_bytes(w);
    if (w->layout == LAYOUT_STRIPS16)
        part.variant->round_row(x, (size_t)(n / UNIT), (struct rounded *)(void *)to);
    else
        part.variant->round_bf16(x, (size_t)n, (uint16_t *)(void *)to);
}

static void round_one(const struct strip_input *input, int row, char *out, struct part part) {
    size_t at = (size_t)(input->rows ? input->rows[row] : row);
    int width = input->w->cols;
    const float *x = input->x + at * (size_t)width;
    if (!input->norm) {
        round_values(input->w, x, 0, width, out, part);
        return;
    }
    float factor = cpu_norm_factor(x, width, input->eps), y[UNITS_AT_ONCE * UNIT];
    for (int i = 0, n; i < width; i += n) {
        n = smaller(UNITS_AT_ONCE * UNIT, width - i);
        cpu_norm_scale(y, x + i, factor, input->norm + i, n);
        round_values(input->w, y, i, n, out, part);
    }
}

struct strip_rows strips_round(const struct strip_input *input, struct part part) {
    bool is_alone = strips_are_few(input->w, input->n);
    char *to = is_alone ? (char *)part.scratch + STRIPS_SCRATCH : part.shared;
    struct strip_rows out = {to, rounded_bytes(input->w, 1), input->n};
    struct range rows = {0, (size_t)input->n};
    if (!is_alone) rows = part_range(part, rows.to, 1);
    for (size_t row = rows.from; row < rows.to; row++)
        round_one(input, (int)row, to + row * out.row_bytes, part);
    if (!is_alone) part_barrier(part);
    return out;
}

static struct range run_of(const struct tiles *tiles, int whose) {
    struct part part = tiles->part;
    part.index = whose;
    return part_range(part, tiles->n, 1);
}

struct tiles tiles_begin(size_t n, int n_rows, struct part part) {
    struct tiles tiles = {.part = part, .n = n, .are_runs = n_rows <= FEW_ROWS};
    if (tiles.are_runs) tiles.run = run_of(&tiles, part.index);
    return tiles;
}

static bool take_of_runs(struct tiles *tiles, size_t *tile) {
    const int count = tiles->part.count, most = smaller(count, 1 + HELPED);
    while (tiles->n_done < most) {
        int whose = (tiles->part.index + tiles->n_done) % count;
        *tile = tiles->run.from + part_take_of(tiles->part, whose);
        if (*tile < tiles->run.to) return true;
        tiles->n_done++;
        tiles->run = run_of(tiles, (whose + 1) % count);
    }
    return false;
}

bool tiles_take(struct tiles *tiles, size_t *tile) {
    if (tiles->are_runs) return take_of_runs(tiles, tile);
    *tile = part_take(tiles->part, 1);
    return *tile < tiles->n;
}

void strip_multiply(const struct matrix *w, int strip, struct strip_rows x, float *out,
                    size_t stride, struct part part) {
    const char *rows = (const char *)w->data + (size_t)strip * strip_bytes(w);
    size_t n = (size_t)w->cols, n_units = n / UNIT;
    if (w->layout == LAYOUT_STRIPS16)
        part.variant->multiply[w->format](
            rows, n_units, (struct rounded_rows){(const void *)x.at, n_units, x.n}, out, stride);
    else
        part.variant->multiply_bf16((const void *)rows,
                                    smaller(STRIP_ROWS, w->rows - strip * STRIP_ROWS),
                                    (struct bf16_rows){(const void *)x.at, n, x.n}, n, out, stride);
}
