/*
 * The DeepSeek-R1 distillations' shape, as their template has it with its oddities: the system
 * text is that of the last system message; only the first call of a conversation opens the list of
 * calls, and only a later one closes it; only the first result opens the list of results. A turn
 * either calls or says something: calls beside a content are not shown.
 */
#include "engine/text/chat_render.h"

struct deepseek {
    struct chat_render *out;
    bool in_results;  /* the last message was a tool's */
    bool has_called;  /* the conversation had a call */
    bool has_results; /* … a result */
};

static void put_system(struct deepseek *d, const struct message *messages, size_t n) {
    const char *system = NULL;
    for (size_t i = 0; i < n; i++)
        if (messages[i].role == ROLE_SYSTEM) system = messages[i].content;
    chat_put_fixed(d->out, "<｜begin▁of▁sentence｜>");
    chat_put_string(d->out, system);
}

static void put_call(struct deepseek *d, const struct tool_call *call) {
    bool is_first = !d->has_called;
    d->has_called = true;
    chat_put_fixed(d->out, is_first ? "<｜Assistant｜><｜tool▁calls▁begin｜>" : "\n");
    chat_put_fixed(d->out, "<｜tool▁call▁begin｜>function<｜tool▁sep｜>");
    chat_put_string(d->out, call->name);
    chat_put_string(d->out, "\n```json\n");
    chat_put_string(d->out, call->arguments);
    chat_put_fixed(d->out, "\n```<｜tool▁call▁end｜>");
    if (!is_first) chat_put_fixed(d->out, "<｜tool▁calls▁end｜><｜end▁of▁sentence｜>");
}

static void put_assistant(struct deepseek *d, const struct message *m) {
    struct slice content = slice_of(m->content);
    bool was_in_results = d->in_results;
    d->in_results = false;
    if (content.n == 0 && m->n_calls > 0) {
        for (size_t i = 0; i < m->n_calls; i++) put_call(d, &m->calls[i]);
        return;
    }
    chat_put_fixed(d->out, was_in_results ? "<｜tool▁outputs▁end｜>" : "<｜Assistant｜>");
    if (!was_in_results) content = slice_after_last(content, "</think>");
    chat_put(d->out, content.data, content.n);
    chat_put_fixed(d->out, "<｜end▁of▁sentence｜>");
}

static void put_result(struct deepseek *d, const struct message *m) {
    chat_put_fixed(d->out, d->has_results ? "\n" : "<｜tool▁outputs▁begin｜>");
    chat_put_fixed(d->out, "<｜tool▁output▁begin｜>");
    chat_put_string(d->out, m->content);
    chat_put_fixed(d->out, "<｜tool▁output▁end｜>");
    d->has_results = d->in_results = true;
}

static void put_message(struct deepseek *d, const struct message *m) {
    switch (m->role) {
    case ROLE_SYSTEM:
        return;
    case ROLE_USER:
        d->in_results = false;
        chat_put_fixed(d->out, "<｜User｜>");
        chat_put_string(d->out, m->content);
        return;
    case ROLE_ASSISTANT:
        put_assistant(d, m);
        return;
    case ROLE_TOOL:
        put_result(d, m);
        return;
    }
}

void chat_render_deepseek(const struct chat_template *t, const struct message *messages, size_t n,
                          const struct chat_options *options, struct chat_render *out) {
    struct deepseek d = {.out = out};
    put_system(&d, messages, n);
    for (size_t i = 0; i < n; i++) put_message(&d, &messages[i]);
    if (d.in_results) {
        chat_put_fixed(out, "<｜tool▁outputs▁end｜>");
    } else if (options->generation_prompt) {
        chat_put_fixed(out, "<｜Assistant｜>");
        if (t->thinks == THINKS_OPENED) chat_put_fixed(out, "<think>\n");
    }
}
