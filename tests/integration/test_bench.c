/*
 * The bench with real engines: tiny models of all families with random weights and with their own,
 * the rows, what is refused and how it stops; and `qwen-chat bench`, whose path is the first
 * argument, in all its outputs.
 */
#include "app/bench_output.h"
#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "tests/support/make_checkpoint.h"
#include "tests/support/run_program.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char root[256], tiny[300];
static struct program program = {.home = root};

static int set_up(void **state) {
    const struct tiny_spec spec = {.context = 256};
    (void)state;
    make_temporary_folder(root);
    snprintf(tiny, sizeof tiny, "%s/tiny", root);
    return make_tiny_folder(tiny, &spec);
}

static int tear_down(void **state) {
    (void)state;
    remove_folder(root);
    program_release(&program);
    return 0;
}

/* --- the core --------------------------------------------------------------------------------- */

static struct bench_row rows[8];
static size_t n_rows;
static int n_progress, stop_at; /* progress says false at that call; 0: never */
static double last_share;
static bool is_falling; /* the share went back within a test */
static char last_what[64];

static bool on_progress(void *ud, const char *what, double share) {
    (void)ud;
    if (strcmp(what, last_what) == 0 && share < last_share) is_falling = true;
    snprintf(last_what, sizeof last_what, "%s", what);
    last_share = share;
    return ++n_progress != stop_at;
}

static void on_row(void *ud, const struct bench_row *row) {
    (void)ud;
    assert_true(n_rows < sizeof rows / sizeof *rows);
    rows[n_rows++] = *row;
}

static int run(struct engine *e, const struct bench_test *tests, size_t n, int repetitions,
               struct err *err) {
    const struct bench_host host = {NULL, on_progress, on_row};
    const struct bench_plan plan = {tests, n, repetitions, false};
    n_rows = 0;
    n_progress = 0;
    last_what[0] = '\0';
    is_falling = false;
    return bench_run(e, &plan, &host, err);
}

/* prefill_tokens 0: as the machine's speed gives. */
static struct engine *open_engine_with(const char *model, const char *random_weights, int context,
                                       int sequences, int prefill_tokens) {
    const struct engine_options options = {.model = model,
                                           .threads = 2,
                                           .context_tokens = context,
                                           .max_sequences = sequences,
                                           .prefill_tokens = prefill_tokens,
                                           .kv_format = FORMAT_F16,
                                           .random_weights = random_weights,
                                           .ids_only = true};
    struct engine *e = NULL;
    struct err err;
    if (engine_open(&e, &options, &err) != 0) fail_msg("%s: %s", model, err.text);
    return e;
}

static struct engine *open_engine(const char *model, const char *random_weights, int context,
                                  int sequences) {
    return open_engine_with(model, random_weights, context, sequences, 0);
}

static void check_row(const struct bench_row *row, int n_samples, bool is_generation) {
    assert_int_equal(row->n_samples, n_samples);
    for (int i = 0; i < n_samples; i++) assert_true(row->seconds[i] > 0 && row->seconds[i] < 60);
    assert_true(row->avg_ts > 0 && isfinite(row->avg_ts) && row->flops > 0);
    assert_true(row->roof > 1e8 && row->roof < 1e14);
    assert_true(row->memory_bytes > 1 << 20);
    assert_int_equal(row->roof_share >= 0, is_generation);
    assert_int_equal(row->bytes_per_token > 0, is_generation);
}

/* Prompt, generation and both, alone and in three sequences, behind a context of odd length; on a
 * slow machine a prompt takes several passes. */
