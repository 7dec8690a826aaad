/*
 * Fused ops against the same steps written out as plain ops, and recordings of a whole small layer
 * against the same ops run at once.
 */
#include "tests/ops/ops_test.h"

/* ---- a layer with its embedding and head ---- */

struct layer {
    int hidden, feed_forward, vocab, heads, kv_heads, head_size, block_tokens, n_blocks;
    struct test_matrix table, wq, wk, wv, wo, gate, up, down, head;
    float *norms[3], *bq, *bk, *bv, *q_norm, *k_norm;
    struct rope_params rope;
    enum format kv_format;
};

static enum format any_format(void) {
    return (enum format)test_random_int(0, N_FORMATS - 1);
}

/* How the device multiplies a layer's weights, if it can: what a fused op may be made of. */
enum arithmetic { AS_STORED, BY_BYTES, BY_BF16, MIXED, N_ARITHMETICS };

/* Random formats among those. */
static struct test_matrix layer_matrix(struct device *d, enum arithmetic arithmetic, int rows,
                                       int cols) {
    enum format format = any_format();
    if (arithmetic == MIXED) arithmetic = test_random_int(0, 1) ? BY_BYTES : BY_BF16;
    if (arithmetic == BY_BF16) format = FORMAT_BF16;
    while (arithmetic == BY_BYTES && !layout_has(LAYOUT_STRIPS16, format)) format = any_format();
    struct test_matrix m = test_random_matrix(format, rows, cols);
    if (arithmetic != AS_STORED) m.matrix = test_pack_for(d, &m.matrix);
    return m;
}

static struct layer layer_new(struct device *d) {
    static const int heads[][3] = {{4, 2, 64}, {16, 4, 48}, {32, 4, 40}}; /* 40: no whole strips */
    const int *shape = heads[test_random_int(0, 2)];
    enum arithmetic how = (enum arithmetic)test_random_int(0, N_ARITHMETICS - 1);
    struct layer m = {.hidden = 256,
                      .feed_forward = 512,
                      .vocab = 50,
                      .heads = shape[0],
                      .kv_heads = shape[1],
                      .head_size = shape[2],
                      .block_tokens = 8,
                      .n_blocks = 16,
                      .kv_format = test_random_int(0, 1) ? FORMAT_F16 : FORMAT_F32};
    int n_q = m.heads * m.head_size, n_kv = m.kv_heads * m.head_size;
    m.table = layer_matrix(d, how, m.vocab, m.hidden);
    m.wq = layer_matrix(d, how, n_q, m.hidden);
    m.wk = layer_matrix(d, how, n_kv, m.hidden);
    m.wv = layer_matrix(d, how, n_kv, m.hidden);
    m.wo = layer_matrix(d, how, m.hidden, n_q);
    m.gate = layer_matrix(d, how, m.feed_forward, m.hidden);
    m.up = layer_matrix(d, how, m.feed_forward, m.hidden);
    m.down = layer_matrix(d, how, m.hidden, m.feed_forward);
    m.head = layer_matrix(d, how, m.vocab, m.hidden);
    for (int i = 0; i < 3; i++) m.norms[i] = test_random_floats((size_t)m.hidden, 1);
    m.bq = test_random_int(0, 1) ? test_random_floats((size_t)n_q, 1) : NULL;
    m.bk = test_random_int(0, 1) ? test_random_floats((size_t)n_kv, 1) : NULL;
    m.bv = test_random_int(0, 1) ? test_random_floats((size_t)n_kv, 1) : NULL;
    m.q_norm = test_random_int(0, 1) ? test_random_floats((size_t)m.head_size, 1) : NULL;
    m.k_norm = m.q_norm ? test_random_floats((size_t)m.head_size, 1) : NULL;
    m.rope = (struct rope_params){m.head_size, test_random_int(0, 1), test_random_int(0, 1) * 3};
    return m;
}

/* What one pass reads and writes. */
struct pass {
    struct test_batch b;
    float *x, *q, *attended, *ff, *scratch, *logits;
    struct kv_view kv;
};

static struct pass pass_new(const struct layer *m, int n_rows, int n_outputs) {
    size_t rows = (size_t)n_rows, hidden = (size_t)m->hidden, ff = (size_t)m->feed_forward;
    size_t n_q = (size_t)(m->heads * m->head_size);
    size_t n_cache = (size_t)(m->n_blocks * m->block_tokens * m->kv_heads) * (size_t)m->head_size;
    void *k = test_alloc(format_row_bytes(m->kv_format, n_cache));
    void *v = test_alloc(format_row_bytes(m->kv_format, n_cache));
    return (struct pass){
        .b = test_batch_new(n_rows, 2, n_outputs, m->n_blocks / 2, m->head_size),
        .x = test_floats(rows * hidden),
        .q = test_floats(rows * n_q),
        .attended = test_floats(rows * n_q),
        .ff = test_floats(rows * ff),
        .scratch = test_floats(rows * (hidden + ff)),
        .logits = test_floats((size_t)(n_outputs * m->vocab)),
        .kv = {k, v, m->kv_format, m->block_tokens, m->kv_heads, m->head_size},
    };
}

