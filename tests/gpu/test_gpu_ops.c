/*
 * The CUDA backend's ops against the CPU's, which compute the same in float on the same rounded
 * inputs; in float, bfloat16 and half.
 *
 *   test_gpu_ops MODULE [filter [small|tiny [format]]]     77 (skipped) where no GPU can be used
 *
 * "small" leaves out the large shapes; "tiny" most of the others too, so that a run under
 * compute-sanitizer, which is a hundred times slower, ends. format: "f32", "bf16" or "f16" alone.
 *
 * The bound of a value is a number of roundings to the activation format (its unit roundoff u: the
 * result's own, and those of what the op keeps in between) plus float's own error of long sums,
 * relative to the larger of the value and the root mean square. Outputs are poisoned before each
 * run, and what lies around them is watched. Each op runs twice: the bits must be the same.
 */
#include "tests/gpu/gpu_module.h"
#include "tests/ops/sample_pool.h"

#include "kernels/decode.h"

struct device *test_devices[N_TEST_DEVICES]; /* support.c knows them; not used here */
static struct device *cpu, *gpu;
static bool is_small, is_tiny;

/* Of cases that are alike, one of `every` stays in a tiny run. */
static bool is_left_out(size_t i, size_t every) {
    return is_tiny && i % every != 0;
}

/* ---- arrays on both sides ---- */

enum { WATCHED = 256 };

/* The same values for the CPU (float) and the GPU (`format`), the latter between watched bytes. */
struct twin {
    float *cpu;
    char *gpu;
    enum format format;
    size_t n;
};

enum { MAX_GPU_ARRAYS = 64 };
static struct {
    char *data;
    size_t bytes;
} gpu_arrays[MAX_GPU_ARRAYS];
static int n_gpu_arrays;

static void *gpu_alloc(size_t bytes) {
    char *data = gpu->alloc(gpu, bytes + 2 * WATCHED), watched[2 * WATCHED];
    assert_non_null(data);
    assert_in_range(n_gpu_arrays, 0, MAX_GPU_ARRAYS - 1);
    memset(watched, 0x5a, sizeof watched);
    CHECK_OK(gpu->upload(gpu, data, watched, WATCHED));
    CHECK_OK(gpu->upload(gpu, data + WATCHED + bytes, watched, WATCHED));
    gpu_arrays[n_gpu_arrays].data = data;
    gpu_arrays[n_gpu_arrays++].bytes = bytes;
    return data + WATCHED;
}

static void *to_gpu(const void *from, size_t bytes) {
    void *to = gpu_alloc(bytes);
    CHECK_OK(gpu->upload(gpu, to, from, bytes));
    return to;
}

static void free_all(void) {
    unsigned char watched[2 * WATCHED];
    for (int i = 0; i < n_gpu_arrays; i++) {
        char *data = gpu_arrays[i].data;
        CHECK_OK(gpu->download(gpu, watched, data, WATCHED));
        CHECK_OK(
            gpu->download(gpu, watched + WATCHED, data + WATCHED + gpu_arrays[i].bytes, WATCHED));
        for (int k = 0; k < 2 * WATCHED; k++) assert_int_equal(watched[k], 0x5a);
        gpu->release(gpu, data);
    }
    n_gpu_arrays = 0;
    test_free_all();
}

static struct twin twin_of(float *values, size_t n, enum format format) {
    size_t bytes = format_row_bytes(format, n);
    void *encoded = test_alloc(bytes);
    format_encode(format, values, encoded, n);
    format_decode(format, encoded, values, n);
    return (struct twin){values, to_gpu(encoded, bytes), format, n};
}

static struct twin act_random(size_t n, float scale) {
    return twin_of(test_pooled_floats(n, scale), n, gpu->activation);
}

static struct twin float_random(size_t n, float scale) {
    return twin_of(test_random_floats(n, scale), n, FORMAT_F32);
}

static struct twin act_poisoned(size_t n) {
    return twin_of(test_floats(n), n, gpu->activation);
}

/* The GPU's values as float. */
static float *fetch(const struct twin *t) {
    void *encoded = test_alloc(format_row_bytes(t->format, t->n));
    float *values = test_floats(t->n);
    CHECK_OK(gpu->download(gpu, encoded, t->gpu, format_row_bytes(t->format, t->n)));
    format_decode(t->format, encoded, values, t->n);
    return values;
}

/* Values as they are now on the CPU, again on the GPU. */
static void restore(const struct twin *t, const float *values) {
    size_t bytes = format_row_bytes(t->format, t->n);
    void *encoded = test_alloc(bytes);
    format_encode(t->format, values, encoded, t->n);
    CHECK_OK(gpu->upload(gpu, t->gpu, encoded, bytes));
}

static double roundoff(void) {
    return gpu->activation == FORMAT_BF16 ? 0x1p-8 : gpu->activation == FORMAT_F16 ? 0x1p-11 : 0;
}

/* Tensor cores add with fewer guard bits than float arithmetic has. */
static double float_error(void) {
    return gpu->activation == FORMAT_F32 ? 2e-5 : 1e-4;
}

/* `sensitivity`: how many times float's error the op's own formula makes of it. */
static void compare(const struct twin *t, double roundings, double sensitivity, const char *file,
                    int line) {
    double *expected = test_alloc(t->n * sizeof *expected);
    for (size_t i = 0; i < t->n; i++) expected[i] = (double)t->cpu[i];
    test_close(fetch(t), expected, t->n, roundings * roundoff() + sensitivity * float_error(), file,
               line);
}
#define COMPARE(t, roundings) compare(t, roundings, 1, __FILE__, __LINE__)

/* ---- matrices, batches, caches ---- */

struct twin_matrix {
    struct matrix cpu, gpu;
};

static struct twin_matrix matrix_random(int rows, int cols) {
    size_t n = (size_t)rows * (size_t)cols;
    struct twin t = act_random(n, 1 / sqrtf((float)cols));
    return (struct twin_matrix){{t.cpu, FORMAT_F32, rows, cols, LAYOUT_STORED},
                                {t.gpu, gpu->activation, rows, cols, LAYOUT_STORED}};
}

static struct twin_matrix rows_of(const struct twin_matrix *m, int first, int n) {
    struct twin_matrix some = *m;
    const size_t before = (size_t)first * (size_t)m->cpu.cols;
    some.cpu.rows = some.gpu.rows = n;
    some.cpu.data = (const float *)m->cpu.data + before;
    some.gpu.data = (const char *)m->gpu.data + format_row_bytes(m->gpu.format, before);
    return some;
}

