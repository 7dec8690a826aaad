/* The hot inner loops in plain C: what every other variant is compared with. */
#include "kernels/cpu/vec_baseline.h"
#include "kernels/cpu/wide_vec8.h"

#define VARIANT       variant_baseline
#define VARIANT_NAME  "baseline"
#define VARIANT_NEEDS 0
#include "kernels/cpu/hot.h"
