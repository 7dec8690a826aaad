/* Weights relative to the largest score so far, as powers of two. */
#pragma once

#include "kernels/cuda/numbers.cuh"

#include <math_constants.h>

static __device__ __forceinline__ float larger_of(float a, float b) {
    return b <= a ? a : b; /* b, where it is NaN */
}

/* Two to the score, relative to the largest; nothing seen yet weighs nothing. */
static __device__ __forceinline__ float weight_of(float score, float largest) {
    return score == -CUDART_INF_F ? 0 : exp2f(score - largest);
}
