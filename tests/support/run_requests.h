/*
 * Requests run to their end, all submitted at once, and what came of each. Every rule that
 * engine.h states of events (order, whole characters, one end) is checked on the way.
 */
#pragma once

#include "engine/engine.h"

struct outcome {
    int32_t *tokens; /* of the answer */
    size_t n_tokens, tokens_capacity;
    struct buf text;
    float *logits; /* [n_logits, vocab]: from position first_position on */
    size_t n_logits, logits_capacity, first_position;
    int vocab;
    enum engine_stop stop; /* STOP_NONE: not ended yet */
    struct engine_usage usage;
    struct err err;
    uint64_t id;
    int n_prompt_events;
};

void outcome_release(struct outcome *o);

/* Submits `request` with its logits kept in *out where `keep_logits`. */
void submit(struct engine *e, const struct engine_request *request, bool keep_logits,
            struct outcome *out);

/* Steps until no request is left; outcomes[0..n) are those submitted. Returns the steps. */
int run_to_end(struct engine *e, struct outcome *outcomes, size_t n);

/* submit and run_to_end of a single request. */
struct outcome run_one(struct engine *e, const struct engine_request *request, bool keep_logits);

/* One step; what its events say goes into the outcomes. */
void step_once(struct engine *e, struct outcome *outcomes, size_t n);
