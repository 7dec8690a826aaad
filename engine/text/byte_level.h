/*
 * GPT-2's way of writing bytes as characters, in which tokenizer.json, vocab.json and GGUF store
 * tokens: printable Latin-1 stands for itself, the 68 other bytes are U+0100 and up in order.
 */
#pragma once

#include <stddef.h>

/*
 * Decodes text[0..n) into out[0..n); returns how many bytes, or -1 where a character is not of
 * the code.
 */
long byte_level_decode(const char *text, size_t n, char *out);
