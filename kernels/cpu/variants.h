/*
 * The hot inner loops, compiled once per instruction set from the same text (hot.h over a
 * vec_*.h), and the table from which the device picks at run time.
 *
 * How sums are formed is part of the contract, so that an output does not depend on how many rows
 * are computed together, on tiles or on threads. A dot product over n values: per segment of
 * DOT_SEGMENT values eight partial sums, number i over the values i mod 8 in order; they are added
 * pairwise, and the segments' sums are added in order.
 */
#pragma once

#include "kernels/layout.h"

enum { DOT_SEGMENT = 1024 }; /* values; a multiple of every format's block */

enum { WIDEST = 16 }; /* floats of the widest vector of any variant */

enum cpu_feature {
    CPU_AVX2 = 1,
    CPU_FMA = 2,
    CPU_F16C = 4,
    CPU_AVX512 = 8, /* F, BW, DQ and VL */
    CPU_VNNI = 16,  /* of AVX-512 */
    CPU_BF16 = 32,  /* of AVX-512 */
};

/* n rows of floats, `stride` floats apart */
struct rows {
    const float *at;
    size_t stride;
    int n;
};

static inline const float *row_at(struct rows rows, int i) {
    return rows.at + (size_t)i * rows.stride;
}

/*
 * 32 values of an activation row rounded to bytes: x is about scale * q. scale is the largest |x| /
 * 127 and q = x * (127 / the largest) to the nearest, ties to even. Where a value is not finite
 * scale and sum are NaN, and so is all that is computed from the row.
 */
struct rounded {
    int8_t q[32];
    float scale;
    float sum;             /* scale * the sum of q */
    int32_t minus_sums[3]; /* 0 less the sum of all q, of the first 16, of the last 16 */
};

/* n rows of them, `stride` units apart */
struct rounded_rows {
    const struct rounded *at;
    size_t stride;
    int n;
};

/* n rows of BF16, `stride` values apart */
struct bf16_rows {
    const uint16_t *at;
    size_t stride;
    int n;
};

struct cpu_variant {
    const char *name; /* "AVX2" */
    unsigned needs;   /* enum cpu_feature */

    /* n values (whole blocks) to float, bit for bit as format_decode() */
    void (*decode[N_FORMATS])(const void *row, float *out, size_t n);

    /* out[i] = dot product of weight row i and x; rows are row_bytes apart */
    void (*dot[N_FORMATS])(const void *w, size_t row_bytes, int n_rows, const float *x, size_t n,
                           float *out);

    /* sums[j * stride + i] += dot of w row i and x row j over n <= DOT_SEGMENT values. The memory
     * of w holds a multiple of 3 rows. */
    void (*gemm)(struct rows w, struct rows x, int n, float *sums, size_t stride);

    /*
     * Attention: keys and values as the cache has them, n values each, side by side; n is a
     * multiple of WIDEST. How a sum is formed does not depend on what is computed beside it. On the
     * way as many bytes are fetched into the second level cache from `next` on, if not NULL.
     */

    /* s[j * stride + i] = dot product of q row j and key i. Each row of s has room for n_keys
     * rounded up to 4, which it overwrites. */
    void (*score[N_FORMATS])(const void *keys, int n_keys, struct rows q, int n, float *s,
                             size_t stride, const void *next);

    /* out[j * stride + i] += sum over keys k, in order, of p row j [k] * value i of k */
    void (*mix[N_FORMATS])(struct rows p, const void *values, int n_keys, int n, float *out,
                           size_t stride, const void *next);

    /* s = exp(scale * s - *max), *sum = their sum, *max = the largest scale * s (if it is
     * -infinity then 0 is taken off). s has room for n rounded up to WIDEST, which it overwrites.
     */
    void (*softmax)(float *s, int n, float scale, float *max, float *sum);

    void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);

    /* n floats to F16, bit for bit as format_encode() */
    void (*to_f16)(const float *x, void *out, size_t n);

    /* The integer loops; NULL: the variant has none, and weights stay as they are stored. */

    /* n_units times 32 values */
    void (*round_row)(const float *x, size_t n_units, struct rounded *out);

    /* out[j * stride + i] = dot product of row i of the strip and row j of x. Products of a unit
     * are added as integers; the units' sums are scaled and added in order. */
    void (*multiply[N_FORMATS])(const void *strip, size_t n_units, struct rounded_rows x,
                                float *out, size_t stride);

    /* Products of BF16 by BF16, n a multiple of 32; NULL: the variant has none. */

    /* to the nearest, ties to even; subnormal values become 0 */
    void (*round_bf16)(const float *x, size_t n, uint16_t *out);

    /* out[j * stride + i] = dot product of row i of w, n values, and row j of x: per segment of
     * DOT_SEGMENT values 16 partial sums of pairs in order, added across; the segments in order */
    void (*multiply_bf16)(const uint16_t *w, int n_w, struct bf16_rows x, size_t n, float *out,
                          size_t stride);
};

extern const struct cpu_variant variant_avx512_bf16, variant_avx512_vnni, variant_avx512,
    variant_avx2, variant_baseline;

/* The features of this processor, enum cpu_feature. */
unsigned cpu_features(void);

/* The first row of the table that the features allow, at or below the row `name` where that is not
 * NULL; baseline is always there. */
const struct cpu_variant *cpu_variant_pick(unsigned features, const char *name);