static struct op_batch batch_to_gpu(const struct test_batch *b) {
    struct op_batch g = b->batch;
    g.tokens = to_gpu(b->tokens, (size_t)g.n_rows * 4);
    g.positions = to_gpu(b->positions, (size_t)g.n_rows * 4);
    g.seq_of = to_gpu(b->seq_of, (size_t)g.n_rows * 4);
    g.slots = to_gpu(b->slots, (size_t)g.n_rows * 4);
    g.starts = to_gpu(b->starts, (size_t)(g.n_seqs + 1) * 4);
    g.block_table = to_gpu(b->block_table, (size_t)g.n_seqs * (size_t)g.max_blocks * 4);
    g.outputs = to_gpu(b->outputs, (size_t)g.n_outputs * 4);
    g.rope_scale = to_gpu(b->rope_scale, (size_t)g.n_seqs * 4);
    return g;
}

static struct op_batch batch_to_gpu_with_freq(const struct test_batch *b, int head_size) {
    struct op_batch g = batch_to_gpu(b);
    g.inv_freq = to_gpu(b->inv_freq, (size_t)(g.n_seqs * (head_size / 2)) * 4);
    return g;
}

struct twin_kv {
    struct kv_view cpu, gpu;
    struct twin k, v; /* gpu and cpu in the cache's format: cpu holds bytes of it */
    size_t bytes;
};

/* Poisoned: NaN everywhere. */
static struct twin_kv kv_new(enum format format, int n_blocks, int block_tokens, int kv_heads,
                             int head_size) {
    size_t n = (size_t)n_blocks * (size_t)block_tokens * (size_t)(kv_heads * head_size);
    size_t bytes = format_row_bytes(format, n);
    struct twin_kv t = {.bytes = bytes};
    void *k = test_alloc(bytes), *v = test_alloc(bytes);
    t.cpu = (struct kv_view){k, v, format, block_tokens, kv_heads, head_size};
    t.gpu = (struct kv_view){to_gpu(k, bytes), to_gpu(v, bytes), format,
                             block_tokens,     kv_heads,         head_size};
    return t;
}

/* The planes of a cache as float twins, for comparison; values that nobody wrote are NaN on both
 * sides and left out. */
static void compare_kv(const struct twin_kv *kv, double roundings) {
    for (int plane = 0; plane < 2; plane++) {
        const void *of_cpu = plane ? kv->cpu.v : kv->cpu.k;
        size_t n = kv->bytes / (size_t)format_table[kv->cpu.format].block_bytes;
        void *bytes = test_alloc(kv->bytes);
        float *got = test_floats(n), *want = test_floats(n);
        double *expected = test_alloc(n * sizeof *expected);
        size_t n_written = 0;
        CHECK_OK(gpu->download(gpu, bytes, plane ? kv->gpu.v : kv->gpu.k, kv->bytes));
        format_decode(kv->cpu.format, bytes, got, n);
        format_decode(kv->cpu.format, of_cpu, want, n);
        for (size_t i = 0; i < n; i++) {
            assert_int_equal(isnan(got[i]), isnan(want[i]));
            if (isnan(got[i])) continue;
            got[n_written] = got[i];
            expected[n_written++] = (double)want[i];
        }
        double u = kv->cpu.format == FORMAT_BF16  ? 0x1p-8
                   : kv->cpu.format == FORMAT_F16 ? 0x1p-11
                                                  : 0;
        u *= 2; /* both sides were rounded to the cache's format, perhaps to different sides */
        CHECK_CLOSE(got, expected, n_written, roundings * roundoff() + u + float_error());
    }
}

/* ---- linear ---- */

/*
 * With many rows y begins as the bias (+ y), rounded, and cuBLASLt rounds the product before it
 * adds: so what is added may be larger than the result, and each of the three is rounded.
 */
static void compare_linear(const struct twin *y, const float *before, const float *bias, int n_out,
                           bool adds) {
    const float *got = fetch(y);
    const double u = y->format == FORMAT_F32 ? 0 : roundoff();
    double squares = 0;
    for (size_t i = 0; i < y->n; i++) squares += (double)y->cpu[i] * (double)y->cpu[i];
    const double rms = sqrt(squares / (double)y->n);
    for (size_t i = 0; i < y->n; i++) {
        double result = fabs((double)y->cpu[i]), begin = 0;
        if (bias) begin += fabs((double)bias[i % (size_t)n_out]);
        if (adds) begin += fabs((double)before[i]);
        double roundings = 1.01 * result + (bias ? begin : 0) + (bias || adds ? result + begin : 0);
        double bound = u * roundings + float_error() * fmax(rms, result);
        if (fabs((double)got[i] - (double)y->cpu[i]) <= bound) continue;
        fail_msg("value %zu of %zu is %.9g, expected %.9g, bound %.3g", i, y->n, (double)got[i],
                 (double)y->cpu[i], bound);
    }
}

static void check_linear(int rows, int n_out, int k, bool has_bias, bool adds, bool y_is_float) {
    struct twin_matrix w = matrix_random(n_out, k);
    struct twin x = act_random((size_t)rows * (size_t)k, 1);
    float *biases = test_random_floats((size_t)n_out, 0.3f);
    for (int i = 0; i < n_out; i++) biases[i] = fminf(fmaxf(biases[i], -1), 1);
    struct twin bias = twin_of(biases, (size_t)n_out, FORMAT_F32);
    size_t n = (size_t)rows * (size_t)n_out;
    float *initial = adds ? test_random_floats(n, 1) : test_floats(n);
    struct twin y = twin_of(initial, n, y_is_float ? FORMAT_F32 : gpu->activation);
    float *before = test_copy(y.cpu, n);
    struct op_linear op = {.y = y.cpu,
                           .x = x.cpu,
                           .w = &w.cpu,
                           .bias = has_bias ? bias.cpu : NULL,
                           .rows = rows,
                           .accumulate = adds,
                           .y_is_float = y_is_float};
    CHECK_OK(cpu->ops->linear(cpu, &op));
    op.y = y.gpu, op.x = x.gpu, op.w = &w.gpu,
    op.bias = has_bias ? (float *)(void *)bias.gpu : NULL;
    CHECK_OK(gpu->ops->linear(gpu, &op));
    compare_linear(&y, before, has_bias ? bias.cpu : NULL, n_out, adds);
    float *first = fetch(&y);
    restore(&y, before);
    CHECK_OK(gpu->ops->linear(gpu, &op));
    CHECK_SAME_BITS(fetch(&y), first, n);
    free_all();
}

