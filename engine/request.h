/*
 * A request: its sequence, and what the engine keeps beside it: how to sample, when to stop, the
 * text so far, the times. engine/README.md draws its life.
 */
#pragma once

#include "engine/engine.h"
#include "engine/schedule/sequence.h"
#include "engine/text/detokenizer.h"

struct request {
    struct sequence sequence; /* number is the request's id */
    struct sampling sampling;
    int max_answer; /* tokens */
    char **stops;
    size_t n_stops;
    int32_t *stop_ids; /* the checkpoint's and its own */
    size_t n_stop_ids;
    struct detokenizer detokenizer;
    bool is_cancelled;
    void (*logits)(void *ud, size_t position, const float *row, int vocab); /* or NULL */
    void *logits_ud;
    int n_logits_given; /* positions before this one were given to logits() */

    /* what its events of this step point to */
    struct buf text, rest;
    struct engine_usage usage;
    struct err err;

    double submitted, first_token; /* clock, seconds; 0: not yet */
    struct request *next;          /* in the engine's list */
};

/* What a request is checked against and built for. */
struct request_context {
    const struct model_config *config;
    const struct generation_defaults *generation;
    const struct tokenizer *tokenizer;
    int context_tokens, block_tokens;
};

int request_create(struct request **out, const struct engine_request *from,
                   const struct request_context *context, struct err *err);
void request_free(struct request *r);
struct request *request_of(struct sequence *sequence);

int request_n_answer(const struct request *r);
bool request_is_stop_id(const struct request *r, int32_t token);

/* One more token of the answer: its certain text is appended to r->text. STOP_NONE: go on. */
enum engine_stop request_add_token(struct request *r, int32_t token, int context_tokens);
