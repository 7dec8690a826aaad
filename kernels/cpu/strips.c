/* Rounding the rows of x, and strips by rows. */
#include "kernels/cpu/strips.h"

#include <assert.h>

enum { UNIT = 32, UNITS_AT_ONCE = 8 };

static size_t rounded_bytes(int n, int width) {
    return (size_t)n * (size_t)(width / UNIT) * sizeof(struct rounded);
}

bool strips_are_few(int n, int width) {
    return n <= FEW_ROWS && rounded_bytes(n, width) <= CPU_SCRATCH_BYTES - STRIPS_SCRATCH;
}

size_t strips_shared_bytes(int n, int width) {
    return strips_are_few(n, width) ? 0 : rounded_bytes(n, width);
}

static void round_one(const struct strip_input *input, int row, struct rounded *out,
                      struct part part) {
    size_t at = (size_t)(input->rows ? input->rows[row] : row);
    int width = input->width;
    const float *x = input->x + at * (size_t)width;
    if (!input->norm) {
        part.variant->round_row(x, (size_t)(width / UNIT), out);
        return;
    }
    float factor = cpu_norm_factor(x, width, input->eps), y[UNITS_AT_ONCE * UNIT];
    for (int i = 0, n; i < width; i += n) {
        n = smaller(UNITS_AT_ONCE * UNIT, width - i);
        cpu_norm_scale(y, x + i, factor, input->norm + i, n);
        part.variant->round_row(y, (size_t)(n / UNIT), out + i / UNIT);
    }
}

struct rounded_rows strips_round(const struct strip_input *input, struct part part) {
    bool is_alone = strips_are_few(input->n, input->width);
    struct rounded *to =
        (struct rounded *)(is_alone ? (char *)part.scratch + STRIPS_SCRATCH : (char *)part.shared);
    struct rounded_rows out = {to, (size_t)(input->width / UNIT), input->n};
    struct range rows = {0, (size_t)input->n};
    if (!is_alone) rows = part_range(part, rows.to, 1);
    for (size_t row = rows.from; row < rows.to; row++)
        round_one(input, (int)row, to + row * out.stride, part);
    if (!is_alone) part_barrier(part);
    return out;
}

struct tiles tiles_begin(size_t n, int n_rows, struct part part) {
    struct range run = part_range(part, n, 1);
    if (n_rows > FEW_ROWS) return (struct tiles){part, n, 0, 0};
    /* a thread without any: its run ends where it begins, which is not 0 */
    return (struct tiles){part, n, run.from == run.to ? n : run.from, run.to > 0 ? run.to : n};
}

void strip_multiply(const struct matrix *w, int strip, struct rounded_rows x, float *out,
                    size_t stride, struct part part) {
    size_t bytes = STRIP_ROWS * format_row_bytes(w->format, (size_t)w->cols);
    part.variant->multiply[w->format]((const char *)w->data + (size_t)strip * bytes,
                                      (size_t)(w->cols / UNIT), x, out, stride);
}
