/* One row of logits to one token: the reference of every device's op_sample. The steps and their
 * order stand in kernels/sampling.h. */
#pragma once

#include "kernels/sampling.h"

#include <stddef.h>

/* The tokens before the one that is drawn, as the KV cache keeps them: number i is
 * seen[blocks[i / block_tokens] * block_tokens + i % block_tokens]. Ids are in range. */
struct sampler_history {
    const int32_t *seen, *blocks;
    int block_tokens;
    int n, n_prompt;
};

/* Bytes of workspace, aligned as double, for rows of `vocab` logits; no initial contents needed. */
size_t sampler_bytes(int vocab);

/* The token, or SAMPLE_NOT_FINITE. `is_token` [vocab] may be NULL (all are tokens); one at least
 * is. The draw's index is history.n. logits are not changed. */
int32_t sampler_pick(void *workspace, const float *logits, int vocab, const uint8_t *is_token,
                     const struct sampling *p, struct sampler_history history);
