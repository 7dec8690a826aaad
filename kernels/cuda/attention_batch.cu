/*
 * attention of one row of each of many sequences (a step of a batch) on Hopper: what counts is that
 * keys and values stream, so that the copy engine brings them and the sequences may be of any
 * length.
 *
 * All tiles of KEYS keys of all rows and key/value heads, in that order, are cut into equal runs,
 * one for each block. So the keys of a row's head may be shared by neighbouring blocks: the one
 * that has the last of them puts the parts together; a block begins with its last row and ends with
 * its first, so that it leaves its part before somebody waits for it (as in skinny.cuh).
 *
 * In a block, each warp takes 16 keys of a tile: one block of the cache, one box of the copy engine
 * for the keys and one for the values, from a ring of its own of DEPTH tiles; so the warps never
 * wait for each other. The queries of a group are the rows of the products (mma.sync). What no
 * earlier kernel of this pass writes is fetched before the kernel before this one has ended.
 *
 * Sums: of a warp's keys in order, then the warps, then the blocks. All of it is fixed by the
 * lengths of all sequences and the number of multiprocessors.
 */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/attention_batch.h"
#include "kernels/cuda/softmax.cuh"
#include "kernels/cuda/tensor_map.cuh"
#include "kernels/cuda/wgmma.cuh"

#include <math_constants.h>

enum {
    N_WARPS = 4,
    THREADS = N_WARPS * WARP,
    BLOCK_KEYS = 16, /* of a warp: a block of the cache */
    KEYS = N_WARPS * BLOCK_KEYS,
    HEADS = 16, /* queries of a product */
    MAX_ROWS = 128,
    ATOM_BYTES = 1024, /* 8 rows of 64 values: what the swizzle repeats after */
    MOST_DEPTH = 3,
};

struct batch_args {
    void *y;
    const void *q;
    struct kv_view kv;
    enum format activation;
    int heads, window, max_blocks, n_rows;
    float scale; /* times log2(e): weights are powers of 2 */
    const int *positions, *seq_of, *slots, *block_table;
    int head_tiles; /* of up to HEADS queries, of all key/value heads */
    int depth;
    float *partial; /* [blocks, HEADS, K + SUMMARY] */
    int *flags;     /* [blocks]: is there a partial result? 0 between launches */
};

/* Keys [first, position] of row t, from `begin`, where their first cache block begins. */
struct key_range {
    int first, begin, position, n_tiles;
};
static __device__ __forceinline__ struct key_range keys_of(const struct batch_args &a, int t) {
    if (a.slots[t] < 0) return {0, 0, -1, 0};
    const int position = a.positions[t];
    const int first = a.window > 0 && position + 1 > a.window ? position + 1 - a.window : 0;
    const int begin = first / BLOCK_KEYS * BLOCK_KEYS;
    return {first, begin, position, (position - begin) / KEYS + 1};
}

/* Tiles of a row's head that a block has. */
struct batch_segment {
    int row, head_tile, begin, end;
    struct key_range keys;
};

/* A block's segments, the last one first. `before` [n_rows + 1]: tiles of a head before each row.
 */
struct batch_walk {
    const int *before;
    int begin, end;

    /* Blocks that have tiles: no empty one lies between two that share a row's head. */
    __device__ static int n_blocks(long long total) {
        return total < (int)gridDim.x ? (int)total : (int)gridDim.x;
    }
    __device__ static int bound(long long total, int block) {
        const int n = n_blocks(total);
        return block >= n ? (int)total : (int)(total * block / n);
    }
    __device__ batch_walk(const struct batch_args &a, const int *before_) : before(before_) {
        const long long total = (long long)before[a.n_rows] * a.head_tiles;
        begin = bound(total, (int)blockIdx.x), end = bound(total, (int)blockIdx.x + 1);
    }
    __device__ bool next(const struct batch_args &a, struct batch_segment *s) {
        if (end <= begin) return false;
        const int last = end - 1;
        int low = 0, high = a.n_rows; /* before[low] * head_tiles <= last < before[high] * … */
        while (high - low > 1) {
            const int middle = (low + high) / 2;
            if (before[middle] * a.head_tiles <= last)
                low = middle;
            else
                high = middle;
        }
        s->row = low;
        s->keys = keys_of(a, low);
        const int within = last - before[low] * a.head_tiles;
        s->head_tile = within / s->keys.n_tiles;
        const int first = before[low] * a.head_tiles + s->head_tile * s->keys.n_tiles;
        s->begin = max(begin - first, 0), s->end = end - first;
        end = first + s->begin;
        return true;
    }
    /* The block that has the segment's row's first tile of that head. */
    __device__ int first_block(const struct batch_args &a, const struct batch_segment &s) const {
        const long long total = (long long)before[a.n_rows] * a.head_tiles;
        const long long tile =
            (long long)before[s.row] * a.head_tiles + s.head_tile * s.keys.n_tiles;
        return (int)(((tile + 1) * n_blocks(total) - 1) / total);
    }
};

