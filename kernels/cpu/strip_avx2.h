/* Vectors of strip.h in AVX2: eight of the 16 rows of a strip at once. */
#pragma once

#include "kernels/cpu/variants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#define LANES  8
#define MOST_X 4

typedef __m256i lane_bytes; /* four of each lane */
typedef __m256i lane_ints;  /* 32 bit */
typedef __m256 lane_floats;

static inline lane_bytes bytes_load(const void *p) {
    return _mm256_loadu_si256(p);
}

static inline lane_bytes bytes_bits(lane_bytes a, int shift, int mask) {
    return _mm256_and_si256(_mm256_srli_epi16(a, shift), _mm256_set1_epi8((char)mask));
}

static inline lane_bytes bytes_add_bits(lane_bytes a, lane_bytes b, int bit, int mask, int up) {
    lane_bytes moved = bit < up ? _mm256_slli_epi16(b, up - bit) : _mm256_srli_epi16(b, bit - up);
    return _mm256_or_si256(a, _mm256_and_si256(moved, _mm256_set1_epi8((char)(mask << up))));
}

static inline lane_floats floats_of_bits(lane_bytes a, int shift, int mask) {
    return _mm256_cvtepi32_ps(
        _mm256_and_si256(_mm256_srli_epi32(a, shift), _mm256_set1_epi32(mask)));
}

static inline lane_floats floats_of_signed_byte(lane_bytes a, int index) {
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(a, 24 - index * 8), 24));
}

static inline lane_bytes bytes_shift_words(lane_bytes a, int shift) {
    return _mm256_srli_epi32(a, shift);
}

static inline lane_bytes bytes_and_word(lane_bytes a, uint32_t mask) {
    return _mm256_and_si256(a, _mm256_set1_epi32((int)mask));
}

static inline lane_bytes bytes_or(lane_bytes a, lane_bytes b) {
    return _mm256_or_si256(a, b);
}

static inline lane_ints ints_set(int32_t value, int shift) {
    return _mm256_slli_epi32(_mm256_set1_epi32(value), shift);
}

static inline __m256i four_values(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}

/* maddubs adds pairs of products into 16 bits, at most 2 * 127 * (2^bits - 1) each: so many of
 * those fit. Weights of 8 bits go as two times 4. */
static inline __attribute__((always_inline)) lane_ints row_dot(lane_ints acc, const lane_bytes *w,
                                                               int n, const int8_t *x, int bits) {
    const int together = bits == 6 ? 2 : bits == 5 ? 4 : 8;
    __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
    _Pragma("GCC unroll 8") for (int v = 0; v < n; v++) {
        __m256i four = four_values(x + v * 4);
        if (bits == 8)
            high = _mm256_add_epi16(high, _mm256_maddubs_epi16(bytes_bits(w[v], 4, 15), four));
        low = _mm256_add_epi16(
            low, _mm256_maddubs_epi16(bits == 8 ? bytes_bits(w[v], 0, 15) : w[v], four));
        if ((v + 1) % together == 0 || v + 1 == n) {
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(low, _mm256_set1_epi16(1)));
            low = _mm256_setzero_si256();
        }
    }
    if (bits == 8) acc = _mm256_add_epi32(acc, _mm256_madd_epi16(high, _mm256_set1_epi16(16)));
    return acc;
}

static inline __attribute__((always_inline)) void ints_dot(lane_ints *acc, const lane_bytes *w,
                                                           int n, const int8_t *x, size_t x_bytes,
                                                           int n_x, int bits) {
    _Pragma("GCC unroll 4") for (int j = 0; j < n_x; j++) {
        acc[j] = row_dot(acc[j], w, n, x + (size_t)j * x_bytes, bits);
    }
}

static inline lane_floats floats_of_ints(lane_ints a) {
    return _mm256_cvtepi32_ps(a);
}

static inline lane_floats floats_of_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

static inline lane_floats floats_set(float f) {
    return _mm256_set1_ps(f);
}

static inline lane_floats floats_mul(lane_floats a, lane_floats b) {
    return _mm256_mul_ps(a, b);
}

static inline lane_floats floats_fma(lane_floats a, lane_floats b, lane_floats c) {
    return _mm256_fmadd_ps(a, b, c);
}

static inline lane_floats floats_load(const float *p) {
    return _mm256_loadu_ps(p);
}

static inline void floats_store(float *p, lane_floats a) {
    _mm256_storeu_ps(p, a);
}

static inline uint32_t largest_bits(const float *x) {
    const __m256i absolute = _mm256_set1_epi32(0x7fffffff);
    __m256i largest = _mm256_setzero_si256();
    for (int i = 0; i < 32; i += 8) {
        __m256i bits = _mm256_and_si256(bytes_load(x + i), absolute);
        largest = _mm256_max_epu32(largest, bits);
    }
    __m128i m =
        _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
    m = _mm_max_epu32(m, _mm_unpackhi_epi64(m, m));
    m = _mm_max_epu32(m, _mm_srli_epi64(m, 32));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

static inline void round_values(const float *x, float inverse, int8_t *q, int32_t sums[2]) {
    for (int half = 0; half < 2; half++) {
        __m256i n[2];
        for (int i = 0; i < 2; i++)
            n[i] = _mm256_cvtps_epi32(
                _mm256_mul_ps(_mm256_loadu_ps(x + half * 16 + i * 8), _mm256_set1_ps(inverse)));
        /* packs takes the lower halves of both, then the upper ones */
        __m256i shorts = _mm256_permute4x64_epi64(_mm256_packs_epi32(n[0], n[1]), 0xd8);
        _mm_storeu_si128(
            (__m128i *)(q + half * 16),
            _mm_packs_epi16(_mm256_castsi256_si128(shorts), _mm256_extracti128_si256(shorts, 1)));
        __m256i pairs = _mm256_madd_epi16(shorts, _mm256_set1_epi16(1));
        __m128i s =
            _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
        s = _mm_add_epi32(s, _mm_unpackhi_epi64(s, s));
        s = _mm_add_epi32(s, _mm_srli_epi64(s, 32));
        sums[half] = _mm_cvtsi128_si32(s);
    }
}
