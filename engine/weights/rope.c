/*
 * Rotary frequencies, in double and stored as float. Sources: RoFormer (arXiv 2104.09864), YaRN
 * (arXiv 2309.00071), and for roundings and defaults modeling_rope_utils.py of
 * huggingface/transformers; dynamic NTK: modeling_qwen.py of the v1 checkpoints.
 */
#include "engine/weights/model_config.h"

#include <math.h>

static const double two_pi = 6.283185307179586476925;

/* How often the trained length fits into the prompt, as a power of two rounded up. */
int rope_variant(const struct model_config *c, int n_prompt) {
    int k = 0;
    if (c->rope_scaling != ROPE_DYNAMIC_NTK) return 0;
    for (int64_t reach = c->rope_original_tokens; reach < n_prompt; reach *= 2) k++;
    return k;
}

/* alpha = 2^ceil(log2(n / seq_length) + 1) - 1 for a prompt past seq_length, else 1. */
static double ntk_base(const struct model_config *c, int n_prompt) {
    double alpha = ldexp(1, rope_variant(c, n_prompt) + 1) - 1;
    return c->rope_base * pow(alpha, (double)c->head_size / (c->head_size - 2));
}

/* The pair that turns `rotations` times within the trained length. */
static double yarn_border(const struct model_config *c, double rotations) {
    return c->head_size * log(c->rope_original_tokens / (rotations * two_pi)) /
           (2 * log(c->rope_base));
}

/* Pairs below `low` keep their frequency, those above `high` are slowed by the factor. */
static void scale_yarn(const struct model_config *c, double *freq) {
    double low = yarn_border(c, c->yarn_beta_fast), high = yarn_border(c, c->yarn_beta_slow);
    if (!c->yarn_is_exact) {
        low = floor(low);
        high = ceil(high);
    }
    low = fmax(low, 0);
    high = fmin(high, c->head_size - 1);
    if (low == high) high += 0.001;
    for (int i = 0; i < c->head_size / 2; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        freq[i] = freq[i] * (1 - ramp) + freq[i] / c->rope_factor * ramp;
    }
}

/* Short wavelengths stay, long ones are slowed by the factor, those between are blended. */
static void scale_llama3(const struct model_config *c, double *freq) {
    double low = c->llama3_low_freq, high = c->llama3_high_freq;
    for (int i = 0; i < c->head_size / 2; i++) {
        double turns = c->rope_original_tokens * freq[i] / two_pi;
        double share = fmin(fmax((turns - low) / (high - low), 0), 1);
        freq[i] = freq[i] * share + freq[i] / c->rope_factor * (1 - share);
    }
}

static float attention_factor(const struct model_config *c) {
    if (c->rope_scaling != ROPE_YARN) return 1;
    if (c->yarn_attention_factor != 0) return (float)c->yarn_attention_factor;
    return (float)(0.1 * log(c->rope_factor) + 1);
}

void rope_frequencies(const struct model_config *c, int n_prompt, float *inv_freq, float *scale) {
    double freq[MAX_HEAD_SIZE / 2];
    const int pairs = c->head_size / 2;
    double base = c->rope_scaling == ROPE_DYNAMIC_NTK ? ntk_base(c, n_prompt) : c->rope_base;
    for (int i = 0; i < pairs; i++) freq[i] = pow(base, -2.0 * i / c->head_size);
    switch (c->rope_scaling) {
    case ROPE_PLAIN:
    case ROPE_DYNAMIC_NTK:
        break;
    case ROPE_LINEAR:
        for (int i = 0; i < pairs; i++) freq[i] /= c->rope_factor;
        break;
    case ROPE_YARN:
        scale_yarn(c, freq);
        break;
    case ROPE_LLAMA3:
        scale_llama3(c, freq);
        break;
    case ROPE_DIVISORS:
        for (int i = 0; i < pairs; i++) freq[i] /= (double)c->rope_divisors[i];
        break;
    }
    for (int i = 0; i < pairs; i++) inv_freq[i] = (float)freq[i];
    *scale = attention_factor(c);
}
