/*
 * The bench without an engine: what its flags say, the tests they ask for, means and deviations,
 * and the four outputs, letter by letter.
 */
#include "app/bench_output.h"
#include "engine/base/mem.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* --- flags ------------------------------------------------------------------------------------ */

static struct bench_options options;
static struct err err;

static int read_words(enum bench_where where, const char *const *words) {
    size_t n = 0;
    while (words[n]) n++;
    err = (struct err){0};
    return bench_options_read(&options, (char *const *)(uintptr_t)words, n, where, &err);
}
#define READ(...) read_words(BENCH_IN_PROGRAM, (const char *const[]){__VA_ARGS__, NULL})

static void check_list(const struct bench_list *list, int n, const int *items) {
    assert_int_equal(list->n, n);
    for (int i = 0; i < n; i++) assert_int_equal(list->items[i], items[i]);
}
#define LIST(list, ...)                                                                            \
    check_list(&(list), (int)(sizeof(int[]){__VA_ARGS__} / sizeof(int)), (int[]){__VA_ARGS__})

static void test_defaults(void **state) {
    (void)state;
    assert_int_equal(read_words(BENCH_IN_PROGRAM, (const char *const[]){NULL}), 0);
    LIST(options.prompt, 512);
    LIST(options.gen, 128);
    LIST(options.depth, 0);
    LIST(options.seqs, 1);
    LIST(options.threads, 0);
    assert_int_equal(options.both.n, 0);
    assert_int_equal(options.repetitions, 5);
    assert_int_equal(options.output, BENCH_MD);
    assert_null(options.model);
    assert_null(options.random_weights);
    assert_false(options.no_warmup);
    assert_false(options.help);
}

static void test_values(void **state) {
    (void)state;
    assert_int_equal(READ("-p", "512,1024", "-n", "0", "-pg", "512,128", "-pg", "1,2", "-d",
                          "0,4096", "-r", "3", "-t", "1,2", "-npl", "1,4", "-o", "jsonl", "-m",
                          "a folder", "-ub", "64", "--random-weights=q8_0", "--no-warmup", "-h"),
                     0);
    LIST(options.prompt, 512, 1024);
    LIST(options.gen, 0);
    LIST(options.both, 512, 128, 1, 2);
    LIST(options.depth, 0, 4096);
    LIST(options.threads, 1, 2);
    LIST(options.seqs, 1, 4);
    assert_int_equal(options.repetitions, 3);
    assert_int_equal(options.output, BENCH_JSONL);
    assert_int_equal(options.ubatch, 64);
    assert_string_equal(options.model, "a folder");
    assert_string_equal(options.random_weights, "q8_0");
    assert_true(options.no_warmup && options.help);
    assert_int_equal(READ("--n-prompt=7", "--n-gen", "8", "--random-weights", "--output=csv"), 0);
    LIST(options.prompt, 7);
    LIST(options.gen, 8);
    assert_string_equal(options.random_weights, "");
    assert_int_equal(options.output, BENCH_CSV);
}

static void test_lists(void **state) {
    (void)state;
    assert_int_equal(READ("-p", "1-4", "-p", "9", "-n", "128-512+128", "-d", "16-128*2,5"), 0);
    LIST(options.prompt, 1, 2, 3, 4, 9);
    LIST(options.gen, 128, 256, 384, 512);
    LIST(options.depth, 16, 32, 64, 128, 5);
    assert_int_equal(READ("-p", "3-3"), 0);
    LIST(options.prompt, 3);
}

static void refused(const char *part, int result) {
    assert_int_equal(result, -1);
    assert_int_equal(err.kind, ERR_USAGE);
    if (!strstr(err.text, part)) fail_msg("\"%s\" does not say \"%s\"", err.text, part);
}

