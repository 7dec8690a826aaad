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

/* Where 16-byte piece `piece` of key `key` of a tile lies: pieces of eight neighbouring keys are
 * spread over the banks. */
template <int HEAD> static __device__ __forceinline__ int place_of(int key, int piece) {
    return key * HEAD + ((piece ^ (key & 7)) * 8);
}
