/*
 * Markdown and wrapping: golden rows at several widths, and what must hold for any text: no row is
 * wider than the screen, nothing is lost, and a text comes out the same in whatever pieces it came.
 */
#include "engine/base/io.h"
#include "engine/base/utf8.h"
#include "tests/support/is_sanitized.h"
#include "tests/support/slowness.h"
#include "ui/markdown.h"
#include "ui/wrap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const ink_names[] = {
#define INK(name, ...) #name,
#include "ui/theme.def"
#undef INK
};

static const struct {
    text_style bit;
    const char *name;
} attributes[] = {{STYLE_BOLD, "+b"},    {STYLE_ITALIC, "+i"}, {STYLE_UNDERLINE, "+u"},
                  {STYLE_REVERSE, "+r"}, {STYLE_DIM, "+d"},    {STYLE_STRIKE, "+s"}};

static void describe(const struct lines *lines, struct buf *out) {
    for (size_t i = 0; i < lines->n; i++) {
        const struct row *row = &lines->rows[i];
        size_t begin = row->begin, run = row->run;
        if (row->is_joined) buf_puts(out, "\\");
        while (begin < row->end) {
            size_t end = lines->content.runs[run].end;
            text_style style = lines->content.runs[run++].style;
            if (end > row->end) end = row->end;
            if (style != INK_text) buf_printf(out, "{%s", ink_names[style & STYLE_INK]);
            for (size_t k = 0; k < sizeof attributes / sizeof *attributes; k++)
                if (style & attributes[k].bit) buf_puts(out, attributes[k].name);
            if (style != INK_text) buf_puts(out, ":");
            buf_add(out, lines->content.text.data + begin, end - begin);
            if (style != INK_text) buf_puts(out, "}");
            begin = end;
        }
        buf_puts(out, "\n");
    }
}

/* Every row's width is as it says, and fits. */
static void check_rows(const struct lines *lines, int columns) {
    for (size_t i = 0; i < lines->n; i++) {
        const struct row *row = &lines->rows[i];
        int total = 0, width;
        size_t bytes;
        for (size_t at = row->begin; at < row->end; at += bytes) {
            bytes = utf8_cluster(lines->content.text.data + at, row->end - at, &width);
            assert_int_not_equal(lines->content.text.data[at], '\n');
            assert_int_not_equal(lines->content.text.data[at], '\t');
            total += width;
        }
        if (total > columns) fail_msg("row %zu: %d columns of %d", i, total, columns);
        assert_true(row->width >= total);
        assert_true(row->width <= columns);
        if (row->end > row->begin) {
            assert_true(row->run < lines->content.n_runs);
            assert_true(lines->content.runs[row->run].end > row->begin);
        }
    }
}

static void lay_out(const char *text, size_t n, int columns, struct lines *out) {
    struct markdown m = {0};
    markdown_lay_out(&m, text, n, columns, out);
    assert_false(lines_failed(out));
    check_rows(out, columns);
}

static const char *const names[] = {"mixed", "chinese", "unfinished", "hostile", "longcode"};
static const int widths[] = {20, 40, 80, 200};

static void read_case(const char *name, struct buf *out) {
    char path[128];
    struct err err;
    snprintf(path, sizeof path, "tests/golden/markdown/%s.md", name);
    if (io_read_file(path, 1 << 20, out, &err) != 0) fail_msg("%s", err.text);
}

static void test_golden(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct buf source = {0};
        read_case(names[i], &source);
        for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
            struct lines lines = {0};
            struct buf rows = {0}, expected = {0};
            char path[128];
            snprintf(path, sizeof path, "tests/golden/markdown/%s.%d", names[i], widths[k]);
            lay_out(source.data, source.n, widths[k], &lines);
            describe(&lines, &rows);
            if (getenv("QWEN_GOLDEN_WRITE"))
                assert_int_equal(io_write_atomic(path, 0644, rows.data, rows.n, NULL), 0);
            assert_int_equal(io_read_file(path, 1 << 20, &expected, NULL), 0);
            assert_string_equal(rows.data, expected.data);
            buf_release(&rows);
            buf_release(&expected);
            lines_release(&lines);
        }
        buf_release(&source);
    }
}

static void expect_same(const struct lines *a, const struct lines *b) {
    struct buf text_a = {0}, text_b = {0};
    describe(a, &text_a);
    describe(b, &text_b);
    assert_string_equal(text_a.data ? text_a.data : "", text_b.data ? text_b.data : "");
    buf_release(&text_a);
    buf_release(&text_b);
}

