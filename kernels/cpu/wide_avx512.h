/* The widest vector of the variant (attend.h's `wide`) in AVX-512. The same names as wide_vec8.h.
 */
#pragma once

#include <immintrin.h>

#define WIDE 16 /* floats */

/* 6 x 4 sums, 4 vectors of keys or values, one of a query or weight: of 32 registers */
#define SCORE_ROWS 6
#define MIX_ROWS   6

typedef __m512 wide;

static inline wide wide_zero(void) {
    return _mm512_setzero_ps();
}

static inline wide wide_set(float f) {
    return _mm512_set1_ps(f);
}

static inline wide wide_load(const float *p) {
    return _mm512_loadu_ps(p);
}

static inline void wide_store(float *p, wide a) {
    _mm512_storeu_ps(p, a);
}

/* The first n of 16; the others are 0 and their memory is not touched. */
static inline wide wide_load_partial(const float *p, int n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

static inline void wide_store_partial(float *p, wide a, int n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a);
}

static inline wide wide_add(wide a, wide b) {
    return _mm512_add_ps(a, b);
}

static inline wide wide_sub(wide a, wide b) {
    return _mm512_sub_ps(a, b);
}

static inline wide wide_mul(wide a, wide b) {
    return _mm512_mul_ps(a, b);
}

static inline wide wide_div(wide a, wide b) {
    return _mm512_div_ps(a, b);
}

static inline wide wide_fma(wide a, wide b, wide c) {
    return _mm512_fmadd_ps(a, b, c);
}

/* The smaller; b where either is NaN. */
static inline wide wide_min(wide a, wide b) {
    return _mm512_min_ps(a, b);
}

static inline wide wide_max(wide a, wide b) {
    return _mm512_max_ps(a, b);
}

/* a, but 0 where x < limit */
static inline wide wide_zero_below(wide a, wide x, float limit) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_NLT_UQ), a);
}

static inline wide wide_round(wide a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for whole n in -126..127 */
static inline wide wide_pow2(wide n) {
    __m512i exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}

/* In each four lanes their pairs' sums: a, b, a, b */
static inline wide wide_add_pairs(wide a, wide b) {
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

/* The sums of four vectors, all in the same order. */
static inline void wide_sum4(wide a, wide b, wide c, wide d, float out[4]) {
    __m512d ab = _mm512_castps_pd(wide_add_pairs(a, b)),
            cd = _mm512_castps_pd(wide_add_pairs(c, d));
    __m512 fours = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                                 _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
    __m256 eights = _mm256_add_ps(_mm512_castps512_ps256(fours), _mm512_extractf32x8_ps(fours, 1));
    _mm_storeu_ps(out,
                  _mm_add_ps(_mm256_castps256_ps128(eights), _mm256_extractf128_ps(eights, 1)));
}

static inline float wide_largest(wide a) {
    return _mm512_reduce_max_ps(a);
}

static inline wide wide_load_F32(const void *p) {
    return _mm512_loadu_ps(p);
}

static inline wide wide_load_F16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

static inline wide wide_load_BF16(const void *p) {
    __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
}
