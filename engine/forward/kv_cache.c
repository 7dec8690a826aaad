/* One allocation, cut into planes. */
#include "engine/forward/kv_cache.h"

static uint64_t row_values(const struct model_config *c) {
    return (uint64_t)c->n_kv_heads * (uint64_t)c->head_size;
}

uint64_t kv_cache_bytes_per_token(const struct model_config *c, enum format format) {
    return 2 * (uint64_t)c->n_layers * format_row_bytes(format, row_values(c)) + sizeof(int32_t);
}

int kv_cache_blocks(int n_tokens) {
    return n_tokens / KV_BLOCK_TOKENS + (n_tokens % KV_BLOCK_TOKENS != 0);
}

int kv_cache_init(struct kv_cache *kv, struct device *device, const struct model_config *c,
                  enum format format, int n_blocks, struct err *err) {
    size_t n_tokens = (size_t)n_blocks * KV_BLOCK_TOKENS;
    size_t bytes = n_tokens * kv_cache_bytes_per_token(c, format);
    *kv = (struct kv_cache){
        .device = device,
        .plane_bytes = n_tokens * format_row_bytes(format, row_values(c)),
        .layout = {.format = format,
                   .block_tokens = KV_BLOCK_TOKENS,
                   .n_kv_heads = c->n_kv_heads,
                   .head_size = c->head_size},
        .n_layers = c->n_layers,
        .n_blocks = n_blocks,
    };
    kv->memory = device->alloc(device, bytes);
    if (!kv->memory) return err_memory(err, bytes, "the KV cache");
    kv->seen = (int32_t *)(void *)(kv->memory + 2 * (size_t)c->n_layers * kv->plane_bytes);
    return 0;
}

void kv_cache_release(struct kv_cache *kv) {
    if (kv->memory) kv->device->release(kv->device, kv->memory);
    *kv = (struct kv_cache){0};
}

struct kv_view kv_cache_layer(const struct kv_cache *kv, int layer) {
    struct kv_view view = kv->layout;
    view.k = kv->memory + 2 * (size_t)layer * kv->plane_bytes;
    view.v = kv->memory + (2 * (size_t)layer + 1) * kv->plane_bytes;
    return view;
}
