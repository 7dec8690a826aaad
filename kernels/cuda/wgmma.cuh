/*
 * Hopper's own instructions (sm_90a) as functions: barriers in shared memory that count bytes, the
 * copy engine (TMA), matrix products of a warpgroup (wgmma), registers handed between warpgroups.
 *
 * Source of the encodings: PTX ISA 9.0, sections "Asynchronous warpgroup level matrix
 * instructions", "mbarrier" and "Tensor copy".
 */
#pragma once

#include "kernels/cuda/numbers.cuh"

#include <cudaTypedefs.h>
#include <stdint.h>
#ifdef QWEN_CUDA_BOUND_WAITS
#include <stdio.h>
#endif

enum { WARPGROUP = 128 /* threads */ };

static __device__ __forceinline__ unsigned shared_address(const void *p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

/* ---- barriers: a phase ends when all have arrived and all announced bytes are there ---- */

static __device__ __forceinline__ void barrier_init(uint64_t *barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
                 "r"(arrivals)
                 : "memory");
}
static __device__ __forceinline__ void barrier_arrive(uint64_t *barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
                 : "memory");
}
static __device__ __forceinline__ void barrier_arrive_expecting(uint64_t *barrier, int bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
        "r"(bytes)
        : "memory");
}
static __device__ __forceinline__ bool barrier_try(uint64_t *barrier, unsigned parity) {
    unsigned is_done;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(is_done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
    return is_done;
}
/* Until the phase of that parity is over (before the first phase, the one of parity 1 is). */
static __device__ __forceinline__ void barrier_wait(uint64_t *barrier, unsigned parity, int what) {
#ifdef QWEN_CUDA_BOUND_WAITS /* a wait that takes seconds never ends: say where, and stop */
    const long long start = clock64();
    while (!barrier_try(barrier, parity))
        if (clock64() - start > 4000000000ll) {
            printf("stuck: block %d thread %d waits for %d, parity %u\n", (int)blockIdx.x,
                   (int)threadIdx.x, what, parity);
            __trap();
        }
#else
    (void)what;
    while (!barrier_try(barrier, parity)) {
    }
#endif
}
/* barrier_init() is seen by the copy engine. */
static __device__ __forceinline__ void barriers_are_ready(void) {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/* What this thread stored to shared memory is seen by wgmma and the copy engine. */
static __device__ __forceinline__ void stores_are_ready(void) {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/* Barriers 1 .. 15 of the block, for `threads` of its threads: those who wait and those who do not.
 */
static __device__ __forceinline__ void named_wait(int barrier, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}
static __device__ __forceinline__ void named_arrive(int barrier, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

/* ---- the copy engine ---- */

static __device__ __forceinline__ void prefetch_map(const CUtensorMap *map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
/* A box at (x, y, z) or (x, y, z, w) to shared memory; what is outside of the tensor becomes 0. */
static __device__ __forceinline__ void copy_box(void *to, const CUtensorMap *map, int x, int y,
                                                int z, uint64_t *barrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
                 "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier))
                 : "memory");
}
static __device__ __forceinline__ void copy_box(void *to, const CUtensorMap *map, int x, int y,
                                                int z, int w, uint64_t *barrier) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(to)),
                 "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(shared_address(barrier))
                 : "memory");
}
/* True in one lane of the warp, all of whose lanes come here. */
static __device__ __forceinline__ bool is_elected(void) {
    unsigned elected;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "elect.sync _|p, 0xffffffff;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(elected));
    return elected;
}

/* ---- registers of a warpgroup ---- */

template <int N> static __device__ __forceinline__ void take_registers(void) {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> static __device__ __forceinline__ void give_registers(void) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/* ---- matrix products ---- */

/*
 * A matrix in shared memory, in atoms of 8 rows of 128 bytes, each swizzled as the copy engine's
 * SWIZZLE_128B does and at a multiple of 1024 bytes. From one to the next there are `down` bytes
 * for the next 8 rows and `right` bytes for the next 64 columns (used where the product's side, not
 * the one summed over, lies along the rows).
 */
static __device__ __forceinline__ uint64_t matrix_in_shared(const void *p, int down, int right) {
    const uint64_t swizzle_128 = (uint64_t)1 << 62;
    return swizzle_128 | (uint64_t)(down >> 4) << 32 | (uint64_t)(right >> 4) << 16 |
           (uint64_t)((shared_address(p) & 0x3ffff) >> 4);
}
static __device__ __forceinline__ uint64_t advance(uint64_t matrix, int bytes) {
    return (matrix & 0xffffffff00000000) | (uint32_t)((uint32_t)matrix + (uint32_t)(bytes >> 4));
}

/* Registers are as written up to here before wgmma reads them. */
static __device__ __forceinline__ void wgmma_begin(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void wgmma_commit(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Until at most N groups are under way. */
template <int N> static __device__ __forceinline__ void wgmma_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
/* The compiler moves no access to these registers across this line. */
template <int N> static __device__ __forceinline__ void hold(float (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(x[i])::"memory");
}
template <int N> static __device__ __forceinline__ void hold(unsigned (&x)[N]) {
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+r"(x[i])::"memory");
}

#define D8(i)                                                                                      \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define D4        "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define D16       D8(0), D8(8)
#define D32       D8(0), D8(8), D8(16), D8(24)
#define D64       D32, D8(32), D8(40), D8(48), D8(56)
#define D4_NAMES  "%0,%1,%2,%3"
#define D8_NAMES  "%0,%1,%2,%3,%4,%5,%6,%7"
#define D16_NAMES "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define D32_NAMES                                                                                  \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"                                       \
    "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define D64_NAMES                                                                                  \
    D32_NAMES ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"                  \
              "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

/* `operands`: a, b, whether it adds (predicate p), signs, and how a and b lie, as PTX wants them */
#define WGMMA(n, type, names, p_name, operands, outputs, ...)                                      \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " p_name ", 0;\n"                               \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" names         \
                 "}, " operands ";\n}"                                                             \
                 : outputs                                                                         \
                 : __VA_ARGS__, "r"((int)adds))

template <typename T> constexpr bool is_bf16 = false;
template <> constexpr bool is_bf16<bf16> = true;

/* d (+)= a b', a [64, 16] and b [128, 16] in shared memory, the side summed over along the rows */
template <typename T>
static __device__ __forceinline__ void wgmma_rows(float (&d)[64], uint64_t a, uint64_t b,
                                                  bool adds) {
    if constexpr (is_bf16<T>)
        WGMMA("128", "bf16", D64_NAMES, "%66", "%64, %65, p, 1, 1, 0, 0", D64, "l"(a), "l"(b));
    else
        WGMMA("128", "f16", D64_NAMES, "%66", "%64, %65, p, 1, 1, 0, 0", D64, "l"(a), "l"(b));
}

/* The same with 8, 16, 32 and 64 rows of b: d has half as many values. */
template <typename T>
static __device__ __forceinline__ void wgmma_rows(float (&d)[4], uint64_t a, uint64_t b,
                                                  bool adds) {
    if constexpr (is_bf16<T>)
        WGMMA("8", "bf16", D4_NAMES, "%6", "%4, %5, p, 1, 1, 0, 0", D4, "l"(a), "l"(b));
    else
        WGMMA("8", "f16", D4_NAMES, "%6", "%4, %5, p, 1, 1, 0, 0", D4, "l"(a), "l"(b));
}
template <typename T>
static __device__ __forceinline__ void wgmma_rows(float (&d)[8], uint64_t a, uint64_t b,
                                                  bool adds) {
    if constexpr (is_bf16<T>)
        WGMMA("16", "bf16", D8_NAMES, "%10", "%8, %9, p, 1, 1, 0, 0", D8(0), "l"(a), "l"(b));
    else
        WGMMA("16", "f16", D8_NAMES, "%10", "%8, %9, p, 1, 1, 0, 0", D8(0), "l"(a), "l"(b));
}
template <typename T>
static __device__ __forceinline__ void wgmma_rows(float (&d)[16], uint64_t a, uint64_t b,
                                                  bool adds) {
    if constexpr (is_bf16<T>)
        WGMMA("32", "bf16", D16_NAMES, "%18", "%16, %17, p, 1, 1, 0, 0", D16, "l"(a), "l"(b));
    else
        WGMMA("32", "f16", D16_NAMES, "%18", "%16, %17, p, 1, 1, 0, 0", D16, "l"(a), "l"(b));
}
template <typename T>
static __device__ __forceinline__ void wgmma_rows(float (&d)[32], uint64_t a, uint64_t b,
                                                  bool adds) {
    if constexpr (is_bf16<T>)
        WGMMA("64", "bf16", D32_NAMES, "%34", "%32, %33, p, 1, 1, 0, 0", D32, "l"(a), "l"(b));
    else
        WGMMA("64", "f16", D32_NAMES, "%34", "%32, %33, p, 1, 1, 0, 0", D32, "l"(a), "l"(b));
}

/* d (+)= a b, a [64, 16] in registers, b [16, 128] in shared memory, 128 along the rows */
template <typename T>
static __device__ __forceinline__ void wgmma_columns(float (&d)[64], const unsigned *a, uint64_t b,
                                                     bool adds) {
    if constexpr (is_bf16<T>)
        WGMMA("128", "bf16", D64_NAMES, "%69", "{%64,%65,%66,%67}, %68, p, 1, 1, 1", D64, "r"(a[0]),
              "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
    else
        WGMMA("128", "f16", D64_NAMES, "%69", "{%64,%65,%66,%67}, %68, p, 1, 1, 1", D64, "r"(a[0]),
              "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
/* b [16, 64] */
template <typename T>
static __device__ __forceinline__ void wgmma_columns(float (&d)[32], const unsigned *a, uint64_t b,
                                                     bool adds) {
    if constexpr (is_bf16<T>)
        WGMMA("64", "bf16", D32_NAMES, "%37", "{%32,%33,%34,%35}, %36, p, 1, 1, 1", D32, "r"(a[0]),
              "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
    else
        WGMMA("64", "f16", D32_NAMES, "%37", "{%32,%33,%34,%35}, %36, p, 1, 1, 1", D32, "r"(a[0]),
              "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef WGMMA
#undef D4
#undef D8
#undef D16
#undef D32
#undef D64
#undef D4_NAMES
#undef D8_NAMES
#undef D16_NAMES
#undef D32_NAMES
#undef D64_NAMES
