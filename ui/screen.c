/*
 * ncurses is given a terminal whose modes ui/terminal has set; what it would do by itself about
 * keys, signals and sizes is left unused. A cell of ncurses holds one spacing character with its
 * marks: of a cluster with several (a family emoji) the first is shown.
 *
 * ncurses asks wcwidth() how many columns a character takes. The program has its own one, so that
 * ncurses counts as all else does, ambiguous widths included.
 */
#include "ui/screen.h"

#include "engine/base/utf8.h"
#include "ui/colors.h"

#include <curses.h>
#include <stdio.h>
#include <string.h>
#include <term.h>
#include <unistd.h>
#include <wchar.h>

#undef columns /* term.h's names of capabilities */
#undef lines

/* Wheels that turn into arrow keys on the alternate screen would scroll through the input history:
 * that is off while it is shown (and as it was afterwards). */
static const char wheel_off[] = "\033[?1007s\033[?1007l", wheel_back[] = "\033[?1007r";
static const char sync_begin[] = "\033[?2026h", sync_end[] = "\033[?2026l";

static const struct ink_row {
    int attributes, colors[4]; /* dark and light of 16, dark and light of 256 */
} ink_table[N_INKS] = {
#define INK(name, style, a, b, c, d) [INK_##name] = {style, {a, b, c, d}},
#include "ui/theme.def"
#undef INK
};

/* --- life ------------------------------------------------------------------------------------- */

/* Appends a capability without its delays ("$<5>"). */
static void add_capability(char *out, size_t room, const char *name) {
    const char *text = tigetstr(name);
    size_t n = strlen(out);
    if (!text || text == (const char *)-1) return;
    while (*text && n + 1 < room) {
        const char *end = text[0] == '$' && text[1] == '<' ? strchr(text, '>') : NULL;
        if (end) {
            text = end + 1;
        } else {
            out[n++] = *text++;
        }
    }
    out[n] = '\0';
}

static void make_restore(struct screen *s) {
    char *out = s->terminal.restore;
    size_t room = sizeof s->terminal.restore;
    snprintf(out, room, "%s", sync_end);
    add_capability(out, room, "sgr0");
    add_capability(out, room, "cnorm");
    add_capability(out, room, "rmcup");
    size_t n = strlen(out);
    snprintf(out + n, room - n, "%s", wheel_back);
}

static void make_inks(struct screen *s) {
    const struct screen_colors *c = &s->colors;
    bool has_colors = s->can_color && c->theme != THEME_MONO;
    int column = (COLORS >= 256 && c->theme != THEME_AUTO ? 2 : 0) + (c->theme == THEME_LIGHT);
    for (int i = 0; i < N_INKS; i++) {
        const struct ink_row *ink = &ink_table[i];
        int color = c->is_own[i] ? color_on_terminal(c->own[i], COLORS) : ink->colors[column];
        s->inks[i] = ink->attributes;
        if (color < 0 || !has_colors) continue;
        s->inks[i] &= ~STYLE_DIM; /* the colour says it */
        if (init_pair((short)(i + 1), (short)color, -1) == OK) s->inks[i] |= i + 1;
    }
}

static bool are_same(const struct screen_colors *a, const struct screen_colors *b) {
    bool is_same = a->theme == b->theme;
    for (int i = 0; i < N_INKS; i++)
        is_same &= a->is_own[i] == b->is_own[i] && a->own[i] == b->own[i];
    return is_same;
}

void screen_set_colors(struct screen *s, const struct screen_colors *colors) {
    if (are_same(&s->colors, colors)) return;
    s->colors = *colors;
    make_inks(s);
    screen_redraw(s);
}

/* Asked first: newterm() loses memory where it fails. */
static bool is_known(const char *term) {
    int result;
    if (setupterm(term, STDOUT_FILENO, &result) != OK) return false;
    del_curterm(cur_term);
    return true;
}

static int start_curses(struct screen *s, const struct screen_options *options, struct err *err) {
    const char *term = is_known(options->term) ? options->term : "xterm-256color";
    use_env(FALSE); /* LINES and COLUMNS may lie: the size is set by screen_resized() */
    if (!newterm(term, stdout, stdin))
        return err_set(err, ERR_IO, "the terminal \"%s\" is not known", options->term);
    s->can_color =
        options->has_colors && start_color() == OK && use_default_colors() == OK && COLORS >= 8;
    s->colors = options->colors;
    make_inks(s);
    nonl();
    intrflush(stdscr, FALSE);
    typeahead(-1); /* a frame is painted whole, whatever is typed meanwhile */
    leaveok(stdscr, FALSE);
    scrollok(stdscr, FALSE);
    idlok(stdscr, TRUE); /* scrolling text is scrolled, not written again */
    return 0;
}

int screen_open(struct screen *s, const struct screen_options *options, struct err *err) {
    *s = (struct screen){0};
    if (terminal_open(&s->terminal, options->in, options->out, options->term, err) != 0) return -1;
    if (s->terminal.is_dumb || start_curses(s, options, err) != 0) {
        terminal_close(&s->terminal);
        return s->terminal.is_dumb ? err_set(err, ERR_IO, "the terminal is a dumb one") : -1;
    }
    make_restore(s);
    s->terminal.is_raw = true;
    terminal_take(&s->terminal);
    def_prog_mode();
    terminal_puts(&s->terminal, wheel_off);
    s->is_up = true;
    screen_resized(s);
    return 0;
}

void screen_leave(struct screen *s) {
    if (!s->is_up) return;
    s->is_up = false;
    endwin();
    terminal_puts(&s->terminal, wheel_back);
    terminal_give_back(&s->terminal);
}

