/* y = w x by rounded activations, and the fused head: a norm of some rows, and such a product. */
#include "kernels/cpu/strips.h"

#include <assert.h>

enum { STRIPS_AT_ONCE = 4, BYTES_AT_ONCE = 16 << 10 };

struct linear_scratch {
    float sums[TILE_X][STRIP_ROWS];
};
static_assert(sizeof(struct linear_scratch) <= STRIPS_SCRATCH, "scratch of linear");

/* The outputs of one strip, for n rows of x from x_from on. */
static void put(const struct op_linear *op, int strip, int x_from, int n,
                const struct linear_scratch *s) {
    int column = strip * STRIP_ROWS, n_columns = smaller(STRIP_ROWS, op->w->rows - column);
    for (int j = 0; j < n; j++) {
        float *y = (float *)op->y + (size_t)(x_from + j) * (size_t)op->w->rows + column;
        for (int i = 0; i < n_columns; i++) {
            float sum = s->sums[j][i];
            if (op->bias) sum += op->bias[column + i];
            y[i] = op->accumulate ? sum + y[i] : sum;
        }
    }
}

/* A few strips stay in the first level cache; rows of x, where they are many, in the second. */
static int strips_at_once(const struct op_linear *op, int n_threads) {
    int share = strips_of(op->w) / (n_threads * 8);
    if (op->rows > TILE_X) return larger(smaller(STRIPS_AT_ONCE, share), 1);
    return larger(smaller((int)(BYTES_AT_ONCE / strip_bytes(op->w)), share), 1);
}

static void multiply_all(const struct op_linear *op, struct strip_rows x, struct part part) {
    struct linear_scratch *scratch = part.scratch;
    int n_strips = strips_of(op->w), at_once = strips_at_once(op, part.count);
    size_t n_groups = (size_t)((n_strips + at_once - 1) / at_once);
    size_t n_tiles = (size_t)((x.n + TILE_X - 1) / TILE_X);
    struct tiles tiles = tiles_begin(n_groups * n_tiles, x.n, part);
    for (size_t item; tiles_take(&tiles, &item);) {
        int from = (int)(item / n_tiles) * at_once, x_from = (int)(item % n_tiles) * TILE_X;
        int n = smaller(TILE_X, x.n - x_from);
        for (int strip = from; strip < smaller(from + at_once, n_strips); strip++) {
            strip_multiply(op->w, strip, strip_rows_some(x, x_from, n), scratch->sums[0],
                           STRIP_ROWS, part);
            put(op, strip, x_from, n, scratch);
        }
    }
}

void cpu_linear_strips(const struct op_linear *op, struct part part) {
    struct strip_input input = {.w = op->w, .x = op->x, .n = op->rows};
    multiply_all(op, strips_round(&input, part), part);
}

size_t cpu_linear_shared_bytes(const struct op_linear *op) {
    return op->w->layout == LAYOUT_STORED ? 0 : strips_shared_bytes(op->w, op->rows);
}

/* ---- head ---- */

bool cpu_fuses_head(const struct op_head *op, const struct cpu_variant *variant) {
    return is_strips(op->w, variant);
}

size_t cpu_head_shared_bytes(const struct op_head *op) {
    return strips_shared_bytes(op->w, op->batch->n_outputs);
}

void cpu_head(const struct op_head *op, struct part part) {
    int n = op->batch->n_outputs;
    struct strip_input input = {op->w, op->x, op->batch->outputs, n, op->norm, op->eps};
    struct op_linear linear = {.y = op->logits, .w = op->w, .rows = n, .y_is_float = true};
    multiply_all(&linear, strips_round(&input, part), part);
}
