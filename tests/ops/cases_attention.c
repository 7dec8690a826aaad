/*
 * Attention over the paged cache: against a plain softmax in double precision, and bit for bit
 * against itself when rows are computed in other chunks, with other sequences, in other blocks.
 */
#include "tests/ops/ops_test.h"

#include "kernels/decode.h"

/* Some sequences, each with cached keys and queries for its last tokens. */
struct problem {
    int n_seqs, group, n_kv_heads, head_size, block_tokens, window;
    enum format format;
    int length[4], n_new[4]; /* keys; queries, the last ones */
    float *k[4], *v[4];      /* [length, G, K] */
    float *q[4];             /* [n_new, H, K] */
    float *y[4];             /* [n_new, H, K], of the run that others are compared with */
};

static size_t row_of(const struct problem *p) {
    return (size_t)(p->n_kv_heads * p->head_size);
}

static size_t query_row(const struct problem *p) {
    return row_of(p) * (size_t)p->group;
}

static struct problem problem_new(enum format format, int n_seqs, int max_length, int max_new) {
    static const int head_sizes[] = {48, 64, 80, 96, 128, 256, 2, 1, 33};
    static const int groups[] = {1, 2, 3, 4, 7, 8, 16, 40};
    static const int block_sizes[] = {16, 32, 1, 5, 256};
    static const int windows[] = {0, 0, 0, 1, 7, 100, 128, 200};
    struct problem p = {.n_seqs = n_seqs,
                        .group = groups[test_random_int(0, 7)],
                        .n_kv_heads = test_random_int(1, 3),
                        .head_size = head_sizes[test_random_int(0, 8)],
                        .block_tokens = block_sizes[test_random_int(0, 4)],
                        .window = windows[test_random_int(0, 7)],
                        .format = format};
    for (int s = 0; s < n_seqs; s++) {
        p.length[s] = test_random_int(1, max_length);
        int most = p.length[s] < max_new ? p.length[s] : max_new;
        p.n_new[s] = test_random_int(1, most);
        p.k[s] = test_random_floats((size_t)p.length[s] * row_of(&p), 1);
        p.v[s] = test_random_floats((size_t)p.length[s] * row_of(&p), 1);
        p.q[s] = test_random_floats((size_t)p.n_new[s] * query_row(&p), 0.2f);
    }
    return p;
}

/* Queries [from, from + n) of each sequence (n 0: not in this batch). */
struct chunk {
    int from[4], n[4];
    int n_padding; /* rows after the others */
};

static struct chunk whole(const struct problem *p, int n_padding) {
    struct chunk chunk = {.n_padding = n_padding};
    for (int s = 0; s < p->n_seqs; s++) chunk.n[s] = p->n_new[s];
    return chunk;
}

/* The cache with the sequences' keys in random blocks; what no key was written to is NaN. Filled
 * by kv_write. Room for blocks that nobody uses. */
static struct kv_view fill_cache(struct device *device, const struct problem *p,
                                 struct test_batch *b) {
    int n_blocks = p->n_seqs * b->batch.max_blocks + 3;
    size_t n = (size_t)n_blocks * (size_t)p->block_tokens * row_of(p);
    struct kv_view kv = {test_alloc(format_row_bytes(p->format, n)),
                         test_alloc(format_row_bytes(p->format, n)),
                         p->format,
                         p->block_tokens,
                         p->n_kv_heads,
                         p->head_size};
    int *blocks = test_alloc((size_t)n_blocks * sizeof *blocks);
    for (int i = 0; i < n_blocks; i++) blocks[i] = i;
    for (int i = n_blocks - 1; i > 0; i--) {
        int j = test_random_int(0, i), other = blocks[j];
        blocks[j] = blocks[i];
        blocks[i] = other;
    }
    for (int s = 0; s < p->n_seqs; s++) {
        int32_t *table = b->block_table + s * b->batch.max_blocks;
        for (int i = 0; i < b->batch.max_blocks; i++)
            table[i] = blocks[s * b->batch.max_blocks + i];
        struct test_batch w = test_batch_new(p->length[s], 1, 1, 1, 2);
        for (int i = 0; i < p->length[s]; i++)
            w.slots[i] = table[i / p->block_tokens] * p->block_tokens + i % p->block_tokens;
        CHECK_OK(
            device->ops->kv_write(device, &(struct op_kv_write){p->k[s], p->v[s], kv, &w.batch}));
    }
    return kv;
}

