/* A vocabulary as GGUF metadata stores it (tokenizer.ggml.*). */
#include "engine/text/tokenizer_build.h"

#include <stdio.h>
#include <string.h>

enum gguf_token_type {
    GGUF_NORMAL = 1,
    GGUF_UNKNOWN,
    GGUF_CONTROL,
    GGUF_USER,
    GGUF_UNUSED,
    GGUF_BYTE
};

/* tokenizer.ggml.pre, as converters write it. */
static const struct pre_row {
    const char *name;
    enum pretokenizer rule;
    bool is_whole_first; /* tokenizer.json's ignore_merges */
} known_pre[] = {
    {"qwen2", PRETOKENIZER_QWEN2, false},     {"deepseek-r1-qwen", PRETOKENIZER_QWEN2, false},
    {"smollm", PRETOKENIZER_SMOLLM, false},   {"gpt-2", PRETOKENIZER_GPT2, false},
    {"llama-bpe", PRETOKENIZER_LLAMA3, true}, {"llama3", PRETOKENIZER_LLAMA3, true},
    {"llama-v3", PRETOKENIZER_LLAMA3, true},
};

/* NULL where the name is not known. */
static const struct pre_row *find_pre(const char *name) {
    for (size_t i = 0; i < sizeof known_pre / sizeof known_pre[0]; i++) {
        if (strcmp(known_pre[i].name, name) == 0) return &known_pre[i];
    }
    return NULL;
}

/* Converters of 2023 called the padding rows of the embedding user-defined tokens "[PAD<id>]". */
static bool is_padding(size_t id, struct gguf_string token) {
    char name[32];
    int n = snprintf(name, sizeof name, "[PAD%zu]", id);
    return token.n == (size_t)n && memcmp(token.data, name, token.n) == 0;
}

/* One token, in the pass over added tokens or in that over ordinary ones. */
static int put_token(struct tokenizer *t, size_t id, struct gguf_string token, int32_t type,
                     bool is_pass_of_added, struct err *err) {
    bool is_added = type >= GGUF_UNKNOWN && type <= GGUF_USER;
    if (type < GGUF_NORMAL || type > GGUF_BYTE)
        return err_set(err, ERR_MODEL, "token %zu has type %d; types go from 1 to 6", id, type);
    if (type == GGUF_UNUSED || (type == GGUF_USER && is_padding(id, token))) return 0;
    if (is_added != is_pass_of_added) return 0;
    return is_added
               ? tokenizer_put_added(t, (int64_t)id, token.data, token.n, type != GGUF_USER, err)
               : tokenizer_put_coded(t, (int64_t)id, token.data, token.n, err);
}

static int put_tokens(struct tokenizer *t, const struct tokenizer_gguf *gguf, struct err *err) {
    size_t n_bytes = 0;
    for (size_t i = 0; i < gguf->n_tokens; i++) n_bytes += gguf->tokens[i].n;
    if (vocabulary_reserve(&t->vocabulary, gguf->n_tokens, n_bytes, err) != 0) return -1;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < gguf->n_tokens; i++) {
            int32_t type = gguf->types ? gguf->types[i] : GGUF_NORMAL;
            if (put_token(t, i, gguf->tokens[i], type, pass == 0, err) != 0) return -1;
        }
    }
    return 0;
}

static int fill(struct tokenizer *t, const struct tokenizer_gguf *gguf, struct err *err) {
    const struct pre_row *pre = gguf->pre ? find_pre(gguf->pre) : NULL;
    if (!gguf->model || strcmp(gguf->model, "gpt2") != 0)
        return err_set(err, ERR_MODEL,
                       "the model \"%s\" is not supported, only \"gpt2\" (byte-level BPE)",
                       gguf->model ? gguf->model : "");
    if (gguf->pre && !pre && strcmp(gguf->pre, "default") != 0)
        return err_set(err, ERR_MODEL, "the pre-tokenizer \"%s\" is not supported", gguf->pre);
    if (put_tokens(t, gguf, err) != 0) return -1;
    enum pretokenizer rule = pre ? pre->rule : tokenizer_guess_rule(t);
    bool is_whole_first = pre ? pre->is_whole_first : rule == PRETOKENIZER_LLAMA3;
    if (bpe_open(&t->bpe, &t->vocabulary, gguf->n_merges, is_whole_first, err) != 0) return -1;
    for (size_t i = 0; i < gguf->n_merges; i++) {
        if (tokenizer_put_merge_line(t, gguf->merges[i].data, gguf->merges[i].n, err) != 0)
            return -1;
    }
    return tokenizer_finish(t, rule, rule == PRETOKENIZER_QWEN2, err);
}

int tokenizer_open_gguf(struct tokenizer **out, const struct tokenizer_gguf *gguf,
                        struct err *err) {
    struct tokenizer *t = tokenizer_new(err);
    if (!t) return -1;
    if (fill(t, gguf, err) != 0) {
        tokenizer_close(t);
        return err_within(err, "tokenizer.ggml");
    }
    *out = t;
    return 0;
}
