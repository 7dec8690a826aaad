/* How the copy engine (TMA, sm_90) is told of an array of 16-bit values. */
#pragma once

#include "kernels/format.h"

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

/* The driver's function; NULL where it has none. */
static inline PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder(void) {
    void *function = NULL;
    cudaDriverEntryPointQueryResult found;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                         cudaEnableDefault, &found) != cudaSuccess ||
        found != cudaDriverEntryPointSuccess)
        return NULL;
    return (PFN_cuTensorMapEncodeTiled_v12000)function;
}

/*
 * Boxes of `rank` sides, in values, the innermost first; strides in bytes, without the innermost's,
 * whose values are adjacent. A box lies swizzled, 128 bytes at a time, in shared memory; what is
 * outside of the array is 0 there.
 */
static inline bool tensor_map(CUtensorMap *map, enum format format, const void *data, int rank,
                              const cuuint64_t *sizes, const cuuint64_t *strides,
                              const cuuint32_t *box) {
    static const PFN_cuTensorMapEncodeTiled_v12000 encode = tensor_map_encoder();
    const CUtensorMapDataType type =
        format == FORMAT_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    const cuuint32_t steps[5] = {1, 1, 1, 1, 1};
    return encode && encode(map, type, (cuuint32_t)rank, (void *)data, sizes, strides, box, steps,
                            CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                            CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}
