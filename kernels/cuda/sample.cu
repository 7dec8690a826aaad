/*
 * sample: logits to tokens, by the steps of kernels/sampling.h.
 *
 *   mark     counts the tokens that came before, where penalties want to know
 *   survey   a row's vocabulary in slices, a block each: not-finite?, the largest logit, and the
 *            top_k largest where top_k is small; so the next kernel looks at some hundreds
 *   pick     a block a row: the largest of the slices, or steps 6 to 10 over what the survey kept,
 *            over the whole row where it kept nothing
 *
 * Probabilities are added as whole numbers of 2^-36, so that no order of additions shows and the
 * same logits give the same token in every run.
 */
#include "kernels/cuda/cuda.h"

enum {
    SLICES = 48,    /* of a row: what is kept of them fits 48 KiB of shared memory */
    SHORT_K = 64,   /* top_k up to which the survey keeps candidates */
    SURVEY_THREADS = 256,
    PICK_THREADS = 512,
    N_DIGITS = 2048,
    IN_PROMPT = 1 << 30, /* of a mark; below it: how often in the answer */
};

/* ---- one row of the op ---- */

struct sample_slice {
    float largest; /* of the logits with penalties; -infinity: no token is here */
    int id;        /* of the first such */
    int is_finite, n_kept;
};

/* The backend's own memory; rows of it in the order of the outputs. */
struct sample_room {
    int *marks; /* [R, V] zero between two passes */
    struct sample_slice *slices; /* [R, SLICES] */
    float *kept;                 /* [R, SLICES, SHORT_K] logits */
    int *kept_ids;
};

struct sample_row {
    const float *logits;
    const uint8_t *is_token; /* or NULL */
    const int *marks;        /* NULL: no penalties */
    struct sampling p;

    /* Of ids that are no tokens -infinity: they come last and weigh nothing. */
    __device__ float logit(int id) const {
        if (is_token && !is_token[id]) return -INFINITY;
        const int mark = marks ? marks[id] : 0;
        return mark ? sampling_penalise(logits[id], &p, mark & (IN_PROMPT - 1)) : logits[id];
    }
    __device__ int id(int i) const {
        return i;
    }
};

static __device__ struct sample_row row_of(const struct op_sample &op, const struct draw *draws,
                                           const struct sample_room &room, int r) {
    struct sample_row row;
    row.logits = op.logits + (size_t)r * (size_t)op.vocab;
    row.is_token = op.is_token;
    row.p = draws[r].sampling;
    row.marks = sampling_has_penalties(&row.p) ? room.marks + (size_t)r * (size_t)op.vocab : NULL;
    return row;
}

/* ---- mark ---- */

struct history {
    const int *seen, *blocks;
    int block_tokens, n;

    __device__ int token(int i) const {
        return seen[blocks[i / block_tokens] * block_tokens + i % block_tokens];
    }
};

static __device__ struct history history_of(const struct op_sample &op, const struct op_batch &b,
                                            int r) {
    const int t = b.outputs[r];
    return {op.seen, b.block_table + (size_t)b.seq_of[t] * (size_t)b.max_blocks, op.block_tokens,
            b.positions[t] + 1};
}

static __device__ bool needs_marks(const struct draw &draw) {
    return draw.is_wanted && sampling_has_penalties(&draw.sampling);
}

static __global__ void mark_kernel(struct op_sample op, struct op_batch b,
                                   struct sample_room room) {
    let_next_begin();
    wait_for_previous();
    const int r = (int)blockIdx.y;
    if (!needs_marks(b.draws[r])) return;
    const struct history h = history_of(op, b, r);
    int *marks = room.marks + (size_t)r * (size_t)op.vocab;
    for (int i = (int)(blockIdx.x * blockDim.x + threadIdx.x); i < h.n;
         i += (int)(gridDim.x * blockDim.x)) {
        if (i < b.draws[r].n_prompt)
            atomicOr(&marks[h.token(i)], IN_PROMPT);
        else
            atomicAdd(&marks[h.token(i)], 1);
    }
}

/* ---- whole numbers over a block ---- */

