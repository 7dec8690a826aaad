/* The ops that work on rows one by one: embed, gather, rms_norm, silu_mul, rope, kv_write. */
#include "tests/ops/ops_test.h"

/* ---- embed and gather ---- */

static enum op_status call_embed(struct device *device, void *y, void *ud) {
    struct op_embed op = *(struct op_embed *)ud;
    op.y = y;
    return device->ops->embed(device, &op);
}

static void test_embed(void **state) {
    enum format format = *(enum format *)*state;
    int block = format_table[format].block_values;
    static const int shapes[][2] = {{1, 1}, {2, 3}, {9, 2}, {33, 1}, {600, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int rows = shapes[i][0], n = block * shapes[i][1], vocab = 37;
        struct test_matrix table = test_random_matrix(format, vocab, n);
        struct test_batch b = test_batch_new(rows, 1, 1, 1, 2);
        double *expected = test_alloc((size_t)(rows * n) * sizeof *expected);
        for (int t = 0; t < rows; t++) {
            b.tokens[t] = test_random_int(0, vocab - 1);
            if (t == 1) b.slots[t] = -1, b.tokens[t] = -77; /* padding: never looked up */
            for (int k = 0; k < n; k++)
                expected[t * n + k] = t == 1 ? 0 : table.values[b.tokens[t] * n + k];
        }
        struct op_embed op = {.table = &table.matrix, .batch = &b.batch};
        test_on_devices(call_embed, &op, (size_t)(rows * n), NULL, expected, 0);
        test_free_all();
    }
}

static enum op_status call_gather(struct device *device, void *y, void *ud) {
    struct op_gather op = *(struct op_gather *)ud;
    op.y = y;
    return device->ops->gather(device, &op);
}

static void test_gather(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 1, 1}, {5, 3, 7}, {64, 64, 33}, {600, 8, 576}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int rows = shapes[i][0], n_out = shapes[i][1], n = shapes[i][2];
        struct test_batch b = test_batch_new(rows, 1, n_out, 1, 2);
        float *x = test_random_floats((size_t)(rows * n), 1);
        double *expected = test_alloc((size_t)(n_out * n) * sizeof *expected);
        for (int r = 0; r < n_out; r++) {
            b.outputs[r] = test_random_int(0, rows - 1);
            for (int k = 0; k < n; k++) expected[r * n + k] = (double)x[b.outputs[r] * n + k];
        }
        struct op_gather op = {.x = x, .n = n, .batch = &b.batch};
        test_on_devices(call_gather, &op, (size_t)(n_out * n), NULL, expected, 0);
        test_free_all();
    }
}

/* ---- rms_norm ---- */

static enum op_status call_rms_norm(struct device *device, void *y, void *ud) {
    struct op_rms_norm op = *(struct op_rms_norm *)ud;
    op.y = y;
    if (!op.x) op.x = y; /* in place */
    return device->ops->rms_norm(device, &op);
}

static void test_rms_norm(void **state) {
    (void)state;
    static const int rows[] = {1, 2, 3, 7, 32, 129}, widths[] = {1, 2, 3, 31, 64, 576, 4097};
    for (size_t i = 0; i < sizeof rows / sizeof *rows * 7; i++) {
        int n_rows = rows[i / 7], n = widths[i % 7];
        size_t n_y = (size_t)n_rows * (size_t)n;
        float *x = test_random_floats(n_y, i % 2 ? 1.0f : 1000.0f);
        float *weight = test_random_floats((size_t)n, 1);
        double *expected = test_alloc(n_y * sizeof *expected);
        for (int r = 0; r < n_rows; r++) {
            double squares = 0;
            for (int k = 0; k < n; k++) squares += pow((double)x[r * n + k], 2);
            for (int k = 0; k < n; k++)
                expected[r * n + k] =
                    (double)x[r * n + k] / sqrt(squares / n + 1e-6) * (double)weight[k];
        }
        struct op_rms_norm op = {.x = x, .weight = weight, .rows = n_rows, .n = n, .eps = 1e-6f};
        float *apart = test_on_devices(call_rms_norm, &op, n_y, NULL, expected, 1e-6);
        op.x = NULL;
        float *in_place = test_on_devices(call_rms_norm, &op, n_y, x, expected, 1e-6);
        CHECK_SAME_BITS(in_place, apart, n_y);
        test_free_all();
    }
}