/* Runs the chunk and puts its rows into y[s] at their places. */
static void run_chunk(struct device *device, const struct problem *p, const struct chunk *chunk,
                      float *const *y) {
    int n_rows = chunk->n_padding, longest = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        n_rows += chunk->n[s];
        if (p->length[s] > longest) longest = p->length[s];
    }
    int max_blocks = (longest + p->block_tokens - 1) / p->block_tokens + test_random_int(0, 2);
    struct test_batch b = test_batch_new(n_rows, p->n_seqs, 1, max_blocks, 2);
    struct kv_view kv = fill_cache(device, p, &b);
    float *q = test_floats((size_t)n_rows * query_row(p));
    float *out = test_floats((size_t)n_rows * query_row(p));
    int t = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        for (int i = 0; i < chunk->n[s]; i++, t++) {
            int index = chunk->from[s] + i;
            b.positions[t] = p->length[s] - p->n_new[s] + index;
            b.seq_of[t] = s;
            memcpy(q + (size_t)t * query_row(p), p->q[s] + (size_t)index * query_row(p),
                   query_row(p) * sizeof *q);
        }
        b.starts[s + 1] = t;
    }
    for (; t < n_rows; t++) b.slots[t] = -1, b.seq_of[t] = 1 << 30, b.positions[t] = -5;
    struct op_attention op = {.y = out,
                              .q = q,
                              .kv = kv,
                              .heads = p->group * p->n_kv_heads,
                              .window = p->window,
                              .scale = 1 / sqrtf((float)p->head_size),
                              .batch = &b.batch};
    CHECK_OK(device->ops->attention(device, &op));
    t = 0;
    for (int s = 0; s < p->n_seqs; s++) {
        for (int i = 0; i < chunk->n[s]; i++, t++)
            memcpy(y[s] + (size_t)(chunk->from[s] + i) * query_row(p),
                   out + (size_t)t * query_row(p), query_row(p) * sizeof *out);
    }
}

static void new_outputs(const struct problem *p, float **y) {
    for (int s = 0; s < p->n_seqs; s++) y[s] = test_floats((size_t)p->n_new[s] * query_row(p));
}

/* What the cache makes of a key or value. */
static double stored(enum format format, float x) {
    uint8_t bytes[4];
    float back;
    format_encode(format, &x, bytes, 1);
    format_decode(format, bytes, &back, 1);
    return (double)back;
}

/* Returns the largest |score|. */
static double reference_row(const struct problem *p, int s, int index, int head, double *y) {
    int n = p->head_size, position = p->length[s] - p->n_new[s] + index;
    int first = p->window > 0 && position + 1 > p->window ? position + 1 - p->window : 0;
    size_t kv_head = (size_t)(head / p->group);
    const float *q = p->q[s] + (size_t)index * query_row(p) + (size_t)(head * n);
    double *scores = malloc((size_t)(position + 1) * sizeof *scores), max = -INFINITY, sum = 0;
    double largest = 0;
    for (int j = first; j <= position; j++) {
        const float *k = p->k[s] + (size_t)j * row_of(p) + kv_head * (size_t)n;
        scores[j] = 0;
        for (int i = 0; i < n; i++) scores[j] += (double)q[i] * stored(p->format, k[i]);
        scores[j] *= (double)(1 / sqrtf((float)n));
        max = fmax(max, scores[j]);
        largest = fmax(largest, fabs(scores[j]));
    }
    for (int i = 0; i < n; i++) y[i] = 0;
    for (int j = first; j <= position; j++) {
        const float *v = p->v[s] + (size_t)j * row_of(p) + kv_head * (size_t)n;
        double weight = exp(scores[j] - max);
        sum += weight;
        for (int i = 0; i < n; i++) y[i] += weight * stored(p->format, v[i]);
    }
    for (int i = 0; i < n; i++) y[i] /= sum;
    free(scores);
    return largest;
}

/* A score's rounding error grows with it, and is a relative error of its weight: 1e-5 up to scores
 * of 40, which is 4 units in their last place. */
static void check_reference(const struct problem *p, float *const *y) {
    for (int s = 0; s < p->n_seqs; s++) {
        size_t n = (size_t)p->n_new[s] * query_row(p);
        double *expected = test_alloc(n * sizeof *expected), largest = 0;
        for (int i = 0; i < p->n_new[s]; i++)
            for (int head = 0; head < p->group * p->n_kv_heads; head++)
                largest = fmax(largest, reference_row(p, s, i, head,
                                                      expected + (size_t)i * query_row(p) +
                                                          (size_t)(head * p->head_size)));
        CHECK_CLOSE(y[s], expected, n, 1e-5 * fmax(1, largest / 40));
    }
}

static void check_same(const struct problem *p, float *const *y, float *const *expected) {
    for (int s = 0; s < p->n_seqs; s++)
        CHECK_SAME_BITS(y[s], expected[s], (size_t)p->n_new[s] * query_row(p));
}

