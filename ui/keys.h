/*
 * What a terminal sends, as keys. Bytes go in as they are read; out come characters, named keys and
 * whole pastes. Answers of the terminal (reports, colours), mouse events and unknown sequences are
 * swallowed, so that none of them leaks into the text. The same for every skin with a terminal.
 */
#pragma once

#include "engine/base/buf.h"
#include "engine/base/sanitize.h"

enum { KEYS_PASTE_BYTES = 1 << 20 }; /* longest paste; the rest of it is dropped */

enum key_name {
    K_CHAR, /* c: a code point, or a control character: Enter is '\r', Ctrl-A is 1 */
    K_UP,
    K_DOWN,
    K_LEFT,
    K_RIGHT,
    K_WORD_LEFT, /* Ctrl or Alt with an arrow */
    K_WORD_RIGHT,
    K_HOME,
    K_END,
    K_PAGE_UP,
    K_PAGE_DOWN,
    K_DELETE,
    K_BACKTAB, /* Shift-Tab */
    K_PASTE,   /* text: sanitized, lines end with "\n" */
};

struct key {
    enum key_name name;
    uint32_t c;
    bool is_alt;      /* K_CHAR; K_UP, K_DOWN: with Alt or Ctrl */
    bool is_cut;      /* K_PASTE: it was longer than KEYS_PASTE_BYTES */
    const char *text; /* K_PASTE: valid until the next call on the same struct keys */
    size_t n_text;
};

/* Zero it before use. */
struct keys {
    struct buf in; /* bytes not yet decoded start at `at` */
    size_t at;
    struct buf paste;       /* raw while it arrives, then the text handed out */
    struct sanitizer typed; /* a typed character may depend on the one before (joiners) */
    bool is_pasting, is_cut;
    bool is_dropping; /* the paste that is coming is not wanted */
    bool is_flushing; /* what is there is all that comes */
};

void keys_release(struct keys *k);
void keys_feed(struct keys *k, const char *bytes, size_t n);

/* The next whole key; false: none. */
bool keys_next(struct keys *k, struct key *key);

/* Milliseconds to wait for the rest of a sequence that has begun, -1: none has. When they pass
 * without a byte, keys_flush() and take what keys_next() then gives (a lone Escape). */
int keys_timeout_ms(const struct keys *k);
void keys_flush(struct keys *k);

/* Forgets a sequence that has begun; of a paste also what is still to come. */
void keys_drop_partial(struct keys *k);
