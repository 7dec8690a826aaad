/* Rows by number: embeddings of tokens, and the rows whose logits are wanted. */
#include "kernels/cpu/cpu.h"

#include <string.h>

/* The id that a row stands for; what was not drawn is as good as any. */
static int32_t token_of(const struct op_embed *op, size_t t) {
    int32_t token = op->batch->tokens[t];
    if (token < 0) token = op->drawn[-1 - token];
    return token < 0 ? 0 : token;
}

void cpu_embed(const struct op_embed *op, struct part part) {
    const struct matrix *table = op->table;
    size_t n = (size_t)table->cols, row_bytes = format_row_bytes(table->format, n);
    struct range rows = part_range(part, (size_t)op->batch->n_rows, 1);
    for (size_t t = rows.from; t < rows.to; t++) {
        float *y = (float *)op->y + t * n;
        if (op->batch->slots[t] < 0) { /* padding: its token may be anything */
            memset(y, 0, n * sizeof *y);
            continue;
        }
        int32_t token = token_of(op, t);
        if (op->seen) op->seen[op->batch->slots[t]] = token;
        const char *row = (const char *)table->data + (size_t)token * row_bytes;
        if (table->layout == LAYOUT_STRIPS16) {
            size_t in_strip = (size_t)token % STRIP_ROWS;
            strip_unpack_row(table->format, row - in_strip * row_bytes, (int)in_strip, n,
                             part.scratch);
            row = part.scratch;
        }
        part.variant->decode[table->format](row, y, n);
    }
}

void cpu_gather(const struct op_gather *op, struct part part) {
    size_t n = (size_t)op->n;
    struct range rows = part_range(part, (size_t)op->batch->n_outputs, 1);
    for (size_t r = rows.from; r < rows.to; r++)
        memcpy((float *)op->y + r * n, (const float *)op->x + (size_t)op->batch->outputs[r] * n,
               n * sizeof(float));
}
