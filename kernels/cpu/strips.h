/*
 * Products by rounded activations: what linear and the fused ops share. A strip is 16 rows of
 * weights: packed ones (layouts.def, STRIPS16) meet activations rounded to bytes, BF16 as it is
 * stored (ROUNDED) meets BF16.
 *
 * The rows of x are rounded once, on the way through the norm where there is one: where they are
 * few by each thread for itself, so that none waits for another; else by all together, which ends
 * in a barrier. Then strips of weights by rows of x are given out in tiles.
 */
#pragma once

#include "kernels/cpu/cpu.h"

enum { TILE_X = 96 }; /* rows of x of a tile; a multiple of what the loops take at once */

/* Where rows of x come from: [n, w's columns], or those numbered in `rows`. */
struct strip_input {
    const struct matrix *w; /* what they will meet */
    const float *x;
    const int32_t *rows; /* or NULL */
    int n;
    const float *norm; /* [w's columns] or NULL */
    float eps;
};

/* Rows of x as w's layout takes them: struct rounded, or BF16. */
struct strip_rows {
    const char *at;
    size_t row_bytes;
    int n;
};

/* Does the variant have loops for it? */
bool is_strips(const struct matrix *w, const struct cpu_variant *variant);

/* The same rounded rows meet both. */
static inline bool are_strips(const struct matrix *a, const struct matrix *b,
                              const struct cpu_variant *variant) {
    return a->layout == b->layout && is_strips(a, variant) && is_strips(b, variant);
}

static inline int strips_of(const struct matrix *w) {
    return (w->rows + STRIP_ROWS - 1) / STRIP_ROWS;
}

static inline size_t strip_bytes(const struct matrix *w) {
    return STRIP_ROWS * format_row_bytes(w->format, (size_t)w->cols);
}

/* So few that each thread prepares all of them for itself. */
enum { FEW_ROWS = 8 };
bool strips_are_few(const struct matrix *w, int n);

/* Bytes of part.shared that strips_round() takes: 0 for few rows. */
size_t strips_shared_bytes(const struct matrix *w, int n);

/* y = w x where is_strips(w); linear.c has the op. */
void cpu_linear_strips(const struct op_linear *op, struct part part);

/* All threads call it. The rows live in the scratch of the thread, from
 * STRIPS_SCRATCH on, or at the beginning of part.shared. */
struct strip_rows strips_round(const struct strip_input *input, struct part part);
enum { STRIPS_SCRATCH = 128 << 10 };

/*
 * Which of n tiles this thread computes. With few rows of x the weights are what takes time, and a
 * thread that reads one long run of them reads twice as fast as one that jumps: each has a run, and
 * who is through with it helps the threads behind. With many rows it is the arithmetic, and tiles
 * go to whoever is free.
 */
struct tiles {
    struct part part;
    size_t n;
    bool are_runs;
    int n_done;       /* runs: the own one, then those of the next threads */
    struct range run; /* at present */
};
struct tiles tiles_begin(size_t n, int n_rows, struct part part);
bool tiles_take(struct tiles *tiles, size_t *tile); /* false: none is left for this thread */

/* Rows from .. from + n of x. */
static inline struct strip_rows strip_rows_some(struct strip_rows x, int from, int n) {
    return (struct strip_rows){x.at + (size_t)from * x.row_bytes, x.row_bytes, n};
}

/* out[j * stride + i] = row i of strip `strip` by row j of x; a row that w lacks leaves its output
 * as it is, or makes it 0. */
void strip_multiply(const struct matrix *w, int strip, struct strip_rows x, float *out,
                    size_t stride, struct part part);