typedef unsigned long long u64;

/* The sum of `x` over the threads before this one; *total over all. `shared`: 32 words. */
static __device__ u64 sum_before(u64 x, u64 *shared, u64 *total) {
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int n_warps = (int)blockDim.x / WARP;
    u64 sum = x;
#pragma unroll
    for (int step = 1; step < WARP; step *= 2) {
        const u64 other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
    }
    __syncthreads();
    if (lane == WARP - 1) shared[warp] = sum;
    __syncthreads();
    u64 before = 0, all = 0;
    for (int i = 0; i < n_warps; i++) {
        if (i < warp) before += shared[i];
        all += shared[i];
    }
    *total = all;
    return before + sum - x;
}

/* Orders as the float does; the addition makes -0 equal to 0. */
static __device__ unsigned key_of(float x) {
    const unsigned bits = __float_as_uint(x + 0.0f);
    return bits ^ (bits >> 31 ? ~0u : 0x80000000u);
}

/* Of the candidates in the order of ids: those above the threshold and the first `n_equal` that are
 * equal to it. */
struct kept {
    unsigned threshold;
    int n_equal;
};

/*
 * Keeps the smallest set of the largest logits whose weights sum to `target` > 0: radix selection
 * on 11 + 11 + 10 bits. weight(i) must be the same for equal logits. `bins`: N_DIGITS words,
 * `shared`: 34.
 */
template <typename Source, typename Weight>
static __device__ struct kept keep_top(const Source &source, int n, Weight weight, u64 target,
                                       u64 *bins, u64 *shared) {
    const int shifts[] = {21, 10, 0}, widths[] = {11, 11, 10};
    unsigned threshold = 0, decided = 0;
    u64 missing = target;
    for (int pass = 0; pass < 3; pass++) {
        const unsigned last = (1u << widths[pass]) - 1;
        for (int i = (int)threadIdx.x; i < N_DIGITS; i += (int)blockDim.x) bins[i] = 0;
        __syncthreads();
        for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
            const unsigned key = key_of(source.logit(i));
            if ((key & decided) == threshold)
                atomicAdd(&bins[last - (key >> shifts[pass] & last)], weight(i));
        }
        __syncthreads();
        /* from the largest digit down: the one in which the target is reached */
        const int per = N_DIGITS / (int)blockDim.x;
        u64 mine = 0, total;
        for (int i = 0; i < per; i++) mine += bins[(int)threadIdx.x * per + i];
        u64 before = sum_before(mine, shared, &total);
        if (threadIdx.x == 0) shared[32] = last, shared[33] = 0; /* rounding: all of them */
        __syncthreads();
        if (before < missing && missing <= before + mine) {
            int i = (int)threadIdx.x * per;
            for (; before + bins[i] < missing; i++) before += bins[i];
            shared[32] = (u64)i;
            shared[33] = missing - before;
        }
        __syncthreads();
        threshold |= (last - (unsigned)shared[32]) << shifts[pass];
        missing = shared[33];
        decided |= last << shifts[pass];
        __syncthreads();
    }
    /* all that is left are equal: how many of them make up what is missing */
    if (threadIdx.x == 0) shared[32] = 0;
    __syncthreads();
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
        if (key_of(source.logit(i)) == threshold) shared[32] = weight(i);
    __syncthreads();
    const u64 one = shared[32] ? shared[32] : 1;
    __syncthreads();
    return {threshold, missing ? (int)((missing + one - 1) / one) : n};
}

/* ---- survey ---- */

/* A slice of a row, in shared memory. */
struct sample_list {
    const float *logits;
    const int *ids;

    __device__ float logit(int i) const {
        return logits[i];
    }
    __device__ int id(int i) const {
        return ids[i];
    }
};

static __host__ __device__ int slice_begin(int vocab, int slice) {
    return (int)((long long)vocab * slice / SLICES);
}

/* This thread's piece of n things in their order. */
static __device__ int piece_begin(int n, int thread) {
    return (int)((long long)n * thread / (int)blockDim.x);
}

