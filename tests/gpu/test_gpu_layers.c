/*
 * A recorded decode step, which a GPU may compute as one kernel over all layers, against the same
 * ops called one by one, in the same format and in float: the residual stream, the cache, the
 * logits; over shapes, rows, contexts.
 *
 *   test_gpu_layers MODULE    ends with 77 (skipped) where no GPU can be used
 *
 * How far rounding carries depends on the weights, so the bound is what the ops one by one lose:
 * the recorded step may be twice as far from float's results. A mistake is of their size.
 */
#include "engine/forward/forward.h"
#include "tests/gpu/gpu_module.h"
#include "tests/ops/ops_test.h"

#include <math.h>
#include <stdio.h>

struct device *test_devices[N_TEST_DEVICES]; /* support.c knows them; not used here */
static struct device *gpu, *gpu_float;       /* the latter computes in float */

/* ---- a model of random weights ---- */

struct shape {
    int layers, hidden, ffn, heads, kv_heads, head_size, vocab;
    bool has_bias, has_head_norm, is_interleaved;
};

enum { MAX_CONTEXT = 3008, MAX_ROWS = 8, N_BLOCKS = 256, MAX_ARRAYS = 256 };

/* The model on a device. */
struct side {
    struct device *device;
    struct weights weights;
    struct kv_cache kv;
    struct activations activations;
    struct model model;
    void *arrays[MAX_ARRAYS];
    int n_arrays;
};

struct fixture {
    struct shape shape;
    struct model_config config;
    struct batch batch;
    struct side tested, exact;
};

/* Values that are the same in float and in the format of the tested device. */
static void round_values(float *values, size_t n) {
    void *encoded = test_alloc(format_row_bytes(gpu->activation, n));
    format_encode(gpu->activation, values, encoded, n);
    format_decode(gpu->activation, encoded, values, n);
}

static void *to_side(struct side *side, const float *values, size_t n, enum format format) {
    size_t bytes = format_row_bytes(format, n);
    void *encoded = test_alloc(bytes), *to = side->device->alloc(side->device, bytes);
    assert_non_null(to);
    assert_true(side->n_arrays < MAX_ARRAYS);
    side->arrays[side->n_arrays++] = to;
    format_encode(format, values, encoded, n);
    CHECK_OK(side->device->upload(side->device, to, encoded, bytes));
    CHECK_OK(side->device->sync(side->device));
    return to;
}

static struct matrix matrix_on(struct side *side, const float *values, int rows, int cols) {
    enum format format = side->device->activation;
    void *data = to_side(side, values, (size_t)rows * (size_t)cols, format);
    return (struct matrix){data, format, rows, cols, LAYOUT_STORED};
}

static void new_matrix(struct fixture *f, struct matrix *tested, struct matrix *exact, int rows,
                       int cols) {
    size_t n = (size_t)rows * (size_t)cols;
    float *values = test_pooled_floats(n, 1 / sqrtf((float)cols));
    round_values(values, n);
    *tested = matrix_on(&f->tested, values, rows, cols);
    *exact = matrix_on(&f->exact, values, rows, cols);
    test_free_all();
}

static void new_vector(struct fixture *f, const float **tested, const float **exact, int n,
                       float base) {
    float *values = test_random_floats((size_t)n, 0.2f);
    for (int i = 0; i < n; i++) values[i] += base;
    *tested = to_side(&f->tested, values, (size_t)n, FORMAT_F32);
    *exact = to_side(&f->exact, values, (size_t)n, FORMAT_F32);
}

#define MATRIX(field, rows, cols) new_matrix(f, &a->field, &b->field, rows, cols)
#define VECTOR(field, n, base)    new_vector(f, &a->field, &b->field, n, base)

static void make_layer(struct fixture *f, struct layer_weights *a, struct layer_weights *b) {
    const struct shape *s = &f->shape;
    const int q = s->heads * s->head_size, k = s->kv_heads * s->head_size;
    VECTOR(attn_norm, s->hidden, 1);
    VECTOR(ffn_norm, s->hidden, 1);
    MATRIX(q, q, s->hidden);
    MATRIX(k, k, s->hidden);
    MATRIX(v, k, s->hidden);
    if (s->has_bias) {
        VECTOR(q_bias, q, 0);
        VECTOR(k_bias, k, 0);
        VECTOR(v_bias, k, 0);
    }
    if (s->has_head_norm) {
        VECTOR(q_norm, s->head_size, 1);
        VECTOR(k_norm, s->head_size, 1);
    }
    MATRIX(o, s->hidden, q);
    MATRIX(gate, s->ffn, s->hidden);
    MATRIX(up, s->ffn, s->hidden);
    MATRIX(down, s->hidden, s->ffn);
}

