/*
 * The memory plan: within 5 % of the peak that a run takes which fills its context; and what is
 * said when a context does not fit. A run is a child process, so that peaks do not add up. With
 * an argument, that model is measured too.
 */
#include "engine/plan.h"
#include "tests/support/is_sanitized.h"
#include "tests/support/make_checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *starter; /* or NULL */
static const uint64_t GB = 1000000000;

struct measured {
    uint64_t planned_bytes, peak_bytes;
};

/* The number of KiB behind `key` in a file of this process; 0: there is none. */
static uint64_t kib_of(const char *path, const char *key) {
    char line[256];
    unsigned long long kib = 0;
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%llu", &kib) == 1)
            break;
    if (file) fclose(file);
    return kib;
}

/* The kernel counts pages on each processor for itself and adds up now and then: of many processors
 * the peak that it tells may lack megabytes. What is there now is counted page by page, and near
 * the peak. */
static uint64_t peak_bytes(void) {
    uint64_t peak = kib_of("/proc/self/status", "VmHWM:"),
             now = kib_of("/proc/self/smaps_rollup", "Rss:");
    return (now > peak ? now : peak) << 10;
}

/* A prompt that leaves room for 10 tokens, spread so that the whole embedding is read. */
static int fill_context(struct engine *e) {
    const struct model_info *info = engine_info(e);
    size_t n = (size_t)info->context_tokens - 10;
    int32_t *tokens = malloc(n * sizeof *tokens);
    uint64_t id;
    if (!tokens) return -1;
    for (size_t i = 0; i < n; i++) tokens[i] = (int32_t)(i * (size_t)info->config->vocab / n);
    const struct engine_request request = {.tokens = tokens,
                                           .n_tokens = n,
                                           .sampling = engine_default_sampling(e),
                                           .ignore_stop_ids = true};
    int result = engine_submit(e, &request, &id, NULL);
    const struct engine_event *events = NULL;
    size_t n_events = 0;
    while (result == 0 && engine_is_busy(e)) result = engine_step(e, &events, &n_events, NULL);
    bool is_full = n_events > 0 && events[n_events - 1].stop == STOP_CONTEXT;
    free(tokens);
    return is_full ? result : -1;
}

static int run_child(const struct engine_options *options, int out) {
    struct engine *e;
    if (engine_open(&e, options, NULL) != 0) return 1;
    struct measured m = {.planned_bytes = engine_info(e)->plan.total_bytes};
    if (fill_context(e) != 0) return 2;
    m.peak_bytes = peak_bytes();
    engine_close(e);
    return write(out, &m, sizeof m) == sizeof m ? 0 : 3;
}

static struct measured measure(const struct engine_options *options) {
    struct measured m;
    int ends[2], status;
    fflush(NULL);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(run_child(options, ends[1]));
    close(ends[1]);
    assert_int_equal(read(ends[0], &m, sizeof m), sizeof m);
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return m;
}

/* prefill_tokens are given: where the machine's speed decides about them the plan can only guess. */
static void assert_plan_is_near(const char *model, int context_tokens, int prefill_tokens) {
    if (IS_SANITIZED) skip();
    const struct engine_options options = {.model = model,
                                           .threads = 2,
                                           .context_tokens = context_tokens,
                                           .prefill_tokens = prefill_tokens,
                                           .kv_format = FORMAT_F16};
    struct measured m = measure(&options);
    double ratio = (double)m.planned_bytes / (double)m.peak_bytes;
    print_message("planned %.1f MB, peak %.1f MB: %+.1f %%\n", (double)m.planned_bytes / 1e6,
                  (double)m.peak_bytes / 1e6, 100 * (ratio - 1));
    assert_true(ratio > 0.95 && ratio < 1.05);
}

static void the_plan_is_near_on_random_models(void **state) {
    (void)state;
    for (int is_tied = 0; is_tied < 2; is_tied++) {
        char folder[256];
        make_temporary_folder(folder);
        assert_int_equal(make_tiny_folder(folder, &(struct tiny_spec){.seed = 1,
                                                                      .is_tied = is_tied,
                                                                      .vocab = 16000,
                                                                      .hidden = 512,
                                                                      .heads = 8,
                                                                      .kv_heads = 8,
                                                                      .ffn = 1024,
                                                                      .layers = 3,
                                                                      .context = 1024}),
                         0);
        assert_plan_is_near(folder, 560, 64);
        remove_folder(folder);
    }
}

