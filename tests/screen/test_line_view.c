/*
 * The view of the entry, on libvterm: what it writes is compared with what should stand there, and
 * a long random run of changes with the same text shown anew.
 */
#include "ui/line_view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vterm.h>

#include <cmocka.h>

/* A terminal without a process: the view writes into a pipe, libvterm reads it. */
struct screen {
    struct terminal terminal;
    struct line_view view;
    VTerm *vt;
    VTermScreen *screen;
    int in;
    size_t n_written; /* by the last show */
};

static void open_screen(struct screen *s, int rows, int columns) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    *s = (struct screen){.in = ends[0]};
    s->terminal = (struct terminal){.out = ends[1], .rows = rows, .columns = columns};
    s->view.terminal = &s->terminal;
    s->vt = vterm_new(rows, columns);
    vterm_set_utf8(s->vt, 1);
    s->screen = vterm_obtain_screen(s->vt);
    vterm_screen_reset(s->screen, 1);
}

static void close_screen(struct screen *s) {
    line_view_release(&s->view);
    close(s->in);
    close(s->terminal.out);
    vterm_free(s->vt);
}

static void update(struct screen *s) {
    char bytes[1 << 16];
    terminal_write(&s->terminal, "", 0);
    assert_int_equal(write(s->terminal.out, "", 1), 1); /* so that the read does not wait */
    ssize_t n = read(s->in, bytes, sizeof bytes);
    assert_true(n >= 1 && n < (ssize_t)sizeof bytes);
    s->n_written = (size_t)n - 1;
    vterm_input_write(s->vt, bytes, s->n_written);
}

static void show(struct screen *s, const char *text, size_t cursor) {
    line_view_show(&s->view, "> ", "\033[1m", text, cursor);
    update(s);
}

static void row_text(struct screen *s, int row, struct buf *out) {
    size_t end = out->n;
    for (int column = 0; column < s->terminal.columns; column++) {
        VTermScreenCell cell;
        vterm_screen_get_cell(s->screen, (VTermPos){.row = row, .col = column}, &cell);
        if (cell.chars[0] == (uint32_t)-1) continue;
        for (int k = 0; k < VTERM_MAX_CHARS_PER_CELL && cell.chars[k]; k++)
            buf_put_utf8(out, cell.chars[k]);
        if (!cell.chars[0]) buf_putc(out, ' ');
        if (cell.chars[0] && cell.chars[0] != ' ') end = out->n;
    }
    out->n = end;
    if (!out->data) buf_puts(out, "");
    out->data[out->n] = '\0';
}

static void expect_row(struct screen *s, int row, const char *text) {
    struct buf out = {0};
    row_text(s, row, &out);
    assert_string_equal(out.data, text);
    buf_release(&out);
}

static void expect_cursor(struct screen *s, int row, int column) {
    VTermPos at;
    vterm_state_get_cursorpos(vterm_obtain_state(s->vt), &at);
    assert_int_equal(at.row, row);
    assert_int_equal(at.col, column);
}

static void test_one_line(void **state) {
    (void)state;
    struct screen s;
    open_screen(&s, 6, 20);
    show(&s, "", 0);
    expect_row(&s, 0, ">");
    expect_cursor(&s, 0, 2);
    show(&s, "你好", 6);
    expect_row(&s, 0, "> 你好");
    expect_cursor(&s, 0, 6);
    show(&s, "你好", 3);
    expect_cursor(&s, 0, 4);
    show(&s, "好", 0);
    expect_row(&s, 0, "> 好");
    expect_cursor(&s, 0, 2);
    show(&s, "好x", 4);
    assert_int_equal(s.n_written, 4 + 1); /* a move, the character */
    show(&s, "好xy", 5);
    assert_int_equal(s.n_written, 1); /* typing writes what was typed and nothing else */
    show(&s, "好xyz", 6);
    assert_int_equal(s.n_written, 1);
    show(&s, "好xyz", 6);
    assert_int_equal(s.n_written, 0);
    close_screen(&s);
}

static void test_wrapping(void **state) {
    (void)state;
    struct screen s;
    open_screen(&s, 6, 10);
    show(&s, "12345678", 8); /* the row is full: the cursor stands in the next one */
    expect_row(&s, 0, "> 12345678");
    expect_cursor(&s, 1, 0);
    show(&s, "123456789", 9);
    expect_row(&s, 1, "9");
    expect_cursor(&s, 1, 1);
    show(&s, "12345678", 8);
    expect_row(&s, 1, "");
    show(&s, "1234567你好", 13); /* a wide character does not fit into one column */
    expect_row(&s, 0, "> 1234567");
    expect_row(&s, 1, "你好");
    expect_cursor(&s, 1, 4);
    show(&s, "1234567你好", 7);
    expect_cursor(&s, 1, 0);
    show(&s, "a\tb\x01", 4);
    expect_row(&s, 0, "> a     b");
    expect_row(&s, 1, "^A");
    close_screen(&s);
}

static void test_lines_and_finish(void **state) {
    (void)state;
    struct screen s;
    open_screen(&s, 8, 20);
    terminal_puts(&s.terminal, "before\r\n");
    show(&s, "one\n第二行\n\nfour", 8);
    expect_row(&s, 1, "> one");
    expect_row(&s, 2, "第二行");
    expect_row(&s, 4, "four");
    line_view_finish(&s.view);
    update(&s);
    expect_cursor(&s, 5, 0);
    show(&s, "next\nline", 9);
    expect_row(&s, 5, "> next");
    line_view_erase(&s.view);
    update(&s);
    expect_row(&s, 5, "");
    expect_row(&s, 6, "");
    expect_cursor(&s, 5, 0);
    expect_row(&s, 0, "before");
    expect_row(&s, 4, "four");
    close_screen(&s);
}

