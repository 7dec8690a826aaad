/* What the attention kernels share. */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/rotate.cuh"

#include <type_traits>

struct attention_args {
    void *y;
    const void *q;
    struct kv_view kv;
    enum format activation;
    int heads, window, max_blocks;
    float scale;
    const int *positions, *seq_of, *slots, *starts, *block_table;
    float *partial; /* [T, H, n_splits, K + SUMMARY] */
    int *counters;  /* [T, tiles]: splits that are done; 0 between launches */
    int n_splits;
    int n_rows, n_seqs;
    bool is_decode; /* each sequence has one row */
};

/*
 * attention_tiles.cu: many rows, on tensor cores. OP_NOT_SUPPORTED, and nothing is launched, for
 * cards, caches and head sizes that it has no kernel for.
 */
enum op_status attention_tiles(struct cuda_device *cuda, const struct attention_args &a);

/*
 * attention_split.cu: one row of each sequence, on tensor cores, the keys split over blocks.
 * OP_NOT_SUPPORTED as above.
 */
enum op_status attention_split(struct cuda_device *cuda, const struct attention_args &a);

/* Do the tensor cores take queries of that activation format and keys of that cache as they are?
 * bfloat16 is exact in half. */
static inline bool attention_fits(const struct cuda_device *cuda, const struct attention_args &a) {
    const bool is_exact =
        a.activation == a.kv.format || (a.activation == FORMAT_BF16 && a.kv.format == FORMAT_F16);
    return cuda->capability >= 80 && a.kv.head_size <= 128 && a.kv.head_size % 8 == 0 && is_exact &&
           a.activation != FORMAT_F32;
}

/* ---- fragments ---- */

/* c += a b with a [16, 16], b [16, 8]. */
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

/* Where 16-byte piece `piece` of key `key` of a tile lies: pieces of eight neighbouring keys are
 * spread over the banks. */
template <int HEAD> static __device__ __forceinline__ int place_of(int key, int piece) {
    return key * HEAD + ((piece ^ (key & 7)) * 8);
}
