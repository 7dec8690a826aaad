/*
 * The text of the hot inner loops. A variant_*.c includes a vec_*.h and a wide_*.h, defines VARIANT
 * (the name of its table), VARIANT_NAME and VARIANT_NEEDS, and includes this once. Contract:
 * variants.h.
 */
#include "kernels/cpu/variants.h"
#include "kernels/decode.h"

#include <math.h>

#define INLINE   static inline __attribute__((always_inline))
#define UNROLL   _Pragma("GCC unroll 8") /* arrays of vectors then are registers */
#define UNROLL12 _Pragma("GCC unroll 12")

/* ---- 32 values of a row as four vectors; unit i holds the values 32 i to 32 i + 31 ---- */

/* scale * value, of signed bytes */
INLINE void scaled(bytes16 first, bytes16 second, float scale, vec8 w[4]) {
    vec8 s = vec8_set(scale);
    w[0] = vec8_mul(s, vec8_of_lower_signed(first));
    w[1] = vec8_mul(s, vec8_of_upper_signed(first));
    w[2] = vec8_mul(s, vec8_of_lower_signed(second));
    w[3] = vec8_mul(s, vec8_of_upper_signed(second));
}

/* scale * value + min, of unsigned bytes */
INLINE void scaled_from(bytes16 first, bytes16 second, float scale, float min, vec8 w[4]) {
    vec8 s = vec8_set(scale), m = vec8_set(min);
    w[0] = vec8_fma(s, vec8_of_lower(first), m);
    w[1] = vec8_fma(s, vec8_of_upper(first), m);
    w[2] = vec8_fma(s, vec8_of_lower(second), m);
    w[3] = vec8_fma(s, vec8_of_upper(second), m);
}

INLINE void unpack_Q8_0(const void *row, size_t unit, vec8 w[4]) {
    const struct block_Q8_0 *block = (const struct block_Q8_0 *)row + unit;
    vec8 scale = vec8_set(vec_float_of_f16(block->scale));
    for (int v = 0; v < 4; v++) w[v] = vec8_mul(scale, vec8_of_int8(block->values + v * 8));
}

INLINE void unpack_Q4_0(const void *row, size_t unit, vec8 w[4]) {
    const struct block_Q4_0 *block = (const struct block_Q4_0 *)row + unit;
    vec8 scale = vec8_set(vec_float_of_f16(block->scale));
    for (int v = 0; v < 2; v++) {
        w[v] = vec8_mul(scale, vec8_of_low_nibbles(block->nibbles + v * 8, 8));
        w[v + 2] = vec8_mul(scale, vec8_of_high_nibbles(block->nibbles + v * 8, 8));
    }
}

INLINE void unpack_Q4_1(const void *row, size_t unit, vec8 w[4]) {
    const struct block_Q4_1 *block = (const struct block_Q4_1 *)row + unit;
    vec8 scale = vec8_set(vec_float_of_f16(block->scale));
    vec8 min = vec8_set(vec_float_of_f16(block->min));
    for (int v = 0; v < 2; v++) {
        w[v] = vec8_fma(scale, vec8_of_low_nibbles(block->nibbles + v * 8, 0), min);
        w[v + 2] = vec8_fma(scale, vec8_of_high_nibbles(block->nibbles + v * 8, 0), min);
    }
}

/* The low (shift 0) or high (4) halves of 16 bytes, each with its fifth bit. */
INLINE bytes16 five_bits(const uint8_t nibbles[16], int shift, const uint8_t high[2]) {
    return bytes16_or(bytes16_bits(bytes16_load(nibbles), shift, 15),
                      bytes16_of_bits(load_u16(high)));
}

INLINE void unpack_Q5_0(const void *row, size_t unit, vec8 w[4]) {
    const struct block_Q5_0 *block = (const struct block_Q5_0 *)row + unit;
    scaled(bytes16_minus(five_bits(block->nibbles, 0, block->high), 16),
           bytes16_minus(five_bits(block->nibbles, 4, block->high + 2), 16),
           vec_float_of_f16(block->scale), w);
}

INLINE void unpack_Q5_1(const void *row, size_t unit, vec8 w[4]) {
    const struct block_Q5_1 *block = (const struct block_Q5_1 *)row + unit;
    scaled_from(five_bits(block->nibbles, 0, block->high),
                five_bits(block->nibbles, 4, block->high + 2), vec_float_of_f16(block->scale),
                vec_float_of_f16(block->min), w);
}

