/*
 * What all kernels share: numbers as they are stored and as float, 16-byte loads, sums over a warp
 * and a block in a fixed order, and the programmatic dependence of a launch on the one before it.
 */
#pragma once

#include "kernels/ops.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

typedef __nv_bfloat16 bf16;
typedef __half f16;

enum { WARP = 32 };

/* ---- numbers ---- */

static __device__ __forceinline__ float to_float(float x) {
    return x;
}
static __device__ __forceinline__ float to_float(f16 x) {
    return __half2float(x);
}
static __device__ __forceinline__ float to_float(bf16 x) {
    return __bfloat162float(x);
}

template <typename T> static __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ f16 from_float<f16>(float x) {
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return __float2bfloat16_rn(x);
}

/* Values in 16 bytes, and those as float. */
template <typename T> constexpr int per_16 = 16 / (int)sizeof(T);

template <typename T> static __device__ __forceinline__ void unpack(uint4 v, float *out);
template <> __device__ __forceinline__ void unpack<float>(uint4 v, float *out) {
    out[0] = __uint_as_float(v.x), out[1] = __uint_as_float(v.y);
    out[2] = __uint_as_float(v.z), out[3] = __uint_as_float(v.w);
}
template <> __device__ __forceinline__ void unpack<bf16>(uint4 v, float *out) {
    const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        out[2 * i] = __uint_as_float(words[i] << 16);
        out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}
template <> __device__ __forceinline__ void unpack<f16>(uint4 v, float *out) {
    const unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        __half2 pair;
        memcpy(&pair, &words[i], sizeof pair);
        const float2 two = __half22float2(pair);
        out[2 * i] = two.x, out[2 * i + 1] = two.y;
    }
}

/* And back. */
template <typename T> static __device__ __forceinline__ uint4 pack_16(const float *from) {
    union {
        uint4 packed;
        T values[per_16<T>];
    } u;
#pragma unroll
    for (int i = 0; i < per_16<T>; i++) u.values[i] = from_float<T>(from[i]);
    return u.packed;
}

/* A cache's format is a run-time fact of the generic kernels. */
static __device__ __forceinline__ float load_as(const void *data, size_t i, enum format format) {
    if (format == FORMAT_F16) return to_float(((const f16 *)data)[i]);
    if (format == FORMAT_BF16) return to_float(((const bf16 *)data)[i]);
    return ((const float *)data)[i];
}
static __device__ __forceinline__ void store_as(void *data, size_t i, enum format format, float x) {
    if (format == FORMAT_F16)
        ((f16 *)data)[i] = from_float<f16>(x);
    else if (format == FORMAT_BF16)
        ((bf16 *)data)[i] = from_float<bf16>(x);
    else
        ((float *)data)[i] = x;
}

/* ---- sums in a fixed order ---- */

static __device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

/* Every thread gets the sum over the block; `shared` has room for 32 floats. */
static __device__ __forceinline__ float block_sum(float x, float *shared) {
    const int n_warps = (int)blockDim.x / WARP;
    x = warp_sum(x);
    __syncthreads(); /* `shared` may still be read from the call before */
    if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = x;
    __syncthreads();
    x = (int)threadIdx.x % WARP < n_warps ? shared[threadIdx.x % WARP] : 0;
    return warp_sum(x);
}

/* ---- dependent launches (sm_90 and later) ---- */

/* From here on the kernel before this one has ended and what it wrote can be read. Every kernel
 * calls it before it touches anything that another kernel writes or reads: so what is two launches
 * back has ended too. */
static __device__ __forceinline__ void wait_for_previous(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* The next kernel's blocks may begin where there is room; they wait as said above. */
static __device__ __forceinline__ void let_next_begin(void) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* ---- a row of a matrix to shared memory, 16 bytes a thread, without waiting ---- */

/* Bytes beyond `n` (0 or 16) become zero. The other half of 128 bytes is on its way to L2 too. */
static __device__ __forceinline__ void copy_16_async(void *to, const void *from, int n) {
#if __CUDA_ARCH__ >= 800
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(n)
                 : "memory");
#else
    *(uint4 *)to = n ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
#endif
}
static __device__ __forceinline__ void commit_copies(void) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/* Until at most N of this thread's groups are under way. */
template <int N> static __device__ __forceinline__ void wait_for_copies(void) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}
