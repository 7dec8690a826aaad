/*
 * The decoder. It looks at the undecoded bytes from their beginning and takes one item at a time: a
 * character, an escape sequence (ECMA-48 grammar; xterm's and the kitty protocol's numbers), a
 * string sequence to swallow, or the bracketed paste that it is in the middle of.
 */
#include "ui/keys.h"

#include "engine/base/utf8.h"

#include <string.h>

enum {
    ESCAPE = 0x1B,
    SEQUENCE_BYTES = 256,   /* longer ones are no keys */
    STRING_BYTES = 1 << 16, /* OSC, DCS: an answer longer than that is none of ours */
    ESCAPE_MS = 40,
    PASTE_MS = 3000,
};

static const char paste_end[] = "\033[201~";

/* One try at the bytes text[0..n): how many were taken (0: more must come). */
struct take {
    size_t bytes;
    bool is_key; /* *key is set */
};

static const struct {
    char final;
    enum key_name name;
} letters[] = {
    {'A', K_UP},      {'B', K_DOWN}, {'C', K_RIGHT},      {'D', K_LEFT},
    {'H', K_HOME},    {'F', K_END},  {'c', K_WORD_RIGHT}, {'d', K_WORD_LEFT}, /* rxvt: Ctrl */
    {'Z', K_BACKTAB},
};

static const struct {
    unsigned number;
    enum key_name name;
} numbers[] = {
    {1, K_HOME},   {7, K_HOME},    {4, K_END},       {8, K_END},
    {3, K_DELETE}, {5, K_PAGE_UP}, {6, K_PAGE_DOWN},
};

static bool set_named(struct key *key, enum key_name name, unsigned modifiers) {
    bool is_word = (modifiers & 6) != 0; /* Alt or Ctrl */
    if (is_word && name == K_LEFT) name = K_WORD_LEFT;
    if (is_word && name == K_RIGHT) name = K_WORD_RIGHT;
    *key = (struct key){.name = name, .is_alt = is_word && (name == K_UP || name == K_DOWN)};
    return true;
}

/* A key that a terminal reports by code point and modifiers (1 Shift, 2 Alt, 4 Ctrl). */
static bool set_reported(struct key *key, uint32_t c, unsigned modifiers) {
    if (c == '\r' && modifiers != 0) {
        c = '\n'; /* any modifier makes Enter a new line */
        modifiers = 0;
    }
    if (c == '\t' && modifiers == 1) return set_named(key, K_BACKTAB, 0);
    if ((modifiers & 4) && c >= '@' && c < 0x7F) c &= 0x1F;
    if (c > 0x10FFFF || (c >= 0x80 && c < 0xA0) || (c >= 0xE000 && c < 0xF900)) return false;
    *key = (struct key){.name = K_CHAR, .c = c, .is_alt = (modifiers & 2) != 0};
    return true;
}

/* Up to three numbers of "1;5"; what is missing stays 0. */
static void parse_parameters(const char *text, size_t n, unsigned out[3]) {
    size_t i = 0;
    for (size_t at = 0; at < n && i < 3; at++) {
        if (text[at] == ';') {
            i++;
        } else if (text[at] >= '0' && text[at] <= '9' && out[i] < 10000000) {
            out[i] = out[i] * 10 + (unsigned)(text[at] - '0');
        } else {
            return; /* a sub-parameter: only what is before it counts */
        }
    }
}

/* The sequence ESC [ parameters final; `text` starts behind the bracket. */
static bool key_of_csi(const char *text, size_t n, struct key *key) {
    unsigned p[3] = {0};
    char final = text[n - 1];
    if (n > 1 && (text[0] < '0' || text[0] > ';')) return false; /* private: an answer, a mouse */
    parse_parameters(text, n - 1, p);
    unsigned modifiers = p[1] > 0 ? p[1] - 1 : 0;
    if (final == 'u') return set_reported(key, p[0], modifiers);
    if (final == '~' && p[0] == 27) return set_reported(key, p[2], modifiers);
    if (final == '~') {
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            if (numbers[i].number == p[0]) return set_named(key, numbers[i].name, modifiers);
        return false;
    }
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
        if (letters[i].final == final) return set_named(key, letters[i].name, modifiers);
    return false;
}

