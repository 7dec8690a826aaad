/* Vectors of hot.h in GNU C's 16-byte vectors, which every processor of the target has (SSE2 on
 * x86-64). The same names as vec_avx2.h. */
#pragma once

#include "kernels/decode.h"

#include <stdint.h>
#include <string.h>

/* Two registers to a vector: larger tiles would not fit in the 16 of SSE2. */
#define GEMM_X          1
#define VEC8_SCORE_ROWS 1
#define VEC8_MIX_ROWS   1

typedef float vec4 __attribute__((vector_size(16)));
typedef int32_t int4 __attribute__((vector_size(16)));
typedef uint16_t words8 __attribute__((vector_size(16)));
typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint64_t longs2 __attribute__((vector_size(16)));

typedef struct {
    vec4 lo, hi;
} vec8; /* 8 floats */

static inline vec4 vec4_select(int4 mask, vec4 a, vec4 b) {
    return (vec4)((mask & (int4)a) | (~mask & (int4)b));
}

static inline vec8 vec8_set(float f) {
    vec4 all = {f, f, f, f};
    return (vec8){all, all};
}

static inline vec8 vec8_zero(void) {
    return vec8_set(0);
}

static inline vec8 vec8_load(const float *p) {
    vec8 a;
    memcpy(&a, p, sizeof a);
    return a;
}

static inline void vec8_store(float *p, vec8 a) {
    memcpy(p, &a, sizeof a);
}

/* The first n of 8; the others are 0 and their memory is not touched. */
static inline vec8 vec8_load_partial(const float *p, int n) {
    float values[8] = {0};
    for (int i = 0; i < n; i++) values[i] = p[i];
    return vec8_load(values);
}

static inline void vec8_store_partial(float *p, vec8 a, int n) {
    float values[8];
    vec8_store(values, a);
    for (int i = 0; i < n; i++) p[i] = values[i];
}

static inline vec8 vec8_add(vec8 a, vec8 b) {
    return (vec8){a.lo + b.lo, a.hi + b.hi};
}

static inline vec8 vec8_sub(vec8 a, vec8 b) {
    return (vec8){a.lo - b.lo, a.hi - b.hi};
}

static inline vec8 vec8_mul(vec8 a, vec8 b) {
    return (vec8){a.lo * b.lo, a.hi * b.hi};
}

static inline vec8 vec8_div(vec8 a, vec8 b) {
    return (vec8){a.lo / b.lo, a.hi / b.hi};
}

static inline vec8 vec8_fma(vec8 a, vec8 b, vec8 c) {
    return (vec8){a.lo * b.lo + c.lo, a.hi * b.hi + c.hi};
}

/* The smaller; b where either is NaN. */
static inline vec8 vec8_min(vec8 a, vec8 b) {
    return (vec8){vec4_select(a.lo < b.lo, a.lo, b.lo), vec4_select(a.hi < b.hi, a.hi, b.hi)};
}

static inline vec8 vec8_max(vec8 a, vec8 b) {
    return (vec8){vec4_select(a.lo > b.lo, a.lo, b.lo), vec4_select(a.hi > b.hi, a.hi, b.hi)};
}

/* a, but 0 where x < limit */
static inline vec8 vec8_zero_below(vec8 a, vec8 x, float limit) {
    vec8 zero = vec8_zero(), l = vec8_set(limit);
    return (vec8){vec4_select(x.lo < l.lo, zero.lo, a.lo), vec4_select(x.hi < l.hi, zero.hi, a.hi)};
}

/* To the nearest whole number, for numbers below 2^22: there adding 1.5 * 2^23 rounds. */
static inline vec8 vec8_round(vec8 a) {
    vec8 magic = vec8_set(0x1.8p23f);
    return vec8_sub(vec8_add(a, magic), magic);
}

/* 2^n for whole n in -126..127 */
static inline vec8 vec8_pow2(vec8 n) {
    /* the low bits of n + 127 + 1.5 * 2^23 are n + 127 */
    vec8 biased = vec8_add(n, vec8_set(127 + 0x1.8p23f));
    return (vec8){(vec4)((int4)biased.lo << 23), (vec4)((int4)biased.hi << 23)};
}

/* The sums of four vectors, each ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)). */
static inline void vec8_sum4(vec8 a, vec8 b, vec8 c, vec8 d, float out[4]) {
    const vec8 all[4] = {a, b, c, d};
    for (int i = 0; i < 4; i++) {
        vec4 lo = all[i].lo, hi = all[i].hi;
        out[i] = ((lo[0] + lo[1]) + (lo[2] + lo[3])) + ((hi[0] + hi[1]) + (hi[2] + hi[3]));
    }
}

