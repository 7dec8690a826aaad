/*
 * Every show lays the text out into rows, cuts the window, and writes the difference to the rows
 * that stand there. Rows are broken by us and never by the terminal: after its last column a
 * terminal's cursor is in a place of its own, so such a row is always left with a carriage return.
 * Only CR, LF, CUU, CUD, CUF, EL and ED are used (ECMA-48), which every terminal but "dumb" has.
 */
#include "ui/line_view.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <string.h>

enum { TAB_COLUMNS = 8 };

/* --- layout ----------------------------------------------------------------------------------- */

struct layout {
    struct line_view_frame *frame;
    int columns, column;
};

static struct line_view_row *last_row(struct layout *l) {
    return &l->frame->rows[l->frame->n_rows - 1];
}

static bool begin_row(struct layout *l) {
    struct line_view_frame *f = l->frame;
    if (mem_grow((void **)&f->rows, &f->capacity, f->n_rows + 1, sizeof *f->rows) != 0)
        return false;
    f->rows[f->n_rows++] = (struct line_view_row){.begin = f->text.n, .end = f->text.n};
    l->column = 0;
    return true;
}

/* Starts a row where `width` columns have no room left. */
static bool make_room(struct layout *l, int width) {
    return l->column + width <= l->columns || l->column == 0 || begin_row(l);
}

static void place(struct layout *l, const char *text, size_t n, int width) {
    if (width > l->columns) {
        text = "?";
        n = 1;
        width = 1;
    }
    buf_add(&l->frame->text, text, n);
    l->column += width;
    struct line_view_row *row = last_row(l);
    row->end = l->frame->text.n;
    row->width = l->column;
}

/* Several code points, or one from the planes where emoji are: terminals count them differently. */
static bool is_loose(const char *text, size_t n) {
    uint32_t c;
    return utf8_decode(text, n, &c) < n || c >= 0x1F000;
}

/* One cluster of the text (not a newline); controls as ^X. */
static void place_cluster(struct layout *l, const char *text, size_t n, int width) {
    unsigned char first = (unsigned char)text[0];
    if (first == '\t') {
        int next = (l->column / TAB_COLUMNS + 1) * TAB_COLUMNS;
        do place(l, " ", 1, 1);
        while (l->column < next && l->column < l->columns);
    } else if (first < 0x20 || first == 0x7F) {
        place(l, (char[]){'^', (char)(first ^ 0x40)}, 2, 2);
    } else if (first == 0xC2 && n > 1 && (unsigned char)text[1] < 0xA0) {
        place(l, "\xEF\xBF\xBD", 3, 1);
    } else if (width == 0) { /* a mark without a character: shown on a dotted circle */
        place(l, "\xE2\x97\x8C", 3, 1);
        place(l, text, n, 0);
    } else {
        place(l, text, n, width);
        if (n > 1 && is_loose(text, n)) last_row(l)->is_loose = true;
    }
}

static int width_to_place(const char *text, int width) {
    unsigned char first = (unsigned char)text[0];
    if (first == '\t') return 1;
    if (first < 0x20 || first == 0x7F) return 2;
    return width > 0 ? width : 1;
}

static void mark_cursor(struct layout *l) {
    l->frame->cursor_row = l->frame->n_rows - 1;
    l->frame->cursor_column = l->column < l->columns ? l->column : l->columns - 1;
}

static bool lay_out_text(struct layout *l, const char *text, size_t n, size_t cursor) {
    size_t at = 0;
    while (at < n) {
        int width;
        size_t bytes = utf8_cluster(text + at, n - at, &width);
        bool is_newline = text[at] == '\n';
        if (!is_newline && !make_room(l, width_to_place(text + at, width))) return false;
        if (cursor >= at && cursor < at + bytes) mark_cursor(l);
        if (is_newline) {
            if (!begin_row(l)) return false;
        } else {
            place_cluster(l, text + at, bytes, width);
        }
        at += bytes;
    }
    if (cursor >= n) {
        if (!make_room(l, 1)) return false;
        mark_cursor(l);
    }
    return true;
}

