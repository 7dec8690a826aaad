/*
 * The engine's logits against transformers' on tiny checkpoints of every family, and against its
 * own when the same tokens are computed in other pieces or beside other sequences.
 */
#include "tests/golden/logits/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/golden/logits/"

enum { MAX_PROMPTS = 4, MAX_TOKENS = 256 };

/* The CPU computes in float whatever the weights are stored in. */
static const double BOUND = 1e-4;
/* Of 16-bit checkpoints also, as every device has to: times the error of transformers' own run. */
static const double OWN_SHARE = 1.5;
/* Such a run's largest error among the cases that have one: what bfloat16 makes of such models. */
static const double LARGEST_OWN = 4e-2;

struct test_case {
    const char *name;   /* expected/<name>.bin */
    const char *suffix; /* checkpoints/<name><suffix> */
};

static const struct test_case cases[] = {
    {"qwen1.5-mha-f32", ""},
    {"qwen2-gqa2-f16", ""},
    {"qwen2-gqa7-f32", ""},
    {"qwen2-sliding-f32", ""},
    {"qwen2.5-yarn-bf16", ""},
    {"qwen3-tied-bf16", ""},
    {"qwen3-yarn-f16", ""},
    {"llama-gqa3-bf16", ""},
    {"llama3-rope-f32", ""},
    {"llama-linear-biased-f16", ""},
    {"qwen-v1-f32", ""},
    {"qwen-v1-old-keys-bf16", ""},
    {"qwen-v1-72b-f16", ""},
    {"gguf-qwen2-f32-split", "-00001-of-00002.gguf"},
    {"gguf-qwen2-yarn-bf16", ".gguf"},
    {"gguf-llama-f16", ".gguf"},
    {"gguf-llama3-rope-f16", ".gguf"},
    {"gguf-qwen3-legacy", ".gguf"},
    {"gguf-llama-legacy", ".gguf"},
    {"gguf-qwen2-k", ".gguf"},
    {"gguf-llama-k", ".gguf"},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

struct prompt {
    int n_tokens, n_answer, n_positions;
    float own_worst, own_mean; /* error of transformers' 16-bit run; 0: none */
    const int32_t *tokens, *answer, *positions;
    const float *logits; /* [n_positions, vocab] */
};

struct expected {
    struct golden_bytes bytes;
    int vocab, n_prompts;
    struct prompt prompts[MAX_PROMPTS];
};

/* The format is documented in common.py. */
static void expected_open(struct expected *x, const struct test_case *c) {
    char path[256];
    snprintf(path, sizeof path, FOLDER "expected/%s.bin", c->name);
    x->bytes = golden_open(path, "QGOLDEN1");
    x->vocab = golden_take_int(&x->bytes);
    x->n_prompts = golden_take_int(&x->bytes);
    assert_in_range(x->n_prompts, 1, MAX_PROMPTS);
    for (int i = 0; i < x->n_prompts; i++) {
        struct prompt *p = &x->prompts[i];
        p->n_tokens = golden_take_int(&x->bytes);
        p->n_answer = golden_take_int(&x->bytes);
        p->n_positions = golden_take_int(&x->bytes);
        assert_in_range(p->n_tokens, 1, MAX_TOKENS);
        assert_in_range(p->n_answer, 1, MAX_TOKENS);
        assert_in_range(p->n_positions, 1, MAX_TOKENS);
        p->own_worst = golden_take_float(&x->bytes);
        p->own_mean = golden_take_float(&x->bytes);
        p->tokens = golden_take(&x->bytes, (size_t)p->n_tokens * sizeof *p->tokens);
        p->answer = golden_take(&x->bytes, (size_t)p->n_answer * sizeof *p->answer);
        p->positions = golden_take(&x->bytes, (size_t)p->n_positions * sizeof *p->positions);
        size_t n = (size_t)p->n_positions * (size_t)x->vocab;
        p->logits = golden_take(&x->bytes, n * sizeof *p->logits);
    }
}

/* Where the engine computes: on the CPU, unless main() was told of a CUDA module. */
static struct {
    const char *device, *module;
    bool in_float;
} place;

/* One thread unless the options say otherwise: passes of these models are too short to share. */
static struct engine *open_case(const struct test_case *c, struct engine_options options) {
    char path[256];
    snprintf(path, sizeof path, FOLDER "checkpoints/%s%s", c->name, c->suffix);
    options.model = path;
    options.context_tokens = MAX_TOKENS;
    options.kv_format = FORMAT_F32;
    options.is_exact = true;
    options.device = place.device;
    options.cuda_module = place.module;
    options.in_float = place.in_float;
    if (options.threads == 0) options.threads = 1;
    struct engine *e = NULL;
    struct err err = {0};
    if (engine_open(&e, &options, &err) != 0) fail_msg("%s: %s", path, err.text);
    return e;
}

static struct golden_run whole_prompt(const struct prompt *p) {
    return (struct golden_run){
        .tokens = p->tokens, .n_tokens = p->n_tokens, .n_answer = p->n_answer};
}

/* Bit for bit: rows 0 .. n-1 of a and b. */
static bool is_same(const struct golden_run *a, const struct golden_run *b, int n) {
    return memcmp(a->rows, b->rows, (size_t)n * (size_t)a->vocab * sizeof *a->rows) == 0;
}

/* ---- against transformers ---------------------------------------------------------------- */

/* Returns how many prompts of the case missed a bound; prints its row. */
static int compare_case(const struct test_case *c, bool is_baseline) {
    struct expected x;
    expected_open(&x, c);
    struct engine *e = open_case(c, (struct engine_options){.is_baseline = is_baseline});
    double worst = 0, own = 0;
    int n_positions = 0, n_wrong = 0, n_bounded = 0;
    bool in_float = !place.device || place.in_float || strcmp(engine_info(e)->format, "f32") == 0;
    for (int i = 0; i < x.n_prompts; i++) {
        const struct prompt *p = &x.prompts[i];
        struct golden_run run = whole_prompt(p);
        golden_run_all(e, &run, 1);
        assert_int_equal(run.vocab, x.vocab);
        /* rounding may turn a close decision: what comes behind it answers other tokens */
        int n_same = 0, n_compared = 0;
        while (n_same < p->n_answer && run.answer[n_same] == p->answer[n_same]) n_same++;
        double prompt_worst = 0, mean = 0;
        for (int k = 0; k < p->n_positions; k++) {
            if (p->positions[k] >= p->n_tokens + n_same) continue;
            n_compared++;
            double error = golden_error(golden_row(&run, p->positions[k]),
                                        p->logits + (size_t)k * (size_t)x.vocab, x.vocab);
            prompt_worst = fmax(prompt_worst, error);
            mean += error;
        }
        mean /= n_compared;
        bool is_close = !in_float || prompt_worst <= BOUND;
        if (p->own_worst > 0) {
            n_bounded++;
            is_close = is_close && prompt_worst <= OWN_SHARE * (double)p->own_worst &&
                       mean <= OWN_SHARE * (double)p->own_mean;
        }
        bool is_answer = !in_float || n_same == p->n_answer;
        if (!is_answer) printf("  %s: the answer to %d tokens differs\n", c->name, p->n_tokens);
        n_wrong += !is_close || !is_answer;
        worst = fmax(worst, prompt_worst);
        own = fmax(own, (double)p->own_worst);
        n_positions += n_compared;
        golden_run_release(&run);
    }
    if (!in_float && n_bounded == 0) { /* of no 16-bit run: as the others */
        bool is_close = worst <= OWN_SHARE * LARGEST_OWN;
        n_wrong += !is_close;
    }
    char own_text[16] = "-";
    if (own > 0) snprintf(own_text, sizeof own_text, "%.1e", own);
    printf("  %-26s %9d %11.1e %11.1e %13s%s\n", c->name, n_positions, worst, BOUND, own_text,
           n_wrong ? "  WRONG" : "");
    engine_close(e);
    golden_close(&x.bytes);
    return n_wrong;
}

static void compare_all(bool is_baseline) {
    printf("  %-26s %9s %11s %11s %13s\n", "case", "positions", "worst error", "bound",
           "own 16 bit");
    int n_wrong = 0;
    for (int i = 0; i < N_CASES; i++) n_wrong += compare_case(&cases[i], is_baseline);
    assert_int_equal(n_wrong, 0);
}

static void test_logits_are_those_of_transformers(void **state) {
    (void)state;
    compare_all(false);
}

static void test_logits_of_baseline_kernels(void **state) {
    (void)state;
    compare_all(true);
}

/* ---- against itself ---------------------------------------------------------------------- */

/* A prompt in pieces of 1, 7 and 16 tokens gives the same logits as in one piece on two threads. */
static void test_prefill_in_chunks(void **state) {
    (void)state;
    static const int chunks[] = {1, 7, 16};
    for (int i = 0; i < N_CASES; i++) {
        struct expected x;
        expected_open(&x, &cases[i]);
        const struct prompt *p = &x.prompts[x.n_prompts - 1];
        struct golden_run whole = whole_prompt(p);
        struct engine *e = open_case(
            &cases[i], (struct engine_options){.prefill_tokens = MAX_TOKENS, .threads = 2});
        golden_run_all(e, &whole, 1);
        engine_close(e);
        for (size_t k = 0; k < sizeof chunks / sizeof chunks[0]; k++) {
            struct golden_run run = whole_prompt(p);
            e = open_case(&cases[i], (struct engine_options){.prefill_tokens = chunks[k]});
            golden_run_all(e, &run, 1);
            engine_close(e);
            if (!is_same(&run, &whole, p->n_tokens + p->n_answer - 1)) {
                fail_msg("%s: chunks of %d differ", cases[i].name, chunks[k]);
            }
            golden_run_release(&run);
        }
        golden_run_release(&whole);
        golden_close(&x.bytes);
    }
}

/*
 * A conversation that grows, by 1, 1 and 7 tokens in turn: each prefix on top of the cached one
 * gives the logits of the same prefix computed from nothing, v1's changes of the rotary base (past
 * 32, 64 and 128 tokens) included.
 */
static void test_growing_prefix(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct expected x;
        expected_open(&x, &cases[i]);
        const struct prompt *p = &x.prompts[x.n_prompts - 1];
        struct engine *warm = open_case(&cases[i], (struct engine_options){0});
        struct engine *cold = open_case(&cases[i], (struct engine_options){0});
        long n_cached = 0;
        for (int n = 1; n <= p->n_tokens; n += n % 9 == 3 ? 7 : 1) {
            struct golden_run a = {
                .tokens = p->tokens, .n_tokens = n, .n_answer = 1, .only_last = true};
            struct golden_run b = a;
            golden_run_all(warm, &a, 1);
            engine_forget(cold);
            golden_run_all(cold, &b, 1);
            assert_int_equal(b.cached_tokens, 0);
            n_cached += a.cached_tokens;
            if (memcmp(golden_row(&a, n - 1), golden_row(&b, n - 1),
                       (size_t)x.vocab * sizeof(float)) != 0) {
                fail_msg("%s: a prefix of %d tokens, %d of them cached, differs by %.1e",
                         cases[i].name, n, a.cached_tokens,
                         golden_error(golden_row(&a, n - 1), golden_row(&b, n - 1), x.vocab));
            }
            golden_run_release(&a);
            golden_run_release(&b);
        }
        assert_true(n_cached > 0);
        engine_close(warm);
        engine_close(cold);
        golden_close(&x.bytes);
    }
}

