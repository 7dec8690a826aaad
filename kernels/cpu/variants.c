/* The table of variants and what the processor offers. */
#include "kernels/cpu/variants.h"

#include "kernels/device.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

/* Best first. */
static const struct cpu_variant *const variant_table[] = {
#if defined(__x86_64__)
    &variant_avx512_bf16, &variant_avx512_vnni, &variant_avx512, &variant_avx2,
#endif
    &variant_baseline,
};

static const struct {
    enum cpu_feature feature;
    const char *name;
} feature_names[] = {{CPU_AVX2, "AVX2"},      {CPU_FMA, "FMA"},   {CPU_F16C, "F16C"},
                     {CPU_AVX512, "AVX-512"}, {CPU_VNNI, "VNNI"}, {CPU_BF16, "BF16"}};

unsigned cpu_features(void) {
    unsigned features = 0;
#if defined(__x86_64__)
    unsigned a, b, c = 0, d;
    /* the compiler's test of AVX2 includes that the system saves the wide registers */
    if (!__builtin_cpu_supports("avx2")) return 0;
    features |= CPU_AVX2;
    if (__builtin_cpu_supports("fma")) features |= CPU_FMA;
    if (__get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C) features |= CPU_F16C;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
        features |= CPU_AVX512;
        if (__builtin_cpu_supports("avx512vnni")) features |= CPU_VNNI;
        if (__builtin_cpu_supports("avx512bf16")) features |= CPU_BF16;
    }
#endif
    return features;
}

const struct cpu_variant *cpu_variant_pick(unsigned features, const char *name) {
    enum { N = sizeof variant_table / sizeof *variant_table };
    size_t i = 0;
    while (name && i < N - 1 && strcmp(variant_table[i]->name, name) != 0) i++;
    while ((variant_table[i]->needs & features) != variant_table[i]->needs) i++;
    return variant_table[i];
}

static char features_text[64];

static void write_features_text(void) {
    unsigned features = cpu_features();
    size_t n = 0;
    for (size_t i = 0; i < sizeof feature_names / sizeof *feature_names; i++)
        if (features & feature_names[i].feature)
            n += (size_t)snprintf(features_text + n, sizeof features_text - n, "%s%s",
                                  n > 0 ? " " : "", feature_names[i].name);
    if (n == 0) snprintf(features_text, sizeof features_text, "%s", variant_baseline.name);
}

const char *device_cpu_features(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, write_features_text);
    return features_text;
}