/* The prompt is cut to leave at least half of the first row. */
static void lay_out_prompt(struct layout *l, const char *prompt, const char *style) {
    size_t n = strlen(prompt);
    if (*style) buf_puts(&l->frame->text, style);
    for (size_t at = 0; at < n;) {
        int width;
        size_t bytes = utf8_cluster(prompt + at, n - at, &width);
        if (l->column + width > l->columns / 2 && l->columns < 40) break;
        if (l->column + width >= l->columns) break;
        place(l, prompt + at, bytes, width);
        at += bytes;
    }
    if (*style) buf_puts(&l->frame->text, "\033[0m");
    last_row(l)->end = l->frame->text.n;
}

static bool lay_out(struct line_view_frame *frame, int columns, const char *prompt,
                    const char *style, const char *text, size_t cursor, size_t *prompt_bytes) {
    struct layout l = {.frame = frame, .columns = columns};
    if (!begin_row(&l)) return false;
    lay_out_prompt(&l, prompt, style);
    *prompt_bytes = frame->text.n;
    return lay_out_text(&l, text, strlen(text), cursor) && !frame->text.failed;
}

/* Keeps the rows that fit the screen, the cursor's among them. */
static void cut_window(struct line_view *v, struct line_view_frame *frame) {
    size_t height = (size_t)(v->terminal->rows > 0 ? v->terminal->rows : 1);
    size_t most = frame->n_rows > height ? frame->n_rows - height : 0;
    if (frame->cursor_row < v->first) v->first = frame->cursor_row;
    if (frame->cursor_row >= v->first + height) v->first = frame->cursor_row - height + 1;
    if (v->first > most) v->first = most;
    if (frame->n_rows > height) frame->n_rows = height;
    memmove(frame->rows, frame->rows + v->first, frame->n_rows * sizeof *frame->rows);
    frame->cursor_row -= v->first;
}

static void frame_release(struct line_view_frame *frame) {
    buf_release(&frame->text);
    mem_free(frame->rows);
    *frame = (struct line_view_frame){0};
}

/* --- writing ---------------------------------------------------------------------------------- */

struct pen {
    struct buf out;
    size_t row, n_rows; /* n_rows: rows that exist on the screen */
    int column;         /* -1: unknown */
    int columns;
};

static void go(struct pen *p, size_t row, int column) {
    if (row < p->row) buf_printf(&p->out, "\033[%zuA", p->row - row);
    if (row > p->row && row < p->n_rows) buf_printf(&p->out, "\033[%zuB", row - p->row);
    if (row >= p->n_rows) {
        if (p->n_rows > p->row + 1) buf_printf(&p->out, "\033[%zuB", p->n_rows - 1 - p->row);
        for (; p->n_rows <= row; p->n_rows++) buf_puts(&p->out, "\r\n");
        p->column = 0;
    }
    p->row = row;
    if (column == p->column) return;
    if (p->column < 0 || column < p->column) {
        buf_putc(&p->out, '\r');
        p->column = 0;
    }
    if (column > p->column) buf_printf(&p->out, "\033[%dC", column - p->column);
    p->column = column;
}

/* Bytes that both begin with, at a border between clusters, and their columns. */
static size_t common_bytes(const char *a, size_t n_a, const char *b, size_t n_b, int *columns) {
    size_t at = 0;
    *columns = 0;
    while (at < n_a && at < n_b) {
        int width = 0;
        size_t bytes = 1;
        if (b[at] == '\033') {
            while (at + bytes < n_b && b[at + bytes - 1] != 'm') bytes++;
        } else {
            bytes = utf8_cluster(b + at, n_b - at, &width);
        }
        if (bytes > n_a - at || memcmp(a + at, b + at, bytes) != 0) break;
        at += bytes;
        *columns += width;
    }
    return at;
}

/* Writes row i of `new`; `old` is what stands there (an empty row where nothing does). fixed: bytes
 * at its beginning that are written as one, or not at all. */
