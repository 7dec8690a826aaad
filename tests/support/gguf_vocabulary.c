/* GGUF's tokenizer.ggml.* keys; the format: ggml's docs/gguf.md, version 2 and 3. */
#include "tests/support/gguf_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { METADATA_BYTES = 16 << 20, GGUF_STRING = 8, GGUF_ARRAY = 9 };

struct reader {
    const char *at, *end;
};

static void take(struct reader *r, void *out, size_t n) {
    if ((size_t)(r->end - r->at) < n) {
        fprintf(stderr, "the GGUF metadata is longer than the test reads\n");
        exit(1);
    }
    memcpy(out, r->at, n);
    r->at += n;
}

static uint64_t take_u64(struct reader *r) {
    uint64_t value;
    take(r, &value, sizeof value);
    return value;
}

static uint32_t take_u32(struct reader *r) {
    uint32_t value;
    take(r, &value, sizeof value);
    return value;
}

static struct gguf_string take_string(struct reader *r) {
    struct gguf_string s;
    s.n = take_u64(r);
    s.data = r->at;
    for (size_t i = 0; i < s.n; i++) take(r, &(char){0}, 1);
    return s;
}

static bool is_key(struct gguf_string key, const char *name) {
    return key.n == strlen(name) && memcmp(key.data, name, key.n) == 0;
}

static const struct gguf_string *take_strings(struct reader *r, uint64_t n) {
    struct gguf_string *strings = calloc(n + 1, sizeof *strings);
    for (uint64_t i = 0; i < n; i++) strings[i] = take_string(r);
    return strings;
}

static void take_array(struct reader *r, struct gguf_string key, struct tokenizer_gguf *gguf) {
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint32_t type = take_u32(r);
    uint64_t n = take_u64(r);
    if (is_key(key, "tokenizer.ggml.tokens")) {
        gguf->tokens = take_strings(r, n);
        gguf->n_tokens = n;
    } else if (is_key(key, "tokenizer.ggml.merges")) {
        gguf->merges = take_strings(r, n);
        gguf->n_merges = n;
    } else if (is_key(key, "tokenizer.ggml.token_type")) {
        int32_t *types = calloc(n + 1, sizeof *types);
        for (uint64_t i = 0; i < n; i++) types[i] = (int32_t)take_u32(r);
        gguf->types = types;
    } else if (type == GGUF_STRING) {
        for (uint64_t i = 0; i < n; i++) take_string(r);
    } else {
        for (uint64_t i = 0; i < n * sizes[type]; i++) take(r, &(char){0}, 1);
    }
}

static void take_value(struct reader *r, struct gguf_string key, struct tokenizer_gguf *gguf) {
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    uint32_t type = take_u32(r);
    char skipped[8];
    if (type == GGUF_ARRAY) {
        take_array(r, key, gguf);
    } else if (type == GGUF_STRING) {
        struct gguf_string value = take_string(r);
        if (is_key(key, "tokenizer.ggml.model")) gguf->model = strndup(value.data, value.n);
        if (is_key(key, "tokenizer.ggml.pre")) gguf->pre = strndup(value.data, value.n);
    } else {
        take(r, skipped, sizes[type]);
    }
}

void gguf_vocabulary_read(struct gguf_vocabulary *v, const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(1);
    }
    *v = (struct gguf_vocabulary){.file = malloc(METADATA_BYTES)};
    v->n = fread(v->file, 1, METADATA_BYTES, file);
    fclose(file);
    struct reader r = {v->file + 8, v->file + v->n}; /* past magic and version */
    take_u64(&r);                                    /* tensors */
    for (uint64_t n = take_u64(&r); n > 0; n--) {
        struct gguf_string key = take_string(&r);
        take_value(&r, key, &v->gguf);
    }
}

static void drop(const void *p) {
    void *owned;
    memcpy(&owned, &p, sizeof owned);
    free(owned);
}

void gguf_vocabulary_release(struct gguf_vocabulary *v) {
    drop(v->gguf.tokens);
    drop(v->gguf.merges);
    drop(v->gguf.types);
    drop(v->gguf.model);
    drop(v->gguf.pre);
    free(v->file);
    *v = (struct gguf_vocabulary){0};
}
