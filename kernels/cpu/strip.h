/*
 * The text of the integer loops: packed weights (layouts.def, STRIPS16) by activations rounded to
 * bytes. A variant_*.c includes a strip_*.h with its vectors, then hot.h, which includes this.
 * Contract: variants.h.
 *
 * A lane is a row of the strip: four of its weights lie in it, and meet the same four values of x
 * in all lanes. So there is no sum across lanes, and a vector of sums is a piece of y.
 *
 * Weights come as unsigned numbers q of `bits` bits: a weight is scale * (q - 2^offset), or
 * scale * q + min. An offset is taken off exactly, as integers: sums start at -2^offset * sum(x).
 */
#include "kernels/decode.h"

/* 32 values of each lane's row. */
struct unit {
    lane_bytes w[8];      /* values 4 v to 4 v + 3 of a lane */
    lane_floats scale[2]; /* of the values 0-15 and 16-31; one for all where the format has one */
    lane_floats min;
};

/* Element i of a field of 4 bytes; `row` is the first row of the lanes. */
INLINE lane_bytes words(const uint8_t *block, int offset, int i, int row) {
    return bytes_load(block + offset * STRIP_ROWS + (i * STRIP_ROWS + row) * 4);
}

INLINE lane_floats f16s(const uint8_t *block, int offset, int row) {
    return floats_of_f16(block + offset * STRIP_ROWS + row * 2);
}

/* 16 bytes hold values 0-15 in their low halves, 16-31 in the high ones. */
INLINE void load_nibbles(const uint8_t *block, int offset, int row, struct unit *u) {
    UNROLL for (int v = 0; v < 4; v++) {
        lane_bytes both = words(block, offset, v, row);
        u->w[v] = bytes_bits(both, 0, 15);
        u->w[v + 4] = bytes_bits(both, 4, 15);
    }
}

INLINE void load_fifth_bits(const uint8_t *block, int offset, int row, struct unit *u) {
    lane_bytes high = words(block, offset, 0, row);
    UNROLL for (int v = 0; v < 8; v++) {
        u->w[v] = bytes_add_bits(u->w[v], high, v, 1, 4);
    }
}

#define BLOCK(id, strip, i) ((strip) + (i) * sizeof(struct block_##id) * STRIP_ROWS)

INLINE void load_Q8_0(const uint8_t *strip, size_t unit, int row, struct unit *u) {
    const uint8_t *block = BLOCK(Q8_0, strip, unit);
    UNROLL for (int v = 0; v < 8; v++) {
        u->w[v] = words(block, 2, v, row);
    }
    u->scale[0] = f16s(block, 0, row);
}

INLINE void load_Q4_0(const uint8_t *strip, size_t unit, int row, struct unit *u) {
    const uint8_t *block = BLOCK(Q4_0, strip, unit);
    load_nibbles(block, 2, row, u);
    u->scale[0] = f16s(block, 0, row);
}

INLINE void load_Q4_1(const uint8_t *strip, size_t unit, int row, struct unit *u) {
    const uint8_t *block = BLOCK(Q4_1, strip, unit);
    load_nibbles(block, 4, row, u);
    u->scale[0] = f16s(block, 0, row);
    u->min = f16s(block, 2, row);
}

INLINE void load_Q5_0(const uint8_t *strip, size_t unit, int row, struct unit *u) {
    const uint8_t *block = BLOCK(Q5_0, strip, unit);
    load_nibbles(block, 6, row, u);
    load_fifth_bits(block, 2, row, u);
    u->scale[0] = f16s(block, 0, row);
}

INLINE void load_Q5_1(const uint8_t *strip, size_t unit, int row, struct unit *u) {
    const uint8_t *block = BLOCK(Q5_1, strip, unit);
    load_nibbles(block, 8, row, u);
    load_fifth_bits(block, 4, row, u);
    u->scale[0] = f16s(block, 0, row);
    u->min = f16s(block, 2, row);
}