/* The larger of two, of equals the one with the lower id. */
static __device__ void larger(float &logit, int &id, float other, int other_id) {
    if (other > logit || (other == logit && other_id < id)) logit = other, id = other_id;
}

/* Every thread gets the largest of the block. `shared`: 32 words. */
static __device__ void block_largest(float &logit, int &id, u64 *shared) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(~0u, logit, step);
        const int other_id = __shfl_xor_sync(~0u, id, step);
        larger(logit, id, other, other_id);
    }
    __syncthreads();
    if (threadIdx.x % WARP == 0)
        shared[threadIdx.x / WARP] = (u64)__float_as_uint(logit) << 32 | (unsigned)id;
    __syncthreads();
    for (int i = 0; i < (int)blockDim.x / WARP; i++)
        larger(logit, id, __uint_as_float((unsigned)(shared[i] >> 32)), (int)(unsigned)shared[i]);
}

static __device__ bool has_short_list(const struct sampling &p) {
    return p.temperature > 0 && p.top_k > 0 && p.top_k <= SHORT_K;
}

static __global__ void survey_kernel(struct op_sample op, struct op_batch b,
                                     struct sample_room room) {
    extern __shared__ float values[]; /* the slice's logits */
    __shared__ u64 bins[N_DIGITS], shared[34];
    const int r = (int)blockIdx.y, slice = (int)blockIdx.x;
    const int begin = slice_begin(op.vocab, slice), n = slice_begin(op.vocab, slice + 1) - begin;
    let_next_begin();
    wait_for_previous();
    if (!b.draws[r].is_wanted) return;
    const struct sample_row row = row_of(op, b.draws, room, r);
    float largest = -INFINITY;
    int id = op.vocab, is_finite = 1;
    for (int i = (int)threadIdx.x; i < n; i += SURVEY_THREADS) {
        is_finite &= isfinite(row.logits[begin + i]);
        values[i] = row.logit(begin + i);
        if (values[i] > -INFINITY) larger(largest, id, values[i], begin + i);
    }
    is_finite = __syncthreads_and(is_finite);
    block_largest(largest, id, shared);
    int n_kept = 0;
    const size_t at = (size_t)r * SLICES + (size_t)slice;
    if (has_short_list(row.p) && n > 0) {
        const struct sample_list list = {values, NULL};
        const auto one = [](int) { return (u64)1; };
        struct kept kept = {0, n};
        if (row.p.top_k < n) kept = keep_top(list, n, one, (u64)row.p.top_k, bins, shared);
        /* in the order of ids: how many before mine are equal to the threshold, how many are kept */
        const int from = piece_begin(n, (int)threadIdx.x), to = piece_begin(n, (int)threadIdx.x + 1);
        u64 n_equal = 0, mine = 0, total;
        for (int i = from; i < to; i++) n_equal += key_of(values[i]) == kept.threshold;
        u64 equal_before = sum_before(n_equal, shared, &total), equal = equal_before;
        for (int i = from; i < to; i++) {
            const unsigned key = key_of(values[i]);
            mine += key > kept.threshold ||
                    (key == kept.threshold && equal++ < (u64)kept.n_equal);
        }
        u64 place = sum_before(mine, shared, &total);
        equal = equal_before;
        for (int i = from; i < to; i++) {
            const unsigned key = key_of(values[i]);
            if (!(key > kept.threshold ||
                  (key == kept.threshold && equal++ < (u64)kept.n_equal)))
                continue;
            room.kept[at * SHORT_K + place] = values[i];
            room.kept_ids[at * SHORT_K + place++] = begin + i;
        }
        n_kept = (int)total;
    }
    if (threadIdx.x == 0) room.slices[at] = {largest, id, is_finite, n_kept};
}

/* ---- pick ---- */

/* exp((logit - largest) / temperature), in units of 2^-36; and again as a share of the largest. */
template <typename Source> struct weigher {
    const Source &source;
    float largest, temperature, min_p;

    __device__ float share(int i) const {
        return expf((source.logit(i) - largest) / temperature);
    }
    __device__ u64 operator()(int i) const {
        return (u64)((double)share(i) * 0x1p36 + 0.5);
    }
};

