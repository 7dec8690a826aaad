/* The splitter: a machine of five states over the bytes that are held. */
#include "app/reasoning.h"

#include <string.h>

static const char opening[] = "<think>", closing[] = "</think>";

void reasoning_begin(struct reasoning *r, bool thinks, bool is_open) {
    *r = (struct reasoning){.state = !thinks   ? REASONING_ANSWER
                                     : is_open ? REASONING_OPEN
                                               : REASONING_START};
}

void reasoning_release(struct reasoning *r) {
    buf_release(&r->held);
}

static void drop(struct buf *held, size_t n) {
    if (!n) return;
    memmove(held->data, held->data + n, held->n - n + 1);
    held->n -= n;
}

static void give(struct buf *held, size_t n, struct buf *out) {
    if (n) buf_add(out, held->data, n);
    drop(held, n);
}

static size_t count_breaks(const struct buf *held) {
    return held->n ? strspn(held->data, "\r\n") : 0;
}

/* False: more text is needed to tell. */
static bool step_start(struct reasoning *r) {
    size_t blank = r->held.n ? strspn(r->held.data, " \t\r\n") : 0;
    size_t n = r->held.n - blank, length = sizeof opening - 1;
    if (n < length && (n == 0 || memcmp(r->held.data + blank, opening, n) == 0)) return false;
    if (n >= length && memcmp(r->held.data + blank, opening, length) == 0) {
        drop(&r->held, blank + length);
        r->state = REASONING_OPEN;
    } else {
        r->state = REASONING_ANSWER;
    }
    return true;
}

/* The opening marker's line break, or the closing one's. */
static bool step_breaks(struct reasoning *r, enum reasoning_state next) {
    drop(&r->held, count_breaks(&r->held));
    if (!r->held.n) return false;
    r->state = next;
    return true;
}

/* How many of the last bytes may belong to a closing marker or the breaks before it. */
static size_t undecided(const struct buf *held) {
    size_t n = held->n, most = sizeof closing - 2, marker = 0;
    for (size_t k = most < n ? most : n; k > 0 && !marker; k--)
        if (memcmp(held->data + n - k, closing, k) == 0) marker = k;
    size_t at = n - marker;
    while (at > 0 && (held->data[at - 1] == '\n' || held->data[at - 1] == '\r')) at--;
    return n - at;
}

static bool step_inside(struct reasoning *r, struct buf *reasoning) {
    char *marker = r->held.n ? memmem(r->held.data, r->held.n, closing, sizeof closing - 1) : NULL;
    if (!marker) {
        give(&r->held, r->held.n - undecided(&r->held), reasoning);
        return false;
    }
    size_t end = (size_t)(marker - r->held.data), n = end;
    while (n > 0 && (r->held.data[n - 1] == '\n' || r->held.data[n - 1] == '\r')) n--;
    buf_add(reasoning, r->held.data, n);
    drop(&r->held, end + sizeof closing - 1);
    r->state = REASONING_CLOSED;
    return true;
}

void reasoning_feed(struct reasoning *r, const char *text, size_t n, struct buf *reasoning,
                    struct buf *answer) {
    buf_add(&r->held, text, n);
    if (r->held.failed) {
        answer->failed = true; /* what was held is lost: the caller must not show a gap */
        return;
    }
    for (bool goes_on = true; goes_on;) {
        switch (r->state) {
        case REASONING_START:
            goes_on = step_start(r);
            break;
        case REASONING_OPEN:
            goes_on = step_breaks(r, REASONING_INSIDE);
            break;
        case REASONING_INSIDE:
            goes_on = step_inside(r, reasoning);
            break;
        case REASONING_CLOSED:
            goes_on = step_breaks(r, REASONING_ANSWER);
            break;
        case REASONING_ANSWER:
            give(&r->held, r->held.n, answer);
            goes_on = false;
            break;
        }
    }
}

void reasoning_finish(struct reasoning *r, struct buf *reasoning, struct buf *answer) {
    bool is_inside = r->state == REASONING_OPEN || r->state == REASONING_INSIDE;
    give(&r->held, r->held.n, is_inside ? reasoning : answer);
}
