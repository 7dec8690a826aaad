/* A GGUF file: every tensor's ends, every value by every reader, the model's facts, the vocabulary.
 */
#include "engine/base/mem.h"
#include "engine/weights/gguf_config.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile unsigned sink;

static void check_sentence(const struct err *err) {
    if (err->kind != ERR_MODEL || !err->text[0] || strchr(err->text, '\n')) abort();
}

static void walk_tensors(const struct tensor_list *list, size_t n) {
    uint64_t total = 0;
    for (size_t i = 0; i < list->n; i++) {
        const struct checkpoint_tensor *t = &list->items[i];
        const unsigned char *bytes = t->data;
        total += t->bytes;
        if (t->bytes) sink = bytes[0] + bytes[t->bytes - 1];
        if (tensor_list_find(list, t->name) != t) abort();
    }
    if (total > n) abort();
}

static void walk_value(const struct gguf *g, const struct gguf_entry *e) {
    char key[256];
    struct gguf_string text, *strings;
    int32_t *ints;
    uint64_t u;
    double d;
    size_t n;
    if (e->key.n >= sizeof key || memchr(e->key.data, 0, e->key.n)) return;
    memcpy(key, e->key.data, e->key.n);
    key[e->key.n] = '\0';
    if (gguf_find(g, key) != e) abort();
    gguf_u64(g, key, 0, UINT64_MAX, 0, &u, NULL);
    gguf_f64(g, key, -1, 1, 0, &d, NULL);
    if (gguf_text(g, key, &text, NULL) == 0 && text.n) sink = (unsigned char)text.data[text.n - 1];
    if (gguf_strings(g, key, &strings, &n, NULL) == 0) {
        for (size_t i = 0; i < n; i++)
            if (strings[i].n) sink = (unsigned char)strings[i].data[strings[i].n - 1];
        mem_free(strings);
    }
    if (gguf_int32s(g, key, &ints, &n, NULL) == 0) {
        if (n) sink = (unsigned)ints[n - 1];
        mem_free(ints);
    }
}

static void try_model(const struct gguf *g, const struct tensor_list *tensors) {
    struct model_config c;
    struct generation_defaults generation;
    struct tokenizer *t;
    struct err err = {0};
    float freq[MAX_HEAD_SIZE / 2], scale;
    if (model_config_from_gguf(&c, g, tensors, &err) != 0) return check_sentence(&err);
    rope_frequencies(&c, c.max_tokens, freq, &scale);
    for (int i = 0; i < c.head_size / 2; i++)
        if (!isfinite(freq[i]) || !isfinite(scale)) abort();
    if (generation_defaults_from_gguf(&generation, g, &c, &err) != 0) return check_sentence(&err);
    for (int i = 0; i < generation.n_stop_ids; i++)
        if (generation.stop_ids[i] < 0 || generation.stop_ids[i] >= c.vocab) abort();
    if (gguf_open_tokenizer(g, &t, &err) != 0) return check_sentence(&err);
    tokenizer_close(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct tensor_list tensors = {0};
    struct gguf g;
    struct err err = {0};
    int result = gguf_parse(&g, data, n, "fuzz.gguf", 0, &tensors, &err);
    if (result == 0) result = tensor_list_index(&tensors, &err);
    if (result == 0) {
        walk_tensors(&tensors, n);
        for (size_t i = 0; i < g.n_entries; i++) walk_value(&g, &g.entries[i]);
        try_model(&g, &tensors);
    } else {
        check_sentence(&err);
    }
    gguf_release(&g);
    tensor_list_release(&tensors);
    return 0;
}
