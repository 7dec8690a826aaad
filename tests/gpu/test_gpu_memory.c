/*
 * Memory of a GPU: what the plan says before it is taken against what the card then lacks, budgets
 * that are held, and what is said when a model does not fit.
 *
 *   test_gpu_memory MODULE SHAPE...     SHAPE: a folder with config.json; weights are random
 *
 * Wants a card that nobody else uses: what is taken is the card's memory less what is free.
 */
#include "engine/engine.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *module, *shape;

/* The driver's own functions: what the card has, whoever took it. */
static struct {
    int (*init)(unsigned);
    int (*retain)(void **context, int device);
    int (*set)(void *context);
    int (*memory)(size_t *free_bytes, size_t *total_bytes);
} driver;

static bool find(void *library, const char *name, void *out) {
    void *symbol = dlsym(library, name);
    memcpy(out, &symbol, sizeof symbol);
    return symbol != NULL;
}

static bool open_driver(void) {
    void *library = dlopen("libcuda.so.1", RTLD_NOW), *context;
    return library && find(library, "cuInit", &driver.init) &&
           find(library, "cuDevicePrimaryCtxRetain", &driver.retain) &&
           find(library, "cuCtxSetCurrent", &driver.set) &&
           find(library, "cuMemGetInfo_v2", &driver.memory) && driver.init(0) == 0 &&
           driver.retain(&context, 0) == 0 && driver.set(context) == 0;
}

static uint64_t taken_bytes(void) {
    size_t free_bytes, total_bytes;
    assert_int_equal(driver.memory(&free_bytes, &total_bytes), 0);
    return total_bytes - free_bytes;
}

static struct engine_options options_for(int context, int sequences) {
    return (struct engine_options){.model = shape,
                                   .random_weights = "",
                                   .ids_only = true,
                                   .device = "cuda",
                                   .cuda_module = module,
                                   .kv_format = FORMAT_F16,
                                   .context_tokens = context,
                                   .max_sequences = sequences};
}

/* A long prompt and many short ones, so that every kind of pass runs and is recorded. */
static void use(struct engine *e) {
    enum { SHORT = 40 };
    const int long_one = engine_info(e)->context_tokens / 2, n = engine_info(e)->max_sequences;
    int32_t *tokens = malloc((size_t)long_one * sizeof *tokens);
    const struct engine_event *events;
    struct err err;
    uint64_t id;
    size_t n_events;
    for (int i = 0; i < long_one; i++) tokens[i] = (int32_t)(i % 1000);
    for (int i = 0; i < n; i++) {
        const struct engine_request request = {
            .tokens = tokens + i,
            .n_tokens = (size_t)(i == 0 ? long_one : SHORT),
            .sampling = {.temperature = 0.8f, .top_p = 0.9f, .repetition_penalty = 1.1f},
            .max_tokens = 8 + 4 * i,
            .ignore_stop_ids = true};
        if (engine_submit(e, &request, &id, &err) != 0) fail_msg("%s", err.text);
    }
    while (engine_is_busy(e))
        if (engine_step(e, &events, &n_events, &err) != 0) fail_msg("%s", err.text);
    free(tokens);
}

static void the_plan_is_near(void **state) {
    static const struct { int context, sequences; } cases[] = {{4096, 1}, {8192, 16}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct engine_options options = options_for(cases[i].context, cases[i].sequences);
        struct engine *e;
        struct err err;
        if (engine_open(&e, &options, &err) != 0) fail_msg("%s", err.text);
        uint64_t opened = taken_bytes();
        use(e);
        uint64_t taken = taken_bytes();
        const struct memory_plan *p = &engine_info(e)->plan;
        double share = (double)p->total_bytes / (double)taken;
        print_message("%s, context %d, %d sequences: planned %.1f MB (weights %.1f, KV %.1f, work "
                      "%.1f, context and buffers %.1f), opened %.1f, taken %.1f: %+.1f %%\n",
                      shape, cases[i].context, cases[i].sequences, (double)p->total_bytes * 1e-6,
                      (double)p->weights_bytes * 1e-6, (double)p->kv_bytes * 1e-6,
                      (double)p->activations_bytes * 1e-6, (double)p->program_bytes * 1e-6,
                      (double)opened * 1e-6, (double)taken * 1e-6, 100 * (share - 1));
        engine_close(e);
        assert_true(share > 0.98 && share < 1.05);
    }
}

/* As on a smaller card: what fits a budget stays within it, and what does not is told. */
static void a_budget_is_held(void **state) {
    (void)state;
    struct engine_options options = options_for(4096, 1);
    struct memory_plan small;
    struct engine *e;
    struct err err;
    if (engine_plan(&options, NULL, &small, &err) != 0) fail_msg("%s", err.text);
    options.gpu_memory_bytes = small.total_bytes + small.kv_bytes;
    options.context_tokens = 0; /* what fits */
    if (engine_open(&e, &options, &err) != 0) fail_msg("%s", err.text);
    const int fits = engine_info(e)->context_tokens;
    use(e);
    uint64_t taken = taken_bytes();
    engine_close(e);
    print_message("budget %.1f MB: a context of %d, taken %.1f MB\n",
                  (double)options.gpu_memory_bytes * 1e-6, fits, (double)taken * 1e-6);
    assert_in_range(fits, 4096, 16384);
    assert_true(taken <= options.gpu_memory_bytes);

    options.context_tokens = 2 * fits;
    assert_int_equal(engine_open(&e, &options, &err), -1);
    assert_int_equal(err.kind, ERR_MEMORY);
    print_message("%s\n", err.text);
    const char *named = strstr(err.text, "; a context of ");
    assert_non_null(named);
    options.context_tokens = atoi(named + strlen("; a context of "));
    if (engine_open(&e, &options, &err) != 0) fail_msg("%s", err.text);
    engine_close(e);

    options.gpu_memory_bytes = small.program_bytes + small.weights_bytes / 2;
    assert_int_equal(engine_open(&e, &options, &err), -1);
    assert_int_equal(err.kind, ERR_MEMORY);
    print_message("%s\n", err.text);
    assert_non_null(strstr(err.text, "is missing"));
    assert_null(strstr(err.text, "fits"));
}

/* Closed and opened again, nothing stays behind. */
static void nothing_is_kept(void **state) {
    (void)state;
    uint64_t before = 0;
    for (int i = 0; i < 3; i++) {
        struct engine_options options = options_for(2048, 4);
        struct engine *e;
        struct err err;
        if (engine_open(&e, &options, &err) != 0) fail_msg("%s", err.text);
        use(e);
        engine_close(e);
        if (i > 0) assert_true(taken_bytes() <= before + (8 << 20));
        before = taken_bytes();
    }
    print_message("closed: %.1f MB\n", (double)before * 1e-6);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_plan_is_near),
        cmocka_unit_test(a_budget_is_held),
        cmocka_unit_test(nothing_is_kept),
    };
    int failed = 0;
    if (argc < 3) return 1;
    if (!open_driver()) return 77;
    module = argv[1];
    for (int i = 2; i < argc; i++) {
        shape = argv[i];
        failed += cmocka_run_group_tests_name(shape, tests, NULL, NULL);
    }
    return failed;
}
