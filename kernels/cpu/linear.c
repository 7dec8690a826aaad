/*
 * y = w x. By rounded activations: linear_strips.c. Of weights as they are stored,
 * one row of x by fused decoding and dot products; several by decoding tiles of w to float in the
 * thread's scratch and multiplying those with all rows.
 *
 * Both form every sum in the order of variants.h, so y[t] does not depend on how many rows there
 * are or where t stands among them.
 */
#include "kernels/cpu/strips.h"

#include <assert.h>
#include <string.h>

/* A tile of w: 96 KB as float, which stays in the second level cache while the rows of x pass. */
enum { ROWS_AT_ONCE = 64, TILE_W = 24, TILE_ROWS = 128, W_STRIDE = DOT_SEGMENT + 16 };

struct linear_scratch {
    float w[TILE_W][W_STRIDE]; /* the padding keeps rows off the same cache sets */
    float sums[TILE_ROWS][TILE_W];
};
static_assert(sizeof(struct linear_scratch) <= CPU_SCRATCH_BYTES, "scratch of linear");
static_assert(TILE_W % 3 == 0, "gemm takes rows of w by threes");

static void put(const struct op_linear *op, int row, int column, float sum) {
    float *y = (float *)op->y + (size_t)row * (size_t)op->w->rows + column;
    if (op->bias) sum += op->bias[column];
    *y = op->accumulate ? sum + *y : sum;
}

/* A thread reads one run of rows: twice as fast as pieces here and there. */
static void linear_one_row(const struct op_linear *op, struct part part) {
    struct linear_scratch *scratch = part.scratch;
    const struct matrix *w = op->w;
    const uint8_t *data = w->data;
    size_t row_bytes = format_row_bytes(w->format, (size_t)w->cols);
    struct range run = part_range(part, (size_t)w->rows, 4);
    float *sums = scratch->sums[0];
    for (size_t from = run.from; from < run.to; from += ROWS_AT_ONCE) {
        int n = smaller(ROWS_AT_ONCE, (int)(run.to - from));
        part.variant->dot[w->format](data + from * row_bytes, row_bytes, n, op->x, (size_t)w->cols,
                                     sums);
        for (int i = 0; i < n; i++) put(op, 0, (int)from + i, sums[i]);
    }
}

/* Rows w_from .. of w by rows x_from .. of x. */
static void linear_tile(const struct op_linear *op, struct part part, int w_from, int n_w,
                        int x_from, int n_x) {
    struct linear_scratch *scratch = part.scratch;
    const struct matrix *w = op->w;
    size_t n_cols = (size_t)w->cols, row_bytes = format_row_bytes(w->format, n_cols);
    memset(scratch->sums, 0, sizeof scratch->sums);
    for (size_t from = 0; from < n_cols; from += DOT_SEGMENT) {
        size_t n = n_cols - from < DOT_SEGMENT ? n_cols - from : DOT_SEGMENT;
        const uint8_t *data = (const uint8_t *)w->data + (size_t)w_from * row_bytes +
                              format_row_bytes(w->format, from);
        for (int i = 0; i < n_w; i++)
            part.variant->decode[w->format](data + (size_t)i * row_bytes, scratch->w[i], n);
        struct rows w_rows = {scratch->w[0], W_STRIDE, n_w};
        struct rows x_rows = {(const float *)op->x + (size_t)x_from * n_cols + from, n_cols, n_x};
        part.variant->gemm(w_rows, x_rows, (int)n, scratch->sums[0], TILE_W);
    }
    for (int t = 0; t < n_x; t++)
        for (int i = 0; i < n_w; i++) put(op, x_from + t, w_from + i, scratch->sums[t][i]);
}

static void linear_many_rows(const struct op_linear *op, struct part part) {
    int n_w_tiles = (op->w->rows + TILE_W - 1) / TILE_W;
    int n_x_tiles = (op->rows + TILE_ROWS - 1) / TILE_ROWS;
    int tile_x = ((op->rows + n_x_tiles - 1) / n_x_tiles + 3) & ~3;
    for (;;) {
        size_t item = part_take(part, 1);
        if (item >= (size_t)n_w_tiles * (size_t)n_x_tiles) return;
        int w_from = (int)(item / (size_t)n_x_tiles) * TILE_W;
        int x_from = (int)(item % (size_t)n_x_tiles) * tile_x;
        if (x_from >= op->rows) continue;
        linear_tile(op, part, w_from, smaller(TILE_W, op->w->rows - w_from), x_from,
                    smaller(tile_x, op->rows - x_from));
    }
}

void cpu_linear(const struct op_linear *op, struct part part) {
    if (is_strips(op->w, part.variant))
        cpu_linear_strips(op, part);
    else if (op->rows == 1)
        linear_one_row(op, part);
    else
        linear_many_rows(op, part);
}
