/* The products of variants.h on BF16 alone, in AVX-512 BF16: vdpbf16ps multiplies 16 pairs of each
 * operand and adds both products of a pair to a lane's float sum. Subnormal values count as zero.
 */
#pragma once

#include "kernels/cpu/variants.h"

#include <immintrin.h>
#include <string.h>

#define BF16_STEP      32 /* values of a vector */
#define BF16_X         6  /* rows of x at once: 6 x 4 sums, 4 weights and an activation */
#define BF16_W         4
#define BF16_X_ROUNDED 8 /* by fours, which are summed together */

static inline __m512bh bf16_load(const uint16_t *p) {
    return (__m512bh)_mm512_loadu_si512(p);
}

static void round_bf16(const float *x, size_t n, uint16_t *out) {
    for (size_t i = 0; i < n; i += BF16_STEP)
        _mm512_storeu_si512(out + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16),
                                                                  _mm512_loadu_ps(x + i)));
}

enum { AHEAD_VALUES = 2048 }; /* a page of 4 KB, so that its address is translated by then */

/* One row of w by n_x rows of x (a constant). Where memory is what takes time it is read fastest
 * from one place on; behind a row lies the next one. */
static inline __attribute__((always_inline)) void
bf16_row(const uint16_t *w, struct bf16_rows x, int n_x, size_t n, float *out, size_t stride) {
    float totals[BF16_X_ROUNDED]; /* -0 and a sum is that sum, its sign too */
    for (int j = 0; j < BF16_X_ROUNDED; j++) totals[j] = -0.0f;
    for (size_t from = 0, to; from < n; from = to) {
        __m512 acc[BF16_X_ROUNDED];
        to = n - from < DOT_SEGMENT ? n : from + DOT_SEGMENT;
        _Pragma("GCC unroll 8") for (int j = 0; j < BF16_X_ROUNDED; j++) {
            acc[j] = _mm512_setzero_ps();
        }
        for (size_t at = from; at < to; at += BF16_STEP) {
            __m512bh w32 = bf16_load(w + at);
            __builtin_prefetch(w + at + AHEAD_VALUES, 0, 2);
            _Pragma("GCC unroll 8") for (int j = 0; j < n_x; j++) {
                acc[j] = _mm512_dpbf16_ps(acc[j], w32, bf16_load(x.at + (size_t)j * x.stride + at));
            }
        }
        _Pragma("GCC unroll 8") for (int j = 0; j < n_x; j += 4) {
            float sums[4];
            wide_sum4(acc[j], acc[j + 1], acc[j + 2], acc[j + 3], sums);
            for (int i = 0; i < 4; i++) totals[j + i] += sums[i];
        }
    }
    for (int j = 0; j < n_x; j++) out[(size_t)j * stride] = totals[j];
}

/* Values from .. to of n_x rows (a constant) by 4 rows of w, of which n_w are there: the last one
 * stands in for the others. Added to what the values before gave. */
static inline __attribute__((always_inline)) void bf16_tile(const uint16_t *w, int n_w,
                                                            struct bf16_rows x, int n_x, size_t n,
                                                            size_t from, size_t to, float *out,
                                                            size_t stride) {
    __m512 acc[BF16_X][BF16_W];
    __m512bh w32[BF16_W];
    _Pragma("GCC unroll 8") for (int j = 0; j < n_x; j++) {
        _Pragma("GCC unroll 8") for (int i = 0; i < BF16_W; i++) {
            acc[j][i] = _mm512_setzero_ps();
        }
    }
    for (size_t at = from; at < to; at += BF16_STEP) {
        _Pragma("GCC unroll 8") for (int i = 0; i < BF16_W; i++) {
            size_t which = (size_t)(i < n_w ? i : n_w - 1);
            w32[i] = bf16_load(w + which * n + at);
        }
        _Pragma("GCC unroll 8") for (int j = 0; j < n_x; j++) {
            __m512bh x32 = bf16_load(x.at + (size_t)j * x.stride + at);
            _Pragma("GCC unroll 8") for (int i = 0; i < BF16_W; i++) {
                acc[j][i] = _mm512_dpbf16_ps(acc[j][i], w32[i], x32);
            }
        }
    }
    _Pragma("GCC unroll 8") for (int j = 0; j < n_x; j++) {
        float sums[BF16_W];
        wide_sum4(acc[j][0], acc[j][1], acc[j][2], acc[j][3], sums);
        for (int i = 0; i < n_w; i++) {
            float *y = out + (size_t)j * stride + i;
            *y = from == 0 ? sums[i] : *y + sums[i];
        }
    }
}

#define BF16_ROWS(rows)                                                                            \
    case rows:                                                                                     \
        for (int i = 0; i < n_w; i++) bf16_row(w + (size_t)i * n, x, rows, n, out + i, stride);    \
        return;

#define BF16_TILE(rows)                                                                            \
    case rows:                                                                                     \
        if (n_w - i >= BF16_W)                                                                     \
            bf16_tile(at, BF16_W, some, rows, n, from, to, y, stride);                             \
        else                                                                                       \
            bf16_tile(at, n_w - i, some, rows, n, from, to, y, stride);                            \
        break;

/* Few rows of x one row of w after the other. Of more, tiles of pieces of DOT_SEGMENT values, so
 * that those of some rows of x stay in the first level cache. */
static void multiply_bf16(const uint16_t *w, int n_w, struct bf16_rows x, size_t n, float *out,
                          size_t stride) {
    switch (x.n) {
        BF16_ROWS(1)
        BF16_ROWS(2)
        BF16_ROWS(3)
        BF16_ROWS(4)
        BF16_ROWS(5)
        BF16_ROWS(6)
    }
    for (size_t from = 0; from < n; from += DOT_SEGMENT) {
        size_t to = n - from < DOT_SEGMENT ? n : from + DOT_SEGMENT;
        for (int j = 0, n_x; j < x.n; j += n_x) {
            struct bf16_rows some = {x.at + (size_t)j * x.stride, x.stride, 0};
            n_x = x.n - j < BF16_X ? x.n - j : BF16_X;
            for (int i = 0; i < n_w; i += BF16_W) {
                const uint16_t *at = w + (size_t)i * n;
                float *y = out + (size_t)j * stride + i;
                switch (n_x) {
                    BF16_TILE(1)
                    BF16_TILE(2)
                    BF16_TILE(3)
                    BF16_TILE(4)
                    BF16_TILE(5)
                    BF16_TILE(6)
                }
            }
        }
    }
}
