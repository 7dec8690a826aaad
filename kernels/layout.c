/* The tables of layouts, and packing: the plain text that every device's layout is tested with. */
#include "kernels/layout.h"

#include <string.h>

const struct layout_info layout_table[N_LAYOUTS] = {
#define LAYOUT(id, name, rows, label) [LAYOUT_##id] = {name, rows, label},
#include "kernels/layouts.def"
#undef LAYOUT
};

enum change { SAME, FLIP, SPREAD };

struct strip_field {
    enum format format;
    int offset, bytes, n;
    enum change change;
};

static const struct strip_field strip_fields[] = {
#define STRIP_FIELD(format, offset, bytes, n, change) {FORMAT_##format, offset, bytes, n, change},
#include "kernels/layouts.def"
#undef STRIP_FIELD
};
enum { N_STRIP_FIELDS = sizeof strip_fields / sizeof *strip_fields };

bool layout_has(enum matrix_layout layout, enum format format) {
    if (layout == LAYOUT_STORED) return true;
    if (layout == LAYOUT_ROUNDED) return format == FORMAT_BF16;
    for (int i = 0; i < N_STRIP_FIELDS; i++)
        if (strip_fields[i].format == format) return true;
    return false;
}

size_t layout_bytes(enum matrix_layout layout, enum format format, size_t rows, size_t cols) {
    size_t together = (size_t)layout_table[layout].rows;
    return (rows + together - 1) / together * together * format_row_bytes(format, cols);
}

/* ---- the bits of one word ---- */

/* Moves the bits of `mask` up by `shift`, and those they meet down. */
static uint32_t swap_bits(uint32_t x, uint32_t mask, int shift) {
    uint32_t t = (x ^ x >> shift) & mask;
    return x ^ t ^ t << shift;
}

/* Even bits to the lower half, odd ones to the upper (Warren, Hacker's Delight, 7-2). */
static uint32_t unshuffle(uint32_t x) {
    x = swap_bits(x, 0x22222222, 1);
    x = swap_bits(x, 0x0c0c0c0c, 2);
    x = swap_bits(x, 0x00f000f0, 4);
    return swap_bits(x, 0x0000ff00, 8);
}

static uint32_t shuffle(uint32_t x) {
    x = swap_bits(x, 0x0000ff00, 8);
    x = swap_bits(x, 0x00f000f0, 4);
    x = swap_bits(x, 0x0c0c0c0c, 2);
    return swap_bits(x, 0x22222222, 1);
}

/* A bit's number is rotated by two: i becomes i / 4 + i % 4 * 8. */
static uint32_t pack_word(enum change change, uint32_t x) {
    return change == FLIP ? x ^ 0x80808080 : change == SPREAD ? unshuffle(unshuffle(x)) : x;
}

static uint32_t unpack_word(enum change change, uint32_t x) {
    return change == FLIP ? x ^ 0x80808080 : change == SPREAD ? shuffle(shuffle(x)) : x;
}

/* ---- packing ---- */

/* One field of a block of n_rows rows, row_bytes apart. Those of two bytes are scales, and F16:
 * false where one is not finite. */
static bool pack_field(const struct strip_field *f, const uint8_t *block, size_t row_bytes,
                       int n_rows, uint8_t *out) {
    const uint8_t *from = block + f->offset;
    uint8_t *to = out + f->offset * STRIP_ROWS;
    bool is_finite = true;
    for (int i = 0; i < f->n; i++, from += f->bytes, to += f->bytes * STRIP_ROWS) {
        for (int r = 0; r < n_rows && f->bytes == 2; r++) {
            uint16_t half;
            memcpy(&half, from + (size_t)r * row_bytes, 2);
            is_finite &= (half & 0x7c00) != 0x7c00;
            memcpy(to + r * 2, &half, 2);
        }
        for (int r = 0; r < n_rows && f->bytes == 4; r++) {
            uint32_t word;
            memcpy(&word, from + (size_t)r * row_bytes, 4);
            word = pack_word(f->change, word);
            memcpy(to + r * 4, &word, 4);
        }
    }
    return is_finite;
}

bool strip_pack(enum format format, const void *rows, int n_rows, size_t cols, void *strip) {
    const struct format_info *info = &format_table[format];
    size_t n_blocks = cols / (size_t)info->block_values, row_bytes = format_row_bytes(format, cols);
    size_t block_bytes = (size_t)info->block_bytes;
    bool is_finite = true;
    if (n_rows < STRIP_ROWS) memset(strip, 0, row_bytes * STRIP_ROWS);
    for (int f = 0; f < N_STRIP_FIELDS; f++) {
        if (strip_fields[f].format != format) continue;
        for (size_t b = 0; b < n_blocks; b++)
            is_finite &=
                pack_field(&strip_fields[f], (const uint8_t *)rows + b * block_bytes, row_bytes,
                           n_rows, (uint8_t *)strip + b * block_bytes * STRIP_ROWS);
    }
    return is_finite;
}

static void unpack_field(const struct strip_field *f, const uint8_t *block, int row, uint8_t *out) {
    const uint8_t *from = block + f->offset * STRIP_ROWS + row * f->bytes;
    uint8_t *to = out + f->offset;
    for (int i = 0; i < f->n; i++, from += f->bytes * STRIP_ROWS, to += f->bytes) {
        uint32_t word = 0;
        memcpy(&word, from, (size_t)f->bytes);
        word = unpack_word(f->change, word);
        memcpy(to, &word, (size_t)f->bytes);
    }
}

void strip_unpack_row(enum format format, const void *strip, int row, size_t cols, void *out) {
    const struct format_info *info = &format_table[format];
    size_t n_blocks = cols / (size_t)info->block_values, block_bytes = (size_t)info->block_bytes;
    for (int f = 0; f < N_STRIP_FIELDS; f++) {
        if (strip_fields[f].format != format) continue;
        for (size_t b = 0; b < n_blocks; b++)
            unpack_field(&strip_fields[f], (const uint8_t *)strip + b * block_bytes * STRIP_ROWS,
                         row, (uint8_t *)out + b * block_bytes);
    }
}
