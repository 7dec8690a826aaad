/* Writes keys and values into their slots of the paged cache. */
#include "kernels/cpu/cpu.h"

void cpu_kv_put(const struct kv_view *kv, void *cache, int head, int slot, const float *from,
                struct part part) {
    size_t head_size = (size_t)kv->head_size, block_tokens = (size_t)kv->block_tokens;
    size_t block = (size_t)slot / block_tokens, offset = (size_t)slot % block_tokens;
    size_t row = (block * (size_t)kv->n_kv_heads + (size_t)head) * block_tokens + offset;
    void *to = (char *)cache + format_row_bytes(kv->format, row * head_size);
    if (kv->format == FORMAT_F16)
        part.variant->to_f16(from, to, head_size);
    else
        format_encode(kv->format, from, to, head_size);
}

void cpu_kv_write(const struct op_kv_write *op, struct part part) {
    const struct kv_view *kv = &op->kv;
    struct range rows = part_range(part, (size_t)op->batch->n_rows, 1);
    for (size_t t = rows.from; t < rows.to; t++) {
        int slot = op->batch->slots[t];
        if (slot < 0) continue;
        for (int head = 0; head < kv->n_kv_heads; head++) {
            size_t from = (t * (size_t)kv->n_kv_heads + (size_t)head) * (size_t)kv->head_size;
            cpu_kv_put(kv, kv->k, head, slot, (const float *)op->k + from, part);
            cpu_kv_put(kv, kv->v, head, slot, (const float *)op->v + from, part);
        }
    }
}
