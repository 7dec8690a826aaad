/* The tokenizer of a checkpoint folder, whichever files it has it in. */
#include "engine/base/io.h"
#include "engine/text/tokenizer_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PATH_BYTES = 4096 };

/* Reads folder/name: 1, 0 where there is none, -1. `path` gets its path. */
static int read_file(const char *folder, const char *name, char path[MAX_PATH_BYTES],
                     struct buf *out, struct err *err) {
    if (snprintf(path, MAX_PATH_BYTES, "%s/%s", folder, name) >= MAX_PATH_BYTES)
        return err_set(err, ERR_MODEL, "the path of %s is too long", name);
    buf_clear(out);
    if (!io_exists(path)) return 0;
    return io_read_file(path, TOKENIZER_MAX_FILE_BYTES, out, err) == 0 ? 1 : -1;
}

/* tokenizer_config.json: {"added_tokens_decoder": {"151643": {"content": …}, …}}. */
static int put_decoder(struct tokenizer *t, const cJSON *config, struct err *err) {
    const cJSON *decoder = json_get(config, "added_tokens_decoder");
    for (const cJSON *token = decoder ? decoder->child : NULL; token; token = token->next) {
        char *end = NULL;
        const char *key = token->string;
        long id = key && key[0] >= '0' && key[0] <= '9' ? strtol(key, &end, 10) : -1;
        if (id < 0 || *end != '\0' || id >= VOCABULARY_MAX_IDS)
            return err_set(err, ERR_MODEL, "added_tokens_decoder: \"%s\" is not a token id",
                           key ? key : "");
        if (tokenizer_json_put_added(t, id, token, err) != 0) return -1;
    }
    return 0;
}

/* Where no file names them: the control tokens that all Qwen models have, behind the vocabulary. */
static int put_default_added(struct tokenizer *t, const cJSON *vocabulary, struct err *err) {
    static const char *const names[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    int64_t id = cJSON_GetArraySize(vocabulary);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (tokenizer_put_added(t, id++, names[i], strlen(names[i]), true, err) != 0) return -1;
    }
    return 0;
}

static int put_added(struct tokenizer *t, const char *folder, const cJSON *vocabulary,
                     struct err *err) {
    char path[MAX_PATH_BYTES];
    struct buf text = {0};
    int rc = read_file(folder, "tokenizer_config.json", path, &text, err);
    if (rc > 0) {
        cJSON *config = tokenizer_json_parse(text.data, text.n, err);
        rc = config ? put_decoder(t, config, err) : -1;
        cJSON_Delete(config);
        if (rc != 0) err_within(err, "%s", path);
    }
    buf_release(&text);
    return rc == 0 && t->n_added == 0 ? put_default_added(t, vocabulary, err) : rc;
}

/* Lines "left right"; only the first may be a comment, as merges begin with '#' too. */
static int put_merges(struct tokenizer *t, const char *text, size_t n, struct err *err) {
    size_t n_lines = 0, at = 0;
    for (size_t i = 0; i < n; i++) n_lines += text[i] == '\n';
    if (bpe_open(&t->bpe, &t->vocabulary, n_lines + 1, false, err) != 0) return -1;
    while (at < n) {
        const char *line = text + at, *end = memchr(line, '\n', n - at);
        size_t length = end ? (size_t)(end - line) : n - at;
        bool is_comment = at == 0 && length >= 8 && memcmp(line, "#version", 8) == 0;
        at += length + 1;
        if (!is_comment && tokenizer_put_merge_line(t, line, length, err) != 0) return -1;
    }
    return 0;
}

static int fill(struct tokenizer *t, const char *folder, const char *vocab_path,
                const struct buf *vocab, struct err *err) {
    char path[MAX_PATH_BYTES];
    struct buf merges = {0};
    cJSON *root = tokenizer_json_parse(vocab->data, vocab->n, err);
    int rc = root && cJSON_IsObject(root) ? 0 : -1;
    if (root && rc != 0) err_set(err, ERR_MODEL, "not an object of tokens and ids");
    if (rc == 0)
        rc =
            vocabulary_reserve(&t->vocabulary, (size_t)cJSON_GetArraySize(root), vocab->n / 2, err);
    if (rc == 0) rc = put_added(t, folder, root, err);
    if (rc == 0) rc = tokenizer_json_put_vocabulary(t, root, err);
    if (rc != 0) err_within(err, "%s", vocab_path);
    cJSON_Delete(root);
    if (rc == 0) {
        rc = read_file(folder, "merges.txt", path, &merges, err);
        if (rc == 0) rc = err_set(err, ERR_MODEL, "there is no such file, but a vocab.json");
        if (rc > 0) rc = put_merges(t, merges.data, merges.n, err);
        if (rc != 0) err_within(err, "%s", path);
    }
    buf_release(&merges);
    if (rc != 0) return -1;
    enum pretokenizer rule = tokenizer_guess_rule(t);
    return tokenizer_finish(t, rule, rule == PRETOKENIZER_QWEN2, err);
}

static int open_vocab(struct tokenizer **out, const char *folder, const char *path,
                      const struct buf *vocab, struct err *err) {
    struct tokenizer *t = tokenizer_new(err);
    if (!t) return -1;
    if (fill(t, folder, path, vocab, err) != 0) {
        tokenizer_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

int tokenizer_open_folder(struct tokenizer **out, const char *folder, struct err *err) {
    static const char *const names[] = {"tokenizer.json", "vocab.json", "qwen.tiktoken"};
    char path[MAX_PATH_BYTES];
    struct buf text = {0};
    int found = 0, i;
    for (i = 0; i < 3 && found == 0; i++) found = read_file(folder, names[i], path, &text, err);
    if (found == 0)
        err_set(err, ERR_MODEL,
                "%s has no tokenizer: expected tokenizer.json, vocab.json with merges.txt, or "
                "qwen.tiktoken",
                folder);
    int rc = -1;
    if (found > 0 && i == 1) rc = tokenizer_open_json(out, text.data, text.n, path, err);
    if (found > 0 && i == 2) rc = open_vocab(out, folder, path, &text, err);
    if (found > 0 && i == 3) rc = tokenizer_open_tiktoken(out, text.data, text.n, path, err);
    buf_release(&text);
    return rc;
}