static void the_plan_is_near_on_the_starter(void **state) {
    (void)state;
    if (!starter) skip();
    assert_plan_is_near(starter, 600, 64);
}

static bool is_refused(const struct engine_options *options, struct err *err) {
    struct engine *e;
    if (engine_open(&e, options, err) != 0) return true;
    engine_close(e);
    return false;
}

static void what_does_not_fit_is_said_with_what_would(void **state) {
    (void)state;
    char folder[256];
    struct err err = {0};
    struct memory_plan plan, larger;
    if (IS_SANITIZED) skip(); /* what the process has changes by more than a context */
    make_temporary_folder(folder);
    assert_int_equal(make_tiny_folder(folder, &(struct tiny_spec){.seed = 1, .context = 1000000}),
                     0);
    struct engine_options options = {.model = folder, .threads = 1, .kv_format = FORMAT_F16};

    assert_int_equal(engine_plan(&options, NULL, &plan, &err), 0);
    assert_true(plan.available_bytes > 0); /* of this machine, whose memory may be small */
    options.memory_bytes = 8 * GB;
    assert_int_equal(engine_plan(&options, NULL, &plan, &err), 0);
    assert_int_equal(plan.available_bytes, 8 * GB);
    assert_int_equal(plan.context_tokens, 1000000);
    assert_int_equal(plan.kv_bytes, 1000000 * plan.kv_bytes_per_token);
    assert_int_equal(plan.total_bytes, plan.weights_bytes + plan.kv_bytes + plan.activations_bytes +
                                           plan.tokenizer_bytes + plan.program_bytes);

    /* room for about half of that context: taken as it is, refused where all is asked for */
    options.memory_bytes = plan.total_bytes - plan.kv_bytes / 2;
    assert_int_equal(engine_plan(&options, NULL, &plan, &err), 0);
    assert_in_range(plan.context_tokens, 400000, 600000);
    assert_true(plan.total_bytes <= options.memory_bytes);
    options.context_tokens = 1000000;
    assert_int_equal(engine_plan(&options, NULL, &larger, &err), 0); /* a plan may not fit */
    assert_true(larger.total_bytes > larger.available_bytes);
    assert_true(is_refused(&options, &err));
    assert_int_equal(err.kind, ERR_MEMORY);
    assert_non_null(strstr(err.text, "is missing; a context of "));
    options.context_tokens = atoi(strstr(err.text, "; a context of ") + strlen("; a context of "));
    assert_in_range(options.context_tokens, 400000, 600000);
    assert_false(is_refused(&options, &err)); /* what it named does fit */

    options.memory_bytes = 1000;
    options.context_tokens = 0;
    assert_true(is_refused(&options, &err));
    assert_int_equal(err.kind, ERR_MEMORY);
    assert_null(strstr(err.text, "fits"));
    remove_folder(folder);
}

/* ---- a GPU that is not there ---- */

static size_t fake_work(int n_outputs, int vocab) {
    return (size_t)n_outputs * (size_t)vocab * 4;
}

static struct device_facts card_of(uint64_t bytes) {
    const uint64_t own = GB / 2;
    return (struct device_facts){.is_gpu = true,
                                 .has_bf16 = true,
                                 .free_bytes = bytes - own,
                                 .own_bytes = own,
                                 .work_bytes = fake_work};
}

