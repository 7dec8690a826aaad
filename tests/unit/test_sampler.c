/*
 * The sampler: a test for each step, one against a plain reference that sorts, one of the drawn
 * distribution (chi-square), the published vectors of Philox, and the time at Qwen's vocabulary.
 */
#include "kernels/cpu/sampler.h"

#include "engine/base/clock.h"
#include "tests/support/is_sanitized.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct sampling plain = {
    .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7};
static const struct sampler_history no_history = {0};

static const int32_t first_block[] = {0};

/* n tokens, of which n_prompt are the prompt, in one block. */
static struct sampler_history history_of(const int32_t *ids, int n, int n_prompt) {
    return (struct sampler_history){ids, first_block, n, n, n_prompt};
}

/* Draw number `index`: of a sequence that has so many tokens or, where its history is given, with
 * another seed. */
static int32_t pick_with(void *workspace, const float *logits, int n, const uint8_t *is_token,
                         struct sampling p, struct sampler_history history, uint64_t index) {
    if (history.seen)
        p.seed += index * 7919;
    else
        history.n = (int)index;
    return sampler_pick(workspace, logits, n, is_token, &p, history);
}

/* Its contents do not matter. */
static void *new_workspace(int n) {
    void *workspace = malloc(sampler_bytes(n));
    assert_non_null(workspace);
    memset(workspace, 0xA5, sampler_bytes(n));
    return workspace;
}

static int32_t pick(const float *logits, int n, const uint8_t *is_token, struct sampling p,
                    struct sampler_history history, uint64_t index) {
    void *workspace = new_workspace(n);
    int32_t id = pick_with(workspace, logits, n, is_token, p, history, index);
    free(workspace);
    return id;
}

/* How often each of n ids comes in `draws` draws. */
static void count_draws(const float *logits, int n, struct sampling p,
                        struct sampler_history history, int draws, int *counts) {
    void *workspace = new_workspace(n);
    memset(counts, 0, (size_t)n * sizeof *counts);
    for (int i = 0; i < draws; i++) {
        int32_t id = pick_with(workspace, logits, n, NULL, p, history, (uint64_t)i);
        assert_in_range(id, 0, n - 1);
        counts[id]++;
    }
    free(workspace);
}

/* Fails where the counts do not fit the probabilities: p < 0.001 for up to 15 degrees. */
static void assert_fits(const int *counts, const double *probabilities, int n, int draws) {
    static const double critical[] = {0,    10.8, 13.8, 16.3, 18.5, 20.5, 22.5, 24.3,
                                      26.1, 27.9, 29.6, 31.3, 32.9, 34.5, 36.1, 37.7};
    double chi2 = 0;
    int degrees = -1;
    for (int i = 0; i < n; i++) {
        double expected = probabilities[i] * draws;
        if (expected == 0) {
            assert_int_equal(counts[i], 0);
            continue;
        }
        chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
        degrees++;
    }
    assert_in_range(degrees, 1, 15);
    if (!(chi2 < critical[degrees])) fail_msg("chi2 %.1f with %d degrees", chi2, degrees);
}

static void softmax(const double *logits, int n, double *out) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += out[i] = exp(logits[i]);
    for (int i = 0; i < n; i++) out[i] /= sum;
}

static void philox_gives_the_published_vectors(void **state) {
    (void)state; /* kat_vectors of the Random123 distribution, philox4x32 with 10 rounds */
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        uint32_t out[4];
        philox4x32(vectors[i].counter, vectors[i].key, out);
        assert_memory_equal(out, vectors[i].out, sizeof out);
    }
    assert_true(philox_uniform(0, 0) == (double)(0xe169c58d6627e8d5 >> 11) * 0x1p-53);
    for (uint64_t i = 0; i < 10000; i++)
        assert_true(philox_uniform(1, i) >= 0 && philox_uniform(1, i) < 1);
}

