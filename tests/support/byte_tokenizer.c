/* A GGUF vocabulary of the 256 bytes. */
#include "tests/support/byte_tokenizer.h"

#include <string.h>

/* GPT-2's spelling of a byte: printable Latin-1 as it is, the others from U+0100 on. */
static uint32_t spelled(int byte) {
    uint32_t next = 256;
    for (int b = 0; b <= byte; b++) {
        bool is_itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte && is_itself) return (uint32_t)b;
        if (b < byte && !is_itself) next++;
    }
    return next;
}

struct tokenizer *byte_tokenizer_open(const char *const *added, size_t n_added) {
    struct gguf_string tokens[BYTE_TOKENIZER_ADDED + BYTE_TOKENIZER_MAX_ADDED];
    int32_t types[BYTE_TOKENIZER_ADDED + BYTE_TOKENIZER_MAX_ADDED];
    struct buf names = {0};
    for (int b = 0; b < 256; b++) {
        size_t begin = names.n;
        buf_put_utf8(&names, spelled(b));
        tokens[b].n = names.n - begin;
        types[b] = 1;
    }
    const char *at = names.data;
    for (int b = 0; b < 256; at += tokens[b].n, b++) tokens[b].data = at;
    tokens[BYTE_TOKENIZER_TWO_NEWLINES] = (struct gguf_string){"\xC4\x8A\xC4\x8A", 4};
    tokens[BYTE_TOKENIZER_SPACE_LESS] = (struct gguf_string){"\xC4\xA0<", 3};
    types[BYTE_TOKENIZER_TWO_NEWLINES] = types[BYTE_TOKENIZER_SPACE_LESS] = 1;
    for (size_t i = 0; i < n_added; i++) {
        tokens[BYTE_TOKENIZER_ADDED + i] = (struct gguf_string){added[i], strlen(added[i])};
        types[BYTE_TOKENIZER_ADDED + i] = 3;
    }
    static const struct gguf_string merges[] = {{"\xC4\x8A \xC4\x8A", 5}, {"\xC4\xA0 <", 4}};
    struct tokenizer_gguf gguf = {.model = "gpt2",
                                  .pre = "qwen2",
                                  .tokens = tokens,
                                  .types = types,
                                  .n_tokens = BYTE_TOKENIZER_ADDED + n_added,
                                  .merges = merges,
                                  .n_merges = 2};
    struct tokenizer *t = NULL;
    struct err err = {0};
    if (tokenizer_open_gguf(&t, &gguf, &err) != 0) bug("%s", err.text);
    buf_release(&names);
    return t;
}
