/*
 * One request as the scheduler sees it: tokens, the KV blocks that hold what was computed of them,
 * and where it stands.
 *
 *            scheduler_add          scheduler_pick              scheduler_remove
 *   (new) ------------------> WAITING ------------> RUNNING --------------------> ENDED
 *                                ^                     |
 *                                +---------------------+  preempted: blocks ran out, and this was
 *                                                         the newest; it is computed again later
 *
 *   tokens   |<------------ n_prompt ------------>|<--- answer --->|
 *            |<--- n_computed: keys and values in blocks --->|     |<- n_tokens
 *   blocks   [ 0 ][ 1 ][ 2 ] ... n_blocks; the first n_registered stand in the prefix cache
 *
 * A pass that was launched counts as computed. The token that it draws is the sequence's next one,
 * and its row may run in the next pass, before the host knows which token it is (n_drawing).
 *
 * All memory is taken by sequence_init(); nothing grows while the sequence runs.
 */
#pragma once

#include "engine/base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum sequence_state { SEQUENCE_WAITING, SEQUENCE_RUNNING, SEQUENCE_ENDED };

struct sequence {
    uint64_t number; /* order of arrival */
    int32_t *tokens; /* [max_tokens] prompt, then answer */
    int n_tokens, n_prompt, max_tokens;
    int n_computed;
    int n_drawing;   /* tokens behind n_tokens that launched passes draw: 1 before a pass at most */
    int draw_row;    /* of the last of these, among the outputs of its pass */
    int32_t *blocks; /* [max_blocks] */
    int n_blocks, n_registered;
    int n_cached; /* of the prompt, how many tokens came from the prefix cache; -1: not begun */
    int variant;  /* of the rotation (rope_variant): part of the prefix key */
    bool reuses_prefix;    /* may begin with cached blocks */
    bool wants_all_logits; /* of every prompt token, not only the last */
    float *inv_freq;       /* [n_freq] rotary frequencies, filled by the owner */
    float rope_scale;
    enum sequence_state state;
    struct sequence *next; /* in the waiting queue */
};

/* `tokens` are copied; the sequence can grow to max_tokens. */
int sequence_init(struct sequence *s, const int32_t *tokens, int n_tokens, int max_tokens,
                  int block_tokens, int n_freq, struct err *err);
void sequence_release(struct sequence *s); /* memory only: blocks are the scheduler's to return */

/* One more token of the answer, the one that was being drawn; there must be room. */
void sequence_append(struct sequence *s, int32_t token);

/* Tokens that wait for a pass. One that is being drawn and is the last that there is room for needs
 * none. */
static inline int sequence_pending(const struct sequence *s) {
    int n = s->n_tokens + s->n_drawing;
    return s->n_drawing > 0 && n >= s->max_tokens ? 0 : n - s->n_computed;
}
