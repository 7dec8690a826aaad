/*
 * The engine on tiny random models: that an answer does not depend on what runs beside it, on the
 * size of the chunks or on what is cached; where answers end; and what happens when things fail.
 */
#include "engine/engine.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/weights/checkpoint.h"
#include "tests/support/make_checkpoint.h"
#include "tests/support/run_requests.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- models and requests ---- */

static const enum format mixed[] = {FORMAT_Q8_0, FORMAT_Q4_0, FORMAT_Q5_1, FORMAT_F16};
static const enum format bf16[] = {FORMAT_BF16};

/* One of each family, and a GGUF file with several formats. */
static const struct tiny_spec specs[] = {
    {.family = TINY_QWEN2, .seed = 1},
    {.family = TINY_QWEN3,
     .seed = 2,
     .is_tied = true,
     .head_size = 24,
     .formats = bf16,
     .n_formats = 1},
    {.family = TINY_LLAMA, .seed = 3, .kv_heads = 1},
    {.family = TINY_QWEN, .seed = 4, .context = 256, .seq_length = 32},
    {.family = TINY_QWEN2, .seed = 5, .hidden = 128, .ffn = 160, .formats = mixed, .n_formats = 4},
};
enum { N_SPECS = sizeof specs / sizeof *specs, GGUF_SPEC = N_SPECS - 1 };

static char folder[256]; /* of the test that runs */

/* io.h's handler, installed with the first map; cmocka puts its own in place for each test. */
static struct sigaction guard_of_maps;

static void find_guard_of_maps(const char *any_file) {
    struct io_map map;
    if (io_map_open(&map, any_file, NULL) != 0) abort();
    io_map_close(&map);
    sigaction(SIGBUS, NULL, &guard_of_maps);
}

static int make_folder(void **state) {
    (void)state;
    make_temporary_folder(folder);
    return 0;
}

static int remove_it(void **state) {
    (void)state;
    mem_fail_at(0, false);
    remove_folder(folder);
    return 0;
}

static const char *make_model(const struct tiny_spec *spec) {
    static char path[300];
    if (spec == &specs[GGUF_SPEC]) {
        snprintf(path, sizeof path, "%s/model.gguf", folder);
        assert_int_equal(make_tiny_gguf(path, spec), 0);
    } else {
        snprintf(path, sizeof path, "%s", folder);
        assert_int_equal(make_tiny_folder(path, spec), 0);
    }
    return path;
}

static struct engine *open_with(const struct engine_options *options) {
    struct engine *e;
    struct err err = {0};
    if (engine_open(&e, options, &err) != 0) fail_msg("%s", err.text);
    return e;
}

/* Where it matters in how many passes prompts are read, prefill_tokens say so: else the machine's
 * speed does. */
static struct engine *open_model(const char *model, enum format kv_format, int prefill_tokens) {
    return open_with(&(struct engine_options){.model = model,
                                              .threads = 2,
                                              .context_tokens = 256,
                                              .kv_format = kv_format,
                                              .prefill_tokens = prefill_tokens});
}

enum { MAX_PROMPT = 200 };
struct prompt {
    int32_t tokens[MAX_PROMPT];
};

static struct prompt random_prompt(unsigned seed) {
    struct prompt p;
    srand(seed);
    for (int i = 0; i < MAX_PROMPT; i++) p.tokens[i] = rand() % 256;
    return p;
}

static const struct sampling lively = {
    .temperature = 1.5f, .top_p = 0.95f, .repetition_penalty = 1.1f, .seed = 11};

static struct engine_request request_of_n(const struct prompt *p, size_t n, int max_tokens) {
    return (struct engine_request){.tokens = p->tokens,
                                   .n_tokens = n,
                                   .sampling = lively,
                                   .max_tokens = max_tokens,
                                   .ignore_stop_ids = true};
}

