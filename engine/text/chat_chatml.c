/*
 * ChatML and what the Qwen families made of it. Written from the published templates (listed in
 * tests/golden/template/README.md), whose rules are stated at each function.
 */
#include "engine/text/chat_render.h"

#include <string.h>

/* A rendering under way. */
struct chatml {
    const struct chat_template *t;
    const struct message *messages;
    size_t n;
    const struct chat_options *options;
    struct chat_render *out;
    size_t last_query_i; /* HISTORY_REASONING: the last message that a person asked */
};

static const char tools_begin[] =
    "# Tools\n\n"
    "You may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
static const char tools_end[] =
    "\n</tools>\n\n"
    "For each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n"
    "<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";

static void put_slice(struct chatml *c, struct slice s) {
    chat_put(c->out, s.data, s.n);
}

/* One turn as all families write it. */
static void put_turn(struct chatml *c, enum role role, const char *content) {
    chat_put_fixed(c->out, "<|im_start|>");
    chat_put_string(c->out, role_name(role));
    if (c->t->shape == SHAPE_CHATML_V1) {
        chat_put_apart(c->out, "\n");
        chat_put_apart(c->out, content);
    } else {
        chat_put_string(c->out, "\n");
        chat_put_string(c->out, content);
    }
}

static void end_turn(struct chatml *c) {
    chat_put_fixed(c->out, "<|im_end|>\n");
}

/* The system turn: the conversation's own or the family's text, and the tools behind it. A blank
 * line parts the two; Qwen3 leaves it out where there is no system text at all. */
static void put_system(struct chatml *c) {
    bool has_own = c->messages[0].role == ROLE_SYSTEM;
    const char *system = has_own ? c->messages[0].content : c->t->default_system;
    if (!has_own && !c->t->default_system && c->options->n_tools == 0) return;
    put_turn(c, ROLE_SYSTEM, system);
    if (c->options->n_tools > 0) {
        if (has_own || c->t->tools == TOOLS_QWEN2_5) chat_put_string(c->out, "\n\n");
        chat_put_fixed(c->out, tools_begin);
        for (size_t i = 0; i < c->options->n_tools; i++) {
            chat_put_string(c->out, "\n");
            chat_put_string(c->out, c->options->tools[i]);
        }
        chat_put_fixed(c->out, tools_end);
    }
    end_turn(c);
}

static void put_call(struct chatml *c, const struct tool_call *call) {
    chat_put_fixed(c->out, "<tool_call>\n{\"name\": \"");
    chat_put_string(c->out, call->name);
    chat_put_string(c->out, "\", \"arguments\": ");
    if (call->arguments_is_string && c->t->tools == TOOLS_QWEN2_5) {
        struct buf quoted = {0};
        struct slice s = slice_of(call->arguments);
        buf_put_json(&quoted, s.data, s.n);
        if (quoted.failed) c->out->text.failed = true;
        chat_put(c->out, quoted.data ? quoted.data : "", quoted.n);
        buf_release(&quoted);
    } else {
        chat_put_string(c->out, call->arguments);
    }
    chat_put_fixed(c->out, "}\n</tool_call>");
}

/* Qwen2.5: each call on lines of its own; without content the header ends at the first call. */
static void put_calls_2_5(struct chatml *c, const struct message *m, struct slice content) {
    chat_put_fixed(c->out, "<|im_start|>");
    chat_put_string(c->out, role_name(ROLE_ASSISTANT));
    if (slice_of(m->content).n > 0) {
        chat_put_string(c->out, "\n");
        put_slice(c, content);
    }
    for (size_t i = 0; i < m->n_calls; i++) {
        chat_put_string(c->out, "\n");
        put_call(c, &m->calls[i]);
    }
}

/*
 * Qwen3 with HISTORY_REASONING: the reasoning is a field of its own or stands before the content's
 * "</think>". It is shown again only behind the last question that a person asked, and there only
 * where it says something or the message is the last. Returns the content without it.
 */
static struct slice put_reasoned(struct chatml *c, size_t i) {
    const struct message *m = &c->messages[i];
    struct slice content = slice_of(m->content), reasoning = slice_of(m->reasoning);
    if (!m->reasoning && slice_has(content, "</think>")) {
        reasoning = slice_strip_right(slice_before_first(content, "</think>"));
        reasoning = slice_strip_left(slice_after_last(reasoning, "<think>"));
        content = slice_strip_left(slice_after_last(content, "</think>"));
    }
    if (i > c->last_query_i && (i + 1 == c->n || reasoning.n > 0)) {
        chat_put_fixed(c->out, "<think>\n");
        put_slice(c, slice_strip_right(slice_strip_left(reasoning)));
        chat_put_fixed(c->out, "\n</think>\n\n");
        put_slice(c, slice_strip_left(content));
    } else {
        put_slice(c, content);
    }
    return content;
}

