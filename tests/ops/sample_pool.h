/* Sequences with a history in a paged pool and parameters of all kinds, for the tests of sample. */
#pragma once

#include "tests/ops/ops_test.h"

/* Sequences of different lengths whose blocks lie scattered in a pool. */
struct sample_pool {
    struct test_batch b;
    struct draw *draws;
    int32_t *seen; /* by slot */
    int32_t **ids; /* [S] the same, by position */
    int block_tokens, n_blocks;
};

struct sample_pool sample_pool_new(int n_seqs, int max_tokens, int vocab);

/* What the reference draws for sequence s, from a history in one piece. */
int32_t sample_pool_reference(const struct sample_pool *p, int s, const float *logits, int vocab,
                              const uint8_t *is_token);