INLINE void unpack_Q4_K(const void *row, size_t unit, vec8 w[4]) {
    const struct block_Q4_K *block = (const struct block_Q4_K *)row + unit / 8;
    int group = (int)(unit % 8), scale, min;
    group_scale_Qx_K(block->group_scales, group, &scale, &min);
    const uint8_t *nibbles = block->nibbles + group / 2 * 32;
    scaled_from(bytes16_bits(bytes16_load(nibbles), group % 2 * 4, 15),
                bytes16_bits(bytes16_load(nibbles + 16), group % 2 * 4, 15),
                vec_float_of_f16(block->scale) * (float)scale,
                -(vec_float_of_f16(block->min) * (float)min), w);
}

/* 16 values of a group, each with its fifth bit. */
INLINE bytes16 five_bits_K(const uint8_t nibbles[16], const uint8_t high[16], int group) {
    return bytes16_or(bytes16_bits(bytes16_load(nibbles), group % 2 * 4, 15),
                      bytes16_up4(bytes16_bits(bytes16_load(high), group, 1)));
}

INLINE void unpack_Q5_K(const void *row, size_t unit, vec8 w[4]) {
    const struct block_Q5_K *block = (const struct block_Q5_K *)row + unit / 8;
    int group = (int)(unit % 8), scale, min;
    group_scale_Qx_K(block->group_scales, group, &scale, &min);
    const uint8_t *nibbles = block->nibbles + group / 2 * 32;
    scaled_from(five_bits_K(nibbles, block->high, group),
                five_bits_K(nibbles + 16, block->high + 16, group),
                vec_float_of_f16(block->scale) * (float)scale,
                -(vec_float_of_f16(block->min) * (float)min), w);
}

INLINE void unpack_Q6_K(const void *row, size_t unit, vec8 w[4]) {
    const struct block_Q6_K *block = (const struct block_Q6_K *)row + unit / 8;
    int half = (int)(unit % 8) / 4, quarter = (int)(unit % 4);
    const uint8_t *nibbles = block->nibbles + half * 64 + quarter % 2 * 32;
    const uint8_t *high = block->high + half * 32;
    float scale = vec_float_of_f16(block->scale);
    for (int i = 0; i < 2; i++) { /* 16 values have a scale */
        bytes16 low = bytes16_bits(bytes16_load(nibbles + i * 16), quarter / 2 * 4, 15);
        bytes16 top = bytes16_up4(bytes16_bits(bytes16_load(high + i * 16), quarter * 2, 3));
        bytes16 value = bytes16_minus(bytes16_or(low, top), 32);
        vec8 s = vec8_set(scale * (float)block->group_scales[unit % 8 * 2 + (size_t)i]);
        w[i * 2] = vec8_mul(s, vec8_of_lower_signed(value));
        w[i * 2 + 1] = vec8_mul(s, vec8_of_upper_signed(value));
    }
}

/* F32, F16, BF16; a row's last values may be no whole unit */
#define UNPACK_PLAIN(id)                                                                           \
    INLINE void unpack_##id(const void *row, size_t unit, vec8 w[4]) {                             \
        const struct block_##id *values = (const struct block_##id *)row + unit * 32;              \
        for (int v = 0; v < 4; v++) w[v] = vec8_load_##id(values + v * 8);                         \
    }
UNPACK_PLAIN(F32)
UNPACK_PLAIN(F16)
UNPACK_PLAIN(BF16)

/* ---- rows of one format; `unpack` and `format` are constants, so all is inlined ---- */

typedef void unpacker(const void *row, size_t unit, vec8 w[4]);

/* The last n < 32 values of a row, and zeros after them. */
INLINE void unpack_last(enum format format, const uint8_t *row, size_t unit, size_t n, vec8 w[4]) {
    float values[32] = {0};
    format_decode(format, row + format_row_bytes(format, unit * 32), values, n);
    for (int v = 0; v < 4; v++) w[v] = vec8_load(values + v * 8);
}

