/* Vectors of strip.h in AVX-512, with VNNI or without: all 16 rows of a strip at once. */
#pragma once

#include "kernels/cpu/variants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define LANES  16 /* rows of a strip in a vector */
#define MOST_X 12 /* rows of x at once: their sums, 8 vectors of weights, and some room */

typedef __m512i lane_bytes; /* four of each lane */
typedef __m512i lane_ints;  /* 32 bit */
typedef __m512 lane_floats;

static inline lane_bytes bytes_load(const void *p) {
    return _mm512_loadu_si512(p);
}

/* byte >> shift & mask; mask has no bit that the shift could bring from a neighbour */
static inline lane_bytes bytes_bits(lane_bytes a, int shift, int mask) {
    return _mm512_and_si512(_mm512_srli_epi16(a, (unsigned)shift), _mm512_set1_epi8((char)mask));
}

/* a | (bits `bit` .. of b under mask) << up */
static inline lane_bytes bytes_add_bits(lane_bytes a, lane_bytes b, int bit, int mask, int up) {
    lane_bytes moved = bit < up ? _mm512_slli_epi16(b, (unsigned)(up - bit))
                                : _mm512_srli_epi16(b, (unsigned)(bit - up));
    /* a | (moved & mask << up) */
    return _mm512_ternarylogic_epi32(a, moved, _mm512_set1_epi8((char)(mask << up)), 0xf8);
}

/* Byte `index` of each lane's four, unsigned or signed, under mask after a shift. */
static inline lane_floats floats_of_bits(lane_bytes a, int shift, int mask) {
    return _mm512_cvtepi32_ps(
        _mm512_and_si512(_mm512_srli_epi32(a, (unsigned)shift), _mm512_set1_epi32(mask)));
}

static inline lane_floats floats_of_signed_byte(lane_bytes a, int index) {
    return _mm512_cvtepi32_ps(
        _mm512_srai_epi32(_mm512_slli_epi32(a, (unsigned)(24 - index * 8)), 24));
}

static inline lane_bytes bytes_shift_words(lane_bytes a, int shift) {
    return _mm512_srli_epi32(a, (unsigned)shift);
}

static inline lane_bytes bytes_and_word(lane_bytes a, uint32_t mask) {
    return _mm512_and_si512(a, _mm512_set1_epi32((int)mask));
}

static inline lane_bytes bytes_or(lane_bytes a, lane_bytes b) {
    return _mm512_or_si512(a, b);
}

/* value << shift in all lanes */
static inline lane_ints ints_set(int32_t value, int shift) {
    return _mm512_slli_epi32(_mm512_set1_epi32(value), (unsigned)shift);
}

static inline __m512i four_values(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

#ifdef __AVX512VNNI__
/* acc[j] += the products of 4 n values: unsigned weights of so many bits, signed x, whose rows are
 * x_bytes apart. Rows in the inner loop: a sum waits four cycles for the one before it. */
static inline __attribute__((always_inline)) void ints_dot(lane_ints *acc, const lane_bytes *w,
                                                           int n, const int8_t *x, size_t x_bytes,
                                                           int n_x, int bits) {
    (void)bits;
    _Pragma("GCC unroll 8") for (int v = 0; v < n; v++) {
        _Pragma("GCC unroll 12") for (int j = 0; j < n_x; j++) {
            acc[j] =
                _mm512_dpbusd_epi32(acc[j], w[v], four_values(x + (size_t)j * x_bytes + v * 4));
        }
    }
}
#else
/* As in strip_avx2.h: pairs in 16 bits, as many as fit; weights of 8 bits go as two times 4. */
static inline __attribute__((always_inline)) lane_ints row_dot(lane_ints acc, const lane_bytes *w,
                                                               int n, const int8_t *x, int bits) {
    const int together = bits == 6 ? 2 : bits == 5 ? 4 : 8;
    const __m512i ones = _mm512_set1_epi16(1);
    __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
    _Pragma("GCC unroll 8") for (int v = 0; v < n; v++) {
        __m512i four = four_values(x + v * 4);
        if (bits == 8)
            high = _mm512_add_epi16(high, _mm512_maddubs_epi16(bytes_bits(w[v], 4, 15), four));
        low = _mm512_add_epi16(
            low, _mm512_maddubs_epi16(bits == 8 ? bytes_bits(w[v], 0, 15) : w[v], four));
        if ((v + 1) % together == 0 || v + 1 == n) {
            acc = _mm512_add_epi32(acc, _mm512_madd_epi16(low, ones));
            low = _mm512_setzero_si512();
        }
    }
    if (bits == 8) acc = _mm512_add_epi32(acc, _mm512_madd_epi16(high, _mm512_set1_epi16(16)));
    return acc;
}

static inline __attribute__((always_inline)) void ints_dot(lane_ints *acc, const lane_bytes *w,
                                                           int n, const int8_t *x, size_t x_bytes,
                                                           int n_x, int bits) {
    _Pragma("GCC unroll 12") for (int j = 0; j < n_x; j++) {
        acc[j] = row_dot(acc[j], w, n, x + (size_t)j * x_bytes, bits);
    }
}
#endif

static inline lane_floats floats_of_ints(lane_ints a) {
    return _mm512_cvtepi32_ps(a);
}

static inline lane_floats floats_of_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

static inline lane_floats floats_set(float f) {
    return _mm512_set1_ps(f);
}

static inline lane_floats floats_mul(lane_floats a, lane_floats b) {
    return _mm512_mul_ps(a, b);
}

static inline lane_floats floats_fma(lane_floats a, lane_floats b, lane_floats c) {
    return _mm512_fmadd_ps(a, b, c);
}

static inline lane_floats floats_load(const float *p) {
    return _mm512_loadu_ps(p);
}

static inline void floats_store(float *p, lane_floats a) {
    _mm512_storeu_ps(p, a);
}

/* The largest |x| of 32 as bits; larger than infinity's where one is NaN. */
static inline uint32_t largest_bits(const float *x) {
    __m512i absolute = _mm512_set1_epi32(0x7fffffff);
    __m512i first = _mm512_and_si512(_mm512_loadu_si512(x), absolute);
    __m512i second = _mm512_and_si512(_mm512_loadu_si512(x + 16), absolute);
    return _mm512_reduce_max_epu32(_mm512_max_epu32(first, second));
}

/* q = x * inverse to the nearest, ties to even; the sums of the first and the last 16 */
static inline void round_values(const float *x, float inverse, int8_t *q, int32_t sums[2]) {
    for (int half = 0; half < 2; half++) {
        __m512i n = _mm512_cvtps_epi32(
            _mm512_mul_ps(_mm512_loadu_ps(x + half * 16), _mm512_set1_ps(inverse)));
        _mm_storeu_si128((__m128i *)(q + half * 16), _mm512_cvtsepi32_epi8(n));
        sums[half] = _mm512_reduce_add_epi32(n);
    }
}
