/*
 * A cell is 8 x 17, in a font whose letters are 0.602 em wide, as most monospaced ones are. Each
 * run of cells with one style is a text whose length is given, so that every font keeps the
 * columns.
 */
#include "tests/support/picture.h"

#include "engine/base/utf8.h"

#include <string.h>

enum { CELL_WIDTH = 8, CELL_HEIGHT = 17, MARGIN = 10, BASELINE = 13 };

struct look {
    unsigned foreground, background; /* 0xRRGGBB */
    bool is_bold, is_italic, is_underlined, has_background;
};

struct run {
    int row, first, end; /* columns */
    struct look look;
    struct buf text;
};

static unsigned color_of(const VTermColor *color, bool is_light, unsigned own) {
    static const unsigned dark[16] = {0x3b4252, 0xbf616a, 0xa3be8c, 0xebcb8b, 0x81a1c1, 0xb48ead,
                                      0x88c0d0, 0xe5e9f0, 0x4c566a, 0xd06f79, 0xb1cf95, 0xf0d399,
                                      0x8cafd2, 0xc895bf, 0x93ccdc, 0xeceff4};
    static const unsigned light[16] = {0x2e3440, 0xb02a37, 0x2f7a3a, 0x8a6100, 0x1f5fa8, 0x8b3a8b,
                                       0x1a7a86, 0x8a8f98, 0x6c7480, 0xc03a47, 0x3f8a4a, 0x9a7110,
                                       0x2f6fb8, 0x9b4a9b, 0x2a8a96, 0xb0b5be};
    static const unsigned steps[6] = {0, 95, 135, 175, 215, 255};
    if (!VTERM_COLOR_IS_INDEXED(color)) return own;
    unsigned i = color->indexed.idx;
    if (i < 16) return is_light ? light[i] : dark[i];
    if (i >= 232) return 0x010101 * (8 + 10 * (i - 232));
    i -= 16;
    return steps[i / 36] << 16 | steps[i / 6 % 6] << 8 | steps[i % 6];
}

static unsigned own_foreground(bool is_light) {
    return is_light ? 0x24292f : 0xd8dee9;
}

static unsigned own_background(bool is_light) {
    return is_light ? 0xfdfdfb : 0x22262e;
}

static struct look look_of(const VTermScreenCell *cell, bool is_light) {
    unsigned front = color_of(&cell->fg, is_light, own_foreground(is_light));
    unsigned back = color_of(&cell->bg, is_light, own_background(is_light));
    bool is_reverse = cell->attrs.reverse;
    return (struct look){.foreground = is_reverse ? back : front,
                         .background = is_reverse ? front : back,
                         .is_bold = cell->attrs.bold,
                         .is_italic = cell->attrs.italic,
                         .is_underlined = cell->attrs.underline != 0,
                         .has_background = is_reverse};
}

static bool is_same(const struct look *a, const struct look *b) {
    return a->foreground == b->foreground && a->background == b->background &&
           a->is_bold == b->is_bold && a->is_italic == b->is_italic &&
           a->is_underlined == b->is_underlined;
}

static void put_escaped(const char *text, size_t n, struct buf *out) {
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '&')
            buf_puts(out, "&amp;");
        else if (text[i] == '<')
            buf_puts(out, "&lt;");
        else
            buf_putc(out, text[i]);
    }
}

/* `columns` columns of text from `column` on, in the look of the run. */
static void put_piece(const struct run *run, int column, int columns, const char *text, size_t n,
                      struct buf *out) {
    if (n == 0) return;
    buf_printf(out, "<text x=\"%d\" y=\"%d\" textLength=\"%d\" fill=\"#%06x\"",
               MARGIN + column * CELL_WIDTH, MARGIN + run->row * CELL_HEIGHT + BASELINE,
               columns * CELL_WIDTH, run->look.foreground);
    if (run->look.is_bold) buf_puts(out, " font-weight=\"bold\"");
    if (run->look.is_italic) buf_puts(out, " font-style=\"italic\"");
    if (run->look.is_underlined) buf_puts(out, " text-decoration=\"underline\"");
    buf_puts(out, ">");
    put_escaped(text, n, out);
    buf_puts(out, "</text>\n");
}