INLINE void decode_row(enum format format, unpacker *unpack, const void *row, float *out,
                       size_t n) {
    size_t n_units = n / 32;
    for (size_t unit = 0; unit < n_units; unit++) {
        vec8 w[4];
        unpack(row, unit, w);
        for (int v = 0; v < 4; v++) vec8_store(out + unit * 32 + v * 8, w[v]);
    }
    if (n % 32)
        format_decode(format, (const uint8_t *)row + format_row_bytes(format, n_units * 32),
                      out + n_units * 32, n % 32);
}

#define DOT_ROWS 4 /* weight rows at once, so that four chains of additions overlap */

/* One segment, the values from .. to, of n_rows rows: 1 or DOT_ROWS, a constant. */
INLINE void dot_segment(enum format format, unpacker *unpack, const uint8_t *w, size_t row_bytes,
                        int n_rows, const float *x, size_t from, size_t to, float *out) {
    vec8 acc[DOT_ROWS], values[4];
    for (int r = 0; r < DOT_ROWS; r++) acc[r] = vec8_zero();
    for (size_t unit = from / 32; unit < to / 32; unit++) {
        UNROLL for (int r = 0; r < n_rows; r++) {
            if (n_rows == DOT_ROWS) /* the rows that come next: caches do not look that far */
                __builtin_prefetch(w + (size_t)(r + DOT_ROWS) * row_bytes +
                                       format_row_bytes(format, unit * 32),
                                   0, 2);
            unpack(w + (size_t)r * row_bytes, unit, values);
            UNROLL for (int v = 0; v < 4; v++) {
                acc[r] = vec8_fma(values[v], vec8_load(x + unit * 32 + v * 8), acc[r]);
            }
        }
    }
    if (to % 32) {
        float last[32] = {0};
        for (size_t i = 0; i < to % 32; i++) last[i] = x[to / 32 * 32 + i];
        UNROLL for (int r = 0; r < n_rows; r++) {
            unpack_last(format, w + (size_t)r * row_bytes, to / 32, to % 32, values);
            UNROLL for (int v = 0; v < 4; v++) {
                acc[r] = vec8_fma(values[v], vec8_load(last + v * 8), acc[r]);
            }
        }
    }
    float sums[4];
    vec8_sum4(acc[0], acc[1], acc[2], acc[3], sums);
    for (int r = 0; r < n_rows; r++) out[r] += sums[r];
}

INLINE void dot_rows(enum format format, unpacker *unpack, const uint8_t *w, size_t row_bytes,
                     int n_rows, const float *x, size_t n, float *out) {
    for (int r = 0; r < n_rows; r++) out[r] = 0;
    for (int r = 0, n_now; r < n_rows; r += n_now) {
        n_now = n_rows - r >= DOT_ROWS ? DOT_ROWS : 1;
        const uint8_t *row = w + (size_t)r * row_bytes;
        for (size_t from = 0; from < n; from += DOT_SEGMENT) {
            size_t to = n - from < DOT_SEGMENT ? n : from + DOT_SEGMENT;
            if (n_now == 1)
                dot_segment(format, unpack, row, row_bytes, 1, x, from, to, out + r);
            else
                dot_segment(format, unpack, row, row_bytes, DOT_ROWS, x, from, to, out + r);
        }
    }
}

