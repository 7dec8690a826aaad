/*
 * The table of templates, the choice among them, and a render's way to tokens. The renderers
 * themselves are chat_chatml.c and chat_deepseek.c.
 */
#include "engine/text/chat_template.h"

#include "engine/base/mem.h"
#include "engine/text/chat_render.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum template_id {
#define CHAT_TEMPLATE(id, name, system, shape, tools, history, thinks) ID_##id,
#include "engine/text/chat_templates.def"
    N_TEMPLATES
};

static const struct chat_template templates[N_TEMPLATES] = {
#define CHAT_TEMPLATE(id, name, system, shape, tools, history, thinks)                             \
    [ID_##id] = {name, system, SHAPE_##shape, TOOLS_##tools, HISTORY_##history, THINKS_##thinks},
#include "engine/text/chat_templates.def"
};

static const struct {
    enum template_id id;
    uint64_t fingerprint;
} known[] = {
#define CHAT_KNOWN(id, fingerprint) {ID_##id, fingerprint},
#include "engine/text/chat_templates.def"
};

enum { N_MARKERS = 3 };
static const struct {
    enum template_id id;
    const char *all[N_MARKERS];
} markers[] = {
#define CHAT_MARKERS(id, first, second, third) {ID_##id, {first, second, third}},
#include "engine/text/chat_templates.def"
};

const char *role_name(enum role role) {
    static const char *const names[] = {"system", "user", "assistant", "tool"};
    return names[role];
}

const struct chat_template *chat_template_at(size_t i) {
    return i < N_TEMPLATES ? &templates[i] : NULL;
}

const struct chat_template *chat_template_by_name(const char *name) {
    for (size_t i = 0; i < N_TEMPLATES; i++)
        if (strcmp(templates[i].name, name) == 0) return &templates[i];
    return NULL;
}

const char *chat_template_name(const struct chat_template *t) {
    return t->name;
}

const char *chat_template_default_system(const struct chat_template *t) {
    return t->default_system;
}

bool chat_template_thinks(const struct chat_template *t) {
    return t->thinks != THINKS_NEVER;
}

bool chat_template_opens_thinking(const struct chat_template *t, const struct chat_options *o) {
    return t->thinks == THINKS_OPENED && o->generation_prompt;
}

/* -- the choice ---------------------------------------------------------------------------- */

/* Bytes of white space that `source` begins with; a newline may be written "\n". */
static size_t space_length(const char *source) {
    if (source[0] == '\\' && source[1] == 'n') return 2;
    return *source == ' ' || *source == '\n' || *source == '\r' || *source == '\t';
}

/* FNV-1a (Fowler, Noll, Vo) of the text without its white space. */
static uint64_t fingerprint_of(const char *source) {
    uint64_t hash = 0xCBF29CE484222325u;
    while (*source) {
        size_t space = space_length(source);
        source += space;
        if (space == 0) hash = (hash ^ (unsigned char)*source++) * 0x100000001B3u;
    }
    return hash;
}

/* Does `source` go on with `marker` (which has no white space) once white space is skipped? */
static bool goes_on_with(const char *source, const char *marker) {
    while (*marker) {
        for (size_t space; (space = space_length(source)) > 0;) source += space;
        if (*source++ != *marker++) return false;
    }
    return true;
}

static bool contains(const char *source, const char *marker) {
    if (!*marker) return true;
    for (; (source = strchr(source, *marker)) != NULL; source++)
        if (goes_on_with(source, marker)) return true;
    return false;
}

static const struct chat_template *find_known(uint64_t fingerprint) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].fingerprint == fingerprint) return &templates[known[i].id];
    return NULL;
}

static const struct chat_template *find_by_markers(const char *source) {
    for (size_t i = 0; i < sizeof markers / sizeof *markers; i++) {
        int n = 0;
        while (n < N_MARKERS && contains(source, markers[i].all[n])) n++;
        if (n == N_MARKERS) return &templates[markers[i].id];
    }
    return NULL;
}

static struct chat_template_choice choose_by_source(const char *source) {
    struct chat_template_choice choice = {0};
    uint64_t fingerprint = fingerprint_of(source);
    choice.chat = find_known(fingerprint);
    if (choice.chat) return choice;
    choice.chat = find_by_markers(source);
    if (choice.chat) {
        snprintf(
            choice.notice, sizeof choice.notice,
            err_text("the checkpoint's chat template (%016" PRIx64
                     ") is a changed %s; the published %s is used (--template chooses another)"),
            fingerprint, choice.chat->name, choice.chat->name);
        return choice;
    }
    choice.chat = &templates[ID_CHATML];
    choice.is_fallback = true;
    snprintf(choice.notice, sizeof choice.notice,
             err_text("the checkpoint's chat template (%016" PRIx64
                      ", %zu bytes) is not a known one; plain ChatML is used (--template chooses "
                      "another)"),
             fingerprint, strlen(source));
    return choice;
}