static void test_refusals(void **state) {
    (void)state;
    refused("no flag --bogus", READ("--bogus"));
    refused("no flag -npx", READ("-npx", "3"));
    refused("flags only", READ("512"));
    refused("-p: its value is missing", READ("-p"));
    refused("-p: a number is needed", READ("-p", ""));
    refused("-p: a number is needed", READ("-p", "x"));
    refused("-p: a number is needed", READ("-p", "-1"));
    refused("-p: a number is needed", READ("-p", "5,"));
    refused("commas between", READ("-p", "5;6"));
    refused("not in 0 to", READ("-p", "99999999999999999999"));
    refused("a range from 5 to 4", READ("-p", "5-4"));
    refused("not in 1 to", READ("-p", "1-9+0"));
    refused("not in 2 to", READ("-p", "1-9*1"));
    refused("a range from 0", READ("-p", "0-9*2"));
    refused("more than 64", READ("-p", "1-65"));
    refused("as in 512,128", READ("-pg", "512"));
    refused("above 0", READ("-pg", "0,5"));
    refused("above 0", READ("-pg", "5,5,5"));
    refused("not in 1 to 100", READ("-r", "0"));
    refused("one number", READ("-r", "1,2"));
    refused("not in 1 to 64", READ("-npl", "0"));
    refused("md, csv, json", READ("-o", "sql"));
    refused("takes no value", READ("--no-warmup=1"));
    static const char *const in_chat[] = {"-m", "-t", "-o", "--random-weights", "-ub"};
    for (size_t i = 0; i < sizeof in_chat / sizeof *in_chat; i++)
        refused("the chat has its model",
                read_words(BENCH_IN_CHAT, (const char *const[]){in_chat[i], "1", NULL}));
}

static void test_help(void **state) {
    (void)state;
    struct bench_option_info o;
    struct buf text = {0};
    bench_options_help(&text);
    for (size_t i = 0; bench_option_at(i, &o); i++) {
        assert_non_null(strstr(text.data, o.help));
        if (o.long_name) assert_non_null(strstr(text.data, o.long_name));
    }
    assert_non_null(strstr(text.data, "--random-weights[=FORMAT]"));
    assert_non_null(strstr(text.data, "-p, --n-prompt N,…"));
    buf_release(&text);
}

/* --- tests ------------------------------------------------------------------------------------ */

static void test_order(void **state) {
    (void)state;
    static const char *const names[] = {
        "pp5",          "pp6",          "tg7",          "pp8+tg9",
        "pp5 @ d16",    "pp6 @ d16",    "tg7 @ d16",    "pp8+tg9 @ d16",
        "pp5 x3",       "pp6 x3",       "tg7 x3",       "pp8+tg9 x3",
        "pp5 @ d16 x3", "pp6 @ d16 x3", "tg7 @ d16 x3", "pp8+tg9 @ d16 x3"};
    struct bench_test *tests;
    size_t n;
    char name[64];
    assert_int_equal(READ("-p", "5,0,6", "-n", "7", "-pg", "8,9", "-d", "0,16", "-npl", "1,3"), 0);
    assert_int_equal(bench_options_tests(&options, &tests, &n, &err), 0);
    assert_int_equal(n, sizeof names / sizeof *names);
    for (size_t i = 0; i < n; i++) {
        bench_name(&tests[i], name);
        assert_string_equal(name, names[i]);
    }
    assert_int_equal(bench_tokens(&tests[n - 1]), 3 * (8 + 9));
    assert_int_equal(bench_sequences(tests, n), 3);
    /* room for all sequences of the largest, whole blocks and what is drawn before the clock runs
     */
    assert_in_range(bench_context(tests, n), 3 * (16 + 8 + 9 + 16), 3 * (16 + 8 + 9 + 256));
    mem_free(tests);
    assert_int_equal(READ("-p", "0", "-n", "0"), 0);
    refused("no test", bench_options_tests(&options, &tests, &n, &err));
    assert_int_equal(READ("-p", "1-64", "-d", "1-64"), 0);
    refused("more than 1024", bench_options_tests(&options, &tests, &n, &err));
}

/* --- sums ------------------------------------------------------------------------------------- */

static struct model_config config = {.model_type = "qwen2",
                                     .n_layers = 4,
                                     .hidden = 64,
                                     .ffn = 128,
                                     .n_heads = 4,
                                     .n_kv_heads = 2,
                                     .head_size = 16,
                                     .vocab = 1000};
static struct model_info info = {.config = &config,
                                 .format = "q8_0",
                                 .weight_bytes = 1000000,
                                 .stored_bytes = 1048576,
                                 .parameters = 494032768,
                                 .backend = "CPU",
                                 .processor = "A \"CPU\"",
                                 .threads = 2,
                                 .kv_format = FORMAT_F16,
                                 .pass_rows = 32,
                                 .plan = {.kv_bytes_per_token = 400}};

