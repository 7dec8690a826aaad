/*
 * Products with up to eight rows of x (here: columns), in half or bfloat16: each weight is read
 * once, so what counts is that the memory never waits.
 *
 * The rows of the matrix ("atoms" of one or two rows that one thread finishes together) are dealt
 * to the blocks evenly, one block per multiprocessor. In a block, a warp takes 16 rows over a slice
 * of the columns at a time: a *unit*, made of *steps* of 16 rows by 64 columns. Each lane brings 16
 * bytes of two rows, twice, into a ring of its own in shared memory by asynchronous copies, DEPTH
 * steps ahead, and reads back only what it has brought: no barrier is needed. The ring is filled
 * before the kernel before this one has ended, since weights do not depend on it; so the memory
 * stays busy from one kernel to the next.
 *
 * A step is four products of the tensor cores (m16n8k16). Which columns of the matrix are "column
 * k" of such a product is free as long as weights and x agree: a lane's 16 bytes are eight adjacent
 * values of a row, so nothing is ever shuffled.
 *
 * Sums: in float, the steps of a slice in order, then the slices in order. All of it is fixed by
 * the shape alone.
 */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fragments.cuh"

#ifndef GEMV_WARPS
#define GEMV_WARPS 16
#endif
enum {
    GEMV_THREADS = GEMV_WARPS * WARP,
    GEMV_ROWS = 16,
    GEMV_CHUNK = 64, /* columns of a step */
    GEMV_COPIES = 4, /* of a lane in a step */
    GEMV_MAX_COLS = 8,
    GEMV_STEP = GEMV_COPIES * GEMV_THREADS, /* 16-byte places of the ring that a step has */
};

struct gemv_plan {
    int n_atoms, k; /* of the matrix, and its columns */
    int n_cols;     /* rows of x */
    int n_chunks;   /* of a row */
    int n_slices;   /* every n_slices-th chunk is one: warps that share rows read side by side */
    int unit_groups, unit_slices; /* how far on a warp's next unit is */
    int depth;                    /* of the ring: two where x takes much, so that two blocks fit */
    int x_stride;                 /* of a column of x in shared memory; 0: x is read where it is */
    unsigned n_blocks;
    size_t x_at, parts_at, rows_at, shared_bytes; /* shared memory behind the ring */
};

/* The least steps of the busiest warp; fewer slices where that is the same. */
static inline int gemv_slices(int n_groups, int n_chunks) {
    int best = 1, best_steps = 1 << 30;
    for (int n = 1; n <= n_chunks && n <= 64; n++) {
        const int units = (n_groups * n + GEMV_WARPS - 1) / GEMV_WARPS;
        const int steps = units * ((n_chunks + n - 1) / n);
        if (steps < best_steps) best = n, best_steps = steps;
    }
    return best;
}

static inline size_t gemv_place(size_t *end, size_t bytes) {
    const size_t at = *end;
    *end = (at + bytes + 15) / 16 * 16;
    return at;
}

static inline struct gemv_plan gemv_plan_make(const struct cuda_device *cuda, int n_atoms,
                                              int rows_per_atom, int k, int n_cols) {
    enum { MOST_ATOMS = 2048, MOST_X_BYTES = 64 << 10, MUCH_X_BYTES = 16 << 10 }; /* of a block */
    struct gemv_plan p = {};
    int n_blocks = cuda->n_sms;
    while ((n_atoms + n_blocks - 1) / n_blocks > MOST_ATOMS) n_blocks += cuda->n_sms;
    if (n_blocks > n_atoms) n_blocks = n_atoms;
    const int rows = (n_atoms + n_blocks - 1) / n_blocks * rows_per_atom;
    const int n_groups = (rows + GEMV_ROWS - 1) / GEMV_ROWS;
    const int n_chunks = (k + GEMV_CHUNK - 1) / GEMV_CHUNK;
    p.n_atoms = n_atoms, p.k = k, p.n_cols = n_cols;
    p.n_slices = gemv_slices(n_groups, n_chunks);
    p.n_chunks = n_chunks;
    p.unit_groups = GEMV_WARPS / p.n_slices, p.unit_slices = GEMV_WARPS % p.n_slices;
    /* two columns' 64 bytes lie in different banks */
    p.x_stride = n_chunks * GEMV_CHUNK + GEMV_CHUNK / 2;
    if ((size_t)n_cols * (size_t)p.x_stride * 2 > MOST_X_BYTES) p.x_stride = 0;
    p.n_blocks = (unsigned)n_blocks;
    p.depth = (size_t)n_cols * (size_t)p.x_stride * 2 > MUCH_X_BYTES ? 2 : 3;
    size_t end = (size_t)p.depth * GEMV_STEP * 16;
    p.x_at = gemv_place(&end, (size_t)n_cols * (size_t)p.x_stride * 2);
    p.parts_at = gemv_place(&end, sizeof(float) * (size_t)(n_groups * GEMV_ROWS) *
                                      (size_t)(p.n_slices * n_cols));
    p.rows_at = gemv_place(&end, (size_t)(n_groups * GEMV_ROWS) * sizeof(void *));
    p.shared_bytes = end;
    return p;
}