static void make_weights(struct fixture *f) {
    const struct shape *s = &f->shape;
    struct weights *a = &f->tested.weights, *b = &f->exact.weights;
    a->layers = calloc((size_t)s->layers, sizeof *a->layers);
    b->layers = calloc((size_t)s->layers, sizeof *b->layers);
    assert_true(a->layers && b->layers);
    MATRIX(embed, s->vocab, s->hidden);
    MATRIX(head, s->vocab, s->hidden);
    VECTOR(final_norm, s->hidden, 1);
    for (int l = 0; l < s->layers; l++) make_layer(f, &a->layers[l], &b->layers[l]);
    test_free_all();
}

static void make_side(struct fixture *f, struct side *side, const struct batch_size *size) {
    struct err err = {0};
    assert_int_equal(kv_cache_init(&side->kv, side->device, &f->config, side->device->activation,
                                   N_BLOCKS, &err),
                     0);
    assert_int_equal(activations_init(&side->activations, side->device, &f->config, size, &err), 0);
    side->model = (struct model){.device = side->device,
                                 .config = &f->config,
                                 .weights = &side->weights,
                                 .kv = &side->kv,
                                 .activations = &side->activations};
}

static void fixture_make(struct fixture *f, const struct shape *s) {
    struct err err = {0};
    *f = (struct fixture){.shape = *s, .tested.device = gpu, .exact.device = gpu_float};
    f->config = (struct model_config){.n_layers = s->layers,
                                      .hidden = s->hidden,
                                      .ffn = s->ffn,
                                      .n_heads = s->heads,
                                      .n_kv_heads = s->kv_heads,
                                      .head_size = s->head_size,
                                      .vocab = s->vocab,
                                      .norm_eps = 1e-6f,
                                      .rope_interleaved = s->is_interleaved,
                                      .rope_base = 1e6};
    make_weights(f);
    const struct batch_size size = {.max_rows = MAX_ROWS,
                                    .max_seqs = MAX_ROWS,
                                    .max_outputs = MAX_ROWS,
                                    .max_blocks = MAX_CONTEXT / KV_BLOCK_TOKENS,
                                    .n_freq = s->head_size / 2,
                                    .block_tokens = KV_BLOCK_TOKENS};
    make_side(f, &f->tested, &size);
    make_side(f, &f->exact, &size);
    assert_int_equal(batch_init(&f->batch, size, &err), 0);
}

static void free_side(struct side *side) {
    for (int i = 0; i < side->n_arrays; i++) side->device->release(side->device, side->arrays[i]);
    activations_release(&side->activations);
    kv_cache_release(&side->kv);
    free(side->weights.layers);
}

static void fixture_free(struct fixture *f) {
    free_side(&f->tested);
    free_side(&f->exact);
    batch_release(&f->batch);
}

/* ---- passes ---- */

static size_t plane_values(const struct side *side) {
    return side->kv.plane_bytes / format_row_bytes(side->kv.layout.format, 1);
}

/* The same keys and values before every pass: `values` of a plane. */
static void fill_cache(struct side *side, const float *values) {
    struct device *device = side->device;
    void *encoded = test_alloc(side->kv.plane_bytes);
    format_encode(side->kv.layout.format, values, encoded, plane_values(side));
    for (int i = 0; i < 2 * side->kv.n_layers; i++)
        CHECK_OK(device->upload(device, side->kv.memory + (size_t)i * side->kv.plane_bytes, encoded,
                                side->kv.plane_bytes));
    CHECK_OK(device->sync(device));
}

/* An array of the batch, on the host. */
static void *array_of(const struct batch *b, const void *field) {
    return b->memory + (uintptr_t)field;
}

/* One new token for each sequence, at position `context - 1 - row`; the blocks lie in disorder.
 * Row `padding` is one that no sequence has. */
