/*
 * libedit's line, which is wide characters, as UTF-8 text with places in bytes; its lines, clusters
 * and columns.
 */
#include "ui/editor_internal.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"

/*
 * libedit paints onto a screen that nobody sees, and its painting writes out of bounds when a text
 * goes past the last row. So the screen has room for every entry, and newlines and tabs, which take
 * more room than others, are kept in libedit as noncharacters, which no sanitized text has.
 */
enum { LINE_BREAK = 0xFDD0, TABULATOR = 0xFDD1, REPLACEMENT = 0xFFFD };

static wchar_t to_libedit(uint32_t c) {
    if (c == '\n') return LINE_BREAK;
    if (c == '\t') return TABULATOR;
    return c == 0 || c == UTF8_BAD || c == LINE_BREAK || c == TABULATOR ? REPLACEMENT : (wchar_t)c;
}

static uint32_t from_libedit(wchar_t c) {
    if (c == LINE_BREAK) return '\n';
    if (c == TABULATOR) return '\t';
    return c == 0 ? REPLACEMENT : (uint32_t)c; /* vi's P may leave a NUL */
}

/* Copies libedit's line to e->text. Some vi commands leave the cursor outside of the line ($ on an
 * empty one), and the next command would then write there: it is put back first. */
void editor_look(struct editor *e) {
    const LineInfoW *line = el_wline(e->el);
    if (line->cursor < line->buffer) el_cursor(e->el, (int)(line->buffer - line->cursor));
    if (line->cursor > line->lastchar) el_cursor(e->el, (int)(line->lastchar - line->cursor));
    buf_clear(&e->text);
    e->cursor = 0;
    for (const wchar_t *c = line->buffer; c < line->lastchar; c++) {
        if (c == line->cursor) e->cursor = e->text.n;
        buf_put_utf8(&e->text, from_libedit(*c));
    }
    if (line->cursor >= line->lastchar) e->cursor = e->text.n;
    if (!e->text.data) buf_puts(&e->text, "");
}

int editor_count_code_points(const char *text, size_t n) {
    int count = 0;
    for (size_t i = 0; i < n; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* Moves the cursor to byte `to` of the text as editor_look() has seen it. */
void editor_move_to(struct editor *e, size_t to) {
    int by = to > e->cursor ? editor_count_code_points(e->text.data + e->cursor, to - e->cursor)
                            : -editor_count_code_points(e->text.data + to, e->cursor - to);
    el_cursor(e->el, by);
}

void editor_insert(struct editor *e, const char *text, size_t n) {
    if (n > EDITOR_ENTRY_BYTES) n = EDITOR_ENTRY_BYTES;
    wchar_t *wide = mem_alloc((n + 1) * sizeof *wide);
    size_t n_wide = 0;
    if (!wide) return;
    for (size_t at = 0; at < n;) {
        uint32_t c;
        at += utf8_decode(text + at, n - at, &c);
        wide[n_wide++] = to_libedit(c);
    }
    wide[n_wide] = L'\0';
    if (n_wide > 0) el_winsertstr(e->el, wide);
    mem_free(wide);
}

void editor_replace(struct editor *e, const char *text, size_t n, size_t cursor) {
    const LineInfoW *line = el_wline(e->el);
    int n_wide = (int)(line->lastchar - line->buffer);
    e->is_rewritten = true;
    el_cursor(e->el, (int)(line->lastchar - line->cursor));
    el_deletestr(e->el, n_wide);
    editor_insert(e, text, n);
    el_cursor(e->el, -editor_count_code_points(text + cursor, n - cursor));
}

size_t editor_line_begin(const struct editor *e, size_t at) {
    while (at > 0 && e->text.data[at - 1] != '\n') at--;
    return at;
}

size_t editor_line_end(const struct editor *e, size_t at) {
    while (at < e->text.n && e->text.data[at] != '\n') at++;
    return at;
}

size_t editor_cluster_after(const struct editor *e, size_t at) {
    int width;
    return at < e->text.n ? at + utf8_cluster(e->text.data + at, e->text.n - at, &width) : at;
}

size_t editor_cluster_before(const struct editor *e, size_t at) {
    if (at == 0) return 0;
    size_t begin = editor_line_begin(e, at), previous = begin > 0 ? begin - 1 : 0;
    while (begin < at) {
        previous = begin;
        begin = editor_cluster_after(e, begin);
    }
    return previous;
}

int editor_column_of(const struct editor *e, size_t at) {
    int column = 0, width;
    for (size_t i = editor_line_begin(e, at); i < at;) {
        i += utf8_cluster(e->text.data + i, e->text.n - i, &width);
        column += width;
    }
    return column;
}

/* The place in the line at `begin` that is nearest to `column` from the left. */
size_t editor_at_column(const struct editor *e, size_t begin, int column) {
    size_t at = begin, end = editor_line_end(e, begin);
    int width;
    while (at < end) {
        size_t bytes = utf8_cluster(e->text.data + at, e->text.n - at, &width);
        if (column < width) break;
        column -= width;
        at += bytes;
    }
    return at;
}