static void step_1_not_finite_is_an_error(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        float logits[] = {1, 2, bad[i]};
        struct sampling greedy = {.top_p = 1, .repetition_penalty = 1};
        assert_int_equal(pick(logits, 3, NULL, plain, no_history, 0), SAMPLE_NOT_FINITE);
        assert_int_equal(pick(logits, 3, NULL, greedy, no_history, 0), SAMPLE_NOT_FINITE);
    }
}

static void step_2_holes_are_never_drawn(void **state) {
    (void)state;
    const float logits[] = {9, 1, 9, 2};
    const uint8_t is_token[] = {0, 1, 0, 1};
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(pick(logits, 4, is_token, plain, no_history, i) % 2, 1);
    struct sampling greedy = plain;
    greedy.temperature = 0;
    assert_int_equal(pick(logits, 4, is_token, greedy, no_history, 0), 3);
}

static void step_3_repetition_divides_or_multiplies_once(void **state) {
    (void)state;
    const float logits[] = {2, 1, -1, -2};
    const int32_t history[] = {0, 0, 3, 0};
    struct sampling p = plain;
    p.repetition_penalty = 4;
    const double expected_logits[] = {0.5, 1, -1, -8};
    double expected[4];
    int counts[4];
    softmax(expected_logits, 4, expected);
    count_draws(logits, 4, p, history_of(history, 4, 2), 20000, counts);
    assert_fits(counts, expected, 4, 20000);
}

static void step_4_counts_the_answer_only(void **state) {
    (void)state;
    const float logits[] = {1, 1, 1, 1};
    const int32_t history[] = {0, 0, 1, 2, 2}; /* prompt: 0 0; answer: 1 2 2 */
    struct sampling p = plain;
    p.presence_penalty = 0.5f;
    p.frequency_penalty = 0.25f;
    const double expected_logits[] = {1, 1 - 0.75, 1 - 1.0, 1};
    double expected[4];
    int counts[4];
    softmax(expected_logits, 4, expected);
    count_draws(logits, 4, p, history_of(history, 5, 2), 20000, counts);
    assert_fits(counts, expected, 4, 20000);
}

static void step_5_greedy_takes_the_lowest_of_equals(void **state) {
    (void)state;
    const float logits[] = {0, 3, 3, -0.0f, 3};
    struct sampling greedy = plain;
    greedy.temperature = 0;
    assert_int_equal(pick(logits, 5, NULL, greedy, no_history, 0), 1);
    greedy.temperature = 1e-38f; /* nearly: nothing overflows */
    int32_t id = pick(logits, 5, NULL, greedy, no_history, 3);
    assert_true(id == 1 || id == 2 || id == 4);
}

static void step_5_temperature_divides(void **state) {
    (void)state;
    const float logits[] = {0, 1, 2, 3};
    const double expected_logits[] = {0, 2, 4, 6};
    struct sampling p = plain;
    double expected[4];
    int counts[4];
    p.temperature = 0.5f;
    softmax(expected_logits, 4, expected);
    count_draws(logits, 4, p, no_history, 20000, counts);
    assert_fits(counts, expected, 4, 20000);
}

static void step_6_top_k_keeps_k_and_the_lowest_of_equals(void **state) {
    (void)state;
    const float logits[] = {1, 5, 1, 4, 1};
    int counts[5];
    struct sampling p = plain;
    p.temperature = 100; /* nearly uniform */
    p.top_k = 3;
    count_draws(logits, 5, p, no_history, 2000, counts);
    assert_true(counts[0] > 300 && counts[1] > 300 && counts[3] > 300);
    assert_int_equal(counts[2] + counts[4], 0);
    p.top_k = 50; /* more than there are */
    count_draws(logits, 5, p, no_history, 2000, counts);
    for (int i = 0; i < 5; i++) assert_true(counts[i] > 200);
}

