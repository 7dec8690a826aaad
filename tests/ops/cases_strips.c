/*
 * Packed weights and back, and linear by rounded activations (packed weights by bytes, BF16 by
 * BF16) against plain C that rounds in the same way (cpu/variants.h says how). All variants that
 * have such loops are compared.
 */
#include "tests/ops/ops_test.h"

enum { UNIT = 32 };

static bool has_strips(enum format format) {
    return layout_has(LAYOUT_STRIPS16, format);
}

/* May a device multiply it by rounded activations? */
static bool may_round(enum format format) {
    return has_strips(format) || layout_has(LAYOUT_ROUNDED, format);
}

/* ---- the layout ---- */

static void test_pack(void **state) {
    enum format format = *(enum format *)*state;
    if (!has_strips(format)) skip();
    for (int rows = 1; rows <= 16; rows += 5) {
        int cols = format_table[format].block_values * test_random_int(1, 5);
        struct test_matrix w = test_random_matrix(format, rows, cols);
        size_t row_bytes = format_row_bytes(format, (size_t)cols);
        size_t bytes = layout_bytes(LAYOUT_STRIPS16, format, (size_t)rows, (size_t)cols);
        assert_int_equal(bytes, 16 * row_bytes);
        uint8_t *strip = test_alloc(bytes), *row = test_alloc(row_bytes);
        strip_pack(format, w.matrix.data, rows, (size_t)cols, strip);
        for (int r = 0; r < 16; r++) {
            strip_unpack_row(format, strip, r, (size_t)cols, row);
            if (r < rows)
                assert_memory_equal(row, (const uint8_t *)w.matrix.data + (size_t)r * row_bytes,
                                    row_bytes);
            float values[5 * 256]; /* of rows that lack: zeros, whatever the offset */
            format_decode(format, row, values, (size_t)cols);
            for (int k = 0; r >= rows && k < cols; k++) assert_true(values[k] == 0);
        }
        test_free_all();
    }
}

static void test_layout_of_device(void **state) {
    (void)state;
    struct device *exact;
    CHECK_OK(device_cpu_open(&exact, &(struct device_cpu_options){.threads = 1, .is_exact = true}));
    for (int f = 0; f < N_FORMATS; f++) {
        struct device *best = test_devices[DEVICE_ONE], *plain = test_devices[DEVICE_BASELINE];
        assert_int_equal(plain->layout(plain, (enum format)f), LAYOUT_STORED);
        assert_int_equal(exact->layout(exact, (enum format)f), LAYOUT_STORED);
        assert_true(layout_has(best->layout(best, (enum format)f), (enum format)f));
    }
    /* what a device has no loops for it refuses, and does not run */
    struct test_matrix w = test_random_matrix(FORMAT_Q4_0, 16, 32);
    struct matrix packed = w.matrix;
    packed.layout = LAYOUT_STRIPS16;
    float *x = test_random_floats(32, 1), *y = test_floats(16);
    struct op_linear op = {.y = y, .x = x, .w = &packed, .rows = 1};
    struct device *plain = test_devices[DEVICE_BASELINE];
    assert_int_equal(plain->ops->linear(plain, &op), OP_BAD_FORMAT);
    assert_int_equal(plain->pack(plain, y, &w.matrix), OP_BAD_FORMAT);
    packed.format = FORMAT_F32;
    assert_int_equal(test_devices[DEVICE_ONE]->ops->linear(test_devices[DEVICE_ONE], &op),
                     OP_BAD_FORMAT);
    exact->close(exact);
}

/* A scale that is not finite is found wherever it stands, and no other value is taken for one. */
static void test_pack_not_finite(void **state) {
    enum format format = *(enum format *)*state;
    if (!has_strips(format)) skip();
    const struct format_info *info = &format_table[format];
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        struct device *device = test_devices[d];
        if (!layout_is_packed(device->layout(device, format))) continue;
        int rows = test_random_int(1, 70), n_blocks = test_random_int(1, 4);
        struct test_matrix w = test_random_matrix(format, rows, n_blocks * info->block_values);
        void *to = test_alloc(layout_bytes(LAYOUT_STRIPS16, format, (size_t)rows,
                                           (size_t)(n_blocks * info->block_values)));
        size_t where = (size_t)test_random_int(0, rows * n_blocks - 1);
        uint8_t *block = (uint8_t *)(uintptr_t)w.matrix.data + where * (size_t)info->block_bytes;
        CHECK_OK(device->pack(device, to, &w.matrix));
        int scale = format == FORMAT_Q6_K ? 208 : 0;
        block[scale + 1] |= 0x7c;
        assert_int_equal(device->pack(device, to, &w.matrix), OP_NOT_FINITE);
        test_free_all();
    }
}

/* ---- rounded activations ---- */