static void assert_same_answer(const struct outcome *a, const struct outcome *b) {
    assert_int_equal(a->n_tokens, b->n_tokens);
    assert_memory_equal(a->tokens, b->tokens, a->n_tokens * sizeof *a->tokens);
    assert_int_equal(a->text.n, b->text.n);
    if (a->text.n) assert_memory_equal(a->text.data, b->text.data, a->text.n);
    assert_int_equal(a->stop, b->stop);
}

/* The rows that both have, bit by bit. */
static void assert_same_logits(const struct outcome *a, const struct outcome *b) {
    size_t first = a->first_position > b->first_position ? a->first_position : b->first_position;
    size_t row = (size_t)a->vocab, last = a->first_position + a->n_logits;
    assert_int_equal(a->vocab, b->vocab);
    assert_int_equal(last, b->first_position + b->n_logits);
    assert_true(first < last);
    assert_memory_equal(a->logits + (first - a->first_position) * row,
                        b->logits + (first - b->first_position) * row,
                        (last - first) * row * sizeof *a->logits);
}

/* ---- the same answer whatever happens around it ---- */

static void a_batch_equals_each_alone(void **state) {
    (void)state;
    enum { N = 11 }; /* more than run at once */
    for (size_t s = 0; s < N_SPECS; s++) {
        const char *model = make_model(&specs[s]);
        for (int f = 0; f < 2; f++) {
            struct engine *e = open_model(model, f ? FORMAT_F32 : FORMAT_F16, 48);
            struct prompt prompts[N];
            struct engine_request requests[N];
            struct outcome alone[N], together[N];
            for (size_t i = 0; i < N; i++) {
                prompts[i] = random_prompt((unsigned)i);
                requests[i] = request_of_n(&prompts[i], 1 + 7 * i % 50, 3 + (int)i);
                requests[i].sampling.seed = i;
                requests[i].logits_only_last = true;
                alone[i] = run_one(e, &requests[i], true);
            }
            engine_forget(e);
            for (size_t i = 0; i < N; i++) submit(e, &requests[i], true, &together[i]);
            run_to_end(e, together, N);
            for (size_t i = 0; i < N; i++) {
                assert_int_equal(together[i].usage.cached_tokens, 0);
                assert_same_answer(&alone[i], &together[i]);
                assert_same_logits(&alone[i], &together[i]);
                outcome_release(&alone[i]);
                outcome_release(&together[i]);
            }
            engine_close(e);
        }
    }
}

/* v1's NTK is chosen by the whole prompt, so there the prompt stays within seq_length. */
static void chunks_and_single_steps_give_the_same_logits(void **state) {
    (void)state;
    static const int chunks[] = {1, 3, 7, 32, 64};
    const struct prompt p = random_prompt(7);
    for (size_t s = 0; s < N_SPECS; s++) {
        const char *model = make_model(&specs[s]);
        struct engine_request request = request_of_n(&p, specs[s].family == TINY_QWEN ? 30 : 61, 5);
        struct outcome reference = {0};
        for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
            struct engine *e = open_model(model, FORMAT_F16, chunks[i]);
            struct outcome o = run_one(e, &request, true);
            assert_int_equal(o.first_position, 0);
            assert_int_equal(o.n_logits, request.n_tokens + 4);
            if (i > 0) assert_same_logits(&o, &reference);
            request.logits_only_last = true; /* whole chunks, not as many as there are outputs */
            struct outcome last = run_one(e, &request, true);
            assert_int_equal(last.first_position, request.n_tokens - 1);
            assert_same_logits(&last, &o);
            request.logits_only_last = false;
            outcome_release(&last);
            outcome_release(&reference);
            reference = o;
            engine_close(e);
        }
        outcome_release(&reference);
    }
}

/* The prompt and part of an answer, as the prompt of the next request. */
static struct prompt continued(const struct prompt *p, size_t n, const struct outcome *answer) {
    struct prompt next = *p;
    memcpy(next.tokens + n, answer->tokens, answer->n_tokens * sizeof *next.tokens);
    return next;
}