/* Two sequences from position 0 on, of random tokens, the first with n_first rows. */
static void fill_batch(const struct layer *m, struct test_batch *b, int n_first) {
    int n_blocks = m->n_blocks / 2;
    for (int i = 0; i < 2 * n_blocks; i++) b->block_table[i] = 2 * n_blocks - 1 - i;
    for (int t = 0; t < b->batch.n_rows; t++) {
        int s = t < n_first ? 0 : 1, position = s ? t - n_first : t;
        int32_t block = b->block_table[s * n_blocks + position / m->block_tokens];
        b->tokens[t] = test_random_int(0, m->vocab - 1);
        b->seq_of[t] = s;
        b->positions[t] = position;
        b->slots[t] = block * m->block_tokens + position % m->block_tokens;
    }
    for (int i = 0; i < b->batch.n_outputs; i++)
        b->outputs[i] = test_random_int(0, b->batch.n_rows - 1);
}

static void run_plain_attention(struct device *d, const struct layer *m, const struct pass *p) {
    CHECK_OK(d->ops->attention(
        d, &(struct op_attention){p->attended, p->q, p->kv, m->heads, 0, 0.125f, &p->b.batch}));
    CHECK_OK(d->ops->linear(d, &(struct op_linear){.y = p->x,
                                                   .x = p->attended,
                                                   .w = &m->wo.matrix,
                                                   .rows = p->b.batch.n_rows,
                                                   .accumulate = true}));
}

static void run_fused(struct device *d, const struct layer *m, const struct pass *p) {
    const struct op_batch *batch = &p->b.batch;
    CHECK_OK(
        d->ops->embed(d, &(struct op_embed){.y = p->x, .table = &m->table.matrix, .batch = batch}));
    CHECK_OK(d->ops->qkv(d, &(struct op_qkv){.q = p->q,
                                             .x = p->x,
                                             .norm = m->norms[0],
                                             .wq = &m->wq.matrix,
                                             .wk = &m->wk.matrix,
                                             .wv = &m->wv.matrix,
                                             .bq = m->bq,
                                             .bk = m->bk,
                                             .bv = m->bv,
                                             .q_norm = m->q_norm,
                                             .k_norm = m->k_norm,
                                             .eps = 1e-5f,
                                             .rope = m->rope,
                                             .kv = p->kv,
                                             .heads = m->heads,
                                             .batch = batch,
                                             .scratch = p->scratch}));
    run_plain_attention(d, m, p);
    CHECK_OK(
        d->ops->gate_up(d, &(struct op_gate_up){p->ff, p->x, m->norms[1], &m->gate.matrix,
                                                &m->up.matrix, 1e-5f, batch->n_rows, p->scratch}));
    CHECK_OK(d->ops->linear(d, &(struct op_linear){.y = p->x,
                                                   .x = p->ff,
                                                   .w = &m->down.matrix,
                                                   .rows = batch->n_rows,
                                                   .accumulate = true}));
    CHECK_OK(d->ops->head(d, &(struct op_head){p->logits, p->x, m->norms[2], &m->head.matrix, 1e-5f,
                                               batch, p->scratch}));
}

/* ---- the same from plain ops alone ---- */

static void norm(struct device *d, float *y, const float *x, const float *w, int rows, int n) {
    CHECK_OK(d->ops->rms_norm(d, &(struct op_rms_norm){y, x, w, rows, n, 1e-5f}));
}

static void linear(struct device *d, float *y, const float *x, const struct test_matrix *w,
                   const float *bias, int rows) {
    CHECK_OK(d->ops->linear(
        d, &(struct op_linear){.y = y, .x = x, .w = &w->matrix, .bias = bias, .rows = rows}));
}