#define FORMAT(id, ...)                                                                            \
    static void decode_row_##id(const void *row, float *out, size_t n) {                           \
        decode_row(FORMAT_##id, unpack_##id, row, out, n);                                         \
    }                                                                                              \
    static void dot_rows_##id(const void *w, size_t row_bytes, int n_rows, const float *x,         \
                              size_t n, float *out) {                                              \
        dot_rows(FORMAT_##id, unpack_##id, w, row_bytes, n_rows, x, n, out);                       \
    }
#include "kernels/formats.def"
#undef FORMAT

/* ---- many rows by many rows ---- */

#define GEMM_W 3 /* rows of w at once; GEMM_X of x */

/* 3 rows of w by n_x (a constant) rows of x; the first n_w columns of sums are added to. */
INLINE void gemm_block(struct rows w, struct rows x, int n_x, int n, float *sums, size_t stride) {
    vec8 acc[GEMM_X][GEMM_W], w8[GEMM_W];
    UNROLL for (int j = 0; j < n_x; j++) {
        UNROLL for (int i = 0; i < GEMM_W; i++) {
            acc[j][i] = vec8_zero();
        }
    }
    int k = 0;
    for (; k + 8 <= n; k += 8) {
        UNROLL for (int i = 0; i < GEMM_W; i++) {
            w8[i] = vec8_load(row_at(w, i) + k);
        }
        UNROLL for (int j = 0; j < n_x; j++) {
            vec8 x8 = vec8_load(row_at(x, j) + k);
            UNROLL for (int i = 0; i < GEMM_W; i++) {
                acc[j][i] = vec8_fma(w8[i], x8, acc[j][i]);
            }
        }
    }
    if (k < n) {
        UNROLL for (int j = 0; j < n_x; j++) {
            vec8 x8 = vec8_load_partial(row_at(x, j) + k, n - k);
            UNROLL for (int i = 0; i < GEMM_W; i++) {
                acc[j][i] = vec8_fma(vec8_load_partial(row_at(w, i) + k, n - k), x8, acc[j][i]);
            }
        }
    }
    UNROLL for (int j = 0; j < n_x; j++) {
        float sum[4];
        vec8_sum4(acc[j][0], acc[j][1], acc[j][2], acc[j][2], sum);
        for (int i = 0; i < w.n; i++) sums[(size_t)j * stride + (size_t)i] += sum[i];
    }
}

static void gemm(struct rows w, struct rows x, int n, float *sums, size_t stride) {
    for (int j = 0; j < x.n; j += GEMM_X) {
        struct rows xs = {row_at(x, j), x.stride, x.n - j < GEMM_X ? x.n - j : GEMM_X};
        for (int i = 0; i < w.n; i += GEMM_W) {
            struct rows ws = {row_at(w, i), w.stride, w.n - i < GEMM_W ? w.n - i : GEMM_W};
            float *at = sums + (size_t)j * stride + (size_t)i;
            switch (xs.n) {
            case GEMM_X:
                gemm_block(ws, xs, GEMM_X, n, at, stride);
                break;
#if GEMM_X > 3
            case 3:
                gemm_block(ws, xs, 3, n, at, stride);
                break;
            case 2:
                gemm_block(ws, xs, 2, n, at, stride);
                break;
            case 1:
                gemm_block(ws, xs, 1, n, at, stride);
                break;
#endif
            }
        }
    }
}

#include "kernels/cpu/attend.h"

/* ---- activation ---- */

INLINE wide silu(wide x) {
    wide one = wide_set(1);
    return wide_div(x, wide_add(one, wide_exp(wide_sub(wide_zero(), x))));
}

static void silu_mul(float *y, const float *gate, const float *up, size_t n) {
    size_t i = 0;
    for (; i + WIDE <= n; i += WIDE)
        wide_store(y + i, wide_mul(silu(wide_load(gate + i)), wide_load(up + i)));
    int rest = (int)(n - i);
    if (rest > 0)
        wide_store_partial(
            y + i,
            wide_mul(silu(wide_load_partial(gate + i, rest)), wide_load_partial(up + i, rest)),
            rest);
}

#ifdef LANES /* a strip_*.h was included */
#include "kernels/cpu/strip.h"
#endif

static void to_f16(const float *x, void *out, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8) vec8_store_F16((uint16_t *)out + i, vec8_load(x + i));
    format_encode(FORMAT_F16, x + i, (uint16_t *)out + i, n - i);
}

const struct cpu_variant VARIANT = {
    .name = VARIANT_NAME,
    .needs = VARIANT_NEEDS,
#define FORMAT(id, ...) .decode[FORMAT_##id] = decode_row_##id, .dot[FORMAT_##id] = dot_rows_##id,
#include "kernels/formats.def"
#undef FORMAT
    .gemm = gemm,
#define KV_ENTRY(id) .score[FORMAT_##id] = score_##id, .mix[FORMAT_##id] = mix_##id,
    FOR_KV_FORMATS(KV_ENTRY).softmax = softmax,
    .silu_mul = silu_mul,
    .to_f16 = to_f16,
#ifdef LANES
    .round_row = round_row,
#define STRIP_ENTRY(id, ...) .multiply[FORMAT_##id] = multiply_##id,
    FOR_STRIP_FORMATS(STRIP_ENTRY)
#endif
#ifdef BF16_STEP /* a bf16_*.h was included */
        .round_bf16 = round_bf16,
    .multiply_bf16 = multiply_bf16,
#endif
};
