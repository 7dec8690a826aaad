/* Bytes written as characters. */
#include "engine/text/byte_level.h"

#include <stdint.h>

/* The byte that a code point stands for, or -1. */
static int byte_of(uint32_t c) {
    if ((c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255)) return (int)c;
    if (c < 256 || c > 323) return -1;
    int k = (int)c - 256; /* the k-th byte that does not stand for itself: 0-32, 127-160, 173 */
    return k <= 32 ? k : k <= 66 ? k + 94 : 173;
}

long byte_level_decode(const char *text, size_t n, char *out) {
    const unsigned char *t = (const unsigned char *)text;
    size_t length = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c = t[i++];
        if (c >= 0x80) { /* two bytes: nothing in the code is above U+0143 */
            if ((c & 0xE0) != 0xC0 || i == n || (t[i] & 0xC0) != 0x80) return -1;
            c = (c & 0x1F) << 6 | (t[i++] & 0x3F);
        }
        int byte = byte_of(c);
        if (byte < 0) return -1;
        out[length++] = (char)byte;
    }
    return (long)length;
}
