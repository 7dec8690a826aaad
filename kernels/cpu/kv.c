/* Writes keys and values into their slots of the paged cache. */
#include "kernels/cpu/cpu.h"

static void write_row(const struct kv_view *kv, void *cache, const void *from, size_t t, int slot) {
    size_t n_heads = (size_t)kv->n_kv_heads, head_size = (size_t)kv->head_size;
    size_t block_tokens = (size_t)kv->block_tokens;
    size_t block = (size_t)slot / block_tokens, offset = (size_t)slot % block_tokens;
    for (size_t head = 0; head < n_heads; head++) {
        size_t row = (block * n_heads + head) * block_tokens + offset;
        format_encode(kv->format, (const float *)from + (t * n_heads + head) * head_size,
                      (char *)cache + format_row_bytes(kv->format, row * head_size), head_size);
    }
}

void cpu_kv_write(const struct op_kv_write *op, struct part part) {
    struct range rows = part_range(part, (size_t)op->batch->n_rows, 1);
    for (size_t t = rows.from; t < rows.to; t++) {
        int slot = op->batch->slots[t];
        if (slot < 0) continue;
        write_row(&op->kv, op->kv.k, op->k, t, slot);
        write_row(&op->kv, op->kv.v, op->v, t, slot);
    }
}
