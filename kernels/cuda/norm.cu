/* rms_norm: a block for each row. */
#include "kernels/cuda/cuda.h"

template <typename T>
static __global__ void rms_norm_kernel(T *y, const T *x, const float *weight, int n, float eps) {
    __shared__ float shared[WARP];
    let_next_begin();
    wait_for_previous();
    const size_t row = (size_t)blockIdx.x * (size_t)n;
    float squares = 0;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        const float value = to_float(x[row + (size_t)i]);
        squares += value * value;
    }
    const float scale = 1 / sqrtf(block_sum(squares, shared) / (float)n + eps);
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        const size_t at = row + (size_t)i;
        y[at] = from_float<T>(to_float(x[at]) * scale * weight[i]);
    }
}

/* The same for rows of which each thread has 16 bytes, at once: one trip to memory, and the norm's
 * weights are there before the wait. */
template <typename T>
static __global__ void __launch_bounds__(1024)
    rms_norm_wide_kernel(T *y, const T *x, const float *weight, int n, float eps) {
    enum { N = per_16<T> };
    __shared__ float shared[WARP];
    const int i = (int)threadIdx.x * N;
    const size_t at = (size_t)blockIdx.x * (size_t)n + (size_t)i;
    float weights[N] = {}, values[N] = {}, squares = 0;
    let_next_begin();
    if (i < n)
#pragma unroll
        for (int k = 0; k < N; k += 4) unpack<float>(*(const uint4 *)(weight + i + k), weights + k);
    wait_for_previous();
    if (i < n) unpack<T>(*(const uint4 *)(x + at), values);
#pragma unroll
    for (int k = 0; k < N; k++) squares += values[k] * values[k];
    const float scale = 1 / sqrtf(block_sum(squares, shared) / (float)n + eps);
    if (i >= n) return;
    union {
        uint4 packed;
        T separate[N];
    } u = {};
#pragma unroll
    for (int k = 0; k < N; k++) u.separate[k] = from_float<T>(values[k] * scale * weights[k]);
    *(uint4 *)(y + at) = u.packed;
}

template <typename T>
static enum op_status rms_norm(struct cuda_device *cuda, const struct op_rms_norm *op) {
    const int pieces = op->n / per_16<T>;
    const uintptr_t all = (uintptr_t)op->y | (uintptr_t)op->x | (uintptr_t)op->weight;
    if (op->n % per_16<T> == 0 && pieces <= 1024 && all % 16 == 0)
        return launch(cuda, rms_norm_wide_kernel<T>, dim3((unsigned)op->rows),
                      (pieces + WARP - 1) / WARP * WARP, 0, (T *)op->y, (const T *)op->x,
                      op->weight, op->n, op->eps);
    const int threads = op->n <= 256 ? 32 : op->n <= 2048 ? 128 : 512;
    return launch(cuda, rms_norm_kernel<T>, dim3((unsigned)op->rows), threads, 0, (T *)op->y,
                  (const T *)op->x, op->weight, op->n, op->eps);
}

enum op_status cuda_rms_norm(struct cuda_device *cuda, const struct op_rms_norm *op) {
    return FOR_ACTIVATION(cuda, rms_norm, cuda, op);
}
