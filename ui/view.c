/* Any view: its table, the choice, and how it looks: title, head, rows, note, keys. */
#include "ui/view.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "ui/wrap.h"

#include <string.h>

enum { ESCAPE = 27, NOTE_ROWS = 3 };

static const struct view_kind *const kinds[] = {
#define VIEW(kind) &kind,
#include "ui/views.def"
#undef VIEW
};

const struct view_kind *view_of_command(int command) {
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if ((int)kinds[i]->command == command) return kinds[i];
    return NULL;
}

/* --- its rows --------------------------------------------------------------------------------- */

void view_clear(struct view *v) {
    buf_clear(&v->cells);
    buf_clear(&v->note);
    v->n = v->n_columns = 0;
    v->has_head = false;
}

void view_release(struct view *v) {
    buf_release(&v->cells);
    buf_release(&v->note);
    mem_free(v->rows);
    *v = (struct view){0};
}

void view_row(struct view *v, const char *const *cells, size_t n, bool is_head) {
    if (n == 0 || mem_grow((void **)&v->rows, &v->capacity, v->n + 1, sizeof *v->rows) != 0) return;
    if (v->n == 0) {
        v->n_columns = n < VIEW_COLUMNS ? n : VIEW_COLUMNS;
        v->has_head = is_head;
    }
    v->rows[v->n] = v->cells.n;
    for (size_t i = 0; i < v->n_columns; i++) {
        buf_puts(&v->cells, i < n ? cells[i] : "");
        buf_add(&v->cells, "", 1);
    }
    if (!v->cells.failed) v->n++;
}

void view_say(struct view *v, const char *text) {
    if (v->note.n > 0) buf_putc(&v->note, '\n');
    buf_puts(&v->note, text);
}

static const char *cell_at(const struct view *v, size_t row, size_t column) {
    const char *text = v->cells.data + v->rows[row];
    while (column-- > 0) text += strlen(text) + 1;
    return text;
}

static size_t n_choices(const struct view *v) {
    return v->n - (v->has_head && v->n > 0);
}

const char *view_cell(const struct view *v, size_t column) {
    if (v->chosen >= n_choices(v) || column >= v->n_columns) return "";
    return cell_at(v, v->chosen + v->has_head, column);
}

bool view_is_char(const struct key *key, uint32_t c) {
    return key->name == K_CHAR && !key->is_alt && key->c == c;
}

bool view_move(struct view *v, const struct key *key, size_t height) {
    size_t n = n_choices(v), page = height > 6 ? height - 5 : 1, last = n > 0 ? n - 1 : 0;
    switch (key->name) {
    case K_UP:
        v->chosen -= v->chosen > 0;
        return true;
    case K_DOWN:
        v->chosen += v->chosen < last;
        return true;
    case K_PAGE_UP:
        v->chosen = v->chosen > page ? v->chosen - page : 0;
        return true;
    case K_PAGE_DOWN:
        v->chosen = v->chosen + page < last ? v->chosen + page : last;
        return true;
    case K_HOME:
        v->chosen = 0;
        return true;
    case K_END:
        v->chosen = last;
        return true;
    default:
        return false;
    }
}

/* --- its looks -------------------------------------------------------------------------------- */

static int width_of(const char *text) {
    int total = 0, width;
    size_t n = strlen(text);
    for (size_t at = 0; at < n; total += width) at += utf8_cluster(text + at, n - at, &width);
    return total;
}

/* Exactly `width` columns of the text; what is cut off shows as an ellipsis. */
static void put_fitted(struct styled *out, const char *text, int width, text_style style) {
    size_t n = strlen(text), at = 0;
    bool is_cut = width_of(text) > width;
    int column = 0, own;
    while (at < n) {
        size_t bytes = utf8_cluster(text + at, n - at, &own);
        if (column + own > width - is_cut) break;
        styled_add(out, text + at, bytes, style);
        column += own;
        at += bytes;
    }
    if (is_cut && column < width) {
        styled_puts(out, "…", style);
        column++;
    }
    for (; column < width; column++) styled_add(out, " ", 1, style);
}

/* Natural widths; the last column has what is left, and the first ones shrink where that is little.
 */