/* Cut at every byte (whole characters), then the rest; and byte by byte. */
static void test_pieces(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct buf source = {0};
        struct lines whole = {0}, streamed = {0};
        struct markdown m = {0};
        read_case(names[i], &source);
        lay_out(source.data, source.n, 40, &whole);
        for (size_t n = 1; n <= source.n; n++) {
            if (n < source.n && ((unsigned char)source.data[n] & 0xC0) == 0x80) continue;
            char after = source.data[n];
            source.data[n] = '\0';
            markdown_lay_out(&m, source.data, n, 40, &streamed);
            source.data[n] = after;
            check_rows(&streamed, 40);
            if (i == 0 && n % 7 == 0) { /* one step from there to the end */
                struct lines two = {0};
                struct markdown half = {0};
                source.data[n] = '\0';
                markdown_lay_out(&half, source.data, n, 40, &two);
                source.data[n] = after;
                markdown_lay_out(&half, source.data, source.n, 40, &two);
                expect_same(&whole, &two);
                lines_release(&two);
            }
        }
        expect_same(&whole, &streamed);
        lines_release(&whole);
        lines_release(&streamed);
        buf_release(&source);
    }
}

/* Where ambiguous characters are wide every row still fits, and what is drawn is drawn in ASCII. */
static void test_wide(void **state) {
    (void)state;
    static const char table[] = "| a | “b” |\n|---|---|\n| 1… | ① |\n\n---\n";
    struct lines lines = {0};
    struct buf rows = {0};
    utf8_set_ambiguous_width(2);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct buf source = {0};
        read_case(names[i], &source);
        for (int columns = 8; columns < 90; columns++) {
            struct lines all = {0};
            lay_out(source.data, source.n, columns, &all);
            lines_release(&all);
        }
        buf_release(&source);
    }
    lay_out(table, strlen(table), 20, &lines);
    describe(&lines, &rows);
    assert_non_null(strstr(rows.data, "-+-"));
    assert_non_null(strstr(rows.data, "{dim:--------------------}"));
    assert_null(strstr(rows.data, "─"));
    utf8_set_ambiguous_width(1);
    buf_release(&rows);
    lines_release(&lines);
}

static unsigned random_state = 1;
static unsigned next_random(unsigned n) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* Markdown's own signs in any order: no row too wide, no crash, streamed as whole. */
static void test_random(void **state) {
    (void)state;
    static const char *const parts[] = {
        "*",    "**",    "_",        "`",   "```",       "\n",  "\n\n",
        "- ",   "1. ",   "> ",       "# ",  "|",         "---", "| a | b |\n|--|--|\n",
        "[l](", ")",     "![",       "~~~", "    ",      "\t",  "word ",
        "中文", "&#27;", "👍🏽", "é",   "e\xcc\x81", "（",  "。",
        "<b>",  "\\",    "~~"};
    for (int round = 0; round < 3000; round++) {
        struct buf text = {0};
        struct lines whole = {0}, streamed = {0};
        struct markdown m = {0};
        int columns = 1 + (int)next_random(60);
        for (unsigned k = next_random(60) + 1; k > 0; k--) {
            buf_puts(&text, parts[next_random(sizeof parts / sizeof *parts)]);
            if (next_random(4) == 0) markdown_lay_out(&m, text.data, text.n, columns, &streamed);
        }
        markdown_lay_out(&m, text.data, text.n, columns, &streamed);
        lay_out(text.data, text.n, columns, &whole);
        expect_same(&whole, &streamed);
        lines_release(&whole);
        lines_release(&streamed);
        buf_release(&text);
    }
}

static void expect_wrapped(const char *text, int columns, bool is_verbatim, const char *expected) {
    struct styled styled = {0};
    struct lines lines = {0};
    struct buf rows = {0};
    const struct wrap how = {.columns = columns, .is_verbatim = is_verbatim};
    styled_puts(&styled, text, INK_text);
    wrap_text(&lines, &how, &styled, 0, styled.text.n);
    check_rows(&lines, columns);
    for (size_t i = 0; i < lines.n; i++) {
        if (i > 0) buf_puts(&rows, "|");
        if (lines.rows[i].end > lines.rows[i].begin)
            buf_add(&rows, lines.content.text.data + lines.rows[i].begin,
                    lines.rows[i].end - lines.rows[i].begin);
    }
    assert_string_equal(rows.data ? rows.data : "", expected);
    buf_release(&rows);
    lines_release(&lines);
    styled_release(&styled);
}