static void test_rms_norm_extremes(void **state) {
    (void)state;
    enum { N = 40 };
    float *x = test_random_floats(N, 1), *y = test_floats(N), *weight = test_floats(N);
    struct op_rms_norm op = {.y = y, .x = x, .weight = weight, .rows = 1, .n = N, .eps = 1e-6f};
    struct device *device = test_devices[DEVICE_TWO];
    for (int i = 0; i < N; i++) weight[i] = 1;
    x[7] = NAN;
    CHECK_OK(device->ops->rms_norm(device, &op));
    for (int i = 0; i < N; i++) assert_true(isnan(y[i]));
    x[7] = INFINITY; /* infinity over infinity is NaN, the rest is 0 */
    CHECK_OK(device->ops->rms_norm(device, &op));
    assert_true(isnan(y[7]));
    for (int i = 0; i < N; i++) x[i] = 0;
    CHECK_OK(device->ops->rms_norm(device, &op));
    for (int i = 0; i < N; i++) assert_true(y[i] == 0);
    x[3] = 1e18f; /* its square does fit into float, 40 of them would not far from it */
    CHECK_OK(device->ops->rms_norm(device, &op));
    assert_true(fabs((double)y[3] - sqrt(N)) < 1e-4);
}

/* ---- silu_mul ---- */

static enum op_status call_silu_mul(struct device *device, void *y, void *ud) {
    struct op_silu_mul op = *(struct op_silu_mul *)ud;
    op.y = y;
    if (!op.gate) op.gate = y;
    return device->ops->silu_mul(device, &op);
}

static void test_silu_mul(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 7, 8, 9, 63, 64, 65, 127, 1536, 4096 * 3 + 5};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        float *gate = test_random_floats(n, 4), *up = test_random_floats(n, 1);
        double *expected = test_alloc(n * sizeof *expected);
        for (size_t k = 0; k < n; k++)
            expected[k] = (double)gate[k] / (1 + exp(-(double)gate[k])) * (double)up[k];
        struct op_silu_mul op = {.gate = gate, .up = up, .n = n};
        test_on_devices(call_silu_mul, &op, n, NULL, expected, 1e-6);
        op.gate = NULL;
        test_on_devices(call_silu_mul, &op, n, gate, expected, 1e-6);
        test_free_all();
    }
}

static void test_silu_mul_extremes(void **state) {
    (void)state;
    static const float gates[] = {0,    -0.0f, 1e-30f, -1e-30f, 88,       -88, 89,
                                  -200, 200,   3e38f,  -3e38f,  INFINITY, NAN, -86.7f};
    enum { N = sizeof gates / sizeof *gates };
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        float *gate = test_copy(gates, N), *up = test_floats(N), *y = test_floats(N);
        for (int i = 0; i < N; i++) up[i] = 1;
        struct op_silu_mul op = {.y = y, .gate = gate, .up = up, .n = N};
        CHECK_OK(test_devices[d]->ops->silu_mul(test_devices[d], &op));
        for (int i = 0; i < N; i++) {
            double x = (double)gates[i], expected = x / (1 + exp(-x));
            if (isnan(x))
                assert_true(isnan(y[i]));
            else if (isinf(x))
                assert_true(isinf(y[i]));
            else
                assert_true(fabs((double)y[i] - expected) <= 1e-6 * fabs(expected) + 1e-35);
        }
        up[0] = NAN, up[4] = INFINITY;
        CHECK_OK(test_devices[d]->ops->silu_mul(test_devices[d], &op));
        assert_true(isnan(y[0]) && isinf(y[4]) && y[8] == 200);
    }
}

/* ---- rope ---- */

struct rope_case {
    struct op_rope op;
    const float *x;
};

static enum op_status call_rope(struct device *device, void *y, void *ud) {
    struct op_rope op = ((struct rope_case *)ud)->op;
    op.x = y;
    return device->ops->rope(device, &op);
}

static double *rope_reference(const struct op_rope *op, const float *x) {
    int n = op->rope.head_size, half = n / 2, rows = op->batch->n_rows;
    double *y = test_alloc((size_t)(rows * op->heads * n) * sizeof *y);
    for (int row = 0; row < rows * op->heads; row++) {
        int t = row / op->heads, p = op->batch->positions[t], s = op->batch->seq_of[t];
        double scale = 1;
        if (op->is_query && op->rope.logn_tokens > 0 && p >= op->rope.logn_tokens)
            scale = log(p + 1.0) / log((double)op->rope.logn_tokens);
        for (int i = 0; i < half; i++) {
            int a = op->rope.interleaved ? 2 * i : i, b = op->rope.interleaved ? a + 1 : i + half;
            float angle = (float)p * op->batch->inv_freq[s * half + i];
            double cosine = cos((double)angle) * (double)op->batch->rope_scale[s];
            double sine = sin((double)angle) * (double)op->batch->rope_scale[s];
            double xa = (double)x[row * n + a] * scale, xb = (double)x[row * n + b] * scale;
            bool is_padding = op->batch->slots[t] < 0;
            y[row * n + a] = is_padding ? (double)x[row * n + a] : xa * cosine - xb * sine;
            y[row * n + b] = is_padding ? (double)x[row * n + b] : xb * cosine + xa * sine;
        }
    }
    return y;
}

