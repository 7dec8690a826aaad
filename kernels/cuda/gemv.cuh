/*
 * Products with few rows of x (here: columns): each weight is read once, so what counts is that the
 * memory never waits.
 *
 * The rows of the matrix ("atoms" of one or two rows that one thread finishes together) are dealt
 * to the blocks evenly, one block per multiprocessor. In a block, a warp takes four rows over a
 * slice of the columns at a time: a *unit*, made of *steps* of four rows by 32 x 16 bytes. Each
 * thread brings its 16 bytes of each row into a ring of its own in shared memory by asynchronous
 * copies, DEPTH steps ahead, and reads back only what it has brought: no barrier is needed. The
 * ring is filled before the kernel before this one has ended, since weights do not depend on it;
 * so the memory stays busy from one kernel to the next.
 *
 * Sums: a lane's products in the order of its columns, lanes by a tree, slices in order. All of it
 * is fixed by the shape alone.
 */
#pragma once

#include "kernels/cuda/cuda.h"

enum { GEMV_ROWS = 4, GEMV_MAX_COLS = 8 };
#ifndef GEMV_WARPS
#define GEMV_WARPS 16
#endif
#ifndef GEMV_DEPTH
#define GEMV_DEPTH 3
#endif
enum { GEMV_THREADS = GEMV_WARPS * WARP };