/* Qwen3: calls are on lines of their own, the first too if there is content. */
static void put_answer_3(struct chatml *c, size_t i) {
    const struct message *m = &c->messages[i];
    struct slice content = slice_of(m->content);
    put_turn(c, ROLE_ASSISTANT, NULL);
    if (c->t->history == HISTORY_REASONING)
        content = put_reasoned(c, i);
    else
        put_slice(c, content);
    for (size_t k = 0; k < m->n_calls; k++) {
        if (k > 0 || content.n > 0) chat_put_string(c->out, "\n");
        put_call(c, &m->calls[k]);
    }
}

static void put_assistant(struct chatml *c, size_t i) {
    const struct message *m = &c->messages[i];
    enum chat_history history = c->t->history;
    struct slice content = slice_of(m->content);
    if (history == HISTORY_ANSWERS || (history == HISTORY_EARLIER_ANSWERS && i + 1 < c->n))
        content = slice_strip_left(slice_after_last(content, "</think>"));
    if (c->t->tools == TOOLS_QWEN3) {
        put_answer_3(c, i);
    } else if (m->n_calls > 0) {
        put_calls_2_5(c, m, content);
    } else if (c->t->shape == SHAPE_CHATML_V1) {
        put_turn(c, ROLE_ASSISTANT, m->content);
    } else {
        put_turn(c, ROLE_ASSISTANT, NULL);
        put_slice(c, content);
    }
    end_turn(c);
}

/* Tool results in a row form one turn of the user. */
static void put_result(struct chatml *c, size_t i) {
    if (i == 0 || c->messages[i - 1].role != ROLE_TOOL) chat_put_fixed(c->out, "<|im_start|>user");
    chat_put_fixed(c->out, "\n<tool_response>\n");
    chat_put_string(c->out, c->messages[i].content);
    chat_put_fixed(c->out, "\n</tool_response>");
    if (i + 1 == c->n || c->messages[i + 1].role != ROLE_TOOL) end_turn(c);
}

static void put_message(struct chatml *c, size_t i) {
    switch (c->messages[i].role) {
    case ROLE_SYSTEM:
        if (i == 0) return; /* put_system() wrote it */
        put_turn(c, ROLE_SYSTEM, c->messages[i].content);
        end_turn(c);
        return;
    case ROLE_USER:
        put_turn(c, ROLE_USER, c->messages[i].content);
        end_turn(c);
        return;
    case ROLE_ASSISTANT:
        put_assistant(c, i);
        return;
    case ROLE_TOOL:
        put_result(c, i);
        return;
    }
}

/* The last message of the user that is not a wrapped tool result; without one the last message. */
static size_t find_last_query(const struct message *messages, size_t n) {
    for (size_t i = n; i-- > 0;) {
        static const char open[] = "<tool_response>", close[] = "</tool_response>";
        struct slice s = slice_of(messages[i].content);
        bool is_wrapped = s.n >= sizeof close - 1 && strncmp(s.data, open, sizeof open - 1) == 0 &&
                          strcmp(s.data + s.n - (sizeof close - 1), close) == 0;
        if (messages[i].role == ROLE_USER && !is_wrapped) return i;
    }
    return n - 1;
}

static void put_generation_prompt(struct chatml *c) {
    if (c->t->shape == SHAPE_CHATML_V1) {
        put_turn(c, ROLE_ASSISTANT, NULL);
        return;
    }
    chat_put_fixed(c->out, "<|im_start|>assistant\n");
    if (c->t->thinks == THINKS_OPENED) chat_put_fixed(c->out, "<think>\n");
    if (c->t->thinks == THINKS_SWITCHED && c->options->thinking == THINKING_OFF)
        chat_put_fixed(c->out, "<think>\n\n</think>\n\n");
}

/* Takes the "<|im_end|>" and "\n" that the last turn ended with away again. */
static void reopen_last_turn(struct chat_render *out) {
    if (out->text.failed) return;
    out->n_spans -= 2;
    out->text.n = out->spans[out->n_spans].begin;
    out->text.data[out->text.n] = '\0';
}

void chat_render_chatml(const struct chat_template *t, const struct message *messages, size_t n,
                        const struct chat_options *options, struct chat_render *out) {
    struct chatml c = {t, messages, n, options, out, find_last_query(messages, n)};
    put_system(&c);
    for (size_t i = 0; i < n; i++) put_message(&c, i);
    bool is_open_end = t->history == HISTORY_OPEN_END;
    if (!options->generation_prompt) {
        if (is_open_end) reopen_last_turn(out);
    } else if (!is_open_end || messages[n - 1].role != ROLE_ASSISTANT) {
        put_generation_prompt(&c);
    }
}