/* A row as the integer loops see it; all of a unit is NaN where a value of it is not finite. */
static void round_row(const float *x, int n, double *out) {
    for (int from = 0; from < n; from += UNIT) {
        float largest = 0;
        bool is_finite = true;
        for (int i = from; i < from + UNIT; i++) {
            is_finite = is_finite && isfinite(x[i]);
            largest = fmaxf(largest, fabsf(x[i]));
        }
        float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
        for (int i = from; i < from + UNIT; i++)
            out[i] = is_finite ? (double)scale * (double)rintf(x[i] * inverse) : (double)NAN;
    }
}

/* To the nearest BF16, ties to even. */
static void round_row_bf16(const float *x, int n, double *out) {
    for (int i = 0; i < n; i++) {
        uint16_t half;
        float back;
        format_encode(FORMAT_BF16, &x[i], &half, 1);
        format_decode(FORMAT_BF16, &half, &back, 1);
        out[i] = (double)back;
    }
}

static void keep_row(const float *x, int n, double *out) {
    for (int i = 0; i < n; i++) out[i] = (double)x[i];
}

typedef void (*rounding)(const float *x, int n, double *out);

static rounding rounding_for(enum format format) {
    return has_strips(format) ? round_row : round_row_bf16;
}

static double *reference(const struct test_matrix *w, rounding round, const float *x, int rows,
                         const float *bias, const float *initial) {
    size_t n_out = (size_t)w->matrix.rows, n = (size_t)w->matrix.cols;
    double *y = test_alloc((size_t)rows * n_out * sizeof *y), *rounded = test_alloc(n * sizeof *y);
    for (size_t t = 0; t < (size_t)rows; t++) {
        round(x + t * n, (int)n, rounded);
        for (size_t i = 0; i < n_out; i++) {
            double sum = bias ? (double)bias[i] : 0;
            for (size_t k = 0; k < n; k++) sum += w->values[i * n + k] * rounded[k];
            y[t * n_out + i] = sum + (initial ? (double)initial[t * n_out + i] : 0);
        }
    }
    return y;
}

/* ---- linear ---- */

static float *run_linear(struct device *d, struct op_linear op, const float *initial, int rows) {
    size_t n = (size_t)rows * (size_t)op.w->rows;
    float *y = initial ? test_copy(initial, n) : test_floats(n);
    op.y = y;
    op.rows = rows;
    CHECK_OK(d->ops->linear(d, &op));
    return y;
}

/* All rows at once on every device that rounds, and some at a time: the same bits. */
static void check_shape(enum format format, int rows, int n_out, int n, bool has_bias,
                        bool accumulate) {
    struct test_matrix w = test_random_matrix(format, n_out, n);
    size_t n_y = (size_t)rows * (size_t)n_out;
    float *x = test_random_floats((size_t)rows * (size_t)n, 1), *first = NULL;
    float *bias = has_bias ? test_random_floats((size_t)n_out, 1) : NULL;
    float *initial = accumulate ? test_random_floats(n_y, 1) : NULL;
    double *expected = reference(&w, rounding_for(format), x, rows, bias, initial);
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        struct device *device = test_devices[d];
        struct matrix packed = test_pack_for(device, &w.matrix);
        if (packed.layout == LAYOUT_STORED) continue;
        struct op_linear op = {.x = x, .w = &packed, .bias = bias, .accumulate = accumulate};
        float *y = run_linear(device, op, initial, rows);
        if (d <= DEVICE_AVX2) CHECK_CLOSE(y, expected, n_y, 1e-5);
        if (d == DEVICE_ONE) first = y;
        if (d > DEVICE_AVX2) CHECK_SAME_BITS(y, first, n_y);
        for (int from = 0, some; from < rows && d != DEVICE_ONE; from += some) {
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
    enum format format = *(enum format *)*state;
    if (!may_round(format)) skip();
    int block = format_table[format].block_values > UNIT ? format_table[format].block_values : UNIT;
    static const int shapes[][2] = {/* rows, outputs */
                                    {1, 1},   {1, 15},  {1, 16},  {1, 17},   {1, 200}, {2, 33},
                                    {3, 16},  {4, 5},   {5, 48},  {7, 31},   {8, 80},  {9, 3},
                                    {12, 64}, {13, 20}, {31, 26}, {100, 40}, {97, 16}, {200, 18}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int n_blocks = 1; n_blocks <= 3; n_blocks++)
            check_shape(format, shapes[i][0], shapes[i][1], block * n_blocks, i % 2, i % 3 == 0);
    check_shape(format, 1, 40, 1536, true, true);
    check_shape(format, 11, 70, 2048 + 256, false, true);
}

/* Too wide for rows that a thread rounds for itself. */
static void test_linear_wide(void **state) {
    (void)state;
    check_shape(FORMAT_Q4_1, 8, 20, 65536, false, false);
    check_shape(FORMAT_BF16, 8, 20, 65536, false, false);
}

/* BF16 marked so where the processor does not multiply it, or no whole units: by floats. */
static void test_linear_not_rounded(void **state) {
    enum { ROWS = 6, N_OUT = 9 };
    (void)state;
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        for (int n = 33; n <= 64; n += 31) {
            struct device *device = test_devices[d];
            struct test_matrix w = test_random_matrix(FORMAT_BF16, N_OUT, n);
            struct matrix marked = w.matrix;
            marked.layout = LAYOUT_ROUNDED;
            float *x = test_random_floats((size_t)(ROWS * n), 1);
            bool is_rounded =
                n % UNIT == 0 && device->layout(device, FORMAT_BF16) == LAYOUT_ROUNDED;
            float *y = run_linear(device, (struct op_linear){.x = x, .w = &marked}, NULL, ROWS);
            CHECK_CLOSE(y,
                        reference(&w, is_rounded ? round_row_bf16 : keep_row, x, ROWS, NULL, NULL),
                        ROWS * N_OUT, 1e-5);
        }
        test_free_all();
    }
}