/* Every prompt of a case at once, and one of them twice, gives what each gives alone. */
static void test_batch_equals_each_alone(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct expected x;
        expected_open(&x, &cases[i]);
        struct golden_run alone[MAX_PROMPTS + 1], together[MAX_PROMPTS + 1];
        int n = x.n_prompts + 1;
        struct engine *e = open_case(&cases[i], (struct engine_options){0});
        for (int k = 0; k < n; k++) {
            alone[k] = together[k] = whole_prompt(&x.prompts[k % x.n_prompts]);
            engine_forget(e);
            golden_run_all(e, &alone[k], 1);
        }
        engine_forget(e);
        golden_run_all(e, together, n);
        for (int k = 0; k < n; k++) {
            if (!is_same(&alone[k], &together[k], alone[k].n_rows - 1)) {
                fail_msg("%s: sequence %d of %d differs", cases[i].name, k, n);
            }
            golden_run_release(&alone[k]);
            golden_run_release(&together[k]);
        }
        engine_close(e);
        golden_close(&x.bytes);
    }
}

/* ---- on a GPU -------------------------------------------------------------------------------- */

/* In float: what the CPU is held to. */
static void test_gpu_logits_in_float(void **state) {
    (void)state;
    place.in_float = true;
    compare_all(false);
    place.in_float = false;
}