static void put_box(const struct run *run, int column, double columns, unsigned color,
                    struct buf *out) {
    buf_printf(out, "<rect x=\"%d\" y=\"%d\" width=\"%g\" height=\"%d\" fill=\"#%06x\"/>\n",
               MARGIN + column * CELL_WIDTH, MARGIN + run->row * CELL_HEIGHT, columns * CELL_WIDTH,
               CELL_HEIGHT, color);
}

/* U+2588 is a whole block, U+258F an eighth of one: of how many eighths is this one? 0: it is none.
 */
static int eighths_of(const char *text, size_t n) {
    uint32_t c;
    utf8_decode(text, n, &c);
    return c >= 0x2588 && c <= 0x258F ? (int)(0x2590 - c) : 0;
}

/* Blocks become boxes, a wide character a text of its own, and two blanks end a text: so the
 * columns hold where a viewer takes no notice of textLength. */
static void put_run(struct run *run, struct buf *out) {
    const char *text = run->text.data ? run->text.data : "";
    size_t n = run->text.n, from = 0;
    int column = run->first, begin = column, width;
    if (run->look.has_background && run->end > run->first)
        put_box(run, run->first, run->end - run->first, run->look.background, out);
    for (size_t at = 0, bytes; at < n; at += bytes, column += width) {
        bytes = utf8_cluster(text + at, n - at, &width);
        int eighths = eighths_of(text + at, n - at);
        bool is_gap = strncmp(text + at, "  ", 2) == 0 || (text[at] == ' ' && from == at);
        if (width < 2 && eighths == 0 && !is_gap) continue;
        put_piece(run, begin, column - begin, text + from, at - from, out);
        if (eighths > 0) put_box(run, column, eighths / 8.0, run->look.foreground, out);
        if (width == 2) put_piece(run, column, 2, text + at, bytes, out);
        from = at + bytes;
        begin = column + width;
    }
    put_piece(run, begin, column - begin, text + from, n - from, out);
    buf_clear(&run->text);
    run->first = run->end;
}

/* Blanks at the border of two runs belong to the one in reverse, or to neither. */
static void put_row(struct pty *p, int row, bool is_light, struct buf *out) {
    struct run run = {.row = row};
    for (int column = 0; column < p->columns;) {
        VTermScreenCell cell;
        char bytes[4 * VTERM_MAX_CHARS_PER_CELL + 1];
        size_t n = 0;
        vterm_screen_get_cell(p->screen, (VTermPos){.row = row, .col = column}, &cell);
        struct look look = look_of(&cell, is_light);
        bool is_blank = cell.chars[0] == 0 || cell.chars[0] == ' ';
        bool is_gap = is_blank && !look.has_background;
        if (is_gap || (run.text.n > 0 && !is_same(&look, &run.look))) put_run(&run, out);
        if (is_gap) {
            run.first = run.end = ++column;
            continue;
        }
        for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && cell.chars[i]; i++)
            n += utf8_encode(cell.chars[i], bytes + n);
        if (n == 0) bytes[n++] = ' ';
        run.look = look;
        buf_add(&run.text, bytes, n);
        column += cell.width > 0 ? cell.width : 1;
        run.end = column;
    }
    put_run(&run, out);
    buf_release(&run.text);
}

void picture_svg(struct pty *p, bool is_light, struct buf *out) {
    int width = p->columns * CELL_WIDTH + 2 * MARGIN, height = p->rows * CELL_HEIGHT + 2 * MARGIN;
    int row, column;
    pty_update(p);
    buf_printf(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
               "viewBox=\"0 0 %d %d\" font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, "
               "Consolas, monospace\" font-size=\"13.29\" xml:space=\"preserve\">\n",
               width, height, width, height);
    buf_printf(out, "<rect width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#%06x\"/>\n", width, height,
               own_background(is_light));
    for (int r = 0; r < p->rows; r++) put_row(p, r, is_light, out);
    pty_cursor(p, &row, &column);
    buf_printf(out,
               "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#%06x\" "
               "opacity=\"0.6\"/>\n</svg>\n",
               MARGIN + column * CELL_WIDTH, MARGIN + row * CELL_HEIGHT, CELL_WIDTH, CELL_HEIGHT,
               own_foreground(is_light));
}
