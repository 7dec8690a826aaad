/*
 * The ops of the CPU backend against double precision references, and against themselves with
 * other thread counts, batches and variants.
 *
 *   test_ops [test [filter]]   run the cases (whose names contain filter)
 *   test_ops list              their names
 *   test_ops perf [threads]    speeds beside what the memory gives
 */
#include "tests/ops/ops_test.h"

#include <stdio.h>

struct device *test_devices[N_TEST_DEVICES];

static struct CMUnitTest *cases;
static size_t n_cases;

static int check_memory(void **state) {
    (void)state;
    test_free_all();
    return 0;
}

static int seed_anew(void **state) {
    (void)state;
    test_seed(42);
    return 0;
}

static void add(char *name, void (*run)(void **state), enum format *format) {
    cases = realloc(cases, (n_cases + 1) * sizeof *cases);
    cases[n_cases++] = (struct CMUnitTest){name, run, seed_anew, check_memory, format};
}

void test_add(const char *name, void (*run)(void **state)) {
    add(strdup(name), run, NULL);
}

void test_add_for_formats(const char *name, unsigned use, void (*run)(void **state)) {
    static enum format formats[N_FORMATS];
    for (int f = 0; f < N_FORMATS; f++) {
        char full[64];
        if (!(format_table[f].uses & use)) continue;
        formats[f] = (enum format)f;
        snprintf(full, sizeof full, "%s %s", name, format_table[f].name);
        add(strdup(full), run, &formats[f]);
    }
}

static int open_devices(void **state) {
    static const struct device_cpu_options options[N_TEST_DEVICES] = {
        [DEVICE_ONE] = {.threads = 1},
        [DEVICE_BASELINE] = {.threads = 2, .baseline = true},
        [DEVICE_VNNI] = {.threads = 2, .variant = "AVX-512 VNNI"},
        [DEVICE_AVX512] = {.threads = 2, .variant = "AVX-512"},
        [DEVICE_AVX2] = {.threads = 2, .variant = "AVX2"},
        [DEVICE_TWO] = {.threads = 2},
        [DEVICE_THREE] = {.threads = 3},
        [DEVICE_SEVEN] = {.threads = 7},
    };
    (void)state;
    for (int d = 0; d < N_TEST_DEVICES; d++)
        CHECK_OK(device_cpu_open(&test_devices[d], &options[d]));
    return 0;
}

static int close_devices(void **state) {
    (void)state;
    for (int d = 0; d < N_TEST_DEVICES; d++) test_devices[d]->close(test_devices[d]);
    print_message("%zu values compared\n", test_n_compared());
    return 0;
}

static void free_cases(void) {
    for (size_t i = 0; i < n_cases; i++) free((char *)(uintptr_t)cases[i].name);
    free(cases);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "test";
    if (strcmp(mode, "perf") == 0)
        return run_perf(argc > 2 ? atoi(argv[2]) : 0, argc > 3 ? argv[3] : NULL);
    add_linear_cases();
    add_strip_cases();
    add_row_cases();
    add_attention_cases();
    add_fused_cases();
    add_sample_cases();
    add_device_cases();
    int status = 0;
    if (strcmp(mode, "list") == 0) {
        for (size_t i = 0; i < n_cases; i++) puts(cases[i].name);
    } else {
        char pattern[128];
        snprintf(pattern, sizeof pattern, "*%s*", argc > 2 ? argv[2] : "");
        if (argc > 2) cmocka_set_test_filter(pattern);
        status = _cmocka_run_group_tests("ops", cases, n_cases, open_devices, close_devices);
    }
    free_cases();
    return status;
}
