/* The hot inner loops for AVX-512 with VNNI; this file alone is compiled with those. */
#if defined(__x86_64__)
#include "kernels/cpu/strip_avx512.h"
#include "kernels/cpu/vec_avx2.h"
#include "kernels/cpu/wide_avx512.h"

#define VARIANT       variant_avx512_vnni
#define VARIANT_NAME  "AVX-512 VNNI"
#define VARIANT_NEEDS (CPU_AVX2 | CPU_FMA | CPU_F16C | CPU_AVX512 | CPU_VNNI)
#include "kernels/cpu/hot.h"
#endif
