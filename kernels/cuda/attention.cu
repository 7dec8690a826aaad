/*
 * attention over the paged cache.
 *
 * few rows     split over the keys (Flash-Decoding): a block takes a stretch of the keys of one
 *              key/value head for all queries that share it, so that a key is read once. What the
 *              stretches came to is put together, in their order, by the block that is last.
 * one row of each sequence, on tensor cores    attention_split.cu
 * the same, many of them, on Hopper            attention_batch.cu
 * many rows, on Hopper's tensor cores          flash_sm90.cu
 * many rows, on those of other cards           attention_tiles.cu
 * odd heads    a warp for each query, value by value.
 */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_batch.h"
#include "kernels/cuda/flash.h"

#include <math_constants.h>

/* ---- few rows ---- */

enum {
    THREADS = 128,
    VALUES = 8,      /* of a head, in a lane */
    UNROLL = 4,      /* keys that a lane has under way */
    LEAST_KEYS = 64, /* of a split */
};

/* Eight values of a cache as they are stored, then as float. */
template <typename T> struct eight { uint4 v[sizeof(T) / 2]; };
template <typename T> static __device__ __forceinline__ eight<T> load_eight(const T *from) {
    eight<T> e;
#pragma unroll
    for (int i = 0; i < (int)(sizeof(T) / 2); i++) e.v[i] = ((const uint4 *)from)[i];
    return e;
}
template <typename T>
static __device__ __forceinline__ void unpack_eight(const eight<T> &e, float *out) {
#pragma unroll
    for (int i = 0; i < (int)(sizeof(T) / 2); i++) unpack<T>(e.v[i], out + i * per_16<T>);
}

/* What some keys came to for one head: weights relative to e^largest. */
template <int HEADS> struct softmax { float largest[HEADS], sum[HEADS], values[HEADS][VALUES]; };

/* A weight relative to the largest score; nothing seen yet (-infinity) weighs nothing. */
static __device__ __forceinline__ float weight_of(float score, float largest) {
    return score == -CUDART_INF_F ? 0 : __expf(score - largest);
}

template <int HEADS>
static __device__ __forceinline__ void add_key(softmax<HEADS> &s, const float *scores,
                                               const float *v) {
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        if (!(scores[h] <= s.largest[h])) { /* larger, or NaN */
            const float factor = weight_of(s.largest[h], scores[h]);
            s.largest[h] = scores[h];
            s.sum[h] *= factor;
#pragma unroll
            for (int i = 0; i < VALUES; i++) s.values[h][i] *= factor;
        }
        const float weight = weight_of(scores[h], s.largest[h]);
        s.sum[h] += weight;
#pragma unroll
        for (int i = 0; i < VALUES; i++) s.values[h][i] += weight * v[i];
    }
}

/* The keys of row t that split `split` of `n` has; `n` is as many as are worth it. */
struct stretch {
    int begin, end, n;
};
static __device__ __forceinline__ struct stretch stretch_of(int position, int window, int split,
                                                            int n_splits) {
    const int first = window > 0 && position + 1 > window ? position + 1 - window : 0;
    const int n_keys = position + 1 - first;
    const int wanted = (n_keys + LEAST_KEYS - 1) / LEAST_KEYS;
    const int most = wanted < n_splits ? wanted : n_splits;
    const int each = (n_keys + most - 1) / most, n = (n_keys + each - 1) / each;
    const int begin = first + split * each, end = begin + each;
    return {begin, end < position + 1 ? end : position + 1, n};
}

/* Keys j + u * PARTS + part of this lane, u < UNROLL, as far as they lie in [from, to). */
template <typename T> struct some_keys { eight<T> k[UNROLL], v[UNROLL]; };

template <typename T, int PARTS>
static __device__ __forceinline__ void load_keys(some_keys<T> &some, const struct attention_args &a,
                                                 const int *table, int kv_head, int at, int j,
                                                 int from, int to) {
#pragma unroll
    for (int u = 0; u < UNROLL; u++) {
        const int key = j + u * PARTS;
        if (key < from || key >= to || at >= a.kv.head_size) continue;
        const int slot = slot_of(a, table, key);
        const size_t row = cache_row(a.kv, slot, kv_head) + (size_t)at;
        some.k[u] = load_eight((const T *)a.kv.k + row);
        some.v[u] = load_eight((const T *)a.kv.v + row);
    }
}

