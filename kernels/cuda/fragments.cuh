/* Pieces of matrices as a warp's lanes hold them for the tensor cores, and their product. */
#pragma once

#include "kernels/cuda/numbers.cuh"

#include <type_traits>

/* c += a b with a [16, 16], b [16, 8]. a: low and high eight rows' first pairs, then their second.
 */
template <typename T>
static __device__ __forceinline__ void multiply(float *c, const unsigned *a, unsigned b_1,
                                                unsigned b_2) {
#if __CUDA_ARCH__ >= 800
    if constexpr (std::is_same<T, bf16>::value)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
            "{%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_1), "r"(b_2));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
            "{%8,%9}, {%0,%1,%2,%3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b_1), "r"(b_2));
#else /* 7.5 has half of it, and no bfloat16 */
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(b_1));
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[2]), "r"(a[3]), "r"(b_2));
#endif
}

/* Four 8 by 8 matrices whose rows begin at the addresses of lanes 0-7, 8-15, 16-23, 24-31. */
static __device__ __forceinline__ void load_matrices(unsigned *to, const void *row) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}
static __device__ __forceinline__ void load_transposed(unsigned *to, const void *row) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(address)
                 : "memory");
}

template <typename T> static __device__ __forceinline__ unsigned pack_two(float a, float b);
template <> __device__ __forceinline__ unsigned pack_two<f16>(float a, float b) {
    const __half2 two = __floats2half2_rn(a, b);
    return *(const unsigned *)&two;
}
template <> __device__ __forceinline__ unsigned pack_two<bf16>(float a, float b) {
    const __nv_bfloat162 two = __floats2bfloat162_rn(a, b);
    return *(const unsigned *)&two;
}

/* And back. */
template <typename T> static __device__ __forceinline__ float2 unpack_two(unsigned two);
template <> __device__ __forceinline__ float2 unpack_two<f16>(unsigned two) {
    __half2 pair;
    memcpy(&pair, &two, sizeof pair);
    return __half22float2(pair);
}
template <> __device__ __forceinline__ float2 unpack_two<bf16>(unsigned two) {
    return make_float2(__uint_as_float(two << 16), __uint_as_float(two & 0xffff0000u));
}

/* A 4x4 matrix of words over four lanes, one row each, is transposed. */
static __device__ __forceinline__ void transpose(unsigned (&w)[4]) {
#pragma unroll
    for (int step = 1; step <= 2; step *= 2) {
        const bool is_upper = threadIdx.x & (unsigned)step;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i & step) continue;
            const unsigned got = __shfl_xor_sync(~0u, is_upper ? w[i] : w[i + step], step);
            if (is_upper)
                w[i] = got;
            else
                w[i + step] = got;
        }
    }
}
