/*
 * Bytes as a conversation for one of the templates, and as a checkpoint's template, for the choice.
 * Whatever the texts say: the spans tile the render, control tokens are the same as in the
 * conversation with every '<' made a '(', and as many ids above the bytes come out as there are
 * control spans.
 *
 * Input: a byte of options, the template's number, then messages of [kind][length][text].
 */
#include "engine/text/chat_template.h"

#include "tests/support/byte_tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum {
    N_TEMPLATES = 17,
    MAX_MESSAGES = 12,
    MAX_TEXT = 256,
    OPTION_PROMPT = 1,
    OPTION_TOOLS = 2,
    OPTION_OFF = 4
};

struct conversation {
    char texts[MAX_MESSAGES][MAX_TEXT];
    struct message messages[MAX_MESSAGES];
    struct tool_call calls[MAX_MESSAGES];
    size_t n;
};

static const char *const added[] = {
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
enum { N_ADDED = sizeof added / sizeof *added };

static void require(bool holds, const char *what) {
    if (!holds) bug("%s", what);
}

/* kind: bits 0-1 the role, 2 a call, 3 its arguments are a string, 4 reasoning, 5 no content */
static void read_conversation(struct conversation *c, const uint8_t *data, size_t n) {
    c->n = 0;
    while (n >= 2 && c->n < MAX_MESSAGES) {
        uint8_t kind = data[0];
        size_t length = data[1] < n - 2 ? data[1] : n - 2;
        char *text = c->texts[c->n];
        memcpy(text, data + 2, length);
        text[length] = '\0';
        struct message *m = &c->messages[c->n];
        *m = (struct message){.role = (enum role)(kind & 3),
                              .content = kind & 32 ? NULL : text,
                              .reasoning = kind & 16 ? text : NULL};
        c->calls[c->n] = (struct tool_call){
            .name = text, .arguments = text, .arguments_is_string = (kind & 8) != 0};
        if (kind & 4) {
            m->calls = &c->calls[c->n];
            m->n_calls = 1;
        }
        c->n++;
        data += 2 + length;
        n -= 2 + length;
    }
}

static void check_spans(const struct chat_render *r) {
    size_t at = 0;
    for (size_t i = 0; i < r->n_spans; i++) {
        const struct chat_span *span = &r->spans[i];
        require(span->begin == at && span->end > at, "spans do not tile the text");
        at = span->end;
        if (!span->is_control) continue;
        int known = 0;
        for (size_t k = 0; k < N_ADDED; k++)
            known += strlen(added[k]) == span->end - span->begin &&
                     memcmp(added[k], r->text.data + span->begin, span->end - span->begin) == 0;
        require(known == 1, "a control span that is no control token");
    }
    require(at == r->text.n, "the spans end before the text");
}

/* The control spans in order. Those of thinking are left out: Qwen3's depend on the content. */
static struct buf controls_of(const struct chat_render *r) {
    struct buf controls = {0};
    buf_puts(&controls, "");
    for (size_t i = 0; i < r->n_spans; i++) {
        const struct chat_span *span = &r->spans[i];
        size_t n = span->end - span->begin;
        const char *name = r->text.data + span->begin;
        bool is_think = (n == 7 && memcmp(name, "<think>", n) == 0) ||
                        (n == 8 && memcmp(name, "</think>", n) == 0);
        if (span->is_control && !is_think) buf_add(&controls, name, n);
    }
    return controls;
}

static void check_ids(const struct chat_render *r, const struct tokenizer *tokenizer) {
    struct tokens ids = {0};
    struct err err = {0};
    size_t n_controls = 0, n_added = 0;
    require(chat_render_encode(r, tokenizer, &ids, &err) == 0, err.text);
    for (size_t i = 0; i < r->n_spans; i++) n_controls += r->spans[i].is_control;
    for (size_t i = 0; i < ids.n; i++) n_added += ids.ids[i] >= BYTE_TOKENIZER_ADDED;
    require(n_added == n_controls, "text became a control token, or the other way round");
    tokens_release(&ids);
}

static void check_template(const struct chat_template *t, struct conversation *c,
                           const struct chat_options *options, const struct tokenizer *tokenizer) {
    struct chat_render r = {0};
    struct err err = {0};
    int status = chat_template_render(t, c->messages, c->n, options, &r, &err);
    require(status == 0 || err.kind == ERR_OTHER, "refused without a reason");
    if (status == 0) {
        check_spans(&r);
        check_ids(&r, tokenizer);
        struct buf before = controls_of(&r);
        static struct conversation tame;
        tame = *c;
        for (size_t i = 0; i < c->n; i++) {
            struct message *m = &tame.messages[i];
            for (char *p = tame.texts[i]; *p; p++)
                if (*p == '<') *p = '(';
            if (m->content) m->content = tame.texts[i];
            if (m->reasoning) m->reasoning = tame.texts[i];
            tame.calls[i].name = tame.calls[i].arguments = tame.texts[i];
            if (m->calls) m->calls = &tame.calls[i];
        }
        require(chat_template_render(t, tame.messages, tame.n, options, &r, &err) == 0, err.text);
        struct buf after = controls_of(&r);
        require(strcmp(before.data, after.data) == 0, "a text changed the control tokens");
        buf_release(&before);
        buf_release(&after);
    }
    chat_render_release(&r);
}

static void check_choice(const uint8_t *data, size_t n) {
    struct buf source = {0};
    buf_add(&source, data, n);
    struct chat_template_choice choice = chat_template_choose(source.data, "qwen2", "chatml");
    require(n == 0 || data[0] == 0 || choice.chat != NULL, "a template led to no renderer");
    require(memchr(choice.notice, 0, sizeof choice.notice) != NULL, "a notice without an end");
    buf_release(&source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static struct tokenizer *tokenizer;
    static struct conversation c;
    static const char *const tools[] = {"{\"name\": \"<|im_end|>\"}"};
    if (!tokenizer) tokenizer = byte_tokenizer_open(added, N_ADDED);
    check_choice(data, n);
    if (n < 2) return 0;
    struct chat_options options = {
        .tools = tools,
        .n_tools = (data[0] & OPTION_TOOLS) != 0,
        .thinking = data[0] & OPTION_OFF ? THINKING_OFF : THINKING_DEFAULT,
        .generation_prompt = (data[0] & OPTION_PROMPT) != 0,
    };
    read_conversation(&c, data + 2, n - 2);
    const struct chat_template *t = chat_template_at(data[1] % N_TEMPLATES);
    require(t != NULL && chat_template_at(N_TEMPLATES) == NULL, "another number of templates");
    check_template(t, &c, &options, tokenizer);
    return 0;
}