static void step_8_top_p_keeps_the_smallest_set(void **state) {
    (void)state;
    const float logits[] = {logf(0.1f), logf(0.5f), logf(0.3f), logf(0.06f), logf(0.04f)};
    const double two[] = {0, 0.625, 0.375, 0, 0};
    const double three[] = {1 / 9., 5 / 9., 3 / 9., 0, 0};
    int counts[5];
    struct sampling p = plain;
    p.top_p = 0.79f;
    count_draws(logits, 5, p, no_history, 20000, counts);
    assert_fits(counts, two, 5, 20000);
    p.top_p = 0.81f;
    count_draws(logits, 5, p, no_history, 20000, counts);
    assert_fits(counts, three, 5, 20000);
    p.top_p = 0; /* at least one */
    assert_int_equal(pick(logits, 5, NULL, p, no_history, 0), 1);
}

static void step_9_min_p_is_relative_to_the_largest(void **state) {
    (void)state;
    const float logits[] = {logf(0.1f), logf(0.5f), logf(0.3f), logf(0.06f), logf(0.04f)};
    const double three[] = {1 / 9., 5 / 9., 3 / 9., 0, 0};
    int counts[5];
    struct sampling p = plain;
    p.min_p = 0.15f; /* of 0.5: 0.075 */
    count_draws(logits, 5, p, no_history, 20000, counts);
    assert_fits(counts, three, 5, 20000);
}

static void step_10_same_seed_and_index_same_token(void **state) {
    (void)state;
    float logits[16];
    double exact[16], expected[16];
    int counts[16], n_equal = 0;
    for (int i = 0; i < 16; i++) exact[i] = logits[i] = (float)(i * 7 % 16) / 5;
    softmax(exact, 16, expected);
    count_draws(logits, 16, plain, no_history, 50000, counts);
    assert_fits(counts, expected, 16, 50000);
    struct sampling other = plain;
    other.seed++;
    for (uint64_t i = 0; i < 500; i++) {
        int32_t id = pick(logits, 16, NULL, plain, no_history, i);
        assert_int_equal(id, pick(logits, 16, NULL, plain, no_history, i));
        n_equal += id == pick(logits, 16, NULL, other, no_history, i);
    }
    assert_in_range(n_equal, 10, 250);
}

/* ---- a reference that sorts ---- */

static const float *sorted_by;

static int by_logit(const void *a, const void *b) {
    int i = *(const int *)a, k = *(const int *)b;
    if (sorted_by[i] != sorted_by[k]) return sorted_by[i] > sorted_by[k] ? -1 : 1;
    return i - k;
}

static int32_t reference_pick(const float *logits, int n, const struct sampling *p, uint64_t at) {
    int *order = malloc((size_t)n * sizeof *order);
    float *weights = calloc((size_t)n, sizeof *weights);
    assert_true(order && weights);
    for (int i = 0; i < n; i++) order[i] = i;
    sorted_by = logits;
    qsort(order, (size_t)n, sizeof *order, by_logit);
    int kept = p->top_k > 0 && p->top_k < n ? p->top_k : n;
    double sum = 0, reached = 0;
    for (int i = 0; i < kept; i++) {
        weights[order[i]] = expf((logits[order[i]] - logits[order[0]]) / p->temperature);
        sum += (double)weights[order[i]];
    }
    int n_top = 0;
    while (n_top < kept && reached < (double)p->top_p * sum)
        reached += (double)weights[order[n_top++]];
    for (int i = p->top_p < 1 ? n_top : kept; i < kept; i++) weights[order[i]] = 0;
    sum = 0;
    for (int i = 0; i < n; i++) sum += weights[i] >= p->min_p ? (double)weights[i] : 0;
    double u = philox_uniform(p->seed, at) * sum;
    int id = order[0];
    for (int i = 0; i < n && u >= 0; i++)
        if (weights[i] > 0 && weights[i] >= p->min_p) u -= (double)weights[i], id = i;
    free(order);
    free(weights);
    return id;
}

