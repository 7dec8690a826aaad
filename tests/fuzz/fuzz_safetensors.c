/*
 * A safetensors file, and every byte of what it says it holds. An input that begins like JSON is
 * taken as a header (to the first NUL) and data, so that its length need not be guessed.
 */
#include "engine/base/buf.h"
#include "engine/weights/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static volatile unsigned sink;

static void walk(const struct tensor_list *list, size_t n) {
    uint64_t total = 0;
    for (size_t i = 0; i < list->n; i++) {
        const struct checkpoint_tensor *t = &list->items[i];
        const unsigned char *bytes = t->data;
        total += t->bytes;
        if (t->bytes) sink = bytes[0] + bytes[t->bytes - 1];
        if (tensor_list_find(list, t->name) != t) abort();
        if (t->n_dims < 0 || t->n_dims > 4 || !t->type) abort();
    }
    if (total > n) abort(); /* tensors that share bytes */
}

static void try(const uint8_t *data, size_t n) {
    struct tensor_list list = {0};
    struct err err = {0};
    int result = safetensors_parse(data, n, "fuzz.safetensors", 0, &list, &err);
    if (result == 0) result = tensor_list_index(&list, &err);
    if (result == 0) walk(&list, n);
    if (result != 0 && (err.kind != ERR_MODEL || !err.text[0] || strchr(err.text, '\n'))) abort();
    tensor_list_release(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (n == 0 || (data[0] != '{' && data[0] != ' ')) {
        try(data, n);
        return 0;
    }
    const uint8_t *end = memchr(data, 0, n);
    const size_t header = end ? (size_t)(end - data) : n, rest = end ? n - header - 1 : 0;
    uint8_t *file = malloc(8 + header + rest);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)header >> 8 * i);
    memcpy(file + 8, data, header);
    if (rest) memcpy(file + 8 + header, end + 1, rest);
    try(file, 8 + header + rest);
    free(file);
    return 0;
}