/* text[0] is ESC and text[1] is '['. */
static struct take take_csi(struct keys *k, const char *text, size_t n, struct key *key) {
    size_t at = 2;
    while (at < n && at < SEQUENCE_BYTES && text[at] >= 0x20 && text[at] < 0x40) at++;
    if (at == n && at < SEQUENCE_BYTES) return (struct take){0};
    unsigned char final = (unsigned char)text[at];
    if (at == SEQUENCE_BYTES || final < 0x40 || final > 0x7E)
        return (struct take){.bytes = at};   /* broken off by something else */
    size_t behind = 0;                       /* bytes that follow the final one */
    if (at == 2 && final == '[') behind = 1; /* Linux console: ESC [ [ A is F1 */
    if (at == 2 && final == 'M') behind = 3; /* the oldest mouse report: never control characters */
    for (size_t i = 0; i < behind; i++) {
        if (at + 1 + i == n) return (struct take){0};
        if ((unsigned char)text[at + 1 + i] < 0x20) return (struct take){.bytes = at + 1 + i};
    }
    struct take take = {.bytes = at + 1 + behind};
    if (at == 5 && final == '~' && memcmp(text + 2, "200", 3) == 0) {
        k->is_pasting = true;
    } else if (behind == 0) {
        take.is_key = key_of_csi(text + 2, at + 1 - 2, key);
    }
    return take;
}

/* OSC, DCS, APC, PM, SOS: swallowed up to BEL or ESC \. */
static struct take take_string(const char *text, size_t n) {
    for (size_t at = 2; at < n; at++) {
        if (text[at] == '\a') return (struct take){.bytes = at + 1};
        if (text[at] == ESCAPE && at + 1 < n)
            return (struct take){.bytes = text[at + 1] == '\\' ? at + 2 : at};
    }
    return (struct take){.bytes = n > STRING_BYTES ? n : 0};
}

/* A character of text, through the sanitizer: it may be swallowed or become another one. */
static struct take take_character(struct keys *k, const char *text, size_t n, struct key *key) {
    uint32_t c;
    struct take take = {.bytes = utf8_decode(text, n, &c)};
    if (c == UTF8_BAD && utf8_incomplete_tail(text, n) == n) return (struct take){0};
    if (c == UTF8_BAD || (c >= 0x80 && c < 0xA0)) return take;
    struct buf out = {0};
    sanitize_feed(&k->typed, text, take.bytes, &out);
    if (out.n > 0) { /* of a carrier and its mark: the mark */
        size_t at = out.n - 1;
        while (at > 0 && ((unsigned char)out.data[at] & 0xC0) == 0x80) at--;
        utf8_decode(out.data + at, out.n - at, &c);
        *key = (struct key){.name = K_CHAR, .c = c};
        take.is_key = true;
    }
    buf_release(&out);
    return take;
}

static struct take take_escape(struct keys *k, const char *text, size_t n, struct key *key) {
    if (n == 1) return (struct take){0};
    char second = text[1];
    if (second == '[') return take_csi(k, text, n, key);
    if (second == 'O') {
        if (n == 2) return (struct take){0};
        struct take take = {.bytes = 3, .is_key = key_of_csi(text + 2, 1, key)};
        if (text[2] == 'M') take.is_key = set_reported(key, '\r', 0); /* keypad's Enter */
        return take;
    }
    if (strchr("]P_^X", second) && second) return take_string(text, n);
    if (second == ESCAPE) {
        *key = (struct key){.name = K_CHAR, .c = ESCAPE};
        return (struct take){.bytes = 1, .is_key = true};
    }
    if (second == '\r' || second == '\n') {
        *key = (struct key){.name = K_CHAR, .c = '\n'};
        return (struct take){.bytes = 2, .is_key = true};
    }
    if ((unsigned char)second < 0x20 || second == 0x7F) {
        *key = (struct key){.name = K_CHAR, .c = (unsigned char)second, .is_alt = true};
        return (struct take){.bytes = 2, .is_key = true};
    }
    struct take take = take_character(k, text + 1, n - 1, key);
    if (take.bytes) take.bytes++;
    key->is_alt = true;
    return take;
}

static struct take take_one(struct keys *k, const char *text, size_t n, struct key *key) {
    unsigned char first = (unsigned char)text[0];
    if (first == ESCAPE) return take_escape(k, text, n, key);
    if (first >= 0x20 && first != 0x7F) return take_character(k, text, n, key);
    *key = (struct key){.name = K_CHAR, .c = first};
    return (struct take){.bytes = 1, .is_key = first != 0};
}

