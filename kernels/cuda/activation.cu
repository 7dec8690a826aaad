/* silu_mul, element by element. */
#include "kernels/cuda/cuda.h"

enum { THREADS = 256, PER_THREAD = 4 };

template <typename T>
static __global__ void silu_mul_kernel(T *y, const T *gate, const T *up, size_t n) {
    let_next_begin();
    wait_for_previous();
    const size_t first = (size_t)blockIdx.x * (THREADS * PER_THREAD) + threadIdx.x;
#pragma unroll
    for (int k = 0; k < PER_THREAD; k++) {
        const size_t i = first + (size_t)(k * THREADS);
        if (i >= n) return;
        const float g = to_float(gate[i]);
        y[i] = from_float<T>(g / (1 + __expf(-g)) * to_float(up[i]));
    }
}

template <typename T>
static enum op_status silu_mul(struct cuda_device *cuda, const struct op_silu_mul *op) {
    return launch(cuda, silu_mul_kernel<T>, dim3(blocks_for(op->n, THREADS * PER_THREAD)), THREADS,
                  0, (T *)op->y, (const T *)op->gate, (const T *)op->up, op->n);
}

enum op_status cuda_silu_mul(struct cuda_device *cuda, const struct op_silu_mul *op) {
    return FOR_ACTIVATION(cuda, silu_mul, cuda, op);
}
