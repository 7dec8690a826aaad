/* Rotary position embedding, with v1's logn scaling of queries. */
#include "kernels/cpu/cpu.h"

#include <math.h>

/* Element i of a pair is at i * step, the other `distance` further. */
static void rotate(float *x, const float *cosines, const float *sines, int n_pairs, bool is_paired,
                   float scale) {
    int step = is_paired ? 2 : 1, distance = is_paired ? 1 : n_pairs;
    for (int i = 0; i < n_pairs; i++) {
        float a = x[i * step] * scale, b = x[i * step + distance] * scale;
        x[i * step] = a * cosines[i] - b * sines[i];
        x[i * step + distance] = b * cosines[i] + a * sines[i];
    }
}

void cpu_rope(const struct op_rope *op, struct part part) {
    const struct op_batch *batch = op->batch;
    int head_size = op->rope.head_size, n_pairs = head_size / 2, logn = op->rope.logn_tokens;
    struct range rows = part_range(part, (size_t)batch->n_rows, 1);
    for (size_t t = rows.from; t < rows.to; t++) {
        if (batch->slots[t] < 0) continue;
        int position = batch->positions[t];
        size_t sequence = (size_t)batch->seq_of[t];
        const float *inv_freq = batch->inv_freq + sequence * (size_t)n_pairs;
        float cosines[MAX_HEAD_SIZE / 2], sines[MAX_HEAD_SIZE / 2], scale = 1;
        for (int i = 0; i < n_pairs; i++) {
            float angle = (float)position * inv_freq[i];
            cosines[i] = cosf(angle) * batch->rope_scale[sequence];
            sines[i] = sinf(angle) * batch->rope_scale[sequence];
        }
        if (op->is_query && logn > 1 && position >= logn)
            scale = (float)(log((double)position + 1) / log((double)logn));
        for (int head = 0; head < op->heads; head++) {
            size_t row = t * (size_t)op->heads + (size_t)head;
            rotate((float *)op->x + row * (size_t)head_size, cosines, sines, n_pairs,
                   op->rope.interleaved, scale);
        }
    }
}
