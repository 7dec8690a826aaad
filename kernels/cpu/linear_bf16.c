/*
 * y = w x of BF16 weights where the processor multiplies BF16 by itself: rows of x are
 * rounded to it once, as strips.c rounds them to bytes.
 */
#include "kernels/cpu/cpu.h"

#include <assert.h>

enum { STEP = 32, FEW_ROWS = 8, TILE_W = 24, TILE_X = 96, ROWS_AT_ONCE = 64 };

struct linear_scratch {
    float sums[TILE_X * TILE_W];
    uint16_t x[]; /* of few rows, to the end of the scratch */
};
static_assert(TILE_X * TILE_W >= FEW_ROWS * ROWS_AT_ONCE, "sums of few rows");
enum { X_BYTES = CPU_SCRATCH_BYTES - sizeof(struct linear_scratch) };

bool cpu_multiplies_bf16(const struct matrix *w, struct part part) {
    return w->layout == LAYOUT_ROUNDED && part.variant->multiply_bf16 && w->cols % STEP == 0;
}

static size_t x_bytes(const struct op_linear *op) {
    return (size_t)op->rows * (size_t)op->w->cols * sizeof(uint16_t);
}

static bool are_few(const struct op_linear *op) {
    return op->rows <= FEW_ROWS && x_bytes(op) <= X_BYTES;
}

size_t cpu_linear_bf16_shared_bytes(const struct op_linear *op) {
    return op->w->layout != LAYOUT_ROUNDED || are_few(op) ? 0 : x_bytes(op);
}

static struct bf16_rows round_rows(const struct op_linear *op, struct part part) {
    size_t n = (size_t)op->w->cols;
    bool is_alone = are_few(op);
    uint16_t *to = is_alone ? ((struct linear_scratch *)part.scratch)->x : part.shared;
    struct range rows = {0, (size_t)op->rows};
    if (!is_alone) rows = part_range(part, rows.to, 1);
    part.variant->round_bf16((const float *)op->x + rows.from * n, (rows.to - rows.from) * n,
                             to + rows.from * n);
    if (!is_alone) part_barrier(part);
    return (struct bf16_rows){to, n, op->rows};
}

/* n_w outputs from column `from` on, for rows x_from .. of x. */
static void multiply_tile(const struct op_linear *op, struct part part, struct bf16_rows x,
                          int x_from, int n_x, int from, int n_w) {
    float *sums = ((struct linear_scratch *)part.scratch)->sums;
    size_t n = (size_t)op->w->cols;
    struct bf16_rows some = {x.at + (size_t)x_from * n, n, n_x};
    part.variant->multiply_bf16((const uint16_t *)op->w->data + (size_t)from * n, n_w, some, n,
                                sums, (size_t)n_w);
    for (int j = 0; j < n_x; j++) {
        float *y = (float *)op->y + (size_t)(x_from + j) * (size_t)op->w->rows + from;
        for (int i = 0; i < n_w; i++) {
            float sum = sums[j * n_w + i];
            if (op->bias) sum += op->bias[from + i];
            y[i] = op->accumulate ? sum + y[i] : sum;
        }
    }
}

void cpu_linear_bf16(const struct op_linear *op, struct part part) {
    struct bf16_rows x = round_rows(op, part);
    int n_out = op->w->rows;
    if (are_few(op)) { /* a thread reads one run of rows: twice as fast as pieces here and there */
        struct range run = part_range(part, (size_t)n_out, 4);
        for (int from = (int)run.from, n; from < (int)run.to; from += n) {
            n = smaller(ROWS_AT_ONCE, (int)run.to - from);
            multiply_tile(op, part, x, 0, op->rows, from, n);
        }
        return;
    }
    int n_w_tiles = (n_out + TILE_W - 1) / TILE_W, n_x_tiles = (op->rows + TILE_X - 1) / TILE_X;
    size_t n_items = (size_t)n_w_tiles * (size_t)n_x_tiles;
    for (size_t item; (item = part_take(part, 1)) < n_items;) {
        int from = (int)(item / (size_t)n_x_tiles) * TILE_W;
        int x_from = (int)(item % (size_t)n_x_tiles) * TILE_X;
        multiply_tile(op, part, x, x_from, smaller(TILE_X, op->rows - x_from), from,
                      smaller(TILE_W, n_out - from));
    }
}
