/* Rows are cut where they are full, so that no key moves text that stands before it; lines begin
 * below the first character of the one above. */
#include "ui/input_area.h"

#include "engine/base/utf8.h"
#include "ui/wrap.h"

#include <string.h>

enum { LEAST_ROOM = 6, MOST_INDENT = 8 };

struct layout {
    struct input_area *area;
    int columns, indent, column;
};

static void begin_row(struct layout *l, bool is_joined) {
    struct lines *lines = &l->area->lines;
    if (lines->n > 0) lines_end_row(lines, l->column);
    lines_begin_row(lines, is_joined);
    for (l->column = 0; l->column < l->indent; l->column++)
        styled_add(&lines->content, " ", 1, INK_text);
}

static void mark_caret(struct layout *l) {
    l->area->caret_row = l->area->lines.n - 1;
    l->area->caret_column = l->column;
}

/* A prompt that leaves little room has rows of its own. */
static void put_prompt(struct layout *l, const char *prompt, text_style style) {
    struct lines *lines = &l->area->lines;
    struct styled text = {0};
    styled_puts(&text, prompt, style);
    int width = styled_width(&text);
    if (width <= l->columns - LEAST_ROOM) {
        lines_begin_row(lines, false);
        styled_add_all(&lines->content, &text);
        l->column = width;
        l->indent = width <= MOST_INDENT ? width : 0;
    } else {
        const struct wrap how = {.columns = l->columns};
        if (*prompt) wrap_text(lines, &how, &text, 0, text.text.n);
        lines_begin_row(lines, false);
    }
    styled_release(&text);
}

static void put_cluster(struct layout *l, const char *text, size_t n, int width) {
    struct styled *content = &l->area->lines.content;
    int own;
    utf8_cluster(text, n, &own);
    if (*text == '\t') {
        for (int i = 0; i < width; i++) styled_add(content, " ", 1, INK_text);
    } else if (own == 0) {
        styled_puts(content, "\xE2\x97\x8C", INK_text);
        styled_add(content, text, n, INK_text);
    } else if (width > l->columns - l->indent) {
        styled_puts(content, "?", INK_text);
        width = 1;
    } else {
        styled_add(content, text, n, INK_text);
    }
    l->column += width;
}

static void put_text(struct layout *l, const char *text, size_t cursor) {
    size_t n = strlen(text), bytes;
    for (size_t at = 0; at < n; at += bytes) {
        int width = wrap_cluster(text + at, n - at, l->column - l->indent, &bytes);
        bool is_newline = text[at] == '\n';
        if (!is_newline && l->column + width > l->columns && l->column > l->indent) {
            begin_row(l, true);
            width = wrap_cluster(text + at, n - at, 0, &bytes);
            if (l->column + width > l->columns && text[at] == '\t') width = l->columns - l->column;
        }
        if (is_newline && cursor == at && l->column >= l->columns) begin_row(l, true);
        if (cursor >= at && cursor < at + bytes) mark_caret(l);
        if (is_newline) {
            begin_row(l, false);
        } else {
            put_cluster(l, text + at, bytes, width);
        }
    }
    if (cursor >= n) {
        if (l->column >= l->columns) begin_row(l, true);
        mark_caret(l);
    }
    lines_end_row(&l->area->lines, l->column);
}

void input_area_release(struct input_area *a) {
    lines_release(&a->lines);
}

void input_area_lay_out(struct input_area *a, const char *prompt, text_style style,
                        const char *text, size_t cursor, int columns, size_t most_rows) {
    struct layout l = {.area = a, .columns = columns > 0 ? columns : 1};
    if (most_rows < 1) most_rows = 1;
    lines_clear(&a->lines);
    put_prompt(&l, prompt, style);
    put_text(&l, text, cursor);
    a->height = a->lines.n < most_rows ? a->lines.n : most_rows;
    if (a->first + a->height > a->lines.n) a->first = a->lines.n - a->height;
    if (a->caret_row < a->first) a->first = a->caret_row;
    if (a->caret_row >= a->first + a->height) a->first = a->caret_row + 1 - a->height;
}