/* Taller than the screen: a window around the cursor. */
static void test_window(void **state) {
    (void)state;
    struct screen s;
    struct buf text = {0};
    for (int i = 1; i <= 1500; i++) buf_printf(&text, "line %d\n", i);
    open_screen(&s, 6, 20);
    show(&s, text.data, text.n);
    expect_row(&s, 4, "line 1500");
    expect_row(&s, 0, "line 1496");
    expect_cursor(&s, 5, 0);
    assert_true(s.n_written < 200);
    show(&s, text.data, 0);
    expect_row(&s, 0, "> line 1");
    expect_row(&s, 5, "line 6");
    expect_cursor(&s, 0, 2);
    show(&s, text.data, 2 + 7 * 6); /* in "line 7" */
    expect_row(&s, 5, "line 7");
    expect_row(&s, 0, "line 2");
    expect_cursor(&s, 5, 2);
    show(&s, "short", 5);
    expect_row(&s, 0, "> short");
    for (int row = 1; row < 6; row++) expect_row(&s, row, "");
    buf_release(&text);
    close_screen(&s);
}

static void test_clusters(void **state) {
    (void)state;
    struct screen s;
    open_screen(&s, 4, 20);
    show(&s, "e\xcc\x81x", 3);
    expect_row(&s, 0, "> e\xcc\x81x");
    expect_cursor(&s, 0, 3); /* a mark takes no column */
    show(&s, "\xc2\x9b[31m", 0);
    expect_row(&s, 0, "> \xEF\xBF\xBD[31m");
    show(&s, "\033[31m", 0);
    expect_row(&s, 0, "> ^[[31m");
    close_screen(&s);
}

static void test_tiny(void **state) {
    (void)state;
    static const int sizes[][2] = {{1, 1}, {1, 2}, {2, 1}, {3, 5}, {1, 80}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct screen s;
        open_screen(&s, sizes[i][0], sizes[i][1]);
        show(&s, "你好 hello\nworld", 7);
        show(&s, "你好 hello\nworld!", 18);
        show(&s, "", 0);
        line_view_finish(&s.view);
        update(&s);
        close_screen(&s);
    }
}

static void test_resize(void **state) {
    (void)state;
    struct screen s;
    open_screen(&s, 6, 20);
    terminal_puts(&s.terminal, "kept\r\n");
    show(&s, "some text that wraps around", 27);
    expect_row(&s, 1, "> some text that wra");
    s.terminal.columns = 40;
    vterm_set_size(s.vt, 6, 40);
    line_view_resized(&s.view);
    show(&s, "some text that wraps around", 27);
    expect_row(&s, 0, "kept"); /* what has scrolled by is never touched */
    s.terminal.columns = 10;
    vterm_set_size(s.vt, 6, 10);
    line_view_resized(&s.view);
    show(&s, "some text that wraps around", 27);
    expect_row(&s, 0, "kept");
    close_screen(&s);
}

static void expect_equal(struct screen *a, struct screen *b) {
    VTermPos at_a, at_b;
    for (int row = 0; row < a->terminal.rows; row++) {
        struct buf text = {0};
        row_text(b, row, &text);
        expect_row(a, row, text.data);
        buf_release(&text);
    }
    vterm_state_get_cursorpos(vterm_obtain_state(a->vt), &at_a);
    vterm_state_get_cursorpos(vterm_obtain_state(b->vt), &at_b);
    assert_int_equal(at_a.row, at_b.row);
    assert_int_equal(at_a.col, at_b.col);
}

/* After any sequence of changes the screen is what it would be if it were shown for the first time.
 * (The window may differ, so the text is kept smaller than the screen.) */
static void test_random_changes(void **state) {
    (void)state;
    static const char *const pieces[] = {"a",  "b c", "你",        "好世", "\n",
                                         "\t", "é",   "e\xcc\x81", "xyz"};
    struct screen s;
    struct buf text = {0};
    srand(1);
    open_screen(&s, 12, 16);
    for (int i = 0; i < 3000; i++) {
        if (rand() % 40 == 0 || text.n > 60) buf_clear(&text);
        const char *piece = pieces[(unsigned)rand() % (sizeof pieces / sizeof *pieces)];
        size_t at = text.n ? (size_t)rand() % (text.n + 1) : 0;
        while (at > 0 && at < text.n && ((unsigned char)text.data[at] & 0xC0) == 0x80) at--;
        struct buf changed = {0};
        buf_add(&changed, text.data ? text.data : "", at);
        buf_puts(&changed, piece);
        buf_puts(&changed, text.data ? text.data + at : "");
        buf_release(&text);
        text = changed;
        size_t cursor = rand() % 2 ? text.n : at;
        struct screen fresh;
        open_screen(&fresh, 12, 16);
        show(&s, text.data, cursor);
        show(&fresh, text.data, cursor);
        expect_equal(&s, &fresh);
        close_screen(&fresh);
    }
    buf_release(&text);
    close_screen(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line),         cmocka_unit_test(test_wrapping),
        cmocka_unit_test(test_lines_and_finish), cmocka_unit_test(test_window),
        cmocka_unit_test(test_clusters),         cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_resize),           cmocka_unit_test(test_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