/* What the parts of a warp came to, in every lane of each: LANES lanes have a head's values. */
template <int HEADS, int LANES>
static __device__ __forceinline__ void merge_warp(softmax<HEADS> &s) {
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
#pragma unroll
        for (int step = LANES; step < WARP; step *= 2) {
            const float other = __shfl_xor_sync(~0u, s.largest[h], step);
            const float largest = other <= s.largest[h] ? s.largest[h] : other;
            const float factor = weight_of(s.largest[h], largest);
            s.largest[h] = largest;
            s.sum[h] *= factor;
            s.sum[h] += __shfl_xor_sync(~0u, s.sum[h], step);
#pragma unroll
            for (int i = 0; i < VALUES; i++) {
                s.values[h][i] *= factor;
                s.values[h][i] += __shfl_xor_sync(~0u, s.values[h][i], step);
            }
        }
    }
}

/* Weights of `n` parts of each head, whose largest scores and sums are at from + part * stride +
 * head * head_stride: what a part's values are multiplied with. A warp takes a head at a time. */
static __device__ __forceinline__ void weigh_parts(float *weights, const float *from, size_t stride,
                                                   size_t head_stride, int n, int n_heads) {
    const int lane = (int)threadIdx.x % WARP;
    for (int h = (int)threadIdx.x / WARP; h < n_heads; h += THREADS / WARP) {
        const float *head = from + (size_t)h * head_stride;
        float largest = -CUDART_INF_F, sum = 0;
        for (int p = lane; p < n; p += WARP) {
            const float score = __ldcg(head + (size_t)p * stride);
            if (!(score <= largest)) largest = score;
        }
#pragma unroll
        for (int step = WARP / 2; step > 0; step /= 2) {
            const float other = __shfl_xor_sync(~0u, largest, step);
            if (!(other <= largest)) largest = other;
        }
        for (int p = lane; p < n; p += WARP) {
            const float *part = head + (size_t)p * stride;
            const float weight = weight_of(__ldcg(part), largest);
            weights[h * MOST_SPLITS + p] = weight;
            sum += weight * __ldcg(part + 1);
        }
        sum = warp_sum(sum);
        __syncwarp();
        for (int p = lane; p < n; p += WARP) weights[h * MOST_SPLITS + p] /= sum;
    }
}

/* The last block of a tile: what all splits left, put together. */
template <int HEADS>
static __device__ __forceinline__ void combine_splits(const struct attention_args &a, size_t t,
                                                      int first_head, int n_heads, const float *own,
                                                      int n_splits, float *weights) {
    const int n = a.kv.head_size;
    const size_t width = (size_t)(n + SUMMARY), head_stride = (size_t)a.n_splits * width;
    weigh_parts(weights, own + n, width, head_stride, n_splits, n_heads);
    __syncthreads();
    for (int x = (int)threadIdx.x * 4; x < n_heads * n; x += THREADS * 4) {
        const int h = x / n, i = x % n;
        const float *from = own + (size_t)h * head_stride + i;
        float y[4] = {0, 0, 0, 0};
#pragma unroll 8
        for (int p = 0; p < n_splits; p++) {
            const float4 part = __ldcg((const float4 *)(from + (size_t)p * width));
            const float weight = weights[h * MOST_SPLITS + p];
            y[0] += weight * part.x, y[1] += weight * part.y;
            y[2] += weight * part.z, y[3] += weight * part.w;
        }
        for (int k = 0; k < 4; k++) write_value(a, t, first_head + h, i + k, y[k]);
    }
}

/* This lane's values of each head; heads that are not there are the first again. */
template <typename A, int HEADS>
static __device__ __forceinline__ void load_queries(float (*q)[VALUES], const A *from, int n_heads,
                                                    int head_size, bool has_values, float scale) {
    eight<A> packed[HEADS];
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        packed[h] = {};
        if (has_values) packed[h] = load_eight(from + (h < n_heads ? h : 0) * head_size);
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        unpack_eight<A>(packed[h], q[h]);
#pragma unroll
        for (int i = 0; i < VALUES; i++) q[h][i] *= scale;
    }
}

