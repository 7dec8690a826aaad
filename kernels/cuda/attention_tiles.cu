/*
 * attention of many rows: tiles of queries against tiles of keys on the tensor cores, with the
 * softmax carried along (FlashAttention-2, arXiv 2307.08691).
 *
 * The queries that share a key/value head are the rows of one tall matrix, row (token, head within
 * the group), so that a tile of keys is read once for all of them. A block has ROWS of these, of
 * one sequence, 16 in each warp; it goes over the keys in tiles of KEYS, the next of which is on
 * its way from the paged cache while one is computed. Scores are in float; weights are rounded to
 * the cache's format before they meet the values.
 *
 * A value that is not finite, of a key that comes after a row but in the same tile, reaches that
 * row too (0 times it is NaN).
 */
#include "kernels/cuda/attention.cuh"

#include <math_constants.h>

enum { N_WARPS = 8, THREADS = N_WARPS * WARP, ROWS = 16 * N_WARPS, KEYS = 64 };

/* ---- tiles ---- */

/* Which rows a block has. Rows behind the last sequence are padding: they become 0. */
struct tile {
    int sequence; /* -1: nothing to do */
    int first, n; /* tokens of the sequence in this pass */
    int row;      /* of the tall matrix: the tile's first */
};

static __device__ __forceinline__ struct tile find_tile(const struct attention_args &a, int group) {
    int left = (int)blockIdx.x;
    for (int s = 0; s < a.n_seqs; s++) {
        const int first = a.starts[s], n = a.starts[s + 1] - first;
        const int n_tiles = (n * group + ROWS - 1) / ROWS;
        if (left < n_tiles) return {s, first, n, left * ROWS};
        left -= n_tiles;
    }
    return {-1, 0, 0, 0};
}

/* Starts bringing keys [first, first + KEYS) as far as they are before `end`; zeros behind. */
template <typename T, int HEAD>
static __device__ __forceinline__ void fetch_tile(T *k, T *v, const struct attention_args &a,
                                                  const int *table, int kv_head, int first,
                                                  int end) {
    enum { PIECES = HEAD / 8 };
    const int n = a.kv.head_size;
#pragma unroll
    for (int i = (int)threadIdx.x; i < KEYS * PIECES; i += THREADS) {
        const int row = i / PIECES, piece = i % PIECES, key = first + row;
        const bool is_there = key < end && piece * 8 < n;
        size_t from = 0;
        if (is_there) {
            from = cache_row(a.kv, slot_of(a, table, key), kv_head) + (size_t)(piece * 8);
        }
        const int to = place_of<HEAD>(row, piece);
        copy_16_async(k + to, (const T *)a.kv.k + from, is_there ? 16 : 0);
        copy_16_async(v + to, (const T *)a.kv.v + from, is_there ? 16 : 0);
    }
    commit_copies();
}

/* ---- the kernel ---- */

/* A lane's two rows of its warp's 16: lane / 4 and 8 further. */
struct own_rows {
    int token[2], head[2], position[2]; /* token -1: beyond the sequence */
};

static __device__ __forceinline__ struct own_rows find_rows(const struct attention_args &a,
                                                            const struct tile &tile, int group) {
    struct own_rows r;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int row =
            tile.row + (int)threadIdx.x / WARP * 16 + (int)threadIdx.x % WARP / 4 + 8 * i;
        const bool is_there = row < tile.n * group;
        r.token[i] = is_there ? tile.first + row / group : -1;
        r.head[i] = (int)blockIdx.y * group + row % group;
        r.position[i] = is_there ? a.positions[r.token[i]] : -1;
    }
    return r;
}

static __device__ __forceinline__ float query(const struct attention_args &a,
                                              const struct own_rows &rows, int i, int at) {
    if (rows.token[i] < 0 || at >= a.kv.head_size) return 0;
    const size_t row = (size_t)rows.token[i] * (size_t)a.heads + (size_t)rows.head[i];
    return load_as(a.q, row * (size_t)a.kv.head_size + (size_t)at, a.activation);
}