static void test_rows(void **state) {
    static const struct bench_test tests[] = {{40, 0, 0, 1},  {0, 10, 0, 1},  {20, 5, 0, 1},
                                              {40, 0, 37, 3}, {0, 10, 37, 3}, {20, 5, 37, 3}};
    enum { N = sizeof tests / sizeof *tests };
    (void)state;
    struct err err = {0};
    for (int prefill_tokens = 0; prefill_tokens <= 24; prefill_tokens += 8) {
        struct engine *e = open_engine_with(tiny, NULL, bench_context(tests, N),
                                            bench_sequences(tests, N), prefill_tokens);
        assert_null(engine_tokenizer(e));
        assert_null(engine_chat(e));
        if (run(e, tests, N, 2, &err) != 0) fail_msg("%s", err.text);
        assert_int_equal(n_rows, N);
        for (size_t i = 0; i < N; i++) {
            assert_memory_equal(&rows[i].test, &tests[i], sizeof tests[i]);
            check_row(&rows[i], 2, tests[i].n_prompt == 0);
        }
        assert_false(is_falling);
        assert_false(engine_is_busy(e));
        assert_int_equal(engine_load(e).kv_used_bytes, 0);
        assert_int_equal(engine_load(e).kv_cached_bytes, 0);
        engine_close(e);
    }
}

/* Random weights in every family, plain and in blocks, v1's fused q, k and v in both. */
static void test_random_weights(void **state) {
    static const struct bench_test test = {0, 8, 20, 2};
    static const struct {
        enum tiny_family family;
        const char *mix;
    } cases[] = {{TINY_QWEN2, ""},     {TINY_QWEN2, "q8_0"}, {TINY_QWEN3, "f16"},
                 {TINY_QWEN3, "q6_k"}, {TINY_QWEN, ""},      {TINY_QWEN, "q4_k_m"}};
    (void)state;
    struct err err = {0};
    char folder[340], config[360], weights[360];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tiny_spec spec = {.family = cases[i].family,
                                       .hidden = 256,
                                       .ffn = 512,
                                       .context = 256,
                                       .is_tied = cases[i].family == TINY_QWEN3};
        snprintf(folder, sizeof folder, "%s/random%zu", root, i);
        assert_int_equal(make_tiny_folder(folder, &spec), 0);
        snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
        assert_int_equal(remove(weights), 0);
        snprintf(config, sizeof config, "%s/config.json", folder);
        struct engine *e = open_engine(i % 2 ? config : folder, cases[i].mix,
                                       bench_context(&test, 1), bench_sequences(&test, 1));
        if (run(e, &test, 1, 1, &err) != 0) fail_msg("%s %s: %s", config, cases[i].mix, err.text);
        assert_int_equal(n_rows, 1);
        check_row(&rows[0], 1, true);
        engine_close(e);
    }
}

static void test_refusals(void **state) {
    static const struct bench_test long_one = {200, 0, 0, 1}, wide = {0, 4, 0, 3};
    (void)state;
    struct err err = {0};
    struct engine *e = open_engine(tiny, NULL, 256, 2);
    assert_int_equal(run(e, &long_one, 1, 1, &err), -1);
    assert_int_equal(err.kind, ERR_CONTEXT);
    assert_non_null(strstr(err.text, "pp200 needs a context of"));
    assert_int_equal(run(e, &wide, 1, 1, &err), -1);
    assert_int_equal(err.kind, ERR_USAGE);
    assert_non_null(strstr(err.text, "tg4 x3: the engine runs 2 sequences"));
    assert_int_equal(n_rows, 0);
    engine_close(e);
}

/* Wherever it is stopped the engine is idle afterwards, and runs again. Passes of a given size:
 * there are as many in each run. */
static void test_stop(void **state) {
    static const struct bench_test tests[] = {{30, 0, 20, 2}, {0, 6, 20, 2}};
    (void)state;
    struct err err = {0};
    struct engine *e = open_engine_with(tiny, NULL, bench_context(tests, 2), 2, 16);
    stop_at = 0;
    assert_int_equal(run(e, tests, 2, 1, &err), 0);
    int all = n_progress;
    assert_true(all > 10);
    for (stop_at = 1; stop_at <= all; stop_at += 11) {
        assert_int_equal(run(e, tests, 2, 1, &err), 1);
        assert_int_equal(n_progress, stop_at);
        assert_false(engine_is_busy(e));
    }
    stop_at = 0;
    assert_int_equal(run(e, tests, 2, 1, &err), 0);
    assert_int_equal(n_rows, 2);
    engine_close(e);
}

