/* embed and gather: rows of a table. */
#include "kernels/cuda/cuda.h"

enum { THREADS = 256 };

template <typename T>
static __global__ void embed_kernel(T *y, const T *table, const int *tokens, const int *slots,
                                    int n) {
    let_next_begin();
    wait_for_previous();
    const size_t t = blockIdx.x;
    const bool is_padding = slots[t] < 0;
    const T *row = table + (is_padding ? 0 : (size_t)tokens[t] * (size_t)n);
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        y[t * (size_t)n + (size_t)i] = is_padding ? from_float<T>(0) : row[i];
}

template <typename T>
static enum op_status embed(struct cuda_device *cuda, const struct op_embed *op) {
    const struct op_batch *b = op->batch;
    return launch(cuda, embed_kernel<T>, dim3((unsigned)b->n_rows), THREADS, 0, (T *)op->y,
                  (const T *)op->table->data, b->tokens, b->slots, op->table->cols);
}

enum op_status cuda_embed(struct cuda_device *cuda, const struct op_embed *op) {
    return FOR_ACTIVATION(cuda, embed, cuda, op);
}

template <typename T>
static __global__ void gather_kernel(T *y, const T *x, const int *outputs, int n) {
    let_next_begin();
    wait_for_previous();
    const size_t r = blockIdx.x;
    const T *row = x + (size_t)outputs[r] * (size_t)n;
    for (int i = (int)threadIdx.x; i < n; i += THREADS) y[r * (size_t)n + (size_t)i] = row[i];
}

template <typename T>
static enum op_status gather(struct cuda_device *cuda, const struct op_gather *op) {
    return launch(cuda, gather_kernel<T>, dim3((unsigned)op->batch->n_outputs), THREADS, 0,
                  (T *)op->y, (const T *)op->x, op->batch->outputs, op->n);
}

enum op_status cuda_gather(struct cuda_device *cuda, const struct op_gather *op) {
    return FOR_ACTIVATION(cuda, gather, cuda, op);
}
