/* What the attention kernels share. */
#pragma once

#include "kernels/cuda/cuda.h"
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