/* Qwen v1 has no Jinja text: its generation_config says whether it chats. */
static struct chat_template_choice choose_v1(const char *chat_format) {
    struct chat_template_choice choice = {0};
    if (chat_format && strcmp(chat_format, "chatml") == 0)
        choice.chat = &templates[ID_QWEN_V1];
    else if (!chat_format)
        snprintf(
            choice.notice, sizeof choice.notice,
            err_text(
                "the checkpoint names no chat_format: it completes raw text (--template qwen if "
                "it is a chat model)"));
    else if (strcmp(chat_format, "raw") != 0)
        snprintf(
            choice.notice, sizeof choice.notice,
            err_text(
                "the checkpoint's chat_format \"%.40s\" is not a known one: it completes raw text "
                "(--template qwen if it is a chat model)"),
            chat_format);
    return choice;
}

struct chat_template_choice chat_template_choose(const char *source, const char *model_type,
                                                 const char *chat_format) {
    if (source && *source) return choose_by_source(source);
    if (model_type && strcmp(model_type, "qwen") == 0) return choose_v1(chat_format);
    struct chat_template_choice choice = {0};
    snprintf(
        choice.notice, sizeof choice.notice,
        err_text(
            "the checkpoint has no chat template: it completes raw text (--template NAME makes it "
            "chat)"));
    return choice;
}

/* -- rendering ----------------------------------------------------------------------------- */

void chat_render_release(struct chat_render *r) {
    buf_release(&r->text);
    mem_free(r->spans);
    *r = (struct chat_render){0};
}

static int refuse(const struct chat_template *t, const char *what, struct err *err) {
    return err_set(err, ERR_OTHER, "the chat template %s has no place for %s", t->name,
                   err_text(what));
}

static int check_messages(const struct chat_template *t, const struct message *messages, size_t n,
                          const struct chat_options *options, struct err *err) {
    if (n == 0) return err_set(err, ERR_OTHER, "a conversation without messages has no prompt");
    if (options->n_tools > 0 && (t->tools == TOOLS_NONE || t->tools == TOOLS_DEEPSEEK))
        return refuse(t, ERR_TEXT("tool definitions"), err);
    for (size_t i = 0; i < n && t->tools == TOOLS_NONE; i++) {
        if (messages[i].role == ROLE_TOOL) return refuse(t, ERR_TEXT("tool results"), err);
        if (messages[i].n_calls > 0) return refuse(t, ERR_TEXT("tool calls"), err);
    }
    return 0;
}

int chat_template_render(const struct chat_template *t, const struct message *messages,
                         size_t n_messages, const struct chat_options *options,
                         struct chat_render *out, struct err *err) {
    static const struct chat_options none = {0};
    if (!options) options = &none;
    buf_clear(&out->text);
    out->n_spans = 0;
    if (check_messages(t, messages, n_messages, options, err) != 0) return -1;
    if (t->shape == SHAPE_DEEPSEEK)
        chat_render_deepseek(t, messages, n_messages, options, out);
    else
        chat_render_chatml(t, messages, n_messages, options, out);
    return out->text.failed ? err_memory(err, out->text.n, "a rendered conversation") : 0;
}

/* -- tokens -------------------------------------------------------------------------------- */

/* The control token of a span, -1 where the tokenizer has none. */
static int32_t control_id(const struct chat_render *r, const struct chat_span *span,
                          const struct tokenizer *tokenizer) {
    char name[64];
    size_t n = span->end - span->begin;
    if (!span->is_control || n >= sizeof name) return -1;
    memcpy(name, r->text.data + span->begin, n);
    name[n] = '\0';
    return tokenizer_find_added(tokenizer, name);
}

/*
 * Text goes to the tokenizer in runs. A control token that the tokenizer has not is part of the
 * run around it, as it would be for a tokenizer that looks for added tokens in the whole text;
 * two text spans side by side are two runs.
 */
int chat_render_encode(const struct chat_render *r, const struct tokenizer *tokenizer,
                       struct tokens *out, struct err *err) {
    size_t begin = 0, end = 0; /* the run so far */
    bool may_join = true;      /* the last span was no text of its own */
    for (size_t i = 0; i <= r->n_spans; i++) {
        const struct chat_span *span = i < r->n_spans ? &r->spans[i] : NULL;
        int32_t id = span ? control_id(r, span, tokenizer) : -1;
        bool joins = span && id < 0 && (may_join || span->is_control);
        if (!joins) {
            if (end > begin &&
                tokenizer_encode(tokenizer, r->text.data + begin, end - begin, out, err) != 0)
                return -1;
            if (!span) break;
            begin = id < 0 ? span->begin : span->end;
        }
        if (id >= 0 && tokens_add(out, id, err) != 0) return -1;
        end = span->end;
        may_join = span->is_control;
    }
    return 0;
}
