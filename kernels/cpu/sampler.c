/*
 * The order of the steps stands in kernels/sampling.h. No step sorts: "the k largest" and "the
 * smallest set whose sum reaches p" are the same question, the smallest set of the largest logits
 * whose weight (1 each, or probability) reaches a target, and keep_top() answers it by radix
 * selection in three passes. What is kept stays in the order of ids, and the draw walks it in that
 * order.
 */
#include "kernels/cpu/sampler.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { DIGIT_BITS = 11, N_DIGITS = 1 << DIGIT_BITS };

struct sampler {
    double *sums; /* [N_DIGITS] */
    /* candidates, in the order of ids */
    int32_t *ids;
    float *logits;
    float *weights; /* probability, not normalised: the largest has 1 */
    int n;
    int32_t *answer_count; /* [vocab] how often in the answer; only those of the history are set */
    float *penalised;      /* [vocab] logits with penalties */
};

size_t sampler_bytes(int vocab) {
    return N_DIGITS * sizeof(double) + (size_t)vocab * (3 * sizeof(float) + 2 * sizeof(int32_t));
}

static struct sampler sampler_in(void *workspace, int vocab) {
    double *sums = workspace;
    float *floats = (float *)(sums + N_DIGITS);
    size_t v = (size_t)vocab;
    int32_t *ints = (int32_t *)(floats + 3 * v);
    return (struct sampler){.sums = sums,
                            .logits = floats,
                            .weights = floats + v,
                            .penalised = floats + 2 * v,
                            .ids = ints,
                            .answer_count = ints + v};
}

/* ---- step 1 ---- */

static bool all_finite(const float *x, int n) {
    int n_bad = 0;
    for (int i = 0; i < n; i++) n_bad += !(fabsf(x[i]) <= FLT_MAX);
    return n_bad == 0;
}

/* ---- steps 3 and 4 ---- */

static int32_t seen_at(struct sampler_history h, int i) {
    return h.seen[h.blocks[i / h.block_tokens] * h.block_tokens + i % h.block_tokens];
}

/* The logits with penalties: from the given ones, so that a token which comes twice gets them
 * once. */
static const float *apply_penalties(struct sampler *s, const float *logits, int vocab,
                                    const struct sampling *p, struct sampler_history history) {
    memcpy(s->penalised, logits, (size_t)vocab * sizeof *logits);
    for (int i = 0; i < history.n; i++) s->answer_count[seen_at(history, i)] = 0;
    for (int i = history.n_prompt; i < history.n; i++) s->answer_count[seen_at(history, i)]++;
    for (int i = 0; i < history.n; i++) {
        int32_t id = seen_at(history, i);
        s->penalised[id] = sampling_penalise(logits[id], p, s->answer_count[id]);
    }
    return s->penalised;
}

/* ---- steps 2 and 5 ---- */

static int32_t largest(const float *logits, int vocab, const uint8_t *is_token) {
    int32_t best = -1;
    for (int32_t id = 0; id < vocab; id++)
        if ((best < 0 || logits[id] > logits[best]) && (!is_token || is_token[id])) best = id;
    return best;
}

static void gather_candidates(struct sampler *s, const float *logits, int vocab,
                              const uint8_t *is_token) {
    int n = 0;
    for (int32_t id = 0; id < vocab; id++) {
        s->ids[n] = id;
        s->logits[n] = logits[id];
        n += !is_token || is_token[id];
    }
    s->n = n;
}

/* ---- steps 6 and 8 ---- */

/* Orders as the float does; the addition makes -0 equal to 0. */
static uint32_t key_of(float x) {
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    uint32_t is_negative = bits >> 31;
    return bits ^ (0x80000000u | (0u - is_negative));
}

static double weight_at(const struct sampler *s, int i, bool by_count) {
    return by_count ? 1 : (double)s->weights[i];
}

static void copy_candidate(struct sampler *s, int to, int from) {
    s->ids[to] = s->ids[from];
    s->logits[to] = s->logits[from];
    s->weights[to] = s->weights[from];
}

