/* RMS norm (arXiv 1910.07467). Squares are summed in double: a few activations of real models are
 * thousands of times the others. */
#include "kernels/cpu/cpu.h"

#include <math.h>

enum { LANES = 4 };

static float mean_square(const float *x, int n) {
    double sums[LANES] = {0};
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int lane = 0; lane < LANES; lane++)
            sums[lane] += (double)x[i + lane] * (double)x[i + lane];
    for (; i < n; i++) sums[0] += (double)x[i] * (double)x[i];
    return (float)(((sums[0] + sums[1]) + (sums[2] + sums[3])) / n);
}

float cpu_norm_factor(const float *x, int n, float eps) {
    return 1 / sqrtf(mean_square(x, n) + eps);
}

void cpu_norm_scale(float *y, const float *x, float factor, const float *weight, int n) {
    for (int i = 0; i < n; i++) y[i] = x[i] * factor * weight[i];
}

void cpu_rms_norm(const struct op_rms_norm *op, struct part part) {
    struct range rows = part_range(part, (size_t)op->rows, 1);
    for (size_t r = rows.from; r < rows.to; r++) {
        const float *x = (const float *)op->x + r * (size_t)op->n;
        float *y = (float *)op->y + r * (size_t)op->n;
        cpu_norm_scale(y, x, cpu_norm_factor(x, op->n, op->eps), op->weight, op->n);
    }
}
