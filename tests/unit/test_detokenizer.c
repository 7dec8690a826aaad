/* engine/text/detokenizer: whole characters, stop strings across tokens, the end. */
#include "engine/text/detokenizer.h"

#include "engine/base/utf8.h"
#include "tests/support/byte_tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const added[] = {"<|im_end|>", "<think>"};
static struct tokenizer *tokenizer;

static int open_tokenizer(void **state) {
    (void)state;
    tokenizer = byte_tokenizer_open(added, 2);
    return tokenizer ? 0 : -1;
}

static int close_tokenizer(void **state) {
    (void)state;
    tokenizer_close(tokenizer);
    return 0;
}

/* Feeds bytes one token each; `steps` gets what came out after each, separated by '|', then what
 * came out at the end. */
static void feed(const char *bytes, size_t n, const char *const *stops, size_t n_stops,
                 struct buf *steps, bool *stopped) {
    struct detokenizer d;
    detokenizer_init(&d, tokenizer, stops, n_stops);
    for (size_t i = 0; i < n; i++) {
        size_t before = steps->n;
        detokenizer_add(&d, (unsigned char)bytes[i], steps);
        assert_true(utf8_valid(steps->data + before, steps->n - before));
        buf_putc(steps, '|');
    }
    *stopped = d.stopped;
    detokenizer_finish(&d, steps);
    detokenizer_release(&d);
}

static void test_steps(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *stops[3], *steps;
        bool stopped;
    } rows[] = {
        {"ab", {NULL}, "a|b|", false},
        {"\xE6\xA0\xB9!", {NULL}, "||\xE6\xA0\xB9|!|", false},
        {"\xF0\x9F\x98\x80", {NULL}, "|||\xF0\x9F\x98\x80|", false},
        {"\xF0\x9F\x98", {NULL}, "|||\xEF\xBF\xBD", false},
        {"a\xE6", {NULL}, "a||\xEF\xBF\xBD", false},
        {"\xE6z", {NULL}, "|\xEF\xBF\xBDz|", false},
        {"\xFFz", {NULL}, "\xEF\xBF\xBD|z|", false},
        {"\xF0\x9F\xE6\xA0\xB9", {NULL}, "||\xEF\xBF\xBD||\xE6\xA0\xB9|", false},
        {"\xC0\x80", {NULL}, "\xEF\xBF\xBD|\xEF\xBF\xBD|", false},
        {"\xED\xA0\x80", {NULL}, "|\xEF\xBF\xBD\xEF\xBF\xBD|\xEF\xBF\xBD|", false},
        {"xSTOPy", {"STOP"}, "x||||||", true},
        {"xSTOy", {"STOP"}, "x||||STOy|", false},
        {"xSTO", {"STOP"}, "x||||STO", false},
        {"SSTOP", {"STOP"}, "|S||||", true},
        {"aab", {"aab", "ab"}, "|||", true},
        {"xab", {"b", "ab"}, "x|||", true},
        {"abc", {"", "c"}, "a|b||", true},
        {"ababac", {"abac"}, "|||ab|||", true},
        {"\xE4\xB8\xAD\xE6\x96\x87", {"\xE6\x96\x87"}, "||\xE4\xB8\xAD||||", true},
        {"\xE6STOP", {"STOP"}, "|\xEF\xBF\xBD||||", true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf steps = {0};
        bool stopped;
        size_t n_stops = 0;
        while (n_stops < 3 && rows[i].stops[n_stops]) n_stops++;
        feed(rows[i].bytes, strlen(rows[i].bytes), rows[i].stops, n_stops, &steps, &stopped);
        if (strcmp(steps.data, rows[i].steps) != 0)
            fail_msg("row %zu: \"%s\", expected \"%s\"", i, steps.data, rows[i].steps);
        assert_int_equal(stopped, rows[i].stopped);
        buf_release(&steps);
    }
}

static void test_control_tokens(void **state) {
    (void)state;
    int32_t ids[] = {'a', BYTE_TOKENIZER_ADDED, 'b', BYTE_TOKENIZER_TWO_NEWLINES, 9999, -1};
    for (int with_control = 0; with_control < 2; with_control++) {
        struct detokenizer d;
        struct buf out = {0};
        detokenizer_init(&d, tokenizer, NULL, 0);
        d.with_control = with_control;
        for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
            assert_false(detokenizer_add(&d, ids[i], &out));
        detokenizer_finish(&d, &out);
        assert_string_equal(out.data, with_control ? "a<|im_end|>b\n\n" : "ab\n\n");
        detokenizer_release(&d);
        buf_release(&out);
    }
}

static void test_nothing_after_the_stop(void **state) {
    (void)state;
    static const char *const stops[] = {"!"};
    struct detokenizer d;
    struct buf out = {0};
    detokenizer_init(&d, tokenizer, stops, 1);
    assert_false(detokenizer_add(&d, 'a', &out));
    assert_true(detokenizer_add(&d, '!', &out));
    assert_true(detokenizer_add(&d, 'b', &out));
    detokenizer_finish(&d, &out);
    assert_string_equal(out.data, "a");
    detokenizer_release(&d);
    buf_release(&out);
}

/* Of two stop strings, where the one begins that is complete first (of both, the longer). */
static const char *first_stop(const char *text, const char *a, const char *b) {
    const char *at_a = strstr(text, a), *at_b = strstr(text, b);
    if (!at_a || !at_b) return at_a ? at_a : at_b;
    const char *end_a = at_a + strlen(a), *end_b = at_b + strlen(b);
    if (end_a == end_b) return at_a < at_b ? at_a : at_b;
    return end_a < end_b ? at_a : at_b;
}

/* Whatever the text and the stop strings: all of the text before the stop, no more. */
static void test_random(void **state) {
    (void)state;
    static const char *const units[] = {"a", "b", "\xC3\xA9", "\xE4\xB8\xAD", "\xF0\x9F\x98\x80"};
    srand(7);
    for (int round = 0; round < 20000; round++) {
        struct buf text = {0}, stop[2] = {{0}, {0}}, steps = {0}, joined = {0};
        bool stopped;
        for (int i = rand() % 12; i >= 0; i--) buf_puts(&text, units[rand() % 5]);
        for (int k = 0; k < 2; k++) {
            for (int i = rand() % 3; i >= 0; i--) buf_puts(&stop[k], units[rand() % 5]);
        }
        const char *stops[] = {stop[0].data, stop[1].data};
        feed(text.data, text.n, stops, 2, &steps, &stopped);
        for (size_t i = 0; i < steps.n; i++) {
            if (steps.data[i] != '|') buf_putc(&joined, steps.data[i]);
        }
        const char *first = first_stop(text.data, stops[0], stops[1]);
        size_t n = first ? (size_t)(first - text.data) : text.n;
        assert_int_equal(stopped, first != NULL);
        assert_int_equal(joined.n, n);
        if (n) assert_memory_equal(joined.data, text.data, n);
        buf_release(&text);
        buf_release(&stop[0]);
        buf_release(&stop[1]);
        buf_release(&steps);
        buf_release(&joined);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps),
        cmocka_unit_test(test_control_tokens),
        cmocka_unit_test(test_nothing_after_the_stop),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, open_tokenizer, close_tokenizer);
}
