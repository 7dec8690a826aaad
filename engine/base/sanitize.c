/*
 * The filter as a function from one code point (and a little state) to at most three code points;
 * streams, whole texts and lines in place differ only in where they put them. What is dangerous
 * is a table of ranges; what is a mark is asked of utf8proc.
 */
#include "engine/base/sanitize.h"

#include "engine/base/utf8.h"

#include <string.h>
#include <utf8proc.h>

enum {
    SYMBOL_FOR_NUL = 0x2400, /* and U+2400 + c for the other C0 */
    SYMBOL_FOR_CR = 0x240D,
    SYMBOL_FOR_DEL = 0x2421,
    DOTTED_CIRCLE = 0x25CC, /* carries a mark that has no character before it */
    REPLACEMENT = 0xFFFD,
    MAX_MARKS = 8,
};

enum treatment { TREAT_PRINT, TREAT_DROP, TREAT_NEWLINE, TREAT_JOINER, TREAT_REPLACE };

/* Sorted. Whatever is in no row prints. */
static const struct {
    uint32_t first, last;
    enum treatment treatment;
} ranges[] = {
    {0x0080, 0x009F, TREAT_REPLACE},  /* C1: 8-bit CSI, OSC, DCS … */
    {0x034F, 0x034F, TREAT_DROP},     /* combining grapheme joiner */
    {0x061C, 0x061C, TREAT_DROP},     /* Arabic letter mark */
    {0x180B, 0x180D, TREAT_JOINER},   /* Mongolian variation selectors */
    {0x180E, 0x180E, TREAT_DROP},     /* Mongolian vowel separator */
    {0x180F, 0x180F, TREAT_JOINER},   /* the fourth Mongolian variation selector */
    {0x200B, 0x200B, TREAT_DROP},     /* zero-width space */
    {0x200C, 0x200D, TREAT_JOINER},   /* ZWNJ, ZWJ */
    {0x200E, 0x200F, TREAT_DROP},     /* direction marks */
    {0x2028, 0x2029, TREAT_NEWLINE},  /* line and paragraph separator */
    {0x202A, 0x202E, TREAT_DROP},     /* bidi embeddings and overrides */
    {0x2060, 0x206F, TREAT_DROP},     /* word joiner, invisible operators, bidi isolates */
    {0xFDD0, 0xFDEF, TREAT_REPLACE},  /* noncharacters */
    {0xFE00, 0xFE0F, TREAT_JOINER},   /* variation selectors */
    {0xFEFF, 0xFEFF, TREAT_DROP},     /* byte order mark */
    {0xFFF0, 0xFFFB, TREAT_DROP},     /* interlinear annotation and its unassigned neighbours */
    {0x1BCA0, 0x1BCA3, TREAT_DROP},   /* shorthand format controls */
    {0x1D173, 0x1D17A, TREAT_DROP},   /* musical format controls */
    {0xE0000, 0xE00FF, TREAT_DROP},   /* tag characters */
    {0xE0100, 0xE01EF, TREAT_JOINER}, /* more variation selectors */
    {0xE01F0, 0xE0FFF, TREAT_DROP},   /* reserved for more of the kind */
};

static enum treatment treatment_of(uint32_t c) {
    if ((c & 0xFFFE) == 0xFFFE) return TREAT_REPLACE; /* the last two of every plane; UTF8_BAD */
    size_t low = 0, high = sizeof ranges / sizeof *ranges;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == sizeof ranges / sizeof *ranges || c < ranges[low].first) return TREAT_PRINT;
    return ranges[low].treatment;
}

/* Does `c` share the cell of the character before it? */
static bool is_mark(uint32_t c) {
    if (c < 0x300) return false;
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_MC ||
           category == UTF8PROC_CATEGORY_ME || utf8_width(c) == 0;
}

static size_t put_base(struct sanitizer *s, uint32_t c, uint32_t *out) {
    s->has_base = true;
    s->n_marks = 0;
    *out = c;
    return 1;
}

static size_t put_break(struct sanitizer *s, uint32_t c, uint32_t *out) {
    s->has_base = false;
    s->n_marks = 0;
    *out = c;
    return 1;
}

static size_t put_mark(struct sanitizer *s, uint32_t c, bool is_joiner, uint32_t *out) {
    size_t n = 0;
    if (!s->has_base) {
        if (is_joiner) return 0;
        n = put_base(s, DOTTED_CIRCLE, out);
    }
    if (s->n_marks == MAX_MARKS) return n;
    s->n_marks++;
    out[n] = c;
    return n + 1;
}

