/*
 * The order of the steps stands in the header. No step sorts: "the k largest" and "the smallest
 * set whose sum reaches p" are the same question, the smallest set of the largest logits whose
 * weight (1 each, or probability) reaches a target, and keep_top() answers it by radix selection
 * in three passes. What is kept stays in the order of ids, and the draw walks it in that order.
 */
#include "engine/sample/sampler.h"

#include "engine/base/err.h"
#include "engine/base/mem.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { DIGIT_BITS = 11, N_DIGITS = 1 << DIGIT_BITS };

struct sampler {
    /* candidates, in the order of ids */
    int32_t *ids;
    float *logits;
    float *weights; /* probability, not normalised: the largest has 1 */
    int n;
    int32_t *answer_count; /* [vocab] how often in the answer; between picks all zero */
    float *penalised;      /* [vocab] logits with penalties */
    double sums[N_DIGITS];
};

struct sampler *sampler_new(int vocab) {
    struct sampler *s = mem_zalloc(1, sizeof *s);
    if (!s) return NULL;
    size_t v = (size_t)vocab;
    s->ids = mem_alloc(v * sizeof *s->ids);
    s->logits = mem_alloc(v * sizeof *s->logits);
    s->weights = mem_alloc(v * sizeof *s->weights);
    s->answer_count = mem_zalloc(v, sizeof *s->answer_count);
    s->penalised = mem_alloc(v * sizeof *s->penalised);
    if (s->ids && s->logits && s->weights && s->answer_count && s->penalised) return s;
    sampler_free(s);
    return NULL;
}

void sampler_free(struct sampler *s) {
    if (!s) return;
    mem_free(s->ids);
    mem_free(s->logits);
    mem_free(s->weights);
    mem_free(s->answer_count);
    mem_free(s->penalised);
    mem_free(s);
}

/* ---- step 1 ---- */

static bool all_finite(const float *x, int n) {
    int n_bad = 0;
    for (int i = 0; i < n; i++) n_bad += !(fabsf(x[i]) <= FLT_MAX);
    return n_bad == 0;
}

/* ---- steps 3 and 4 ---- */

static bool has_penalties(const struct sampling *p) {
    return p->repetition_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static float penalise(float logit, const struct sampling *p, int32_t count) {
    logit = logit > 0 ? logit / p->repetition_penalty : logit * p->repetition_penalty;
    return logit - (float)count * p->frequency_penalty - (count > 0 ? p->presence_penalty : 0);
}

/* The logits with penalties: from the given ones, so that a token which comes twice gets them
 * once. */
static const float *apply_penalties(struct sampler *s, const float *logits, int vocab,
                                    const struct sampling *p, struct sampler_history history) {
    memcpy(s->penalised, logits, (size_t)vocab * sizeof *logits);
    for (size_t i = history.n_prompt; i < history.n; i++) s->answer_count[history.ids[i]]++;
    for (size_t i = 0; i < history.n; i++) {
        int32_t id = history.ids[i];
        s->penalised[id] = penalise(logits[id], p, s->answer_count[id]);
    }
    for (size_t i = history.n_prompt; i < history.n; i++) s->answer_count[history.ids[i]] = 0;
    return s->penalised;
}

/* ---- steps 2 and 5 ---- */

static int32_t largest(const float *logits, int vocab, const bool *is_token) {
    int32_t best = -1;
    for (int32_t id = 0; id < vocab; id++)
        if ((best < 0 || logits[id] > logits[best]) && (!is_token || is_token[id])) best = id;
    return best;
}

static void gather_candidates(struct sampler *s, const float *logits, int vocab,
                              const bool *is_token) {
    int n = 0;
    for (int32_t id = 0; id < vocab; id++) {
        s->ids[n] = id;
        s->logits[n] = logits[id];
        n += !is_token || is_token[id];
    }
    if (n == 0) bug("none of %d ids is a token", vocab);
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
        memset(s->sums, 0, sizeof s->sums);
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

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
        uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ k0, (uint32_t)b,
                            (uint32_t)(a >> 32) ^ c[3] ^ k1, (uint32_t)a};
        memcpy(c, next, sizeof c);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
}

double philox_uniform(uint64_t seed, uint64_t index) {
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), 0, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t out[4];
    philox4x32(counter, key, out);
    uint64_t bits = (uint64_t)out[1] << 32 | out[0];
    return (double)(bits >> 11) * 0x1p-53;
}

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

int32_t sampler_pick(struct sampler *s, const float *logits, int vocab, const bool *is_token,
                     const struct sampling *p, struct sampler_history history,
                     uint64_t token_index) {
    if (!all_finite(logits, vocab)) return SAMPLER_NOT_FINITE;
    if (has_penalties(p)) logits = apply_penalties(s, logits, vocab, p, history);
    if (!(p->temperature > 0)) return largest(logits, vocab, is_token);
    gather_candidates(s, logits, vocab, is_token);
    if (p->top_k > 0 && p->top_k < s->n) keep_top(s, p->top_k, true);
    softmax(s, p->temperature);
    if (p->top_p < 1) keep_top(s, fmax((double)p->top_p * sum_of_weights(s), DBL_MIN), false);
    if (p->min_p > 0) keep_likely(s, p->min_p);
    return draw(s, philox_uniform(p->seed, token_index));
}
