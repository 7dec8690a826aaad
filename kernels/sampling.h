/*
 * How the next token of a sequence is drawn: the parameters, the order of the steps, and the random
 * numbers. C and CUDA read the same text; the CPU's sampler (cpu/sampler.c) is the reference.
 *
 *   1 not finite anywhere -> SAMPLE_NOT_FINITE (the answer ends with a sentence, never with "!!!!")
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

#include <stdint.h>

#ifdef __CUDACC__
#define SAMPLING_INLINE static __host__ __device__ inline
#else
#define SAMPLING_INLINE static inline
#endif

struct sampling {
    float temperature;                         /* 0: greedy */
    int top_k;                                 /* 0: off */
    float top_p;                               /* 1: off */
    float min_p;                               /* 0: off */
    float repetition_penalty;                  /* 1: off */
    float presence_penalty, frequency_penalty; /* 0: off */
    uint64_t seed;
};

enum { SAMPLE_NOTHING = -1, SAMPLE_NOT_FINITE = -2 }; /* in place of a token */

/* What is to be done with one row of logits. */
struct draw {
    struct sampling sampling;
    int32_t n_prompt;  /* tokens of the sequence before its answer begins */
    int32_t is_wanted; /* 0: only the logits are */
};

/* Philox4x32-10 (Salmon et al., SC'11): four random words of a counter and a key. */
SAMPLING_INLINE void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int i = 0; i < 4; i++) out[i] = counter[i];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * out[0], b = (uint64_t)0xCD9E8D57u * out[2];
        uint32_t next0 = (uint32_t)(b >> 32) ^ out[1] ^ k0;
        uint32_t next2 = (uint32_t)(a >> 32) ^ out[3] ^ k1;
        out[0] = next0;
        out[1] = (uint32_t)b;
        out[2] = next2;
        out[3] = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* Its first two words at counter `index` under key `seed`: uniform in [0, 1). */
SAMPLING_INLINE double philox_uniform(uint64_t seed, uint64_t index) {
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), 0, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];
    philox4x32(counter, key, out);
    uint64_t bits = (uint64_t)out[1] << 32 | out[0];
    return (double)(bits >> 11) * 0x1p-53;
}

/* Steps 3 and 4, for a token that came before: `count` times in the answer. */
SAMPLING_INLINE float sampling_penalise(float logit, const struct sampling *p, int32_t count) {
    logit = logit > 0 ? logit / p->repetition_penalty : logit * p->repetition_penalty;
    return logit - (float)count * p->frequency_penalty - (count > 0 ? p->presence_penalty : 0);
}

SAMPLING_INLINE int sampling_has_penalties(const struct sampling *p) {
    return p->repetition_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}
