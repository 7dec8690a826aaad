/*
 * skinny.cu: the products of passes with some rows (up to 64) on Hopper's tensor cores. All of them
 * answer OP_NOT_SUPPORTED, and launch nothing, for other cards, float, more rows, and shapes that
 * the copy engine does not take.
 */
#pragma once

#include "kernels/cuda/cuda.h"

/* From LEAST rows on it is faster than gemv.cuh; plain products with more than MAX_LINEAR are
 * faster by cuBLASLt. */
enum { SKINNY_LEAST_ROWS = 2, SKINNY_MAX_LINEAR_ROWS = 32, SKINNY_MAX_ROWS = 64 };

#ifdef QWEN_CUDA_SM90A
enum op_status skinny_linear(struct cuda_device *cuda, const struct op_linear *op);

/* All of the op, its norm too. */
enum op_status skinny_qkv(struct cuda_device *cuda, const struct op_qkv *op); /* no norm per head */
enum op_status skinny_gate_up(struct cuda_device *cuda, const struct op_gate_up *op);
#else /* the module has no code for sm_90a */
static inline enum op_status skinny_linear(struct cuda_device *, const struct op_linear *) {
    return OP_NOT_SUPPORTED;
}
static inline enum op_status skinny_qkv(struct cuda_device *, const struct op_qkv *) {
    return OP_NOT_SUPPORTED;
}
static inline enum op_status skinny_gate_up(struct cuda_device *, const struct op_gate_up *) {
    return OP_NOT_SUPPORTED;
}
#endif
