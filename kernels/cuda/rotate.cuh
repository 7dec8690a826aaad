/* How one pair of a head is rotated; used by rope and by the fused ops. */
#pragma once

#include "kernels/cuda/numbers.cuh"

/* The arrays of struct op_batch that say how row t is rotated and where its keys go. */
struct row_facts {
    const int *positions, *seq_of, *slots;
    const float *inv_freq, *rope_scale;
};

static inline struct row_facts row_facts_of(const struct op_batch *b) {
    return {b->positions, b->seq_of, b->slots, b->inv_freq, b->rope_scale};
}

/* v1's factor on the query at a position. */
static __device__ __forceinline__ float logn_of(int position, int logn_tokens) {
    if (logn_tokens <= 1 || position < logn_tokens) return 1;
    return logf((float)position + 1) / logf((float)logn_tokens);
}

/* Cosine and sine for pair i of row t, with what logn makes of a query. */
static __device__ __forceinline__ float2 rotation_of(const struct row_facts &rows, size_t t, int i,
                                                     int n_pairs, int logn_tokens, bool is_query) {
    const int position = rows.positions[t], sequence = rows.seq_of[t];
    const float angle = (float)position * rows.inv_freq[(size_t)sequence * (size_t)n_pairs + i];
    float scale = rows.rope_scale[sequence], sine, cosine;
    sincosf(angle, &sine, &cosine);
    if (is_query) scale *= logn_of(position, logn_tokens);
    return make_float2(cosine * scale, sine * scale);
}

/* Where the two values of pair i are in a head. */
static __device__ __forceinline__ int2 pair_at(int i, int n_pairs, bool is_interleaved) {
    return is_interleaved ? make_int2(2 * i, 2 * i + 1) : make_int2(i, i + n_pairs);
}

static __device__ __forceinline__ float2 rotate(float a, float b, float2 by) {
    return make_float2(a * by.x - b * by.y, b * by.x + a * by.y);
}

/* Index in a cache plane of value 0 of a head at a slot. */
static __device__ __forceinline__ size_t cache_row(const struct kv_view &kv, int slot, int head) {
    const size_t block = (size_t)(slot / kv.block_tokens), at = (size_t)(slot % kv.block_tokens);
    return ((block * (size_t)kv.n_kv_heads + (size_t)head) * (size_t)kv.block_tokens + at) *
           (size_t)kv.head_size;
}
