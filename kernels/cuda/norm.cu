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

template <typename T>
static enum op_status rms_norm(struct cuda_device *cuda, const struct op_rms_norm *op) {
    const int threads = op->n <= 256 ? 32 : op->n <= 2048 ? 128 : 512;
    return launch(cuda, rms_norm_kernel<T>, dim3((unsigned)op->rows), threads, 0, (T *)op->y,
                  (const T *)op->x, op->weight, op->n, op->eps);
}

enum op_status cuda_rms_norm(struct cuda_device *cuda, const struct op_rms_norm *op) {
    return FOR_ACTIVATION(cuda, rms_norm, cuda, op);
}
