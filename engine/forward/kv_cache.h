/*
 * Device memory for keys and values: for each layer k and v as [blocks, G, block_tokens, K], and
 * the ids of the tokens that they belong to, [blocks, block_tokens], which sampling looks at.
 *
 * All of it is taken as one piece of addresses, so that recorded passes and growing chats never
 * see it move. Blocks are handed out from the lowest number (block_manager.h) and memory is not
 * cleared; where the device's pages come with the first write, as on the CPU, a short chat takes
 * the memory of a short chat.
 */
#pragma once

#include "engine/base/err.h"
#include "engine/weights/model_config.h"
#include "kernels/device.h"

/*
 * Tokens per block. A prefix is reused in whole blocks, so a turn computes at most 15 tokens again
 * that it had; larger blocks would waste more, smaller ones mean longer tables and shorter runs of
 * memory in attention (16 keys of one head are 2 to 4 KiB).
 */
enum { KV_BLOCK_TOKENS = 16 };

struct kv_cache {
    struct device *device;
    unsigned char *memory;
    size_t plane_bytes;    /* k or v of one layer */
    struct kv_view layout; /* without pointers */
    int32_t *seen;         /* ids by slot; behind the planes */
    int n_layers, n_blocks;
};

uint64_t kv_cache_bytes_per_token(const struct model_config *config, enum format format);

/* How many blocks hold n tokens. */
int kv_cache_blocks(int n_tokens);

int kv_cache_init(struct kv_cache *kv, struct device *device, const struct model_config *config,
                  enum format format, int n_blocks, struct err *err);
void kv_cache_release(struct kv_cache *kv);

struct kv_view kv_cache_layer(const struct kv_cache *kv, int layer);