static void test_summary(void **state) {
    (void)state;
    struct bench_row row = {
        .test = {.n_gen = 100, .n_depth = 50, .n_seqs = 2}, .roof = 1e9, .n_samples = 2};
    row.seconds[0] = 1;
    row.seconds[1] = 2;
    bench_summarize(&row, &info);
    assert_true(fabs(row.avg_ns - 1.5e9) < 1);
    assert_true(fabs(row.stddev_ns - sqrt(0.5) * 1e9) < 1); /* over n - 1 */
    assert_true(fabs(row.avg_ts - 150) < 1e-9);             /* the mean of 200 and 100 */
    assert_true(fabs(row.stddev_ts - sqrt(2) * 50) < 1e-9);
    /* a pass reads the weights and, on average, 2 x (50 + 50.5) positions of 400 bytes */
    double pass = 1000000 + 2 * 100.5 * 400;
    assert_int_equal(row.bytes_per_token, (uint64_t)(pass / 2));
    assert_true(fabs(row.roof_share - pass * 75 / 1e9) < 1e-9);

    row.n_samples = 1;
    bench_summarize(&row, &info);
    assert_true(row.stddev_ns == 0 && row.stddev_ts == 0);
    row.roof = 0;
    bench_summarize(&row, &info);
    assert_true(row.roof_share < 0);

    row = (struct bench_row){
        .test = {.n_prompt = 10, .n_seqs = 1}, .roof = 1e9, .n_samples = 1, .seconds = {1}};
    bench_summarize(&row, &info);
    assert_true(row.roof_share < 0);
    assert_int_equal(row.bytes_per_token, 0);
    /* q, o: 64x64; k, v: 32x64; gate, up, down: 128x64; 5.5 keys of 4 x 64 on average; the head
     * once */
    double layer = 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64) + 4 * 64 * 5.5;
    assert_true(fabs(row.flops - (10 * 4 * layer + 2 * 64 * 1000)) < 1e-6);
}

/* Layers 2 and 3 of 4 look 16 tokens back. */
static void test_windows(void **state) {
    (void)state;
    struct bench_row row = {.test = {.n_gen = 1, .n_depth = 99, .n_seqs = 1}, .n_samples = 1};
    row.seconds[0] = 1;
    config.sliding_window = 16;
    config.sliding_from_layer = 2;
    bench_summarize(&row, &info);
    config.sliding_window = 0;
    assert_int_equal(row.bytes_per_token, 1000000 + (100 + 16) / 2 * 400);
}

/* --- outputs ---------------------------------------------------------------------------------- */

static struct bench_about about;
static struct bench_row rows[2];

static int make_rows(void **state) {
    (void)state;
    about = (struct bench_about){.cpu = info.processor, .gpu = "", .model = "a/b \"c\""};
    bench_about_model(&about, &info, NULL);
    rows[0] = (struct bench_row){.test = {.n_prompt = 512, .n_seqs = 1},
                                 .time = 1764129600,
                                 .n_samples = 2,
                                 .seconds = {2, 4},
                                 .roof = 25e9,
                                 .memory_bytes = 3221225472};
    rows[1] = (struct bench_row){.test = {.n_gen = 128, .n_depth = 16, .n_seqs = 4},
                                 .time = 1764129601,
                                 .n_samples = 1,
                                 .seconds = {0.5},
                                 .memory_bytes = 1048576};
    for (int i = 0; i < 2; i++) bench_summarize(&rows[i], &info);
    return 0;
}

static void print_rows(enum bench_output output, struct buf *out) {
    bench_output_begin(output, out);
    for (int i = 0; i < 2; i++) bench_output_row(output, &about, &rows[i], i == 0, out);
    bench_output_end(output, out);
    assert_false(out->failed);
}

static void test_markdown(void **state) {
    (void)state;
    struct buf out = {0};
    print_rows(BENCH_MD, &out);
    assert_string_equal(out.data,
                        "| model                      |       size |   params | backend | threads |"
                        "               test |                t/s |  roof | roof GB/s | "
                        "bytes/token |     memory |\n"
                        "| -------------------------- | ---------: | -------: | ------- | ------: |"
                        " -----------------: | -----------------: | ----: | --------: | "
                        "----------: | ---------: |\n"
                        "| qwen2 0.49 B q8_0          |   1.00 MiB | 494.03 M | CPU     |       2 |"
                        "              pp512 |     192.00 ± 90.51 |       |      25.0 |            "
                        " |   3.00 GiB |\n"
                        "| qwen2 0.49 B q8_0          |   1.00 MiB | 494.03 M | CPU     |       2 |"
                        "     tg128 @ d16 x4 |     1024.00 ± 0.00 |       |           |    0.27 "
                        "MiB |   1.00 MiB |\n");
    buf_release(&out);
}