static void run_plain(struct device *d, const struct layer *m, const struct pass *p) {
    const struct op_batch *batch = &p->b.batch;
    int rows = batch->n_rows, n_kv = m->kv_heads * m->head_size, n_out = batch->n_outputs;
    float *h = test_floats((size_t)(rows * m->hidden)), *up = test_floats((size_t)(rows * 512));
    float *k = test_floats((size_t)(rows * n_kv)), *v = test_floats((size_t)(rows * n_kv));
    float *last = test_floats((size_t)(n_out * m->hidden));
    CHECK_OK(
        d->ops->embed(d, &(struct op_embed){.y = p->x, .table = &m->table.matrix, .batch = batch}));
    norm(d, h, p->x, m->norms[0], rows, m->hidden);
    linear(d, p->q, h, &m->wq, m->bq, rows);
    linear(d, k, h, &m->wk, m->bk, rows);
    linear(d, v, h, &m->wv, m->bv, rows);
    if (m->q_norm) {
        norm(d, p->q, p->q, m->q_norm, rows * m->heads, m->head_size);
        norm(d, k, k, m->k_norm, rows * m->kv_heads, m->head_size);
    }
    CHECK_OK(d->ops->rope(d, &(struct op_rope){p->q, m->heads, true, m->rope, batch}));
    CHECK_OK(d->ops->rope(d, &(struct op_rope){k, m->kv_heads, false, m->rope, batch}));
    CHECK_OK(d->ops->kv_write(d, &(struct op_kv_write){k, v, p->kv, batch}));
    run_plain_attention(d, m, p);
    norm(d, h, p->x, m->norms[1], rows, m->hidden);
    linear(d, p->ff, h, &m->gate, NULL, rows);
    linear(d, up, h, &m->up, NULL, rows);
    CHECK_OK(d->ops->silu_mul(
        d, &(struct op_silu_mul){p->ff, p->ff, up, (size_t)(rows * m->feed_forward)}));
    CHECK_OK(d->ops->linear(
        d, &(struct op_linear){
               .y = p->x, .x = p->ff, .w = &m->down.matrix, .rows = rows, .accumulate = true}));
    CHECK_OK(d->ops->gather(d, &(struct op_gather){last, p->x, m->hidden, batch}));
    norm(d, last, last, m->norms[2], n_out, m->hidden);
    linear(d, p->logits, last, &m->head, NULL, n_out);
}

static void check_same_pass(const struct layer *m, const struct pass *a, const struct pass *b) {
    size_t rows = (size_t)a->b.batch.n_rows;
    CHECK_SAME_BITS(a->x, b->x, rows * (size_t)m->hidden);
    CHECK_SAME_BITS(a->q, b->q, rows * (size_t)(m->heads * m->head_size));
    CHECK_SAME_BITS(a->ff, b->ff, rows * (size_t)m->feed_forward);
    CHECK_SAME_BITS(a->logits, b->logits, (size_t)(a->b.batch.n_outputs * m->vocab));
    size_t n_cache = (size_t)(m->n_blocks * m->block_tokens * m->kv_heads * m->head_size);
    assert_memory_equal(a->kv.k, b->kv.k, format_row_bytes(m->kv_format, n_cache));
    assert_memory_equal(a->kv.v, b->kv.v, format_row_bytes(m->kv_format, n_cache));
}

static void test_fused(void **state) {
    (void)state;
    for (int i = 0; i < 60; i++) {
        struct device *d = test_devices[i % N_TEST_DEVICES];
        struct layer m = layer_new(d);
        int rows = i % 3 ? test_random_int(2, 40) : 2, n_outputs = test_random_int(1, 3);
        struct pass fused = pass_new(&m, rows, n_outputs), plain = pass_new(&m, rows, n_outputs);
        uint64_t seed = test_random();
        test_seed(seed);
        fill_batch(&m, &fused.b, rows / 2);
        test_seed(seed);
        fill_batch(&m, &plain.b, rows / 2);
        run_fused(d, &m, &fused);
        run_plain(d, &m, &plain);
        check_same_pass(&m, &fused, &plain);
        test_free_all();
    }
}

/* Recorded with one batch, replayed with two others: as if they had been run at once. */
static void test_replay(void **state) {
    (void)state;
    for (int i = 0; i < 40; i++) {
        struct device *d = test_devices[i % N_TEST_DEVICES];
        struct layer m = layer_new(d);
        int rows = i % 3 ? test_random_int(2, 40) : 2, n_outputs = test_random_int(1, 3);
        struct pass recorded = pass_new(&m, rows, n_outputs);
        struct recording *recording;
        fill_batch(&m, &recorded.b, 1);
        CHECK_OK(d->record_begin(d));
        run_fused(d, &m, &recorded);
        CHECK_OK(d->record_end(d, &recording));
        for (int k = 0; k < rows * m.hidden; k++) assert_true(isnan(recorded.x[k])); /* not run */

        for (int n = 0; n < 3; n++) {
            struct pass fresh = pass_new(&m, rows, n_outputs);
            uint64_t seed = test_random();
            test_seed(seed);
            fill_batch(&m, &recorded.b, n * (rows - 1) / 2 + 1);
            test_seed(seed);
            fill_batch(&m, &fresh.b, n * (rows - 1) / 2 + 1);
            size_t n_cache = (size_t)(m.n_blocks * m.block_tokens * m.kv_heads * m.head_size);
            memset(recorded.kv.k, 0xff, format_row_bytes(m.kv_format, n_cache));
            memset(recorded.kv.v, 0xff, format_row_bytes(m.kv_format, n_cache));
            CHECK_OK(d->replay(d, recording));
            run_fused(d, &m, &fresh);
            check_same_pass(&m, &recorded, &fresh);
        }
        d->recording_free(d, recording);
        test_free_all();
    }
}

void add_fused_cases(void) {
    test_add("fused equals plain", test_fused);
    test_add("replay equals fresh", test_replay);
}