/* Qwen2.5-7B by its shape, on a card of so many bytes: what plan_check() says, or "". */
static struct memory_plan plan_7b(uint64_t card, uint64_t budget, int context, char said[1024]) {
    const struct engine_options options = {.model = "tests/shapes/qwen2.5-7b",
                                           .random_weights = "",
                                           .kv_format = FORMAT_F16,
                                           .max_sequences = 1,
                                           .context_tokens = context,
                                           .gpu_memory_bytes = budget};
    const struct device_facts facts = card_of(card);
    struct checkpoint *c;
    struct plan plan;
    struct err err = {0};
    if (plan_open_checkpoint(&c, &options, &err) != 0 ||
        plan_make(&plan, &options, c, &facts, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(plan.activation, FORMAT_BF16);
    int result = plan_check(&plan, checkpoint_config(c), &err);
    snprintf(said, 1024, "%s", result == 0 ? "" : err.text);
    if (result != 0) assert_int_equal(err.kind, ERR_MEMORY);
    checkpoint_close(c);
    return plan.memory;
}

static void a_gpu_is_planned(void **state) {
    (void)state;
    enum { KV_BYTES = 2 * 28 * 4 * 128 * 2 + 4 };
    char said[1024];
    struct memory_plan p = plan_7b(80 * GB, 0, 0, said);
    assert_string_equal(said, "");
    assert_int_equal(p.context_tokens, 32768);
    assert_int_equal(p.kv_bytes_per_token, KV_BYTES);
    assert_int_equal(p.kv_bytes, 32768ull * KV_BYTES);
    assert_in_range(p.weights_bytes, 15231ull * 1000000, 15233ull * 1000000); /* 7.616 G, bf16 */
    assert_int_equal(p.program_bytes, GB / 2);
    assert_int_equal(p.total_bytes,
                     p.weights_bytes + p.kv_bytes + p.activations_bytes + p.program_bytes);
    assert_int_equal(p.available_bytes, 80 * GB - (80 * GB - GB / 2) / 64);

    /* on a card of 17 GB fewer tokens fit, and asking for all is refused with as many */
    struct memory_plan small = plan_7b(80 * GB, 17 * GB, 0, said);
    assert_string_equal(said, "");
    assert_int_equal(small.available_bytes, 17 * GB);
    assert_true(small.total_bytes <= 17 * GB);
    assert_true(small.activations_bytes < p.activations_bytes); /* of passes of fewer rows */
    const uint64_t beside = small.total_bytes - small.kv_bytes;
    const int expected = (int)((17 * GB - beside) / KV_BYTES);
    assert_in_range(small.context_tokens, expected - 64, expected + 512);
    plan_7b(80 * GB, 17 * GB, 32768, said);
    const char *named = strstr(said, "is missing; a context of ");
    assert_non_null(named);
    assert_int_equal(atoi(named + strlen("is missing; a context of ")), small.context_tokens);
    plan_7b(80 * GB, 17 * GB, small.context_tokens, said);
    assert_string_equal(said, "");

    /* nothing fits 12 GB; a budget above what is free does not help a card of 8 GB */
    plan_7b(80 * GB, 12 * GB, 0, said);
    assert_non_null(strstr(said, "the model needs "));
    assert_null(strstr(said, "fits"));
    plan_7b(8 * GB, 24 * GB, 0, said);
    assert_non_null(strstr(said, "is missing"));
}

static void a_short_chat_takes_little_of_a_long_context(void **state) {
    (void)state;
    char folder[256];
    struct engine *e;
    struct err err = {0};
    make_temporary_folder(folder);
    assert_int_equal(make_tiny_folder(folder, &(struct tiny_spec){.seed = 1, .context = 4000000}),
                     0);
    uint64_t before = peak_bytes();
    const struct engine_options options = {.model = folder,
                                           .threads = 1,
                                           .context_tokens = 4000000,
                                           .memory_bytes = 8 * GB, /* whatever is free here */
                                           .kv_format = FORMAT_F16};
    if (engine_open(&e, &options, &err) != 0) fail_msg("%s", err.text);
    const int32_t tokens[] = {1, 2, 3, 4, 5};
    const struct engine_request request = {.tokens = tokens, .n_tokens = 5, .max_tokens = 20};
    const struct engine_event *events;
    uint64_t id;
    size_t n;
    assert_int_equal(engine_submit(e, &request, &id, &err), 0);
    while (engine_is_busy(e)) assert_int_equal(engine_step(e, &events, &n, &err), 0);
    assert_true(engine_info(e)->plan.kv_bytes > 500e6);
    assert_true(engine_load(e).kv_taken_bytes < 10000);
    assert_true(IS_SANITIZED || peak_bytes() - before < 100e6);
    engine_close(e);
    remove_folder(folder);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_is_near_on_random_models),
        cmocka_unit_test(the_plan_is_near_on_the_starter),
        cmocka_unit_test(what_does_not_fit_is_said_with_what_would),
        cmocka_unit_test(a_gpu_is_planned),
        cmocka_unit_test(a_short_chat_takes_little_of_a_long_context),
    };
    starter = argc > 1 && argv[1][0] ? argv[1] : NULL;
    return cmocka_run_group_tests_name("memory_plan", tests, NULL, NULL);
}