static void test_linear_not_finite(void **state) {
    enum format format = *(enum format *)*state;
    if (!may_round(format)) skip();
    int n = format_table[format].block_values * 2, n_out = 29;
    if (n < UNIT) n = 3 * UNIT;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        struct test_matrix w = test_random_matrix(format, n_out, n);
        struct matrix packed = test_pack_for(test_devices[d], &w.matrix);
        if (packed.layout == LAYOUT_STORED) continue;
        for (int rows = 1; rows <= 25; rows += 12) {
            float *x = test_random_floats((size_t)(rows * n), 1);
            struct op_linear op = {.x = x, .w = &packed};
            float *before = run_linear(test_devices[d], op, NULL, rows);
            int bad_row = test_random_int(0, rows - 1);
            x[bad_row * n + test_random_int(0, n - 1)] = bad[test_random_int(0, 2)];
            float *after = run_linear(test_devices[d], op, NULL, rows);
            for (int t = 0; t < rows; t++) {
                if (t != bad_row)
                    CHECK_SAME_BITS(after + t * n_out, before + t * n_out, (size_t)n_out);
                for (int i = 0; t == bad_row && i < n_out; i++)
                    assert_false(isfinite(after[t * n_out + i]));
            }
        }
        test_free_all();
    }
}

/* Zeros, and values so small that their inverse is not finite: no NaN comes of them. */
static void test_linear_tiny(void **state) {
    (void)state;
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        struct test_matrix w = test_random_matrix(FORMAT_Q8_0, 16, 64);
        struct matrix packed = test_pack_for(test_devices[d], &w.matrix);
        if (!layout_is_packed(packed.layout)) continue;
        float *x = test_floats(64);
        for (int i = 0; i < 64; i++) x[i] = i < 32 ? 0 : 1e-42f;
        float *y = run_linear(test_devices[d], (struct op_linear){.x = x, .w = &packed}, NULL, 1);
        for (int i = 0; i < 16; i++) assert_true(y[i] == 0);
        test_free_all();
    }
}

/* ---- embed ---- */

static void test_embed(void **state) {
    enum format format = *(enum format *)*state;
    if (!has_strips(format)) skip();
    int n = format_table[format].block_values * 3, vocab = 37, rows = 20;
    struct test_matrix table = test_random_matrix(format, vocab, n);
    struct test_batch b = test_batch_new(rows, 1, 1, 1, 2);
    for (int t = 0; t < rows; t++) b.tokens[t] = test_random_int(0, vocab - 1);
    b.slots[3] = -1;
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        struct device *device = test_devices[d];
        struct matrix packed = test_pack_for(device, &table.matrix);
        float *y = test_floats((size_t)(rows * n)), *expected = test_floats((size_t)(rows * n));
        CHECK_OK(device->ops->embed(
            device, &(struct op_embed){.y = y, .table = &packed, .batch = &b.batch}));
        CHECK_OK(device->ops->embed(
            device, &(struct op_embed){.y = expected, .table = &table.matrix, .batch = &b.batch}));
        CHECK_SAME_BITS(y, expected, (size_t)(rows * n));
    }
}

void add_strip_cases(void) {
    test_add_for_formats("pack and back", USE_WEIGHT, test_pack);
    test_add_for_formats("pack not finite", USE_WEIGHT, test_pack_not_finite);
    test_add("layout of a device", test_layout_of_device);
    test_add_for_formats("rounded linear", USE_WEIGHT, test_linear);
    test_add("rounded linear wide", test_linear_wide);
    test_add("rounded linear not rounded", test_linear_not_rounded);
    test_add_for_formats("rounded linear not finite", USE_WEIGHT, test_linear_not_finite);
    test_add("rounded linear tiny", test_linear_tiny);
    test_add_for_formats("packed embed", USE_WEIGHT, test_embed);
}
