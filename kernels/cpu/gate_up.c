/* y = silu(gate h) * (up h), h = rms_norm(x), of strips: the same ones of both, then the
 * activation, without a pause between. */
#include "kernels/cpu/strips.h"

#include <assert.h>

/* Of few rows several strips at once: each change from one matrix to the other costs a stream. */
enum { FEW_AT_ONCE = 8, BYTES_AT_ONCE = 128 << 10 };

/* [rows of x, columns at once] */
struct gate_up_scratch {
    float gate[TILE_X * STRIP_ROWS], up[TILE_X * STRIP_ROWS];
};
static_assert(sizeof(struct gate_up_scratch) <= STRIPS_SCRATCH, "scratch of gate_up");
static_assert(FEW_ROWS * FEW_AT_ONCE <= TILE_X, "scratch of few rows");

bool cpu_fuses_gate_up(const struct op_gate_up *op, const struct cpu_variant *variant) {
    return are_strips(op->gate, op->up, variant);
}

size_t cpu_gate_up_shared_bytes(const struct op_gate_up *op) {
    return strips_shared_bytes(op->gate, op->rows);
}

static int strips_at_once(const struct op_gate_up *op) {
    if (op->rows > FEW_ROWS) return 1;
    return larger(1, smaller(FEW_AT_ONCE, (int)(BYTES_AT_ONCE / strip_bytes(op->gate))));
}

/* Strips from .. to of w by x, side by side. */
static void multiply_strips(const struct matrix *w, int from, int to, struct strip_rows x,
                            float *out, size_t stride, struct part part) {
    for (int strip = from; strip < to; strip++)
        strip_multiply(w, strip, x, out + (strip - from) * STRIP_ROWS, stride, part);
}

void cpu_gate_up(const struct op_gate_up *op, struct part part) {
    struct gate_up_scratch *scratch = part.scratch;
    struct strip_input input = {op->gate, op->x, NULL, op->rows, op->norm, op->eps};
    struct strip_rows x = strips_round(&input, part);
    int n_strips = strips_of(op->gate), at_once = strips_at_once(op);
    size_t n_tiles = (size_t)((x.n + TILE_X - 1) / TILE_X), width = (size_t)op->gate->rows;
    size_t n_groups = (size_t)((n_strips + at_once - 1) / at_once);
    size_t stride = (size_t)at_once * STRIP_ROWS;
    struct tiles tiles = tiles_begin(n_groups * n_tiles, x.n, part);
    for (size_t item; tiles_take(&tiles, &item);) {
        int from = (int)(item / n_tiles) * at_once, to = smaller(from + at_once, n_strips);
        int x_from = (int)(item % n_tiles) * TILE_X, n = smaller(TILE_X, x.n - x_from);
        int column = from * STRIP_ROWS;
        size_t n_columns = (size_t)smaller(to * STRIP_ROWS, op->gate->rows) - (size_t)column;
        struct strip_rows some = strip_rows_some(x, x_from, n);
        multiply_strips(op->gate, from, to, some, scratch->gate, stride, part);
        multiply_strips(op->up, from, to, some, scratch->up, stride, part);
        for (int j = 0; j < n; j++) {
            size_t at = (size_t)j * stride;
            part.variant->silu_mul((float *)op->y + (size_t)(x_from + j) * width + column,
                                   scratch->gate + at, scratch->up + at, n_columns);
        }
    }
}