static void test_rope(void **state) {
    (void)state;
    static const int head_sizes[] = {2, 6, 48, 64, 80, 96, 128, 256};
    for (int i = 0; i < 8 * 4; i++) {
        int n = head_sizes[i / 4], heads = test_random_int(1, 5);
        int rows = i % 4 == 3 ? 40 : test_random_int(1, 6);
        struct test_batch b = test_batch_new(rows, 3, 1, 1, n);
        for (int t = 0; t < rows; t++) {
            b.positions[t] = t % 3 == 0 ? test_random_int(49, 51) : test_random_int(0, 40000);
            b.seq_of[t] = test_random_int(0, 2);
            if (t == 1) b.slots[t] = -1, b.seq_of[t] = 1 << 30;
        }
        b.rope_scale[1] = 1.2f;
        float *x = test_random_floats((size_t)(rows * heads * n), 1);
        struct rope_case c = {.op = {.heads = heads,
                                     .is_query = i % 2 == 0,
                                     .rope = {n, i % 3 == 0, i % 4 > 1 ? 50 : 0},
                                     .batch = &b.batch}};
        if (rows > 1) b.seq_of[1] = 0;
        double *expected = rope_reference(&c.op, x);
        if (rows > 1) b.seq_of[1] = 1 << 30; /* padding: never looked at */
        test_on_devices(call_rope, &c, (size_t)(rows * heads * n), x, expected, 2e-6);
        test_free_all();
    }
}

/* ---- kv_write ---- */

static void test_kv_write(void **state) {
    enum format format = *(enum format *)*state;
    for (int i = 0; i < 20; i++) {
        int n_blocks = test_random_int(1, 6), block_tokens = test_random_int(1, 17);
        int n_heads = test_random_int(1, 4), n = test_random_int(1, 128);
        int n_slots = n_blocks * block_tokens, rows = test_random_int(1, n_slots);
        size_t row = (size_t)(n_heads * n), n_cache = (size_t)n_slots * row;
        size_t bytes = format_row_bytes(format, n_cache);
        float *k = test_random_floats((size_t)rows * row, 1);
        float *v = test_random_floats((size_t)rows * row, 1);
        struct test_batch b = test_batch_new(rows, 1, 1, 1, 2);
        int *row_of = test_alloc((size_t)n_slots * sizeof *row_of);
        memset(row_of, 0xff, (size_t)n_slots * sizeof *row_of);
        for (int t = 0; t < rows; t++) { /* a permutation of the slots, some left out */
            b.slots[t] = (int)((unsigned)t * 7919u % (unsigned)n_slots);
            if (n_slots % 7919 == 0 || t % 5 == 4) b.slots[t] = -1;
            if (b.slots[t] >= 0) row_of[b.slots[t]] = t;
        }
        for (int d = 0; d < N_TEST_DEVICES; d++) {
            char *caches[2] = {test_alloc(bytes), test_alloc(bytes)};
            const float *from[2] = {k, v};
            struct op_kv_write op = {
                k, v, {caches[0], caches[1], format, block_tokens, n_heads, n}, &b.batch};
            CHECK_OK(test_devices[d]->ops->kv_write(test_devices[d], &op));
            for (int slot = 0; slot < n_slots; slot++) {
                for (int c = 0; c < 2 * n_heads; c++) {
                    int head = c / 2, at = (slot / block_tokens * n_heads + head) * block_tokens +
                                           slot % block_tokens;
                    size_t n_bytes = format_row_bytes(format, (size_t)n);
                    unsigned char expected[1024];
                    memset(expected, 0xff, sizeof expected);
                    if (row_of[slot] >= 0)
                        format_encode(format, from[c % 2] + (row_of[slot] * n_heads + head) * n,
                                      expected, (size_t)n);
                    assert_memory_equal(caches[c % 2] + (size_t)at * n_bytes, expected, n_bytes);
                }
            }
        }
        test_free_all();
    }
}

void add_row_cases(void) {
    test_add_for_formats("embed", USE_WEIGHT, test_embed);
    test_add("gather", test_gather);
    test_add("rms_norm", test_rms_norm);
    test_add("rms_norm extremes", test_rms_norm_extremes);
    test_add("silu_mul", test_silu_mul);
    test_add("silu_mul extremes", test_silu_mul_extremes);
    test_add("rope", test_rope);
    test_add_for_formats("kv_write", USE_KV, test_kv_write);
}