template <typename T, int HEAD>
static __global__ void __launch_bounds__(THREADS) tiles_kernel(const struct attention_args a) {
    enum { STEPS = HEAD / 16, TILE = KEYS * HEAD };
    extern __shared__ __align__(16) unsigned char shared[];
    T *tiles = (T *)shared; /* [2][k, v][KEYS, HEAD] */
    let_next_begin();
    wait_for_previous();
    const int lane = (int)threadIdx.x % WARP, group = a.heads / a.kv.n_kv_heads;
    const int kv_head = (int)blockIdx.y, n = a.kv.head_size;
    const struct tile tile = find_tile(a, group);

    if (blockIdx.x == 0) { /* padding */
        for (int t = a.starts[a.n_seqs]; t < a.n_rows; t++)
            for (int i = (int)threadIdx.x; i < group * n; i += THREADS)
                store_as(a.y,
                         ((size_t)t * (size_t)a.heads + (size_t)(kv_head * group)) * (size_t)n +
                             (size_t)i,
                         a.activation, 0);
    }
    if (tile.sequence < 0) return;
    const struct own_rows rows = find_rows(a, tile, group);
    const int *table = a.block_table + (size_t)tile.sequence * (size_t)a.max_blocks;
    const int last_row = min(tile.row + ROWS, tile.n * group) - 1;
    const int first_position = a.positions[tile.first + tile.row / group];
    const int end = a.positions[tile.first + last_row / group] + 1;
    const int begin = a.window > 0 && first_position + 1 > a.window
                          ? (first_position + 1 - a.window) / KEYS * KEYS
                          : 0;
    fetch_tile<T, HEAD>(tiles, tiles + TILE, a, table, kv_head, begin, end);

    unsigned q[STEPS][4];
    const float scale = a.scale * 1.44269504f; /* of scores: weights are powers of two */
#pragma unroll
    for (int s = 0; s < STEPS; s++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = s * 16 + i / 2 * 8 + lane % 4 * 2;
            q[s][i] = pack_two<T>(query(a, rows, i % 2, at), query(a, rows, i % 2, at + 1));
        }
    float y[HEAD / 8][4], largest[2] = {-CUDART_INF_F, -CUDART_INF_F}, sum[2] = {0, 0};
#pragma unroll
    for (int d = 0; d < HEAD / 8; d++)
#pragma unroll
        for (int i = 0; i < 4; i++) y[d][i] = 0;

    int stage = 0;
    for (int first = begin; first < end; first += KEYS, stage ^= 1) {
        const T *k = tiles + stage * 2 * TILE, *v = k + TILE;
        T *next = tiles + (stage ^ 1) * 2 * TILE;
        if (first + KEYS < end)
            fetch_tile<T, HEAD>(next, next + TILE, a, table, kv_head, first + KEYS, end);
        else
            commit_copies();
        wait_for_copies<1>();
        __syncthreads();

        float scores[KEYS / 8][4];
#pragma unroll
        for (int j = 0; j < KEYS / 16; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) scores[2 * j][i] = scores[2 * j + 1][i] = 0;
#pragma unroll
            for (int s = 0; s < STEPS; s++) {
                unsigned b[4];
                const int key = j * 16 + lane / 16 * 8 + lane % 8, piece = 2 * s + lane / 8 % 2;
                load_matrices(b, k + place_of<HEAD>(key, piece));
                multiply<T>(scores[2 * j], q[s], b[0], b[1]);
                multiply<T>(scores[2 * j + 1], q[s], b[2], b[3]);
            }
        }
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++) scores[j][i] *= scale;
        if (first + KEYS > first_position + 1 || a.window > 0) {
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int key = first + j * 8 + lane % 4 * 2 + i % 2;
                    const int position = rows.position[i / 2];
                    if (key > position || (a.window > 0 && key <= position - a.window))
                        scores[j][i] = -CUDART_INF_F;
                }
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = largest[r];
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++) {
                most = scores[j][2 * r] <= most ? most : scores[j][2 * r];
                most = scores[j][2 * r + 1] <= most ? most : scores[j][2 * r + 1];
            }