static void test_linear(void **state) {
    (void)state;
    static const int rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 64, 130, 600};
    static const int shapes[][2] = {{1, 1},     {1, 8},     {7, 24},     {33, 8},
                                    {129, 31},  {40, 1000}, {256, 264},  {896, 896},
                                    {128, 896}, {64, 4864}, {1000, 576}, {24, 18944}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            size_t i = r + s;
            if (is_small && (i % 4 != 0 || shapes[s][0] * shapes[s][1] > 300000)) continue;
            if (is_left_out(r * 5 + s, 9)) continue;
            check_linear(rows[r], shapes[s][0], shapes[s][1], i % 2, i % 3 == 0, i % 5 == 0);
        }
    if (is_small) return;
    check_linear(1, 3584, 3584, true, true, false);
    check_linear(1, 20000, 512, false, false, true);
    check_linear(4096, 24, 64, true, false, false);
    for (int i = 0; i < 3; i++) check_linear(1040 + i, 264, 8200, i == 1, i > 0, false);
}

/* NaN in one row of x stays in that row. */
static void test_linear_not_finite(void **state) {
    (void)state;
    for (int rows = 2; rows <= 34; rows += 8) {
        enum { N_OUT = 48, K = 128 };
        struct twin_matrix w = matrix_random(N_OUT, K);
        float *values = test_random_floats((size_t)rows * K, 1);
        values[K + 7] = NAN;
        struct twin x = twin_of(values, (size_t)rows * K, gpu->activation);
        struct twin y = act_poisoned((size_t)rows * N_OUT);
        struct op_linear op = {.y = y.gpu, .x = x.gpu, .w = &w.gpu, .rows = rows};
        CHECK_OK(gpu->ops->linear(gpu, &op));
        const float *got = fetch(&y);
        for (int i = 0; i < rows * N_OUT; i++) assert_int_equal(isnan(got[i]), i / N_OUT == 1);
        free_all();
    }
}

/* ---- rows one by one ---- */

static void test_embed_and_gather(void **state) {
    (void)state;
    static const int shapes[][2] = {{1, 1}, {2, 33}, {9, 64}, {600, 896}};
    for (size_t i = 0; i < 4; i++) {
        int rows = shapes[i][0], n = shapes[i][1], vocab = 37, n_out = (rows + 1) / 2;
        struct twin_matrix table = matrix_random(vocab, n);
        struct test_batch b = test_batch_new(rows, 1, n_out, 1, 2);
        for (int t = 0; t < rows; t++) b.tokens[t] = test_random_int(0, vocab - 1);
        for (int r = 0; r < n_out; r++) b.outputs[r] = test_random_int(0, rows - 1);
        if (rows > 1) b.slots[1] = -1, b.tokens[1] = -77;
        struct op_batch g = batch_to_gpu(&b);
        struct twin y = act_poisoned((size_t)(rows * n)), z = act_poisoned((size_t)(n_out * n));
        CHECK_OK(cpu->ops->embed(
            cpu, &(struct op_embed){.y = y.cpu, .table = &table.cpu, .batch = &b.batch}));
        CHECK_OK(
            gpu->ops->embed(gpu, &(struct op_embed){.y = y.gpu, .table = &table.gpu, .batch = &g}));
        CHECK_SAME_BITS(fetch(&y), y.cpu, y.n);
        CHECK_OK(cpu->ops->gather(cpu, &(struct op_gather){z.cpu, y.cpu, n, &b.batch}));
        CHECK_OK(gpu->ops->gather(gpu, &(struct op_gather){z.gpu, y.gpu, n, &g}));
        CHECK_SAME_BITS(fetch(&z), z.cpu, z.n);
        free_all();
    }
}

static void test_rms_norm(void **state) {
    (void)state;
    static const int widths[] = {1, 2, 31, 33, 64, 128, 896, 3584, 8193};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        for (int rows = 1; rows <= 65; rows += 32) {
            int n = widths[i];
            if (is_left_out(i + (size_t)rows / 32, 4)) continue;
            struct twin x = act_random((size_t)(rows * n), 3), w = float_random((size_t)n, 1);
            struct twin y = act_poisoned(x.n);
            CHECK_OK(cpu->ops->rms_norm(
                cpu, &(struct op_rms_norm){y.cpu, x.cpu, w.cpu, rows, n, 1e-6f}));
            CHECK_OK(gpu->ops->rms_norm(
                gpu, &(struct op_rms_norm){y.gpu, x.gpu, (float *)(void *)w.gpu, rows, n, 1e-6f}));
            COMPARE(&y, 1.01);
            CHECK_OK(gpu->ops->rms_norm(
                gpu, &(struct op_rms_norm){x.gpu, x.gpu, (float *)(void *)w.gpu, rows, n, 1e-6f}));
            CHECK_SAME_BITS(fetch(&x), fetch(&y), y.n);
            free_all();
        }
    }
}

static void test_silu_mul(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 3, 1023, 1025, 300001};
    for (size_t i = 0; i < 5; i++) {
        struct twin gate = act_random(sizes[i], 3), up = act_random(sizes[i], 1);
        struct twin y = act_poisoned(sizes[i]);
        CHECK_OK(cpu->ops->silu_mul(cpu, &(struct op_silu_mul){y.cpu, gate.cpu, up.cpu, sizes[i]}));
        CHECK_OK(gpu->ops->silu_mul(gpu, &(struct op_silu_mul){y.gpu, gate.gpu, up.gpu, sizes[i]}));
        COMPARE(&y, 1.01);
        CHECK_OK(
            gpu->ops->silu_mul(gpu, &(struct op_silu_mul){gate.gpu, gate.gpu, up.gpu, sizes[i]}));
        CHECK_SAME_BITS(fetch(&gate), fetch(&y), y.n);
        free_all();
    }
    float gates[] = {NAN, INFINITY, -INFINITY, 100, -100, 0}, ones[] = {1, 1, 1, 1, 1, 1};
    struct twin gate = twin_of(test_copy(gates, 6), 6, gpu->activation);
    struct twin up = twin_of(test_copy(ones, 6), 6, gpu->activation);
    CHECK_OK(gpu->ops->silu_mul(gpu, &(struct op_silu_mul){gate.gpu, gate.gpu, up.gpu, 6}));
    const float *y = fetch(&gate);
    assert_true(isnan(y[0]) && isinf(y[1]) && y[3] == 100 && y[5] == 0);
    assert_true(fabsf(y[4]) < 1e-30f);
    free_all();
}

static struct test_batch random_rows(int rows, int n_seqs, int head_size) {
    struct test_batch b = test_batch_new(rows, n_seqs, 1, 1, head_size);
    for (int t = 0; t < rows; t++) {
        b.positions[t] = t % 3 == 0 ? test_random_int(49, 51) : test_random_int(0, 40000);
        b.seq_of[t] = test_random_int(0, n_seqs - 1);
        if (t == 1) b.slots[t] = -1, b.seq_of[t] = 1 << 30; /* padding: never looked at */
    }
    b.rope_scale[0] = 1.2f;
    return b;
}

