/* sample and what it shares with embed: tokens that are known on the device only. */
#include "tests/ops/sample_pool.h"

static void test_sample(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 1, 2}, {1, 40, 97}, {3, 64, 1000}, {24, 200, 151}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int n_seqs = shapes[i][0], vocab = shapes[i][2];
        struct sample_pool p = sample_pool_new(n_seqs, shapes[i][1], vocab);
        float *logits = test_random_floats((size_t)(n_seqs * vocab), 2);
        uint8_t *is_token = test_alloc((size_t)vocab);
        for (int v = 0; v < vocab; v++) is_token[v] = v % 13 != 1;
        if (n_seqs > 4) logits[4 * vocab + 7] = NAN;
        for (int d = 0; d < N_TEST_DEVICES; d++) {
            int32_t *drawn = test_alloc((size_t)n_seqs * sizeof *drawn);
            const struct op_sample op = {.drawn = drawn,
                                         .logits = logits,
                                         .vocab = vocab,
                                         .is_token = is_token,
                                         .seen = p.seen,
                                         .block_tokens = p.block_tokens,
                                         .batch = &p.b.batch};
            CHECK_OK(test_devices[d]->ops->sample(test_devices[d], &op));
            for (int s = 0; s < n_seqs; s++)
                assert_int_equal(drawn[s], sample_pool_reference(&p, s, logits, vocab, is_token));
            if (n_seqs > 4) assert_int_equal(drawn[4], SAMPLE_NOT_FINITE);
        }
        test_free_all();
    }
}

/* Tokens that the pass before drew are looked up, and all are kept by slot, but not padding. */
static void test_embed_drawn(void **state) {
    (void)state;
    enum { ROWS = 5, N = 6, VOCAB = 9 };
    struct test_matrix table = test_random_matrix(FORMAT_F32, VOCAB, N);
    struct test_batch b = test_batch_new(ROWS, 1, 1, 1, 2);
    const int32_t tokens[ROWS] = {3, -1, -3, -2, -2}, slots[ROWS] = {7, 0, 2, 4, -1};
    const int32_t ids[ROWS] = {3, 8, 5, 0, 0};
    int32_t *drawn = test_alloc(3 * sizeof *drawn);
    drawn[0] = 8;
    drawn[1] = SAMPLE_NOT_FINITE;
    drawn[2] = 5;
    memcpy(b.tokens, tokens, sizeof tokens);
    memcpy(b.slots, slots, sizeof slots);
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        int32_t *seen = test_alloc(8 * sizeof *seen);
        float *y = test_floats((size_t)ROWS * N);
        CHECK_OK(test_devices[d]->ops->embed(
            test_devices[d],
            &(struct op_embed){
                .y = y, .table = &table.matrix, .drawn = drawn, .seen = seen, .batch = &b.batch}));
        for (int t = 0; t < ROWS; t++) {
            double expected[N] = {0};
            if (slots[t] >= 0) memcpy(expected, table.values + ids[t] * N, sizeof expected);
            CHECK_CLOSE(y + (size_t)t * N, expected, N, 0);
            if (slots[t] >= 0) assert_int_equal(seen[slots[t]], ids[t]);
        }
        assert_int_equal(seen[1], -1); /* as test_alloc() left it */
    }
}

void add_sample_cases(void) {
    test_add("sample", test_sample);
    test_add("embed drawn", test_embed_drawn);
}
