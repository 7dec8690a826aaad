/* What may reach a terminal, row by row, however the text was cut into pieces. */
#include "engine/base/sanitize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define N(array) (sizeof(array) / sizeof *(array))
#define FFFD     "\xEF\xBF\xBD"
#define ACUTE    "\xCC\x81"
#define ZWJ      "\xE2\x80\x8D"
#define VS16     "\xEF\xB8\x8F"
#define MAN      "\xF0\x9F\x91\xA8"
#define WOMAN    "\xF0\x9F\x91\xA9"
#define CIRCLE   "\xE2\x97\x8C" /* U+25CC */

static const struct {
    const char *in, *out;
} rows[] = {
    {"", ""},
    {"plain text, 100%", "plain text, 100%"},
    {"\xE4\xBD\xA0\xE5\xA5\xBD", "\xE4\xBD\xA0\xE5\xA5\xBD"},
    {"a\tb\nc", "a\tb\nc"},
    {"a\r\nb", "a\nb"},
    {"a\rb", "a\xE2\x90\x8D"
             "b"},
    {"a\r\r\nb", "a\xE2\x90\x8D\nb"},
    {"end\r", "end\xE2\x90\x8D"},
    /* escape sequences lose their first byte's power */
    {"\x1B[31mred", "\xE2\x90\x9B[31mred"},
    {"\x1B]0;title\x07", "\xE2\x90\x9B]0;title\xE2\x90\x87"},
    {"\x1B]52;c;aGk=\x1B\\", "\xE2\x90\x9B]52;c;aGk=\xE2\x90\x9B\\"},
    {"\x1B]8;;http://a\x1B\\x", "\xE2\x90\x9B]8;;http://a\xE2\x90\x9B\\x"},
    {"\x1BPq\x1B\\", "\xE2\x90\x9BPq\xE2\x90\x9B\\"},
    {"\x1B_x\x1B\\", "\xE2\x90\x9B_x\xE2\x90\x9B\\"},
    {"\xC2\x9B"
     "2J",
     FFFD "2J"}, /* 8-bit CSI as a code point */
    {"\xC2\x9D"
     "0;t\xC2\x9C",
     FFFD "0;t" FFFD},
    {"\x9B"
     "2J",
     FFFD "2J"}, /* and as a bare byte */
    {"\x90", FFFD},
    {"a\x08"
     "b\x7F\x0B\x0C",
     "a\xE2\x90\x88"
     "b\xE2\x90\xA1\xE2\x90\x8B\xE2\x90\x8C"},
    {"\x01\x1F", "\xE2\x90\x81\xE2\x90\x9F"},
    {"\x0E\x0F", "\xE2\x90\x8E\xE2\x90\x8F"}, /* shift to another character set */
    /* direction, tags, the invisible */
    {"a\xE2\x80\xAE"
     "b\xE2\x80\xAC",
     "ab"},
    {"\xE2\x81\xA6x\xE2\x81\xA9", "x"},
    {"\xE2\x80\x8E\xE2\x80\x8F\xD8\x9C.", "."},
    {"a\xF3\xA0\x81\x81\xF3\xA0\x81\xBF"
     "b",
     "ab"},
    {"\xEF\xBB\xBF"
     "bom",
     "bom"},
    {"a\xE2\x80\x8B\xE2\x81\xA0"
     "b",
     "ab"},
    {"a\xE2\x80\xA8"
     "b\xE2\x80\xA9"
     "c",
     "a\nb\nc"},
    /* joiners and selectors */
    {MAN ZWJ WOMAN, MAN ZWJ WOMAN},
    {"\xE2\x9D\xA4" VS16, "\xE2\x9D\xA4" VS16},
    {ZWJ VS16 "a", "a"},
    {"a\n" ZWJ "b", "a\nb"},
    {"\xE0\xA4\x95\xE0\xA5\x8D" ZWJ, "\xE0\xA4\x95\xE0\xA5\x8D" ZWJ},
    /* marks */
    {"e" ACUTE, "e" ACUTE},
    {ACUTE "x", CIRCLE ACUTE "x"},
    {"a\n" ACUTE, "a\n" CIRCLE ACUTE},
    {"e" ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE "f",
     "e" ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE "f"},
    {"e" ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE "f" ACUTE,
     "e" ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE ACUTE "f" ACUTE},
    {"e" ZWJ ZWJ ZWJ ZWJ ZWJ ZWJ ZWJ ZWJ ZWJ ZWJ, "e" ZWJ ZWJ ZWJ ZWJ ZWJ ZWJ ZWJ ZWJ},
    /* not UTF-8, not characters */
    {"\xFF\xFE", FFFD FFFD},
    {"a\xE4\xBD"
     "b",
     "a" FFFD FFFD "b"},
    {"a\xE4\xBD", "a" FFFD},
    {"\xED\xA0\x80", FFFD FFFD FFFD},
    {"\xEF\xBF\xBE\xEF\xBF\xBF\xEF\xB7\x90", FFFD FFFD FFFD},
    {"\xF4\x8F\xBF\xBF", FFFD},
    {"\xF3\xA0\x84\x80"
     "a",
     "a"}, /* a selector with nothing to select for */
};

