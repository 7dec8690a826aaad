/* Any view: its table, the choice, and how it looks: title, head, rows, progress, note, keys. */
#include "ui/view.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "ui/wrap.h"

#include <stdlib.h>
#include <string.h>

enum { NOTE_ROWS = 3 };

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
        const char *text = i < n ? cells[i] + strspn(cells[i], " ") : "";
        size_t length = strlen(text);
        while (length > 0 && text[length - 1] == ' ') length--; /* line mode's padding */
        buf_add(&v->cells, text, length);
        buf_add(&v->cells, "", 1);
    }
    if (v->cells.failed) return;
    v->n++;
    if (v->kind->is_work) v->chosen = v->n; /* the newest row is in sight */
}

void view_say(struct view *v, const char *text) {
    if (v->note.n > 0) buf_putc(&v->note, '\n');
    buf_puts(&v->note, text);
}

const char *view_cell_at(const struct view *v, size_t row, size_t column) {
    const char *text = v->cells.data + v->rows[row];
    while (column-- > 0) text += strlen(text) + 1;
    return text;
}

static size_t n_choices(const struct view *v) {
    return v->n - (v->has_head && v->n > 0);
}

const char *view_cell(const struct view *v, size_t column) {
    if (v->chosen >= n_choices(v) || column >= v->n_columns) return "";
    return view_cell_at(v, v->chosen + v->has_head, column);
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

/* --- its columns ------------------------------------------------------------------------------ */

enum { BETWEEN = 2, LEAST_LAST = 8, LEAST_WIDTH = 4, LEAST_BAR = 11 };

static int width_of(const char *text) {
    int total = 0, width;
    size_t n = strlen(text);
    for (size_t at = 0; at < n; total += width) at += utf8_cluster(text + at, n - at, &width);
    return total;
}

static bool is_bar(const struct view *v, size_t column) {
    return v->kind->share > 0 && column + 1 == v->n_columns;
}

static int natural_width(const struct view *v, size_t column, int most) {
    int widest = is_bar(v, column) ? LEAST_BAR : 1;
    for (size_t r = 0; r < v->n && !is_bar(v, column); r++) {
        int width = width_of(view_cell_at(v, r, column));
        if (width > widest) widest = width;
    }
    return widest < most ? widest : most;
}

static size_t last_shown(const struct view *v, const int *widths) {
    size_t last = v->n_columns - 1;
    while (last > 0 && widths[last] == 0) last--;
    return last;
}

/* Of the columns before `last`, with the blanks behind them. */
static int total_before(const int *widths, size_t last) {
    int total = 0;
    for (size_t c = 0; c < last; c++)
        if (widths[c] > 0) total += widths[c] + BETWEEN;
    return total;
}

static int lesser(int a, int b) {
    return a < b ? a : b;
}

static void leave_out_spare(const struct view *v, int columns, int *widths) {
    for (const char *at = v->kind->spare ? v->kind->spare : ""; *at; at++) {
        size_t last = last_shown(v, widths), column = (size_t)(*at - '0');
        int least = is_bar(v, last) ? LEAST_BAR : lesser(widths[last], LEAST_LAST);
        if (total_before(widths, last) + least <= columns) return;
        if (column < v->n_columns) widths[column] = 0;
    }
}

/* Natural widths; 0: left out. Where they do not fit, the spare columns go; then those before the
 * last one shrink, from the right. The last one has what is left. */
static void find_widths(const struct view *v, int columns, int *widths) {
    int most = v->n_columns > 1 && columns > 1 ? columns / 2 : columns;
    if (v->n_columns == 0) return;
    for (size_t c = 0; c < v->n_columns; c++) widths[c] = natural_width(v, c, most);
    leave_out_spare(v, columns, widths);
    size_t last = last_shown(v, widths);
    for (size_t c = last; c-- > 0;) {
        int over = total_before(widths, last) + LEAST_LAST - columns;
        int least = lesser(widths[c], LEAST_WIDTH);
        if (over > 0) widths[c] = widths[c] - over > least ? widths[c] - over : least;
    }
    int rest = columns - total_before(widths, last);
    widths[last] = rest > 1 ? rest : 1;
}

/* --- its looks -------------------------------------------------------------------------------- */

static void put_blanks(struct styled *out, int n, text_style style) {
    for (; n > 0; n--) styled_add(out, " ", 1, style);
}

/* Exactly `width` columns of the text; what is cut off shows as an ellipsis. */
static void put_fitted(struct styled *out, const char *text, int width, text_style style) {
    size_t n = strlen(text), at = 0;
    int full = width_of(text), ellipsis = full > width ? width_of("…") : 0, column = 0, own;
    while (at < n) {
        size_t bytes = utf8_cluster(text + at, n - at, &own);
        if (column + own > width - ellipsis) break;
        styled_add(out, text + at, bytes, style);
        column += own;
        at += bytes;
    }
    if (ellipsis && column + ellipsis <= width) {
        styled_puts(out, "…", style);
        column += ellipsis;
    }
    put_blanks(out, width - column, style);
}

static void put_styled_row(struct lines *out, const struct styled *text) {
    lines_begin_row(out, false);
    styled_add_all(&out->content, text);
    lines_end_row(out, styled_width(text));
}

/* Numbers of work stand at the right of their column. */
static void put_cell(const struct view *v, size_t row, size_t column, int width, text_style style,
                     struct styled *out) {
    const char *text = view_cell_at(v, row, column);
    bool is_head = v->has_head && row == 0;
    bool is_right = v->kind->is_work && column > 0;
    if (is_bar(v, column)) {
        const char *share = view_cell_at(v, row, v->kind->share);
        if (is_head)
            put_fitted(out, _(v->kind->share_head), width, style);
        else if (*share)
            bar_add(out, strtod(share, NULL) / 100, width, INK_bar, INK_dim);
        return;
    }
    if (is_right) put_blanks(out, width - width_of(text), style);
    put_fitted(out, text, is_right ? lesser(width, width_of(text)) : width, style);
}

static void put_table_row(const struct view *v, size_t row, const int *widths, text_style style,
                          struct lines *out) {
    struct styled text = {0};
    for (size_t c = 0; c < v->n_columns; c++) {
        if (widths[c] == 0) continue;
        if (c > 0) styled_puts(&text, "  ", style);
        put_cell(v, row, c, widths[c], style, &text);
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
    bool has_last = v->n_columns > 1 && !v->kind->is_work;
    const char *last = has_last ? view_cell(v, v->n_columns - 1) : "";
    if (has_last && width_of(last) <= widths[v->n_columns - 1]) last = "";
    const struct wrap how = {.columns = columns};
    styled_puts(&text, v->note.n > 0 ? v->note.data : last, INK_notice);
    wrap_text(out, &how, &text, 0, text.text.n);
    lines_cut(out, NOTE_ROWS);
    styled_release(&text);
}

static void put_note(const struct lines *note, size_t n, struct lines *out) {
    const char *content = note->content.text.data ? note->content.text.data : "";
    for (size_t i = 0; i < n; i++) {
        struct styled text = {0};
        styled_add(&text, content + note->rows[i].begin, note->rows[i].end - note->rows[i].begin,
                   INK_notice);
        put_styled_row(out, &text);
        styled_release(&text);
    }
}

/* "tg128  ███▌······  45 %, 12 s left" */
static void put_progress(const struct progress *p, int columns, struct lines *out) {
    enum { LEAST = 6 };
    struct styled line = {0};
    char far[60];
    progress_describe(p, far, sizeof far);
    const char *what = *p->what ? _(p->what) : _("working");
    int room = columns - width_of(what) - width_of(far) - 2 * BETWEEN;
    if (room >= LEAST) {
        styled_puts(&line, what, INK_text);
        styled_puts(&line, "  ", INK_text);
    } else {
        room = columns - width_of(far) - BETWEEN;
    }
    if (room >= LEAST) {
        bar_add(&line, p->share, room, INK_bar, INK_dim);
        styled_puts(&line, "  ", INK_text);
    }
    styled_puts(&line, far, INK_text);
    put_styled_row(out, &line);
    styled_release(&line);
}

static void put_keys(const struct view *v, int columns, struct lines *out) {
    struct buf keys = {0};
    const char *own = v->kind->keys ? _(v->kind->keys) : "";
    if (v->is_running)
        buf_puts(&keys, _("Esc or Ctrl-C stops it"));
    else
        buf_printf(&keys, "%s%s%s", own, *own ? "  " : "", _("Esc closes"));
    put_line(out, keys.failed ? "Esc" : keys.data, columns, INK_dim);
    buf_release(&keys);
}

static void put_rows(struct view *v, const int *widths, size_t room, struct lines *out) {
    size_t n = n_choices(v);
    if (v->chosen < v->first) v->first = v->chosen;
    if (v->chosen >= v->first + room) v->first = v->chosen - room + 1;
    for (size_t i = 0; i < room; i++) {
        size_t row = v->first + i;
        bool is_chosen = row == v->chosen && !v->kind->is_work;
        if (row < n)
            put_table_row(v, row + v->has_head, widths, is_chosen ? INK_chosen : INK_text, out);
        else
            lines_put(out, "", INK_text);
    }
}

void view_lay_out(struct view *v, int columns, size_t height, const struct progress *progress,
                  struct lines *out) {
    struct lines note = {0};
    int widths[VIEW_COLUMNS] = {0};
    size_t n = n_choices(v);
    lines_clear(out);
    if (v->chosen >= n) v->chosen = n > 0 ? n - 1 : 0;
    if (v->n > 0) find_widths(v, columns, widths);
    make_note(v, columns, widths, &note);
    size_t n_note = height > 8 ? note.n : 0, n_keys = height > 3, n_title = height > 4;
    size_t n_progress = v->is_running && height > 1;
    size_t fixed = n_title + v->has_head + n_progress + n_note + n_keys;
    if (n_title) put_line(out, _(v->kind->title), columns, INK_heading | STYLE_BOLD);
    if (v->has_head && v->n > 0) put_table_row(v, 0, widths, INK_dim | STYLE_BOLD, out);
    put_rows(v, widths, height > fixed ? height - fixed : 1, out);
    if (n_progress) put_progress(progress, columns, out);
    put_note(&note, n_note, out);
    if (n_keys) put_keys(v, columns, out);
    lines_release(&note);
}
