/*
 * A tokenizer small enough to know by heart: ids 0 to 255 are the bytes, 256 is "\n\n", 257
 * is " <", and then come the added tokens, in their order.
 */
#pragma once

#include "engine/text/tokenizer.h"

enum {
    BYTE_TOKENIZER_TWO_NEWLINES = 256,
    BYTE_TOKENIZER_SPACE_LESS,
    BYTE_TOKENIZER_ADDED,
    BYTE_TOKENIZER_MAX_ADDED = 32
};

/* Stops the program where it cannot be made. */
struct tokenizer *byte_tokenizer_open(const char *const *added, size_t n_added);
