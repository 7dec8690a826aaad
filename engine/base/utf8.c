/*
 * UTF-8 decoding by hand (RFC 3629, table 3-7 of the Unicode standard); widths and grapheme
 * clusters by utf8proc, with a short table where terminals (that is, glibc's wcwidth, which
 * ncurses asks too) count otherwise.
 */
#include "engine/base/utf8.h"

#include <string.h>
#include <utf8proc.h>

enum { ZWJ = 0x200D, VARIATION_EMOJI = 0xFE0F };

/* Code points whose width is disputed: first, last, the columns that terminals give them. */
static const struct {
    uint32_t first, last;
    int width;
} disputed_widths[] = {
    {0x0600, 0x0605, 1},   /* Arabic number signs: format characters, but with a shape */
    {0x06DD, 0x06DD, 1},   /* Arabic end of ayah */
    {0x070F, 0x070F, 1},   /* Syriac abbreviation mark */
    {0x0890, 0x0891, 1},   /* Arabic pound and piastre marks */
    {0x08E2, 0x08E2, 1},   /* Arabic disputed end of ayah */
    {0x1160, 0x11FF, 0},   /* Hangul vowels and finals: drawn inside the syllable */
    {0x3248, 0x324F, 2},   /* circled tens: ambiguous in Unicode, two columns in wcwidth */
    {0x4DC0, 0x4DFF, 2},   /* hexagrams: wide since Unicode 16 and in wcwidth before */
    {0xD7B0, 0xD7FB, 0},   /* more Hangul vowels and finals */
    {0x110BD, 0x110BD, 1}, /* Kaithi number sign */
    {0x110CD, 0x110CD, 1}, /* Kaithi number sign above */
};

static const struct {
    uint32_t first, last;
} ambiguous[] = {
#define AMBIGUOUS(from, to) {from, to},
#include "engine/base/ambiguous.def"
#undef AMBIGUOUS
};
static bool is_ambiguous_wide;

static bool is_continuation(unsigned char c) {
    return (c & 0xC0) == 0x80;
}

/* Bytes of the character that `lead` begins (0: it begins none) and the range of its second
 * byte, which is where overlong forms, surrogates and too large values are told apart. */
static size_t sequence_length(unsigned char lead, unsigned char *second_min,
                              unsigned char *second_max) {
    *second_min = 0x80;
    *second_max = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    if (lead < 0xE0) return 2;
    if (lead == 0xE0) *second_min = 0xA0;
    if (lead == 0xED) *second_max = 0x9F;
    if (lead < 0xF0) return 3;
    if (lead == 0xF0) *second_min = 0x90;
    if (lead == 0xF4) *second_max = 0x8F;
    return 4;
}

/* How many of text[0..n) are the beginning of one well-formed character of *length bytes. */
static size_t well_formed_prefix(const unsigned char *text, size_t n, size_t *length) {
    unsigned char second_min, second_max;
    *length = sequence_length(text[0], &second_min, &second_max);
    if (*length < 2 || n < 2) return *length > 0;
    if (text[1] < second_min || text[1] > second_max) return 1;
    size_t i = 2;
    while (i < *length && i < n && is_continuation(text[i])) i++;
    return i;
}

size_t utf8_decode(const char *text, size_t n, uint32_t *code_point) {
    const unsigned char *t = (const unsigned char *)text;
    if (t[0] < 0x80) {
        *code_point = t[0];
        return 1;
    }
    size_t length;
    if (well_formed_prefix(t, n, &length) != length || length == 0) {
        *code_point = UTF8_BAD;
        return 1;
    }
    uint32_t c = t[0] & (0x7Fu >> length);
    for (size_t i = 1; i < length; i++) c = c << 6 | (t[i] & 0x3Fu);
    *code_point = c;
    return length;
}

size_t utf8_encode(uint32_t c, char out[4]) {
    if (c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00 >> length) | c);
    return length;
}

bool utf8_valid(const char *text, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (n - i >= sizeof eight) {
            memcpy(&eight, text + i, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        uint32_t c;
        i += utf8_decode(text + i, n - i, &c);
        if (c == UTF8_BAD) return false;
    }
    return true;
}

size_t utf8_incomplete_tail(const char *text, size_t n) {
    const unsigned char *t = (const unsigned char *)text;
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        if (is_continuation(t[n - back])) continue;
        size_t length;
        bool is_whole_so_far = well_formed_prefix(t + n - back, back, &length) == back;
        return is_whole_so_far && back < length ? back : 0;
    }
    return 0;
}

void utf8_set_ambiguous_width(int columns) {
    is_ambiguous_wide = columns == 2;
}

static bool is_ambiguous(uint32_t c) {
    size_t low = 0, high = sizeof ambiguous / sizeof *ambiguous;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > ambiguous[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof ambiguous / sizeof *ambiguous && c >= ambiguous[low].first;
}

int utf8_width(uint32_t c) {
    if (c < 0x7F) return c >= 0x20 ? 1 : -1;
    if (c < 0xA0) return -1;
    if (is_ambiguous_wide && is_ambiguous(c)) return 2;
    if (c < 0x300) return 1;
    for (size_t i = 0; i < sizeof disputed_widths / sizeof *disputed_widths; i++) {
        if (c < disputed_widths[i].first) break;
        if (c <= disputed_widths[i].last) return disputed_widths[i].width;
    }
    if (c > 0x10FFFF) return 1;
    int width = utf8proc_charwidth((utf8proc_int32_t)c);
    /* utf8proc calls most spacing marks (Indic vowel signs) zero; they take a column. */
    bool is_spacing_mark =
        width == 0 && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MC;
    return is_spacing_mark ? 1 : width;
}

/* May a variation selector turn `c` into a (two-column) emoji? */
static bool is_emoji_base(uint32_t c) {
    if (c < 0x80) return (c >= '0' && c <= '9') || c == '#' || c == '*';
    return utf8proc_get_property((utf8proc_int32_t)c)->boundclass ==
           UTF8PROC_BOUNDCLASS_EXTENDED_PICTOGRAPHIC;
}

/* Columns of the code point `c` behind `previous` in the same cluster, `width` columns so far. */
static int width_within(int width, uint32_t previous, uint32_t c) {
    bool is_skin_tone = c >= 0x1F3FB && c <= 0x1F3FF;
    if (previous == ZWJ || is_skin_tone) return 0;
    if (c == VARIATION_EMOJI) return width == 1 && is_emoji_base(previous) ? 1 : 0;
    return utf8_width(c);
}

size_t utf8_cluster(const char *text, size_t n, int *width) {
    unsigned char first = (unsigned char)text[0];
    if (first < 0x20 || first == 0x7F) {
        *width = 0;
        return first == '\r' && n > 1 && text[1] == '\n' ? 2 : 1;
    }
    *width = 1;
    if (first < 0x80 && (n == 1 || (unsigned char)text[1] < 0x80)) return 1;

    uint32_t previous, c;
    size_t at = utf8_decode(text, n, &previous);
    if (previous == UTF8_BAD) return at;
    *width = utf8_width(previous);
    if (*width < 0) *width = 0;
    utf8proc_int32_t state = 0;
    while (at < n) {
        size_t bytes = utf8_decode(text + at, n - at, &c);
        if (c == UTF8_BAD || utf8proc_grapheme_break_stateful((utf8proc_int32_t)previous,
                                                              (utf8proc_int32_t)c, &state))
            break;
        *width += width_within(*width, previous, c);
        previous = c;
        at += bytes;
    }
    return at;
}
