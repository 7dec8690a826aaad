/*
 * Text to token ids and back: byte-level BPE over a vocabulary of byte strings. Immutable once
 * opened, so any thread may use it.
 *
 * text -> [added tokens split out] -> NFC where the tokenizer says so -> pre-tokenizer pattern
 *      -> per piece: merge the adjacent pair of the lowest rank until none is left -> ids
 *
 * Sources: Sennrich et al. (arXiv 1508.07909); the file formats of Hugging Face tokenizers,
 * OpenAI's tiktoken and GGUF.
 */
#pragma once

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

struct tokens {
    int32_t *ids;
    size_t n, capacity;
};
void tokens_release(struct tokens *tokens);
int tokens_add(struct tokens *tokens, int32_t id, struct err *err);

/* Rules of the text before BPE, by the names GGUF gives them. */
enum pretokenizer {
    PRETOKENIZER_QWEN2,  /* Qwen v1 to 3: digits one by one */
    PRETOKENIZER_SMOLLM, /* the starter's: digits split off, then GPT-2's pattern */
    PRETOKENIZER_GPT2,
    PRETOKENIZER_LLAMA3, /* digits in groups of up to three */
    N_PRETOKENIZERS
};

/* A folder with tokenizer.json, vocab.json + merges.txt, or qwen.tiktoken (in this order). */
int tokenizer_open_folder(struct tokenizer **out, const char *folder, struct err *err);

/* One file's bytes; `name` is for messages. */
int tokenizer_open_json(struct tokenizer **out, const char *text, size_t n, const char *name,
                        struct err *err);
int tokenizer_open_tiktoken(struct tokenizer **out, const char *text, size_t n, const char *name,
                            struct err *err);

/* GGUF: strings as stored (byte-to-unicode coded), not owned. */
struct gguf_string {
    const char *data;
    size_t n;
};
struct tokenizer_gguf {
    const char *model; /* tokenizer.ggml.model; only "gpt2" is byte-level BPE */
    const char *pre;   /* tokenizer.ggml.pre; NULL: by the vocabulary */
    const struct gguf_string *tokens;
    /* 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; NULL: all normal */
    const int32_t *types;
    size_t n_tokens;
    const struct gguf_string *merges; /* "left right" in rank order */
    size_t n_merges;
};
int tokenizer_open_gguf(struct tokenizer **out, const struct tokenizer_gguf *gguf, struct err *err);

void tokenizer_close(struct tokenizer *t);

/* Appends the ids of text[0..n) (any bytes). Never yields an added or control token. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, struct tokens *out,
                     struct err *err);

/* The same, but added tokens written in the text are recognised: for --raw text and templates
 * that we wrote ourselves; never for what a user or a file says. */
int tokenizer_encode_with_added(const struct tokenizer *t, const char *text, size_t n,
                                struct tokens *out, struct err *err);

int32_t tokenizer_n_ids(const struct tokenizer *t); /* ids are 0 .. n-1 (holes are possible) */

/* The bytes of one token, and how many; NULL for a hole or out of range. Not NUL-terminated. */
const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n);

/* The added token written exactly so ("<|im_end|>"), or -1. */
int32_t tokenizer_find_added(const struct tokenizer *t, const char *text);

bool tokenizer_is_added(const struct tokenizer *t, int32_t id);   /* any added token */
bool tokenizer_is_control(const struct tokenizer *t, int32_t id); /* "special": not part of text */

/* Appends the bytes of ids[0..n); control tokens are left out unless wanted. */
void tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool with_control,
                      struct buf *out);