struct gemv_plan {
    int n_atoms, k;      /* of the matrix, and its columns */
    int n_cols;          /* rows of x */
    int n_chunks;        /* of 32 x 16 bytes in a row */
    int n_slices;        /* that a row's chunks are cut into */
    int max_rows;        /* of a block, whole groups of GEMV_ROWS */
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

/* `value_bytes`: of a weight; `x_bytes`: of a value of x in shared memory. */
static inline struct gemv_plan gemv_plan_make(const struct cuda_device *cuda, int n_atoms,
                                              int rows_per_atom, int k, int n_cols, int cols,
                                              size_t value_bytes, size_t x_bytes) {
    enum { MOST_ATOMS = 2048 }; /* of a block */
    struct gemv_plan p = {};
    const int chunk = WARP * 16 / (int)value_bytes;
    int n_blocks = cuda->n_sms;
    while ((n_atoms + n_blocks - 1) / n_blocks > MOST_ATOMS) n_blocks += cuda->n_sms;
    if (n_blocks > n_atoms) n_blocks = n_atoms;
    const int rows = (n_atoms + n_blocks - 1) / n_blocks * rows_per_atom;
    const int n_groups = (rows + GEMV_ROWS - 1) / GEMV_ROWS;
    p.n_atoms = n_atoms, p.k = k, p.n_cols = n_cols;
    p.n_chunks = (k + chunk - 1) / chunk;
    p.n_slices = gemv_slices(n_groups, p.n_chunks);
    p.max_rows = n_groups * GEMV_ROWS;
    p.n_blocks = (unsigned)n_blocks;
    size_t end = (size_t)GEMV_DEPTH * GEMV_ROWS * GEMV_THREADS * 16;
    p.x_at = gemv_place(&end, (size_t)cols * (size_t)p.n_chunks * (size_t)chunk * x_bytes);
    p.parts_at = gemv_place(&end, (size_t)(p.max_rows * p.n_slices * cols) * sizeof(float));
    p.rows_at = gemv_place(&end, (size_t)p.max_rows * sizeof(void *));
    p.shared_bytes = end;
    return p;
}

/* Sums each of N values over the warp: lane l is left with that of value gemv_value<N>(l). Lanes
 * that differ in bit STEP share the values that are left between them. */
template <int N, int STEP = WARP / 2>
static __device__ __forceinline__ float gemv_warp_sums(const float *v) {
    if constexpr (STEP == 0) {
        return v[0];
    } else if constexpr (N == 1) {
        const float sum[1] = {v[0] + __shfl_xor_sync(~0u, v[0], STEP)};
        return gemv_warp_sums<1, STEP / 2>(sum);
    } else {
        const bool is_upper = threadIdx.x & STEP;
        float sums[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            const float give = is_upper ? v[i] : v[i + N / 2];
            const float keep = is_upper ? v[i + N / 2] : v[i];
            sums[i] = keep + __shfl_xor_sync(~0u, give, STEP);
        }
        return gemv_warp_sums<N / 2, STEP / 2>(sums);
    }
}
template <int N> static __device__ __forceinline__ int gemv_value(int lane) {
    return lane * N / WARP;
}

/* Where a warp's copies or sums are: chunk `chunk` of the unit's rows. */
struct gemv_cursor {
    int unit, chunk, end; /* end: of the unit's chunks */
};

static __device__ __forceinline__ void gemv_enter(struct gemv_cursor &c, const struct gemv_plan &p) {
    const int slice = c.unit % p.n_slices;
    c.chunk = p.n_chunks * slice / p.n_slices;
    c.end = p.n_chunks * (slice + 1) / p.n_slices;
}

/* Starts the copies of one step and moves on. A group of copies is closed in any case. */
template <typename T>
static __device__ __forceinline__ void gemv_fetch(struct gemv_cursor &c, const struct gemv_plan &p,
                                                  int n_units, const T *const *rows, uint4 *slot) {
    if (c.unit < n_units) {
        const int column = (c.chunk * WARP + (int)threadIdx.x % WARP) * per_16<T>;
        const int bytes = column < p.k ? 16 : 0, at = bytes ? column : 0;
        const T *const *group = rows + c.unit / p.n_slices * GEMV_ROWS;
#pragma unroll
        for (int r = 0; r < GEMV_ROWS; r++)
            copy_16_async(slot + r * GEMV_THREADS, group[r] + at, bytes);
        if (++c.chunk == c.end) {
            c.unit += GEMV_WARPS;
            gemv_enter(c, p);
        }
    }
    commit_copies();
}

/* n values of x as they lie in shared memory, float or T. */
static __device__ __forceinline__ void gemv_load_x(const float *x, float *out, int n) {
#pragma unroll
    for (int i = 0; i < n; i += 4) {
        const float4 v = *(const float4 *)(x + i);
        out[i] = v.x, out[i + 1] = v.y, out[i + 2] = v.z, out[i + 3] = v.w;
    }
}
static __device__ __forceinline__ void gemv_load_x(const bf16 *x, float *out, int) {
    unpack<bf16>(*(const uint4 *)x, out);
}
static __device__ __forceinline__ void gemv_load_x(const f16 *x, float *out, int) {
    unpack<f16>(*(const uint4 *)x, out);
}

/* x [n_cols, k] (rows `outputs` of it, if not NULL) to shared memory, zeros up to whole chunks and
 * for columns that are not there. */
template <typename T, int COLS>
static __device__ __forceinline__ void gemv_share_x(T *shared, const T *x, const int *outputs,
                                                    const struct gemv_plan &p) {
    const int width = p.n_chunks * WARP * per_16<T>;
    for (int col = 0; col < COLS; col++) {
        const size_t row = col < p.n_cols ? (size_t)(outputs ? outputs[col] : col) : 0;
        for (int i = (int)threadIdx.x * per_16<T>; i < width; i += GEMV_THREADS * per_16<T>) {
            uint4 v = make_uint4(0, 0, 0, 0);
            if (col < p.n_cols && i < p.k) v = *(const uint4 *)(x + row * (size_t)p.k + i);
            *(uint4 *)(shared + col * width + i) = v;
        }
    }
}

/* The same for one column that is to be normalised: x * weight, where the weights are there already.
 * The sum of squares is left to gemv_norm_scale(). */
template <typename T>
static __device__ __forceinline__ void gemv_share_normed_x(float *shared, float *squares,
                                                           const T *x, const int *outputs,
                                                           const struct gemv_plan &p) {
    if (outputs) x += (size_t)outputs[0] * (size_t)p.k;
    float sum = 0;
    for (int i = (int)threadIdx.x * per_16<T>; i < p.k; i += GEMV_THREADS * per_16<T>) {
        float v[per_16<T>];
        unpack<T>(*(const uint4 *)(x + i), v);
#pragma unroll
        for (int k = 0; k < per_16<T>; k++) {
            sum += v[k] * v[k];
            shared[i + k] *= v[k];
        }
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) squares[threadIdx.x / WARP] = sum;
}

static __device__ __forceinline__ float gemv_norm_scale(const float *squares, int k, float eps) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < GEMV_WARPS; w++) sum += squares[w];
    return 1 / sqrtf(sum / (float)k + eps);
}