/* Tiles of one head before each row, and of all, by the first warp. */
static __device__ __forceinline__ void count_tiles(int *before, const struct batch_args &a) {
    const int lane = (int)threadIdx.x;
    int total = 0;
    for (int from = 0; from < a.n_rows; from += WARP) {
        const int t = from + lane, n = t < a.n_rows ? keys_of(a, t).n_tiles : 0;
        int sum = n;
#pragma unroll
        for (int step = 1; step < WARP; step *= 2) {
            const int other = __shfl_up_sync(~0u, sum, step);
            if (lane >= step) sum += other;
        }
        if (t < a.n_rows) before[t] = total + sum - n;
        total += __shfl_sync(~0u, sum, WARP - 1);
    }
    if (lane == 0) before[a.n_rows] = total;
}

/* ---- a warp's part of a segment ---- */

template <typename T, int HEAD> struct batch_warp {
    enum {
        ATOMS = HEAD / 64,                  /* side by side in a row */
        BOX_BYTES = 2 * ATOMS * ATOM_BYTES, /* 16 keys: [8-row group][atom] */
        STAGE_BYTES = 2 * BOX_BYTES,
        STEPS = HEAD / 16,
    };
    const struct batch_args &a;
    const CUtensorMap *k_map, *v_map;
    char *ring;
    uint64_t *full; /* [depth] */
    const int lane, warp;
    /* what is fetched next, and what is computed next */
    struct batch_walk fetch_walk;
    struct batch_segment fetch_segment;
    int fetch_tile;
    bool has_fetch;
    int fetch_stage, stage;
    unsigned parity;

    float y[HEAD / 8][4], largest[2], sum[2];

    __device__ batch_warp(const struct batch_args &args, const CUtensorMap *k, const CUtensorMap *v,
                          char *memory, uint64_t *barriers, const struct batch_walk &walk)
        : a(args), k_map(k), v_map(v), ring(memory), full(barriers), lane((int)threadIdx.x % WARP),
          warp((int)threadIdx.x / WARP), fetch_walk(walk), fetch_stage(0), stage(0), parity(0) {
        has_fetch = fetch_walk.next(a, &fetch_segment);
        fetch_tile = fetch_segment.begin;
    }

    /* Does the next block to be fetched have the key that this pass writes? */
    __device__ bool is_next_new() const {
        const struct key_range &keys = fetch_segment.keys;
        const int key = keys.begin + fetch_tile * KEYS + warp * BLOCK_KEYS;
        return key + BLOCK_KEYS > keys.position;
    }

    /* Asks for this warp's keys of the next tile; where there are none, the stage is full at once.
     */
    __device__ void fetch() {
        if (!has_fetch) return;
        const struct key_range &keys = fetch_segment.keys;
        const int key = keys.begin + fetch_tile * KEYS + warp * BLOCK_KEYS;
        if (lane == 0) {
            char *to = ring + fetch_stage * STAGE_BYTES;
            uint64_t *barrier = full + fetch_stage;
            if (key <= keys.position) {
                const int kv_head = fetch_segment.head_tile / (a.head_tiles / a.kv.n_kv_heads);
                const int *table =
                    a.block_table + (size_t)a.seq_of[fetch_segment.row] * (size_t)a.max_blocks;
                const int group =
                    (table[key / BLOCK_KEYS] * a.kv.n_kv_heads + kv_head) * (BLOCK_KEYS / 8);
                barrier_arrive_expecting(barrier, STAGE_BYTES);
                copy_box(to, k_map, 0, 0, 0, group, barrier);
                copy_box(to + BOX_BYTES, v_map, 0, 0, 0, group, barrier);
            } else {
                barrier_arrive(barrier);
            }
        }
        if (++fetch_stage == a.depth) fetch_stage = 0;
        if (++fetch_tile == fetch_segment.end) {
            has_fetch = fetch_walk.next(a, &fetch_segment);
            fetch_tile = fetch_segment.begin;
        }
    }

    /* Address of 16-byte piece `piece` of row `row` of a box. */
    static __device__ const char *place(const char *box, int row, int piece) {
        return box + ((row / 8) * ATOMS + piece / 8) * ATOM_BYTES + row % 8 * 128 +
               ((piece % 8) ^ (row % 8)) * 16;
    }

    __device__ void load_queries(unsigned (&q)[STEPS][4], const struct batch_segment &s,
                                 int first_head, int n_heads) const {
        const int n = HEAD;
#pragma unroll
        for (int step = 0; step < STEPS; step++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int head = lane / 4 + i % 2 * 8, at = step * 16 + i / 2 * 8 + lane % 4 * 2;
                const size_t row = (size_t)s.row * (size_t)a.heads + (size_t)(first_head + head);
                q[step][i] = 0;
                if (head >= n_heads) continue;
                unsigned two =
                    *(const unsigned *)((const unsigned short *)a.q + row * (size_t)n + (size_t)at);
                if (std::is_same<T, f16>::value && a.activation == FORMAT_BF16)
                    two = pack_two<f16>(__uint_as_float(two << 16),
                                        __uint_as_float(two & 0xffff0000u));
                q[step][i] = two;
            }
    }

    /* Values of keys that the row does not see may be anything, and zero times it is to be zero. */
    __device__ void clear_unseen(char *v, int key, const struct key_range &keys) const {
        for (int i = lane; i < BLOCK_KEYS * ATOMS * 8; i += WARP) {
            const int row = i / (ATOMS * 8), piece = i % (ATOMS * 8);
            if (key + row < keys.first || key + row > keys.position)
                *(uint4 *)place(v, row, piece) = make_uint4(0, 0, 0, 0);
        }
        stores_are_ready(); /* the copy engine writes there next */
        __syncwarp();
    }

    __device__ void weigh(float (&scores)[2][4], int key, const struct key_range &keys,
                          bool is_edge) {
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = largest[r];
#pragma unroll
            for (int j = 0; j < 2; j++)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    const int own = key + j * 8 + lane % 4 * 2 + i % 2;
                    const bool is_seen = !is_edge || (own >= keys.first && own <= keys.position);
                    scores[j][i] = is_seen ? scores[j][i] * a.scale : -CUDART_INF_F;
                    most = larger_of(most, scores[j][i]);
                }
            most = larger_of(most, __shfl_xor_sync(~0u, most, 1));
            most = larger_of(most, __shfl_xor_sync(~0u, most, 2));
            const float factor = weight_of(largest[r], most);
            largest[r] = most;
            sum[r] *= factor;
#pragma unroll
            for (int d = 0; d < HEAD / 8; d++) y[d][2 * r] *= factor, y[d][2 * r + 1] *= factor;
#pragma unroll
            for (int j = 0; j < 2; j++)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    scores[j][i] = weight_of(scores[j][i], most);
                    sum[r] += scores[j][i];
                }
        }
    }

    /* One tile. */
    __device__ void step(const unsigned (&q)[STEPS][4], const struct batch_segment &s, int tile) {
        const int key = s.keys.begin + tile * KEYS + warp * BLOCK_KEYS;
        char *k = ring + stage * STAGE_BYTES, *v = k + BOX_BYTES;
        barrier_wait(&full[stage], parity, 3);
        if (key <= s.keys.position) {
            const bool is_edge = key < s.keys.first || key + BLOCK_KEYS - 1 > s.keys.position;
            if (is_edge) clear_unseen(v, key, s.keys);
            float scores[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
            for (int i = 0; i < STEPS; i++) {
                unsigned b[4];
                load_matrices(b, place(k, lane / 16 * 8 + lane % 8, 2 * i + lane / 8 % 2));
                multiply<T>(scores[0], q[i], b[0], b[1]);
                multiply<T>(scores[1], q[i], b[2], b[3]);
            }
            weigh(scores, key, s.keys, is_edge);
            const unsigned weights[4] = {
                pack_two<T>(scores[0][0], scores[0][1]), pack_two<T>(scores[0][2], scores[0][3]),
                pack_two<T>(scores[1][0], scores[1][1]), pack_two<T>(scores[1][2], scores[1][3])};
#pragma unroll
            for (int d = 0; d < STEPS; d++) {
                unsigned b[4];
                load_transposed(b, place(v, lane / 8 % 2 * 8 + lane % 8, 2 * d + lane / 16));
                multiply<T>(y[2 * d], weights, b[0], b[1]);
                multiply<T>(y[2 * d + 1], weights, b[2], b[3]);
            }
        }
        if (++stage == a.depth) stage = 0, parity ^= 1;
        __syncwarp(); /* the stage may be filled again */
        fetch();
    }

    __device__ void clear() {
#pragma unroll
        for (int d = 0; d < HEAD / 8; d++)
#pragma unroll
            for (int i = 0; i < 4; i++) y[d][i] = 0;
        largest[0] = largest[1] = -CUDART_INF_F;
        sum[0] = sum[1] = 0;
    }

    /* To parts [N_WARPS, n_heads, HEAD + SUMMARY] in shared memory. */
    __device__ void leave(float *parts, int n_heads) {
        enum { WIDTH = HEAD + SUMMARY };
#pragma unroll
        for (int r = 0; r < 2; r++) {
            const int head = lane / 4 + 8 * r;
            sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
            sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
            if (head >= n_heads) continue;
            float *to = parts + (warp * n_heads + head) * WIDTH;
#pragma unroll
            for (int d = 0; d < HEAD / 8; d++)
                *(float2 *)(to + d * 8 + lane % 4 * 2) = make_float2(y[d][2 * r], y[d][2 * r + 1]);
            if (lane % 4 == 0) *(float2 *)(to + HEAD) = make_float2(largest[r], sum[r]);
        }
    }
};