static void test_rows_whole(void **state) {
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        struct buf out = {0};
        buf_puts(&out, "");
        sanitize_text(rows[i].in, strlen(rows[i].in), &out);
        assert_string_equal(out.data, rows[i].out);
        buf_release(&out);
    }
}

static void test_nul_becomes_a_symbol(void **state) {
    (void)state;
    struct buf out = {0};
    sanitize_text("a\0b", 3, &out);
    assert_string_equal(out.data, "a\xE2\x90\x80"
                                  "b");
    buf_release(&out);
}

/* Every row cut at every two places. */
static void test_rows_in_pieces(void **state) {
    (void)state;
    for (size_t i = 0; i < N(rows); i++) {
        size_t n = strlen(rows[i].in);
        for (size_t a = 0; a <= n; a++) {
            for (size_t b = a; b <= n; b++) {
                struct sanitizer s = {0};
                struct buf out = {0};
                buf_puts(&out, "");
                sanitize_feed(&s, rows[i].in, a, &out);
                sanitize_feed(&s, rows[i].in + a, b - a, &out);
                sanitize_feed(&s, rows[i].in + b, n - b, &out);
                sanitize_finish(&s, &out);
                assert_string_equal(out.data, rows[i].out);
                buf_release(&out);
            }
        }
    }
}

static void test_stream_shows_what_is_certain_at_once(void **state) {
    (void)state;
    struct sanitizer s = {0};
    struct buf out = {0};
    sanitize_feed(&s, "a\xE4\xBD", 3, &out);
    assert_string_equal(out.data, "a");
    sanitize_feed(&s, "\xA0", 1, &out);
    assert_string_equal(out.data, "a\xE4\xBD\xA0");
    sanitize_feed(&s, "\r", 1, &out);
    assert_string_equal(out.data, "a\xE4\xBD\xA0");
    sanitize_finish(&s, &out);
    assert_string_equal(out.data, "a\xE4\xBD\xA0\xE2\x90\x8D");
    buf_release(&out);
}

static void test_line_in_place(void **state) {
    (void)state;
    static const struct {
        const char *in, *out;
    } lines[] = {
        {"", ""},
        {"no such file: a b", "no such file: a b"},
        {"two\nlines\tand\r\nmore", "two lines and  more"},
        {"\x1B[2J", "?[2J"},
        {"\xC2\x9B"
         "2J",
         "?2J"},
        {"\xFF", "?"},
        {"\xE2\x80\xAEgnp", "gnp"},
        {"\xE2\x80\xAE\x1Bx", "\xE2\x90\x9Bx"}, /* the dropped one made room for a symbol */
        {"\xE4\xBD\xA0\xF0\x9F\x98\x80", "\xE4\xBD\xA0\xF0\x9F\x98\x80"},
        {"a\xE2\x80\xA8"
         "b",
         "a b"},
        {ACUTE "x", "?x"},
        {"cut \xE4\xBD", "cut ??"},
        {"\xEF\xBF\xBE", FFFD},
    };
    for (size_t i = 0; i < N(lines); i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", lines[i].in);
        sanitize_line(text);
        assert_string_equal(text, lines[i].out);
    }
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_whole),
        cmocka_unit_test(test_nul_becomes_a_symbol),
        cmocka_unit_test(test_rows_in_pieces),
        cmocka_unit_test(test_stream_shows_what_is_certain_at_once),
        cmocka_unit_test(test_line_in_place),
    };
    return cmocka_run_group_tests_name("sanitize", tests, NULL, NULL);
}