/* Each sequence alone, in chunks of random sizes. */
static void run_alone(struct device *device, const struct problem *p, float *const *y) {
    for (int s = 0; s < p->n_seqs; s++) {
        for (int from = 0; from < p->n_new[s];) {
            struct chunk chunk = {.n_padding = test_random_int(0, 2)};
            chunk.from[s] = from;
            chunk.n[s] = test_random_int(1, p->n_new[s] - from);
            if (chunk.n[s] > 9 && test_random_int(0, 1)) chunk.n[s] = 1;
            run_chunk(device, p, &chunk, y);
            from += chunk.n[s];
        }
    }
}

static void check_problem(enum format format, int n_seqs, int max_length, int max_new) {
    struct problem p = problem_new(format, n_seqs, max_length, max_new);
    float *first[4] = {0}, *y[4] = {0};
    struct chunk all = whole(&p, test_random_int(0, 3));
    new_outputs(&p, first);
    run_chunk(test_devices[DEVICE_ONE], &p, &all, first);
    check_reference(&p, first);
    for (int d = DEVICE_BASELINE; d <= DEVICE_AVX2; d++) {
        new_outputs(&p, y);
        run_chunk(test_devices[d], &p, &all, y);
        check_reference(&p, y);
    }
    for (int d = DEVICE_TWO; d <= DEVICE_SEVEN; d++) {
        new_outputs(&p, y);
        run_chunk(test_devices[d], &p, &all, y);
        check_same(&p, y, first);
    }
    for (int d = DEVICE_ONE; d <= DEVICE_SEVEN; d++) {
        if (d >= DEVICE_BASELINE && d <= DEVICE_AVX2) continue;
        new_outputs(&p, y);
        run_alone(test_devices[d], &p, y);
        check_same(&p, y, first);
    }
    test_free_all();
}

static void test_attention(void **state) {
    enum format format = *(enum format *)*state;
    for (int i = 0; i < 25; i++) check_problem(format, test_random_int(1, 4), 40, 9);
    for (int i = 0; i < 8; i++) check_problem(format, test_random_int(1, 3), 400, 40);
    check_problem(format, 1, 3000, 2);
    check_problem(format, 2, 600, 300);
}

/* NaN in a late key or value does not reach earlier rows of the same batch. */
static void test_attention_not_finite(void **state) {
    (void)state;
    for (int i = 0; i < 30; i++) {
        struct problem p = problem_new(FORMAT_F16, 1, 300, 30);
        float *before[4] = {0}, *after[4] = {0};
        struct chunk all = whole(&p, 0);
        p.window = 0;
        new_outputs(&p, before);
        new_outputs(&p, after);
        run_chunk(test_devices[DEVICE_TWO], &p, &all, before);
        int bad = test_random_int(0, p.n_new[0] - 1), position = p.length[0] - p.n_new[0] + bad;
        for (size_t k = 0; k < row_of(&p); k++)
            (i % 2 ? p.k : p.v)[0][(size_t)position * row_of(&p) + k] = i % 3 ? NAN : INFINITY;
        run_chunk(test_devices[DEVICE_TWO], &p, &all, after);
        CHECK_SAME_BITS(after[0], before[0], (size_t)bad * query_row(&p));
        for (size_t k = 0; i % 3 && k < query_row(&p); k++)
            assert_true(isnan(after[0][(size_t)bad * query_row(&p) + k]));
        test_free_all();
    }
}

/* Scores so far apart that all but one weight vanish, and a span of scores of -infinity. */
static void test_attention_extreme_scores(void **state) {
    (void)state;
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        enum { LENGTH = 300 };
        struct problem p = {.n_seqs = 1,
                            .group = 2,
                            .n_kv_heads = 1,
                            .head_size = 4,
                            .block_tokens = 16,
                            .format = FORMAT_F32,
                            .length = {LENGTH},
                            .n_new = {1}};
        float *y[4] = {0};
        p.k[0] = test_random_floats(LENGTH * 4, 0);
        p.v[0] = test_random_floats(LENGTH * 4, 1);
        p.q[0] = test_random_floats(8, 0);
        for (int i = 0; i < 8; i++) p.q[0][i] = 1;
        for (int i = 0; i < LENGTH * 4; i++) p.k[0][i] = i < 150 * 4 ? -INFINITY : 0;
        p.k[0][200 * 4] = 3e5f;
        new_outputs(&p, y);
        struct chunk all = whole(&p, 0);
        run_chunk(test_devices[d], &p, &all, y);
        for (int i = 0; i < 8; i++) assert_true(y[0][i] == p.v[0][200 * 4 + i % 4]);
        test_free_all();
    }
}

void add_attention_cases(void) {
    test_add_for_formats("attention", USE_KV, test_attention);
    test_add("attention not finite", test_attention_not_finite);
    test_add("attention extreme scores", test_attention_extreme_scores);
}
