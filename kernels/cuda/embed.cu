/* embed and gather: rows of a table. */
#include "kernels/cuda/cuda.h"

enum { THREADS = 256 };

/* The id that a row stands for: known, or what the pass before drew. */
static __device__ int token_of(const struct op_embed &op, const int *tokens, size_t t) {
    int token = tokens[t];
    if (token < 0) token = op.drawn[-1 - token];
    return token < 0 ? 0 : token;
}

template <typename T>
static __global__ void embed_kernel(struct op_embed op, const int *tokens, const int *slots,
                                    const T *table, int n) {
    let_next_begin();
    wait_for_previous();
    const size_t t = blockIdx.x;
    const int slot = slots[t];
    const bool is_padding = slot < 0;
    const int token = is_padding ? 0 : token_of(op, tokens, t);
    const T *row = table + (size_t)token * (size_t)n;
    T *y = (T *)op.y + t * (size_t)n;
    for (int i = (int)threadIdx.x; i < n; i += THREADS)
        y[i] = is_padding ? from_float<T>(0) : row[i];
    if (threadIdx.x == 0 && !is_padding && op.seen) op.seen[slot] = token;
}

template <typename T>
static enum op_status embed(struct cuda_device *cuda, const struct op_embed *op) {
    const struct op_batch *b = op->batch;
    return launch(cuda, embed_kernel<T>, dim3((unsigned)b->n_rows), THREADS, 0, *op, b->tokens,
                  b->slots, (const T *)op->table->data, op->table->cols);
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
