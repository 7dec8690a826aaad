/*
 * NFC piece by piece: text that it cannot change is copied as it is, and only from a character
 * that may combine, its starter included, to the next one that cannot, utf8proc composes.
 */
#include "engine/text/nfc.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <stdint.h>
#include <utf8proc.h>

#define RANGE(first, last) {0x##first, 0x##last},
static const struct {
    uint32_t first, last;
} changeable[] = {
#define UNICODE_NFC RANGE
#include "engine/text/unicode.def"
};

enum { N_CHANGEABLE = sizeof changeable / sizeof changeable[0] };
enum { MAX_DECOMPOSED = 4 }; /* code points of one character, canonically */
static const utf8proc_option_t to_nfc = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

/* May NFC change this character, or it and the one before? */
static bool is_changeable(uint32_t c) {
    size_t low = 0, high = N_CHANGEABLE;
    if (c < changeable[0].first) return false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > changeable[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < N_CHANGEABLE && c >= changeable[low].first;
}

/* Orders a run of marks by combining class, those of one class staying in their order. */
static void sort_marks(int32_t *marks, size_t n, int32_t *copy) {
    size_t start[257] = {0};
    for (size_t i = 0; i < n; i++) start[utf8proc_get_property(marks[i])->combining_class + 1]++;
    for (size_t i = 1; i < 257; i++) start[i] += start[i - 1];
    for (size_t i = 0; i < n; i++) copy[i] = marks[i];
    for (size_t i = 0; i < n; i++)
        marks[start[utf8proc_get_property(copy[i])->combining_class]++] = copy[i];
}

static void sort_all_marks(int32_t *points, size_t n, int32_t *copy) {
    size_t run = 0; /* where the current run of marks began */
    for (size_t i = 0; i <= n; i++) {
        if (i < n && utf8proc_get_property(points[i])->combining_class != 0) continue;
        if (i > run + 1) sort_marks(points + run, i - run, copy);
        run = i + 1;
    }
}

/* The canonical decomposition of text[0..n); returns its length, or -1 where it does not fit. */
static utf8proc_ssize_t decompose(const char *text, size_t n, int32_t *points, size_t capacity) {
    size_t n_points = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += utf8_decode(text + i, n - i, &c);
        utf8proc_ssize_t got = utf8proc_decompose_char(
            (int32_t)c, points + n_points, (utf8proc_ssize_t)(capacity - n_points), to_nfc, NULL);
        if (got < 0 || (size_t)got > capacity - n_points) return -1;
        n_points += (size_t)got;
    }
    return (utf8proc_ssize_t)n_points;
}

/* Appends the NFC of one stretch. No changeable character becomes more than its bytes. */
static void compose(const char *text, size_t n, struct buf *out) {
    size_t capacity = n + MAX_DECOMPOSED;
    int32_t *points = mem_resize(NULL, capacity, 2 * sizeof *points);
    utf8proc_ssize_t n_points = points ? decompose(text, n, points, capacity) : -1;
    if (n_points >= 0) {
        sort_all_marks(points, (size_t)n_points, points + capacity);
        n_points = utf8proc_normalize_utf32(points, n_points, to_nfc);
    }
    if (n_points < 0) out->failed = true;
    for (utf8proc_ssize_t i = 0; i < n_points; i++) buf_put_utf8(out, (uint32_t)points[i]);
    mem_free(points);
}

bool nfc_normalize(const char *text, size_t n, struct buf *out) {
    bool is_changed = false;
    size_t copied = 0;  /* all before is in `out` */
    size_t starter = 0; /* the last character that begins anew */
    for (size_t i = 0; i < n;) {
        uint32_t c;
        if ((unsigned char)text[i] < 0x80) {
            starter = i++;
            continue;
        }
        size_t length = utf8_decode(text + i, n - i, &c);
        if (!is_changeable(c)) {
            starter = i;
            i += length;
            continue;
        }
        while (i < n && is_changeable(c)) {
            i += length;
            if (i < n) length = utf8_decode(text + i, n - i, &c);
        }
        buf_add(out, text + copied, starter - copied);
        compose(text + starter, i - starter, out);
        copied = starter = i;
        is_changed = true;
    }
    if (is_changed) buf_add(out, text + copied, n - copied);
    return is_changed;
}
