/*
 * A tokenizer while it is being made: what the loaders (tokenizer_json.c, tokenizer_tiktoken.c,
 * tokenizer_gguf.c, tokenizer_folder.c) share. The order is: added tokens, ordinary tokens,
 * merges, finish.
 */
#pragma once

#include "engine/text/bpe.h"
#include "engine/text/pretokenize.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocabulary.h"

#define TOKENIZER_MAX_FILE_BYTES ((size_t)256 << 20)

struct added_token {
    int32_t id;
    bool is_control;
};

struct tokenizer {
    struct vocabulary vocabulary; /* added tokens are in it, but not listed */
    struct bpe bpe;
    struct pretokenize_pattern *pattern;
    bool is_nfc;
    bool is_nfc_first;         /* before added tokens are looked for (Qwen v1), not between them */
    struct added_token *added; /* sorted by their bytes */
    size_t n_added, added_capacity;
    bool added_begins[256]; /* does an added token begin with this byte? */
    uint8_t *kinds;         /* [n_ids] enum token_kind */
};

enum token_kind { TOKEN_ORDINARY, TOKEN_ADDED, TOKEN_CONTROL };

struct tokenizer *tokenizer_new(struct err *err);

int tokenizer_put_added(struct tokenizer *t, int64_t id, const char *text, size_t n,
                        bool is_control, struct err *err);

/* An ordinary token, byte-level coded or as bytes. One that is an added token too is left out. */
int tokenizer_put_coded(struct tokenizer *t, int64_t id, const char *text, size_t n,
                        struct err *err);
int tokenizer_put_bytes(struct tokenizer *t, int64_t id, const char *bytes, size_t n,
                        struct err *err);

/* Merges in rank order, both sides byte-level coded; bpe_open() comes before the first.
 * The second form takes "left right". */
int tokenizer_put_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right,
                        size_t n_right, struct err *err);
int tokenizer_put_merge_line(struct tokenizer *t, const char *line, size_t n, struct err *err);

/* The rule that made the vocabulary, told from the tokens that it has. */
enum pretokenizer tokenizer_guess_rule(const struct tokenizer *t);

/* Checks the whole and makes it ready. */
int tokenizer_finish(struct tokenizer *t, enum pretokenizer rule, bool is_nfc, struct err *err);