/* group_scale_Qx_K() in all lanes: the 12 bytes are three words. */
INLINE void load_scales_K(const uint8_t *block, int group, int row, struct unit *u) {
    lane_bytes scale, min;
    int shift = group % 4 * 8;
    if (group < 4) {
        scale = bytes_shift_words(words(block, 4, 0, row), shift);
        min = bytes_shift_words(words(block, 4, 1, row), shift);
    } else {
        lane_bytes both = bytes_shift_words(words(block, 4, 2, row), shift);
        lane_bytes scale_top = bytes_shift_words(words(block, 4, 0, row), shift + 2);
        lane_bytes min_top = bytes_shift_words(words(block, 4, 1, row), shift + 2);
        scale = bytes_or(bytes_and_word(both, 15), bytes_and_word(scale_top, 48));
        min = bytes_or(bytes_and_word(bytes_shift_words(both, 4), 15), bytes_and_word(min_top, 48));
    }
    u->scale[0] = floats_mul(f16s(block, 0, row), floats_of_bits(scale, 0, 63));
    u->min =
        floats_mul(floats_mul(f16s(block, 2, row), floats_set(-1)), floats_of_bits(min, 0, 63));
}

INLINE void load_nibbles_K(const uint8_t *block, int offset, int group, int row, struct unit *u) {
    UNROLL for (int v = 0; v < 8; v++) {
        u->w[v] = bytes_bits(words(block, offset, group / 2 * 8 + v, row), group % 2 * 4, 15);
    }
}

INLINE void load_Q4_K(const uint8_t *strip, size_t unit, int row, struct unit *u) {
    const uint8_t *block = BLOCK(Q4_K, strip, unit / 8);
    load_nibbles_K(block, 16, (int)(unit % 8), row, u);
    load_scales_K(block, (int)(unit % 8), row, u);
}

INLINE void load_Q5_K(const uint8_t *strip, size_t unit, int row, struct unit *u) {
    const uint8_t *block = BLOCK(Q5_K, strip, unit / 8);
    int group = (int)(unit % 8);
    load_nibbles_K(block, 48, group, row, u);
    UNROLL for (int v = 0; v < 8; v++) {
        lane_bytes high = bytes_bits(words(block, 16, v, row), group, 1);
        u->w[v] = bytes_add_bits(u->w[v], high, 0, 1, 4);
    }
    load_scales_K(block, group, row, u);
}

INLINE void load_Q6_K(const uint8_t *strip, size_t unit, int row, struct unit *u) {
    const uint8_t *block = BLOCK(Q6_K, strip, unit / 8);
    int half = (int)(unit % 8) / 4, quarter = (int)(unit % 4);
    UNROLL for (int v = 0; v < 8; v++) {
        lane_bytes low = words(block, 0, half * 16 + quarter % 2 * 8 + v, row);
        lane_bytes high = bytes_bits(words(block, 128, half * 8 + v, row), quarter * 2, 3);
        u->w[v] = bytes_add_bits(bytes_bits(low, quarter / 2 * 4, 15), high, 0, 3, 4);
    }
    lane_bytes scales = bytes_shift_words(words(block, 192, half * 2 + quarter / 2, row),
                                          quarter % 2 * 16); /* four scales are a word */
    lane_floats scale = f16s(block, 208, row);
    u->scale[0] = floats_mul(scale, floats_of_signed_byte(scales, 0));
    u->scale[1] = floats_mul(scale, floats_of_signed_byte(scales, 1));
}

/* ---- sums; all arguments but the pointers and n_units are constants ---- */

struct strip_facts {
    int bits;   /* of a weight */
    int offset; /* weights are q - 2^offset; 0: none */
    bool has_min;
    bool has_two_scales; /* of 16 values each */
    size_t unit_bytes;   /* of 16 rows */
};

typedef void unit_loader(const uint8_t *strip, size_t unit, int row, struct unit *u);

/* 4 n weights of each lane, w, by n_x rows of x, of which they meet the values from `from` on; the
 * rows' sums are scaled and added to `sums`. */
