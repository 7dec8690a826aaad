/*
 * Any bytes through the terminal filter, whole and in pieces: both must give the same text, and
 * that text must keep to a grammar that is written here a second time.
 */
#include "engine/base/sanitize.h"

#include "engine/base/err.h"
#include "engine/base/utf8.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool holds, const char *what) {
    if (!holds) bug("%s", what);
}

static bool between(uint32_t c, uint32_t first, uint32_t last) {
    return c >= first && c <= last;
}

static bool may_never_appear(uint32_t c) {
    return c == UTF8_BAD || (c < 0x20 && c != '\n' && c != '\t') || between(c, 0x7F, 0x9F) ||
           between(c, 0x202A, 0x202E) || between(c, 0x2066, 0x2069) || c == 0x200E || c == 0x200F ||
           c == 0x061C || between(c, 0xE0000, 0xE007F) || c == 0xFEFF || c == 0x2028 ||
           c == 0x2029 || c == 0x200B || c == 0x2060 || between(c, 0xFDD0, 0xFDEF) ||
           (c & 0xFFFE) == 0xFFFE;
}

static bool rides_on_another(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return c >= 0x300 && (utf8_width(c) == 0 || category == UTF8PROC_CATEGORY_MN ||
                          category == UTF8PROC_CATEGORY_MC || category == UTF8PROC_CATEGORY_ME);
}

static void check_grammar(const struct buf *out) {
    bool has_base = false;
    int n_marks = 0;
    for (size_t i = 0; i < out->n;) {
        uint32_t c;
        i += utf8_decode(out->data + i, out->n - i, &c);
        require(!may_never_appear(c), "a forbidden code point came through");
        if (rides_on_another(c)) {
            require(has_base, "a mark or joiner without a character");
            require(++n_marks <= 8, "more than eight marks on a character");
        } else {
            has_base = c != '\n' && c != '\t';
            n_marks = 0;
        }
    }
}

/* Piece lengths come from the data's own bytes. */
static void check_pieces(const char *text, size_t n, const struct buf *whole) {
    struct sanitizer s = {0};
    struct buf out = {0};
    for (size_t at = 0, i = 0; at < n; i++) {
        size_t piece = (unsigned char)text[i] % 5;
        if (piece > n - at) piece = n - at;
        if (i + 1 == n) piece = n - at;
        sanitize_feed(&s, text + at, piece, &out);
        at += piece;
    }
    sanitize_finish(&s, &out);
    require(out.n == whole->n && (out.n == 0 || memcmp(out.data, whole->data, out.n) == 0),
            "pieces give another text than the whole");
    buf_release(&out);
}

static void check_line(const char *text, size_t n) {
    struct buf line = {0};
    buf_add(&line, text, n);
    size_t length = strlen(line.data);
    sanitize_line(line.data);
    line.n = strlen(line.data);
    require(line.n <= length, "a line grew");
    require(!strpbrk(line.data, "\n\t"), "a line of two lines");
    check_grammar(&line);
    buf_release(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const char *text = (const char *)data;
    struct buf whole = {0};
    sanitize_text(text, n, &whole);
    check_grammar(&whole);
    check_pieces(text, n, &whole);
    check_line(text, n);
    buf_release(&whole);
    return 0;
}
