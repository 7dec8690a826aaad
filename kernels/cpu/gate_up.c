/* y = silu(gate h) * (up h), h = rms_norm(x), of packed weights: the same strip of both, then the
 * activation, without a pause between. */
#include "kernels/cpu/strips.h"

#include <assert.h>
#include <string.h>

struct gate_up_scratch {
    float gate[TILE_X][STRIP_ROWS], up[TILE_X][STRIP_ROWS];
};
static_assert(sizeof(struct gate_up_scratch) <= STRIPS_SCRATCH, "scratch of gate_up");

bool cpu_fuses_gate_up(const struct op_gate_up *op, const struct cpu_variant *variant) {
    return is_strips(op->gate, variant) && is_strips(op->up, variant);
}

size_t cpu_gate_up_shared_bytes(const struct op_gate_up *op) {
    return strips_shared_bytes(op->rows, op->gate->cols);
}

void cpu_gate_up(const struct op_gate_up *op, struct part part) {
    struct gate_up_scratch *scratch = part.scratch;
    struct strip_input input = {op->x, NULL, op->rows, op->gate->cols, op->norm, op->eps};
    struct rounded_rows x = strips_round(&input, part);
    size_t n_tiles = (size_t)((x.n + TILE_X - 1) / TILE_X);
    size_t n_items = (size_t)strips_of(op->gate) * n_tiles, width = (size_t)op->gate->rows;
    struct tiles tiles = tiles_begin(n_items, x.n, part);
    for (size_t item; tiles_take(&tiles, &item);) {
        int strip = (int)(item / n_tiles), x_from = (int)(item % n_tiles) * TILE_X;
        int n = smaller(TILE_X, x.n - x_from), column = strip * STRIP_ROWS;
        size_t n_columns = (size_t)smaller(STRIP_ROWS, op->gate->rows - column);
        struct rounded_rows some = rounded_some(x, x_from, n);
        strip_multiply(op->gate, strip, some, scratch->gate[0], STRIP_ROWS, part);
        strip_multiply(op->up, strip, some, scratch->up[0], STRIP_ROWS, part);
        part.variant->silu_mul(scratch->gate[0], scratch->gate[0], scratch->up[0],
                               (size_t)n * STRIP_ROWS);
        for (int j = 0; j < n; j++)
            memcpy((float *)op->y + (size_t)(x_from + j) * width + column, scratch->gate[j],
                   n_columns * sizeof(float));
    }
}
