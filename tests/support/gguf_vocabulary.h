/*
 * The vocabulary of a GGUF file for tests of the tokenizer alone: it trusts the file, and stops
 * the program where it cannot read it. (What reads untrusted files is engine/weights.)
 */
#pragma once

#include "engine/text/tokenizer.h"

struct gguf_vocabulary {
    char *file; /* the metadata's bytes */
    size_t n;
    struct tokenizer_gguf gguf; /* points into `file` */
};

void gguf_vocabulary_read(struct gguf_vocabulary *v, const char *path);
void gguf_vocabulary_release(struct gguf_vocabulary *v);