static void write_row(struct pen *p, const struct line_view_frame *old,
                      const struct line_view_frame *new, size_t i, size_t fixed) {
    struct line_view_row a = i < old->n_rows ? old->rows[i] : (struct line_view_row){0};
    struct line_view_row b = new->rows[i];
    const char *old_text = old->text.data ? old->text.data + a.begin : "";
    const char *new_text = new->text.data ? new->text.data + b.begin : "";
    size_t n_old = a.end - a.begin, n_new = b.end - b.begin;
    int column = 0;
    size_t same = common_bytes(old_text, n_old, new_text, n_new, &column);
    if (i < old->n_rows && same == n_old && same == n_new) return;
    /* a cluster may have grown at the border; its old form is then no whole cluster of the new */
    if (a.is_loose || b.is_loose || same < fixed) {
        same = 0;
        column = 0;
    }
    go(p, i, column);
    if (same < n_new) buf_add(&p->out, new_text + same, n_new - same);
    p->column = b.width < p->columns && !b.is_loose ? b.width : -1;
    if (same < n_old && b.width < p->columns) buf_puts(&p->out, "\033[K");
}

/* --- public ----------------------------------------------------------------------------------- */

void line_view_release(struct line_view *v) {
    frame_release(&v->shown);
    *v = (struct line_view){0};
}

/* How the terminal has wrapped the old rows is not known. As many rows are taken back as certainly
 * are ours, whether it wraps anew or not. */
static void restart(struct line_view *v, struct pen *p, size_t new_cursor_row) {
    size_t up = v->shown.cursor_row < new_cursor_row ? v->shown.cursor_row : new_cursor_row;
    buf_putc(&p->out, '\r');
    if (up > 0) buf_printf(&p->out, "\033[%zuA", up);
    buf_puts(&p->out, "\033[J");
    p->row = 0;
    p->column = 0;
    frame_release(&v->shown);
    v->is_resized = false;
}

void line_view_show(struct line_view *v, const char *prompt, const char *style, const char *text,
                    size_t cursor) {
    struct line_view_frame new = {0};
    size_t prompt_bytes = 0;
    int columns = v->terminal->columns > 0 ? v->terminal->columns : 1;
    if (!lay_out(&new, columns, prompt, style, text, cursor, &prompt_bytes)) {
        frame_release(&new);
        return;
    }
    cut_window(v, &new);
    struct pen p = {.row = v->shown.cursor_row, .column = v->column, .columns = columns};
    if (v->is_resized) restart(v, &p, new.cursor_row);
    if (v->shown.n_rows == 0) p.column = 0;
    p.n_rows = v->shown.n_rows ? v->shown.n_rows : 1;
    for (size_t i = 0; i < new.n_rows; i++)
        write_row(&p, &v->shown, &new, i, v->first + i == 0 ? prompt_bytes : 0);
    if (v->shown.n_rows > new.n_rows) {
        go(&p, new.n_rows, 0);
        buf_puts(&p.out, "\033[J");
    }
    go(&p, new.cursor_row, new.cursor_column);
    if (p.out.n > 0) terminal_write(v->terminal, p.out.data, p.out.n);
    buf_release(&p.out);
    v->column = new.cursor_column;
    frame_release(&v->shown);
    v->shown = new;
}

static void forget(struct line_view *v) {
    frame_release(&v->shown);
    v->first = 0;
    v->column = 0;
    v->is_resized = false;
}

void line_view_erase(struct line_view *v) {
    if (v->shown.n_rows == 0) return;
    struct pen p = {.row = v->shown.cursor_row, .n_rows = v->shown.n_rows, .column = -1};
    go(&p, 0, 0);
    buf_puts(&p.out, "\033[J");
    terminal_write(v->terminal, p.out.data, p.out.n);
    buf_release(&p.out);
    forget(v);
}

void line_view_finish(struct line_view *v) {
    if (v->shown.n_rows == 0) return;
    struct pen p = {.row = v->shown.cursor_row, .n_rows = v->shown.n_rows, .column = v->column};
    go(&p, v->shown.n_rows, 0);
    terminal_write(v->terminal, p.out.data, p.out.n);
    buf_release(&p.out);
    forget(v);
}

void line_view_resized(struct line_view *v) {
    if (v->shown.n_rows > 0) v->is_resized = true;
}