static void test_no_memory(void **state) {
    static const struct bench_test test = {8, 0, 0, 1};
    (void)state;
    struct err err = {0};
    struct engine *e = open_engine(tiny, NULL, 256, 1);
    for (unsigned long i = 1; i < 7; i++) {
        mem_fail_at(i, true);
        int result = run(e, &test, 1, 1, &err);
        mem_fail_at(0, false);
        if (result != 0) assert_int_equal(err.kind, ERR_MEMORY);
        assert_false(engine_is_busy(e));
    }
    assert_int_equal(run(e, &test, 1, 1, &err), 0);
    engine_close(e);
}

/* --- the program ------------------------------------------------------------------------------ */

#define RUN(...) program_run(&program, "", (const char *const[]){__VA_ARGS__, NULL})

static double number(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItem(object, name);
    if (!cJSON_IsNumber(item)) fail_msg("%s is no number", name);
    return item->valuedouble;
}

/* Every name of llama-bench that this program has, with a value that can be. */
static void check_object(const cJSON *o, int n_prompt, int n_gen) {
    static const char *const texts[] = {"build_commit", "cpu_info",   "gpu_info",
                                        "backends",     "model_type", "test_time",
                                        "type_k",       "type_v",     "model_filename"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!cJSON_IsString(cJSON_GetObjectItem(o, texts[i]))) fail_msg("%s: no text", texts[i]);
    assert_string_equal(cJSON_GetObjectItem(o, "model_filename")->valuestring, tiny);
    assert_string_equal(cJSON_GetObjectItem(o, "backends")->valuestring, "CPU");
    assert_true(number(o, "build_number") == 0);
    assert_true(number(o, "model_size") > 1000 && number(o, "model_n_params") > 1000);
    assert_true(number(o, "n_batch") >= 1 && number(o, "n_ubatch") == number(o, "n_batch"));
    assert_true(number(o, "n_threads") == 2);
    assert_true(number(o, "n_prompt") == n_prompt && number(o, "n_gen") == n_gen);
    assert_true(number(o, "n_depth") == 16 && number(o, "n_seqs") == 1);
    const cJSON *ns = cJSON_GetObjectItem(o, "samples_ns"),
                *ts = cJSON_GetObjectItem(o, "samples_ts");
    assert_int_equal(cJSON_GetArraySize(ns), 3);
    assert_int_equal(cJSON_GetArraySize(ts), 3);
    double sum_ns = 0, sum_ts = 0;
    for (int i = 0; i < 3; i++) {
        double a = cJSON_GetArrayItem(ns, i)->valuedouble,
               b = cJSON_GetArrayItem(ts, i)->valuedouble;
        assert_true(fabs(a * b / 1e9 - (n_prompt + n_gen)) < 1e-3); /* of 6 digits each */
        sum_ns += a / 3;
        sum_ts += b / 3;
    }
    assert_true(fabs(number(o, "avg_ns") / sum_ns - 1) < 1e-4);
    assert_true(fabs(number(o, "avg_ts") / sum_ts - 1) < 1e-4);
    assert_true(number(o, "stddev_ns") >= 0 && number(o, "stddev_ts") >= 0);
    assert_true(number(o, "roof_bytes_per_second") > 1e8 && number(o, "flops") > 0);
    assert_int_equal(cJSON_IsNull(cJSON_GetObjectItem(o, "roof_share")), n_prompt > 0);
    assert_true(number(o, "memory_bytes") > 1 << 20);
}

