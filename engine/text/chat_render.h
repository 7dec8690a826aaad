/*
 * Behind chat_template.h: a family as facts, the pen that writes spans, and one renderer per
 * shape. A renderer reads the facts; no family has code of its own.
 */
#pragma once

#include "engine/text/chat_template.h"

enum chat_shape {
    SHAPE_CHATML,    /* <|im_start|>role\ncontent<|im_end|>\n */
    SHAPE_CHATML_V1, /* the same text; role, newline and content are encoded apart */
    SHAPE_DEEPSEEK,  /* <｜User｜>content<｜Assistant｜>content<｜end▁of▁sentence｜> */
};

enum chat_tools {
    TOOLS_NONE,
    TOOLS_QWEN2_5,  /* arguments given as a string are quoted once more */
    TOOLS_QWEN3,    /* … are written as they stand */
    TOOLS_DEEPSEEK, /* calls and results, but no definitions */
};

/* What becomes of the assistant's turns. "The answer" is what follows the last "</think>". */
enum chat_history {
    HISTORY_AS_IS,
    HISTORY_OPEN_END,        /* as is; without a generation prompt the last turn stays open, and
                                behind an assistant's turn no prompt is put */
    HISTORY_ANSWERS,         /* the answer only */
    HISTORY_EARLIER_ANSWERS, /* the answer only, except in the last message */
    HISTORY_REASONING,       /* Qwen3: reasoning is kept after the last real question */
};

enum chat_thinks {
    THINKS_NEVER,
    THINKS_SWITCHED, /* the model opens the block; an empty one in the prompt forbids it */
    THINKS_UNOPENED, /* the model opens the block, always */
    THINKS_OPENED,   /* the generation prompt opens it */
};

struct chat_template {
    const char *name;
    const char *default_system; /* NULL: no system turn unless the conversation has one */
    enum chat_shape shape;
    enum chat_tools tools;
    enum chat_history history;
    enum chat_thinks thinks;
};

/* The pen. Out of memory is remembered in out->text.failed. */
void chat_put(struct chat_render *out, const char *text, size_t n);
void chat_put_string(struct chat_render *out, const char *text); /* NULL is "" */
void chat_put_apart(struct chat_render *out, const char *text);  /* begins a span of its own */
/* Text that we wrote: the control tokens in it become control spans. */
void chat_put_fixed(struct chat_render *out, const char *text);

/* Pieces of a content. */
struct slice {
    const char *data;
    size_t n;
};
struct slice slice_of(const char *text);
bool slice_has(struct slice s, const char *mark);
struct slice slice_before_first(struct slice s, const char *mark); /* all of it without a mark */
struct slice slice_after_last(struct slice s, const char *mark);   /* all of it without a mark */
struct slice slice_strip_left(struct slice s);                     /* newlines only */
struct slice slice_strip_right(struct slice s);

/* The options are never NULL; the messages have passed the checks of chat_template_render(). */
void chat_render_chatml(const struct chat_template *t, const struct message *messages, size_t n,
                        const struct chat_options *options, struct chat_render *out);
void chat_render_deepseek(const struct chat_template *t, const struct message *messages, size_t n,
                          const struct chat_options *options, struct chat_render *out);