/* LANES: that share a key. HEADS: queries in a tile of those that share a key/value head. */
template <typename T, int LANES, int HEADS>
static __global__ void __launch_bounds__(THREADS) split_kernel(const struct attention_args a) {
    enum { PARTS = THREADS / LANES, N_WARPS = THREADS / WARP };
    extern __shared__ float shared[]; /* [N_WARPS, HEADS, K + SUMMARY] */
    __shared__ float weights[HEADS * MOST_SPLITS];
    __shared__ int is_last;
    let_next_begin();
    const size_t t = blockIdx.z;
    const int n = a.kv.head_size, group = a.heads / a.kv.n_kv_heads;
    const int n_tiles = (group + HEADS - 1) / HEADS, tile = (int)blockIdx.y;
    const int kv_head = tile / n_tiles, first_head = kv_head * group + tile % n_tiles * HEADS;
    const int n_heads = min(HEADS, (kv_head + 1) * group - first_head);
    const int split = (int)blockIdx.x;
    /* the batch's arrays are there before the first kernel of a pass */
    if (a.slots[t] < 0) {
        wait_for_previous();
        for (int i = (int)threadIdx.x; split == 0 && i < n_heads * n; i += THREADS)
            write_value(a, t, first_head + i / n, i % n, 0);
        return;
    }
    const int position = a.positions[t];
    const struct stretch keys = stretch_of(position, a.window, split, a.n_splits);
    if (split >= keys.n) {
        wait_for_previous();
        return;
    }
    const int part = (int)threadIdx.x / LANES, at = (int)threadIdx.x % LANES * VALUES;
    const bool has_values = at < n;
    const int *table = a.block_table + (size_t)a.seq_of[t] * (size_t)a.max_blocks;
    /* so are the keys of earlier passes: where each sequence has one row, all but its last */
    const int early = a.is_decode ? min(position, keys.end) : keys.begin;
    some_keys<T> some = {};
    load_keys<T, PARTS>(some, a, table, kv_head, at, keys.begin + part, 0, early);

    wait_for_previous();
    load_keys<T, PARTS>(some, a, table, kv_head, at, keys.begin + part, early, keys.end);
    float q[HEADS][VALUES];
    const size_t q_at = (t * (size_t)a.heads + (size_t)first_head) * (size_t)n + (size_t)at;
    if (a.activation == FORMAT_BF16)
        load_queries<bf16, HEADS>(q, (const bf16 *)a.q + q_at, n_heads, n, has_values, a.scale);
    else if (a.activation == FORMAT_F16)
        load_queries<f16, HEADS>(q, (const f16 *)a.q + q_at, n_heads, n, has_values, a.scale);
    else
        load_queries<float, HEADS>(q, (const float *)a.q + q_at, n_heads, n, has_values, a.scale);
    softmax<HEADS> s;
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
        s.largest[h] = -CUDART_INF_F, s.sum[h] = 0;
#pragma unroll
        for (int i = 0; i < VALUES; i++) s.values[h][i] = 0;
    }

    for (int j = keys.begin + part;; j += PARTS * UNROLL) {
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            float values[VALUES], scores[HEADS];
            unpack_eight<T>(some.k[u], values);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                scores[h] = 0;
#pragma unroll
                for (int i = 0; i < VALUES; i++) scores[h] += q[h][i] * values[i];
            }
#pragma unroll
            for (int step = LANES / 2; step > 0; step /= 2)
#pragma unroll
                for (int h = 0; h < HEADS; h++) scores[h] += __shfl_xor_sync(~0u, scores[h], step);
            unpack_eight<T>(some.v[u], values);
            if (j + u * PARTS < keys.end) add_key<HEADS>(s, scores, values);
        }
        if (j - part + PARTS * UNROLL >= keys.end) break; /* the same for the whole block */
        some = {};
        load_keys<T, PARTS>(some, a, table, kv_head, at, j + PARTS * UNROLL, 0, keys.end);
    }

    /* the parts of the block together */
    merge_warp<HEADS, LANES>(s);
    const size_t width = (size_t)(n + SUMMARY);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    if (lane < LANES) {
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float *to = shared + (size_t)(warp * HEADS + h) * width;
#pragma unroll
            for (int i = 0; i < VALUES; i++)
                if (has_values) to[at + i] = s.values[h][i];
            if (lane == 0) to[n] = s.largest[h], to[n + 1] = s.sum[h];
        }
    }
    __syncthreads();
    float *own =
        a.partial + (t * (size_t)a.heads + (size_t)first_head) * (size_t)a.n_splits * width;
    for (int x = (int)threadIdx.x; x < n_heads * n; x += THREADS) {
        const int h = x / n, i = x % n;
        const float *from = shared + (size_t)h * width;
        float largest = -CUDART_INF_F, sum = 0, value = 0;
#pragma unroll
        for (int p = 0; p < N_WARPS; p++) {
            const float score = from[(size_t)(p * HEADS) * width + (size_t)n];
            if (!(score <= largest)) largest = score;
        }
#pragma unroll
        for (int p = 0; p < N_WARPS; p++) {
            const float *of_part = from + (size_t)(p * HEADS) * width;
            const float factor = weight_of(of_part[n], largest);
            sum += factor * of_part[n + 1];
            value += factor * of_part[i];
        }
        if (keys.n == 1) {
            write_value(a, t, first_head + h, i, value / sum);
            continue;
        }
        float *to = own + ((size_t)h * (size_t)a.n_splits + (size_t)split) * width;
        to[i] = value;
        if (i == 0) to[n] = largest, to[n + 1] = sum;
    }
    if (keys.n == 1) return;

    /* the splits together, by the block that comes last */
    int *counter = counter_of(a, t);
    if (!comes_last(counter, keys.n, &is_last)) return;
    combine_splits<HEADS>(a, t, first_head, n_heads, own, keys.n, weights);
    if (threadIdx.x == 0) *counter = 0;
}

