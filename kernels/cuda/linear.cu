/* linear: few rows by gemv.cuh, some by skinny.cu, many by cuBLASLt, shapes that none of them takes
 * by a plain kernel. */
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/skinny.h"

/* ---- few rows ---- */

template <typename T, typename Y> struct linear_job {
    enum { ATOM = 1 };
    const T *w;
    Y *y;
    const float *bias; /* or NULL */
    int n, k;
    bool adds;

    __device__ const T *row(int atom, int) const {
        return w + (size_t)atom * (size_t)k;
    }
    struct facts {
        float bias, y;
    };
    __device__ struct facts facts_of(int atom, int) const {
        return {bias ? bias[atom] : 0, 0};
    }
    __device__ void look_up(struct facts &f, int atom, int col) const {
        if (adds) f.y = to_float(y[(size_t)col * (size_t)n + (size_t)atom]);
    }
    __device__ void finish(const struct facts &f, int atom, int col, const float *sums) const {
        y[(size_t)col * (size_t)n + (size_t)atom] = from_float<Y>(sums[0] + f.bias + f.y);
    }
};

template <typename T, typename Y>
static enum op_status few_rows(struct cuda_device *cuda, const struct op_linear *op) {
    const struct linear_job<T, Y> job = {
        (const T *)op->w->data, (Y *)op->y, op->bias, op->w->rows, op->w->cols, op->accumulate
    };
    return gemv<T>(cuda, job, op->w->rows, op->w->cols, op->rows, op->x, NULL);
}

/* ---- any shape: a warp for each value ---- */

enum { ANY_THREADS = 256 };

template <typename T, typename Y>
static __global__ void any_kernel(Y *y, const T *x, const T *w, const float *bias, int n, int k,
                                  bool adds) {
    let_next_begin();
    wait_for_previous();
    const int i = (int)(blockIdx.x * (ANY_THREADS / WARP) + threadIdx.x / WARP);
    const int lane = (int)threadIdx.x % WARP;
    if (i >= n) return;
    const size_t t = blockIdx.y;
    const T *row = w + (size_t)i * (size_t)k, *from = x + t * (size_t)k;
    float sum = 0;
    for (int c = lane; c < k; c += WARP) sum += to_float(row[c]) * to_float(from[c]);
    sum = warp_sum(sum);
    if (lane > 0) return;
    Y *to = y + t * (size_t)n + (size_t)i;
    if (bias) sum += bias[i];
    if (adds) sum += to_float(*to);
    *to = from_float<Y>(sum);
}

template <typename T, typename Y>
static enum op_status any_shape(struct cuda_device *cuda, const struct op_linear *op) {
    const dim3 grid(blocks_for((size_t)op->w->rows, ANY_THREADS / WARP), (unsigned)op->rows);
    return launch(cuda, any_kernel<T, Y>, grid, ANY_THREADS, 0, (Y *)op->y, (const T *)op->x,
                  (const T *)op->w->data, op->bias, op->w->rows, op->w->cols, op->accumulate);
}

/* ---- many rows ---- */

/* y[t] = bias (+ y[t]): what the product is added to. */
template <typename Y>
static __global__ void add_bias_kernel(Y *y, const float *bias, int n, bool adds) {
    let_next_begin();
    wait_for_previous();
    Y *row = y + (size_t)blockIdx.x * (size_t)n;
    for (int i = (int)threadIdx.x; i < n; i += ANY_THREADS)
        row[i] = from_float<Y>(bias[i] + (adds ? to_float(row[i]) : 0));
}

template <typename Y>
static enum op_status many_rows(struct cuda_device *cuda, const struct op_linear *op) {
    if (op->bias) {
        const enum op_status status =
            launch(cuda, add_bias_kernel<Y>, dim3((unsigned)op->rows), ANY_THREADS, 0, (Y *)op->y,
                   op->bias, op->w->rows, op->accumulate);
        if (status != OP_OK) return status;
    }
    return matmul_run(cuda, op, op->bias || op->accumulate ? 1.0f : 0.0f);
}

/* ---- which of them ---- */

template <typename T, typename Y>
static enum op_status linear_to(struct cuda_device *cuda, const struct op_linear *op) {
    const bool is_aligned = gemv_can<T>(op->w, op->x);
    enum op_status status = OP_NOT_SUPPORTED;
    if (op->rows >= SKINNY_LEAST_ROWS) status = skinny_linear(cuda, op);
    if (is_aligned && status == OP_NOT_SUPPORTED && op->rows <= GEMV_MAX_COLS)
        status = few_rows<T, Y>(cuda, op);
    if (is_aligned && status == OP_NOT_SUPPORTED && op->w->rows % per_16<T> == 0)
        status = many_rows<Y>(cuda, op);
    return status == OP_NOT_SUPPORTED ? any_shape<T, Y>(cuda, op) : status;
}

template <typename T>
static enum op_status linear(struct cuda_device *cuda, const struct op_linear *op) {
    return op->y_is_float ? linear_to<T, float>(cuda, op) : linear_to<T, T>(cuda, op);
}

enum op_status cuda_linear(struct cuda_device *cuda, const struct op_linear *op) {
    return FOR_ACTIVATION(cuda, linear, cuda, op);
}