/* In the checkpoint's own format, in bfloat16 where it is quantized: what transformers' own 16-bit run sets. */
static void test_gpu_logits_in_16_bits(void **state) {
    (void)state;
    compare_all(false);
}

/* Two runs, the second from a recording that the first made, give the same bits. */
static void test_gpu_runs_are_equal(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct expected x;
        expected_open(&x, &cases[i]);
        struct golden_run a = whole_prompt(&x.prompts[x.n_prompts - 1]), b = a;
        struct engine *e = open_case(&cases[i], (struct engine_options){0});
        golden_run_all(e, &a, 1);
        engine_forget(e);
        golden_run_all(e, &b, 1);
        if (!is_same(&a, &b, a.n_rows - 1)) fail_msg("%s: two runs differ", cases[i].name);
        golden_run_release(&a);
        golden_run_release(&b);
        engine_close(e);
        golden_close(&x.bytes);
    }
}

static int run_on_gpu(const char *module) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpu_logits_in_float),
        cmocka_unit_test(test_gpu_logits_in_16_bits),
        cmocka_unit_test(test_gpu_runs_are_equal),
    };
    char path[256];
    snprintf(path, sizeof path, FOLDER "checkpoints/%s", cases[0].name);
    const struct engine_options options = {.model = path, .device = "cuda", .cuda_module = module};
    struct memory_plan plan;
    struct err err = {0};
    if (engine_plan(&options, NULL, &plan, &err) != 0) {
        printf("%s\n", err.text);
        return 77;
    }
    place.device = "cuda";
    place.module = module;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* With an argument, a CUDA module: on the GPU; 77 where there is none. */
int main(int argc, char **argv) {
    if (argc > 1) return run_on_gpu(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits_are_those_of_transformers),
        cmocka_unit_test(test_logits_of_baseline_kernels),
        cmocka_unit_test(test_prefill_in_chunks),
        cmocka_unit_test(test_growing_prefix),
        cmocka_unit_test(test_batch_equals_each_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
