/* The hot inner loops for AVX-512 (F, BW, DQ, VL); this file alone is compiled with those. */
#if defined(__x86_64__)
#include "kernels/cpu/strip_avx512.h"
#include "kernels/cpu/vec_avx2.h"
#include "kernels/cpu/wide_avx512.h"

#define VARIANT       variant_avx512
#define VARIANT_NAME  "AVX-512"
#define VARIANT_NEEDS (CPU_AVX2 | CPU_FMA | CPU_F16C | CPU_AVX512)
#include "kernels/cpu/hot.h"
#endif
