/*
 * attention of one row of each sequence (a step of decoding) on the tensor cores, split over the
 * keys (Flash-Decoding): what counts is that all of the card reads keys and values, each once, and
 * that little stands between the last kernel's end and this one's.
 *
 * A block has a stretch of the keys of one key/value head, for up to 16 queries that share it: the
 * rows of its matrix. Its warps take 16 keys each of a tile of KEYS, from tiles of their own in
 * shared memory, so that they never wait for each other; DEPTH tiles are on their way. Keys of
 * earlier passes are fetched before the kernel before this one has ended; only the newest is not.
 * At the end the warps' results are put together, then those of the blocks, by the last of them.
 */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/softmax.cuh"

enum {
    N_WARPS = 4,
    THREADS = N_WARPS * WARP,
    KEYS = 16 * N_WARPS,
    HEADS = 16, /* queries of a tile */
    DEPTH = 3,
    LEAST_KEYS = KEYS, /* of a split */
};

struct split {
    int begin, end, n; /* keys; splits that have some */
};

static __device__ __forceinline__ struct split split_of(int position, int window, int index,
                                                        int n_splits) {
    const int first = window > 0 && position + 1 > window ? position + 1 - window : 0;
    const int n_keys = position + 1 - first, wanted = (n_keys + LEAST_KEYS - 1) / LEAST_KEYS;
    const int most = min(wanted, n_splits);
    const int each = ((n_keys + most - 1) / most + KEYS - 1) / KEYS * KEYS;
    const int begin = first + index * each;
    return {begin, min(begin + each, position + 1), (n_keys + each - 1) / each};
}

/* Starts bringing those of this warp's 16 keys from `first` on that lie in [from, to). What lies
 * at or behind `end` becomes zero with the first call, whose `from` is not above it. */
template <typename T, int HEAD>
static __device__ __forceinline__ void fetch_keys(T *k, T *v, const struct attention_args &a,
                                                  const int *table, int kv_head, int first,
                                                  int from, int to, int end, bool with_zeros) {
    enum { PIECES = HEAD / 8 };
#pragma unroll
    for (int i = (int)threadIdx.x % WARP; i < 16 * PIECES; i += WARP) {
        const int row = i / PIECES, piece = i % PIECES, key = first + row;
        const bool is_wanted = key >= from && key < to && piece * 8 < a.kv.head_size;
        if (!is_wanted && !(with_zeros && (key >= end || piece * 8 >= a.kv.head_size))) continue;
        size_t at = 0;
        if (is_wanted) {
            at = cache_row(a.kv, slot_of(a, table, key), kv_head) + (size_t)(piece * 8);
        }
        const int place = place_of<HEAD>(row, piece);
        copy_16_async(k + place, (const T *)a.kv.k + at, is_wanted ? 16 : 0);
        copy_16_async(v + place, (const T *)a.kv.v + at, is_wanted ? 16 : 0);
    }
}

/* Factors for n parts of each head whose summaries are at from + part * stride + head *
 * head_stride, so that the sum of parts times factors is the result. A warp takes a head. */
static __device__ __forceinline__ void weigh_parts(float *factors, const float *from, size_t stride,
                                                   size_t head_stride, int n, int n_heads) {
    const int lane = (int)threadIdx.x % WARP;
    for (int h = (int)threadIdx.x / WARP; h < n_heads; h += N_WARPS) {
        float score[2] = {-CUDART_INF_F, -CUDART_INF_F}, sum[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int p = i * WARP + lane;
            if (p >= n) continue;
            const float2 part =
                __ldcg((const float2 *)(from + (size_t)h * head_stride + (size_t)p * stride));
            score[i] = part.x, sum[i] = part.y;
        }
        float largest = larger_of(score[0], score[1]);
#pragma unroll
        for (int step = WARP / 2; step > 0; step /= 2)
            largest = larger_of(largest, __shfl_xor_sync(~0u, largest, step));
        const float weights[2] = {weight_of(score[0], largest), weight_of(score[1], largest)};
        const float total = warp_sum(weights[0] * sum[0] + weights[1] * sum[1]);
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (i * WARP + lane < n)
                factors[h * MOST_SPLITS + i * WARP + lane] = weights[i] / total;
    }
}