/* Where a warp's copies or products are: chunk `chunk` of slice `slice` of group `group`. */
struct gemv_cursor {
    int group, slice, chunk;
};

static __device__ __forceinline__ struct gemv_cursor gemv_first(int warp,
                                                                const struct gemv_plan &p) {
    return {warp / p.n_slices, warp % p.n_slices, warp % p.n_slices};
}

/* The next chunk of the unit; true: the first one of the warp's next unit. */
static __device__ __forceinline__ bool gemv_next(struct gemv_cursor &c, const struct gemv_plan &p) {
    c.chunk += p.n_slices;
    if (c.chunk < p.n_chunks) return false;
    c.group += p.unit_groups;
    c.slice += p.unit_slices;
    if (c.slice >= p.n_slices) c.slice -= p.n_slices, c.group++;
    c.chunk = c.slice;
    return true;
}

/* The two rows that a lane copies from, at its columns of the chunk that is next; NULL: no row. */
template <typename T> struct gemv_source { const T *low, *high; };

template <typename T>
static __device__ __forceinline__ void gemv_aim(struct gemv_source<T> &from,
                                                const struct gemv_cursor &c, int n_groups,
                                                const T *const *rows) {
    if (c.group >= n_groups) return;
    const int lane = (int)threadIdx.x % WARP, at = c.chunk * GEMV_CHUNK + lane % 4 * 8;
    const T *const *group = rows + c.group * GEMV_ROWS + lane / 4;
    from.low = group[0] ? group[0] + at : NULL;
    from.high = group[8] ? group[8] + at : NULL;
}

/* Starts the copies of one step and moves on. A group of copies is closed in any case. */
template <typename T>
static __device__ __forceinline__ void
gemv_fetch(struct gemv_cursor &c, struct gemv_source<T> &from, const struct gemv_plan &p,
           int n_groups, const T *const *rows, uint4 *slot) {
    if (c.group < n_groups) {
        const int at = c.chunk * GEMV_CHUNK + (int)threadIdx.x % 4 * 8;
        const int first = at < p.k ? 16 : 0, second = at + GEMV_CHUNK / 2 < p.k ? 16 : 0;
        const T *any = rows[0]; /* what nothing is read from must be an address all the same */
        const T *low = from.low ? from.low : any, *high = from.high ? from.high : any;
        const int low_bytes = from.low ? 16 : 0, high_bytes = from.high ? 16 : 0;
        copy_16_async(slot, first ? low : any, first & low_bytes);
        copy_16_async(slot + GEMV_THREADS, first ? high : any, first & high_bytes);
        copy_16_async(slot + 2 * GEMV_THREADS, second ? low + GEMV_CHUNK / 2 : any,
                      second & low_bytes);
        copy_16_async(slot + 3 * GEMV_THREADS, second ? high + GEMV_CHUNK / 2 : any,
                      second & high_bytes);
        if (gemv_next(c, p)) {
            gemv_aim(from, c, n_groups, rows);
        } else {
            if (from.low) from.low += p.n_slices * GEMV_CHUNK;
            if (from.high) from.high += p.n_slices * GEMV_CHUNK;
        }
    }
    commit_copies();
}

