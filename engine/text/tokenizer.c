/* Encoding and decoding with a finished tokenizer. */
#include "engine/text/tokenizer.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/text/nfc.h"
#include "engine/text/tokenizer_build.h"

#include <string.h>

void tokens_release(struct tokens *tokens) {
    mem_free(tokens->ids);
    *tokens = (struct tokens){0};
}

int tokens_add(struct tokens *tokens, int32_t id, struct err *err) {
    if (tokens->n == tokens->capacity &&
        mem_grow((void **)&tokens->ids, &tokens->capacity, tokens->n + 1, sizeof id) != 0)
        return err_memory(err, (tokens->n + 1) * sizeof id, "tokens");
    tokens->ids[tokens->n++] = id;
    return 0;
}

int32_t tokenizer_n_ids(const struct tokenizer *t) {
    return (int32_t)t->vocabulary.n_ids;
}

const char *tokenizer_bytes(const struct tokenizer *t, int32_t id, size_t *n) {
    return vocabulary_bytes(&t->vocabulary, id, n);
}

static enum token_kind kind_of(const struct tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->vocabulary.n_ids ? (enum token_kind)t->kinds[id]
                                                       : TOKEN_ORDINARY;
}

bool tokenizer_is_added(const struct tokenizer *t, int32_t id) {
    return kind_of(t, id) != TOKEN_ORDINARY;
}

bool tokenizer_is_control(const struct tokenizer *t, int32_t id) {
    return kind_of(t, id) == TOKEN_CONTROL;
}

/*
 * The longest added token at the beginning of text[0..n): its id and *length, or -1. The sorted
 * tokens that agree with the text so far are [low, high); each byte narrows them.
 */
static int32_t match_added(const struct tokenizer *t, const char *text, size_t n, size_t *length) {
    int32_t found = -1;
    size_t low = 0, high = t->n_added, n_token = 0;
    for (size_t at = 0; at < n; at++) {
        unsigned char wanted = (unsigned char)text[at];
        for (size_t end = high; low < end;) { /* past the tokens whose byte `at` is smaller */
            size_t middle = (low + end) / 2;
            const char *bytes = vocabulary_bytes(&t->vocabulary, t->added[middle].id, &n_token);
            if (at >= n_token || (unsigned char)bytes[at] < wanted) {
                low = middle + 1;
            } else {
                end = middle;
            }
        }
        for (size_t begin = low; begin < high;) { /* and before those where it is larger */
            size_t middle = (begin + high) / 2;
            const char *bytes = vocabulary_bytes(&t->vocabulary, t->added[middle].id, &n_token);
            if ((unsigned char)bytes[at] > wanted) {
                high = middle;
            } else {
                begin = middle + 1;
            }
        }
        if (low == high) break;
        vocabulary_bytes(&t->vocabulary, t->added[low].id, &n_token);
        if (n_token != at + 1) continue;
        found = t->added[low].id;
        *length = n_token;
    }
    return found;
}

int32_t tokenizer_find_added(const struct tokenizer *t, const char *text) {
    size_t length = 0, n = strlen(text);
    int32_t id = match_added(t, text, n, &length);
    return length == n ? id : -1;
}

/* One call of encode. */
struct encoder {
    const struct tokenizer *tokenizer;
    struct pretokenize_scan scan;
    struct bpe_scratch scratch;
    struct buf normal; /* NFC of the text, where it differs */
    struct tokens *out;
};

static int encode_valid(struct encoder *e, const char *text, size_t n, struct err *err) {
    const struct tokenizer *t = e->tokenizer;
    size_t begin, end;
    int more;
    buf_clear(&e->normal);
    if (t->is_nfc && nfc_normalize(text, n, &e->normal)) {
        text = e->normal.data;
        n = e->normal.n;
    }
    if (e->normal.failed) return err_memory(err, n, "NFC");
    pretokenize_scan_set(&e->scan, text, n);
    while ((more = pretokenize_next(&e->scan, &begin, &end, err)) > 0) {
        if (bpe_encode(&t->bpe, &e->scratch, text + begin, end - begin, e->out, err) != 0)
            return -1;
    }
    return more;
}

/* How much of text[0..n) from its beginning is valid UTF-8. */
static size_t valid_prefix(const char *text, size_t n) {
    size_t at = 0;
    while (at < n) {
        uint32_t c;
        if ((unsigned char)text[at] < 0x80) {
            at++;
            continue;
        }
        size_t length = utf8_decode(text + at, n - at, &c);
        if (c == UTF8_BAD) break;
        at += length;
    }
    return at;
}

/* A byte that is not of a valid character is a piece of its own. */
static int encode_plain(struct encoder *e, const char *text, size_t n, struct err *err) {
    for (size_t at = 0; at < n;) {
        size_t length = valid_prefix(text + at, n - at);
        if (length && encode_valid(e, text + at, length, err) != 0) return -1;
        at += length;
        if (at == n) break;
        int32_t id = e->tokenizer->bpe.byte_ids[(unsigned char)text[at++]];
        if (id >= 0 && tokens_add(e->out, id, err) != 0) return -1;
    }
    return 0;
}

static int encode_added(struct encoder *e, const char *text, size_t n, struct err *err) {
    const struct tokenizer *t = e->tokenizer;
    size_t begin = 0, length = 0; /* text[begin..at) is plain */
    for (size_t at = 0; at < n;) {
        int32_t id = t->added_begins[(unsigned char)text[at]]
                         ? match_added(t, text + at, n - at, &length)
                         : -1;
        if (id < 0) {
            at++;
            continue;
        }
        if (encode_plain(e, text + begin, at - begin, err) != 0 || tokens_add(e->out, id, err) != 0)
            return -1;
        begin = at += length;
    }
    return encode_plain(e, text + begin, n - begin, err);
}

static int encode(const struct tokenizer *t, const char *text, size_t n, bool with_added,
                  struct tokens *out, struct err *err) {
    struct encoder e = {.tokenizer = t, .out = out};
    struct buf normal = {0};
    size_t before = out->n;
    if (pretokenize_scan_open(&e.scan, t->pattern, err) != 0) return -1;
    if (with_added && t->is_nfc_first && utf8_valid(text, n) && nfc_normalize(text, n, &normal)) {
        text = normal.data;
        n = normal.n;
    }
    int rc = normal.failed ? err_memory(err, n, "NFC")
             : with_added  ? encode_added(&e, text, n, err)
                           : encode_plain(&e, text, n, err);
    if (rc != 0) out->n = before;
    buf_release(&normal);
    pretokenize_scan_close(&e.scan);
    bpe_scratch_release(&e.scratch);
    buf_release(&e.normal);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, struct tokens *out,
                     struct err *err) {
    return encode(t, text, n, false, out, err);
}

int tokenizer_encode_with_added(const struct tokenizer *t, const char *text, size_t n,
                                struct tokens *out, struct err *err) {
    return encode(t, text, n, true, out, err);
}

void tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n, bool with_control,
                      struct buf *out) {
    for (size_t i = 0; i < n; i++) {
        size_t n_bytes;
        const char *bytes = tokenizer_bytes(t, ids[i], &n_bytes);
        if (bytes && (with_control || !tokenizer_is_control(t, ids[i])))
            buf_add(out, bytes, n_bytes);
    }
}
