/* attention_batch.cu: a step of many sequences on Hopper. */
#pragma once

#include "kernels/cuda/attention.cuh"

enum { ATTENTION_BATCH_LEAST_ROWS = 2 }; /* from which on it is faster than attention_split() */

/* OP_NOT_SUPPORTED, and nothing is launched: other cards, caches, head sizes, or too many rows. */
enum op_status attention_batch(struct cuda_device *cuda, const struct attention_args &a);
