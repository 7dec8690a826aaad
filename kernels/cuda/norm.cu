/*
 * rms_norm: a block for each row, which it reads once, 16 bytes a thread at a time; rows that are
 * too long or lie at odd places value by value.
 */
#include "kernels/cuda/cuda.h"

enum { THREADS = 128 };

template <typename T, int PIECES>
static __global__ void __launch_bounds__(THREADS)
    rms_norm_kernel(T *y, const T *x, const float *weight, int n, float eps) {
    enum { EACH = per_16<T> };
    __shared__ float shared[WARP];
    let_next_begin();
    wait_for_previous();
    const size_t row = (size_t)blockIdx.x * (size_t)n;
    uint4 packed[PIECES];
    float values[EACH], squares = 0;
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int at = (p * THREADS + (int)threadIdx.x) * EACH;
        packed[p] = at < n ? *(const uint4 *)(x + row + (size_t)at) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        unpack<T>(packed[p], values);
#pragma unroll
        for (int i = 0; i < EACH; i++) squares += values[i] * values[i];
    }
    const float scale = 1 / sqrtf(block_sum(squares, shared) / (float)n + eps);
#pragma unroll
    for (int p = 0; p < PIECES; p++) {
        const int at = (p * THREADS + (int)threadIdx.x) * EACH;
        if (at >= n) break;
        unpack<T>(packed[p], values);
#pragma unroll
        for (int i = 0; i < EACH; i += 4) {
            const float4 w = *(const float4 *)(weight + at + i);
            values[i] *= scale * w.x, values[i + 1] *= scale * w.y;
            values[i + 2] *= scale * w.z, values[i + 3] *= scale * w.w;
        }
        *(uint4 *)(y + row + (size_t)at) = pack_16<T>(values);
    }
}

template <typename T>
static __global__ void any_kernel(T *y, const T *x, const float *weight, int n, float eps) {
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

template <typename T>
static enum op_status rms_norm(struct cuda_device *cuda, const struct op_rms_norm *op) {
    const uintptr_t places = (uintptr_t)op->y | (uintptr_t)op->x | (uintptr_t)op->weight;
    const int pieces = (op->n / per_16<T> + THREADS - 1) / THREADS;
    const bool is_aligned = places % 16 == 0 && op->n % per_16<T> == 0;
    const auto kernel = !is_aligned || pieces > 8 ? any_kernel<T>
                        : pieces <= 1             ? rms_norm_kernel<T, 1>
                        : pieces <= 2             ? rms_norm_kernel<T, 2>
                        : pieces <= 4             ? rms_norm_kernel<T, 4>
                                                  : rms_norm_kernel<T, 8>;
    return launch(cuda, kernel, dim3((unsigned)op->rows), THREADS, 0, (T *)op->y, (const T *)op->x,
                  op->weight, op->n, op->eps);
}

enum op_status cuda_rms_norm(struct cuda_device *cuda, const struct op_rms_norm *op) {
    return FOR_ACTIVATION(cuda, rms_norm, cuda, op);
}
