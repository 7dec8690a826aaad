/* The products of variants.h on BF16 alone, in AVX-512 BF16: vdpbf16ps multiplies 16 pairs of each
 * operand and adds both products of a pair to a lane's float sum. Subnormal values count as zero.
 */
#pragma once

#include "kernels/cpu/variants.h"

#include <immintrin.h>
#include <string.h>

#define BF16_STEP 32 /* values of a vector */
#define BF16_X    6  /* rows of x at once: 6 x 4 sums, 4 weights and an activation */
#define BF16_W    4

static inline __m512bh bf16_load(const uint16_t *p) {
    return (__m512bh)_mm512_loadu_si512(p);
}

static void round_bf16(const float *x, size_t n, uint16_t *out) {
    for (size_t i = 0; i < n; i += BF16_STEP)
        _mm512_storeu_si512(out + i, (__m512i)_mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16),
                                                                  _mm512_loadu_ps(x + i)));
}

/* One row of x: memory is what takes time. Rows of w follow each other, so what is wanted next lies
 * behind; what lies behind the last ones is not read after all. */
enum { AHEAD_VALUES = 12 << 10 };

static inline void fetch_bf16(const uint16_t *w, size_t at) {
    for (size_t i = 0; i < BF16_W; i++)
        __builtin_prefetch(w + BF16_W * at + i * BF16_STEP + AHEAD_VALUES, 0, 2);
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
        if (n_x == 1) fetch_bf16(w, at);
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

#define BF16_CASE(rows)                                                                            \
    case rows:                                                                                     \
        if (n_w - i >= BF16_W)                                                                     \
            bf16_tile(at, BF16_W, some, rows, n, from, to, y, stride);                             \
        else                                                                                       \
            bf16_tile(at, n_w - i, some, rows, n, from, to, y, stride);                            \
        break;

/* Pieces of DOT_SEGMENT values, so that those of a few rows of x stay in the first level cache. */
static void multiply_bf16(const uint16_t *w, int n_w, struct bf16_rows x, size_t n, float *out,
                          size_t stride) {
    for (size_t from = 0; from < n; from += DOT_SEGMENT) {
        size_t to = n - from < DOT_SEGMENT ? n : from + DOT_SEGMENT;
        for (int j = 0, n_x; j < x.n; j += n_x) {
            struct bf16_rows some = {x.at + (size_t)j * x.stride, x.stride, 0};
            n_x = x.n - j < BF16_X ? x.n - j : BF16_X;
            for (int i = 0; i < n_w; i += BF16_W) {
                const uint16_t *at = w + (size_t)i * n;
                float *y = out + (size_t)j * stride + i;
                switch (n_x) {
                    BF16_CASE(1)
                    BF16_CASE(2)
                    BF16_CASE(3)
                    BF16_CASE(4)
                    BF16_CASE(5)
                    BF16_CASE(6)
                }
            }
        }
    }
}