static void test_rope(void **state) {
    (void)state;
    static const int head_sizes[] = {2, 6, 48, 64, 80, 96, 128, 256};
    for (int i = 0; i < 8 * 4; i++) {
        int n = head_sizes[i / 4], heads = test_random_int(1, 40);
        int rows = i % 4 == 3 ? 40 : test_random_int(1, 6);
        if (is_left_out((size_t)i, 5)) continue;
        struct test_batch b = random_rows(rows, 3, n);
        struct op_batch g = batch_to_gpu_with_freq(&b, n);
        struct twin x = act_random((size_t)(rows * heads * n), 1);
        struct op_rope op = {.x = x.cpu,
                             .heads = heads,
                             .is_query = i % 2 == 0,
                             .rope = {n, i % 3 == 0, i % 4 > 1 ? 50 : 0},
                             .batch = &b.batch};
        CHECK_OK(cpu->ops->rope(cpu, &op));
        op.x = x.gpu, op.batch = &g;
        CHECK_OK(gpu->ops->rope(gpu, &op));
        COMPARE(&x, 1.01);
        free_all();
    }
}

static void test_kv_write(void **state) {
    (void)state;
    static const enum format formats[] = {FORMAT_F32, FORMAT_F16, FORMAT_BF16};
    for (int i = 0; i < 24; i++) {
        int n_blocks = test_random_int(1, 6), block_tokens = test_random_int(1, 17);
        int heads = test_random_int(1, 4), n = test_random_int(1, 128);
        int n_slots = n_blocks * block_tokens, rows = test_random_int(1, n_slots);
        if (is_left_out((size_t)i, 5)) continue;
        size_t row = (size_t)(heads * n);
        struct twin k = act_random((size_t)rows * row, 1), v = act_random((size_t)rows * row, 1);
        struct test_batch b = test_batch_new(rows, 1, 1, 1, 2);
        for (int t = 0; t < rows; t++) b.slots[t] = t % 5 == 4 ? -1 : (n_slots - 1 - t);
        struct op_batch g = batch_to_gpu(&b);
        struct twin_kv kv = kv_new(formats[i % 3], n_blocks, block_tokens, heads, n);
        CHECK_OK(cpu->ops->kv_write(cpu, &(struct op_kv_write){k.cpu, v.cpu, kv.cpu, &b.batch}));
        CHECK_OK(gpu->ops->kv_write(gpu, &(struct op_kv_write){k.gpu, v.gpu, kv.gpu, &g}));
        void *bytes = test_alloc(kv.bytes);
        CHECK_OK(gpu->download(gpu, bytes, kv.gpu.k, kv.bytes));
        assert_memory_equal(bytes, kv.cpu.k, kv.bytes);
        CHECK_OK(gpu->download(gpu, bytes, kv.gpu.v, kv.bytes));
        assert_memory_equal(bytes, kv.cpu.v, kv.bytes);
        free_all();
    }
}

/* ---- attention ---- */

struct attention_case {
    int n_seqs, group, kv_heads, head_size, block_tokens, window, n_padding;
    enum format format;
    int length[64], n_new[64];
};

static void check_attention(const struct attention_case *c) {
    int rows = c->n_padding, longest = 1, heads = c->group * c->kv_heads;
    for (int s = 0; s < c->n_seqs; s++) {
        rows += c->n_new[s];
        if (c->length[s] > longest) longest = c->length[s];
    }
    int max_blocks = (longest + c->block_tokens - 1) / c->block_tokens;
    int n_blocks = c->n_seqs * max_blocks;
    struct test_batch b = test_batch_new(rows, c->n_seqs, 1, max_blocks, 2);
    struct twin_kv kv = kv_new(c->format, n_blocks, c->block_tokens, c->kv_heads, c->head_size);
    for (int i = 0; i < n_blocks; i++) b.block_table[i] = (i * 7 + 3) % n_blocks;
    if (n_blocks % 7 == 0)
        for (int i = 0; i < n_blocks; i++) b.block_table[i] = n_blocks - 1 - i;
    int t = 0;
    for (int s = 0; s < c->n_seqs; s++) {
        size_t n = (size_t)c->length[s] * (size_t)(c->kv_heads * c->head_size);
        struct test_batch w = test_batch_new(c->length[s], 1, 1, 1, 2);
        const int32_t *table = b.block_table + s * max_blocks;
        for (int i = 0; i < c->length[s]; i++)
            w.slots[i] = table[i / c->block_tokens] * c->block_tokens + i % c->block_tokens;
        CHECK_OK(cpu->ops->kv_write(cpu, &(struct op_kv_write){test_pooled_floats(n, 1),
                                                               test_pooled_floats(n, 1), kv.cpu,
                                                               &w.batch}));
        for (int i = 0; i < c->n_new[s]; i++, t++) {
            b.positions[t] = c->length[s] - c->n_new[s] + i;
            b.seq_of[t] = s;
        }
        b.starts[s + 1] = t;
    }
    for (; t < rows; t++) b.slots[t] = -1, b.seq_of[t] = 1 << 30, b.positions[t] = -5;
    CHECK_OK(gpu->upload(gpu, kv.gpu.k, kv.cpu.k, kv.bytes));
    CHECK_OK(gpu->upload(gpu, kv.gpu.v, kv.cpu.v, kv.bytes));
    size_t n = (size_t)rows * (size_t)(heads * c->head_size);
    struct twin q = act_random(n, 0.3f), y = act_poisoned(n);
    struct op_batch g = batch_to_gpu(&b);
    struct op_attention op = {.y = y.cpu,
                              .q = q.cpu,
                              .kv = kv.cpu,
                              .heads = heads,
                              .window = c->window,
                              .scale = 1 / sqrtf((float)c->head_size),
                              .batch = &b.batch};
    CHECK_OK(cpu->ops->attention(cpu, &op));
    op.y = y.gpu, op.q = q.gpu, op.kv = kv.gpu, op.batch = &g;
    CHECK_OK(gpu->ops->attention(gpu, &op));
    /* The result's rounding; on tensor cores those of queries and weights too. A weight is e to the
     * score, whose error grows with the score: up to about 100 here. */
    compare(&y, 4, 10, __FILE__, __LINE__);
    float *first = fetch(&y);
    CHECK_OK(gpu->ops->attention(gpu, &op));
    CHECK_SAME_BITS(fetch(&y), first, n);
    free_all();
}