/* Walks this thread's piece of the kept candidates in the order of ids: f(i, weight). */
template <typename Source, typename F>
static __device__ void walk(const Source &source, int n, const weigher<Source> &weight,
                            struct kept kept, u64 equal_before, F f) {
    const int to = piece_begin(n, (int)threadIdx.x + 1);
    for (int i = piece_begin(n, (int)threadIdx.x); i < to; i++) {
        const unsigned key = key_of(source.logit(i));
        if (key < kept.threshold) continue;
        if (key == kept.threshold && equal_before++ >= (u64)kept.n_equal) continue;
        f(i, weight(i));
    }
}

/* Steps 6 to 10 over n candidates in the order of their ids. Every thread gets the token. */
template <typename Source>
static __device__ int draw_from(const Source &source, int n, const struct sampling &p,
                                float largest, u64 index, u64 *bins, u64 *shared) {
    __shared__ int token;
    const weigher<Source> weight = {source, largest, p.temperature, p.min_p};
    const auto one = [](int) { return (u64)1; };
    struct kept kept = {0, n};
    if (p.top_k > 0 && p.top_k < n) kept = keep_top(source, n, one, (u64)p.top_k, bins, shared);
    for (int is_last = p.top_p >= 1;; is_last = 1) {
        const float least = is_last ? p.min_p : 0;
        u64 n_equal = 0, mine = 0, total;
        const int to = piece_begin(n, (int)threadIdx.x + 1);
        for (int i = piece_begin(n, (int)threadIdx.x); i < to; i++)
            n_equal += key_of(source.logit(i)) == kept.threshold;
        const u64 equal_before = sum_before(n_equal, shared, &total);
        walk(source, n, weight, kept, equal_before, [&](int i, u64 w) {
            if (weight.share(i) >= least) mine += w;
        });
        u64 before = sum_before(mine, shared, &total);
        if (!is_last) { /* step 8, and once more around */
            u64 target = (u64)((double)p.top_p * (double)total);
            const struct kept fewer =
                keep_top(source, n, weight, target ? target : 1, bins, shared);
            if (fewer.threshold > kept.threshold)
                kept = fewer;
            else if (fewer.n_equal < kept.n_equal)
                kept.n_equal = fewer.n_equal;
            continue;
        }
        u64 at = (u64)(philox_uniform(p.seed, index) * (double)total);
        if (at >= total) at = total - 1;
        if (before <= at && at < before + mine)
            walk(source, n, weight, kept, equal_before, [&](int i, u64 w) {
                if (weight.share(i) < least) return;
                if (before <= at && at < before + w) token = source.id(i);
                before += w;
            });
        __syncthreads();
        return token;
    }
}

static __global__ void __launch_bounds__(PICK_THREADS)
    pick_kernel(struct op_sample op, struct op_batch b,
                                   struct sample_room room) {
    __shared__ u64 bins[N_DIGITS], shared[34];
    __shared__ float list[SLICES * SHORT_K];
    __shared__ int list_ids[SLICES * SHORT_K];
    const int r = (int)blockIdx.x;
    let_next_begin();
    wait_for_previous();
    if (!b.draws[r].is_wanted) {
        if (threadIdx.x == 0) op.drawn[r] = SAMPLE_NOTHING;
        return;
    }
    const struct sample_row row = row_of(op, b.draws, room, r);
    const struct history h = history_of(op, b, r);
    struct sample_slice mine = {-INFINITY, op.vocab, 1, 0};
    if (threadIdx.x < SLICES) mine = room.slices[(size_t)r * SLICES + threadIdx.x];
    float largest = mine.largest;
    int token = mine.id;
    const bool is_finite = __syncthreads_and(mine.is_finite);
    block_largest(largest, token, shared);
    if (!is_finite) {
        token = SAMPLE_NOT_FINITE;
    } else if (has_short_list(row.p)) {
        u64 n;
        const u64 at = sum_before((u64)mine.n_kept, shared, &n);
        const size_t from = ((size_t)r * SLICES + threadIdx.x) * SHORT_K;
        for (int i = 0; i < mine.n_kept; i++) {
            list[at + i] = room.kept[from + i];
            list_ids[at + i] = room.kept_ids[from + i];
        }
        __syncthreads();
        const struct sample_list candidates = {list, list_ids};
        token = draw_from(candidates, (int)n, row.p, largest, (u64)h.n, bins, shared);
    } else if (row.p.temperature > 0) {
        token = draw_from(row, op.vocab, row.p, largest, (u64)h.n, bins, shared);
    }
    if (threadIdx.x == 0) op.drawn[r] = token;
    if (!row.marks) return;
    for (int i = (int)threadIdx.x; i < h.n; i += PICK_THREADS)
        room.marks[(size_t)r * (size_t)op.vocab + (size_t)h.token(i)] = 0;
}