INLINE void add_values(struct strip_facts facts, const lane_bytes *w, int n, lane_floats scale,
                       const struct rounded *x, size_t stride, int n_x, int from,
                       lane_floats *sums) {
    const int which = !facts.has_two_scales ? 0 : from == 0 ? 1 : 2;
    lane_ints acc[MOST_X];
    UNROLL12 for (int j = 0; j < n_x; j++) {
        acc[j] = facts.offset ? ints_set(x[(size_t)j * stride].minus_sums[which], facts.offset)
                              : ints_set(0, 0);
    }
    ints_dot(acc, w, n, x->q + from, stride * sizeof *x, n_x, facts.bits);
    UNROLL12 for (int j = 0; j < n_x; j++) {
        lane_floats scaled =
            floats_mul(floats_of_ints(acc[j]), floats_set(x[(size_t)j * stride].scale));
        sums[j] = floats_fma(scaled, scale, sums[j]);
    }
}

/* One unit by rows of x, `stride` units apart, added to what the units before it gave. */
INLINE void add_unit(struct strip_facts facts, const struct unit *u, const struct rounded *x,
                     size_t stride, int n_x, lane_floats *sums) {
    if (facts.has_two_scales) {
        add_values(facts, u->w, 4, u->scale[0], x, stride, n_x, 0, sums);
        add_values(facts, u->w + 4, 4, u->scale[1], x, stride, n_x, 16, sums);
        return;
    }
    add_values(facts, u->w, 8, u->scale[0], x, stride, n_x, 0, sums);
    if (!facts.has_min) return;
    UNROLL12 for (int j = 0; j < n_x; j++) {
        sums[j] = floats_fma(u->min, floats_set(x[(size_t)j * stride].sum), sums[j]);
    }
}

/* With few rows of x memory is what takes time: it is asked a page before the weights are needed,
 * for the second level cache. What lies behind a strip is the next one, or is not read after all.
 */
enum { FEW_X = 4, AHEAD_BYTES = 4096 };

INLINE void fetch_ahead(const uint8_t *at, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + AHEAD_BYTES + i, 0, 2);
}

/* n_x rows (a constant), each unit as it is unpacked. */
INLINE void multiply_few(struct strip_facts facts, unit_loader *load, const uint8_t *strip,
                         size_t n_units, struct rounded_rows x, int n_x, int row, float *out,
                         size_t stride) {
    lane_floats sums[MOST_X];
    UNROLL12 for (int j = 0; j < n_x; j++) {
        sums[j] = floats_set(0);
    }
    for (size_t unit = 0; unit < n_units; unit++) {
        struct unit u;
        if (n_x <= FEW_X && row == 0)
            fetch_ahead(strip + unit * facts.unit_bytes, facts.unit_bytes);
        load(strip, unit, row, &u);
        add_unit(facts, &u, x.at + unit, x.stride, n_x, sums);
    }
    UNROLL12 for (int j = 0; j < n_x; j++) {
        floats_store(out + (size_t)j * stride + row, sums[j]);
    }
}

/* n_x rows (a constant) by units that are unpacked; where these are the first, sums begin. */
INLINE void multiply_unpacked(struct strip_facts facts, const struct unit *units, int n_units,
                              bool are_first, const struct rounded *x, size_t x_stride, int n_x,
                              float *out, size_t stride) {
    lane_floats sums[MOST_X];
    UNROLL12 for (int j = 0; j < n_x; j++) {
        sums[j] = are_first ? floats_set(0) : floats_load(out + (size_t)j * stride);
    }
    for (int i = 0; i < n_units; i++) add_unit(facts, &units[i], x + i, x_stride, n_x, sums);
    UNROLL12 for (int j = 0; j < n_x; j++) {
        floats_store(out + (size_t)j * stride, sums[j]);
    }
}

/* Many rows of x: some units are unpacked once, into the first level cache, for all of them. */
enum { UNITS_AT_ONCE = 8 };