template <typename T, int LANES, int HEADS>
static enum op_status split_launch(struct cuda_device *cuda, struct attention_args a, int rows) {
    const int group = a.heads / a.kv.n_kv_heads;
    const int n_tiles = (group + HEADS - 1) / HEADS * a.kv.n_kv_heads;
    const size_t shared =
        sizeof(float) * (size_t)(THREADS / WARP * HEADS * (a.kv.head_size + SUMMARY));
    a.n_splits = splits_for(cuda, a, n_tiles, rows);
    const enum op_status status = cuda_status(
        cuda, cudaFuncSetAttribute((const void *)split_kernel<T, LANES, HEADS>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    if (status != OP_OK) return status;
    return launch(cuda, split_kernel<T, LANES, HEADS>,
                  dim3((unsigned)a.n_splits, (unsigned)n_tiles, (unsigned)rows), THREADS, shared,
                  a);
}

template <typename T, int LANES>
static enum op_status split_heads(struct cuda_device *cuda, const struct attention_args &a,
                                  int rows) {
    const int group = a.heads / a.kv.n_kv_heads;
    if (group == 1) return split_launch<T, LANES, 1>(cuda, a, rows);
    if (group == 2) return split_launch<T, LANES, 2>(cuda, a, rows);
    if (group <= 4) return split_launch<T, LANES, 4>(cuda, a, rows);
    return split_launch<T, LANES, 8>(cuda, a, rows);
}

template <typename T>
static enum op_status split_keys(struct cuda_device *cuda, const struct attention_args &a,
                                 int rows) {
    if (a.kv.head_size <= 8 * VALUES) return split_heads<T, 8>(cuda, a, rows);
    if (a.kv.head_size <= 16 * VALUES) return split_heads<T, 16>(cuda, a, rows);
    return split_heads<T, 32>(cuda, a, rows);
}

/* ---- any head size ---- */

enum { ANY_VALUES = MAX_HEAD_SIZE / WARP };

static __global__ void any_kernel(const struct attention_args a) {
    let_next_begin();
    wait_for_previous();
    const size_t t = blockIdx.x;
    const int head = (int)(blockIdx.y * (THREADS / WARP) + threadIdx.x / WARP);
    const int lane = (int)threadIdx.x % WARP, n = a.kv.head_size;
    if (head >= a.heads) return;
    const bool is_padding = a.slots[t] < 0;
    const int position = is_padding ? -1 : a.positions[t];
    const int first = a.window > 0 && position + 1 > a.window ? position + 1 - a.window : 0;
    const int *table =
        a.block_table + (is_padding ? 0 : (size_t)a.seq_of[t] * (size_t)a.max_blocks);
    const size_t row = (t * (size_t)a.heads + (size_t)head) * (size_t)n;
    float q[ANY_VALUES], values[ANY_VALUES], largest = -CUDART_INF_F, sum = 0;
#pragma unroll
    for (int i = 0; i < ANY_VALUES; i++) {
        const int at = i * WARP + lane;
        q[i] = at < n ? load_as(a.q, row + (size_t)at, a.activation) * a.scale : 0;
        values[i] = 0;
    }
    for (int j = first; j <= position; j++) {
        const int slot = slot_of(a, table, j);
        const size_t key = cache_row(a.kv, slot, head / (a.heads / a.kv.n_kv_heads));
        float score = 0;
#pragma unroll
        for (int i = 0; i < ANY_VALUES; i++) {
            const int at = i * WARP + lane;
            if (at < n) score += q[i] * load_as(a.kv.k, key + (size_t)at, a.kv.format);
        }
        score = warp_sum(score);
        if (!(score <= largest)) {
            const float factor = weight_of(largest, score);
            largest = score;
            sum *= factor;
#pragma unroll
            for (int i = 0; i < ANY_VALUES; i++) values[i] *= factor;
        }
        const float weight = weight_of(score, largest);
        sum += weight;
#pragma unroll
        for (int i = 0; i < ANY_VALUES; i++) {
            const int at = i * WARP + lane;
            if (at < n) values[i] += weight * load_as(a.kv.v, key + (size_t)at, a.kv.format);
        }
    }
#pragma unroll
    for (int i = 0; i < ANY_VALUES; i++) {
        const int at = i * WARP + lane;
        if (at < n) write_value(a, t, head, at, is_padding ? 0 : values[i] / sum);
    }
}

/* ---- which of them ---- */

enum op_status attention_open(struct cuda_device *cuda) {
    enum { PARTIAL_BYTES = 8 << 20, COUNTERS_BYTES = 64 << 10, APART = 256 };
    cuda->partial_bytes = PARTIAL_BYTES;
    enum op_status status = cuda_status(cuda, cudaMalloc((void **)&cuda->partial, PARTIAL_BYTES));
    if (status == OP_OK)
        status = cuda_status(cuda, cudaMalloc((void **)&cuda->counters, COUNTERS_BYTES + APART));
    if (status == OP_OK)
        status = cuda_status(cuda, cudaMemset(cuda->counters, 0, COUNTERS_BYTES + APART));
    if (status == OP_OK) cuda->next_item = cuda->counters + COUNTERS_BYTES / sizeof(int);
    return status;
}

void attention_close(struct cuda_device *cuda) {
    cudaFree(cuda->partial);
    cudaFree(cuda->counters);
}

/* Where the module has no code for sm_90a, nothing can. */
static enum op_status flash(struct cuda_device *cuda, const struct op_attention *op) {
#ifdef QWEN_CUDA_SM90A
    if (flash_can(cuda, op)) return flash_attention(cuda, op, cuda->next_item);
#endif
    (void)cuda, (void)op;
    return OP_NOT_SUPPORTED;
}

static bool is_aligned(const struct op_attention *op) {
    return op->kv.head_size % VALUES == 0 && (uintptr_t)op->q % 16 == 0 &&
           (uintptr_t)op->kv.k % 16 == 0 && (uintptr_t)op->kv.v % 16 == 0;
}

enum op_status cuda_attention(struct cuda_device *cuda, const struct op_attention *op) {
    const struct op_batch *b = op->batch;
    struct attention_args a = {};
    a.y = op->y, a.q = op->q, a.kv = op->kv;
    a.activation = cuda->base.activation;
    a.heads = op->heads, a.window = op->window, a.scale = op->scale;
    a.max_blocks = b->max_blocks, a.n_rows = b->n_rows, a.n_seqs = b->n_seqs;
    a.positions = b->positions, a.seq_of = b->seq_of, a.slots = b->slots;
    a.starts = b->starts, a.block_table = b->block_table;
    a.partial = cuda->partial, a.counters = cuda->counters;
    a.n_splits = 1;
    a.is_decode = b->n_rows == b->n_seqs;
    const int rows = b->n_rows;
    if (!is_aligned(op))
        return launch(cuda, any_kernel,
                      dim3((unsigned)rows, blocks_for((size_t)op->heads, THREADS / WARP)), THREADS,
                      0, a);
    enum op_status status = OP_NOT_SUPPORTED;
    if (a.is_decode) status = attention_batch(cuda, a);
    if (status != OP_NOT_SUPPORTED) return status;
    if (a.is_decode)
        status = attention_split(cuda, a);
    else if (b->starts)
        status = flash(cuda, op);
    if (!a.is_decode && b->starts && status == OP_NOT_SUPPORTED) status = attention_tiles(cuda, a);
    if (status != OP_NOT_SUPPORTED) return status;
    if (op->kv.format == FORMAT_F16) return split_keys<f16>(cuda, a, rows);
    if (op->kv.format == FORMAT_BF16) return split_keys<bf16>(cuda, a, rows);
    return split_keys<float>(cuda, a, rows);
}