/* ---- parts together ---- */

/* A sum of weighted values, relative to the largest score. */
struct running {
    float most, total, values[4];

    __device__ void add(float other_most, float other_total, const float4 &other) {
        const float most_of_both = larger_of(most, other_most);
        const float own = weight_of(most, most_of_both);
        const float factor = weight_of(other_most, most_of_both);
        most = most_of_both;
        total = own * total + factor * other_total;
        values[0] = own * values[0] + factor * other.x;
        values[1] = own * values[1] + factor * other.y;
        values[2] = own * values[2] + factor * other.z;
        values[3] = own * values[3] + factor * other.w;
    }
};

/* The warps' parts of a segment: to y, with what other blocks have left, or left for another. */
template <int HEAD>
static __device__ __forceinline__ void
finish_segment(const struct batch_args &a, const struct batch_walk &walk,
               const struct batch_segment &s, int first_head, int n_heads, const float *parts) {
    enum { WIDTH = HEAD + SUMMARY, SOME = 4 };
    const bool is_owner = s.end == s.keys.n_tiles;
    const int first_block = is_owner && s.begin > 0 ? walk.first_block(a, s) : (int)blockIdx.x;
    if (is_owner && s.begin > 0) {
        for (int block = first_block + (int)threadIdx.x; block < (int)blockIdx.x;
             block += THREADS) {
            while (atomicAdd(a.flags + block, 0) == 0) __nanosleep(20);
            a.flags[block] = 0;
            __threadfence();
        }
    }
    __syncthreads(); /* parts are there, and those of the others */
    for (int x = (int)threadIdx.x * 4; x < n_heads * HEAD; x += THREADS * 4) {
        const int h = x / HEAD, i = x % HEAD;
        struct running r = {-CUDART_INF_F, 0, {0, 0, 0, 0}};
#pragma unroll
        for (int w = 0; w < N_WARPS; w++) {
            const float *part = parts + (w * n_heads + h) * WIDTH;
            r.add(part[HEAD], part[HEAD + 1], *(const float4 *)(part + i));
        }
        if (!is_owner) {
            float *to = a.partial + ((size_t)blockIdx.x * HEADS + (size_t)h) * WIDTH;
            __stcg((float4 *)(to + i),
                   make_float4(r.values[0], r.values[1], r.values[2], r.values[3]));
            if (i == 0) __stcg((float2 *)(to + HEAD), make_float2(r.most, r.total));
            continue;
        }
        for (int from = first_block; from < (int)blockIdx.x; from += SOME) {
            float2 summaries[SOME]; /* some at a time: their trips to memory are one */
            float4 values[SOME];
#pragma unroll
            for (int j = 0; j < SOME; j++) {
                const int block = min(from + j, (int)blockIdx.x - 1);
                const float *part = a.partial + ((size_t)block * HEADS + (size_t)h) * WIDTH;
                summaries[j] = __ldcg((const float2 *)(part + HEAD));
                values[j] = __ldcg((const float4 *)(part + i));
            }
#pragma unroll
            for (int j = 0; j < SOME; j++)
                if (from + j < (int)blockIdx.x) r.add(summaries[j].x, summaries[j].y, values[j]);
        }
        const size_t at =
            ((size_t)s.row * (size_t)a.heads + (size_t)(first_head + h)) * HEAD + (size_t)i;
#pragma unroll
        for (int k = 0; k < 4; k++)
            store_as(a.y, at + (size_t)k, a.activation, r.values[k] / r.total);
    }
    __syncthreads(); /* parts may be written again; what is left for others is written */
    if (!is_owner && threadIdx.x == 0) {
        __threadfence();
        atomicExch(a.flags + blockIdx.x, 1);
    }
}