static void fill_batch(struct fixture *f, int rows, int context, int padding) {
    struct batch *b = &f->batch;
    const int n_freq = f->shape.head_size / 2;
    batch_clear(b);
    b->n_rows = b->n_seqs = b->n_outputs = rows;
    const struct op_batch v = batch_view(b, NULL);
    int32_t *tokens = array_of(b, v.tokens), *positions = array_of(b, v.positions);
    int32_t *seq_of = array_of(b, v.seq_of), *slots = array_of(b, v.slots);
    int32_t *outputs = array_of(b, v.outputs), *starts = array_of(b, v.starts);
    int32_t *table = array_of(b, v.block_table);
    float *rope_scale = array_of(b, v.rope_scale), *inv_freq = array_of(b, v.inv_freq);
    starts[0] = 0;
    for (int s = 0; s < rows; s++) {
        int32_t *blocks = table + (size_t)s * (size_t)b->size.max_blocks;
        const int position = context - 1 - s > 0 ? context - 1 - s : 0, own = N_BLOCKS / rows;
        assert_in_range(position / KV_BLOCK_TOKENS, 0, own - 1);
        for (int i = 0; i < b->size.max_blocks; i++) blocks[i] = (i * 11 + s) % own * rows + s;
        tokens[s] = (s * 31 + 5) % f->shape.vocab;
        positions[s] = position;
        seq_of[s] = s;
        slots[s] = s == padding ? -1
                                : blocks[position / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS +
                                      position % KV_BLOCK_TOKENS;
        outputs[s] = rows - 1 - s;
        starts[s + 1] = s + 1;
        rope_scale[s] = 1 + 0.1f * (float)s;
        for (int i = 0; i < n_freq; i++)
            inv_freq[s * n_freq + i] = powf(1e4f, -(float)i / (float)n_freq);
    }
}

static struct op_batch upload_batch(const struct fixture *f, struct side *side) {
    CHECK_OK(activations_upload(&side->activations, &f->batch));
    return batch_view(&f->batch, side->activations.batch);
}

/* What a pass leaves. */
struct left {
    float *logits, *x, *keys, *values; /* [rows, V], [rows, D], planes of the last layer */
};

static float *download(const struct side *side, const void *from, size_t n, enum format format) {
    void *encoded = test_alloc(format_row_bytes(format, n));
    float *values = test_floats(n);
    CHECK_OK(side->device->download(side->device, encoded, from, format_row_bytes(format, n)));
    format_decode(format, encoded, values, n);
    return values;
}

static struct left take(const struct fixture *f, const struct side *side, int rows) {
    const size_t n = plane_values(side), r = (size_t)rows;
    const enum format act = side->device->activation;
    const struct kv_view last = kv_cache_layer(&side->kv, f->shape.layers - 1);
    return (struct left){
        download(side, side->activations.logits, r * (size_t)f->shape.vocab, FORMAT_F32),
        download(side, side->activations.x, r * (size_t)f->shape.hidden, act),
        download(side, last.k, n, act), download(side, last.v, n, act)};
}

static struct left run_alone(const struct fixture *f, struct side *side, const float *cache,
                             int rows) {
    const struct op_batch batch = upload_batch(f, side);
    fill_cache(side, cache);
    CHECK_OK(forward(&side->model, &batch));
    return take(f, side, rows);
}

/* Three times: the bits are the same. */
static struct left run_recorded(const struct fixture *f, struct side *side, const float *cache,
                                int rows) {
    static struct op_batch batch;
    struct recording *recording = NULL;
    struct device *device = side->device;
    struct left first = {0};
    batch = upload_batch(f, side);
    CHECK_OK(device->record_begin(device));
    CHECK_OK(forward(&side->model, &batch));
    CHECK_OK(device->record_end(device, &recording));
    for (int run = 0; run < 3; run++) {
        fill_cache(side, cache);
        CHECK_OK(device->replay(device, recording));
        CHECK_OK(device->sync(device));
        const struct left now = take(f, side, rows);
        if (run == 0) first = now;
        CHECK_SAME_BITS(now.logits, first.logits, (size_t)rows * (size_t)f->shape.vocab);
        CHECK_SAME_BITS(now.x, first.x, (size_t)rows * (size_t)f->shape.hidden);
        CHECK_SAME_BITS(now.keys, first.keys, plane_values(side));
        CHECK_SAME_BITS(now.values, first.values, plane_values(side));
    }
    device->recording_free(device, recording);
    return first;
}

/* ---- the test ---- */

/* Root mean square of the differences over that of the values. */
static double distance(const float *a, const float *b, size_t n) {
    double errors = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        errors += d * d;
        squares += (double)b[i] * (double)b[i];
    }
    return sqrt(errors / (squares + 1e-30));
}

