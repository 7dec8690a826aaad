/* The hot inner loops for AVX2, FMA and F16C; this file alone is compiled with those. */
#if defined(__x86_64__)
#include "kernels/cpu/strip_avx2.h"
#include "kernels/cpu/vec_avx2.h"
#include "kernels/cpu/wide_vec8.h"

#define VARIANT       variant_avx2
#define VARIANT_NAME  "AVX2"
#define VARIANT_NEEDS (CPU_AVX2 | CPU_FMA | CPU_F16C)
#include "kernels/cpu/hot.h"
#endif