static void a_cached_prefix_gives_the_same_logits(void **state) {
    (void)state;
    const struct prompt p = random_prompt(8);
    for (size_t s = 0; s < N_SPECS; s++) {
        if (specs[s].family == TINY_QWEN) continue;
        struct engine *e = open_model(make_model(&specs[s]), FORMAT_F16, 64);
        struct engine_request request = request_of_n(&p, 40, 30);
        struct outcome turn = run_one(e, &request, false);
        const struct prompt next = continued(&p, 40, &turn);
        struct engine_request second = request_of_n(&next, 90, 4);
        second.logits_only_last = true;
        struct outcome cached = run_one(e, &second, true);
        assert_int_equal(cached.usage.cached_tokens, 64); /* 69 had keys; whole blocks of 16 */
        assert_int_equal(cached.usage.prompt_tokens, 90);
        assert_true(engine_load(e).kv_cached_bytes > 0);
        engine_forget(e);
        assert_int_equal(engine_load(e).kv_cached_bytes, 0);
        struct outcome fresh = run_one(e, &second, true);
        assert_int_equal(fresh.usage.cached_tokens, 0);
        assert_same_logits(&cached, &fresh);
        assert_same_answer(&cached, &fresh);
        outcome_release(&turn);
        outcome_release(&cached);
        outcome_release(&fresh);
        engine_close(e);
    }
}

static void another_rotation_shares_nothing(void **state) {
    (void)state;
    const struct prompt p = random_prompt(9);
    struct engine *e = open_model(make_model(&specs[3]), FORMAT_F16, 64);
    struct engine_request within = request_of_n(&p, 30, 4), beyond = request_of_n(&p, 40, 4),
                          farther = request_of_n(&p, 60, 4);
    beyond.logits_only_last = true;
    struct outcome a = run_one(e, &within, false), b = run_one(e, &beyond, true),
                   c = run_one(e, &farther, false);
    assert_int_equal(b.usage.cached_tokens, 0);  /* alpha 1, then 3 */
    assert_int_equal(c.usage.cached_tokens, 32); /* 3 again */
    engine_forget(e);
    struct outcome again = run_one(e, &beyond, true);
    assert_same_logits(&again, &b);
    outcome_release(&a);
    outcome_release(&b);
    outcome_release(&c);
    outcome_release(&again);
    engine_close(e);
}

static void preempted_answers_are_the_same(void **state) {
    (void)state;
    enum { N = 6 };
    struct engine *e = open_with(&(struct engine_options){.model = make_model(&specs[0]),
                                                          .threads = 2,
                                                          .context_tokens = 128,
                                                          .prefill_tokens = 64,
                                                          .kv_format = FORMAT_F16});
    struct prompt prompts[N];
    struct outcome alone[N], together[N];
    struct engine_request requests[N];
    for (size_t i = 0; i < N; i++) { /* each needs up to 110 of 128 tokens */
        prompts[i] = random_prompt((unsigned)i + 50);
        requests[i] = request_of_n(&prompts[i], 10, 100);
        alone[i] = run_one(e, &requests[i], false);
    }
    engine_forget(e);
    for (size_t i = 0; i < N; i++) submit(e, &requests[i], false, &together[i]);
    int most_running = 0, fewest_running = N;
    while (engine_is_busy(e)) {
        step_once(e, together, N);
        struct engine_load load = engine_load(e);
        if (load.n_running > most_running) most_running = load.n_running;
        if (load.n_running < fewest_running) fewest_running = load.n_running;
        assert_true(load.kv_used_bytes <= engine_info(e)->plan.kv_bytes);
    }
    assert_true(most_running >= 4 && fewest_running < 2); /* so some had to give way */
    for (size_t i = 0; i < N; i++) {
        assert_same_answer(&alone[i], &together[i]);
        outcome_release(&alone[i]);
        outcome_release(&together[i]);
    }
    engine_close(e);
}

