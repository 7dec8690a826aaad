/* attention_batch.cu: a step of many sequences on Hopper. */
#pragma once

#include "kernels/cuda/attention.cuh"

enum { ATTENTION_BATCH_LEAST_ROWS = 2 }; /* from which on it is faster than attention_split() */

/* OP_NOT_SUPPORTED, and nothing is launched: other cards, caches, head sizes, or too many rows. */
#ifdef QWEN_CUDA_SM90A
enum op_status attention_batch(struct cuda_device *cuda, const struct attention_args &a);
#else /* the module has no code for sm_90a */
static inline enum op_status attention_batch(struct cuda_device *, const struct attention_args &) {
    return OP_NOT_SUPPORTED;
}
#endif
