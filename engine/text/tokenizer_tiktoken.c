/*
 * qwen.tiktoken of Qwen v1: lines "base64(token) rank\n", the ranks 0, 1, … each once. The control
 * tokens are not in the file: they follow the ranks, as in QwenLM/Qwen's tokenization_qwen.py.
 */
#include "engine/text/tokenizer_build.h"

#include <stdio.h>
#include <string.h>

enum { N_EXTRA = 205, RANK_DIGITS = 7 };

/* 0 to 63, or -1. */
static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* RFC 4648 with padding, strictly; returns the bytes written to `out` (3 n / 4 fit), or -1. */
static long base64_decode(const char *text, size_t n, char *out) {
    if (n == 0 || n % 4 != 0) return -1;
    size_t padding = text[n - 1] != '=' ? 0 : text[n - 2] != '=' ? 1 : 2;
    uint32_t bits = 0;
    int n_bits = 0;
    long length = 0;
    for (size_t i = 0; i < n - padding; i++) {
        int value = base64_value(text[i]);
        if (value < 0) return -1;
        bits = bits << 6 | (uint32_t)value;
        n_bits += 6;
        if (n_bits < 8) continue;
        n_bits -= 8;
        out[length++] = (char)(bits >> n_bits & 0xFF);
    }
    return (bits & ((1u << n_bits) - 1)) == 0 ? length : -1;
}

/* Decimal digits without sign or leading zeros, or -1. */
static long parse_rank(const char *text, size_t n) {
    long rank = 0;
    if (n == 0 || n > RANK_DIGITS || (n > 1 && text[0] == '0')) return -1;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        rank = rank * 10 + (text[i] - '0');
    }
    return rank;
}

static int put_line(struct tokenizer *t, const char *line, size_t n, struct err *err) {
    char bytes[VOCABULARY_MAX_TOKEN_BYTES];
    const char *space = memchr(line, ' ', n);
    if (!space) return err_set(err, ERR_MODEL, "no space; expected \"base64 rank\"");
    size_t n_token = (size_t)(space - line);
    long n_bytes = n_token / 4 * 3 <= sizeof bytes ? base64_decode(line, n_token, bytes) : -1;
    if (n_bytes < 0)
        return err_set(err, ERR_MODEL, "\"%.*s\" is not base64 of 1 to %zu bytes",
                       n_token < 64 ? (int)n_token : 64, line, sizeof bytes);
    size_t n_rank = n - n_token - 1;
    long rank = parse_rank(space + 1, n_rank);
    if (rank < 0)
        return err_set(err, ERR_MODEL, "\"%.*s\" is not a rank", n_rank < 64 ? (int)n_rank : 64,
                       space + 1);
    return tokenizer_put_bytes(t, rank, bytes, (size_t)n_bytes, err);
}

static int put_lines(struct tokenizer *t, const char *text, size_t n, size_t *n_lines,
                     struct err *err) {
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t length = (end ? (size_t)(end - text) : n) - at;
        ++*n_lines;
        if (!end) return err_set(err, ERR_MODEL, "line %zu has no end: the file is cut", *n_lines);
        if (put_line(t, text + at, length, err) != 0) return err_within(err, "line %zu", *n_lines);
        at += length + 1;
    }
    return 0;
}

static int put_control_tokens(struct tokenizer *t, struct err *err) {
    static const char *const first[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    char name[32];
    int64_t id = (int64_t)t->vocabulary.n_ids;
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        if (tokenizer_put_added(t, id++, first[i], strlen(first[i]), true, err) != 0) return -1;
    }
    for (int i = 0; i < N_EXTRA; i++) {
        int n = snprintf(name, sizeof name, "<|extra_%d|>", i);
        if (tokenizer_put_added(t, id++, name, (size_t)n, true, err) != 0) return -1;
    }
    return 0;
}

/*
 * The merges that the ranks stand for: each token is the merge of the two that the merges of lower
 * ranks leave of its bytes. Where that holds for all tokens, merging these pairs gives the ids of
 * tiktoken, which merges any two tokens that are a token together: inside the bytes of a token no
 * merge goes another way than when it was split here, unless one crosses its border.
 */
static int put_merges(struct tokenizer *t, size_t n_ranks, struct err *err) {
    struct bpe_scratch scratch = {0};
    struct tokens parts = {0};
    int rc = bpe_open(&t->bpe, &t->vocabulary, n_ranks, true, err);
    for (size_t id = 0; rc == 0 && id < n_ranks; id++) {
        size_t n = 0;
        const char *bytes = vocabulary_bytes(&t->vocabulary, (int32_t)id, &n);
        if (n < 2) continue;
        parts.n = 0;
        rc = bpe_merge(&t->bpe, &scratch, bytes, n, &parts, err);
        if (rc == 0 && parts.n != 2)
            rc = err_set(err, ERR_MODEL, "rank %zu is not the merge of two lower ranks", id);
        if (rc == 0) rc = bpe_add_merge(&t->bpe, parts.ids[0], parts.ids[1], (int32_t)id, err);
    }
    bpe_scratch_release(&scratch);
    tokens_release(&parts);
    return rc;
}

static int check_bytes(const struct tokenizer *t, struct err *err) {
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        if (vocabulary_find(&t->vocabulary, &byte, 1) < 0)
            return err_set(err, ERR_MODEL, "no token for the byte 0x%02X", i);
    }
    return 0;
}

static int fill(struct tokenizer *t, const char *text, size_t n, struct err *err) {
    size_t n_lines = 0, n_ends = 0;
    if (n > TOKENIZER_MAX_FILE_BYTES)
        return err_set(err, ERR_MODEL, "larger than %zu bytes", TOKENIZER_MAX_FILE_BYTES);
    for (size_t i = 0; i < n; i++) n_ends += text[i] == '\n';
    if (vocabulary_reserve(&t->vocabulary, n_ends + N_EXTRA + 3, n / 2, err) != 0 ||
        put_lines(t, text, n, &n_lines, err) != 0)
        return -1;
    if (n_lines != t->vocabulary.n_ids)
        return err_set(err, ERR_MODEL, "%zu ranks, but the highest is %zu", n_lines,
                       t->vocabulary.n_ids - 1);
    if (check_bytes(t, err) != 0 || put_control_tokens(t, err) != 0 ||
        put_merges(t, n_lines, err) != 0)
        return -1;
    t->is_nfc_first = true;
    return tokenizer_finish(t, PRETOKENIZER_QWEN2, true, err);
}

int tokenizer_open_tiktoken(struct tokenizer **out, const char *text, size_t n, const char *name,
                            struct err *err) {
    struct tokenizer *t = tokenizer_new(err);
    if (!t) return -1;
    if (fill(t, text, n, err) != 0) {
        tokenizer_close(t);
        return err_within(err, "%s", name);
    }
    *out = t;
    return 0;
}
