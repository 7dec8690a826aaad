/* UTF-8 at its borders, widths that terminals agree on, and clusters as a user counts them. */
#include "engine/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define N(array) (sizeof(array) / sizeof *(array))

static void test_every_code_point_round_trips(void **state) {
    (void)state;
    for (uint32_t c = 0; c <= 0x10FFFF; c++) {
        if (c >= 0xD800 && c <= 0xDFFF) continue;
        char bytes[4];
        uint32_t back;
        size_t n = utf8_encode(c, bytes);
        assert_int_equal(n, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
        assert_int_equal(utf8_decode(bytes, n, &back), n);
        assert_int_equal(back, c);
        assert_true(utf8_valid(bytes, n));
        for (size_t cut = 1; cut < n; cut++) {
            assert_int_equal(utf8_incomplete_tail(bytes, cut), cut);
            assert_int_equal(utf8_decode(bytes, cut, &back), 1);
            assert_int_equal(back, UTF8_BAD);
        }
        assert_int_equal(utf8_incomplete_tail(bytes, n), 0);
    }
}

static void test_encode_replaces_what_is_no_character(void **state) {
    (void)state;
    static const uint32_t bad[] = {0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0x110000, 0xFFFFFFFF};
    for (size_t i = 0; i < N(bad); i++) {
        char bytes[4];
        assert_int_equal(utf8_encode(bad[i], bytes), 3);
        assert_memory_equal(bytes, "\xEF\xBF\xBD", 3);
    }
}

static void test_malformed_sequences(void **state) {
    (void)state;
    static const char *const malformed[] = {
        "\x80",                 /* a lone continuation */
        "\xBF",                 /* the last of them */
        "\xC0\x80",             /* NUL, overlong */
        "\xC1\xBF",             /* overlong in two */
        "\xE0\x80\x80",         /* overlong in three */
        "\xE0\x9F\xBF",         /* the largest overlong in three */
        "\xED\xA0\x80",         /* the first surrogate */
        "\xED\xBF\xBF",         /* the last surrogate */
        "\xF0\x8F\xBF\xBF",     /* overlong in four */
        "\xF4\x90\x80\x80",     /* U+110000 */
        "\xF5\x80\x80\x80",     /* a lead byte beyond the last */
        "\xF8\x88\x80\x80\x80", /* five bytes */
        "\xFE",
        "\xFF",
        "\xC3(",     /* no continuation */
        "\xE4\xBD(", /* the third byte missing */
        "\xF0\x9F\x98(",
        "\xE4(\xA0",
    };
    for (size_t i = 0; i < N(malformed); i++) {
        uint32_t c;
        size_t n = strlen(malformed[i]);
        assert_int_equal(utf8_decode(malformed[i], n, &c), 1);
        assert_int_equal(c, UTF8_BAD);
        assert_false(utf8_valid(malformed[i], n));
        char in_text[32];
        snprintf(in_text, sizeof in_text, "twelve bytes%s and more", malformed[i]);
        assert_false(utf8_valid(in_text, strlen(in_text)));
    }
}

static void test_valid_across_words_of_eight(void **state) {
    (void)state;
    char text[40];
    for (size_t at = 0; at < 20; at++) {
        memset(text, 'a', sizeof text);
        memcpy(text + at, "\xE4\xBD\xA0", 3);
        for (size_t n = at + 3; n < 24; n++) assert_true(utf8_valid(text, n));
        assert_false(utf8_valid(text, at + 1));
        assert_false(utf8_valid(text, at + 2));
    }
}

static void test_incomplete_tail(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t tail;
    } rows[] = {
        {"", 0},
        {"abc", 0},
        {"\xE4\xBD\xA0", 0},
        {"a\xE4", 1},
        {"a\xE4\xBD", 2},
        {"a\xF0\x9F\x98", 3},
        {"a\xF0\x9F", 2},
        {"\xE0\x80", 0}, /* can become nothing */
        {"\xED\xA0", 0}, /* a surrogate cannot either */
        {"\xF4\x90", 0},
        {"\xC0", 0},
        {"\xF5", 0},
        {"\x80\x80\x80\x80", 0}, /* continuations alone */
        {"\xE4\xBD\xA0\xA0", 0},
        {"\xFF\xE4\xBD", 2},
    };
    for (size_t i = 0; i < N(rows); i++)
        assert_int_equal(utf8_incomplete_tail(rows[i].text, strlen(rows[i].text)), rows[i].tail);
}

static void test_width(void **state) {
    (void)state;
    static const struct {
        uint32_t c;
        int width;
    } rows[] = {
        {'\0', -1},  {'\n', -1},  {0x1B, -1},  {0x7F, -1},   {0x9B, -1},   {' ', 1},
        {'~', 1},    {0xA0, 1},   {0xE9, 1},   {0x301, 0},   {0x20E3, 0},  {0x200B, 0},
        {0x200D, 0}, {0xFE0F, 0}, {0x4F60, 2}, {0xFF21, 2},  {0x3000, 2},  {0xAC00, 2},
        {0x1100, 2}, {0x1161, 0}, {0x11A8, 0}, {0x1F600, 2}, {0x1FAE8, 2}, {0x1F1E6, 1},
        {0x2764, 1}, {0x0903, 1}, {0x093E, 1}, {0x094D, 0},  {0x0600, 1},  {0x4DC0, 2},
        {0x3248, 2}, {0x201C, 1}, {0x2014, 1}, {0x2026, 1},  {0xB7, 1},    {0x302A, 0},
        {0x302E, 2}, {0xFFFD, 1}, {0x2500, 1}, {0x20000, 2}, {0xE000, 1},  {0x110000, 1},
    };
    for (size_t i = 0; i < N(rows); i++)
        if (utf8_width(rows[i].c) != rows[i].width)
            fail_msg("U+%04X: %d columns", (unsigned)rows[i].c, utf8_width(rows[i].c));
}

