/* rope: a warp for each head of a row. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/rotate.cuh"

enum { THREADS = 128 };

template <typename T>
static __global__ void rope_kernel(T *x, int heads, bool is_query, struct rope_params rope,
                                   struct row_facts rows) {
    let_next_begin();
    wait_for_previous();
    const size_t t = blockIdx.x;
    const int n_pairs = rope.head_size / 2;
    if (rows.slots[t] < 0) return;
    for (int i = (int)threadIdx.x; i < n_pairs; i += THREADS) {
        const float2 by = rotation_of(rows, t, i, n_pairs, rope.logn_tokens, is_query);
        const int2 at = pair_at(i, n_pairs, rope.interleaved);
        for (int head = (int)blockIdx.y; head < heads; head += (int)gridDim.y) {
            T *row = x + (t * (size_t)heads + (size_t)head) * (size_t)rope.head_size;
            const float2 y = rotate(to_float(row[at.x]), to_float(row[at.y]), by);
            row[at.x] = from_float<T>(y.x);
            row[at.y] = from_float<T>(y.y);
        }
    }
}

template <typename T>
static enum op_status rope(struct cuda_device *cuda, const struct op_rope *op) {
    const unsigned parts = op->heads < 8 ? (unsigned)op->heads : 8;
    return launch(cuda, rope_kernel<T>, dim3((unsigned)op->batch->n_rows, parts), THREADS, 0,
                  (T *)op->x, op->heads, op->is_query, op->rope, row_facts_of(op->batch));
}

enum op_status cuda_rope(struct cuda_device *cuda, const struct op_rope *op) {
    return FOR_ACTIVATION(cuda, rope, cuda, op);
}