#pragma unroll
            for (int step = 1; step < 4; step *= 2) {
                const float other = __shfl_xor_sync(~0u, most, step);
                most = other <= most ? most : other;
            }
            const float base = most == -CUDART_INF_F ? 0 : most; /* no key of this row yet */
            const float factor = exp2f(largest[r] - base);
            largest[r] = most;
            sum[r] *= factor;
#pragma unroll
            for (int d = 0; d < HEAD / 8; d++) y[d][2 * r] *= factor, y[d][2 * r + 1] *= factor;
#pragma unroll
            for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    scores[j][i] = exp2f(scores[j][i] - base);
                    sum[r] += scores[j][i];
                }
        }
#pragma unroll
        for (int j = 0; j < KEYS / 16; j++) {
            const unsigned weights[4] = {pack_two<T>(scores[2 * j][0], scores[2 * j][1]),
                                         pack_two<T>(scores[2 * j][2], scores[2 * j][3]),
                                         pack_two<T>(scores[2 * j + 1][0], scores[2 * j + 1][1]),
                                         pack_two<T>(scores[2 * j + 1][2], scores[2 * j + 1][3])};
#pragma unroll
            for (int d = 0; d < STEPS; d++) {
                unsigned b[4];
                const int key = j * 16 + lane / 8 % 2 * 8 + lane % 8, piece = 2 * d + lane / 16;
                load_transposed(b, v + place_of<HEAD>(key, piece));
                multiply<T>(y[2 * d], weights, b[0], b[1]);
                multiply<T>(y[2 * d + 1], weights, b[2], b[3]);
            }
        }
        __syncthreads(); /* the tile may be overwritten */
    }

#pragma unroll
    for (int r = 0; r < 2; r++) {
        sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
        sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        if (rows.token[r] < 0) continue;
        const size_t row = (size_t)rows.token[r] * (size_t)a.heads + (size_t)rows.head[r];
#pragma unroll
        for (int d = 0; d < HEAD / 8; d++) {
            const int at = d * 8 + lane % 4 * 2;
            if (at >= n) continue;
            store_as(a.y, row * (size_t)n + (size_t)at, a.activation, y[d][2 * r] / sum[r]);
            store_as(a.y, row * (size_t)n + (size_t)(at + 1), a.activation,
                     y[d][2 * r + 1] / sum[r]);
        }
    }
}

template <typename T, int HEAD>
static enum op_status tiles_launch(struct cuda_device *cuda, const struct attention_args &a) {
    const size_t shared = 4 * sizeof(T) * KEYS * HEAD;
    const size_t rows = (size_t)a.n_rows * (size_t)(a.heads / a.kv.n_kv_heads);
    const unsigned n_tiles = blocks_for(rows, ROWS) + (unsigned)a.n_seqs; /* at most */
    const enum op_status status = cuda_status(
        cuda, cudaFuncSetAttribute((const void *)tiles_kernel<T, HEAD>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    if (status != OP_OK) return status;
    return launch(cuda, tiles_kernel<T, HEAD>, dim3(n_tiles, (unsigned)a.kv.n_kv_heads), THREADS,
                  shared, a);
}

template <typename T>
static enum op_status tiles_heads(struct cuda_device *cuda, const struct attention_args &a) {
    if (a.kv.head_size <= 64) return tiles_launch<T, 64>(cuda, a);
    return tiles_launch<T, 128>(cuda, a);
}

enum op_status attention_tiles(struct cuda_device *cuda, const struct attention_args &a) {
    if (!attention_fits(cuda, a)) return OP_NOT_SUPPORTED;
    if (a.kv.format == FORMAT_F16) return tiles_heads<f16>(cuda, a);
    if (a.kv.format == FORMAT_BF16) return tiles_heads<bf16>(cuda, a);
    return OP_NOT_SUPPORTED;
}
