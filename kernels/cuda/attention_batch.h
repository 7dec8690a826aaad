/* attention_batch.cu: a step of many sequences on Hopper. */
#pragma once

#include "kernels/cuda/attention.cuh"

/*
 * OP_NOT_SUPPORTED, and nothing is launched: other cards, caches, head sizes, too many rows; or so
 * few that attention_split(), whose blocks leave room for the next product's, is faster.
 */
#ifdef QWEN_CUDA_SM90A
enum op_status attention_batch(struct cuda_device *cuda, const struct attention_args &a);
#else /* the module has no code for sm_90a */
static inline enum op_status attention_batch(struct cuda_device *, const struct attention_args &) {
    return OP_NOT_SUPPORTED;
}
#endif