/* Any code point but CR. */
static size_t filter(struct sanitizer *s, uint32_t c, uint32_t *out) {
    if (c == '\n' || c == '\t') return put_break(s, c, out);
    if (c < 0x20) return put_base(s, SYMBOL_FOR_NUL + c, out);
    if (c < 0x7F) return put_base(s, c, out);
    if (c == 0x7F) return put_base(s, SYMBOL_FOR_DEL, out);
    switch (treatment_of(c)) {
    case TREAT_DROP:
        return 0;
    case TREAT_NEWLINE:
        return put_break(s, '\n', out);
    case TREAT_JOINER:
        return put_mark(s, c, true, out);
    case TREAT_REPLACE:
        return put_base(s, REPLACEMENT, out);
    case TREAT_PRINT:
        break;
    }
    return is_mark(c) ? put_mark(s, c, false, out) : put_base(s, c, out);
}

static void feed_code_point(struct sanitizer *s, uint32_t c, struct buf *out) {
    uint32_t made[3];
    size_t n = 0;
    if (s->after_cr && c != '\n') n = put_base(s, SYMBOL_FOR_CR, made);
    s->after_cr = c == '\r';
    if (!s->after_cr) n += filter(s, c, made + n);
    for (size_t i = 0; i < n; i++) buf_put_utf8(out, made[i]);
}

/* Takes whole characters; a run of printable ASCII goes through in one piece. */
static void feed_whole(struct sanitizer *s, const char *text, size_t n, struct buf *out) {
    size_t i = 0;
    while (i < n) {
        size_t run = i;
        while (run < n && text[run] >= 0x20 && text[run] < 0x7F) run++;
        if (run - i > 1 && !s->after_cr) {
            buf_add(out, text + i, run - i);
            s->has_base = true;
            s->n_marks = 0;
            i = run;
            continue;
        }
        uint32_t c;
        i += utf8_decode(text + i, n - i, &c);
        feed_code_point(s, c, out);
    }
}

/* Completes the character that an earlier piece began; returns the bytes of text it took. */
static size_t feed_tail(struct sanitizer *s, const char *text, size_t n, struct buf *out) {
    size_t taken = 0;
    while (s->n_tail > 0 && taken < n) {
        s->tail[s->n_tail++] = text[taken++];
        while (s->n_tail > 0 && utf8_incomplete_tail(s->tail, s->n_tail) != s->n_tail) {
            uint32_t c;
            size_t bytes = utf8_decode(s->tail, s->n_tail, &c);
            feed_code_point(s, c, out);
            s->n_tail = (unsigned char)(s->n_tail - bytes);
            memmove(s->tail, s->tail + bytes, s->n_tail);
        }
    }
    return taken;
}

void sanitize_feed(struct sanitizer *s, const char *text, size_t n, struct buf *out) {
    size_t taken = feed_tail(s, text, n, out);
    text += taken;
    n -= taken;
    size_t n_tail = utf8_incomplete_tail(text, n);
    feed_whole(s, text, n - n_tail, out);
    if (n_tail == 0) return;
    memcpy(s->tail, text + n - n_tail, n_tail);
    s->n_tail = (unsigned char)n_tail;
}

void sanitize_finish(struct sanitizer *s, struct buf *out) {
    if (s->n_tail > 0) feed_code_point(s, REPLACEMENT, out);
    if (s->after_cr) buf_put_utf8(out, SYMBOL_FOR_CR);
    *s = (struct sanitizer){0};
}

void sanitize_text(const char *text, size_t n, struct buf *out) {
    struct sanitizer s = {0};
    sanitize_feed(&s, text, n, out);
    sanitize_finish(&s, out);
}

void sanitize_line(char *text) {
    struct sanitizer s = {0};
    size_t n = strlen(text), from = 0, to = 0;
    while (from < n) {
        uint32_t c, made[3];
        from += utf8_decode(text + from, n - from, &c);
        if (c == '\n' || c == '\t' || c == '\r') c = ' ';
        size_t n_made = filter(&s, c, made), bytes = 0;
        char encoded[8];
        for (size_t i = 0; i < n_made; i++) {
            if (made[i] == '\n') made[i] = ' ';
            bytes += utf8_encode(made[i], encoded + bytes);
        }
        if (bytes > from - to) {
            encoded[0] = '?';
            bytes = 1;
        }
        memcpy(text + to, encoded, bytes);
        to += bytes;
    }
    text[to] = '\0';
}
