/*
 * What the op tests share: guarded memory, random data, comparisons, devices.
 *
 * Every array of a test comes from test_alloc(): it ends at an unreadable page, bytes before it
 * are watched, and it starts as NaN, so reading or writing outside an op's shapes and relying on
 * what was in an output fail loudly.
 */
#pragma once

#include "kernels/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- memory; all of it is checked and freed by test_free_all() ---- */

void *test_alloc(size_t bytes);
float *test_floats(size_t n); /* NaN */
float *test_copy(const float *from, size_t n);
void test_free_all(void);

/* ---- random data: the same in every run ---- */

void test_seed(uint64_t seed);
uint64_t test_random(void);
int test_random_int(int from, int to);            /* both included */
float *test_random_floats(size_t n, float scale); /* normal, with a few outliers */
/* The same for large arrays, in a tenth of the time: two million values that repeat themselves. */
float *test_pooled_floats(size_t n, float scale);

/* A matrix with random blocks of that format, and its values. Lies at an odd address. */
struct test_matrix {
    struct matrix matrix;
    double *values; /* [rows, cols] */
};
struct test_matrix test_random_matrix(enum format format, int rows, int cols);

/* The matrix as the device wants it: packed, or the same. */
struct matrix test_pack_for(struct device *device, const struct matrix *stored);

static inline int smaller_int(int a, int b) {
    return a < b ? a : b;
}

/* ---- batches ---- */

/* op_batch with arrays of its own, writable. */
struct test_batch {
    struct op_batch batch;
    int32_t *tokens, *positions, *seq_of, *slots, *starts, *block_table, *outputs;
    float *inv_freq, *rope_scale;
};
struct test_batch test_batch_new(int n_rows, int n_seqs, int n_outputs, int max_blocks,
                                 int head_size);

/* ---- comparisons; all of them fail the test ---- */

#define CHECK_CLOSE(got, expected, n, tolerance)                                                   \
    test_close(got, expected, n, tolerance, __FILE__, __LINE__)
#define CHECK_SAME_BITS(got, expected, n) test_same_bits(got, expected, n, __FILE__, __LINE__)
#define CHECK_OK(call)                    assert_int_equal(call, OP_OK)

/* |got - expected| <= tolerance * (the root mean square of expected, or |expected|) */
void test_close(const float *got, const double *expected, size_t n, double tolerance,
                const char *file, int line);
void test_same_bits(const float *got, const float *expected, size_t n, const char *file, int line);
size_t test_n_compared(void); /* values compared so far */

/* ---- devices ---- */

enum {
    DEVICE_ONE,
    DEVICE_BASELINE,
    DEVICE_VNNI,
    DEVICE_AVX512,
    DEVICE_AVX2,
    DEVICE_TWO,
    DEVICE_THREE,
    DEVICE_SEVEN,
    N_TEST_DEVICES
};
extern struct device *test_devices[N_TEST_DEVICES];

/*
 * Runs `call` on every device: a fresh y of n values, first filled from `initial` if not NULL.
 * The first device's and those of other variants are within tolerance of expected, the others' have
 * the bits of the first. Returns the first device's.
 */
float *test_on_devices(enum op_status (*call)(struct device *device, void *y, void *ud), void *ud,
                       size_t n, const float *initial, const double *expected, double tolerance);

/* ---- cases ---- */

struct test_case {
    const char *name;
    void (*run)(void **state);
    enum format format; /* *state points to this, where the name has one */
};

/* Each file of cases adds its own. */
void test_add(const char *name, void (*run)(void **state));
void test_add_for_formats(const char *name, unsigned use, void (*run)(void **state));
void add_linear_cases(void);
void add_strip_cases(void);
void add_row_cases(void);
void add_attention_cases(void);
void add_fused_cases(void);
void add_sample_cases(void);
void add_device_cases(void);

int run_perf(int n_threads, const char *what); /* prints a table; the exit status */
