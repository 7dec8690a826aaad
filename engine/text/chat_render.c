/* The pen of the renderers: text with its control tokens marked, and slices of a content. */
#include "engine/text/chat_render.h"

#include "engine/base/mem.h"

#include <string.h>

/* Every token that the fixed texts of the templates may hold. A tokenizer without one of them
 * (Qwen2.5 has no <think>) gets it as text. */
static const char *const control_tokens[] = {
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
};

static void put_span(struct chat_render *out, const char *text, size_t n, bool is_control) {
    if (n == 0) return;
    size_t begin = out->text.n;
    buf_add(&out->text, text, n);
    if (out->text.failed) return;
    if (mem_grow((void **)&out->spans, &out->capacity, out->n_spans + 1, sizeof *out->spans) != 0) {
        out->text.failed = true;
        return;
    }
    out->spans[out->n_spans++] = (struct chat_span){begin, out->text.n, is_control};
}

void chat_put(struct chat_render *out, const char *text, size_t n) {
    if (out->n_spans == 0 || out->spans[out->n_spans - 1].is_control) {
        put_span(out, text, n, false);
        return;
    }
    buf_add(&out->text, text, n);
    if (!out->text.failed) out->spans[out->n_spans - 1].end = out->text.n;
}

void chat_put_string(struct chat_render *out, const char *text) {
    if (text) chat_put(out, text, strlen(text));
}

void chat_put_apart(struct chat_render *out, const char *text) {
    if (text) put_span(out, text, strlen(text), false);
}

/* The length of the control token that `text` begins with, 0 for none. */
static size_t control_length(const char *text) {
    for (size_t i = 0; i < sizeof control_tokens / sizeof *control_tokens; i++) {
        size_t n = strlen(control_tokens[i]);
        if (strncmp(text, control_tokens[i], n) == 0) return n;
    }
    return 0;
}

void chat_put_fixed(struct chat_render *out, const char *text) {
    const char *plain = text;
    for (const char *at = text; *at;) {
        size_t n = *at == '<' ? control_length(at) : 0;
        if (n > 0) {
            chat_put(out, plain, (size_t)(at - plain));
            put_span(out, at, n, true);
            plain = at + n;
        }
        at += n > 0 ? n : 1;
    }
    chat_put_string(out, plain);
}

struct slice slice_of(const char *text) {
    return (struct slice){text ? text : "", text ? strlen(text) : 0};
}

static const char *find(struct slice s, const char *mark) {
    return memmem(s.data, s.n, mark, strlen(mark));
}

bool slice_has(struct slice s, const char *mark) {
    return find(s, mark) != NULL;
}

struct slice slice_before_first(struct slice s, const char *mark) {
    const char *at = find(s, mark);
    if (at) s.n = (size_t)(at - s.data);
    return s;
}

struct slice slice_after_last(struct slice s, const char *mark) {
    for (const char *at; (at = find(s, mark)) != NULL;) {
        size_t skipped = (size_t)(at - s.data) + strlen(mark);
        s.data += skipped;
        s.n -= skipped;
    }
    return s;
}

struct slice slice_strip_left(struct slice s) {
    while (s.n > 0 && s.data[0] == '\n') {
        s.data++;
        s.n--;
    }
    return s;
}

struct slice slice_strip_right(struct slice s) {
    while (s.n > 0 && s.data[s.n - 1] == '\n') s.n--;
    return s;
}
