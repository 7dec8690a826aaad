/* One allocation, cut into the buffers of a pass. */
#include "engine/forward/activations.h"

enum { BUFFER_ALIGNMENT = 64 };

struct layout {
    size_t batch, x, q, y, ffn, scratch, logits, drawn;
    size_t end;
};

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t place(size_t *end, size_t bytes) {
    size_t at = *end;
    *end = (at + bytes + BUFFER_ALIGNMENT - 1) / BUFFER_ALIGNMENT * BUFFER_ALIGNMENT;
    return at;
}

static struct layout layout_of(const struct model_config *c, enum format act,
                               const struct batch_size *size) {
    size_t rows = (size_t)size->max_rows, outputs = (size_t)size->max_outputs;
    size_t hidden = (size_t)c->hidden, ffn = (size_t)c->ffn;
    size_t heads = (size_t)c->n_heads * (size_t)c->head_size;
    size_t kv_heads = (size_t)c->n_kv_heads * (size_t)c->head_size;
    size_t scratch =
        larger(rows * larger(hidden + heads + 2 * kv_heads, hidden + ffn), outputs * hidden);
    struct layout at = {0};
    at.batch = place(&at.end, batch_capacity(size));
    at.x = place(&at.end, format_row_bytes(act, rows * hidden));
    at.ffn = at.q = at.end;
    size_t ffn_end = at.end;
    place(&at.end, format_row_bytes(act, rows * heads));
    at.y = place(&at.end, format_row_bytes(act, rows * heads));
    place(&ffn_end, format_row_bytes(act, rows * ffn));
    at.end = larger(at.end, ffn_end);
    at.scratch = place(&at.end, format_row_bytes(act, scratch));
    at.logits = place(&at.end, outputs * (size_t)c->vocab * sizeof(float));
    at.drawn = place(&at.end, outputs * sizeof(int32_t));
    return at;
}

uint64_t activations_bytes(const struct model_config *c, enum format act,
                           const struct batch_size *size) {
    return layout_of(c, act, size).end;
}

int activations_init(struct activations *a, struct device *device, const struct model_config *c,
                     const struct batch_size *size, struct err *err) {
    const struct layout at = layout_of(c, device->activation, size);
    unsigned char *arena = device->alloc(device, at.end);
    *a = (struct activations){0};
    if (!arena) return err_memory(err, at.end, "the buffers of a pass");
    *a = (struct activations){
        .device = device,
        .arena = arena,
        .batch = arena + at.batch,
        .x = arena + at.x,
        .q = arena + at.q,
        .y = arena + at.y,
        .ffn = arena + at.ffn,
        .scratch = arena + at.scratch,
        .logits = (float *)(void *)(arena + at.logits),
        .drawn = (int32_t *)(void *)(arena + at.drawn),
    };
    return 0;
}

void activations_release(struct activations *a) {
    if (a->arena) a->device->release(a->device, a->arena);
    *a = (struct activations){0};
}

enum op_status activations_upload(const struct activations *a, const struct batch *batch) {
    return a->device->upload(a->device, a->batch, batch->memory, batch_bytes(batch));
}
