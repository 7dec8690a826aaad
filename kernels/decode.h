/*
 * What the bits of one block mean: per row of formats.def a packed struct `block_ID` and the
 * reference decoder `decode_ID` (one block to float). The text is C11 and CUDA C++ alike.
 *
 * Blocks are arrays of bytes, so that they may lie at any address of a mapped file. In all of them
 * scale * value is exact in float (at most 23 significant bits), so a fused multiply-add of the
 * minimum rounds the same as a multiplication and an addition.
 *
 * Layouts: the GGUF format's block definitions (ggml documentation); IEEE 754 binary16; bfloat16.
 */
#pragma once

#include "kernels/format.h"

#include <assert.h>
#include <string.h>

#ifdef __CUDACC__
#define DECODE static inline __host__ __device__
#else
#define DECODE static inline
#endif

/* ---- number formats ---- */

DECODE uint32_t bits_of_float(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

DECODE float float_of_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

DECODE uint16_t load_u16(const uint8_t *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

DECODE uint32_t load_u32(const uint8_t *bytes) {
    return load_u16(bytes) | (uint32_t)load_u16(bytes + 2) << 16;
}

DECODE float float_of_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 31, fraction = half & 0x3ff;
    if (exponent == 0) /* zero and subnormals: units of 2^-24 */
        return float_of_bits(bits_of_float((float)fraction * 0x1p-24f) | sign);
    if (exponent == 31) /* NaN becomes quiet, as in hardware */
        return float_of_bits(sign | 0x7f800000 | fraction << 13 | (fraction ? 0x400000 : 0));
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

DECODE float float_of_bf16(uint16_t half) {
    return float_of_bits((uint32_t)half << 16);
}

DECODE uint16_t f16_of_float(float f) {
    uint32_t bits = bits_of_float(f), sign = bits >> 16 & 0x8000, x = bits & 0x7fffffff;
    if (x > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (x >> 13 & 0x3ff));
    if (x >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* 65520 and up round to infinity */
    if (x < 0x38800000) { /* subnormal: at 0.5 a float's last bit is 2^-24, so adding rounds */
        float shifted = float_of_bits(x) + 0.5f;
        return (uint16_t)(sign | (bits_of_float(shifted) - bits_of_float(0.5f)));
    }
    x += 0xfff + (x >> 13 & 1);
    return (uint16_t)(sign | (x - (112u << 23)) >> 13);
}

DECODE uint16_t bf16_of_float(float f) {
    uint32_t x = bits_of_float(f);
    if ((x & 0x7fffffff) > 0x7f800000) return (uint16_t)(x >> 16 | 0x40);
    return (uint16_t)((x + 0x7fff + (x >> 16 & 1)) >> 16);
}

/* ---- blocks ---- */

struct block_F32 {
    uint8_t bits[4];
};
struct block_F16 {
    uint8_t bits[2];
};
struct block_BF16 {
    uint8_t bits[2];
};
struct block_Q8_0 {
    uint8_t scale[2]; /* f16, as all scales and minima below */
    int8_t values[32];
};
struct block_Q4_0 {
    uint8_t scale[2];
    uint8_t nibbles[16]; /* value i in the low half of byte i, value i + 16 in the high half */
};
struct block_Q4_1 {
    uint8_t scale[2], min[2];
    uint8_t nibbles[16];
};
struct block_Q5_0 {
    uint8_t scale[2];
    uint8_t high[4]; /* bit i: the fifth bit of value i */
    uint8_t nibbles[16];
};
struct block_Q5_1 {
    uint8_t scale[2], min[2];
    uint8_t high[4];
    uint8_t nibbles[16];
};
/* K formats: 8 groups of 32 (Q6_K: 16 of 16), whose scales are integers times the block's. */
struct block_Q4_K {
    uint8_t scale[2], min[2];
    uint8_t group_scales[12]; /* group_scale_Qx_K() */
    uint8_t nibbles[128];     /* 32 bytes hold groups 2i (low halves) and 2i + 1 (high halves) */
};
struct block_Q5_K {
    uint8_t scale[2], min[2];
    uint8_t group_scales[12];
    uint8_t high[32]; /* bit g of byte i: the fifth bit of value i of group g */
    uint8_t nibbles[128];
};
struct block_Q6_K {
    uint8_t nibbles[128]; /* of each 128 values: 64 bytes; values 0-63 low halves, 64-127 high */
    uint8_t high[64];     /* of each 128 values: 32 bytes; two bits for values i + 0, 32, 64, 96 */
    int8_t group_scales[16];
    uint8_t scale[2];
};

#define FORMAT(id, name, values, bytes, ...)                                                       \
    static_assert(sizeof(struct block_##id) == (bytes), "size of a block of " name);
#include "kernels/formats.def"
#undef FORMAT

/* The 6-bit scale and minimum of group 0..7 of Q4_K and Q5_K: 4 + 4 whole ones whose spare high
 * bits hold the high bits of the other eight. */
DECODE void group_scale_Qx_K(const uint8_t *packed, int group, int *scale, int *min) {
    if (group < 4) {
        *scale = packed[group] & 63;
        *min = packed[group + 4] & 63;
    } else {
        *scale = (packed[group + 4] & 15) | packed[group - 4] >> 6 << 4;
        *min = packed[group + 4] >> 4 | packed[group] >> 6 << 4;
    }
}

/* ---- reference decoders ---- */

DECODE void decode_F32(const struct block_F32 *block, float *out) {
    *out = float_of_bits(load_u32(block->bits));
}

DECODE void decode_F16(const struct block_F16 *block, float *out) {
    *out = float_of_f16(load_u16(block->bits));
}

DECODE void decode_BF16(const struct block_BF16 *block, float *out) {
    *out = float_of_bf16(load_u16(block->bits));
}

DECODE void decode_Q8_0(const struct block_Q8_0 *block, float *out) {
    float scale = float_of_f16(load_u16(block->scale));
    for (int i = 0; i < 32; i++) out[i] = scale * (float)block->values[i];
}

DECODE void decode_Q4_0(const struct block_Q4_0 *block, float *out) {
    float scale = float_of_f16(load_u16(block->scale));
    for (int i = 0; i < 16; i++) {
        out[i] = scale * (float)((block->nibbles[i] & 15) - 8);
        out[i + 16] = scale * (float)((block->nibbles[i] >> 4) - 8);
    }
}

DECODE void decode_Q4_1(const struct block_Q4_1 *block, float *out) {
    float scale = float_of_f16(load_u16(block->scale)), min = float_of_f16(load_u16(block->min));
    for (int i = 0; i < 16; i++) {
        out[i] = scale * (float)(block->nibbles[i] & 15) + min;
        out[i + 16] = scale * (float)(block->nibbles[i] >> 4) + min;
    }
}

DECODE void decode_Q5_0(const struct block_Q5_0 *block, float *out) {
    float scale = float_of_f16(load_u16(block->scale));
    uint32_t high = load_u32(block->high);
    for (int i = 0; i < 16; i++) {
        int low = (block->nibbles[i] & 15) | (int)(high >> i & 1) << 4;
        int top = block->nibbles[i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
        out[i] = scale * (float)(low - 16);
        out[i + 16] = scale * (float)(top - 16);
    }
}

DECODE void decode_Q5_1(const struct block_Q5_1 *block, float *out) {
    float scale = float_of_f16(load_u16(block->scale)), min = float_of_f16(load_u16(block->min));
    uint32_t high = load_u32(block->high);
    for (int i = 0; i < 16; i++) {
        int low = (block->nibbles[i] & 15) | (int)(high >> i & 1) << 4;
        int top = block->nibbles[i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
        out[i] = scale * (float)low + min;
        out[i + 16] = scale * (float)top + min;
    }
}

DECODE void decode_Q4_K(const struct block_Q4_K *block, float *out) {
    float block_scale = float_of_f16(load_u16(block->scale));
    float block_min = float_of_f16(load_u16(block->min));
    for (int group = 0; group < 8; group++) {
        int group_scale, group_min;
        group_scale_Qx_K(block->group_scales, group, &group_scale, &group_min);
        float scale = block_scale * (float)group_scale, min = block_min * (float)group_min;
        const uint8_t *nibbles = block->nibbles + group / 2 * 32;
        for (int i = 0; i < 32; i++)
            out[group * 32 + i] = scale * (float)(nibbles[i] >> group % 2 * 4 & 15) - min;
    }
}

DECODE void decode_Q5_K(const struct block_Q5_K *block, float *out) {
    float block_scale = float_of_f16(load_u16(block->scale));
    float block_min = float_of_f16(load_u16(block->min));
    for (int group = 0; group < 8; group++) {
        int group_scale, group_min;
        group_scale_Qx_K(block->group_scales, group, &group_scale, &group_min);
        float scale = block_scale * (float)group_scale, min = block_min * (float)group_min;
        const uint8_t *nibbles = block->nibbles + group / 2 * 32;
        for (int i = 0; i < 32; i++) {
            int value = (nibbles[i] >> group % 2 * 4 & 15) | (block->high[i] >> group & 1) << 4;
            out[group * 32 + i] = scale * (float)value - min;
        }
    }
}

DECODE void decode_Q6_K(const struct block_Q6_K *block, float *out) {
    float block_scale = float_of_f16(load_u16(block->scale));
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i / 32 % 4, lane = i % 32;
        int low = block->nibbles[half * 64 + quarter % 2 * 32 + lane] >> quarter / 2 * 4 & 15;
        int high = block->high[half * 32 + lane] >> quarter * 2 & 3;
        float scale = block_scale * (float)block->group_scales[i / 16];
        out[i] = scale * (float)((low | high << 4) - 32);
    }
}