/* x [n_cols, k] (rows `outputs` of it, if not NULL) to shared memory, zeros up to whole chunks. */
template <typename T>
static __device__ __forceinline__ void gemv_share_x(T *shared, const T *x, const int *outputs,
                                                    const struct gemv_plan &p) {
    for (int col = 0; col < p.n_cols; col++) {
        const T *row = x + (size_t)(outputs ? outputs[col] : col) * (size_t)p.k;
        for (int i = (int)threadIdx.x * 8; i < p.x_stride; i += GEMV_THREADS * 8)
            *(uint4 *)(shared + col * p.x_stride + i) =
                i < p.k ? *(const uint4 *)(row + i) : make_uint4(0, 0, 0, 0);
    }
}

/* Norm weights of eight columns. */
struct gemv_eight {
    float v[8];
};
static __device__ __forceinline__ struct gemv_eight gemv_load_eight(const float *from) {
    const float4 a = ((const float4 *)from)[0], b = ((const float4 *)from)[1];
    return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}

template <typename T> static __device__ __forceinline__ uint4 gemv_pack(const float *v) {
    union {
        uint4 packed;
        unsigned short halves[8];
    } u;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        const T rounded = from_float<T>(v[k]);
        u.halves[k] = *(const unsigned short *)&rounded;
    }
    return u.packed;
}

/* The same for one column that is to be normalised: x * weight. Its scale comes later, with the
 * sums; half, whose range is small, gets it now. `first`: the weights of the first eight columns
 * of this thread, which do not have to wait for x. */
template <typename T>
static __device__ __forceinline__ void
gemv_share_normed_x(T *shared, float *squares, const T *x, const int *outputs, const float *norm,
                    struct gemv_eight first, const struct gemv_plan &p, float eps) {
    const int begin = (int)threadIdx.x * 8;
    if (outputs) x += (size_t)outputs[0] * (size_t)p.k;
    float sum = 0, scale = 1, v[8];
    for (int i = begin; i < p.k; i += GEMV_THREADS * 8) {
        unpack<T>(*(const uint4 *)(x + i), v);
#pragma unroll
        for (int k = 0; k < 8; k++) sum += v[k] * v[k];
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) squares[threadIdx.x / WARP] = sum;
    if constexpr (std::is_same<T, f16>::value) {
        __syncthreads();
        sum = 0;
        for (int w = 0; w < GEMV_WARPS; w++) sum += squares[w];
        scale = 1 / sqrtf(sum / (float)p.k + eps);
    }
    for (int i = begin; i < p.x_stride; i += GEMV_THREADS * 8) {
        uint4 packed = make_uint4(0, 0, 0, 0);
        if (i < p.k) {
            const struct gemv_eight weights = i == begin ? first : gemv_load_eight(norm + i);
            unpack<T>(*(const uint4 *)(x + i), v);
#pragma unroll
            for (int k = 0; k < 8; k++) v[k] *= scale * weights.v[k];
            packed = gemv_pack<T>(v);
        }
        *(uint4 *)(shared + i) = packed;
    }
}

template <typename T>
static __device__ __forceinline__ float gemv_late_scale(const float *squares, int k, float eps) {
    if (std::is_same<T, f16>::value) return 1;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < GEMV_WARPS; w++) sum += squares[w];
    return 1 / sqrtf(sum / (float)k + eps);
}

/* Eight values of x for this lane: column lane / 4 (zeros where there is none), from `at` on. */
template <typename T>
static __device__ __forceinline__ uint4 gemv_x(const T *x, size_t stride, int at,
                                               const struct gemv_plan &p) {
    const int col = (int)threadIdx.x % WARP / 4;
    if (col >= p.n_cols || at >= p.k) return make_uint4(0, 0, 0, 0);
    return *(const uint4 *)(x + (size_t)col * stride + at);
}