static void test_attention(void **state) {
    (void)state;
    static const int head_sizes[] = {48, 64, 80, 96, 128, 256, 33, 16};
    static const int groups[] = {1, 2, 3, 4, 7, 8, 16, 5};
    static const int windows[] = {0, 0, 0, 1, 7, 100};
    static const int block_sizes[] = {16, 16, 32, 1, 5, 256};
    static const enum format formats[] = {FORMAT_F16, FORMAT_BF16, FORMAT_F32};
    for (int i = 0; i < (is_small ? 24 : 96); i++) {
        struct attention_case c = {.n_seqs = test_random_int(1, 4),
                                   .group = groups[test_random_int(0, 7)],
                                   .kv_heads = test_random_int(1, 3),
                                   .head_size = head_sizes[i % 8],
                                   .block_tokens = block_sizes[test_random_int(0, 5)],
                                   .window = windows[test_random_int(0, 5)],
                                   .n_padding = test_random_int(0, 2),
                                   .format = formats[i / 8 % 3]};
        int most = i < 48 ? 60 : 700, most_new = i < 24 ? 3 : i < 72 ? 40 : 200;
        for (int s = 0; s < c.n_seqs; s++) {
            c.length[s] = test_random_int(1, most);
            c.n_new[s] = test_random_int(1, c.length[s] < most_new ? c.length[s] : most_new);
        }
        if (!is_left_out((size_t)i, 3)) check_attention(&c);
    }
}

static void test_attention_long(void **state) {
    (void)state;
    if (is_small) skip();
    struct attention_case c = {.n_seqs = 1,
                               .group = 7,
                               .kv_heads = 2,
                               .head_size = 64,
                               .block_tokens = 16,
                               .format = FORMAT_F16,
                               .length = {32768},
                               .n_new = {1}};
    check_attention(&c);
    c.head_size = 128, c.length[0] = 9001;
    check_attention(&c);
    c.length[0] = 3000, c.n_new[0] = 1500;
    check_attention(&c);
    c.n_seqs = 3, c.length[1] = 5000, c.n_new[1] = 1, c.length[2] = 64, c.n_new[2] = 64;
    check_attention(&c);
    c.head_size = 64, c.group = 1;
    check_attention(&c);
}

/* A step of many sequences, of about the same length or not. */
static void test_attention_batch(void **state) {
    (void)state;
    static const int n_seqs[] = {9, 16, 33, 64};
    static const enum format formats[] = {FORMAT_F16, FORMAT_BF16};
    for (int i = 0; i < (is_small ? 4 : 16); i++) {
        struct attention_case c = {.n_seqs = n_seqs[i % 4],
                                   .group = i % 3 == 2 ? 7 : 1 + i % 3 * 3,
                                   .kv_heads = 1 + i / 4 % 2 * 3,
                                   .head_size = i % 5 < 3 ? 128 : 64,
                                   .block_tokens = 16,
                                   .window = i % 7 == 6 ? 100 : 0,
                                   .n_padding = i % 8 == 6 ? 15 : 0,
                                   .format = formats[i / 2 % 2]};
        for (int s = 0; s < c.n_seqs; s++) {
            const bool is_equal = i / 4 % 2;
            c.length[s] = is_equal ? 257 : test_random_int(1, s % 16 == 3 ? 1500 : 300);
            c.n_new[s] = 1;
        }
        check_attention(&c);
    }
}

/* Chunks of prompts, with keys before them or not, beside single rows and padding; as the engine
 * has them (blocks of 16, no window), the cache in half or in the format of the activations. */
static void test_attention_prompts(void **state) {
    (void)state;
    static const int groups[] = {1, 7, 4, 2};
    for (int i = 0; i < (is_small ? 4 : 24); i++) {
        struct attention_case c = {.n_seqs = test_random_int(1, 4),
                                   .group = groups[i / 2 % 4],
                                   .kv_heads = test_random_int(1, 3),
                                   .head_size = i % 2 ? 64 : 128,
                                   .block_tokens = 16,
                                   .n_padding = test_random_int(0, 2),
                                   .format = i % 3 ? FORMAT_F16 : gpu->activation};
        const int most = i < 12 ? 300 : 2000;
        for (int s = 0; s < c.n_seqs; s++) {
            const bool is_step = test_random_int(0, 3) == 0;
            c.length[s] = test_random_int(1, most);
            c.n_new[s] = is_step ? 1 : test_random_int(1, c.length[s] < 400 ? c.length[s] : 400);
        }
        check_attention(&c);
    }
    if (is_small) return;
    struct attention_case c = {.n_seqs = 1,
                               .group = 7,
                               .kv_heads = 2,
                               .head_size = 128,
                               .block_tokens = 16,
                               .format = gpu->activation,
                               .length = {9001},
                               .n_new = {600}};
    for (int i = 0; i < 4; i++) {
        c.head_size = i % 2 ? 64 : 128;
        if (i == 2) c.format = FORMAT_F16;
        check_attention(&c);
    }
}

/* ---- fused ---- */

static void check_qkv(int rows, int hidden, int heads, int kv_heads, int head_size, int variant) {
    const bool has_bias = variant & 1, has_norm = variant & 2, is_paired = variant & 4;
    static const enum format formats[] = {FORMAT_F16, FORMAT_F32, FORMAT_BF16};
    const enum format format = formats[variant % 3];
    int n_q = heads * head_size, n_kv = kv_heads * head_size, block_tokens = 16;
    int n_blocks = rows / block_tokens + 2;
    struct test_batch b = test_batch_new(rows, 2, 1, n_blocks, head_size);
    for (int t = 0; t < rows; t++) {
        b.positions[t] = test_random_int(0, 300);
        b.seq_of[t] = t % 2;
        b.slots[t] = n_blocks * block_tokens - 1 - t;
        if (rows > 2 && t == 2) b.slots[t] = -1, b.seq_of[t] = 1 << 30;
    }
    struct op_batch g = batch_to_gpu_with_freq(&b, head_size);
    struct twin x = act_random((size_t)(rows * hidden), 2);
    struct twin norm = float_random((size_t)hidden, 0.1f); /* q and k fit into half */
    struct twin_matrix wq, wk, wv;
    if (variant % 5 > 0) { /* one beside the other, as a loaded model's are */
        struct twin_matrix all = matrix_random(n_q + 2 * n_kv, hidden);
        wq = rows_of(&all, 0, n_q);
        wk = rows_of(&all, n_q, n_kv);
        wv = rows_of(&all, n_q + n_kv, n_kv);
    } else {
        wq = matrix_random(n_q, hidden);
        wk = matrix_random(n_kv, hidden);
        wv = matrix_random(n_kv, hidden);
    }
    struct twin bq = float_random((size_t)n_q, 1), bk = float_random((size_t)n_kv, 1);
    struct twin bv = float_random((size_t)n_kv, 1);
    struct twin nq = float_random((size_t)head_size, 1), nk = float_random((size_t)head_size, 1);
    struct twin q = act_poisoned((size_t)(rows * n_q));
    struct twin scratch = act_poisoned((size_t)(rows * (hidden + n_q + 2 * n_kv)));
    struct twin_kv kv = kv_new(format, n_blocks, block_tokens, kv_heads, head_size);
    struct op_qkv op = {.q = q.cpu,
                        .x = x.cpu,
                        .norm = norm.cpu,
                        .wq = &wq.cpu,
                        .wk = &wk.cpu,
                        .wv = &wv.cpu,
                        .bq = has_bias ? bq.cpu : NULL,
                        .bk = has_bias ? bk.cpu : NULL,
                        .bv = has_bias ? bv.cpu : NULL,
                        .q_norm = has_norm ? nq.cpu : NULL,
                        .k_norm = has_norm ? nk.cpu : NULL,
                        .eps = 1e-6f,
                        .rope = {head_size, is_paired, variant & 8 ? 64 : 0},
                        .kv = kv.cpu,
                        .heads = heads,
                        .batch = &b.batch,
                        .scratch = scratch.cpu};
    CHECK_OK(cpu->ops->qkv(cpu, &op));
#define ON_GPU(t) (const float *)(const void *)(t).gpu
    op.q = q.gpu, op.x = x.gpu, op.norm = ON_GPU(norm);
    op.wq = &wq.gpu, op.wk = &wk.gpu, op.wv = &wv.gpu;
    if (has_bias) op.bq = ON_GPU(bq), op.bk = ON_GPU(bk), op.bv = ON_GPU(bv);
    if (has_norm) op.q_norm = ON_GPU(nq), op.k_norm = ON_GPU(nk);
    op.kv = kv.gpu, op.batch = &g, op.scratch = scratch.gpu;
    CHECK_OK(gpu->ops->qkv(gpu, &op));
    if (rows > 2) { /* padding means nothing */
        float *got = fetch(&q);
        memcpy(got + 2 * n_q, q.cpu + 2 * n_q, (size_t)n_q * sizeof *got);
        for (int i = 0; i < n_q; i++) got[2 * n_q + i] = q.cpu[2 * n_q + i] = 0;
        restore(&q, got);
    }
    /* of h, of q and k before their norm, of the result; a rotated value may be much smaller than
     * the two it is made of */
    COMPARE(&q, 16);
    compare_kv(&kv, 16);
    free_all();
}