/* As on a GPU, where the host learns a token only when the next pass is on its way. */
static void deferred_answers_are_the_same(void **state) {
    (void)state;
    enum { N = 9 };
    for (size_t s = 0; s < N_SPECS; s++) {
        struct engine_options options = {.model = make_model(&specs[s]),
                                         .threads = 2,
                                         .context_tokens = 128,
                                         .prefill_tokens = 24,
                                         .kv_format = FORMAT_F16};
        struct engine *at_once = open_with(&options);
        options.defers = true;
        struct engine *deferred = open_with(&options);
        struct prompt prompts[N];
        struct engine_request requests[N];
        struct outcome a[N], b[N];
        for (size_t i = 0; i < N; i++) { /* most fill the context: some are preempted */
            static const int lengths[] = {0, 1, 2, 30, 60};
            prompts[i] = random_prompt((unsigned)i / 2 + 90);
            requests[i] = request_of_n(&prompts[i], i == 8 ? 128 : 5 + 9 * i, lengths[i % 5]);
            requests[i].sampling.seed = i;
            submit(at_once, &requests[i], false, &a[i]);
            submit(deferred, &requests[i], i == 3, &b[i]); /* one looks at its logits */
        }
        run_to_end(at_once, a, N);
        run_to_end(deferred, b, N);
        for (size_t i = 0; i < N; i++) {
            assert_same_answer(&a[i], &b[i]);
            outcome_release(&a[i]);
            outcome_release(&b[i]);
        }
        /* one that ends within a pass, and one that is cancelled, while the next is computed */
        requests[4].max_tokens = 60;
        submit(at_once, &requests[4], false, &a[0]);
        run_to_end(at_once, a, 1);
        requests[4].stop_ids = &a[0].tokens[20];
        requests[4].n_stop_ids = 1;
        requests[4].ignore_stop_ids = false;
        submit(at_once, &requests[4], false, &a[1]);
        run_to_end(at_once, a + 1, 1);
        submit(deferred, &requests[4], false, &b[0]);
        submit(deferred, &requests[5], false, &b[1]);
        while (b[1].n_tokens < 2) step_once(deferred, b, 2);
        engine_cancel(deferred, b[1].id);
        run_to_end(deferred, b, 2);
        assert_same_answer(&a[1], &b[0]);
        assert_int_equal(b[1].stop, STOP_CANCELLED);
        for (size_t i = 0; i < 2; i++) {
            outcome_release(&a[i]);
            outcome_release(&b[i]);
        }
        engine_close(at_once);
        engine_close(deferred);
    }
}

static void the_seed_decides(void **state) {
    (void)state;
    const struct prompt p = random_prompt(10);
    struct engine *e = open_model(make_model(&specs[0]), FORMAT_F16, 64);
    struct engine_request request = request_of_n(&p, 10, 40);
    struct outcome a = run_one(e, &request, false), b = run_one(e, &request, false);
    request.sampling.seed++;
    struct outcome c = run_one(e, &request, false);
    assert_same_answer(&a, &b);
    assert_true(memcmp(a.tokens, c.tokens, a.n_tokens * sizeof *a.tokens) != 0);
    outcome_release(&a);
    outcome_release(&b);
    outcome_release(&c);
    engine_close(e);
}

/* ---- where answers end, and their text ---- */