static void find_widths(const struct view *v, int columns, int *widths) {
    int total = 0, between = 2;
    for (size_t c = 0; c < v->n_columns; c++) {
        widths[c] = 1;
        for (size_t r = 0; r < v->n; r++) {
            int width = width_of(cell_at(v, r, c));
            if (width > widths[c]) widths[c] = width;
        }
        if (v->n_columns > 1 && widths[c] > columns / 2) widths[c] = columns / 2;
        if (c + 1 < v->n_columns) total += widths[c] + between;
    }
    for (size_t c = v->n_columns; c-- > 1 && total > columns - 8;) { /* from the right */
        total -= widths[c - 1] + between;
        widths[c - 1] = total < columns - 8 - 4 ? columns - 8 - total - between : 1;
        total += widths[c - 1] + between;
    }
    if (v->n_columns > 0) widths[v->n_columns - 1] = columns > total ? columns - total : 1;
}

static void put_styled_row(struct lines *out, const struct styled *text) {
    lines_begin_row(out, false);
    styled_add_all(&out->content, text);
    lines_end_row(out, styled_width(text));
}

static void put_table_row(const struct view *v, size_t row, const int *widths, text_style style,
                          struct lines *out) {
    struct styled text = {0};
    for (size_t c = 0; c < v->n_columns; c++) {
        if (c > 0) styled_puts(&text, "  ", style);
        put_fitted(&text, cell_at(v, row, c), widths[c], style);
    }
    put_styled_row(out, &text);
    styled_release(&text);
}

static void put_line(struct lines *out, const char *text, int columns, text_style style) {
    struct styled line = {0};
    put_fitted(&line, text, columns, style);
    put_styled_row(out, &line);
    styled_release(&line);
}

/* The note, or the whole of the chosen row's last cell where it is cut. */
static void make_note(const struct view *v, int columns, const int *widths, struct lines *out) {
    struct styled text = {0};
    const char *last = v->n_columns > 1 ? view_cell(v, v->n_columns - 1) : "";
    if (v->n_columns > 1 && width_of(last) <= widths[v->n_columns - 1]) last = "";
    const struct wrap how = {.columns = columns};
    styled_puts(&text, v->note.n > 0 ? v->note.data : last, INK_notice);
    wrap_text(out, &how, &text, 0, text.text.n);
    lines_cut(out, NOTE_ROWS);
    styled_release(&text);
}

void view_lay_out(struct view *v, int columns, size_t height, struct lines *out) {
    struct lines note = {0};
    struct buf keys = {0};
    int widths[VIEW_COLUMNS] = {0};
    size_t n = n_choices(v);
    lines_clear(out);
    if (v->chosen >= n) v->chosen = n > 0 ? n - 1 : 0;
    if (v->n > 0) find_widths(v, columns, widths);
    make_note(v, columns, widths, &note);
    size_t n_note = height > 8 ? note.n : 0, n_keys = height > 3, n_title = height > 4;
    size_t fixed = n_title + v->has_head + n_note + n_keys;
    size_t room = height > fixed ? height - fixed : 1;
    if (v->chosen < v->first) v->first = v->chosen;
    if (v->chosen >= v->first + room) v->first = v->chosen - room + 1;
    if (n_title) put_line(out, _(v->kind->title), columns, INK_heading | STYLE_BOLD);
    if (v->has_head && v->n > 0) put_table_row(v, 0, widths, INK_dim | STYLE_BOLD, out);
    for (size_t i = 0; i < room; i++) {
        size_t row = v->first + i;
        if (row < n)
            put_table_row(v, row + v->has_head, widths, row == v->chosen ? INK_chosen : INK_text,
                          out);
        else
            lines_put(out, "", INK_text);
    }
    for (size_t i = 0; i < n_note; i++) {
        struct styled text = {0};
        styled_add(&text, note.content.text.data ? note.content.text.data + note.rows[i].begin : "",
                   note.rows[i].end - note.rows[i].begin, INK_notice);
        put_styled_row(out, &text);
        styled_release(&text);
    }
    buf_printf(&keys, "%s%sEsc", _(v->kind->keys), *v->kind->keys ? "  " : "");
    if (n_keys) put_line(out, keys.failed ? "Esc" : keys.data, columns, INK_dim);
    buf_release(&keys);
    lines_release(&note);
}
