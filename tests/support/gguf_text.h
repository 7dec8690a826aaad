/*
 * GGUF bytes from a line of text, so that a bad file is one row of a table. Items are divided by
 * spaces:
 *
 *   GGUF      the four letters, as any other word without a colon or quote
 *   7:4       the number 7 (decimal, or 0x…) in 4 bytes, little endian
 *   'abc'     a string: 8 bytes of length, then its bytes ("+" stands for a space)
 *   f1.5      a 4-byte float
 *   @32       zeros up to the next multiple of 32
 *   *9        nine zeros
 */
#pragma once

#include "engine/base/buf.h"

#include <stdlib.h>
#include <string.h>

static inline void gguf_text_le(struct buf *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) buf_putc(out, (char)(value >> 8 * i & 0xFF));
}

static inline void gguf_text_item(struct buf *out, const char *item, size_t n) {
    const char *colon = memchr(item, ':', n);
    float value;
    uint32_t bits;
    if (item[0] == '\'') {
        gguf_text_le(out, n - 2, 8);
        for (size_t i = 1; i + 1 < n; i++) buf_putc(out, item[i] == '+' ? ' ' : item[i]);
    } else if (item[0] == '@') {
        while (out->n % strtoul(item + 1, NULL, 10) != 0) buf_putc(out, '\0');
    } else if (item[0] == '*') {
        for (unsigned long i = strtoul(item + 1, NULL, 10); i > 0; i--) buf_putc(out, '\0');
    } else if (item[0] == 'f' && n > 1) {
        value = strtof(item + 1, NULL);
        memcpy(&bits, &value, sizeof bits);
        gguf_text_le(out, bits, 4);
    } else if (colon && item[0] >= '0' && item[0] <= '9') {
        gguf_text_le(out, strtoull(item, NULL, 0), (int)strtoul(colon + 1, NULL, 10));
    } else {
        buf_add(out, item, n);
    }
}

static inline void gguf_put_text(struct buf *out, const char *text) {
    while (*text) {
        size_t n = strcspn(text, " ");
        if (n) gguf_text_item(out, text, n);
        text += n + (text[n] == ' ');
    }
}