static void answers_end_where_they_should(void **state) {
    (void)state;
    const struct prompt p = random_prompt(11);
    struct engine *e = open_model(make_model(&specs[0]), FORMAT_F16, 64);
    struct engine_request request = request_of_n(&p, 20, 30);

    struct outcome all = run_one(e, &request, false);
    assert_int_equal(all.stop, STOP_LENGTH);
    assert_int_equal(all.n_tokens, 30);
    assert_true(all.usage.prompt_seconds > 0 && all.usage.answer_seconds > 0);
    assert_true(all.usage.queue_seconds <= all.usage.prompt_seconds);

    int32_t stop_id = all.tokens[12]; /* ends the answer before its first occurrence */
    size_t first = 0;
    while (all.tokens[first] != stop_id) first++;
    request.ignore_stop_ids = false;
    request.stop_ids = &stop_id;
    request.n_stop_ids = 1;
    struct outcome stopped = run_one(e, &request, false);
    assert_int_equal(stopped.stop, STOP_END);
    assert_int_equal(stopped.n_tokens, first);

    request = request_of_n(&p, 20, 0);
    struct outcome full = run_one(e, &request, false);
    assert_int_equal(full.stop, STOP_CONTEXT);
    assert_int_equal(full.n_tokens, 256 - 20);

    outcome_release(&all);
    outcome_release(&stopped);
    outcome_release(&full);
    engine_close(e);
}

static void a_full_prompt_gives_logits_and_no_token(void **state) {
    (void)state;
    const struct prompt p = random_prompt(12);
    struct engine *e = open_with(&(struct engine_options){
        .model = make_model(&specs[0]), .threads = 1, .context_tokens = 20});
    struct engine_request request = request_of_n(&p, 20, 0);
    struct outcome o = run_one(e, &request, true);
    assert_int_equal(o.stop, STOP_CONTEXT);
    assert_int_equal(o.n_tokens, 0);
    assert_int_equal(o.n_logits, 20);
    outcome_release(&o);
    engine_close(e);
}

static void a_stop_string_ends_across_tokens(void **state) {
    (void)state;
    const struct prompt p = random_prompt(13);
    struct engine *e = open_model(make_model(&specs[0]), FORMAT_F16, 64);
    struct engine_request request = request_of_n(&p, 20, 60);
    struct outcome all = run_one(e, &request, false);
    /* two neighbouring ASCII characters of the answer: with bytes as tokens, two tokens */
    size_t at = 4;
    while (at + 1 < all.text.n && (all.text.data[at] <= 0 || all.text.data[at + 1] <= 0)) at++;
    assert_true(at + 1 < all.text.n);
    char stop[3] = {all.text.data[at], all.text.data[at + 1], 0};
    const char *const stops[] = {"", "never in a text", stop};
    const char *found = memmem(all.text.data, all.text.n, stop, 2);
    assert_non_null(found);
    request.stops = stops;
    request.n_stops = 3;
    struct outcome cut = run_one(e, &request, false);
    assert_int_equal(cut.stop, STOP_STRING);
    assert_int_equal(cut.text.n, found - all.text.data);
    if (cut.text.n) assert_memory_equal(cut.text.data, all.text.data, cut.text.n);
    outcome_release(&all);
    outcome_release(&cut);
    engine_close(e);
}

/* Padding rows of the embedding have the largest logits as often as others: never drawn. */
static void ids_without_a_token_are_never_drawn(void **state) {
    (void)state;
    const struct prompt p = random_prompt(14);
    const struct tiny_spec spec = {.seed = 6, .vocab = 600};
    struct engine *e = open_model(make_model(&spec), FORMAT_F16, 64);
    struct engine_request request = request_of_n(&p, 20, 200);
    request.sampling.temperature = 5;
    request.sampling.top_p = 1;
    struct outcome o = run_one(e, &request, false);
    assert_int_equal(o.n_tokens, 200);
    for (size_t i = 0; i < o.n_tokens; i++) assert_in_range(o.tokens[i], 0, TINY_TOKENS - 1);
    outcome_release(&o);
    engine_close(e);
}

static void control_tokens_show_only_when_asked(void **state) {
    (void)state;
    const struct prompt p = random_prompt(15);
    struct engine *e = open_model(make_model(&specs[0]), FORMAT_F16, 64);
    struct engine_request request = request_of_n(&p, 20, 230);
    request.sampling.temperature = 20; /* nearly uniform: control tokens come */
    request.sampling.top_p = 1;
    struct outcome hidden = run_one(e, &request, false);
    request.show_control = true;
    struct outcome shown = run_one(e, &request, false);
    assert_null(memmem(hidden.text.data, hidden.text.n, "<|im_", 5));
    assert_non_null(memmem(shown.text.data, shown.text.n, "<|im_", 5));
    assert_memory_equal(hidden.tokens, shown.tokens, 200 * sizeof *hidden.tokens);
    outcome_release(&hidden);
    outcome_release(&shown);
    engine_close(e);
}

