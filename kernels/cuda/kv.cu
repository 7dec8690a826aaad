/* kv_write: a row's keys and values to their slot of the paged cache. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/rotate.cuh"

enum { THREADS = 128 };

template <typename T>
static __global__ void kv_write_kernel(const T *k, const T *v, struct kv_view kv,
                                       const int *slots) {
    let_next_begin();
    wait_for_previous();
    const size_t t = blockIdx.x;
    const int head = (int)blockIdx.y, slot = slots[t];
    if (slot < 0) return;
    const size_t from = (t * (size_t)kv.n_kv_heads + (size_t)head) * (size_t)kv.head_size;
    const size_t to = cache_row(kv, slot, head);
    for (int i = (int)threadIdx.x; i < kv.head_size; i += THREADS) {
        store_as(kv.k, to + (size_t)i, kv.format, to_float(k[from + (size_t)i]));
        store_as(kv.v, to + (size_t)i, kv.format, to_float(v[from + (size_t)i]));
    }
}

template <typename T>
static enum op_status kv_write(struct cuda_device *cuda, const struct op_kv_write *op) {
    const dim3 grid((unsigned)op->batch->n_rows, (unsigned)op->kv.n_kv_heads);
    return launch(cuda, kv_write_kernel<T>, grid, THREADS, 0, (const T *)op->k, (const T *)op->v,
                  op->kv, op->batch->slots);
}

enum op_status cuda_kv_write(struct cuda_device *cuda, const struct op_kv_write *op) {
    return FOR_ACTIVATION(cuda, kv_write, cuda, op);
}
