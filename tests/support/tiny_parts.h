/* What the files of make_checkpoint share: tensors with their bytes, and the vocabulary. */
#pragma once

#include "engine/base/buf.h"
#include "engine/weights/weight_table.h"
#include "tests/support/make_checkpoint.h"

struct tiny_tensor {
    char name[MAX_WEIGHT_NAME];
    enum format format;
    int n_dims;
    int dims[2]; /* outermost first */
    struct buf data;
};

struct tiny_tensors {
    struct tiny_tensor *items;
    size_t n;
};

/* The model_config that the spec's files describe, as far as the table of weights asks for it. */
struct model_config tiny_config(const struct tiny_spec *spec);

/* All tensors of the (whole) spec under the names of a container. 0 or -1. */
int tiny_tensors_make(struct tiny_tensors *tensors, const struct tiny_spec *spec, bool is_gguf);
void tiny_tensors_release(struct tiny_tensors *tensors);

/* Token `id` < TINY_TOKENS: its bytes for ids below TINY_END_OF_TEXT, else the control token. */
size_t tiny_token_bytes(int id, char out[16]);
bool tiny_token_is_control(int id);
void tiny_merge(int i, int *left, int *right); /* ids of the pair that becomes 256 + i */

/* Appends a token's bytes in GPT-2's byte-to-unicode spelling. */
void tiny_spell(struct buf *out, int id);

void tiny_put_tokenizer_json(struct buf *out, enum tiny_family family);
void tiny_put_tiktoken(struct buf *out);
extern const char tiny_template[];