template <typename T, int HEAD>
static __global__ void __launch_bounds__(THREADS, 2)
    batch_kernel(const __grid_constant__ struct batch_args a,
                 const __grid_constant__ CUtensorMap k_map,
                 const __grid_constant__ CUtensorMap v_map) {
    typedef batch_warp<T, HEAD> warp_type;
    extern __shared__ unsigned char shared[];
    __shared__ int before[MAX_ROWS + 1];
    __shared__ uint64_t full[N_WARPS][MOST_DEPTH];
    char *rings = (char *)shared + (ATOM_BYTES - shared_address(shared) % ATOM_BYTES) % ATOM_BYTES;
    float *parts = (float *)(rings + N_WARPS * a.depth * warp_type::STAGE_BYTES);
    const int warp = (int)threadIdx.x / WARP;
    const int group = a.heads / a.kv.n_kv_heads, tiles = a.head_tiles / a.kv.n_kv_heads;

    /* the batch's arrays are there before the first kernel of a pass */
    if (warp == 0) count_tiles(before, a);
    if (threadIdx.x < N_WARPS * MOST_DEPTH)
        barrier_init(&full[threadIdx.x / MOST_DEPTH][threadIdx.x % MOST_DEPTH], 1);
    if (threadIdx.x < N_WARPS * MOST_DEPTH) barriers_are_ready();
    __syncthreads();
    struct batch_walk walk(a, before);
    warp_type w(a, &k_map, &v_map, rings + warp * a.depth * warp_type::STAGE_BYTES, full[warp],
                walk);
    int n_early = 0;
    while (n_early < a.depth && w.has_fetch && !w.is_next_new()) w.fetch(), n_early++;
    let_next_begin(); /* with this ring filled: its copies come before the next kernel's */
    wait_for_previous();
    for (; n_early < a.depth; n_early++) w.fetch();

    for (int t = (int)blockIdx.x; t < a.n_rows; t += (int)gridDim.x)
        for (int i = (int)threadIdx.x; a.slots[t] < 0 && i < a.heads * HEAD; i += THREADS)
            store_as(a.y, (size_t)t * (size_t)(a.heads * HEAD) + (size_t)i, a.activation, 0);
    struct batch_segment s;
    while (walk.next(a, &s)) {
        const int kv_head = s.head_tile / tiles;
        const int first_head = kv_head * group + s.head_tile % tiles * HEADS;
        const int n_heads = min(HEADS, (kv_head + 1) * group - first_head);
        unsigned q[warp_type::STEPS][4];
        w.load_queries(q, s, first_head, n_heads);
        w.clear();
        for (int tile = s.begin; tile < s.end; tile++) w.step(q, s, tile);
        w.leave(parts, n_heads);
        finish_segment<HEAD>(a, walk, s, first_head, n_heads, parts);
    }
}