/*
 * Job: which rows, and what becomes of their sums.
 *   static const int ATOM;                                  rows of an atom
 *   const T *row(int atom, int i) const;                    row i of an atom
 *   void finish(int atom, int col, const float *sums) const;
 */
template <typename T, int COLS, bool NORM, class Job>
static __global__ void __launch_bounds__(GEMV_THREADS)
    gemv_kernel(const Job job, const struct gemv_plan p, const T *x, const int *outputs,
                const float *norm, float eps) {
    extern __shared__ __align__(16) unsigned char shared[];
    typedef typename std::conditional<NORM, float, T>::type X;
    __shared__ float squares[GEMV_WARPS];
    uint4 *ring = (uint4 *)shared + threadIdx.x;
    X *shared_x = (X *)(shared + p.x_at);
    float *parts = (float *)(shared + p.parts_at);
    const T **rows = (const T **)(shared + p.rows_at);
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int first = (int)((long long)p.n_atoms * blockIdx.x / gridDim.x);
    const int n_atoms = (int)((long long)p.n_atoms * (blockIdx.x + 1) / gridDim.x) - first;
    const int n_rows = n_atoms * Job::ATOM;
    const int n_groups = (n_rows + GEMV_ROWS - 1) / GEMV_ROWS, n_units = n_groups * p.n_slices;
    enum { STEP = GEMV_ROWS * GEMV_THREADS };

    let_next_begin();
    for (int i = (int)threadIdx.x; i < n_groups * GEMV_ROWS; i += GEMV_THREADS) {
        const int row = i < n_rows ? i : n_rows - 1;
        rows[i] = job.row(first + row / Job::ATOM, row % Job::ATOM);
    }
    __syncthreads();
    struct gemv_cursor fetched = {warp, 0, 0}, c = {warp, 0, 0};
    gemv_enter(fetched, p);
    gemv_enter(c, p);
#pragma unroll
    for (int i = 0; i < GEMV_DEPTH; i++) gemv_fetch<T>(fetched, p, n_units, rows, ring + i * STEP);
    const int width = p.n_chunks * WARP * per_16<T>;
    if constexpr (NORM)
        for (int i = (int)threadIdx.x; i < width; i += GEMV_THREADS)
            shared_x[i] = i < p.k ? norm[i] : 0;
    if constexpr (NORM) __syncthreads();

    wait_for_previous();
    if constexpr (NORM)
        gemv_share_normed_x<T>(shared_x, squares, x, outputs, p);
    else
        gemv_share_x<T, COLS>(shared_x, x, outputs, p);
    __syncthreads();

    float sums[GEMV_ROWS * COLS];
#pragma unroll
    for (int i = 0; i < GEMV_ROWS * COLS; i++) sums[i] = 0;
    for (int slot = 0; c.unit < n_units; slot = slot + 1 == GEMV_DEPTH ? 0 : slot + 1) {
        wait_for_copies<GEMV_DEPTH - 1>();
        uint4 packed[GEMV_ROWS];
#pragma unroll
        for (int r = 0; r < GEMV_ROWS; r++) packed[r] = ring[slot * STEP + r * GEMV_THREADS];
        gemv_fetch<T>(fetched, p, n_units, rows, ring + slot * STEP);

        float w[GEMV_ROWS][per_16<T>];
#pragma unroll
        for (int r = 0; r < GEMV_ROWS; r++) unpack<T>(packed[r], w[r]);
#pragma unroll
        for (int col = 0; col < COLS; col++) {
            float v[per_16<T>];
            gemv_load_x(shared_x + col * width + (c.chunk * WARP + lane) * per_16<T>, v,
                        per_16<T>);
#pragma unroll
            for (int r = 0; r < GEMV_ROWS; r++)
#pragma unroll
                for (int i = 0; i < per_16<T>; i++) sums[r * COLS + col] += w[r][i] * v[i];
        }
        if (++c.chunk == c.end) {
            enum { N = GEMV_ROWS * COLS };
            const float sum = gemv_warp_sums<N>(sums);
            const int value = gemv_value<N>(lane);
            const int row = c.unit / p.n_slices * GEMV_ROWS + value / COLS;
            if (lane % (WARP / N) == 0)
                parts[(row * p.n_slices + c.unit % p.n_slices) * COLS + value % COLS] = sum;
#pragma unroll
            for (int i = 0; i < N; i++) sums[i] = 0;
            c.unit += GEMV_WARPS;
            gemv_enter(c, p);
        }
    }
    __syncthreads();

    const float scale = NORM ? gemv_norm_scale(squares, p.k, eps) : 1;
    for (int i = (int)threadIdx.x; i < n_atoms * COLS; i += GEMV_THREADS) {
        const int atom = i / COLS, col = i % COLS;
        if (col >= p.n_cols) continue;
        float sum[Job::ATOM];
#pragma unroll
        for (int a = 0; a < Job::ATOM; a++) {
            sum[a] = 0;
            for (int slice = 0; slice < p.n_slices; slice++)
                sum[a] += parts[((atom * Job::ATOM + a) * p.n_slices + slice) * COLS + col];
            sum[a] *= scale;
        }
        job.finish(first + atom, col, sum);
    }
}