/* ---- the op ---- */

static size_t place(size_t *end, size_t bytes) {
    const size_t at = *end;
    *end = (at + bytes + 255) / 256 * 256;
    return at;
}

static size_t marks_bytes(int n_rows, int vocab) {
    return (size_t)n_rows * (size_t)vocab * sizeof(int);
}

/* The rest of the room of R rows in memory at `memory`, which may be NULL; its bytes. */
static size_t lay_out(char *memory, int n_rows, struct sample_room *out) {
    const size_t n_slices = (size_t)n_rows * SLICES;
    size_t end = 0;
    const size_t slices = place(&end, n_slices * sizeof(struct sample_slice));
    const size_t kept = place(&end, n_slices * SHORT_K * sizeof(float));
    const size_t kept_ids = place(&end, n_slices * SHORT_K * sizeof(int));
    if (!memory) return end;
    out->slices = (struct sample_slice *)(memory + slices);
    out->kept = (float *)(memory + kept);
    out->kept_ids = (int *)(memory + kept_ids);
    return end;
}

size_t sample_bytes(int n_outputs, int vocab) {
    return marks_bytes(n_outputs, vocab) + lay_out(NULL, n_outputs, NULL);
}

enum op_status sample_open(struct cuda_device *cuda, int n_outputs, int vocab) {
    const enum op_status status =
        cuda_workspace(cuda, &cuda->sample_marks, marks_bytes(n_outputs, vocab));
    if (status != OP_OK) return status;
    return cuda_workspace(cuda, &cuda->sample_memory, lay_out(NULL, n_outputs, NULL));
}

/* Memory for R rows of V, already there where sample_open() knew of so many. A recording keeps its
 * pointers, so what was given out stays. Marks are zero between passes of whatever R: nothing else
 * lies in their memory. */
static enum op_status room_for(struct cuda_device *cuda, int n_rows, int vocab,
                               struct sample_room *out) {
    const enum op_status status = sample_open(cuda, n_rows, vocab);
    if (status != OP_OK) return status;
    out->marks = (int *)cuda->sample_marks.at;
    lay_out((char *)cuda->sample_memory.at, n_rows, out);
    return OP_OK;
}

enum op_status cuda_sample(struct cuda_device *cuda, const struct op_sample *op) {
    enum { MARK_THREADS = 256, MARK_BLOCKS = 8 };
    const int n_rows = op->batch->n_outputs, slice = op->vocab / SLICES + 1;
    const size_t bytes = (size_t)slice * sizeof(float);
    struct sample_room room;
    if (bytes > 32 << 10) return OP_NOT_SUPPORTED; /* a vocabulary of half a million */
    enum op_status status = room_for(cuda, n_rows, op->vocab, &room);
    if (status == OP_OK)
        status = launch(cuda, mark_kernel, dim3(MARK_BLOCKS, (unsigned)n_rows), MARK_THREADS, 0,
                        *op, *op->batch, room);
    if (status == OP_OK)
        status = launch(cuda, survey_kernel, dim3(SLICES, (unsigned)n_rows), SURVEY_THREADS, bytes,
                        *op, *op->batch, room);
    if (status == OP_OK)
        status = launch(cuda, pick_kernel, dim3((unsigned)n_rows), PICK_THREADS, 0, *op,
                        *op->batch, room);
    return status;
}
