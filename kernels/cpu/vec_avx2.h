/* Vectors of hot.h in AVX2, FMA and F16C. The same names as vec_baseline.h. */
#pragma once

#include <immintrin.h>
#include <stdint.h>

/* 3 x 4 sums, 3 weights and an activation: the 16 vector registers */
#define GEMM_X          4
#define VEC8_SCORE_ROWS 2
#define VEC8_MIX_ROWS   3

typedef __m256 vec8;     /* 8 floats */
typedef __m128i bytes16; /* 16 bytes */

static inline vec8 vec8_zero(void) {
    return _mm256_setzero_ps();
}

static inline vec8 vec8_set(float f) {
    return _mm256_set1_ps(f);
}

static inline vec8 vec8_load(const float *p) {
    return _mm256_loadu_ps(p);
}

static inline void vec8_store(float *p, vec8 a) {
    _mm256_storeu_ps(p, a);
}

static inline __m256i vec8_mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The first n of 8; the others are 0 and their memory is not touched. */
static inline vec8 vec8_load_partial(const float *p, int n) {
    return _mm256_maskload_ps(p, vec8_mask(n));
}

static inline void vec8_store_partial(float *p, vec8 a, int n) {
    _mm256_maskstore_ps(p, vec8_mask(n), a);
}

static inline vec8 vec8_add(vec8 a, vec8 b) {
    return _mm256_add_ps(a, b);
}

static inline vec8 vec8_sub(vec8 a, vec8 b) {
    return _mm256_sub_ps(a, b);
}

static inline vec8 vec8_mul(vec8 a, vec8 b) {
    return _mm256_mul_ps(a, b);
}

static inline vec8 vec8_div(vec8 a, vec8 b) {
    return _mm256_div_ps(a, b);
}

static inline vec8 vec8_fma(vec8 a, vec8 b, vec8 c) {
    return _mm256_fmadd_ps(a, b, c);
}

/* The smaller; b where either is NaN. */
static inline vec8 vec8_min(vec8 a, vec8 b) {
    return _mm256_min_ps(a, b);
}

static inline vec8 vec8_max(vec8 a, vec8 b) {
    return _mm256_max_ps(a, b);
}

/* a, but 0 where x < limit */
static inline vec8 vec8_zero_below(vec8 a, vec8 x, float limit) {
    return _mm256_and_ps(a, _mm256_cmp_ps(x, _mm256_set1_ps(limit), _CMP_NLT_UQ));
}

static inline vec8 vec8_round(vec8 a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* 2^n for whole n in -126..127 */
static inline vec8 vec8_pow2(vec8 n) {
    __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}

/* The sums of four vectors, each ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)). */
static inline void vec8_sum4(vec8 a, vec8 b, vec8 c, vec8 d, float out[4]) {
    __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

static inline float vec8_largest(vec8 a) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_shuffle_ps(m, m, 1)));
}

static inline vec8 vec8_load_F32(const void *p) {
    return _mm256_loadu_ps(p);
}

static inline vec8 vec8_load_F16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}

static inline void vec8_store_F16(void *p, vec8 a) {
    _mm_storeu_si128(p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static inline vec8 vec8_load_BF16(const void *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline float vec_float_of_f16(const uint8_t bytes[2]) {
    return _cvtsh_ss((unsigned short)(bytes[0] | bytes[1] << 8));
}

static inline vec8 vec8_of_int8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

/* The low or high halves of 8 bytes, less n. */
static inline vec8 vec8_of_low_nibbles(const uint8_t *p, int n) {
    __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    __m256i nibbles = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(nibbles, _mm256_set1_epi32(n)));
}

static inline vec8 vec8_of_high_nibbles(const uint8_t *p, int n) {
    __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    __m256i nibbles = _mm256_srli_epi32(bytes, 4);
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(nibbles, _mm256_set1_epi32(n)));
}

static inline bytes16 bytes16_load(const void *p) {
    return _mm_loadu_si128(p);
}

/* byte >> shift & mask; mask has no bit that the shift could bring from a neighbour */
static inline bytes16 bytes16_bits(bytes16 a, int shift, int mask) {
    return _mm_and_si128(_mm_srli_epi16(a, shift), _mm_set1_epi8((char)mask));
}

/* byte << 4, of bytes below 16 */
static inline bytes16 bytes16_up4(bytes16 a) {
    return _mm_slli_epi16(a, 4);
}

static inline bytes16 bytes16_or(bytes16 a, bytes16 b) {
    return _mm_or_si128(a, b);
}

static inline bytes16 bytes16_minus(bytes16 a, int n) {
    return _mm_sub_epi8(a, _mm_set1_epi8((char)n));
}

/* 16 in byte i where bit i is set, else 0 */
static inline bytes16 bytes16_of_bits(unsigned bits) {
    const __m128i which = _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    const __m128i bit = _mm_set1_epi64x((long long)0x8040201008040201);
    __m128i spread = _mm_shuffle_epi8(_mm_cvtsi32_si128((int)bits), which);
    __m128i set = _mm_cmpeq_epi8(_mm_and_si128(spread, bit), bit);
    return _mm_and_si128(set, _mm_set1_epi8(16));
}

/* The lower or upper 8 bytes, unsigned or signed, as floats. */
static inline vec8 vec8_of_lower(bytes16 a) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(a));
}

static inline vec8 vec8_of_upper(bytes16 a) {
    return vec8_of_lower(_mm_srli_si128(a, 8));
}

static inline vec8 vec8_of_lower_signed(bytes16 a) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(a));
}

static inline vec8 vec8_of_upper_signed(bytes16 a) {
    return vec8_of_lower_signed(_mm_srli_si128(a, 8));
}
