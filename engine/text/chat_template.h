/*
 * A conversation as the text (and tokens) that a model was trained on. Templates are built in, one
 * row per family, and chosen by comparing the checkpoint's own Jinja template with the known ones;
 * no Jinja is ever executed. Immutable, so any thread may use it.
 *
 * Control tokens come from the renderer alone: a render is a list of spans, each either a control
 * token or text, and text is encoded without added tokens. So "<|im_end|>" typed by a user stays
 * seven ordinary tokens.
 */
#pragma once

#include "engine/text/tokenizer.h"

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL };
const char *role_name(enum role role);

struct tool_call {
    const char *name;
    const char *arguments; /* JSON text, as json.dumps writes it (", " and ": ") */
    bool arguments_is_string; /* the caller had a string, not an object (Qwen2.5 quotes it) */
};

struct message {
    enum role role;
    const char *content;   /* UTF-8; NULL is "" */
    const char *reasoning; /* assistant: reasoning_content, or NULL where unknown */
    const struct tool_call *calls;
    size_t n_calls;
};

enum thinking { THINKING_DEFAULT, THINKING_ON, THINKING_OFF };

struct chat_options {
    const char *const *tools; /* each a JSON object, as json.dumps writes it (", " and ": ") */
    size_t n_tools;
    enum thinking thinking;
    bool generation_prompt; /* end with the header of the assistant's turn */
};

struct chat_template; /* a row of the table; static, never freed */

/* The row by name ("qwen2.5"), NULL if there is none; chat_template_at() lists them, NULL past
 * the last one. */
const struct chat_template *chat_template_by_name(const char *name);
const struct chat_template *chat_template_at(size_t i);
const char *chat_template_name(const struct chat_template *t);

struct chat_template_choice {
    const struct chat_template *chat; /* NULL: none, a base model: complete raw text */
    bool is_fallback;                 /* the checkpoint's template is not known; ChatML is used */
    char notice[256];                 /* one sentence for the user, or "" */
};

/*
 * `source` is the checkpoint's Jinja text or NULL; `model_type` its config's ("qwen", "llama" …);
 * `chat_format` v1's generation_config value ("chatml", "raw") or NULL.
 */
struct chat_template_choice chat_template_choose(const char *source, const char *model_type,
                                                 const char *chat_format);

/* NULL where the family has no default system prompt. */
const char *chat_template_default_system(const struct chat_template *t);

/* Does the family think, and does its generation prompt already open the thinking block? */
bool chat_template_thinks(const struct chat_template *t);
bool chat_template_opens_thinking(const struct chat_template *t, const struct chat_options *o);

/* Text whose control tokens are marked. */
struct chat_span {
    size_t begin, end; /* bytes of `text` */
    bool is_control;
};
struct chat_render {
    struct buf text;
    struct chat_span *spans;
    size_t n_spans, capacity;
};
void chat_render_release(struct chat_render *r);

/* Fails (ERR_MODEL / ERR_OTHER) on what the template refuses, e.g. tools where there are none. */
int chat_template_render(const struct chat_template *t, const struct message *messages,
                         size_t n_messages, const struct chat_options *options,
                         struct chat_render *out, struct err *err);

/* The ids of a render. A control span that the tokenizer has no token for is encoded as text. */
int chat_render_encode(const struct chat_render *r, const struct tokenizer *tokenizer,
                       struct tokens *out, struct err *err);