static void test_wrap(void **state) {
    (void)state;
    expect_wrapped("", 10, false, "");
    expect_wrapped("one two three", 7, false, "one two|three");
    expect_wrapped("one two three", 8, false, "one two|three");
    expect_wrapped("one  two", 4, false, "one|two");
    expect_wrapped("  two", 10, false, "  two");
    expect_wrapped("    two", 3, false, "   |two"); /* as many blanks as there is room for */
    expect_wrapped("中 d", 1, false, "?|d");
    expect_wrapped("abcdefghij", 4, false, "abcd|efgh|ij");
    expect_wrapped("a abcdefghij", 4, false, "a|abcd|efgh|ij");
    expect_wrapped("well-known thing", 6, false, "well-|known|thing");
    expect_wrapped("a/b/cd/ef", 5, false, "a/b/|cd/ef");
    expect_wrapped("one /help", 7, false, "one|/help");
    expect_wrapped("one \ntwo", 10, false, "one|two");
    expect_wrapped("\n\nx", 10, false, "||x");
    expect_wrapped("你好世界", 5, false, "你好|世界");
    expect_wrapped("你好，世界", 4, false, "你|好，|世界");     /* no comma at the beginning */
    expect_wrapped("他说（你好）", 6, false, "他说|（你|好）"); /* no bracket at the end */
    expect_wrapped("用English写", 6, false, "用|Englis|h写");
    expect_wrapped("中", 1, false, "?");
    expect_wrapped("a\tb", 20, false, "a       b");
    expect_wrapped("if (x)  y", 6, true, "if (x)|  y");
    expect_wrapped("👨‍👩‍👧👨‍👩‍👧", 3, false,
                   "👨‍👩‍👧|👨‍👩‍👧");
    expect_wrapped("e\xcc\x81"
                   "e\xcc\x81",
                   1, false, "e\xcc\x81|e\xcc\x81");
}

static void test_code(void **state) {
    (void)state;
    static const char text[] = "a\n\n```c\nint x;\n\n  y\n```\n\n- l\n  ~~~\n  z\n  ~~~\n```\nopen";
    struct buf out = {0};
    assert_true(markdown_code(text, strlen(text), 1, &out));
    assert_string_equal(out.data, "int x;\n\n  y\n");
    buf_clear(&out);
    assert_true(markdown_code(text, strlen(text), 2, &out));
    assert_string_equal(out.data, "z\n");
    buf_clear(&out);
    assert_true(markdown_code(text, strlen(text), 3, &out));
    assert_string_equal(out.data, "open\n");
    assert_false(markdown_code(text, strlen(text), 4, &out));
    buf_release(&out);
}

/* A table that asks for 10^8 cells is shown as text. */
static void test_square_table(void **state) {
    (void)state;
    struct buf text = {0};
    struct lines lines = {0};
    for (int i = 0; i < 10000; i++) buf_puts(&text, "|a");
    buf_puts(&text, "|\n");
    for (int i = 0; i < 10000; i++) buf_puts(&text, "|-");
    buf_puts(&text, "|\n");
    for (int i = 0; i < 10000; i++) buf_puts(&text, "|\n");
    lay_out(text.data, text.n, 80, &lines);
    assert_true(lines.n > 100);
    lines_release(&lines);
    buf_release(&text);
}

/* 2,000 tokens of 4 characters a second, laid out 30 times a second, for 10 s: the share of a core.
 * Prose, and one code block. */
static double stream(const char *head, const char *piece) {
    struct buf text = {0};
    struct lines lines = {0};
    struct markdown m = {0};
    size_t goal = 0;
    double begin = thread_seconds();
    buf_puts(&text, head);
    for (int frame = 0; frame < 300; frame++) {
        goal += 2000 * 4 / 30;
        while (text.n < goal) buf_puts(&text, piece);
        markdown_lay_out(&m, text.data, text.n, 100, &lines);
    }
    double share = (thread_seconds() - begin) / 10;
    lines_release(&lines);
    buf_release(&text);
    return share;
}

/* Up to ten tries, in processor time and against a machine of usual speed: one that other programs
 * share takes longer for everything. */
static void test_speed(void **state) {
    (void)state;
    static const char paragraph[] =
        "Some **bold** words and `code`, then a longer sentence that goes on for a while, as they "
        "do, until it ends in a list or a paragraph; 中文也在其中，占一半的宽度。\n\n";
    bool is_fast = false;
    for (int i = 0; i < 10 && !is_fast; i++) {
        double slowness = machine_slowness();
        double prose = stream("", paragraph);
        double code =
            stream("```c\n", "    for (int i = 0; i < n; i++) sum += x[i] * y[i]; /* i */\n");
        double list =
            stream("", "- an item of one list that never ends, with **bold** text in it\n");
        print_message(
            "layout of 2,000 tokens/s: prose %.2f %%, code %.2f %%, one list %.2f %% of a "
            "core, %.2f times slower than usual\n",
            100 * prose, 100 * code, 100 * list, slowness);
        is_fast = prose < 0.05 * slowness && code < 0.05 * slowness && list < 0.10 * slowness;
        is_fast |= IS_SANITIZED;
    }
    assert_true(is_fast);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrap),   cmocka_unit_test(test_golden),
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_random),
        cmocka_unit_test(test_code),   cmocka_unit_test(test_square_table),
        cmocka_unit_test(test_speed),  cmocka_unit_test(test_wide),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
