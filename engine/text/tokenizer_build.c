/* A tokenizer while it is being made. */
#include "engine/text/tokenizer_build.h"

#include "engine/base/mem.h"
#include "engine/text/byte_level.h"

#include <stdlib.h>
#include <string.h>

/* For messages: as much of a token as is worth showing. */
#define SHOWN(n) ((n) < 64 ? (int)(n) : 64)

struct tokenizer *tokenizer_new(struct err *err) {
    struct tokenizer *t = mem_zalloc(1, sizeof *t);
    if (!t) err_memory(err, sizeof *t, "tokenizer");
    return t;
}

void tokenizer_close(struct tokenizer *t) {
    if (!t) return;
    vocabulary_release(&t->vocabulary);
    bpe_release(&t->bpe);
    pretokenize_close(t->pattern);
    mem_free(t->added);
    mem_free(t->kinds);
    mem_free(t);
}

int tokenizer_put_added(struct tokenizer *t, int64_t id, const char *text, size_t n,
                        bool is_control, struct err *err) {
    if (vocabulary_add(&t->vocabulary, id, text, n, err) != 0) return -1;
    if (mem_grow((void **)&t->added, &t->added_capacity, t->n_added + 1, sizeof *t->added) != 0)
        return err_memory(err, (t->n_added + 1) * sizeof *t->added, "added tokens");
    t->added[t->n_added++] = (struct added_token){(int32_t)id, is_control};
    return 0;
}

int tokenizer_put_coded(struct tokenizer *t, int64_t id, const char *text, size_t n,
                        struct err *err) {
    char bytes[VOCABULARY_MAX_TOKEN_BYTES];
    size_t n_known;
    const char *known =
        id < INT32_MAX ? vocabulary_bytes(&t->vocabulary, (int32_t)id, &n_known) : NULL;
    if (known && n_known == n && memcmp(known, text, n) == 0 &&
        !vocabulary_is_listed(&t->vocabulary, (int32_t)id))
        return 0; /* an added token */
    long n_bytes = n <= sizeof bytes ? byte_level_decode(text, n, bytes) : -1;
    if (n_bytes < 0)
        return err_set(err, ERR_MODEL, "token %lld \"%.*s\" is not byte-level coded", (long long)id,
                       SHOWN(n), text);
    return tokenizer_put_bytes(t, id, bytes, (size_t)n_bytes, err);
}

int tokenizer_put_bytes(struct tokenizer *t, int64_t id, const char *bytes, size_t n,
                        struct err *err) {
    if (vocabulary_add(&t->vocabulary, id, bytes, n, err) != 0) return -1;
    return vocabulary_list(&t->vocabulary, (int32_t)id, err);
}

/* The id of the joined token: mostly the one after the last merge's, else by search. */
static int32_t find_merged(const struct tokenizer *t, const char *bytes, size_t n) {
    const struct bpe *b = &t->bpe;
    size_t n_next;
    int32_t next = b->n_merges ? b->merged[b->n_merges - 1] + 1 : 0;
    const char *next_bytes = vocabulary_bytes(&t->vocabulary, next, &n_next);
    if (next_bytes && n_next == n && memcmp(next_bytes, bytes, n) == 0 &&
        vocabulary_is_listed(&t->vocabulary, next))
        return next;
    return vocabulary_find(&t->vocabulary, bytes, n);
}

int tokenizer_put_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right,
                        size_t n_right, struct err *err) {
    char bytes[2 * VOCABULARY_MAX_TOKEN_BYTES];
    const char *wrong = "is too long";
    if (n_left <= VOCABULARY_MAX_TOKEN_BYTES && n_right <= VOCABULARY_MAX_TOKEN_BYTES) {
        long n = byte_level_decode(left, n_left, bytes);
        long n_more = n > 0 ? byte_level_decode(right, n_right, bytes + n) : -1;
        wrong = "is not byte-level coded";
        if (n_more > 0) {
            int32_t left_id = vocabulary_find(&t->vocabulary, bytes, (size_t)n);
            int32_t right_id = vocabulary_find(&t->vocabulary, bytes + n, (size_t)n_more);
            int32_t merged = find_merged(t, bytes, (size_t)(n + n_more));
            if (left_id >= 0 && right_id >= 0 && merged >= 0)
                return bpe_add_merge(&t->bpe, left_id, right_id, merged, err);
            wrong = left_id < 0    ? "has a left side that is not a token"
                    : right_id < 0 ? "has a right side that is not a token"
                                   : "has a result that is not a token";
        }
    }
    return err_set(err, ERR_MODEL, "merge %zu \"%.*s %.*s\" %s", t->bpe.n_merges, SHOWN(n_left),
                   left, SHOWN(n_right), right, wrong);
}

