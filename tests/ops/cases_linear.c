/* linear: every format, odd shapes, rows together and alone, values that are not finite. */
#include "tests/ops/ops_test.h"

struct linear_call {
    struct op_linear op; /* without y */
};

static enum op_status call_linear(struct device *device, void *y, void *ud) {
    struct op_linear op = ((struct linear_call *)ud)->op;
    op.y = y;
    return device->ops->linear(device, &op);
}

static double *reference(const struct test_matrix *w, const float *x, int rows, const float *bias,
                         const float *initial) {
    size_t n_out = (size_t)w->matrix.rows, n = (size_t)w->matrix.cols;
    double *y = test_alloc((size_t)rows * n_out * sizeof *y);
    for (size_t t = 0; t < (size_t)rows; t++) {
        for (size_t i = 0; i < n_out; i++) {
            double sum = bias ? (double)bias[i] : 0;
            for (size_t k = 0; k < n; k++) sum += w->values[i * n + k] * (double)x[t * n + k];
            y[t * n_out + i] = sum + (initial ? (double)initial[t * n_out + i] : 0);
        }
    }
    return y;
}

/* All rows at once, then each row by itself: the same bits. */
static void check_shape(enum format format, int rows, int n_out, int n, bool has_bias,
                        bool accumulate) {
    struct test_matrix w = test_random_matrix(format, n_out, n);
    size_t n_y = (size_t)rows * (size_t)n_out;
    float *x = test_random_floats((size_t)rows * (size_t)n, 1);
    float *bias = has_bias ? test_random_floats((size_t)n_out, 1) : NULL;
    float *initial = accumulate ? test_random_floats(n_y, 1) : NULL;
    struct linear_call call = {
        {.x = x, .w = &w.matrix, .bias = bias, .rows = rows, .accumulate = accumulate}};
    double *expected = reference(&w, x, rows, bias, initial);
    float *together = test_on_devices(call_linear, &call, n_y, initial, expected, 1e-5);

    for (int from = 0, n_rows; from < rows; from += n_rows) {
        n_rows = rows < 10 ? 1 : test_random_int(1, rows - from < 9 ? rows - from : 9);
        size_t skip = (size_t)from * (size_t)n_out, n_some = (size_t)n_rows * (size_t)n_out;
        float *some = initial ? test_copy(initial + skip, n_some) : test_floats(n_some);
        call.op.x = test_copy(x + (size_t)from * (size_t)n, (size_t)n_rows * (size_t)n);
        call.op.rows = n_rows;
        CHECK_OK(call_linear(test_devices[DEVICE_TWO], some, &call));
        CHECK_SAME_BITS(some, together + skip, n_some);
    }
    test_free_all();
}

static void test_linear(void **state) {
    enum format format = *(enum format *)*state;
    int block = format_table[format].block_values;
    static const int shapes[][2] = {/* rows, outputs */
                                    {1, 1},  {1, 2},  {1, 3},   {1, 7},  {1, 64},  {1, 129},
                                    {2, 1},  {2, 25}, {3, 24},  {4, 23}, {5, 48},  {7, 5},
                                    {8, 33}, {9, 3},  {31, 26}, {64, 4}, {129, 7}, {130, 49}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        for (int n_blocks = 1; n_blocks <= 3; n_blocks++)
            check_shape(format, shapes[i][0], shapes[i][1], block * n_blocks, i % 2, i % 3 == 0);
    }
    /* beyond one segment of the sum, and as wide as the starter's feed-forward */
    check_shape(format, 1, 40, 1024, true, true);
    check_shape(format, 6, 27, 1024 + 256, false, true);
    check_shape(format, 1, 9, 1536, true, false);
    check_shape(format, 3, 50, 2048 + 512, false, false);
    check_shape(format, 600, 5, 768, true, true);
}

/* Widths that are no multiple of a vector exist in formats without blocks only. */
static void test_linear_odd_width(void **state) {
    (void)state;
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_BF16};
    static const int widths[] = {2,  3,  7,  9,   15,  17,  31,   33,   63,   65,
                                 95, 97, 99, 127, 129, 255, 1023, 1025, 1031, 2049};
    for (int f = 0; f < 3; f++) {
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
            check_shape(formats[f], 1, 6, widths[i], true, false);
            check_shape(formats[f], 2, 5, widths[i], false, true);
            check_shape(formats[f], 7, 4, widths[i], true, false);
        }
    }
}

/* NaN or infinity in one row of x stays in that row of y; in a row of w, in that column. */
static void test_linear_not_finite(void **state) {
    enum format format = *(enum format *)*state;
    int block = format_table[format].block_values, n = block < 32 ? 70 : block * 2, n_out = 29;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int rows = 1; rows <= 9; rows += 4) {
        for (int b = 0; b < 3; b++) {
            struct test_matrix w = test_random_matrix(format, n_out, n);
            float *x = test_random_floats((size_t)(rows * n), 1);
            int bad_row = test_random_int(0, rows - 1);
            struct linear_call call = {{.x = x, .w = &w.matrix, .rows = rows}};
            float *before = test_floats((size_t)(rows * n_out)), *after;
            CHECK_OK(call_linear(test_devices[DEVICE_TWO], before, &call));
            x[bad_row * n + test_random_int(0, n - 1)] = bad[b];
            after = test_floats((size_t)(rows * n_out));
            CHECK_OK(call_linear(test_devices[DEVICE_TWO], after, &call));
            for (int t = 0; t < rows; t++) {
                if (t != bad_row)
                    CHECK_SAME_BITS(after + t * n_out, before + t * n_out, (size_t)n_out);
                for (int i = 0; t == bad_row && i < n_out; i++)
                    assert_false(isfinite(after[t * n_out + i]));
            }
        }
    }
}

void add_linear_cases(void) {
    test_add_for_formats("linear", USE_WEIGHT, test_linear);
    test_add("linear odd width", test_linear_odd_width);
    test_add_for_formats("linear not finite", USE_WEIGHT, test_linear_not_finite);
}
