/*
 * Products of packed weights (layouts.def, STRIPS16): what linear and the fused ops share.
 *
 * The rows of x are rounded to bytes once, on the way through the norm where there is one: where
 * they are few by each thread for itself, so that none waits for another; else by all together,
 * which ends in a barrier. Then strips of weights by rows of x are given out in tiles.
 */
#pragma once

#include "kernels/cpu/cpu.h"

enum { TILE_X = 96 }; /* rows of x of a tile; a multiple of what the loops take at once */

/* Where rows of x come from: [n, width], or those numbered in `rows`. */
struct strip_input {
    const float *x;
    const int32_t *rows; /* or NULL */
    int n, width;
    const float *norm; /* [width] or NULL */
    float eps;
};

static inline bool is_strips(const struct matrix *w, const struct cpu_variant *variant) {
    return w->layout == LAYOUT_STRIPS16 && variant->multiply[w->format] != NULL;
}

static inline int strips_of(const struct matrix *w) {
    return (w->rows + STRIP_ROWS - 1) / STRIP_ROWS;
}

/* So few that each thread prepares all of them for itself. */
enum { FEW_ROWS = 8 };
bool strips_are_few(int n, int width);

/* Bytes of part.shared that strips_round() takes: 0 for few rows. */
size_t strips_shared_bytes(int n, int width);

/* y = w x of packed weights; linear.c has the op. */
void cpu_linear_strips(const struct op_linear *op, struct part part);

/* All threads call it. The rows live in the scratch of the thread, from
 * STRIPS_SCRATCH on, or at the beginning of part.shared. */
struct rounded_rows strips_round(const struct strip_input *input, struct part part);
enum { STRIPS_SCRATCH = 128 << 10 };

/*
 * Which of n tiles this thread computes. With few rows of x the weights are what takes time, and a
 * thread that reads one long run of them reads twice as fast as one that jumps; with many rows it is
 * the arithmetic, and tiles go to whoever is free.
 */
struct tiles {
    struct part part;
    size_t n, next, to; /* next, to: this thread's run; to 0: taken one by one */
};
struct tiles tiles_begin(size_t n, int n_rows, struct part part);

static inline bool tiles_take(struct tiles *tiles, size_t *tile) {
    *tile = tiles->to > 0 ? tiles->next++ : part_take(tiles->part, 1);
    return *tile < (tiles->to > 0 ? tiles->to : tiles->n);
}

/* Rows from .. from + n of x. */
static inline struct rounded_rows rounded_some(struct rounded_rows x, int from, int n) {
    return (struct rounded_rows){x.at + (size_t)from * x.stride, x.stride, n};
}

/* out[j * stride + i] = row i of strip `strip` by row j of x */
void strip_multiply(const struct matrix *w, int strip, struct rounded_rows x, float *out,
                    size_t stride, struct part part);
