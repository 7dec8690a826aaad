/*
 * Values are drawn from a table of normal deviates (Box and Muller, 1958) that holds each with both
 * signs and has a variance of 1: a draw is then a load, not a logarithm. A block format divides the
 * line from -3 to 3 deviations among its levels; what lies outside gets the last one.
 */
#include "engine/weights/random_blocks.h"

#include "engine/base/mem.h"
#include "kernels/decode.h"

#include <math.h>

enum { TABLE_VALUES = 1 << 16, MAX_BLOCK_VALUES = 256, GROUP_SCALE = 32 };

struct source {
    float normal[TABLE_VALUES];
    uint64_t state;
};

static uint64_t next(struct source *s) { /* splitmix64: Steele, Lea, Flood, 2014 */
    uint64_t z = s->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static double unit(struct source *s) { /* in (0, 1) */
    return ((double)(next(s) >> 11) + 0.5) * 0x1p-53;
}

static void fill_table(struct source *s) {
    const double two_pi = 6.283185307179586;
    double squares = 0;
    for (int i = 0; i < TABLE_VALUES; i += 2) {
        double value = sqrt(-2 * log(unit(s))) * cos(two_pi * unit(s));
        s->normal[i] = (float)value;
        squares += 2 * value * value;
    }
    float scale = (float)sqrt(TABLE_VALUES / squares);
    for (int i = 0; i < TABLE_VALUES; i += 2) {
        s->normal[i] *= scale;
        s->normal[i + 1] = -s->normal[i];
    }
}

static void draw(struct source *s, float *out, int n) {
    for (int i = 0; i < n; i += 4) { /* 16 bits of a random number each */
        uint64_t random = next(s);
        for (int k = 0; k < 4 && i + k < n; k++, random >>= 16)
            out[i + k] = s->normal[random & (TABLE_VALUES - 1)];
    }
}

/* --- levels ----------------------------------------------------------------------------------- */

/* The whole numbers that a format stores: first .. last, and which of them (or between which) is
 * the value 0. */
struct levels {
    int first, last;
    float zero;
};

static struct levels levels_of(enum format format) {
    switch (format) {
    case FORMAT_F32:
    case FORMAT_F16:
    case FORMAT_BF16:
        break;
    case FORMAT_Q8_0:
        return (struct levels){-127, 127, 0};
    case FORMAT_Q4_0:
        return (struct levels){1, 15, 8};
    case FORMAT_Q5_0:
        return (struct levels){1, 31, 16};
    case FORMAT_Q6_K:
        return (struct levels){1, 63, 32};
    case FORMAT_Q4_1:
    case FORMAT_Q4_K:
        return (struct levels){0, 15, 7.5F};
    case FORMAT_Q5_1:
    case FORMAT_Q5_K:
        return (struct levels){0, 31, 15.5F};
    case N_FORMATS:
        break;
    }
    return (struct levels){0};
}

static int level(struct levels l, float deviate) {
    float per_deviation = (float)(l.last - l.first) / 6;
    int nearest = (int)lrintf(deviate * per_deviation + l.zero);
    return nearest < l.first ? l.first : nearest > l.last ? l.last : nearest;
}

/* How far apart levels must be for the values to have that deviation. */
static double step(const struct source *s, struct levels l, double deviation) {
    double squares = 0;
    for (int i = 0; i < TABLE_VALUES; i++) {
        double value = level(l, s->normal[i]) - (double)l.zero;
        squares += value * value;
    }
    return deviation / sqrt(squares / TABLE_VALUES);
}

/* --- packing: the layouts of kernels/decode.h ------------------------------------------------- */

static void put_f16(uint8_t bytes[2], double value) {
    uint16_t half = f16_of_float((float)value);
    bytes[0] = (uint8_t)half;
    bytes[1] = (uint8_t)(half >> 8);
}

static void put_nibbles_32(uint8_t nibbles[16], const int *q) {
    for (int i = 0; i < 16; i++) nibbles[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void put_fifth_bits_32(uint8_t high[4], const int *q) {
    for (int i = 0; i < 4; i++) high[i] = 0;
    for (int i = 0; i < 32; i++) high[i / 8] |= (uint8_t)((q[i] >> 4 & 1) << i % 8);
}

/* All eight scales and minima are GROUP_SCALE, of which the high two bits are kept apart. */
static void put_group_scales(uint8_t packed[12]) {
    for (int i = 0; i < 8; i++) packed[i] = GROUP_SCALE | GROUP_SCALE >> 4 << 6;
    for (int i = 8; i < 12; i++) packed[i] = (GROUP_SCALE & 15) | (GROUP_SCALE & 15) << 4;
}

static void put_nibbles_256(uint8_t nibbles[128], const int *q) {
    for (int i = 0; i < 128; i++) {
        const int *low = q + i / 32 * 64 + i % 32;
        nibbles[i] = (uint8_t)((low[0] & 15) | (low[32] & 15) << 4);
    }
}

static void put_fifth_bits_256(uint8_t high[32], const int *q) {
    for (int i = 0; i < 32; i++) high[i] = 0;
    for (int i = 0; i < 256; i++) high[i % 32] |= (uint8_t)((q[i] >> 4 & 1) << i / 32);
}

static void put_q6_k(struct block_Q6_K *block, const int *q) {
    memset(block, 0, sizeof *block);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, quarter = i / 32 % 4, lane = i % 32;
        block->nibbles[half * 64 + quarter % 2 * 32 + lane] |=
            (uint8_t)((q[i] & 15) << quarter / 2 * 4);
        block->high[half * 32 + lane] |= (uint8_t)((q[i] >> 4) << quarter * 2);
    }
    for (int i = 0; i < 16; i++) block->group_scales[i] = GROUP_SCALE;
}

/* Packs the levels of one block, which are `step` apart and stand for 0 at `zero`. */
static void pack(enum format format, const int *q, double step, double zero, void *out) {
    switch (format) {
    case FORMAT_F32:
    case FORMAT_F16:
    case FORMAT_BF16:
    case N_FORMATS:
        break;
    case FORMAT_Q8_0: {
        struct block_Q8_0 *block = out;
        put_f16(block->scale, step);
        for (int i = 0; i < 32; i++) block->values[i] = (int8_t)q[i];
        break;
    }
    case FORMAT_Q4_0: {
        struct block_Q4_0 *block = out;
        put_f16(block->scale, step);
        put_nibbles_32(block->nibbles, q);
        break;
    }
    case FORMAT_Q4_1: {
        struct block_Q4_1 *block = out;
        put_f16(block->scale, step);
        put_f16(block->min, -zero * step);
        put_nibbles_32(block->nibbles, q);
        break;
    }
    case FORMAT_Q5_0: {
        struct block_Q5_0 *block = out;
        put_f16(block->scale, step);
        put_fifth_bits_32(block->high, q);
        put_nibbles_32(block->nibbles, q);
        break;
    }
    case FORMAT_Q5_1: {
        struct block_Q5_1 *block = out;
        put_f16(block->scale, step);
        put_f16(block->min, -zero * step);
        put_fifth_bits_32(block->high, q);
        put_nibbles_32(block->nibbles, q);
        break;
    }
    case FORMAT_Q4_K: {
        struct block_Q4_K *block = out;
        put_f16(block->scale, step / GROUP_SCALE);
        put_f16(block->min, zero * step / GROUP_SCALE);
        put_group_scales(block->group_scales);
        put_nibbles_256(block->nibbles, q);
        break;
    }
    case FORMAT_Q5_K: {
        struct block_Q5_K *block = out;
        put_f16(block->scale, step / GROUP_SCALE);
        put_f16(block->min, zero * step / GROUP_SCALE);
        put_group_scales(block->group_scales);
        put_fifth_bits_256(block->high, q);
        put_nibbles_256(block->nibbles, q);
        break;
    }
    case FORMAT_Q6_K:
        put_q6_k(out, q);
        put_f16(((struct block_Q6_K *)out)->scale, step / GROUP_SCALE);
        break;
    }
}

/* --- public ----------------------------------------------------------------------------------- */

static void fill_plain(struct source *s, enum format format, double deviation, uint8_t *out,
                       size_t n) {
    float values[MAX_BLOCK_VALUES];
    for (size_t at = 0; at < n; at += MAX_BLOCK_VALUES) {
        size_t some = n - at < MAX_BLOCK_VALUES ? n - at : MAX_BLOCK_VALUES;
        draw(s, values, (int)some);
        for (size_t i = 0; i < some; i++) values[i] *= (float)deviation;
        format_encode(format, values, out + format_row_bytes(format, at), some);
    }
}

static void fill_blocks(struct source *s, enum format format, double deviation, uint8_t *out,
                        size_t n) {
    const struct format_info *info = &format_table[format];
    const struct levels levels = levels_of(format);
    const double distance = step(s, levels, deviation);
    float values[MAX_BLOCK_VALUES];
    int q[MAX_BLOCK_VALUES];
    for (size_t i = 0; i < n; i++, out += info->block_bytes) {
        draw(s, values, info->block_values);
        for (int k = 0; k < info->block_values; k++) q[k] = level(levels, values[k]);
        pack(format, q, distance, (double)levels.zero, out);
    }
}

bool random_blocks(enum format format, double deviation, uint64_t seed, void *out, size_t n) {
    struct source *s = mem_alloc(sizeof *s);
    if (!s) return false;
    s->state = seed;
    fill_table(s);
    if (format_table[format].block_values == 1)
        fill_plain(s, format, deviation, out, n);
    else
        fill_blocks(s, format, deviation, out, n);
    mem_free(s);
    return true;
}