static void test_qkv(void **state) {
    (void)state;
    static const int rows[] = {1, 2, 3, 8, 9, 16, 40, 64};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (int variant = 0; variant < 16; variant++) {
            if (is_left_out(r * 5 + (size_t)variant, 11)) continue;
            check_qkv(rows[r], 256, 4, 2, 64, variant);
            check_qkv(rows[r], 136, 3, 1, 48, variant);
            check_qkv(rows[r], 36, 2, 1, 18, variant);
        }
    if (is_small) return;
    check_qkv(1, 3584, 28, 4, 128, 1);
    check_qkv(1, 896, 14, 2, 64, 1);
    check_qkv(1, 1024, 16, 8, 128, 2);
    for (int n_rows = 12; n_rows <= 64; n_rows += 13) {
        check_qkv(n_rows, 3584, 28, 4, 128, 1);
        check_qkv(n_rows, 896, 14, 2, 64, 5);
        check_qkv(n_rows, 1024, 5, 1, 128, 12);
    }
    for (int variant = 0; variant < 16; variant += 3) check_qkv(500, 256, 4, 2, 64, variant);
    check_qkv(760, 896, 14, 2, 64, 1);
}

/*
 * What h's roundings make of gate and up is proportional to the terms that were added, not to their
 * sum: some of them are thirty times the others, and cancel. Twice the unit times the root of the
 * terms' squares is some seven standard deviations of it; where gate and up are kept in between
 * they are rounded too. All that goes through y = silu(gate) up, which is rounded in the end.
 */
static void compare_gate_up(const struct twin *y, const float *h, const struct matrix *gate,
                            const struct matrix *up) {
    const float *got = fetch(y), *w[2] = {gate->data, up->data};
    const size_t k = (size_t)gate->cols, n = (size_t)gate->rows;
    const double u = roundoff();
    double squares = 0;
    for (size_t i = 0; i < y->n; i++) squares += (double)y->cpu[i] * (double)y->cpu[i];
    const double rms = sqrt(squares / (double)y->n);
    for (size_t i = 0; i < y->n; i++) {
        double sums[2], errors[2];
        for (int m = 0; m < 2; m++) {
            double terms = 0;
            sums[m] = 0;
            for (size_t c = 0; c < k; c++) {
                double term = (double)h[i / n * k + c] * (double)w[m][i % n * k + c];
                sums[m] += term, terms += term * term;
            }
            errors[m] = u * (2 * sqrt(terms) + fabs(sums[m]));
        }
        const double sigmoid = 1 / (1 + exp(-sums[0])), silu = sums[0] * sigmoid;
        const double slope = sigmoid * (1 + sums[0] * (1 - sigmoid)), value = (double)y->cpu[i];
        const double bound = u * fabs(value) + fabs(slope * sums[1]) * errors[0] +
                             fabs(silu) * errors[1] + 1.1 * errors[0] * errors[1] +
                             float_error() * fmax(rms, fabs(value));
        if (fabs((double)got[i] - value) <= bound) continue;
        fail_msg("value %zu of %zu is %.9g, expected %.9g, bound %.3g", i, y->n, (double)got[i],
                 value, bound);
    }
}

static void check_gate_up(int rows, int hidden, int n) {
    struct twin x = act_random((size_t)(rows * hidden), 2), y = act_poisoned((size_t)(rows * n));
    struct twin norm = float_random((size_t)hidden, 0.1f); /* the product of two fits into half */
    struct twin scratch = act_poisoned((size_t)(rows * (hidden + n)));
    struct twin_matrix gate = matrix_random(n, hidden), up = matrix_random(n, hidden);
    struct op_gate_up op = {y.cpu, x.cpu, norm.cpu, &gate.cpu, &up.cpu, 1e-6f, rows, scratch.cpu};
    CHECK_OK(cpu->ops->gate_up(cpu, &op));
    struct op_gate_up on_gpu = {y.gpu,   x.gpu, ON_GPU(norm), &gate.gpu,
                                &up.gpu, 1e-6f, rows,         scratch.gpu};
    CHECK_OK(gpu->ops->gate_up(gpu, &on_gpu));
    float *h = test_floats((size_t)(rows * hidden));
    CHECK_OK(
        cpu->ops->rms_norm(cpu, &(struct op_rms_norm){h, x.cpu, norm.cpu, rows, hidden, 1e-6f}));
    compare_gate_up(&y, h, &gate.cpu, &up.cpu);
    float *first = fetch(&y);
    CHECK_OK(gpu->ops->gate_up(gpu, &on_gpu));
    CHECK_SAME_BITS(fetch(&y), first, y.n);
    free_all();
}

