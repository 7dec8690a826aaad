/* Tokens to text as they come. */
#include "engine/text/detokenizer.h"

#include "engine/base/utf8.h"

#include <string.h>

void detokenizer_init(struct detokenizer *d, const struct tokenizer *t, const char *const *stops,
                      size_t n_stops) {
    *d = (struct detokenizer){.tokenizer = t, .stops = stops, .n_stops = n_stops};
}

void detokenizer_release(struct detokenizer *d) {
    buf_release(&d->held);
}

/* How many of text[0..n), which does not begin with a whole character, one U+FFFD stands for: the
 * longest beginning of a character, as in Python's errors="replace" and the Unicode standard. */
static size_t broken_length(const char *text, size_t n) {
    for (size_t k = n < 3 ? n : 3; k > 1; k--) {
        if (utf8_incomplete_tail(text, k) == k) return k;
    }
    return 1;
}

/* Appends text[0..n), bytes that are no character as U+FFFD. */
static void put_text(const char *text, size_t n, struct buf *out) {
    size_t good = 0; /* text[good..i) is valid and not yet appended */
    for (size_t i = 0; i < n;) {
        uint32_t c;
        size_t length = utf8_decode(text + i, n - i, &c);
        if (c != UTF8_BAD) {
            i += length;
            continue;
        }
        buf_add(out, text + good, i - good);
        buf_put_utf8(out, 0xFFFD);
        good = i += broken_length(text + i, n - i);
    }
    buf_add(out, text + good, n - good);
}

/* Where the first stop string begins in text[0..n); n where there is none. */
static size_t find_stop(const struct detokenizer *d, const char *text, size_t n) {
    size_t first = n;
    for (size_t k = 0; k < d->n_stops; k++) {
        size_t length = strlen(d->stops[k]);
        const char *found = length ? memmem(text, n, d->stops[k], length) : NULL;
        if (found && (size_t)(found - text) < first) first = (size_t)(found - text);
    }
    return first;
}

/* How many of the last bytes are the beginning of a stop string. */
static size_t undecided_tail(const struct detokenizer *d, const char *text, size_t n) {
    size_t longest = 0;
    for (size_t k = 0; k < d->n_stops; k++) {
        size_t length = strlen(d->stops[k]);
        for (size_t tail = n < length ? n : length ? length - 1 : 0; tail > longest; tail--) {
            if (memcmp(text + n - tail, d->stops[k], tail) == 0) longest = tail;
        }
    }
    return longest;
}

bool detokenizer_add(struct detokenizer *d, int32_t id, struct buf *out) {
    if (d->stopped) return true;
    if (!d->tokenizer) return false;
    tokenizer_decode(d->tokenizer, &id, 1, d->with_control, &d->held);
    if (d->held.failed) out->failed = true;
    size_t n = d->held.n;
    if (n == 0) return false;
    size_t stop = find_stop(d, d->held.data, n);
    d->stopped = stop < n;
    if (!d->stopped) {
        size_t cut = utf8_incomplete_tail(d->held.data, n);
        size_t undecided = undecided_tail(d, d->held.data, n);
        stop = n - (cut > undecided ? cut : undecided);
    }
    put_text(d->held.data, stop, out);
    memmove(d->held.data, d->held.data + stop, n - stop);
    d->held.n = d->stopped ? 0 : n - stop;
    return d->stopped;
}

void detokenizer_finish(struct detokenizer *d, struct buf *out) {
    if (d->held.n) put_text(d->held.data, d->held.n, out);
    buf_clear(&d->held);
}
