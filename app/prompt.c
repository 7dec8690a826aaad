/* Templates and contexts meet here; see prompt.h for the rules. */
#include "app/prompt.h"

#include "engine/base/mem.h"

#include <string.h>

enum { ANSWER_TOKENS = 2048 };

/* What does not change while turns are left out one by one. */
struct builder {
    const struct worker_request *request;
    const struct chat_template *chat;
    const struct tokenizer *tokenizer;
    size_t n_head;             /* leading system messages */
    struct message *messages;  /* head, and what is kept of the rest */
    const struct tokens **ids; /* of each in `messages`, or NULL */
    size_t n_messages;
};

/* --- one list of messages to ids -------------------------------------------------------------- */

/* The ids of bytes [begin, end) of a render. */
static int encode_range(const struct builder *b, const struct chat_render *render, size_t begin,
                        size_t end, struct tokens *out, struct err *err) {
    struct chat_render part = {.text = render->text};
    if (begin >= end) return 0;
    part.spans = mem_zalloc(render->n_spans, sizeof *part.spans);
    if (!part.spans) return err_memory(err, render->n_spans * sizeof *part.spans, "the prompt");
    for (size_t i = 0; i < render->n_spans; i++) {
        struct chat_span span = render->spans[i];
        if (span.begin < begin) span.begin = begin;
        if (span.end > end) span.end = end;
        if (span.begin < span.end) part.spans[part.n_spans++] = span;
    }
    int result = chat_render_encode(&part, b->tokenizer, out, err);
    mem_free(part.spans);
    return result;
}

/* Ids may come from a file: only those that are text of this tokenizer are used. */
static bool are_text(const struct tokenizer *t, const struct tokens *ids) {
    for (size_t i = 0; i < ids->n; i++) {
        size_t n;
        if (!tokenizer_bytes(t, ids->ids[i], &n) || tokenizer_is_control(t, ids->ids[i]))
            return false;
    }
    return true;
}

static bool cuts_control(const struct chat_render *render, size_t at) {
    for (size_t i = 0; i < render->n_spans; i++) {
        const struct chat_span *span = &render->spans[i];
        if (span->is_control && span->begin < at && at < span->end) return true;
    }
    return false;
}

/* Does `whole` say at message k just what the stored ids say, behind the same prompt as then? If
 * so the place is [*begin, *end). */
static int find_answer(const struct builder *b, const struct chat_render *whole, size_t k,
                       size_t *begin, size_t *end, bool *found, struct err *err) {
    struct chat_options options = b->request->chat;
    struct chat_render before = {0};
    struct buf said = {0};
    *found = false;
    options.generation_prompt = true;
    tokenizer_decode(b->tokenizer, b->ids[k]->ids, b->ids[k]->n, true, &said);
    int result = said.failed
                     ? err_memory(err, b->ids[k]->n, "an answer's text")
                     : chat_template_render(b->chat, b->messages, k, &options, &before, err);
    if (result == 0) {
        size_t n = before.text.n;
        *begin = n;
        *end = n + said.n;
        *found = *end <= whole->text.n && n && memcmp(before.text.data, whole->text.data, n) == 0 &&
                 memcmp(whole->text.data + n, said.data ? said.data : "", said.n) == 0 &&
                 !cuts_control(whole, *begin) && !cuts_control(whole, *end);
    }
    chat_render_release(&before);
    buf_release(&said);
    return result;
}

static int encode_with_ids(const struct builder *b, const struct chat_render *whole,
                           struct tokens *out, struct err *err) {
    size_t done = 0;
    for (size_t k = 0; k < b->n_messages; k++) {
        size_t begin, end;
        bool found;
        const struct tokens *ids = b->ids[k];
        if (!ids || !ids->n || !are_text(b->tokenizer, ids)) continue;
        if (find_answer(b, whole, k, &begin, &end, &found, err) != 0) return -1;
        if (!found || begin < done) continue;
        if (encode_range(b, whole, done, begin, out, err) != 0) return -1;
        for (size_t i = 0; i < ids->n; i++)
            if (tokens_add(out, ids->ids[i], err) != 0) return -1;
        done = end;
    }
    return encode_range(b, whole, done, whole->text.n, out, err);
}

/* The head and messages[first..) as ids. */
static int encode_from(struct builder *b, size_t first, struct tokens *out, struct err *err) {
    const struct worker_request *r = b->request;
    struct chat_options options = r->chat;
    struct chat_render whole = {0};
    b->n_messages = 0;
    for (size_t i = 0; i < r->n_messages; i++) {
        if (i >= b->n_head && i < first) continue;
        b->messages[b->n_messages] = r->messages[i];
        b->ids[b->n_messages++] = r->message_tokens ? &r->message_tokens[i] : NULL;
    }
    out->n = 0;
    options.generation_prompt = true;
    int result = chat_template_render(b->chat, b->messages, b->n_messages, &options, &whole, err);
    if (result == 0) result = encode_with_ids(b, &whole, out, err);
    chat_render_release(&whole);
    return result;
}