static void test_csv(void **state) {
    (void)state;
    struct buf out = {0};
    print_rows(BENCH_CSV, &out);
    assert_string_equal(
        out.data,
        "build_commit,build_number,cpu_info,gpu_info,backends,model_filename,model_type,model_size,"
        "model_n_params,n_batch,n_ubatch,n_threads,type_k,type_v,n_prompt,n_gen,n_depth,test_time,"
        "avg_ns,stddev_ns,avg_ts,stddev_ts,n_seqs,roof_bytes_per_second,roof_share,"
        "bytes_per_token,flops,memory_bytes\n"
        "\"" QWEN_CHAT_VERSION "\",\"0\",\"A \"\"CPU\"\"\",\"\",\"CPU\",\"a/b \"\"c\"\"\","
        "\"qwen2 0.49 B q8_0\",\"1048576\",\"494032768\",\"32\",\"32\",\"2\",\"f16\",\"f16\","
        "\"512\",\"0\",\"0\",\"2025-11-26T04:00:00Z\",\"3000000000\",\"1414213562\","
        "\"192.000000\",\"90.509668\",\"1\",\"25000000000.000000\",\"\",\"\",\"107101056.000000\","
        "\"3221225472\"\n"
        "\"" QWEN_CHAT_VERSION "\",\"0\",\"A \"\"CPU\"\"\",\"\",\"CPU\",\"a/b \"\"c\"\"\","
        "\"qwen2 0.49 B q8_0\",\"1048576\",\"494032768\",\"32\",\"32\",\"2\",\"f16\",\"f16\","
        "\"0\",\"128\",\"16\",\"2025-11-26T04:00:01Z\",\"500000000\",\"0\","
        "\"1024.000000\",\"0.000000\",\"4\",\"\",\"\",\"282200.000000\",\"517472256.000000\","
        "\"1048576\"\n");
    buf_release(&out);
}

static void test_json(void **state) {
    (void)state;
    struct buf out = {0};
    print_rows(BENCH_JSON, &out);
    static const char head[] = "[\n  {\n    \"build_commit\": \"" QWEN_CHAT_VERSION "\",\n"
                               "    \"build_number\": 0,\n    \"cpu_info\": \"A \\\"CPU\\\"\",\n";
    assert_memory_equal(out.data, head, sizeof head - 1);
    assert_non_null(strstr(out.data, "\n    \"samples_ns\": [ 2e+09, 4e+09 ],\n"
                                     "    \"samples_ts\": [ 256, 128 ],\n"));
    assert_non_null(strstr(out.data, "\n  },\n  {\n"));
    assert_string_equal(out.data + out.n - 6, "  }\n]\n");
    cJSON *json = cJSON_Parse(out.data);
    assert_int_equal(cJSON_GetArraySize(json), 2);
    const cJSON *second = cJSON_GetArrayItem(json, 1);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(second, "roof_share")));
    assert_true(cJSON_GetObjectItem(second, "n_seqs")->valuedouble == 4);
    cJSON_Delete(json);
    buf_release(&out);
}

static void test_jsonl(void **state) {
    (void)state;
    struct buf out = {0};
    print_rows(BENCH_JSONL, &out);
    int n = 0;
    for (char *line = out.data, *end; (end = strchr(line, '\n')); line = end + 1, n++) {
        *end = '\0';
        cJSON *json = cJSON_Parse(line);
        assert_true(cJSON_IsObject(json));
        assert_string_equal(cJSON_GetObjectItem(json, "model_filename")->valuestring, "a/b \"c\"");
        cJSON_Delete(json);
    }
    assert_int_equal(n, 2);
    buf_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_windows),
        cmocka_unit_test_setup(test_markdown, make_rows),
        cmocka_unit_test_setup(test_csv, make_rows),
        cmocka_unit_test_setup(test_json, make_rows),
        cmocka_unit_test_setup(test_jsonl, make_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
