/* Rotary position embedding, with v1's logn scaling of queries. */
#include "kernels/cpu/cpu.h"

#include <math.h>
#include <string.h>

/*
 * cos and sin to float precision, in a loop that compilers turn into vectors: the angle less a
 * multiple k of pi/2 (Cody and Waite: pi/2 as a double of 33 bits, whose multiples are exact, and
 * the rest), Taylor's polynomials for |r| <= pi/4, and the quadrant from k.
 */
static void cosine_sine(const float *angles, int n, float *cosines, float *sines) {
    const double half_pi = 1.57079632673412561417e+00, rest = 6.07710050650619224932e-11;
    const double round = 0x1.8p52; /* adding it leaves a whole number, in the lowest bits */
    for (int i = 0; i < n; i++) {
        double shifted = (double)angles[i] * 0.63661977236758134308 + round, k = shifted - round;
        double r = (double)angles[i] - k * half_pi - k * rest, r2 = r * r;
        double sine =
            r + r * r2 * (-1.0 / 6 + r2 * (1.0 / 120 + r2 * (-1.0 / 5040 + r2 * (1.0 / 362880))));
        double cosine =
            1 + r2 * (-0.5 + r2 * (1.0 / 24 +
                                   r2 * (-1.0 / 720 + r2 * (1.0 / 40320 - r2 * (1.0 / 3628800)))));
        uint64_t quadrant;
        memcpy(&quadrant, &shifted, sizeof quadrant);
        double c = quadrant & 1 ? sine : cosine, s = quadrant & 1 ? cosine : sine;
        cosines[i] = (float)((quadrant + 1) & 2 ? -c : c);
        sines[i] = (float)(quadrant & 2 ? -s : s);
    }
}

void cpu_rotation(struct rotation *out, const struct rope_params *rope,
                  const struct op_batch *batch, size_t t) {
    int n_pairs = rope->head_size / 2, position = batch->positions[t];
    size_t sequence = (size_t)batch->seq_of[t];
    const float *inv_freq = batch->inv_freq + sequence * (size_t)n_pairs;
    float angles[MAX_HEAD_SIZE / 2], scale = batch->rope_scale[sequence];
    for (int i = 0; i < n_pairs; i++) angles[i] = (float)position * inv_freq[i];
    cosine_sine(angles, n_pairs, out->cosines, out->sines);
    for (int i = 0; i < n_pairs; i++) out->cosines[i] *= scale;
    for (int i = 0; i < n_pairs; i++) out->sines[i] *= scale;
    out->query_scale = 1;
    if (rope->logn_tokens > 1 && position >= rope->logn_tokens)
        out->query_scale = (float)(log((double)position + 1) / log((double)rope->logn_tokens));
}

/* Element i of a pair is at i * step, the other `distance` further. */
void cpu_rotate(float *x, const struct rotation *r, const struct rope_params *rope, bool is_query) {
    int n_pairs = rope->head_size / 2;
    float scale = is_query ? r->query_scale : 1;
    if (rope->interleaved) {
        for (int i = 0; i < n_pairs; i++) {
            float a = x[i * 2] * scale, b = x[i * 2 + 1] * scale;
            x[i * 2] = a * r->cosines[i] - b * r->sines[i];
            x[i * 2 + 1] = b * r->cosines[i] + a * r->sines[i];
        }
        return;
    }
    for (int i = 0; i < n_pairs; i++) {
        float a = x[i] * scale, b = x[i + n_pairs] * scale;
        x[i] = a * r->cosines[i] - b * r->sines[i];
        x[i + n_pairs] = b * r->cosines[i] + a * r->sines[i];
    }
}

void cpu_rope(const struct op_rope *op, struct part part) {
    const struct op_batch *batch = op->batch;
    struct range rows = part_range(part, (size_t)batch->n_rows, 1);
    for (size_t t = rows.from; t < rows.to; t++) {
        if (batch->slots[t] < 0) continue;
        struct rotation rotation;
        cpu_rotation(&rotation, &op->rope, batch, t);
        for (int head = 0; head < op->heads; head++) {
            size_t row = t * (size_t)op->heads + (size_t)head;
            cpu_rotate((float *)op->x + row * (size_t)op->rope.head_size, &rotation, &op->rope,
                       op->is_query);
        }
    }
}