/* The option changes the ambiguous ones and no others; marks stay on their letters. */
static void test_ambiguous_width(void **state) {
    (void)state;
    static const uint32_t wide[] = {0xA1,   0xB1,   0xB7,   0xD7,   0x3B1,  0x414,
                                    0x201C, 0x201D, 0x2014, 0x2026, 0x2190, 0x2460,
                                    0x2500, 0x2588, 0x25CB, 0x2605, 0xE000, 0xFFFD};
    static const uint32_t narrow[] = {'a', 0xA0, 0xC0, 0x5D0, 0x2717, 0x1F1E6};
    utf8_set_ambiguous_width(2);
    for (size_t i = 0; i < N(wide); i++)
        if (utf8_width(wide[i]) != 2) fail_msg("U+%04X is not wide", (unsigned)wide[i]);
    for (size_t i = 0; i < N(narrow); i++)
        if (utf8_width(narrow[i]) != 1) fail_msg("U+%04X is not narrow", (unsigned)narrow[i]);
    assert_int_equal(utf8_width(0x301), 0);
    assert_int_equal(utf8_width(0x4F60), 2);
    utf8_set_ambiguous_width(1);
    for (size_t i = 0; i < N(wide); i++) assert_int_equal(utf8_width(wide[i]), 1);
}

/* Each row is one cluster and how many columns it takes. */
static void test_clusters(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int width;
    } rows[] = {
        {"a", 1},
        {"e\xCC\x81", 1}, /* e with acute */
        {"a\xCC\x80\xCC\x81\xCC\x82\xCC\x83", 1},
        {"\xE4\xBD\xA0", 2},     /* 你 */
        {"\xF0\x9F\x98\x80", 2}, /* grinning face */
        {"\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7",
         2},                                         /* family */
        {"\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD", 2},     /* thumb, skin tone */
        {"\xF0\x9F\x87\xA8\xF0\x9F\x87\xB3", 2},     /* flag of China */
        {"1\xEF\xB8\x8F\xE2\x83\xA3", 2},            /* keycap 1 */
        {"\xE2\x9D\xA4\xEF\xB8\x8F", 2},             /* red heart, emoji style */
        {"\xE2\x9D\xA4", 1},                         /* heart, text style */
        {"a\xEF\xB8\x8F", 1},                        /* a letter does not widen */
        {"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB", 2}, /* Hangul, three jamo */
        {"\xEA\xB0\x80", 2},                         /* Hangul, one syllable */
        {"\xE0\xA4\x95\xE0\xA4\xBE", 2},             /* Devanagari with a spacing vowel */
        {"\xE0\xB8\x81\xE0\xB8\xB3", 2},             /* Thai with sara am */
        {"\xF0\x9F\x8F\xB3\xEF\xB8\x8F\xE2\x80\x8D\xF0\x9F\x8C\x88", 2}, /* rainbow flag */
        {"\n", 0},
        {"\r\n", 0},
        {"\x1B", 0},
        {"\x7F", 0},
        {"\xC2\x9B", 0},
        {"\xFF", 1},
        {"\xEF\xBF\xBD", 1},
    };
    for (size_t i = 0; i < N(rows); i++) {
        static const char *const behind[] = {"", "x", "\xE4\xBD\xA0", "\xFF", "\n"};
        for (size_t k = 0; k < N(behind); k++) {
            if (k == 4 && rows[i].text[0] == '\r') continue;
            char text[64];
            snprintf(text, sizeof text, "%s%s", rows[i].text, behind[k]);
            int width = -9;
            size_t n = utf8_cluster(text, strlen(text), &width);
            if (n != strlen(rows[i].text) || width != rows[i].width)
                fail_msg("row %zu, %s behind: %zu bytes, %d columns", i, behind[k], n, width);
        }
    }
}

static void test_three_regional_indicators_are_a_flag_and_a_letter(void **state) {
    (void)state;
    const char *text = "\xF0\x9F\x87\xA8\xF0\x9F\x87\xB3\xF0\x9F\x87\xA8";
    int width;
    assert_int_equal(utf8_cluster(text, 12, &width), 8);
    assert_int_equal(width, 2);
    assert_int_equal(utf8_cluster(text + 8, 4, &width), 4);
    assert_int_equal(width, 1);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point_round_trips),
        cmocka_unit_test(test_encode_replaces_what_is_no_character),
        cmocka_unit_test(test_malformed_sequences),
        cmocka_unit_test(test_valid_across_words_of_eight),
        cmocka_unit_test(test_incomplete_tail),
        cmocka_unit_test(test_width),
        cmocka_unit_test(test_ambiguous_width),
        cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_three_regional_indicators_are_a_flag_and_a_letter),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
