/*
 * gemm_sm90.cu: products of many rows on Hopper's tensor cores (sm_90a) with what comes behind them
 * done before anything is written. Tested and timed by tests/gpu/gemm_bench.cu.
 */
#pragma once

#include "kernels/device.h"

struct cuda_device;

/* y = silu(x gate') * (x up'): x act [rows, hidden], gate and up act [n, hidden], y act [rows, n]
 */
struct gemm_silu {
    void *y;
    const void *x, *gate, *up;
    int rows, n, hidden;
};

/* Enough rows that it is worth it, 16-bit values, sizes and places that the copy engine takes. */
bool gemm_can(const struct cuda_device *cuda, const void *x, const struct matrix *w, int rows);

enum op_status gemm_silu_mul(struct cuda_device *cuda, const struct gemm_silu *op);