static void bad_requests_are_refused(void **state) {
    (void)state;
    const struct prompt p = random_prompt(16);
    struct engine *e = open_with(&(struct engine_options){
        .model = make_model(&specs[0]), .threads = 1, .context_tokens = 100});
    struct engine_request request = request_of_n(&p, 101, 5);
    struct err err = {0};
    uint64_t id;
    assert_int_equal(engine_submit(e, &request, &id, &err), -1);
    assert_int_equal(err.kind, ERR_CONTEXT);
    assert_string_equal(err.text, "the prompt has 101 tokens, the context only 100");
    request.n_tokens = 0;
    assert_int_equal(engine_submit(e, &request, &id, &err), -1);
    const int32_t outside[] = {3, 288}, negative[] = {-1};
    request = (struct engine_request){.tokens = outside, .n_tokens = 2};
    assert_int_equal(engine_submit(e, &request, &id, &err), -1);
    assert_string_equal(err.text, "token 1 of the prompt is 288, not in 0 to 287");
    request = (struct engine_request){.tokens = negative, .n_tokens = 1};
    assert_int_equal(engine_submit(e, &request, &id, &err), -1);
    assert_false(engine_is_busy(e));
    engine_close(e);
}

static void cancel_acts_at_the_next_step(void **state) {
    (void)state;
    enum { N = 10 }; /* the last two wait */
    struct engine *e = open_with(&(struct engine_options){.model = make_model(&specs[0]),
                                                          .threads = 2,
                                                          .context_tokens = 512,
                                                          .prefill_tokens = 64,
                                                          .kv_format = FORMAT_F16});
    struct prompt prompts[N];
    struct outcome o[N];
    for (size_t i = 0; i < N; i++) {
        prompts[i] = random_prompt((unsigned)i);
        const struct engine_request request = request_of_n(&prompts[i], 20, i == 1 ? 30 : 0);
        submit(e, &request, false, &o[i]);
    }
    for (int i = 0; i < 5; i++) step_once(e, o, N);
    assert_int_equal(engine_load(e).n_waiting, 2);
    for (size_t i = 0; i < N; i++)
        if (i != 1) engine_cancel(e, o[i].id);
    engine_cancel(e, 12345);
    size_t n_tokens = o[0].n_tokens;
    assert_true(n_tokens > 0);
    step_once(e, o, N);
    for (size_t i = 0; i < N; i++) assert_int_equal(o[i].stop, i == 1 ? STOP_NONE : STOP_CANCELLED);
    assert_int_equal(o[0].n_tokens, n_tokens); /* what there was stays */
    run_to_end(e, o, N);
    assert_int_equal(o[1].stop, STOP_LENGTH);
    for (size_t i = 0; i < N; i++) outcome_release(&o[i]);
    engine_close(e);
}

/* ---- when things fail ---- */