static void test_json(void **state) {
    (void)state;
    struct err err;
    assert_int_equal(RUN("bench", "-m", tiny, "-p", "20", "-n", "5", "-d", "16", "-r", "3", "-t",
                         "2", "-o", "json"),
                     0);
    assert_int_equal(program.errors.n, 0);
    cJSON *json =
        json_parse(program.out.data, program.out.n, (struct json_limits){1 << 20, 1000, 8}, &err);
    if (!json) fail_msg("%s", err.text);
    assert_int_equal(cJSON_GetArraySize(json), 2);
    check_object(cJSON_GetArrayItem(json, 0), 20, 0);
    check_object(cJSON_GetArrayItem(json, 1), 0, 5);
    cJSON_Delete(json);
    assert_int_equal(RUN("-t", "2", "-m", tiny, "bench", "-p0", "-n", "4"), ERR_USAGE);
    assert_int_equal(RUN("-t", "2", "-m", tiny, "bench", "-p", "0", "-n", "5", "-d", "16", "-r",
                         "3", "-o", "jsonl"),
                     0);
    json =
        json_parse(program.out.data, program.out.n, (struct json_limits){1 << 20, 1000, 8}, &err);
    if (!json) fail_msg("%s", err.text);
    check_object(json, 0, 5);
    cJSON_Delete(json);
}

static void test_tables(void **state) {
    (void)state;
    size_t n_lines = 0, n_commas = 0;
    assert_int_equal(RUN("bench", "-m", tiny, "-p", "8", "-n", "4", "-r", "1", "-t", "1,2"), 0);
    for (size_t i = 0; i < program.out.n; i++) n_lines += program.out.data[i] == '\n';
    assert_int_equal(n_lines, 2 + 2 * 2);
    assert_non_null(strstr(program.out.data, " tg4 |"));
    assert_int_equal(RUN("bench", "-m", tiny, "-p", "8", "-n", "0", "-r", "1", "-o", "csv"), 0);
    char *second = strchr(program.out.data, '\n') + 1;
    for (const char *c = second; *c; c++) n_commas += *c == ',';
    for (const char *c = program.out.data; c < second; c++)
        n_commas -= *c == ','; /* names have none */
    assert_int_equal(n_commas, 0);
    assert_int_equal(RUN("bench", "--help"), 0);
    assert_non_null(strstr(program.out.data, "--random-weights[=FORMAT]"));
}

static void test_program_refuses(void **state) {
    (void)state;
    char weights[340];
    assert_int_equal(RUN("bench", "-m", tiny, "--bogus"), ERR_USAGE);
    assert_int_equal(RUN("bench", "-m", "/nonexistent", "-n", "1"), ERR_MODEL);
    assert_int_equal(RUN("bench"), ERR_MODEL);
    assert_int_equal(RUN("bench", "-m", tiny, "--random-weights=int3"), ERR_USAGE);
    /* flags of the program before the word, and its own -p still a prompt there */
    assert_int_equal(RUN("-p", "bench", "-m", "/nonexistent"), ERR_MODEL);
    assert_null(strstr(program.out.data, "tg"));
    snprintf(weights, sizeof weights, "%s/model.safetensors", tiny);
    assert_int_equal(remove(weights), 0);
    assert_int_equal(RUN("bench", "-m", tiny, "-n", "1"), ERR_MODEL);
    assert_int_equal(
        RUN("bench", "-m", tiny, "-p", "4", "-n", "2", "-r", "1", "--random-weights=f16"), 0);
    assert_non_null(strstr(program.out.data, " f16 "));
    assert_int_equal(RUN("inspect", tiny), 0);
    assert_non_null(strstr(program.errors.data, "there are no weights"));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),      cmocka_unit_test(test_random_weights),
        cmocka_unit_test(test_refusals),  cmocka_unit_test(test_stop),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_json),
        cmocka_unit_test(test_tables),    cmocka_unit_test(test_program_refuses),
    };
    if (argc < 2) return 1;
    program.path = argv[1];
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