/* Lines of a paste end with CR, LF or both, as the terminal likes. */
static void lines_to_newlines(struct buf *text) {
    size_t out = 0;
    for (size_t i = 0; i < text->n; i++) {
        char c = text->data[i];
        if (c == '\r' && i + 1 < text->n && text->data[i + 1] == '\n') continue;
        text->data[out++] = c == '\r' ? '\n' : c;
    }
    text->n = out;
}

/* The paste is whole in k->paste: makes it clean. false: it is not wanted. */
static bool finish_paste(struct keys *k, struct key *key) {
    struct buf clean = {0};
    bool is_wanted = !k->is_dropping;
    lines_to_newlines(&k->paste);
    if (is_wanted && k->paste.n > 0) sanitize_text(k->paste.data, k->paste.n, &clean);
    buf_release(&k->paste);
    k->paste = clean;
    *key = (struct key){.name = K_PASTE,
                        .is_cut = k->is_cut || clean.failed,
                        .text = clean.data ? clean.data : "",
                        .n_text = clean.n};
    k->is_pasting = k->is_cut = k->is_dropping = false;
    return is_wanted;
}

static void add_to_paste(struct keys *k, const char *text, size_t n) {
    size_t room = KEYS_PASTE_BYTES - k->paste.n;
    if (k->is_cut || k->is_dropping || n == 0) return;
    k->is_cut = n > room;
    buf_add(&k->paste, text, k->is_cut ? room : n);
    if (k->is_cut) k->paste.n -= utf8_incomplete_tail(k->paste.data, k->paste.n);
}

/* Moves what has come of a paste; true when its end was there. */
static bool take_paste(struct keys *k, struct key *key) {
    const char *text = k->in.data + k->at;
    size_t n = k->in.n - k->at;
    const char *end = memmem(text, n, paste_end, sizeof paste_end - 1);
    if (end || k->is_flushing) {
        size_t bytes = end ? (size_t)(end - text) : n;
        add_to_paste(k, text, bytes);
        k->at += bytes + (end ? sizeof paste_end - 1 : 0);
        return finish_paste(k, key);
    }
    /* the last bytes may be the beginning of the end */
    size_t keep = n < sizeof paste_end - 2 ? n : sizeof paste_end - 2;
    add_to_paste(k, text, n - keep);
    k->at += n - keep;
    return false;
}

void keys_release(struct keys *k) {
    buf_release(&k->in);
    buf_release(&k->paste);
    *k = (struct keys){0};
}

void keys_feed(struct keys *k, const char *bytes, size_t n) {
    if (k->at > 0 && k->at == k->in.n) {
        buf_clear(&k->in);
        k->at = 0;
    } else if (k->at > 4096) {
        memmove(k->in.data, k->in.data + k->at, k->in.n - k->at);
        k->in.n -= k->at;
        k->at = 0;
    }
    k->is_flushing = false;
    buf_add(&k->in, bytes, n);
    k->in.failed = false; /* out of memory: keys are lost, nothing else */
}

bool keys_next(struct keys *k, struct key *key) {
    if (!k->is_pasting && k->paste.n) buf_clear(&k->paste);
    while (k->at < k->in.n) {
        if (k->is_pasting) {
            if (take_paste(k, key)) return true;
            if (k->is_pasting) return false;
            continue;
        }
        struct take take = take_one(k, k->in.data + k->at, k->in.n - k->at, key);
        if (take.bytes == 0 && !k->is_flushing) return false;
        if (take.bytes == 0) { /* nothing more comes: the first byte stands for itself */
            take = (struct take){.bytes = 1, .is_key = k->in.data[k->at] == ESCAPE};
            *key = (struct key){.name = K_CHAR, .c = ESCAPE};
        }
        k->at += take.bytes;
        if (take.is_key) return true;
    }
    if (k->is_pasting && k->is_flushing) return take_paste(k, key);
    return false;
}

int keys_timeout_ms(const struct keys *k) {
    if (k->is_pasting) return PASTE_MS;
    return k->at < k->in.n ? ESCAPE_MS : -1;
}

void keys_flush(struct keys *k) {
    k->is_flushing = true;
}

void keys_drop_partial(struct keys *k) {
    k->is_flushing = false;
    if (k->is_pasting) {
        k->is_dropping = true;
        buf_clear(&k->paste);
    } else {
        buf_clear(&k->in);
        k->at = 0;
    }
}
