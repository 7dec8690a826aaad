/* Copies of what a request was given, and its text. */
#include "engine/request.h"

#include "engine/base/mem.h"

#include <stddef.h>
#include <string.h>

static int check(const struct engine_request *from, const struct request_context *context,
                 struct err *err) {
    if (from->n_tokens < 1) return err_set(err, ERR_OTHER, "a request needs at least one token");
    if (from->n_tokens > (size_t)context->context_tokens)
        return err_set(err, ERR_CONTEXT, "the prompt has %zu tokens, the context only %d",
                       from->n_tokens, context->context_tokens);
    for (size_t i = 0; i < from->n_tokens; i++)
        if (from->tokens[i] < 0 || from->tokens[i] >= context->config->vocab)
            return err_set(err, ERR_OTHER, "token %zu of the prompt is %d, not in 0 to %d", i,
                           (int)from->tokens[i], context->config->vocab - 1);
    return 0;
}

static int copy_stops(struct request *r, const struct engine_request *from) {
    r->stops = mem_zalloc(from->n_stops, sizeof *r->stops);
    if (!r->stops) return -1;
    for (size_t i = 0; i < from->n_stops; i++) {
        if (!from->stops[i][0]) continue; /* "" would stop everything */
        r->stops[r->n_stops] = mem_strdup(from->stops[i]);
        if (!r->stops[r->n_stops]) return -1;
        r->n_stops++;
    }
    return 0;
}

static int copy_stop_ids(struct request *r, const struct engine_request *from,
                         const struct generation_defaults *generation) {
    if (from->ignore_stop_ids) return 0;
    size_t n_own = (size_t)generation->n_stop_ids, n = n_own + from->n_stop_ids;
    r->stop_ids = mem_zalloc(n, sizeof *r->stop_ids);
    if (!r->stop_ids) return -1;
    r->n_stop_ids = n;
    memcpy(r->stop_ids, generation->stop_ids, n_own * sizeof *r->stop_ids);
    if (from->n_stop_ids)
        memcpy(r->stop_ids + n_own, from->stop_ids, from->n_stop_ids * sizeof *r->stop_ids);
    return 0;
}

static int init_sequence(struct request *r, const struct engine_request *from,
                         const struct request_context *context, struct err *err) {
    const struct model_config *config = context->config;
    int n_prompt = (int)from->n_tokens;
    int room = context->context_tokens - n_prompt;
    if (from->max_tokens > 0 && from->max_tokens < room) room = from->max_tokens;
    if (sequence_init(&r->sequence, from->tokens, n_prompt, n_prompt + room, context->block_tokens,
                      config->head_size / 2, err) != 0)
        return -1;
    rope_frequencies(config, n_prompt, r->sequence.inv_freq, &r->sequence.rope_scale);
    r->sequence.variant = rope_variant(config, n_prompt);
    r->sequence.wants_all_logits = from->logits && !from->logits_only_last;
    r->sequence.reuses_prefix = !r->sequence.wants_all_logits;
    return 0;
}

int request_create(struct request **out, const struct engine_request *from,
                   const struct request_context *context, struct err *err) {
    if (check(from, context, err) != 0) return -1;
    struct request *r = mem_zalloc(1, sizeof *r);
    if (!r) return err_memory(err, sizeof *r, "a request");
    r->sampling = from->sampling;
    r->max_answer = from->max_tokens;
    r->logits = from->logits;
    r->logits_ud = from->logits_ud;
    if (init_sequence(r, from, context, err) != 0) {
        request_free(r);
        return -1;
    }
    if (copy_stops(r, from) != 0 || copy_stop_ids(r, from, context->generation) != 0) {
        request_free(r);
        return err_memory(err, from->n_stops + from->n_stop_ids, "a request's stops");
    }
    detokenizer_init(&r->detokenizer, context->tokenizer, (const char *const *)r->stops,
                     r->n_stops);
    r->detokenizer.with_control = from->show_control;
    *out = r;
    return 0;
}

void request_free(struct request *r) {
    if (!r) return;
    detokenizer_release(&r->detokenizer);
    sequence_release(&r->sequence);
    for (size_t i = 0; i < r->n_stops; i++) mem_free(r->stops[i]);
    mem_free(r->stops);
    mem_free(r->stop_ids);
    buf_release(&r->text);
    buf_release(&r->rest);
    mem_free(r);
}

struct request *request_of(struct sequence *sequence) {
    return (struct request *)(void *)((char *)sequence - offsetof(struct request, sequence));
}

int request_n_answer(const struct request *r) {
    return r->sequence.n_tokens - r->sequence.n_prompt;
}

bool request_is_stop_id(const struct request *r, int32_t token) {
    for (size_t i = 0; i < r->n_stop_ids; i++)
        if (r->stop_ids[i] == token) return true;
    return false;
}

enum engine_stop request_add_token(struct request *r, int32_t token, int context_tokens) {
    sequence_append(&r->sequence, token);
    bool is_stopped = detokenizer_add(&r->detokenizer, token, &r->text);
    if (r->text.failed || r->detokenizer.held.failed) {
        err_memory(&r->err, r->text.n, "the text of an answer");
        return STOP_ERROR;
    }
    if (is_stopped) return STOP_STRING;
    if (request_n_answer(r) == r->max_answer) return STOP_LENGTH;
    return r->sequence.n_tokens == context_tokens ? STOP_CONTEXT : STOP_NONE;
}