/*
 * Job: which rows, and what becomes of their sums.
 *   enum { ATOM };                      rows of an atom
 *   const T *row(int atom, int i)       row i of an atom
 *   struct facts                        what finish() needs beside the sums:
 *   facts_of(atom, col)                   weights and the batch's facts, before the wait
 *   look_up(facts &, atom, col)           what earlier kernels wrote, as early as can be
 *   finish(facts, atom, col, sums)
 */
template <typename T, bool NORM, int DEPTH, class Job>
static __global__ void __launch_bounds__(GEMV_THREADS, 1024 / GEMV_THREADS)
    gemv_kernel(const Job job, const struct gemv_plan p, const T *x, const int *outputs,
                const float *norm, float eps) {
    extern __shared__ __align__(16) unsigned char shared[];
    __shared__ float squares[GEMV_WARPS];
    uint4 *ring = (uint4 *)shared + threadIdx.x;
    T *shared_x = (T *)(shared + p.x_at);
    float *parts = (float *)(shared + p.parts_at);
    const T **rows = (const T **)(shared + p.rows_at);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int first = (int)((long long)p.n_atoms * blockIdx.x / gridDim.x);
    const int n_atoms = (int)((long long)p.n_atoms * (blockIdx.x + 1) / gridDim.x) - first;
    const int n_rows = n_atoms * Job::ATOM, n_groups = (n_rows + GEMV_ROWS - 1) / GEMV_ROWS;

    for (int i = (int)threadIdx.x; i < n_groups * GEMV_ROWS; i += GEMV_THREADS)
        rows[i] = i < n_rows ? job.row(first + i / Job::ATOM, i % Job::ATOM) : NULL;
    __syncthreads();
    struct gemv_cursor fetched = gemv_first(warp, p), c = fetched;
    struct gemv_source<T> from = {
        NULL, NULL
    };
    gemv_aim(from, fetched, n_groups, rows);
#pragma unroll
    for (int i = 0; i < DEPTH; i++)
        gemv_fetch<T>(fetched, from, p, n_groups, rows, ring + i * GEMV_STEP);

    struct gemv_eight norm_weights = {};
    if constexpr (NORM)
        if ((int)threadIdx.x * 8 < p.k) norm_weights = gemv_load_eight(norm + threadIdx.x * 8);
    /* what this thread will finish first */
    const int own_atom = (int)threadIdx.x / p.n_cols, own_col = (int)threadIdx.x % p.n_cols;
    typename Job::facts own = {};
    if (own_atom < n_atoms) own = job.facts_of(first + own_atom, own_col);

    let_next_begin(); /* with this ring filled: its copies come before the next kernel's */
    wait_for_previous();
    if (own_atom < n_atoms) job.look_up(own, first + own_atom, own_col);
    size_t x_stride = (size_t)p.x_stride;
    const T *x_from = shared_x;
    if constexpr (NORM) {
        gemv_share_normed_x<T>(shared_x, squares, x, outputs, norm, norm_weights, p, eps);
    } else if (p.x_stride > 0) {
        gemv_share_x<T>(shared_x, x, outputs, p);
    } else {
        x_from = x, x_stride = (size_t)p.k;
    }
    __syncthreads();

    float sums[4] = {0, 0, 0, 0};
    for (int slot = 0; c.group < n_groups; slot = slot + 1 == DEPTH ? 0 : slot + 1) {
        const uint4 *place = ring + slot * GEMV_STEP;
        const int at = c.chunk * GEMV_CHUNK + lane % 4 * 8;
        const uint4 x_1 = gemv_x(x_from, x_stride, at, p);
        const uint4 x_2 = gemv_x(x_from, x_stride, at + GEMV_CHUNK / 2, p);
        wait_for_copies<DEPTH - 1>();
        const uint4 low_1 = place[0], high_1 = place[GEMV_THREADS];
        const uint4 low_2 = place[2 * GEMV_THREADS], high_2 = place[3 * GEMV_THREADS];
        gemv_fetch<T>(fetched, from, p, n_groups, rows, ring + slot * GEMV_STEP);
        const unsigned weights[4][4] = {{low_1.x, high_1.x, low_1.y, high_1.y},
                                        {low_1.z, high_1.z, low_1.w, high_1.w},
                                        {low_2.x, high_2.x, low_2.y, high_2.y},
                                        {low_2.z, high_2.z, low_2.w, high_2.w}};
        multiply<T>(sums, weights[0], x_1.x, x_1.y);
        multiply<T>(sums, weights[1], x_1.z, x_1.w);
        multiply<T>(sums, weights[2], x_2.x, x_2.y);
        multiply<T>(sums, weights[3], x_2.z, x_2.w);
        const struct gemv_cursor done = c;
        if (gemv_next(c, p)) {
            /* a lane has columns 2 (lane % 4) and the next of rows lane / 4 and 8 further */
            const int row = done.group * GEMV_ROWS + lane / 4, col = lane % 4 * 2;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (col + i % 2 < p.n_cols)
                    parts[((row + i / 2 * 8) * p.n_slices + done.slice) * p.n_cols + col + i % 2] =
                        sums[i];
                sums[i] = 0;
            }
        }
    }
    __syncthreads();

    const float scale = NORM ? gemv_late_scale<T>(squares, p.k, eps) : 1;
    for (int i = (int)threadIdx.x; i < n_atoms * p.n_cols; i += GEMV_THREADS) {
        const int atom = i / p.n_cols, col = i % p.n_cols;
        float sum[Job::ATOM];
#pragma unroll
        for (int a = 0; a < Job::ATOM; a++) {
            sum[a] = 0;
            for (int slice = 0; slice < p.n_slices; slice++)
                sum[a] += parts[((atom * Job::ATOM + a) * p.n_slices + slice) * p.n_cols + col];
            sum[a] *= scale;
        }
        if (i >= GEMV_THREADS) {
            own = job.facts_of(first + atom, col);
            job.look_up(own, first + atom, col);
        }
        job.finish(own, first + atom, col, sum);
    }
}

