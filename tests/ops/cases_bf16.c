/*
 * BF16 weights by activations that are rounded to BF16, against plain C that rounds in the same way
 * (cpu/variants.h says how), and against themselves with other numbers of rows and threads. Where
 * the processor cannot multiply BF16 the same layout is multiplied as stored, by floats.
 */
#include "tests/ops/ops_test.h"

#include "kernels/decode.h"

/* A value as BF16 has it: to the nearest, ties to even. */
static double rounded(float x) {
    uint16_t half;
    float back;
    format_encode(FORMAT_BF16, &x, &half, 1);
    format_decode(FORMAT_BF16, &half, &back, 1);
    return (double)back;
}

static bool rounds(struct device *device, int n) {
    return device->layout(device, FORMAT_BF16) == LAYOUT_ROUNDED && n % 32 == 0;
}

static double *reference(const struct test_matrix *w, const float *x, int rows, const float *bias,
                         const float *initial, bool is_rounded) {
    size_t n_out = (size_t)w->matrix.rows, n = (size_t)w->matrix.cols;
    double *y = test_alloc((size_t)rows * n_out * sizeof *y);
    for (size_t t = 0; t < (size_t)rows; t++) {
        for (size_t i = 0; i < n_out; i++) {
            double sum = bias ? (double)bias[i] : 0;
            for (size_t k = 0; k < n; k++) {
                double value = is_rounded ? rounded(x[t * n + k]) : (double)x[t * n + k];
                sum += w->values[i * n + k] * value;
            }
            y[t * n_out + i] = sum + (initial ? (double)initial[t * n_out + i] : 0);
        }
    }
    return y;
}

static float *run_linear(struct device *d, struct op_linear op, const float *initial, int rows) {
    size_t n = (size_t)rows * (size_t)op.w->rows;
    float *y = initial ? test_copy(initial, n) : test_floats(n);
    op.y = y;
    op.rows = rows;
    CHECK_OK(d->ops->linear(d, &op));
    return y;
}

static void check_shape(int rows, int n_out, int n, bool has_bias, bool accumulate) {
    struct test_matrix w = test_random_matrix(FORMAT_BF16, n_out, n);
    struct matrix matrix = w.matrix;
    size_t n_y = (size_t)rows * (size_t)n_out;
    float *x = test_random_floats((size_t)rows * (size_t)n, 1), *first = NULL;
    float *bias = has_bias ? test_random_floats((size_t)n_out, 1) : NULL;
    float *initial = accumulate ? test_random_floats(n_y, 1) : NULL;
    matrix.layout = LAYOUT_ROUNDED;
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        struct device *device = test_devices[d];
        struct op_linear op = {.x = x, .w = &matrix, .bias = bias, .accumulate = accumulate};
        float *y = run_linear(device, op, initial, rows);
        if (d <= DEVICE_AVX2)
            CHECK_CLOSE(y, reference(&w, x, rows, bias, initial, rounds(device, n)), n_y, 1e-5);
        if (d == DEVICE_ONE) first = y;
        if (d > DEVICE_AVX2) CHECK_SAME_BITS(y, first, n_y);
        for (int from = 0, some; from < rows; from += some) {
            some = smaller_int(rows - from, test_random_int(1, rows < 10 ? 2 : 40));
            op.x = test_copy(x + (size_t)from * (size_t)n, (size_t)some * (size_t)n);
            size_t skipped = (size_t)from * (size_t)n_out;
            float *part = run_linear(device, op, initial ? initial + skipped : NULL, some);
            CHECK_SAME_BITS(part, y + skipped, (size_t)some * (size_t)n_out);
        }
    }
    test_free_all();
}

static void test_linear(void **state) {
    static const int shapes[][2] = {/* rows, outputs */
                                    {1, 1},   {1, 15},  {1, 16},   {1, 200}, {2, 33},  {3, 16},
                                    {4, 5},   {5, 48},  {7, 31},   {8, 80},  {9, 3},   {12, 64},
                                    {13, 20}, {31, 26}, {100, 40}, {97, 16}, {200, 18}};
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int n = 32; n <= 96; n += 32)
            check_shape(shapes[i][0], shapes[i][1], n, i % 2, i % 3 == 0);
    check_shape(1, 40, 1536, true, true);
    check_shape(11, 70, 2048 + 256, false, true);
    check_shape(6, 9, 33, true, false); /* no whole steps: as stored */
    check_shape(8, 20, 65536, false, false);
}

static void test_not_finite(void **state) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    enum { N = 96, N_OUT = 29 };
    (void)state;
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        struct test_matrix w = test_random_matrix(FORMAT_BF16, N_OUT, N);
        struct matrix matrix = w.matrix;
        matrix.layout = LAYOUT_ROUNDED;
        for (int rows = 1; rows <= 25; rows += 12) {
            float *x = test_random_floats((size_t)(rows * N), 1);
            struct op_linear op = {.x = x, .w = &matrix};
            float *before = run_linear(test_devices[d], op, NULL, rows);
            int bad_row = test_random_int(0, rows - 1);
            x[bad_row * N + test_random_int(0, N - 1)] = bad[test_random_int(0, 2)];
            float *after = run_linear(test_devices[d], op, NULL, rows);
            for (int t = 0; t < rows; t++) {
                if (t != bad_row) CHECK_SAME_BITS(after + t * N_OUT, before + t * N_OUT, N_OUT);
                for (int i = 0; t == bad_row && i < N_OUT; i++)
                    assert_false(isfinite(after[t * N_OUT + i]));
            }
        }
        test_free_all();
    }
}

void add_bf16_cases(void) {
    test_add("rounded linear bf16", test_linear);
    test_add("rounded linear bf16 not finite", test_not_finite);
}