void screen_return(struct screen *s) {
    if (s->is_up) return;
    s->is_up = true;
    terminal_take(&s->terminal);
    def_prog_mode();
    terminal_puts(&s->terminal, wheel_off);
    screen_resized(s);
}

void screen_close(struct screen *s) {
    screen_leave(s);
    terminal_close(&s->terminal);
}

void screen_resized(struct screen *s) {
    terminal_measure(&s->terminal);
    if (s->terminal.rows != LINES || s->terminal.columns != COLS)
        resize_term(s->terminal.rows, s->terminal.columns);
    screen_redraw(s);
}

void screen_redraw(struct screen *s) {
    (void)s;
    clearok(curscr, TRUE);
}

/* --- drawing ---------------------------------------------------------------------------------- */

void screen_begin(struct screen *s) {
    (void)s;
    erase();
}

static void set_style(const struct screen *s, text_style style) {
    static const struct {
        text_style bit;
        attr_t attribute;
    } known[] = {
        {STYLE_BOLD, A_BOLD},       {STYLE_ITALIC, A_ITALIC}, {STYLE_UNDERLINE, A_UNDERLINE},
        {STYLE_REVERSE, A_REVERSE}, {STYLE_DIM, A_DIM},       {STYLE_STRIKE, A_DIM}};
    int all = s->inks[style & STYLE_INK] | (style & ~STYLE_INK);
    attr_t attributes = 0;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (all & known[i].bit) attributes |= known[i].attribute;
    attr_set(attributes, (short)(all & STYLE_INK), NULL);
}

/* In place of the C library's. */
int wcwidth(wchar_t c) {
    return c ? utf8_width((uint32_t)c) : 0;
}

/* One cell: a spacing character and up to four marks. */
static void put_cell(int row, int column, const wchar_t *characters) {
    cchar_t cell;
    attr_t attributes;
    short pair;
    attr_get(&attributes, &pair, NULL);
    if (setcchar(&cell, characters, attributes, pair, NULL) == OK) mvadd_wch(row, column, &cell);
}

/* A cluster of `width` columns; a stand-in where it does not begin with a spacing character. */
static void put_cluster(int row, int column, const char *text, size_t n, int width) {
    wchar_t cell[CCHARW_MAX + 1] = {0};
    size_t n_cell = 0;
    int shown = 0, last = 0; /* columns of all cells, of the last one */
    for (size_t at = 0; at < n;) {
        uint32_t c;
        at += utf8_decode(text + at, n - at, &c);
        int own = c == UTF8_BAD ? -1 : wcwidth((wchar_t)c);
        bool is_selector = c == 0x200D || (c >= 0xFE00 && c <= 0xFE0F);
        if (shown == 0 && (own < 1 || own > width)) {
            cell[n_cell++] = 0xFFFD;
            shown = last = 1;
            break;
        }
        if (own > 0 && shown + own > width) break; /* a second emoji, joined */
        if (own > 0 && n_cell > 0) {
            put_cell(row, column + shown - last, cell);
            memset(cell, 0, sizeof cell);
            n_cell = 0;
        }
        if (own > 0) {
            shown += own;
            last = own;
        }
        if (own >= 0 && !is_selector && n_cell < CCHARW_MAX) cell[n_cell++] = (wchar_t)c;
    }
    put_cell(row, column + shown - last, cell);
    for (; shown < width; shown++) put_cell(row, column + shown, L" ");
}

int screen_put(struct screen *s, int row, int column, int end, const char *text, size_t n,
               text_style style) {
    if (end > COLS) end = COLS;
    if (row < 0 || row >= LINES || column >= end) return column;
    set_style(s, style);
    for (size_t at = 0; at < n;) {
        size_t plain = 0;
        while (at + plain < n && (unsigned char)text[at + plain] >= 0x20 &&
               (unsigned char)text[at + plain] < 0x7F)
            plain++;
        /* a mark may follow the last one */
        if (at + plain < n && plain > 0) plain--;
        if (plain > 0) {
            if (plain > (size_t)(end - column)) plain = (size_t)(end - column);
            mvaddnstr(row, column, text + at, (int)plain);
            column += (int)plain;
            at += plain;
            if (column >= end) break;
            continue;
        }
        int width;
        size_t bytes = utf8_cluster(text + at, n - at, &width);
        if (column + width > end) break;
        if (width > 0) put_cluster(row, column, text + at, bytes, width);
        column += width;
        at += bytes;
    }
    return column;
}

int screen_put_row(struct screen *s, int row, int column, int end, const struct lines *lines,
                   size_t index) {
    const struct row *r = &lines->rows[index];
    size_t begin = r->begin;
    for (size_t run = r->run; begin < r->end && run < lines->content.n_runs; run++) {
        size_t to = lines->content.runs[run].end < r->end ? lines->content.runs[run].end : r->end;
        column = screen_put(s, row, column, end, lines->content.text.data + begin, to - begin,
                            lines->content.runs[run].style);
        begin = to;
    }
    return column;
}

void screen_fill(struct screen *s, int row, int column, int end, text_style style) {
    if (end > COLS) end = COLS;
    if (row < 0 || row >= LINES) return;
    set_style(s, style);
    for (; column < end; column++) mvaddch(row, column, ' ');
}

void screen_show(struct screen *s, int row, int column) {
    if (row >= LINES) row = LINES - 1;
    if (column >= COLS) column = COLS - 1;
    move(row > 0 ? row : 0, column > 0 ? column : 0);
    wnoutrefresh(stdscr);
    terminal_puts(&s->terminal, sync_begin);
    doupdate();
    terminal_puts(&s->terminal, sync_end);
    s->n_frames++;
}

void screen_bell(struct screen *s) {
    terminal_puts(&s->terminal, "\a");
}

void screen_send(struct screen *s, const char *bytes, size_t n) {
    terminal_write(&s->terminal, bytes, n);
}