static void drop_below(struct sampler *s, uint32_t threshold) {
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        uint32_t key = key_of(s->logits[i]);
        copy_candidate(s, n, i);
        n += key >= threshold;
    }
    s->n = n;
}

/* Of those equal to the threshold only the first, until their weights make up what is missing. */
static void drop_surplus(struct sampler *s, uint32_t threshold, double missing, bool by_count) {
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (key_of(s->logits[i]) == threshold) {
            if (missing <= 0) continue;
            missing -= weight_at(s, i, by_count);
        }
        copy_candidate(s, n++, i);
    }
    s->n = n;
}

/*
 * Keeps the smallest set of the largest logits whose weights sum to at least `target` > 0. Radix
 * selection on 11 + 11 + 10 bits: each pass sums the weights by digit among the candidates that
 * agree with the threshold so far, walks down until the target is reached, and drops the rest.
 */
static void keep_top(struct sampler *s, double target, bool by_count) {
    static const int shifts[] = {21, 10, 0}, widths[] = {11, 11, 10};
    uint32_t threshold = 0, decided = 0;
    double missing = target;
    for (int pass = 0; pass < 3; pass++) {
        uint32_t digits = (1u << widths[pass]) - 1;
        memset(s->sums, 0, N_DIGITS * sizeof *s->sums);
        for (int i = 0; i < s->n; i++) {
            uint32_t key = key_of(s->logits[i]);
            if ((key & decided) == threshold)
                s->sums[key >> shifts[pass] & digits] += weight_at(s, i, by_count);
        }
        uint32_t digit = digits;
        while (digit > 0 && s->sums[digit] < missing) missing -= s->sums[digit--];
        threshold |= digit << shifts[pass];
        decided |= digits << shifts[pass];
        drop_below(s, threshold);
    }
    drop_surplus(s, threshold, missing, by_count);
}

/* ---- steps 5, 7 and 9 ---- */

/* The temperature divides here and not before: it changes no order, and a tiny one must not
 * overflow. */
static void softmax(struct sampler *s, float temperature) {
    float max = s->logits[0];
    for (int i = 1; i < s->n; i++) max = s->logits[i] > max ? s->logits[i] : max;
    for (int i = 0; i < s->n; i++) s->weights[i] = expf((s->logits[i] - max) / temperature);
}

static double sum_of_weights(const struct sampler *s) {
    double sum = 0;
    for (int i = 0; i < s->n; i++) sum += (double)s->weights[i];
    return sum;
}

static void keep_likely(struct sampler *s, float min_p) {
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        s->ids[n] = s->ids[i];
        s->weights[n] = s->weights[i];
        n += s->weights[i] >= min_p;
    }
    s->n = n;
}

/* ---- step 10 ---- */

static int32_t draw(const struct sampler *s, double u) {
    double at = u * sum_of_weights(s);
    int last = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->weights[i] == 0) continue;
        last = i;
        at -= (double)s->weights[i];
        if (at < 0) break;
    }
    return s->ids[last];
}

/* ---- all of it ---- */

int32_t sampler_pick(void *workspace, const float *logits, int vocab, const uint8_t *is_token,
                     const struct sampling *p, struct sampler_history history) {
    struct sampler s = sampler_in(workspace, vocab);
    if (!all_finite(logits, vocab)) return SAMPLE_NOT_FINITE;
    if (sampling_has_penalties(p)) logits = apply_penalties(&s, logits, vocab, p, history);
    if (!(p->temperature > 0)) return largest(logits, vocab, is_token);
    gather_candidates(&s, logits, vocab, is_token);
    if (p->top_k > 0 && p->top_k < s.n) keep_top(&s, p->top_k, true);
    softmax(&s, p->temperature);
    if (p->top_p < 1) keep_top(&s, fmax((double)p->top_p * sum_of_weights(&s), DBL_MIN), false);
    if (p->min_p > 0) keep_likely(&s, p->min_p);
    return draw(&s, philox_uniform(p->seed, (uint64_t)history.n));
}
