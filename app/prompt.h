/*
 * A request as token ids: the template's text, in which the ids that earlier answers were made of
 * stand where the template says what they said, and from which the oldest exchanges are left out
 * when they do not fit the context. Pure; any thread may call it.
 */
#pragma once

#include "app/worker.h"

struct prompt {
    struct tokens tokens;
    int left_out_turns;
};

/*
 * Room for an answer is kept: max_tokens or 2048, at most a quarter of the context. Whole exchanges
 * are left out, in steps of a quarter of the context: so the prefix stays the same, and cached, for
 * many turns. The system message and the last exchange always stay; ERR_CONTEXT when they do not
 * fit, or (is_strict) when anything would have to be left out.
 */
int prompt_build(const struct worker_request *request, const struct chat_template *chat,
                 const struct tokenizer *tokenizer, int context_tokens, struct prompt *out,
                 struct err *err);
void prompt_release(struct prompt *prompt);