/* ---- the host's side ---- */

template <typename T, int HEAD>
static enum op_status batch_launch(struct cuda_device *cuda, const struct attention_args &from) {
    typedef batch_warp<T, HEAD> warp_type;
    enum { MOST_SHARED = 113 << 10 }; /* so that two blocks have room */
    const int group = from.heads / from.kv.n_kv_heads;
    struct batch_args a = {};
    a.y = from.y, a.q = from.q, a.kv = from.kv, a.activation = from.activation;
    a.heads = from.heads, a.window = from.window, a.max_blocks = from.max_blocks;
    a.n_rows = from.n_rows, a.scale = from.scale * 1.44269504f;
    a.positions = from.positions, a.seq_of = from.seq_of, a.slots = from.slots;
    a.block_table = from.block_table;
    a.head_tiles = (group + HEADS - 1) / HEADS * from.kv.n_kv_heads;
    if (from.n_rows * a.head_tiles <= cuda->n_sms) return OP_NOT_SUPPORTED; /* attention_split() */
    const int blocks = 2 * cuda->n_sms;
    const size_t part = sizeof(float) * HEADS * (HEAD + SUMMARY);
    a.partial = from.partial, a.flags = from.counters;
    if (part * (size_t)blocks > cuda->partial_bytes) return OP_NOT_SUPPORTED;
    /* groups of 8 rows, 64 columns at a time; who wrote block_table knows how many there are */
    const cuuint64_t row = 2 * HEAD;
    const cuuint64_t sizes[4] = {64, 8, warp_type::ATOMS, 0x0fffffff};
    const cuuint64_t strides[3] = {row, 128, 8 * row};
    const cuuint32_t box[4] = {64, 8, warp_type::ATOMS, BLOCK_KEYS / 8};
    CUtensorMap k_map, v_map;
    if (!tensor_map(&k_map, from.kv.format, from.kv.k, 4, sizes, strides, box) ||
        !tensor_map(&v_map, from.kv.format, from.kv.v, 4, sizes, strides, box))
        return OP_NOT_SUPPORTED;
    const size_t parts =
        sizeof(float) * N_WARPS * (size_t)(group < HEADS ? group : HEADS) * (HEAD + SUMMARY);
    const size_t stage = (size_t)N_WARPS * warp_type::STAGE_BYTES;
    a.depth = MOST_DEPTH;
    while (a.depth > 1 && ATOM_BYTES + (size_t)a.depth * stage + parts + 1024 > MOST_SHARED)
        a.depth--;
    const size_t shared = ATOM_BYTES + (size_t)a.depth * stage + parts;
    const enum op_status status = cuda_status(
        cuda, cudaFuncSetAttribute((const void *)batch_kernel<T, HEAD>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    if (status != OP_OK) return status;
    return launch(cuda, batch_kernel<T, HEAD>, dim3((unsigned)blocks), THREADS, shared, a, k_map,
                  v_map);
}

enum op_status attention_batch(struct cuda_device *cuda, const struct attention_args &a) {
    const int n = a.kv.head_size;
    if (cuda->capability != 90 || !attention_fits(cuda, a) || !a.is_decode || a.n_rows > MAX_ROWS ||
        a.kv.block_tokens != BLOCK_KEYS || (n != 64 && n != 128))
        return OP_NOT_SUPPORTED;
    if (a.kv.format == FORMAT_F16)
        return n == 64 ? batch_launch<f16, 64>(cuda, a) : batch_launch<f16, 128>(cuda, a);
    return n == 64 ? batch_launch<bf16, 64>(cuda, a) : batch_launch<bf16, 128>(cuda, a);
}