static float random_float(uint64_t *at) {
    return (float)philox_uniform(99, (*at)++);
}

static void equals_the_sorting_reference(void **state) {
    (void)state;
    enum { N = 3000 };
    float logits[N];
    uint64_t r = 0;
    void *workspace = new_workspace(N);
    for (int trial = 0; trial < 400; trial++) {
        int n = 2 + (int)(random_float(&r) * (N - 2));
        float spread = 30 * random_float(&r);
        for (int i = 0; i < n; i++) logits[i] = spread * (random_float(&r) - 0.5f);
        if (trial % 4 == 0) /* many equals */
            for (int i = 0; i < n; i++) logits[i] = roundf(logits[i]);
        struct sampling p = {.temperature = 0.1f + 2 * random_float(&r),
                             .top_k = trial % 3 ? (int)(random_float(&r) * 100) : 0,
                             .top_p = trial % 2 ? random_float(&r) : 1,
                             .min_p = trial % 5 ? 0 : 0.2f * random_float(&r),
                             .repetition_penalty = 1,
                             .seed = (uint64_t)trial};
        for (uint64_t at = 0; at < 5; at++) {
            int32_t id = pick_with(workspace, logits, n, NULL, p, no_history, at);
            if (id != reference_pick(logits, n, &p, at)) fail_msg("trial %d: %d", trial, (int)id);
        }
    }
    free(workspace);
}

static double milliseconds(void) {
    return clock_seconds() * 1e3;
}

/* The best of some runs: the machine may be busy with other things. */
static double time_of(void *workspace, const float *logits, int n, struct sampling p) {
    double best = 1e9;
    for (uint64_t i = 0; i < 20; i++) {
        double begin = milliseconds();
        pick_with(workspace, logits, n, NULL, p, no_history, i);
        best = fmin(best, milliseconds() - begin);
    }
    return best;
}

static void is_fast_at_a_large_vocabulary(void **state) {
    (void)state;
    enum { N = 151936 };
    float *logits = malloc(N * sizeof *logits);
    void *workspace = new_workspace(N);
    uint64_t r = 0;
    assert_non_null(logits);
    for (int i = 0; i < N; i++) { /* about normal, deviation 3, as a model's */
        float sum = -6;
        for (int k = 0; k < 12; k++) sum += random_float(&r);
        logits[i] = 3 * sum;
    }
    struct sampling greedy = plain, top_p = plain, top_k = plain;
    greedy.temperature = 0;
    top_p.top_p = 0.8f;
    top_k.top_k = 20;
    double t_greedy = time_of(workspace, logits, N, greedy),
           t_top_p = time_of(workspace, logits, N, top_p),
           t_top_k = time_of(workspace, logits, N, top_k);
    print_message("V = %d: greedy %.2f ms, top-p %.2f ms, top-k %.2f ms\n", N, t_greedy, t_top_p,
                  t_top_k);
    assert_true(IS_SANITIZED || (t_greedy < 1 && t_top_p < 3 && t_top_k < 3));
    free(logits);
    free(workspace);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_vectors),
        cmocka_unit_test(step_1_not_finite_is_an_error),
        cmocka_unit_test(step_2_holes_are_never_drawn),
        cmocka_unit_test(step_3_repetition_divides_or_multiplies_once),
        cmocka_unit_test(step_4_counts_the_answer_only),
        cmocka_unit_test(step_5_greedy_takes_the_lowest_of_equals),
        cmocka_unit_test(step_5_temperature_divides),
        cmocka_unit_test(step_6_top_k_keeps_k_and_the_lowest_of_equals),
        cmocka_unit_test(step_8_top_p_keeps_the_smallest_set),
        cmocka_unit_test(step_9_min_p_is_relative_to_the_largest),
        cmocka_unit_test(step_10_same_seed_and_index_same_token),
        cmocka_unit_test(equals_the_sorting_reference),
        cmocka_unit_test(is_fast_at_a_large_vocabulary),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
