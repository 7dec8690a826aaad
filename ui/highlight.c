/* A scanner that takes one piece of a line at a time; only block comments reach over lines. */
#include "ui/highlight.h"

#include <string.h>

struct language {
    const char *names, *line_comment, *begin, *end, *quotes, *keywords;
};

static const struct language languages[] = {
#define LANGUAGE(a, b, c, d, e, f) {a, b, c, d, e, f},
#include "ui/languages.def"
#undef LANGUAGE
};

static bool is_word_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

/* Is word[0..n) one of the words that blanks separate? */
static bool is_among(const char *words, const char *word, size_t n) {
    for (const char *at = words; *at;) {
        size_t length = strcspn(at, " ");
        if (length == n && memcmp(at, word, n) == 0) return true;
        at += length + strspn(at + length, " ");
    }
    return false;
}

static bool begins(const char *text, size_t n, const char *what) {
    size_t length = strlen(what);
    return length > 0 && n >= length && memcmp(text, what, length) == 0;
}

void highlight_begin(struct highlight *h, const char *name, size_t n) {
    char lower[16];
    *h = (struct highlight){0};
    if (n == 0 || n >= sizeof lower) return;
    for (size_t i = 0; i < n; i++)
        lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] + 32) : name[i];
    for (size_t i = 0; i < sizeof languages / sizeof *languages; i++)
        if (is_among(languages[i].names, lower, n)) h->language = &languages[i];
}

/* Length of the comment, up to its end or the line's. */
static size_t take_comment(struct highlight *h, const char *line, size_t n, size_t from) {
    size_t length = strlen(h->language->end);
    for (size_t at = from; at + length <= n; at++) {
        if (memcmp(line + at, h->language->end, length) != 0) continue;
        h->is_in_comment = false;
        return at + length;
    }
    h->is_in_comment = true;
    return n;
}

static size_t take_string(const char *line, size_t n) {
    for (size_t at = 1; at < n; at++) {
        if (line[at] == '\\')
            at++;
        else if (line[at] == line[0])
            return at + 1;
    }
    return n;
}

/* The piece at the beginning of line[0..n): its length, and its style. */
static size_t take(struct highlight *h, const char *line, size_t n, text_style *style) {
    const struct language *l = h->language;
    size_t length = 1;
    *style = INK_code;
    if (h->is_in_comment || begins(line, n, l->begin)) {
        *style = INK_comment;
        return take_comment(h, line, n, h->is_in_comment ? 0 : strlen(l->begin));
    }
    if (begins(line, n, l->line_comment)) {
        *style = INK_comment;
        return n;
    }
    if (*line && strchr(l->quotes, *line)) {
        *style = INK_string;
        return take_string(line, n);
    }
    if (!is_word_char(*line)) return 1;
    while (length < n && is_word_char(line[length])) length++;
    if (*line >= '0' && *line <= '9') {
        *style = INK_number;
    } else if (is_among(l->keywords, line, length)) {
        *style = INK_keyword;
    }
    return length;
}

void highlight_line(struct highlight *h, const char *line, size_t n, struct styled *out) {
    text_style style;
    if (!h->language) {
        styled_add(out, line, n, INK_code);
        return;
    }
    for (size_t at = 0, length; at < n; at += length) {
        length = take(h, line + at, n - at, &style);
        styled_add(out, line + at, length, style);
    }
}