static void test_gate_up(void **state) {
    (void)state;
    static const int rows[] = {1, 2, 3, 4, 6, 8, 9, 16, 17, 40, 64, 65, 300, 500};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (is_left_out(r, 3)) continue;
        check_gate_up(rows[r], 256, 512);
        check_gate_up(rows[r], 136, 91);
        check_gate_up(rows[r], 33, 7);
    }
    if (is_small) return;
    check_gate_up(1, 896, 4864);
    check_gate_up(1, 3584, 1000);
    for (int n_rows = 12; n_rows <= 64; n_rows += 13) check_gate_up(n_rows, 1032, 488);
}

static void test_head(void **state) {
    (void)state;
    static const int outputs[] = {1, 2, 5, 8, 11};
    for (int i = 0; i < 10; i++) {
        int rows = 20, n_out = outputs[i % 5], hidden = i < 5 ? 128 : 77, vocab = i < 5 ? 3001 : 50;
        struct test_batch b = test_batch_new(rows, 1, n_out, 1, 2);
        for (int r = 0; r < n_out; r++) b.outputs[r] = test_random_int(0, rows - 1);
        struct op_batch g = batch_to_gpu(&b);
        struct twin x = act_random((size_t)(rows * hidden), 2);
        struct twin norm = float_random((size_t)hidden, 1);
        struct twin scratch = act_poisoned((size_t)(n_out * hidden));
        struct twin_matrix w = matrix_random(vocab, hidden);
        struct twin y =
            twin_of(test_floats((size_t)(n_out * vocab)), (size_t)(n_out * vocab), FORMAT_F32);
        CHECK_OK(cpu->ops->head(
            cpu, &(struct op_head){y.cpu, x.cpu, norm.cpu, &w.cpu, 1e-6f, &b.batch, scratch.cpu}));
        CHECK_OK(gpu->ops->head(gpu, &(struct op_head){(float *)(void *)y.gpu, x.gpu, ON_GPU(norm),
                                                       &w.gpu, 1e-6f, &g, scratch.gpu}));
        COMPARE(&y, 8);
        free_all();
    }
}

/* ---- recordings, weights, refusals ---- */

/* Recorded with one batch's contents, replayed with others': as if run at once. */
static void test_replay(void **state) {
    (void)state;
    for (int i = 0; i < 6; i++) {
        int rows = i % 2 ? 5 : 1, hidden = 128, n = 256, vocab = 300;
        struct twin_matrix table = matrix_random(vocab, hidden), w = matrix_random(hidden, n);
        struct twin_matrix gate = matrix_random(n, hidden), up = matrix_random(n, hidden);
        struct twin norm = float_random((size_t)hidden, 1);
        struct twin x = act_poisoned((size_t)(rows * hidden)),
                    ff = act_poisoned((size_t)(rows * n));
        struct twin scratch = act_poisoned((size_t)(rows * (hidden + n)));
        struct test_batch b = test_batch_new(rows, rows, rows, 1, 2);
        struct op_batch g = batch_to_gpu(&b);
        struct recording *recording;
        CHECK_OK(gpu->record_begin(gpu));
        for (int pass = 0; pass < 3; pass++) {
            if (pass == 2) break;
            if (pass == 1) {
                CHECK_OK(gpu->record_end(gpu, &recording));
                assert_true(isnan(fetch(&x)[0])); /* not run */
            }
            for (int k = 0; pass == 1 && k < rows; k++) b.tokens[k] = test_random_int(0, vocab - 1);
            if (pass == 1)
                CHECK_OK(gpu->upload(gpu, (void *)(uintptr_t)g.tokens, b.tokens, (size_t)rows * 4));
            CHECK_OK(gpu->ops->embed(
                gpu, &(struct op_embed){.y = x.gpu, .table = &table.gpu, .batch = &g}));
            for (int layer = 0; layer < 4; layer++) {
                CHECK_OK(gpu->ops->gate_up(gpu, &(struct op_gate_up){ff.gpu, x.gpu, ON_GPU(norm),
                                                                     &gate.gpu, &up.gpu, 1e-6f,
                                                                     rows, scratch.gpu}));
                CHECK_OK(gpu->ops->linear(
                    gpu,
                    &(struct op_linear){
                        .y = x.gpu, .x = ff.gpu, .w = &w.gpu, .rows = rows, .accumulate = true}));
            }
        }
        float *fresh = fetch(&x);
        for (int k = 0; k < (is_tiny ? 2 : 50); k++) {
            restore(&x, test_floats(x.n));
            CHECK_OK(gpu->replay(gpu, recording));
            CHECK_SAME_BITS(fetch(&x), fresh, x.n);
        }
        gpu->recording_free(gpu, recording);
        free_all();
    }
}

static void test_load(void **state) {
    (void)state;
    for (int f = 0; f < N_FORMATS; f++) {
        const int block = format_table[f].block_values;
        for (int i = 0; i < 3; i++) {
            static const int sizes[] = {1, 37, 90000};
            if ((is_small && i == 2) || is_left_out((size_t)(f + i), 3)) continue;
            int rows = i == 2 && block == 1 ? 3000000 : sizes[i], cols = block;
            size_t n = (size_t)rows * (size_t)cols;
            struct test_matrix m = test_random_matrix((enum format)f, rows, cols);
            enum format kept = gpu->weight_format(gpu, (enum format)f);
            size_t bytes = format_row_bytes(kept, n);
            float *values = test_floats(n);
            void *expected = test_alloc(bytes), *got = test_alloc(bytes);
            for (size_t k = 0; k < n; k++) values[k] = (float)m.values[k];
            format_encode(kept, values, expected, n);
            char *memory = gpu_alloc(bytes);
            CHECK_OK(gpu->load(gpu, memory, m.matrix.data, (enum format)f, n));
            CHECK_OK(gpu->sync(gpu));
            CHECK_OK(gpu->download(gpu, got, memory, bytes));
            if (memcmp(got, expected, bytes) != 0) fail_msg("%s differs", format_table[f].name);
            size_t where = 0;
            const struct matrix kept_matrix = {memory, kept, rows, cols, LAYOUT_STORED};
            CHECK_OK(gpu->find_not_finite(gpu, &kept_matrix, &where));
            assert_true(where == SIZE_MAX);
            float bad = i == 1 ? INFINITY : NAN;
            unsigned char bits[4];
            format_encode(kept, &bad, bits, 1);
            for (int k = 0; k < 2; k++) {
                size_t at = k ? n / 3 : n - 1;
                CHECK_OK(gpu->upload(gpu, memory + format_row_bytes(kept, at), bits,
                                     format_row_bytes(kept, 1)));
                CHECK_OK(gpu->find_not_finite(gpu, &kept_matrix, &where));
                assert_int_equal(where, at);
            }
            free_all();
        }
    }
}

