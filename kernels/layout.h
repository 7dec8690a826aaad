/* The rows of layouts.def as C: an enum, a table, and how rows are packed and unpacked. */
#pragma once

#include "kernels/format.h"

#ifdef __cplusplus
extern "C" {
#endif

enum matrix_layout {
#define LAYOUT(id, ...) LAYOUT_##id,
#include "kernels/layouts.def"
#undef LAYOUT
    N_LAYOUTS
};

struct layout_info {
    const char *name;
    int rows; /* that lie together; a packed matrix has a multiple of them */
    const char *label;
};

extern const struct layout_info layout_table[N_LAYOUTS];

enum { STRIP_ROWS = 16 };

/* Is there such a layout of that format? STORED: always. */
bool layout_has(enum matrix_layout layout, enum format format);

/* Are the bytes other ones than the file's? */
static inline bool layout_is_packed(enum matrix_layout layout) {
    return layout_table[layout].rows > 1;
}

/* Bytes of a matrix, padding included. */
size_t layout_bytes(enum matrix_layout layout, enum format format, size_t rows, size_t cols);

/* Packs 1 to 16 rows, format_row_bytes() apart, into one strip; the rows that lack are zeros. Are
 * all scales, and so all values, finite? */
bool strip_pack(enum format format, const void *rows, int n_rows, size_t cols, void *strip);

/* Row `row` (0 to 15) of a strip, as it was stored. */
void strip_unpack_row(enum format format, const void *strip, int row, size_t cols, void *out);

#ifdef __cplusplus
}
#endif