/* --- what is left out ------------------------------------------------------------------------- */

/* The j-th user message behind the head, or n_messages. */
static size_t exchange_begin(const struct builder *b, size_t j) {
    for (size_t i = b->n_head; i < b->request->n_messages; i++)
        if (b->request->messages[i].role == ROLE_USER && j-- == 0) return i;
    return b->request->n_messages;
}

static size_t count_exchanges(const struct builder *b) {
    size_t n = 0;
    for (size_t i = b->n_head; i < b->request->n_messages; i++)
        n += b->request->messages[i].role == ROLE_USER;
    return n;
}

/* Leaves out the fewest exchanges that are `spare` tokens together; by halving, since each try
 * encodes the whole conversation. */
static int leave_out(struct builder *b, size_t spare, struct prompt *out, struct err *err) {
    size_t whole = out->tokens.n, low = 1, high = count_exchanges(b) - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (encode_from(b, exchange_begin(b, middle), &out->tokens, err) != 0) return -1;
        if (out->tokens.n + spare <= whole)
            high = middle;
        else
            low = middle + 1;
    }
    size_t first = exchange_begin(b, low);
    out->left_out_turns = (int)(first - b->n_head);
    return encode_from(b, first, &out->tokens, err);
}

static int refuse_length(size_t n_tokens, int context, const char *hint, struct err *err) {
    return err_set(err, ERR_CONTEXT, "the prompt has %zu tokens, the context holds %d%s", n_tokens,
                   context, hint);
}

static int fit(struct builder *b, size_t context, struct prompt *out, struct err *err) {
    const struct worker_request *r = b->request;
    size_t room = r->max_tokens > 0 ? (size_t)r->max_tokens : ANSWER_TOKENS, quarter = context / 4;
    if (room > quarter) room = quarter;
    if (out->tokens.n + room > context && count_exchanges(b) > 1) {
        if (r->is_strict)
            return refuse_length(out->tokens.n, (int)context,
                                 ", answer included, and strict forbids leaving turns out", err);
        size_t spare = out->tokens.n + room - context;
        if (quarter) spare = (spare + quarter - 1) / quarter * quarter;
        if (leave_out(b, spare, out, err) != 0) return -1;
    }
    if (out->tokens.n < context) return 0;
    return refuse_length(out->tokens.n, (int)context,
                         "; -c makes it longer, where the model allows", err);
}

/* --- the request ------------------------------------------------------------------------------ */

static int build_raw(const struct worker_request *r, const struct tokenizer *t, int context,
                     struct prompt *out, struct err *err) {
    size_t n = strlen(r->raw);
    int result = r->raw_has_added ? tokenizer_encode_with_added(t, r->raw, n, &out->tokens, err)
                                  : tokenizer_encode(t, r->raw, n, &out->tokens, err);
    if (result != 0) return -1;
    if (!out->tokens.n) return err_set(err, ERR_USAGE, "there is no text to complete");
    if (out->tokens.n < (size_t)context) return 0;
    return refuse_length(out->tokens.n, context, "", err);
}

static int build_chat(struct builder *b, int context, struct prompt *out, struct err *err) {
    const struct worker_request *r = b->request;
    if (!b->chat)
        return err_set(err, ERR_MODEL, "the model has no chat template: it completes raw text");
    while (b->n_head < r->n_messages && r->messages[b->n_head].role == ROLE_SYSTEM) b->n_head++;
    b->messages = mem_zalloc(r->n_messages, sizeof *b->messages);
    b->ids = mem_zalloc(r->n_messages, sizeof *b->ids);
    if (!b->messages || !b->ids)
        return err_memory(err, r->n_messages * sizeof *b->messages, "the prompt");
    if (encode_from(b, b->n_head, &out->tokens, err) != 0) return -1;
    return fit(b, (size_t)context, out, err);
}

int prompt_build(const struct worker_request *request, const struct chat_template *chat,
                 const struct tokenizer *tokenizer, int context_tokens, struct prompt *out,
                 struct err *err) {
    struct builder b = {.request = request, .chat = chat, .tokenizer = tokenizer};
    *out = (struct prompt){0};
    int result = request->raw ? build_raw(request, tokenizer, context_tokens, out, err)
                              : build_chat(&b, context_tokens, out, err);
    mem_free(b.messages);
    mem_free(b.ids);
    if (result != 0) prompt_release(out);
    return result;
}

void prompt_release(struct prompt *prompt) {
    tokens_release(&prompt->tokens);
    *prompt = (struct prompt){0};
}