template <typename T, bool NORM, class Job>
static enum op_status gemv_launch(struct cuda_device *cuda, const Job &job, int n_atoms, int k,
                                  int n_cols, const void *x, const int *outputs, const float *norm,
                                  float eps) {
    if constexpr (std::is_same<T, float>::value) {
        return OP_NOT_SUPPORTED;
    } else {
        const struct gemv_plan plan = gemv_plan_make(cuda, n_atoms, Job::ATOM, k, n_cols);
        if (plan.shared_bytes > (size_t)cuda->shared_bytes || (NORM && plan.x_stride == 0))
            return OP_NOT_SUPPORTED;
        void (*kernel)(Job, struct gemv_plan, const T *, const int *, const float *, float) =
            plan.depth == 2 ? gemv_kernel<T, NORM, 2, Job> : gemv_kernel<T, NORM, 3, Job>;
        const enum op_status status =
            cuda_status(cuda, cudaFuncSetAttribute((const void *)kernel,
                                                   cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   (int)plan.shared_bytes));
        if (status != OP_OK) return status;
        return launch(cuda, kernel, dim3(plan.n_blocks), GEMV_THREADS, plan.shared_bytes, job, plan,
                      (const T *)x, outputs, norm, eps);
    }
}

/* y = W x for 1 to 8 columns. OP_NOT_SUPPORTED, and nothing is launched: in float, or too wide. */
template <typename T, class Job>
static enum op_status gemv(struct cuda_device *cuda, const Job &job, int n_atoms, int k, int n_cols,
                           const void *x, const int *outputs) {
    return gemv_launch<T, false>(cuda, job, n_atoms, k, n_cols, x, outputs, NULL, 0);
}

/* One column, normalised on the way in: the sums are those of rms_norm(x). */
template <typename T, class Job>
static enum op_status gemv_normed(struct cuda_device *cuda, const Job &job, int n_atoms, int k,
                                  const void *x, const int *outputs, const float *norm, float eps) {
    return gemv_launch<T, true>(cuda, job, n_atoms, k, 1, x, outputs, norm, eps);
}

/* Can a matrix's rows be read 16 bytes at a time? */
template <typename T> static bool gemv_can(const struct matrix *w, const void *x) {
    return w->cols % per_16<T> == 0 && (uintptr_t)w->data % 16 == 0 && (uintptr_t)x % 16 == 0;
}