static inline float vec8_largest(vec8 a) {
    float values[8], largest;
    vec8_store(values, a);
    largest = values[0];
    for (int i = 1; i < 8; i++) largest = values[i] > largest ? values[i] : largest;
    return largest;
}

static inline vec8 vec8_load_F32(const void *p) {
    vec8 a;
    memcpy(&a, p, sizeof a);
    return a;
}

static inline vec8 vec8_load_F16(const void *p) {
    const struct block_F16 *blocks = p;
    float values[8];
    for (int i = 0; i < 8; i++) decode_F16(&blocks[i], &values[i]);
    return vec8_load(values);
}

static inline void vec8_store_F16(void *p, vec8 a) {
    float values[8];
    vec8_store(values, a);
    format_encode(FORMAT_F16, values, p, 8);
}

static inline vec8 vec8_load_BF16(const void *p) {
    const struct block_BF16 *blocks = p;
    float values[8];
    for (int i = 0; i < 8; i++) decode_BF16(&blocks[i], &values[i]);
    return vec8_load(values);
}

static inline float vec_float_of_f16(const uint8_t bytes[2]) {
    return float_of_f16(load_u16(bytes));
}

static inline bytes16 bytes16_load(const void *p) {
    bytes16 a;
    memcpy(&a, p, sizeof a);
    return a;
}

/* byte >> shift & mask; mask has no bit that the shift could bring from a neighbour */
static inline bytes16 bytes16_bits(bytes16 a, int shift, int mask) {
    return (bytes16)((words8)a >> shift) & (uint8_t)mask;
}

/* byte << 4, of bytes below 16 */
static inline bytes16 bytes16_up4(bytes16 a) {
    return (bytes16)((words8)a << 4);
}

static inline bytes16 bytes16_or(bytes16 a, bytes16 b) {
    return a | b;
}

static inline bytes16 bytes16_minus(bytes16 a, int n) {
    return a - (uint8_t)n;
}

/* 16 in byte i where bit i is set, else 0 */
static inline bytes16 bytes16_of_bits(unsigned bits) {
    const uint8_t first = (uint8_t)bits, second = (uint8_t)(bits >> 8);
    const bytes16 which = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const bytes16 spread = {first,  first,  first,  first,  first,  first,  first,  first,
                            second, second, second, second, second, second, second, second};
    return (bytes16)((spread & which) == which) & 16;
}

/* The lower or upper 8 bytes, unsigned or signed, as floats. */
static inline vec8 vec8_of_words(words8 words) {
    const words8 zero = {0};
    words8 lo = __builtin_shufflevector(words, zero, 0, 8, 1, 9, 2, 10, 3, 11);
    words8 hi = __builtin_shufflevector(words, zero, 4, 12, 5, 13, 6, 14, 7, 15);
    return (vec8){__builtin_convertvector((int4)lo, vec4), __builtin_convertvector((int4)hi, vec4)};
}

static inline vec8 vec8_of_lower(bytes16 a) {
    const bytes16 zero = {0};
    return vec8_of_words((words8)__builtin_shufflevector(a, zero, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20,
                                                         5, 21, 6, 22, 7, 23));
}

static inline vec8 vec8_of_upper(bytes16 a) {
    const bytes16 zero = {0};
    return vec8_of_words((words8)__builtin_shufflevector(a, zero, 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                                         28, 13, 29, 14, 30, 15, 31));
}

static inline vec8 vec8_of_lower_signed(bytes16 a) {
    return vec8_sub(vec8_of_lower(a + 128), vec8_set(128));
}

static inline vec8 vec8_of_upper_signed(bytes16 a) {
    return vec8_sub(vec8_of_upper(a + 128), vec8_set(128));
}

static inline bytes16 bytes8_load(const void *p) {
    uint64_t bits;
    memcpy(&bits, p, sizeof bits);
    longs2 a = {bits, 0};
    return (bytes16)a;
}

static inline vec8 vec8_of_int8(const int8_t *p) {
    return vec8_of_lower_signed(bytes8_load(p));
}

/* The low or high halves of 8 bytes, less n. */
static inline vec8 vec8_of_low_nibbles(const uint8_t *p, int n) {
    return vec8_sub(vec8_of_lower(bytes16_bits(bytes8_load(p), 0, 15)), vec8_set((float)n));
}

static inline vec8 vec8_of_high_nibbles(const uint8_t *p, int n) {
    return vec8_sub(vec8_of_lower(bytes16_bits(bytes8_load(p), 4, 15)), vec8_set((float)n));
}
