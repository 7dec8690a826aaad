/*
 * A tokenizer by itself, for comparing it with others and for timing it.
 *
 *     tokenize TOKENIZER ids|added  < strings > ids
 *     tokenize TOKENIZER speed FILE
 *     tokenize TOKENIZER load
 *
 * TOKENIZER is a .json, .tiktoken or .gguf file, or a folder. Strings come as their length in
 * bytes (32 bits, little-endian) and the bytes; of each go out the number of ids and the ids (32
 * bits each), with added tokens recognised under `added`. `speed` prints MB/s, the best of five.
 */
#include "engine/base/clock.h"
#include "engine/base/io.h"
#include "engine/base/text.h"
#include "engine/text/tokenizer.h"
#include "tests/support/gguf_vocabulary.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double now_ms(void) {
    return clock_seconds() * 1e3;
}

/* *ms: without reading the file. */
static int open_any(struct tokenizer **t, const char *path, double *ms, struct err *err) {
    struct gguf_vocabulary v = {0};
    struct buf text = {0};
    bool is_gguf = ends_with(path, ".gguf"), is_json = ends_with(path, ".json");
    bool is_file = is_json || ends_with(path, ".tiktoken");
    if (is_gguf) gguf_vocabulary_read(&v, path);
    if (is_file && io_read_file(path, (size_t)1 << 30, &text, err) != 0) return -1;
    double begin = now_ms();
    int rc = is_gguf   ? tokenizer_open_gguf(t, &v.gguf, err)
             : is_json ? tokenizer_open_json(t, text.data, text.n, path, err)
             : is_file ? tokenizer_open_tiktoken(t, text.data, text.n, path, err)
                       : tokenizer_open_folder(t, path, err);
    *ms = now_ms() - begin;
    if (is_gguf) gguf_vocabulary_release(&v);
    buf_release(&text);
    return rc;
}

static int stream(const struct tokenizer *t, bool with_added, struct err *err) {
    uint32_t n;
    struct tokens ids = {0};
    while (fread(&n, sizeof n, 1, stdin) == 1) {
        char *text = malloc(n ? n : 1);
        if (!text || fread(text, 1, n, stdin) != n) return err_set(err, ERR_IO, "strings are cut");
        ids.n = 0;
        int rc = with_added ? tokenizer_encode_with_added(t, text, n, &ids, err)
                            : tokenizer_encode(t, text, n, &ids, err);
        free(text);
        if (rc != 0) return -1;
        uint32_t n_ids = (uint32_t)ids.n;
        fwrite(&n_ids, sizeof n_ids, 1, stdout);
        fwrite(ids.ids, sizeof *ids.ids, ids.n, stdout);
    }
    tokens_release(&ids);
    return 0;
}

static int speed(const struct tokenizer *t, const char *path, struct err *err) {
    struct buf text = {0};
    struct tokens ids = {0};
    double best = 1e300;
    if (io_read_file(path, (size_t)1 << 30, &text, err) != 0) return -1;
    for (int i = 0; i < 5; i++) {
        ids.n = 0;
        double begin = now_ms();
        if (tokenizer_encode(t, text.data, text.n, &ids, err) != 0) return -1;
        double ms = now_ms() - begin;
        if (ms < best) best = ms;
    }
    printf("%zu bytes, %zu tokens, %.1f ms, %.1f MB/s\n", text.n, ids.n, best,
           (double)text.n / best / 1e3);
    buf_release(&text);
    tokens_release(&ids);
    return 0;
}

int main(int argc, char **argv) {
    struct err err = {0};
    struct tokenizer *t = NULL;
    double ms;
    if (argc < 3) return fprintf(stderr, "tokenize TOKENIZER ids|added|speed|load [FILE]\n"), 2;
    int rc = open_any(&t, argv[1], &ms, &err);
    if (rc == 0 && strcmp(argv[2], "load") == 0) printf("%.1f ms\n", ms);
    if (rc == 0 && strcmp(argv[2], "ids") == 0) rc = stream(t, false, &err);
    if (rc == 0 && strcmp(argv[2], "added") == 0) rc = stream(t, true, &err);
    if (rc == 0 && strcmp(argv[2], "speed") == 0 && argc > 3) rc = speed(t, argv[3], &err);
    tokenizer_close(t);
    if (rc != 0) fprintf(stderr, "%s\n", err.text);
    return rc == 0 ? 0 : (int)err.kind;
}