static int n_wrong; /* told of, so that one run shows all */

static void check_near(const struct fixture *f, const char *what, int rows, int context, int row,
                       const float *recorded, const float *alone, const float *exact, size_t n) {
    const struct shape *s = &f->shape;
    double near = distance(recorded, exact, n), bound = 2 * distance(alone, exact, n) + 1e-4;
    if (near <= bound) return;
    print_error("hidden %d ffn %d heads %d/%d of %d, %d rows, context %d, row %d: %s %.3g off "
                "instead of %.3g\n",
                s->hidden, s->ffn, s->heads, s->kv_heads, s->head_size, rows, context, row, what,
                near, bound);
    n_wrong++;
}

static void check_pass(struct fixture *f, int rows, int context, int padding) {
    const size_t d = (size_t)f->shape.hidden, v = (size_t)f->shape.vocab;
    const size_t n = plane_values(&f->tested);
    float *cache = test_pooled_floats(n, 1);
    round_values(cache, n);
    fill_batch(f, rows, context, padding);
    const struct left exact = run_alone(f, &f->exact, cache, rows);
    const struct left alone = run_alone(f, &f->tested, cache, rows);
    const struct left recorded = run_recorded(f, &f->tested, cache, rows);
    for (int r = 0; r < rows; r++) {
        const size_t x = (size_t)r * d, logits = (size_t)(rows - 1 - r) * v;
        if (r == padding) continue;
        check_near(f, "the residual stream is", rows, context, r, recorded.x + x, alone.x + x,
                   exact.x + x, d);
        check_near(f, "the logits are", rows, context, r, recorded.logits + logits,
                   alone.logits + logits, exact.logits + logits, v);
    }
    check_near(f, "the keys are", rows, context, -1, recorded.keys, alone.keys, exact.keys, n);
    check_near(f, "the values are", rows, context, -1, recorded.values, alone.values, exact.values,
               n);
    test_free_all();
}

static const struct shape shapes[] = {
    {2, 896, 4864, 14, 2, 64, 5000, true, false, false},
    {2, 3584, 18944, 28, 4, 128, 2000, true, false, false},
    {2, 1536, 8960, 12, 2, 128, 1000, true, false, false},
    {3, 1024, 3072, 16, 8, 128, 1002, false, true, false}, /* Qwen3 */
    {2, 576, 1536, 9, 3, 64, 1000, false, false, true},    /* SmolLM2 */
    {2, 72, 200, 3, 1, 24, 302, true, false, false},
    {2, 320, 520, 4, 4, 80, 1000, true, false, false},
    {2, 384, 1000, 4, 2, 96, 1000, true, true, false},
    {1, 2560, 9728, 32, 8, 128, 1000, false, true, false},
};

static void layers(void **state) {
    (void)state;
    static const int contexts[] = {1, 2, 16, 17, 64, 65, 300, 1000, 3000};
    static const int of_rows[MAX_ROWS + 1] = {0, 0, 16, 17, 64, 65, 300, 400, 500};
    static struct fixture f;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        fixture_make(&f, &shapes[i]);
        for (size_t c = 0; c < sizeof contexts / sizeof *contexts; c++)
            check_pass(&f, 1, contexts[c], -1);
        for (int rows = 2; rows <= MAX_ROWS; rows++)
            check_pass(&f, rows, of_rows[rows], rows % 3 == 0 ? 1 : -1);
        fixture_free(&f);
    }
    assert_int_equal(n_wrong, 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(layers)};
    static const enum format activations[] = {FORMAT_BF16, FORMAT_F16};
    int failed = 0;
    if (argc < 2) return 2;
    if (!gpu_open(&gpu_float, argv[1], FORMAT_F32)) return 77;
    for (size_t i = 0; i < sizeof activations / sizeof *activations; i++) {
        if (!gpu_open(&gpu, argv[1], activations[i])) return 77;
        failed += cmocka_run_group_tests_name(format_table[activations[i]].name, tests, NULL, NULL);
        gpu->close(gpu);
    }
    gpu_float->close(gpu_float);
    return failed;
}
