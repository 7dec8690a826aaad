/*
 * The one filter between text that we did not write (a model's, a file's, a name's) and any
 * terminal. It works on code points, so a sequence split over tokens cannot pass:
 *   - "\n" and "\t" pass; CR LF becomes "\n", a lone CR becomes U+240D
 *   - other C0, DEL and C1 become visible symbols (U+2400 + c, U+2421, U+FFFD)
 *   - bidi controls (U+202A-E, U+2066-9, U+200E, U+200F, U+061C), tag characters (U+E0000-E007F)
 *     and U+FEFF are dropped; U+2028 and U+2029 become "\n"
 *   - ZWJ, ZWNJ and variation selectors pass only behind a character; zero-width space and the
 *     like are dropped; at most 8 combining marks stay on one character
 *   - invalid UTF-8 and noncharacters become U+FFFD
 */
#pragma once

#include "engine/base/buf.h"

struct sanitizer {
    char tail[4]; /* bytes of a character that is not whole yet */
    unsigned char n_tail;
    bool after_cr;  /* a CR waits: LF or something else decides what it was */
    bool has_base;  /* a joiner or mark may follow */
    unsigned char n_marks;
};

/* A stream: zero the struct, feed pieces, finish at the end (an incomplete tail becomes U+FFFD). */
void sanitize_feed(struct sanitizer *s, const char *text, size_t n, struct buf *out);
void sanitize_finish(struct sanitizer *s, struct buf *out);

/* A whole text at once. */
void sanitize_text(const char *text, size_t n, struct buf *out);

/* In place, for one line of an error or a name: "\n" and "\t" become spaces. Never grows: what
 * would need more room becomes '?'. */
void sanitize_line(char *text);