template <typename T, int COLS, bool NORM, class Job>
static enum op_status gemv_launch(struct cuda_device *cuda, const Job &job, int n_atoms, int k,
                                  int n_cols, const void *x, const int *outputs, const float *norm,
                                  float eps) {
    const struct gemv_plan plan = gemv_plan_make(cuda, n_atoms, Job::ATOM, k, n_cols, COLS,
                                                 sizeof(T), NORM ? sizeof(float) : sizeof(T));
    if (plan.shared_bytes > (size_t)cuda->shared_bytes) return OP_NOT_SUPPORTED;
    void (*kernel)(Job, struct gemv_plan, const T *, const int *, const float *, float) =
        gemv_kernel<T, COLS, NORM, Job>;
    enum op_status status = cuda_status(
        cuda, cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   (int)plan.shared_bytes));
    if (status != OP_OK) return status;
    return launch(cuda, kernel, dim3(plan.n_blocks), GEMV_THREADS, plan.shared_bytes, job, plan,
                  (const T *)x, outputs, norm, eps);
}

/* Columns 1 to 8 as the next of 1, 2, 4, 8. */
template <typename T, class Job>
static enum op_status gemv(struct cuda_device *cuda, const Job &job, int n_atoms, int k, int n_cols,
                           const void *x, const int *outputs) {
    if (n_cols == 1)
        return gemv_launch<T, 1, false>(cuda, job, n_atoms, k, 1, x, outputs, NULL, 0);
    if (n_cols == 2)
        return gemv_launch<T, 2, false>(cuda, job, n_atoms, k, 2, x, outputs, NULL, 0);
    if (n_cols <= 4)
        return gemv_launch<T, 4, false>(cuda, job, n_atoms, k, n_cols, x, outputs, NULL, 0);
    return gemv_launch<T, 8, false>(cuda, job, n_atoms, k, n_cols, x, outputs, NULL, 0);
}

/* One column, normalised on the way in: the sums are those of rms_norm(x). */
template <typename T, class Job>
static enum op_status gemv_normed(struct cuda_device *cuda, const Job &job, int n_atoms, int k,
                                  const void *x, const int *outputs, const float *norm, float eps) {
    return gemv_launch<T, 1, true>(cuda, job, n_atoms, k, 1, x, outputs, norm, eps);
}

/* Can a matrix's rows be read 16 bytes at a time? */
template <typename T> static bool gemv_can(const struct matrix *w, const void *x) {
    return w->cols % per_16<T> == 0 && (uintptr_t)w->data % 16 == 0 && (uintptr_t)x % 16 == 0;
}