/* Overwrites the beginning of a tensor in its file. */
static void damage(const char *model, const char *tensor, const void *bytes, size_t n,
                   size_t offset) {
    char path[600], found[64];
    struct checkpoint *c;
    struct err err = {0};
    if (checkpoint_open(&c, model, &err) != 0) fail_msg("%s", err.text);
    const struct checkpoint_tensor *t = checkpoint_find(c, tensor);
    assert_non_null(t);
    memcpy(found, t->data, sizeof found);
    checkpoint_close(c);
    snprintf(path, sizeof path, "%s/model.safetensors", model);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    static char content[1 << 20];
    size_t size = fread(content, 1, sizeof content, file);
    char *at = memmem(content, size, found, sizeof found);
    assert_non_null(at);
    assert_int_equal(fseek(file, (long)((size_t)(at - content) + offset), SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void numbers_that_are_not_finite_end_the_answer(void **state) {
    (void)state;
    const struct prompt p = random_prompt(17);
    const char *model = make_model(&specs[0]);
    const uint32_t nan_bits = 0x7fc00000;
    const int32_t bad_token = 77, good[] = {1, 2, 3}, bad[] = {1, 77, 3};
    damage(model, "model.embed_tokens.weight", &nan_bits, 4, (size_t)bad_token * 64 * 4);
    struct engine *e = open_model(model, FORMAT_F16, 64);
    struct engine_request request = request_of_n(&p, 3, 3);
    request.tokens = bad;
    struct outcome o[2];
    submit(e, &request, false, &o[0]);
    request.tokens = good;
    request.max_tokens = 1;
    submit(e, &request, false, &o[1]);
    run_to_end(e, o, 2);
    assert_int_equal(o[0].stop, STOP_ERROR);
    assert_int_equal(o[0].n_tokens, 0);
    assert_non_null(strstr(o[0].err.text, "not finite"));
    assert_int_equal(o[1].stop, STOP_LENGTH); /* the neighbour is untouched */
    outcome_release(&o[0]);
    outcome_release(&o[1]);
    engine_close(e);
}

static void a_lost_file_ends_in_a_sentence(void **state) {
    (void)state;
    const struct prompt p = random_prompt(18);
    char path[300];
    struct engine *e = open_model(make_model(&specs[0]), FORMAT_F16, 64);
    struct engine_request request = request_of_n(&p, 20, 10);
    struct outcome o = run_one(e, &request, false);
    assert_int_equal(o.stop, STOP_LENGTH);
    outcome_release(&o);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(sigaction(SIGBUS, &guard_of_maps, NULL), 0);
    o = run_one(e, &request, false);
    assert_int_equal(o.stop, STOP_ERROR);
    assert_non_null(strstr(o.err.text, "model.safetensors"));
    outcome_release(&o);
    engine_close(e);
}

static enum engine_stop submit_under_failure(struct engine *e, const struct engine_request *request,
                                             unsigned long n) {
    const struct engine_event *events;
    struct err err = {0};
    uint64_t id;
    size_t n_events;
    enum engine_stop stop = STOP_NONE;
    mem_fail_at(n, false);
    if (engine_submit(e, request, &id, &err) != 0) {
        assert_int_equal(err.kind, ERR_MEMORY);
        stop = STOP_ERROR;
    }
    while (engine_is_busy(e)) {
        assert_int_equal(engine_step(e, &events, &n_events, &err), 0);
        for (size_t i = 0; i < n_events; i++)
            if (events[i].kind == EVENT_END) stop = events[i].stop;
    }
    mem_fail_at(0, false);
    return stop;
}

static void no_memory_is_said_and_leaves_the_engine_whole(void **state) {
    (void)state;
    const struct prompt p = random_prompt(19);
    const char *model = make_model(&specs[0]);
    struct engine *e;
    struct err err = {0};
    const struct engine_options options = {
        .model = model, .threads = 1, .context_tokens = 64, .prefill_tokens = 32};
    unsigned long before = mem_count();
    e = open_with(&options);
    unsigned long n_allocations = mem_count() - before;
    engine_close(e);
    for (unsigned long n = 1; n <= n_allocations; n += 1 + n / 8) {
        mem_fail_at(n, true);
        int result = engine_open(&e, &options, &err);
        mem_fail_at(0, false);
        assert_int_equal(result, -1);
        assert_true(err.kind == ERR_MEMORY || err.kind == ERR_MODEL);
    }
    e = open_with(&options);
    const char *const stops[] = {"xyz"};
    struct engine_request request = request_of_n(&p, 20, 10);
    request.stops = stops;
    request.n_stops = 1;
    assert_int_equal(submit_under_failure(e, &request, 0), STOP_LENGTH); /* the engine's arrays */
    before = mem_count();
    assert_int_equal(submit_under_failure(e, &request, 0), STOP_LENGTH);
    n_allocations = mem_count() - before;
    for (unsigned long n = 1; n <= n_allocations; n++)
        assert_int_equal(submit_under_failure(e, &request, n), STOP_ERROR);
    assert_int_equal(submit_under_failure(e, &request, 0), STOP_LENGTH);
    assert_int_equal(engine_load(e).kv_used_bytes, 0);
    engine_close(e);
}

static bool stop_at_weights(void *ud, const char *what, float share) {
    int *n_calls = ud;
    assert_true(what[0] && share >= 0 && share <= 1);
    ++*n_calls;
    return strcmp(what, "weights") != 0;
}

static void opening_can_be_cancelled_and_says_what_is_wrong(void **state) {
    (void)state;
    struct engine *e;
    struct err err = {0};
    int n_calls = 0;
    const char *model = make_model(&specs[0]);
    assert_int_equal(engine_open(&e,
                                 &(struct engine_options){.model = model,
                                                          .progress = stop_at_weights,
                                                          .progress_ud = &n_calls},
                                 &err),
                     -1);
    assert_true(n_calls >= 2);
    assert_int_equal(engine_open(&e, &(struct engine_options){.model = "/nowhere"}, &err), -1);
    assert_int_equal(err.kind, ERR_MODEL);
    assert_int_equal(
        engine_open(&e, &(struct engine_options){.model = model, .template_name = "no such"}, &err),
        -1);
    assert_int_equal(err.kind, ERR_USAGE);
    assert_int_equal(
        engine_open(&e, &(struct engine_options){.model = model, .max_sequences = 100000}, &err),
        -1);
    assert_int_equal(err.kind, ERR_USAGE);
}

static void what_it_is_can_be_asked(void **state) {
    (void)state;
    struct engine *e = open_with(&(struct engine_options){
        .model = make_model(&specs[1]), .threads = 1, .context_tokens = 2000});
    const struct model_info *info = engine_info(e);
    assert_string_equal(info->format, "bf16");
    assert_int_equal(info->context_tokens, 2000);
    assert_int_equal(info->n_notices, 1);
    assert_non_null(strstr(info->notices[0], "2000"));
    assert_non_null(strstr(info->notices[0], "512"));
    assert_non_null(engine_chat(e));
    assert_int_equal(tokenizer_n_ids(engine_tokenizer(e)), TINY_TOKENS);
    assert_true(engine_default_sampling(e).top_p > 0);
    assert_false(engine_is_busy(e));
    engine_close(e);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_it)

int main(int argc, char **argv) {
    find_guard_of_maps(argv[argc - 1]);
    const struct CMUnitTest tests[] = {
        TEST(a_batch_equals_each_alone),
        TEST(chunks_and_single_steps_give_the_same_logits),
        TEST(a_cached_prefix_gives_the_same_logits),
        TEST(another_rotation_shares_nothing),
        TEST(preempted_answers_are_the_same),
        TEST(deferred_answers_are_the_same),
        TEST(the_seed_decides),
        TEST(answers_end_where_they_should),
        TEST(a_full_prompt_gives_logits_and_no_token),
        TEST(a_stop_string_ends_across_tokens),
        TEST(ids_without_a_token_are_never_drawn),
        TEST(control_tokens_show_only_when_asked),
        TEST(bad_requests_are_refused),
        TEST(cancel_acts_at_the_next_step),
        TEST(numbers_that_are_not_finite_end_the_answer),
        TEST(a_lost_file_ends_in_a_sentence),
        TEST(no_memory_is_said_and_leaves_the_engine_whole),
        TEST(opening_can_be_cancelled_and_says_what_is_wrong),
        TEST(what_it_is_can_be_asked),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
