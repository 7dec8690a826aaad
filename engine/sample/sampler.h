/*
 * From logits to a token: the CPU reference of every device's sampler. The order of the steps:
 *
 *   1 not finite anywhere -> error (the answer ends with a sentence, never with "!!!!")
 *   2 ids that are no tokens (padding rows) are masked
 *   3 repetition penalty over prompt and answer: l > 0 ? l / p : l * p     (CTRL, arXiv 1909.05858)
 *   4 frequency and presence penalties over the answer: l -= count * f + (count > 0) * p
 *   5 temperature <= 0: the largest logit, lowest id first; else l /= temperature
 *   6 top-k: the k largest; 7 softmax; 8 top-p: the smallest set whose sum reaches p, at least one
 *   9 min-p: p >= min_p * largest; 10 draw with u = Philox4x32-10(seed, token index)
 *
 * This is transformers' order. The draw depends on the seed and the index of the token in its
 * sequence alone, so batch, lag and device do not change it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sampling {
    float temperature;                         /* 0: greedy */
    int top_k;                                 /* 0: off */
    float top_p;                               /* 1: off */
    float min_p;                               /* 0: off */
    float repetition_penalty;                  /* 1: off */
    float presence_penalty, frequency_penalty; /* 0: off */
    uint64_t seed;
};

/* What the penalties look at; ids are in range. */
struct sampler_history {
    const int32_t *ids; /* prompt, then answer */
    size_t n, n_prompt;
};

/* Workspace for one thread; v entries each. */
struct sampler;
struct sampler *sampler_new(int vocab);
void sampler_free(struct sampler *s);

#define SAMPLER_NOT_FINITE (-2)

/* Returns the token, or SAMPLER_NOT_FINITE. `is_token` [vocab] may be NULL (all are tokens), and
 * one at least is true; token_index: how many tokens the sequence has before this one. logits are
 * not changed. */
int32_t sampler_pick(struct sampler *s, const float *logits, int vocab, const bool *is_token,
                     const struct sampling *p, struct sampler_history history,
                     uint64_t token_index);

/* Philox4x32-10 (Salmon et al., SC'11): four random words of a counter and a key. */
void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Its first two words at counter `index` under key `seed`: uniform in [0, 1). */
double philox_uniform(uint64_t seed, uint64_t index);