template <typename T, int HEAD>
static __global__ void __launch_bounds__(THREADS, 3) split_kernel(const struct attention_args a) {
    enum { STEPS = HEAD / 16, TILE = 16 * HEAD, STAGE = N_WARPS * 2 * TILE };
    extern __shared__ __align__(16) unsigned char shared[];
    __shared__ float factors[HEADS * MOST_SPLITS];
    __shared__ int is_last;
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int n = a.kv.head_size, group = a.heads / a.kv.n_kv_heads;
    const int n_tiles = (group + HEADS - 1) / HEADS, kv_head = (int)blockIdx.y / n_tiles;
    const int first_head = kv_head * group + (int)blockIdx.y % n_tiles * HEADS;
    const int n_heads = min(HEADS, (kv_head + 1) * group - first_head);
    const size_t t = blockIdx.z;

    let_next_begin();
    /* the batch's arrays are there before the first kernel of a pass */
    if (a.slots[t] < 0) {
        wait_for_previous();
        for (int i = (int)threadIdx.x; blockIdx.x == 0 && i < n_heads * n; i += THREADS)
            write_value(a, t, first_head + i / n, i % n, 0);
        return;
    }
    const int position = a.positions[t];
    const struct split keys = split_of(position, a.window, (int)blockIdx.x, a.n_splits);
    if ((int)blockIdx.x >= keys.n) {
        wait_for_previous();
        return;
    }
    const int *table = a.block_table + (size_t)a.seq_of[t] * (size_t)a.max_blocks;
    T *tiles = (T *)shared + warp * 2 * TILE;
    const int n_rounds = (keys.end - keys.begin + KEYS - 1) / KEYS;
    const int early_end = min(keys.end, position); /* of keys that are there already */
#pragma unroll
    for (int r = 0; r < DEPTH; r++) {
        T *k = tiles + r * STAGE;
        const int first = keys.begin + r * KEYS + warp * 16;
        if (r < n_rounds)
            fetch_keys<T, HEAD>(k, k + TILE, a, table, kv_head, first, 0, early_end, keys.end,
                                true);
        if (r < DEPTH - 1) commit_copies(); /* the last group is closed below */
    }

    wait_for_previous();
    /* the newest key joins the last group: so all of the ring is awaited where it is in there */
    const bool has_newest = keys.end > position && n_rounds <= DEPTH;
    if (has_newest) {
        T *k = tiles + (n_rounds - 1) * STAGE;
        const int first = keys.begin + (n_rounds - 1) * KEYS + warp * 16;
        fetch_keys<T, HEAD>(k, k + TILE, a, table, kv_head, first, position, keys.end, keys.end,
                            false);
    }
    commit_copies();

    unsigned q[STEPS][4];
#pragma unroll
    for (int s = 0; s < STEPS; s++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int head = lane / 4 + i % 2 * 8, at = s * 16 + i / 2 * 8 + lane % 4 * 2;
            const size_t row = t * (size_t)a.heads + (size_t)(first_head + head);
            q[s][i] = 0;
            if (head >= n_heads || at >= n) continue;
            unsigned two =
                *(const unsigned *)((const unsigned short *)a.q + row * (size_t)n + (size_t)at);
            if (std::is_same<T, f16>::value && a.activation == FORMAT_BF16)
                two = pack_two<f16>(__uint_as_float(two << 16), __uint_as_float(two & 0xffff0000u));
            q[s][i] = two;
        }
    float y[HEAD / 8][4], largest[2] = {-CUDART_INF_F, -CUDART_INF_F}, sum[2] = {0, 0};
#pragma unroll
    for (int d = 0; d < HEAD / 8; d++)
#pragma unroll
        for (int i = 0; i < 4; i++) y[d][i] = 0;
    const float scale = a.scale * 1.44269504f; /* weights are powers of two */

    if (has_newest) wait_for_copies<0>();
    for (int round = 0, stage = 0; round < n_rounds;
         round++, stage = stage + 1 == DEPTH ? 0 : stage + 1) {
        T *k = tiles + stage * STAGE, *v = k + TILE;
        const int first = keys.begin + round * KEYS + warp * 16;
        wait_for_copies<DEPTH - 1>();
        __syncwarp();
        float scores[2][4] = {{0, 0, 0, 0}, {0, 0, 0, 0}};
#pragma unroll
        for (int s = 0; s < STEPS; s++) {
            unsigned b[4];
            load_matrices(b, k + place_of<HEAD>(lane / 16 * 8 + lane % 8, 2 * s + lane / 8 % 2));
            multiply<T>(scores[0], q[s], b[0], b[1]);
            multiply<T>(scores[1], q[s], b[2], b[3]);
        }
#pragma unroll
        for (int r = 0; r < 2; r++) {
            float most = largest[r];
#pragma unroll
            for (int j = 0; j < 2; j++)
#pragma unroll
                for (int i = 2 * r; i < 2 * r + 2; i++) {
                    const int key = first + j * 8 + lane % 4 * 2 + i % 2;
                    scores[j][i] = key < keys.end ? scores[j][i] * scale : -CUDART_INF_F;
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
        const unsigned weights[4] = {
            pack_two<T>(scores[0][0], scores[0][1]), pack_two<T>(scores[0][2], scores[0][3]),
            pack_two<T>(scores[1][0], scores[1][1]), pack_two<T>(scores[1][2], scores[1][3])};
#pragma unroll
        for (int d = 0; d < STEPS; d++) {
            unsigned b[4];
            load_transposed(b, v + place_of<HEAD>(lane / 8 % 2 * 8 + lane % 8, 2 * d + lane / 16));
            multiply<T>(y[2 * d], weights, b[0], b[1]);
            multiply<T>(y[2 * d + 1], weights, b[2], b[3]);
        }
        __syncwarp(); /* the tile may be overwritten */
        if (round + DEPTH < n_rounds)
            fetch_keys<T, HEAD>(k, v, a, table, kv_head, first + DEPTH * KEYS, 0, keys.end,
                                keys.end, true);
        commit_copies();
    }

    /* the warps together, in the ring's place */
    wait_for_copies<0>();
    __syncthreads();
    const size_t width = (size_t)(n + SUMMARY);
    float *parts = (float *)shared; /* [N_WARPS, HEADS, width] */
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int head = lane / 4 + 8 * r;
        sum[r] += __shfl_xor_sync(~0u, sum[r], 1);
        sum[r] += __shfl_xor_sync(~0u, sum[r], 2);
        if (head >= n_heads) continue;
        float *to = parts + (size_t)(warp * HEADS + head) * width;
#pragma unroll
        for (int d = 0; d < HEAD / 8; d++) {
            const int at = d * 8 + lane % 4 * 2;
            if (at < n) to[at] = y[d][2 * r], to[at + 1] = y[d][2 * r + 1];
        }
        if (lane % 4 == 0) to[n] = largest[r], to[n + 1] = sum[r];
    }
    __syncthreads();
    float *own =
        a.partial + (t * (size_t)a.heads + (size_t)first_head) * (size_t)a.n_splits * width;
    for (int x = (int)threadIdx.x; x < n_heads * n; x += THREADS) {
        const int h = x / n, i = x % n;
        const float *from = parts + (size_t)h * width;
        float most = -CUDART_INF_F, total = 0, value = 0;
#pragma unroll
        for (int w = 0; w < N_WARPS; w++)
            most = larger_of(most, from[(size_t)(w * HEADS) * width + (size_t)n]);
#pragma unroll
        for (int w = 0; w < N_WARPS; w++) {
            const float *part = from + (size_t)(w * HEADS) * width;
            const float factor = weight_of(part[n], most);
            total += factor * part[n + 1];
            value += factor * part[i];
        }
        if (keys.n == 1) {
            write_value(a, t, first_head + h, i, value / total);
            continue;
        }
        float *to = own + ((size_t)h * (size_t)a.n_splits + (size_t)blockIdx.x) * width;
        to[i] = value;
        if (i == 0) to[n] = most, to[n + 1] = total;
    }
    if (keys.n == 1) return;

    /* the splits together, by the block that comes last */
    int *counter = counter_of(a, t);
    if (!comes_last(counter, keys.n, &is_last)) return;
    const size_t head_stride = (size_t)a.n_splits * width;
    weigh_parts(factors, own + n, width, head_stride, keys.n, n_heads);
    __syncthreads();
    for (int x = (int)threadIdx.x * 4; x < n_heads * n; x += THREADS * 4) {
        const int h = x / n, i = x % n;
        const float *from = own + (size_t)h * head_stride + i;
        float value[4] = {0, 0, 0, 0};
#pragma unroll 8
        for (int p = 0; p < keys.n; p++) {
            const float4 part = __ldcg((const float4 *)(from + (size_t)p * width));
            const float factor = factors[h * MOST_SPLITS + p];
            value[0] += factor * part.x, value[1] += factor * part.y;
            value[2] += factor * part.z, value[3] += factor * part.w;
        }
#pragma unroll
        for (int k = 0; k < 4; k++) write_value(a, t, first_head + h, i + k, value[k]);
    }
    if (threadIdx.x == 0) *counter = 0;
}

template <typename T, int HEAD>
static enum op_status split_launch(struct cuda_device *cuda, struct attention_args a) {
    const int group = a.heads / a.kv.n_kv_heads, rows = a.n_rows;
    const int n_tiles = (group + HEADS - 1) / HEADS * a.kv.n_kv_heads;
    const size_t ring = (size_t)DEPTH * N_WARPS * 2 * 16 * HEAD * sizeof(T);
    const size_t parts = sizeof(float) * N_WARPS * HEADS * (size_t)(a.kv.head_size + SUMMARY);
    const size_t shared = ring > parts ? ring : parts;
    a.n_splits = splits_for(cuda, a, n_tiles, rows);
    const enum op_status status = cuda_status(
        cuda, cudaFuncSetAttribute((const void *)split_kernel<T, HEAD>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    if (status != OP_OK) return status;
    return launch(cuda, split_kernel<T, HEAD>,
                  dim3((unsigned)a.n_splits, (unsigned)n_tiles, (unsigned)rows), THREADS, shared,
                  a);
}

template <typename T>
static enum op_status split_heads(struct cuda_device *cuda, const struct attention_args &a) {
    if (a.kv.head_size <= 64) return split_launch<T, 64>(cuda, a);
    return split_launch<T, 128>(cuda, a);
}

enum op_status attention_split(struct cuda_device *cuda, const struct attention_args &a) {
    if (!attention_fits(cuda, a) || !a.is_decode) return OP_NOT_SUPPORTED;
    if (a.kv.format == FORMAT_F16) return split_heads<f16>(cuda, a);
    return split_heads<bf16>(cuda, a);
}