INLINE void multiply_many(struct strip_facts facts, unit_loader *load, const uint8_t *strip,
                          size_t n_units, struct rounded_rows x, int row, float *out,
                          size_t stride) {
    struct unit units[UNITS_AT_ONCE];
    for (size_t from = 0; from < n_units; from += UNITS_AT_ONCE) {
        int n = n_units - from < UNITS_AT_ONCE ? (int)(n_units - from) : UNITS_AT_ONCE;
        for (int i = 0; i < n; i++) load(strip, from + (size_t)i, row, &units[i]);
        for (int j = 0, n_x; j < x.n; j += n_x) {
            const struct rounded *at = x.at + (size_t)j * x.stride + from;
            float *to = out + (size_t)j * stride + row;
            n_x = x.n - j >= MOST_X ? MOST_X : x.n - j >= 4 ? 4 : 1;
            if (n_x == MOST_X)
                multiply_unpacked(facts, units, n, from == 0, at, x.stride, MOST_X, to, stride);
            else if (n_x == 4)
                multiply_unpacked(facts, units, n, from == 0, at, x.stride, 4, to, stride);
            else
                multiply_unpacked(facts, units, n, from == 0, at, x.stride, 1, to, stride);
        }
    }
}

INLINE void multiply(struct strip_facts facts, unit_loader *load, const void *strip, size_t n_units,
                     struct rounded_rows x, float *out, size_t stride) {
    for (int row = 0; row < STRIP_ROWS; row += LANES) {
        if (x.n > 2 * FEW_X) {
            multiply_many(facts, load, strip, n_units, x, row, out, stride);
            continue;
        }
        for (int j = 0, n; j < x.n; j += n) {
            struct rounded_rows some = {x.at + (size_t)j * x.stride, x.stride, 0};
            float *to = out + (size_t)j * stride;
            n = x.n - j >= 4 ? 4 : x.n - j >= 2 ? 2 : 1;
            if (n == 4)
                multiply_few(facts, load, strip, n_units, some, 4, row, to, stride);
            else if (n == 2)
                multiply_few(facts, load, strip, n_units, some, 2, row, to, stride);
            else
                multiply_few(facts, load, strip, n_units, some, 1, row, to, stride);
        }
    }
}

/* id, values of a block, bits, offset, has a minimum, has two scales */
#define FOR_STRIP_FORMATS(FORMAT)                                                                  \
    FORMAT(Q8_0, 32, 8, 7, false, false)                                                           \
    FORMAT(Q4_0, 32, 4, 3, false, false)                                                           \
    FORMAT(Q4_1, 32, 4, 0, true, false)                                                            \
    FORMAT(Q5_0, 32, 5, 4, false, false)                                                           \
    FORMAT(Q5_1, 32, 5, 0, true, false)                                                            \
    FORMAT(Q4_K, 256, 4, 0, true, false)                                                           \
    FORMAT(Q5_K, 256, 5, 0, true, false)                                                           \
    FORMAT(Q6_K, 256, 6, 5, false, true)

#define UNIT_BYTES(id, n) (sizeof(struct block_##id) * STRIP_ROWS * 32 / (size_t)(n))

#define STRIP_FUNCTION(id, n, bits, offset, has_min, has_two)                                      \
    static void multiply_##id(const void *strip, size_t n_units, struct rounded_rows x,            \
                              float *out, size_t stride) {                                         \
        multiply((struct strip_facts){bits, offset, has_min, has_two, UNIT_BYTES(id, n)},          \
                 load_##id, strip, n_units, x, out, stride);                                       \
    }
FOR_STRIP_FORMATS(STRIP_FUNCTION)

/* ---- activations ---- */

static void round_row(const float *x, size_t n_units, struct rounded *out) {
    for (size_t unit = 0; unit < n_units; unit++, x += 32, out++) {
        uint32_t bits = largest_bits(x);
        float largest = float_of_bits(bits);
        if (bits >= 0x7f800000) { /* infinity or NaN: whatever uses this row is NaN */
            *out = (struct rounded){.scale = NAN, .sum = NAN};
            continue;
        }
        int32_t sums[2];
        bool is_zero = largest < 0x1p-100f; /* whose inverse might not be finite */
        round_values(x, is_zero ? 0 : 127 / largest, out->q, sums);
        out->scale = is_zero ? 0 : largest / 127;
        out->sum = out->scale * (float)(sums[0] + sums[1]);
        out->minus_sums[0] = -sums[0] - sums[1];
        out->minus_sums[1] = -sums[0];
        out->minus_sums[2] = -sums[1];
    }
}