/* ---- sample ---- */

/* A batch of draws, all of it on the GPU. */
static struct op_batch pool_to_gpu(const struct sample_pool *p) {
    const struct test_batch *b = &p->b;
    const size_t rows = (size_t)b->batch.n_rows;
    struct op_batch g = b->batch;
    g.outputs = to_gpu(b->outputs, rows * sizeof *b->outputs);
    g.seq_of = to_gpu(b->seq_of, rows * sizeof *b->seq_of);
    g.positions = to_gpu(b->positions, rows * sizeof *b->positions);
    g.block_table = to_gpu(b->block_table, rows * (size_t)g.max_blocks * sizeof *b->block_table);
    g.draws = to_gpu(p->draws, rows * sizeof *p->draws);
    return g;
}

/* The reference's tokens, twice: what a pass leaves behind must not show in the next. */
static void test_sample(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 1, 2},       {1, 40, 97},      {3, 64, 1000},
                                    {24, 200, 151},  {5, 3000, 49152}, {24, 700, 151936},
                                    {1, 20, 151936}, {64, 33, 5000}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int n_seqs = shapes[i][0], vocab = shapes[i][2];
        const size_t n = (size_t)n_seqs, v = (size_t)vocab;
        if (is_tiny && n * v > 100000) continue;
        struct sample_pool p = sample_pool_new(n_seqs, shapes[i][1], vocab);
        float *logits = test_pooled_floats(n * v, 2);
        uint8_t *is_token = test_alloc(v);
        for (int id = 0; id < vocab; id++) is_token[id] = id % 13 != 1;
        for (size_t k = 0; k < v; k += 3) logits[k] = roundf(logits[k]); /* equal ones */
        if (n_seqs > 4) logits[4 * v + 7] = NAN;
        const struct op_batch g = pool_to_gpu(&p);
        const struct op_sample op = {
            .drawn = gpu_alloc(n * sizeof(int32_t)),
            .logits = to_gpu(logits, n * v * sizeof *logits),
            .vocab = vocab,
            .is_token = to_gpu(is_token, v),
            .seen = to_gpu(p.seen, (size_t)(p.n_blocks * p.block_tokens) * sizeof *p.seen),
            .block_tokens = p.block_tokens,
            .batch = &g};
        for (int run = 0; run < 2; run++) {
            int32_t *drawn = test_alloc(n * sizeof *drawn);
            CHECK_OK(gpu->upload(gpu, op.drawn, drawn, n * sizeof *drawn));
            CHECK_OK(gpu->ops->sample(gpu, &op));
            CHECK_OK(gpu->download(gpu, drawn, op.drawn, n * sizeof *drawn));
            for (int s = 0; s < n_seqs; s++)
                assert_int_equal(drawn[s], sample_pool_reference(&p, s, logits, vocab, is_token));
        }
        free_all();
    }
}

static void test_refusals(void **state) {
    (void)state;
    struct twin x = act_random(64, 1), y = act_poisoned(64);
    struct twin_matrix w = matrix_random(8, 8);
    struct matrix other = w.gpu, empty = w.gpu;
    struct recording *recording;
    other.format = FORMAT_Q8_0, other.cols = 32;
    empty.rows = 0;
#define REFUSES(status, ...)                                                                       \
    assert_int_equal(gpu->ops->linear(gpu, &(struct op_linear){__VA_ARGS__}), status)
    REFUSES(OP_BAD_SHAPE, .y = y.gpu, .x = x.gpu, .w = &empty, .rows = 1);
    REFUSES(OP_BAD_SHAPE, .y = y.gpu, .x = x.gpu, .w = &w.gpu, .rows = 0);
    REFUSES(OP_BAD_FORMAT, .y = y.gpu, .x = x.gpu, .w = &other, .rows = 1);
    assert_int_equal(gpu->record_end(gpu, &recording), OP_NOT_SUPPORTED);
    CHECK_OK(gpu->record_begin(gpu));
    assert_int_equal(gpu->record_begin(gpu), OP_NOT_SUPPORTED);
    REFUSES(OP_BAD_SHAPE, .y = y.gpu, .x = x.gpu, .w = &w.gpu, .rows = 0);
    REFUSES(OP_OK, .y = y.gpu, .x = x.gpu, .w = &w.gpu, .rows = 1);
    assert_int_equal(gpu->record_end(gpu, &recording), OP_BAD_SHAPE);
    assert_null(recording);
    if (!is_small) assert_null(gpu->alloc(gpu, (size_t)1 << 50)); /* a sanitizer reports it */
    REFUSES(OP_OK, .y = y.gpu, .x = x.gpu, .w = &w.gpu, .rows = 1);
    CHECK_OK(gpu->sync(gpu));
    free_all();
}

/* ---- main ---- */

static int seed_anew(void **state) {
    (void)state;
    test_seed(42);
    return 0;
}

static int run_cases(void) {
#define CASE(test) cmocka_unit_test_setup(test, seed_anew)
    const struct CMUnitTest tests[] = {
        CASE(test_linear),
        CASE(test_linear_not_finite),
        CASE(test_embed_and_gather),
        CASE(test_rms_norm),
        CASE(test_silu_mul),
        CASE(test_rope),
        CASE(test_kv_write),
        CASE(test_attention),
        CASE(test_attention_long),
        CASE(test_attention_batch),
        CASE(test_attention_prompts),
        CASE(test_qkv),
        CASE(test_gate_up),
        CASE(test_head),
        CASE(test_sample),
        CASE(test_replay),
        CASE(test_load),
        CASE(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv) {
    static const enum format activations[] = {FORMAT_F32, FORMAT_BF16, FORMAT_F16};
    const char *module = argc > 1 ? argv[1] : DEVICE_CUDA_MODULE;
    int n_failed = 0;
    if (argc > 2) cmocka_set_test_filter(argv[2]);
    is_tiny = argc > 3 && strcmp(argv[3], "tiny") == 0;
    is_small = is_tiny || (argc > 3 && strcmp(argv[3], "small") == 0);
    CHECK_OK(device_cpu_open(&cpu, &(struct device_cpu_options){0}));
    for (int i = 0; i < 3; i++) {
        if (argc > 4 && strcmp(argv[4], format_table[activations[i]].name) != 0) continue;
        if (!gpu_open(&gpu, module, activations[i])) return 77;
        printf("%s, %s\n", gpu->name, format_table[gpu->activation].name);
        fflush(stdout);
        if (gpu->activation == activations[i]) /* else the card has no such products */
            n_failed += run_cases();
        gpu->close(gpu);
    }
    cpu->close(cpu);
    printf("%zu values compared\n", test_n_compared());
    return n_failed;
}
