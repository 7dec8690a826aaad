/*
 * Tiny random models for tests, written as published ones are: a Hugging Face folder or GGUF files
 * that checkpoint_open(), weights_bind(), the tokenizer and a chat can work with.
 *
 * The same spec gives the same weights in every container (a folder in F32 and a GGUF in F32 hold
 * the same model; block formats hold random blocks of about the same size instead, since nothing
 * here quantizes). A zeroed spec is a small Qwen2. Weights are normal deviates over
 * sqrt(columns), norms 1 + 0.1 x, biases 0.1 x: logits differ from token to token.
 *
 * Vocabulary: ids 0..255 the bytes, then TINY_MERGES merged pairs ("he", "ll",
 * "hello" …), then <|endoftext|>, <|im_start|>, <|im_end|>; the rest up to `vocab` is padding.
 * The folder gets tokenizer.json (v1: qwen.tiktoken), tokenizer_config.json with a ChatML template,
 * generation_config.json with both end ids; GGUF gets the same as metadata.
 */
#pragma once

#include "engine/weights/model_config.h"
#include "kernels/format.h"

#include <stdbool.h>
#include <stdint.h>

enum tiny_family { TINY_QWEN2, TINY_QWEN3, TINY_LLAMA, TINY_QWEN }; /* TINY_QWEN is v1 */

enum {
    TINY_MERGES = 8,
    TINY_END_OF_TEXT = 256 + TINY_MERGES,
    TINY_IM_START,
    TINY_IM_END,
    TINY_TOKENS /* ids in use */
};

/* Zero means the default in parentheses. */
struct tiny_spec {
    enum tiny_family family;
    uint64_t seed;
    int layers;     /* (2) */
    int hidden;     /* (64) */
    int ffn;        /* (96); v1's config says twice that, as published */
    int heads;      /* (4) */
    int kv_heads;   /* (2; v1: heads) */
    int head_size;  /* (hidden / heads) */
    int vocab;      /* (288; v1: 512, its tokenizer has 205 more) rows of the embedding */
    int context;    /* (512) max_position_embeddings */
    int seq_length; /* (context) v1 only: the trained length, where NTK and logn begin */
    bool is_tied;
    bool no_template;           /* a base model: no chat template, v1: chat_format raw */
    bool no_generation;         /* no generation_config.json */
    const enum format *formats; /* of matrices, in turn as they are written; NULL: F32 */
    int n_formats;
    int shards;        /* (1) more: an index and that many files, or a split GGUF */
    const char *extra; /* config.json only: more members, e.g. "\"rope_scaling\": {…}" */
};

/* The defaults filled in. */
struct tiny_spec tiny_spec_whole(const struct tiny_spec *spec);

/* Writes into `folder` (made when missing). 0, or -1 after a line on stderr. */
int make_tiny_folder(const char *folder, const struct tiny_spec *spec);

/* Writes `path`, which ends in ".gguf"; with shards "x.gguf" becomes "x-00001-of-00003.gguf" … */
int make_tiny_gguf(const char *path, const struct tiny_spec *spec);

/* A new folder below $TMPDIR or /tmp, and its removal with all that is in it. */
void make_temporary_folder(char path[256]);
void remove_folder(const char *path);

/* Writes n bytes; aborts the test program when it cannot. */
void write_file(const char *folder, const char *name, const void *data, size_t n);