int tokenizer_put_merge_line(struct tokenizer *t, const char *line, size_t n, struct err *err) {
    const char *space = memchr(line, ' ', n);
    if (!space)
        return err_set(err, ERR_MODEL, "merge %zu \"%.*s\" is not two tokens with a space between",
                       t->bpe.n_merges, SHOWN(n), line);
    size_t n_left = (size_t)(space - line);
    return tokenizer_put_merge(t, line, n_left, space + 1, n - n_left - 1, err);
}

enum pretokenizer tokenizer_guess_rule(const struct tokenizer *t) {
    /* Can a letter follow punctuation in one token? Can digits stand together? */
    bool joins_letters = vocabulary_find(&t->vocabulary, "(self", 5) >= 0 ||
                         vocabulary_find(&t->vocabulary, ".com", 4) >= 0;
    bool joins_digits = vocabulary_find(&t->vocabulary, "00", 2) >= 0 ||
                        vocabulary_find(&t->vocabulary, "10", 2) >= 0;
    if (joins_letters) return joins_digits ? PRETOKENIZER_LLAMA3 : PRETOKENIZER_QWEN2;
    return joins_digits ? PRETOKENIZER_GPT2 : PRETOKENIZER_SMOLLM;
}

/*
 * Every byte of UTF-8 text in the first four planes must be a token. Bytes that occur nowhere
 * else may be missing: the starter's vocabulary lacks some control characters and the lead bytes
 * of unassigned planes, which its reference tokenizer leaves out as well.
 */
static int check_bytes(const struct tokenizer *t, struct err *err) {
    for (int i = 0; i < 256; i++) {
        bool is_rare =
            (i < 0x20 && i != '\n' && i != '\t') || i == 0x7F || i == 0xC0 || i == 0xC1 || i > 0xF0;
        if (!is_rare && t->bpe.byte_ids[i] < 0)
            return err_set(err, ERR_MODEL, "the vocabulary has no token for the byte 0x%02X", i);
    }
    return 0;
}

static int compare_bytes(const struct vocabulary *v, int32_t a, int32_t b) {
    size_t n_a = 0, n_b = 0;
    const char *bytes_a = vocabulary_bytes(v, a, &n_a), *bytes_b = vocabulary_bytes(v, b, &n_b);
    int order = memcmp(bytes_a, bytes_b, n_a < n_b ? n_a : n_b);
    return order ? order : (n_a > n_b) - (n_a < n_b);
}

static int compare_added(const void *a, const void *b, void *vocabulary) {
    const struct added_token *left = a, *right = b;
    return compare_bytes(vocabulary, left->id, right->id);
}

static int finish_added(struct tokenizer *t, struct err *err) {
    t->kinds = mem_zalloc(t->vocabulary.n_ids, 1);
    if (!t->kinds) return err_memory(err, t->vocabulary.n_ids, "tokenizer");
    if (t->n_added == 0) return 0;
    qsort_r(t->added, t->n_added, sizeof *t->added, compare_added, &t->vocabulary);
    for (size_t i = 0; i < t->n_added; i++) {
        struct added_token token = t->added[i];
        size_t n = 0;
        const char *bytes = vocabulary_bytes(&t->vocabulary, token.id, &n);
        if (i > 0 && compare_added(&token, &t->added[i - 1], &t->vocabulary) == 0)
            return err_set(err, ERR_MODEL, "added tokens %d and %d have the same text \"%.*s\"",
                           t->added[i - 1].id, token.id, SHOWN(n), bytes);
        t->added_begins[(unsigned char)bytes[0]] = true;
        t->kinds[token.id] = token.is_control ? TOKEN_CONTROL : TOKEN_ADDED;
    }
    return 0;
}

int tokenizer_finish(struct tokenizer *t, enum pretokenizer rule, bool is_nfc, struct err *err) {
    t->is_nfc = is_nfc;
    if (check_bytes(t, err) != 0 || finish_added(t, err) != 0) return -1;
    return pretokenize_open(&t->pattern, rule, err);
}
