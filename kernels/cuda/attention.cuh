/* What the attention kernels share. */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/rotate.cuh"

struct attention_args {
    void *y;
    const void *q;
    struct kv_view kv;
    enum format activation;
    int heads, window, max_blocks;
    float scale;
    const int *positions, *seq_of, *slots, *starts, *block_table;
    float *partial; /* [T, H, n_splits, K + SUMMARY] */
    int *counters;  /* [T, tiles]: splits that are done; 0 between launches */
    int n_splits;
    int n_rows, n_seqs;
    bool is_decode; /* each sequence has one row */
};

/*
 * attention_tiles.cu: many rows, on tensor cores. OP_NOT_SUPPORTED, and nothing is launched, for
 * cards, caches and head sizes that it has no kernel for.
 */
enum op_status attention_tiles(struct cuda_device *cuda, const struct attention_args &a);

/*
 * attention_split.cu: one row of each sequence, on tensor cores, the keys split over blocks.
 * OP_NOT_SUPPORTED as above.
 */
enum op_status attention_split(struct cuda_device *cuda, const struct attention_args &a);

/* Do the tensor cores take queries of that activation format and keys of that cache as they are?
 * bfloat16 is exact in half. */
static inline bool attention_fits(const struct cuda_device *cuda, const struct attention_args &a) {
    const bool is_exact =
        a.activation == a.kv.format || (a.activation == FORMAT_BF16 && a.kv.format == FORMAT_F16);
    return cuda->capability >= 80 && a.kv.head_size <= 128 && a.kv.head_size % 8 == 0 && is_exact &&
           a.activation != FORMAT_F32;
}

/* ---- rows of the cache and of the result ---- */

static __device__ __forceinline__ int slot_of(const struct attention_args &a, const int *table,
                                              int key) {
    return table[key / a.kv.block_tokens] * a.kv.block_tokens + key % a.kv.block_tokens;
}

/* Value i of a head of row t's result. */
static __device__ __forceinline__ void write_value(const struct attention_args &a, size_t t,
                                                   int head, int i, float value) {
    const size_t row = t * (size_t)a.heads + (size_t)head;
    store_as(a.y, row * (size_t)a.kv.head_size + (size_t)i, a.activation, value);
}

/* ---- keys split over blocks ---- */

enum {
    MOST_SPLITS = 64,
    SUMMARY = 4, /* floats behind a part's values: the largest score, the sum of weights, unused */
};

/* Of the blocks that attend to `n_tiles` tiles of heads in each row: enough for all of the card, as
 * far as there is room for their parts. */
static inline int splits_for(const struct cuda_device *cuda, const struct attention_args &a,
                             int n_tiles, int rows) {
    const size_t part = sizeof(float) * (size_t)a.heads * (size_t)(a.kv.head_size + SUMMARY);
    const size_t room = cuda->partial_bytes / (part * (size_t)rows);
    int n = cuda->n_sms / (n_tiles * rows);
    if (n > MOST_SPLITS) n = MOST_SPLITS;
    if ((size_t)n > room) n = (int)room;
    return n < 1 ? 1 : n;
}

/* Where the splits of row t and this block's tile count themselves; 0 between launches. */
static __device__ __forceinline__ int *counter_of(const struct attention_args &a, size_t t) {
    return a.counters + t * gridDim.y + blockIdx.y;
}

/* Once a block has left its part: is it the last of n? Then it sees the parts of all, and sets the
 * counter to 0 in the end. `is_last`: of the block, in shared memory. */
static __device__ __forceinline__ bool comes_last(int *counter, int n, int *is_last) {
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) *is_last = atomicAdd(counter, 1) == n - 1;
    __syncthreads();
    if (!*is_last) return false;
    __threadfence();
    return true;
}

/* ---- tiles ---- */

/* Where 16-byte piece `piece` of key `key` of a tile lies: pieces of eight neighbouring keys are
 * spread over the banks. */
template <int HEAD> static __device__ __forceinline__ int place_of(int key, int piece) {
    return key * HEAD + ((piece ^ (key & 7)) * 8);
}
