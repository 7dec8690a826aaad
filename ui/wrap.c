/*
 * One pass over the clusters of a line, with the last place where it may be broken kept in mind.
 * When a cluster does not fit, the row ends there and the scan goes on behind it.
 */
#include "ui/wrap.h"

#include "engine/base/utf8.h"

#include <string.h>

enum { TAB_COLUMNS = 8 };

/* What must not begin a row, and what must not end one (JIS X 4051 and GB/T 15834 in short). */
static const char closing[] = "、。，．：；？！）］｝〉》」』】〕〗〙”’…—～·,.!?:;)]}%";
static const char opening[] = "（［｛〈《「『【〔〖〘“‘([{";

static bool is_among(const char *set, const char *cluster, size_t n) {
    for (const char *at = set; *at;) {
        uint32_t c;
        size_t bytes = utf8_decode(at, strlen(at), &c);
        if (bytes == n && memcmp(at, cluster, n) == 0) return true;
        at += bytes;
    }
    return false;
}

int wrap_cluster(const char *text, size_t n, int column, size_t *bytes) {
    int width;
    *bytes = utf8_cluster(text, n, &width);
    if (*text == '\t') return TAB_COLUMNS - column % TAB_COLUMNS;
    return width > 0 ? width : 1;
}

/* --- one line --------------------------------------------------------------------------------- */

struct breaker {
    struct lines *out;
    const struct wrap *how;
    const struct styled *text;
    size_t end;     /* of the line */
    bool is_first;  /* the next row is the first one */
    bool is_joined; /* the next row goes on from the one before */
    int room;       /* columns beside the prefix */
};

static const struct styled *prefix_of(const struct breaker *b) {
    const struct styled *prefix = b->is_first ? b->how->first : b->how->rest;
    return prefix && styled_width(prefix) < b->how->columns ? prefix : NULL;
}

static void find_room(struct breaker *b) {
    const struct styled *prefix = prefix_of(b);
    b->room = b->how->columns - (prefix ? styled_width(prefix) : 0);
}

/* A cluster that is not shown as it stands in the text. */
static bool put_special(struct lines *out, const char *text, size_t n, int width, int room,
                        text_style style) {
    static const char blanks[TAB_COLUMNS + 1] = "        ";
    int own;
    utf8_cluster(text, n, &own);
    if (*text == '\t') {
        styled_add(&out->content, blanks, (size_t)(width < room ? width : room), style);
    } else if (width > room) { /* wider than the whole row */
        styled_puts(&out->content, "?", style);
    } else if (own == 0) {
        styled_puts(&out->content, "\xE2\x97\x8C", style);
        styled_add(&out->content, text, n, style);
    } else {
        return false;
    }
    return true;
}

/* Copies text[begin..end) and returns its columns. */
static int put_text(const struct breaker *b, size_t begin, size_t end) {
    const char *text = b->text->text.data;
    size_t run = styled_run_at(b->text, begin), plain = begin, bytes;
    int column = 0;
    for (size_t at = begin; at < end; at += bytes) {
        int width = wrap_cluster(text + at, end - at, column, &bytes);
        bool is_plain = (unsigned char)text[at] >= 0x20 && (unsigned char)text[at] < 0x7F;
        while (run + 1 < b->text->n_runs && b->text->runs[run].end <= at) {
            size_t to = b->text->runs[run].end;
            if (to > plain)
                styled_add(&b->out->content, text + plain, to - plain, b->text->runs[run].style);
            if (to > plain) plain = to;
            run++;
        }
        if (!is_plain || width > b->room) {
            text_style s = b->text->runs[run].style;
            styled_add(&b->out->content, text + plain, at - plain, s);
            plain = at;
            if (put_special(b->out, text + at, bytes, width, b->room - column, s))
                plain = at + bytes;
            if (width > b->room - column) width = b->room - column;
        }
        column += width;
    }
    if (end > plain)
        styled_add(&b->out->content, text + plain, end - plain, b->text->runs[run].style);
    return column;
}

static void put_row(struct breaker *b, size_t begin, size_t end) {
    const struct styled *prefix = prefix_of(b);
    int width = 0;
    lines_begin_row(b->out, b->is_joined);
    if (prefix) {
        styled_add_all(&b->out->content, prefix);
        width = styled_width(prefix);
    }
    if (end > begin) width += put_text(b, begin, end);
    lines_end_row(b->out, width);
    b->is_first = false;
    b->is_joined = true;
    find_room(b);
}

/* May a row end between the clusters before[0..n) and after[0..m), neither of them a blank? */
static bool may_break(const char *before, size_t n, int width, const char *after, size_t m,
                      int width_after, bool is_within) {
    if (width < 2 && width_after < 2)
        return is_within && (*before == '-' || *before == '/') && (unsigned char)*after >= '0';
    return !is_among(closing, after, m) && !is_among(opening, before, n);
}

/* Without so many of the blanks at its end, which hang over. */
static size_t cut_blanks(const char *text, size_t begin, size_t end, int n) {
    while (n-- > 0 && end > begin && text[end - 1] == ' ') end--;
    return end;
}

/* Where a row that begins at `begin` ends, and where the next one begins. */
static size_t find_end(const struct breaker *b, size_t begin, size_t *next) {
    const char *text = b->text->text.data;
    size_t best = 0, best_next = 0, bytes, former = begin, n_former = 0, word = begin;
    int column = 0, former_width = 0;
    for (size_t at = begin; at < b->end; at += bytes) {
        int width = wrap_cluster(text + at, b->end - at, column, &bytes);
        bool is_blank = text[at] == ' ' && bytes == 1 && !b->how->is_verbatim;
        if (is_blank) {
            if (former_width >= 0 && at > begin) best = at; /* the first blank behind a word */
            best_next = best ? at + bytes : 0;
        } else if (!b->how->is_verbatim && former_width > 0 &&
                   may_break(text + former, n_former, former_width, text + at, bytes, width,
                             former > word)) {
            best = best_next = at;
        }
        if (column + width > b->room && !is_blank && at > begin) {
            *next = best ? best_next : at;
            return best ? best : cut_blanks(text, begin, at, column - b->room);
        }
        former = at;
        n_former = bytes;
        former_width = is_blank ? -1 : width;
        if (is_blank) word = at + bytes;
        column += width;
    }
    *next = b->end;
    return b->end;
}

static void break_line(struct breaker *b, size_t begin) {
    size_t next;
    b->is_joined = false;
    find_room(b);
    do {
        size_t end = find_end(b, begin, &next);
        if (!b->how->is_verbatim && next == b->end) /* blanks at the end of a line show nothing */
            while (end > begin && b->text->text.data[end - 1] == ' ') end--;
        put_row(b, begin, end);
        if (next < b->end && next > end) styled_puts(&b->out->content, " ", INK_text);
        begin = next;
    } while (begin < b->end);
}

void wrap_text(struct lines *out, const struct wrap *how, const struct styled *text, size_t begin,
               size_t end) {
    struct breaker b = {.out = out, .how = how, .text = text, .is_first = true};
    for (;;) {
        const char *at = end > begin ? text->text.data + begin : NULL;
        const char *newline = at ? memchr(at, '\n', end - begin) : NULL;
        b.end = newline ? begin + (size_t)(newline - at) : end;
        break_line(&b, begin);
        if (!newline) return;
        begin = b.end + 1;
    }
}
