/*
 * The JSON gate: what RFC 8259 allows passes, what it forbids is refused with its place. The
 * cases follow the kinds of the JSONTestSuite (y: must pass, n: must be refused, i: left to us).
 */
#include "engine/base/json.h"

#include "engine/base/buf.h"
#include "engine/base/mem.h"
#include "tests/support/slowness.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N(array) (sizeof(array) / sizeof *(array))
#define TEXT(literal)                                                                              \
    { literal, sizeof(literal) - 1 }

static const struct json_limits wide = {
    .max_bytes = 1 << 26, .max_nodes = 1 << 22, .max_depth = 64};

struct text {
    const char *data;
    size_t n;
};

static const struct text accepted[] = {
    TEXT("{}"),
    TEXT("[]"),
    TEXT("0"),
    TEXT("-0"),
    TEXT("null"),
    TEXT("true"),
    TEXT("false"),
    TEXT("\"\""),
    TEXT(" \t\r\n[ \t\r\n] \t\r\n"),
    TEXT("[1,2 , 3]"),
    TEXT("[[],[[]],{}]"),
    TEXT("[null, 1, \"1\", {}]"),
    TEXT("{\"a\":1,\"b\":{\"a\":2}}"),
    TEXT("{\"\":0}"),
    TEXT("{\"a\":[{\"a\":[{\"a\":0}]}]}"),
    TEXT("[{\"a\":1},{\"a\":1}]"),
    TEXT("123.456e78"),
    TEXT("1E22"),
    TEXT("1e+2"),
    TEXT("1e-2"),
    TEXT("1.5E+9"),
    TEXT("0e1"),
    TEXT("0.000000000000000000000000000000000000000000000000000000001"),
    TEXT("-123"),
    TEXT("-0.0"),
    TEXT("18446744073709551616"),
    TEXT("1e9999"),
    TEXT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
    TEXT("\"\\u0001\\u001F\\u00e9\\u4F60\""),
    TEXT("\"\\ud83d\\ude00\""),
    TEXT("\"\\uDBFF\\uDFFF\""),
    TEXT("\"\\u0060\\u012a\\u12AB\""),
    TEXT("\"\\\\u0000\""),
    TEXT("\"\\uFFFF\\uFDD0\""),
    TEXT("\"\x7F\""),
    TEXT("\"\xE4\xBD\xA0\xF0\x9F\x98\x80\""),
    TEXT("\"\xE2\x80\xA8\""),
    TEXT("{\"\xE4\xBD\xA0\":\"\\u597d\"}"),
    TEXT("{\"a\":0,\"A\":0,\"\\u0061b\":0}"),
    TEXT("\"/* no comment */\""),
};

static const struct text refused[] = {
    /* nothing, or more than one thing */
    TEXT(""),
    TEXT(" "),
    TEXT("\xEF\xBB\xBF{}"),
    TEXT("\xEF\xBB\xBF"),
    TEXT("{} {}"),
    TEXT("[] x"),
    TEXT("[1]]"),
    TEXT("{}}"),
    TEXT("1 2"),
    TEXT("\"a\" \"b\""),
    TEXT("[]\0"),
    TEXT("\0"),
    TEXT("[]#"),
    TEXT("{} // end"),
    TEXT("[/* in */]"),
    TEXT("<.>"),
    TEXT("[<null>]"),
    TEXT("'a'"),
    TEXT("*"),
    TEXT("\f[]"),
    TEXT("\v[]"),
    TEXT("[\xC2\xA0]"),
    TEXT("\xE2\x81\xA0[]"),
    /* arrays */
    TEXT("["),
    TEXT("]"),
    TEXT("[1"),
    TEXT("[1,"),
    TEXT("[1,]"),
    TEXT("[,1]"),
    TEXT("[,]"),
    TEXT("[1,,2]"),
    TEXT("[1 2]"),
    TEXT("[1;2]"),
    TEXT("[1:2]"),
    TEXT("[\"a\" 1]"),
    TEXT("[3[4]]"),
    TEXT("[1}"),
    TEXT("[\"a\",\n4\n,1,"),
    TEXT("[[]"),
    TEXT("[{}"),
    TEXT("[*]"),
    TEXT("[\"\": 1]"),
    /* objects */
    TEXT("{"),
    TEXT("}"),
    TEXT("{\"a\""),
    TEXT("{\"a\":"),
    TEXT("{\"a\":1"),
    TEXT("{\"a\":1,"),
    TEXT("{\"a\":1,}"),
    TEXT("{,\"a\":1}"),
    TEXT("{\"a\":1,,\"b\":2}"),
    TEXT("{\"a\"}"),
    TEXT("{\"a\" 1}"),
    TEXT("{\"a\"::1}"),
    TEXT("{\"a\":}"),
    TEXT("{\"a\",1}"),
    TEXT("{:1}"),
    TEXT("{a:1}"),
    TEXT("{'a':1}"),
    TEXT("{1:1}"),
    TEXT("{null:1}"),
    TEXT("{[]:1}"),
    TEXT("{\"a\":1]"),
    TEXT("{\"a\":1 \"b\":2}"),
    TEXT("{\"a\":1;\"b\":2}"),
    TEXT("{\"a\"=1}"),
    TEXT("{\"a\":b}"),
    TEXT("{\"a\" \"b\"}"),
    TEXT("{\"a\":{}"),
    /* the same key twice, also in disguise */
    TEXT("{\"a\":1,\"a\":1}"),
    TEXT("{\"a\":1,\"b\":2,\"a\":3}"),
    TEXT("{\"a\":1,\"\\u0061\":1}"),
    TEXT("{\"\\u0061\":1,\"a\":1}"),
    TEXT("{\"\\u0061\":1,\"\\u0061\":1}"),
    TEXT("{\"\":1,\"\":1}"),
    TEXT("{\"/\":1,\"\\/\":1}"),
    TEXT("{\"\xF0\x9F\x98\x80\":1,\"\\uD83D\\uDE00\":1}"),
    TEXT("[{\"x\":{\"a\":1,\"b\":[],\"a\":1}}]"),
    TEXT("{\"a\":{\"b\":1},\"a\":2}"),
    /* numbers */
    TEXT("+1"),
    TEXT("-"),
    TEXT("--1"),
    TEXT("- 1"),
    TEXT("01"),
    TEXT("-01"),
    TEXT("00"),
    TEXT("1."),
    TEXT("-1."),
    TEXT(".5"),
    TEXT("-.5"),
    TEXT("1.e1"),
    TEXT("1.5.5"),
    TEXT("1e"),
    TEXT("1e+"),
    TEXT("1e-"),
    TEXT("1E"),
    TEXT("1ee2"),
    TEXT("1e1.5"),
    TEXT("0x10"),
    TEXT("0b1"),
    TEXT("1_000"),
    TEXT("1,000"),
    TEXT("1 000.0"),
    TEXT("1f"),
    TEXT("1L"),
    TEXT("-a"),
    TEXT("-Infinity"),
    TEXT("Infinity"),
    TEXT("-NaN"),
    TEXT("NaN"),
    TEXT("nan"),
    TEXT("inf"),
    TEXT("\xEF\xBC\x91"),
    TEXT("1\xE5"),
    TEXT("[1+2]"),
    TEXT("0e"),
    TEXT("0.e1"),
    TEXT("0.1.2"),
    TEXT("1000000000000000000000000000000000000000000000000000000000000000"), /* 64 digits */
    /* words */
    TEXT("nul"),
    TEXT("nulll"),
    TEXT("tru"),
    TEXT("fals"),
    TEXT("True"),
    TEXT("FALSE"),
    TEXT("None"),
    TEXT("undefined"),
    TEXT("truefalse"),
    TEXT("n"),
    /* strings */
    TEXT("\""),
    TEXT("\"a"),
    TEXT("\"a\\"),
    TEXT("\"a\\\""),
    TEXT("a\""),
    TEXT("\"\\a\""),
    TEXT("\"\\x41\""),
    TEXT("\"\\'\""),
    TEXT("\"\\0\""),
    TEXT("\"\\U0041\""),
    TEXT("\"\\\n\""),
    TEXT("\"\\\xE4\xBD\xA0\""),
    TEXT("\"\\u\""),
    TEXT("\"\\u1\""),
    TEXT("\"\\u12\""),
    TEXT("\"\\u123\""),
    TEXT("\"\\u123g\""),
    TEXT("\"\\u 123\""),
    TEXT("\"\\u-123\""),
    TEXT("\"\\u00A"),
    TEXT("\"\\u"),
    TEXT("\"a\nb\""),
    TEXT("\"a\tb\""),
    TEXT("\"a\0b\""),
    TEXT("\"\x1F\""),
    TEXT("\"\\u0000\""),
    TEXT("{\"\\u0000\":1}"),
    TEXT("\"\\ud800\""),
    TEXT("\"\\udfff\""),
    TEXT("\"\\ud83dx\""),
    TEXT("\"\\ud83d\\n\""),
    TEXT("\"\\ud83d\\u0041\""),
    TEXT("\"\\ud83d\\ud83d\""),
    TEXT("\"\\ude00\\ud83d\""),
    TEXT("\"\\ude00\\ude00\""),
    TEXT("\"\\ud83d\\u\""),
    TEXT("\"\\ud83d\\ude0\""),
    TEXT("\"\\ud83d"),
    /* not UTF-8 */
    TEXT("\"\xFF\""),
    TEXT("\"\x80\""),
    TEXT("\"\xC0\xAF\""),
    TEXT("\"\xE4\xBD\""),
    TEXT("\"\xED\xA0\x80\""),
    TEXT("\"\xF4\x90\x80\x80\""),
    TEXT("\"\xF8\x88\x80\x80\x80\""),
    TEXT("[\xFF]"),
    TEXT("\xFF\xFE[\0]\0"),
    TEXT("\0[\0]"),
};

static cJSON *parse(const char *text, struct err *err) {
    return json_parse(text, strlen(text), wide, err);
}

static void test_accepts(void **state) {
    (void)state;
    for (size_t i = 0; i < N(accepted); i++) {
        struct err err = {0};
        cJSON *tree = json_parse(accepted[i].data, accepted[i].n, wide, &err);
        if (!tree) fail_msg("accepted[%zu] %s: %s", i, accepted[i].data, err.text);
        cJSON_Delete(tree);
    }
}

static void test_refuses(void **state) {
    (void)state;
    assert_true(N(refused) >= 100);
    for (size_t i = 0; i < N(refused); i++) {
        struct err err = {0};
        char *exact = malloc(refused[i].n + 1); /* so that a sanitizer sees a read past the end */
        char *end = exact + 1;
        memcpy(end, refused[i].data, refused[i].n);
        cJSON *tree = json_parse(end, refused[i].n, wide, &err);
        free(exact);
        if (tree) fail_msg("refused[%zu] %s passed", i, refused[i].data);
        assert_int_equal(err.kind, ERR_MODEL);
        if (strncmp(err.text, "JSON line ", 10) != 0) fail_msg("refused[%zu]: %s", i, err.text);
    }
}

static void test_messages_carry_the_place(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"{\"a\": 1,\n \"b\": 01}", "JSON line 2, column 7: a number with a leading zero"},
        {"[1,\n2,\n]", "JSON line 3, column 1: expected a value, found ']'"},
        {"[1", "JSON line 1, column 3: expected ',' or ']', found the end of the text"},
        {"{\"a\":1,\n\"a\":2}", "JSON line 2, column 1: the key \"a\" appears twice in one object"},
        {"{\"\xE4\xBD\xA0\":x}", "JSON line 1, column 6: expected a value, found 'x'"},
        {"[\"abc]", "JSON line 1, column 2: a string without its closing quote"},
        {"[\"\xE4\xBD\xA0\xFF\"]", "JSON line 1, column 4: bytes that are not UTF-8"},
        {"[\x1B]", "JSON line 1, column 2: expected a value, found U+001B"},
        {"\"\\ud800\"", "JSON line 1, column 2: lone surrogate in a \\u escape"},
        {"\"x\\u0000\"", "JSON line 1, column 3: \\u0000 (a zero byte) is not allowed in a string"},
        {"{} x", "JSON line 1, column 4: expected the end after the value, found 'x'"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct err err = {0};
        assert_null(parse(rows[i].text, &err));
        assert_string_equal(err.text, rows[i].message);
    }
}

static void test_message_of_a_hostile_key_cannot_act(void **state) {
    (void)state;
    struct err err = {0};
    assert_null(parse("{\"\\u001b[2J\":1,\"\\u001b[2J\":1}", &err));
    assert_null(strchr(err.text, 0x1B));
    assert_non_null(strstr(err.text, "twice"));
}

static void test_budgets(void **state) {
    (void)state;
    struct err err = {0};
    struct json_limits limits = {.max_bytes = 10, .max_nodes = 3, .max_depth = 2};
    static const struct {
        const char *text;
        bool passes;
    } rows[] = {
        {"[1,2]", true},      {"[1,2,3]", false},      {"[[1]]", true},      {"[[[]]]", false},
        {"{\"a\":{}}", true}, {"{\"a\":[{}]}", false}, {"         1", true}, {"          1", false},
    };
    for (size_t i = 0; i < N(rows); i++) {
        cJSON *tree = json_parse(rows[i].text, strlen(rows[i].text), limits, &err);
        assert_int_equal(tree != NULL, rows[i].passes);
        cJSON_Delete(tree);
    }
}

/* Nesting of any depth is refused at 65, whatever the caller asks for, and never recursed into. */
static void test_depth(void **state) {
    (void)state;
    struct err err = {0};
    struct json_limits limits = wide;
    limits.max_depth = 1000000;
    struct buf text = {0};
    for (int i = 0; i < 64; i++) buf_puts(&text, "[");
    for (int i = 0; i < 64; i++) buf_puts(&text, "]");
    cJSON *tree = json_parse(text.data, text.n, limits, &err);
    assert_non_null(tree);
    cJSON_Delete(tree);
    buf_clear(&text);
    for (int i = 0; i < 1000000; i++) buf_puts(&text, i % 2 ? "{\"a\":" : "[");
    assert_null(json_parse(text.data, text.n, limits, &err));
    assert_string_equal(err.text, "JSON line 1, column 193: nested deeper than 64 levels");
    buf_release(&text);
}

/* One object with a vocabulary's number of keys; the last may repeat the first. */
static void put_vocabulary(struct buf *text, int n_keys, bool with_duplicate) {
    buf_clear(text);
    buf_puts(text, "{");
    for (int i = 0; i < n_keys; i++)
        buf_printf(text, "\"tok%d\": %d, ", with_duplicate && i == n_keys - 1 ? 0 : i, i);
    buf_puts(text, "\"last\": 0}");
}

static void test_many_keys(void **state) {
    (void)state;
    struct err err = {0};
    struct buf text = {0};
    put_vocabulary(&text, 150000, true);
    assert_null(json_parse(text.data, text.n, wide, &err));
    assert_non_null(strstr(err.text, "\"tok0\" appears twice"));
    put_vocabulary(&text, 150000, false);
    double start = thread_seconds(); /* whatever else the machine does */
    cJSON *tree = json_parse(text.data, text.n, wide, &err);
    double took = thread_seconds() - start;
    assert_non_null(tree);
    assert_int_equal(cJSON_GetArraySize(tree), 150001);
    cJSON_Delete(tree);
    buf_release(&text);
    if (took > 5.0) fail_msg("150,000 keys took %.1f s: is the look-up linear?", took);
}

static void test_members(void **state) {
    (void)state;
    struct err err = {0};
    cJSON *o =
        parse("{\"n\": 7, \"f\": 0.5, \"t\": true, \"s\": \"text\", \"z\": null, \"neg\": -1,"
              "\"big\": 9007199254740993, \"max\": 9007199254740991, \"huge\": 1e999,"
              "\"o\": {}, \"a\": [], \"N\": 8, \"num\": \"7\"}",
              &err);
    assert_non_null(o);
    uint64_t u = 0;
    assert_int_equal(json_u64(o, "n", 0, 10, 1, &u, &err), 0);
    assert_int_equal(u, 7);
    assert_int_equal(json_u64(o, "N", 0, 10, 1, &u, &err), 0);
    assert_int_equal(u, 8);
    assert_int_equal(json_u64(o, "absent", 0, 10, 3, &u, &err), 0);
    assert_int_equal(u, 3);
    assert_int_equal(json_u64(o, "z", 0, 10, 4, &u, &err), 0);
    assert_int_equal(u, 4);
    assert_int_equal(json_u64(o, "max", 0, UINT64_MAX, 0, &u, &err), 0);
    assert_int_equal(u, 9007199254740991u);
    static const char *const no_u64[] = {"f", "t", "s", "neg", "big", "huge", "o", "a", "num"};
    for (size_t i = 0; i < N(no_u64); i++)
        assert_int_equal(json_u64(o, no_u64[i], 0, UINT64_MAX, 0, &u, &err), -1);
    assert_int_equal(json_u64(o, "n", 8, 10, 0, &u, &err), -1);
    assert_string_equal(err.text, "\"n\" must be a whole number from 8 to 10, found 7");
    assert_int_equal(json_u64(o, "num", 0, 10, 0, &u, &err), -1);
    assert_string_equal(err.text, "\"num\" must be a whole number from 0 to 10, found \"7\"");
    assert_int_equal(json_need_u64(o, "n", 0, 10, &u, &err), 0);
    assert_int_equal(json_need_u64(o, "absent", 0, 10, &u, &err), -1);
    assert_string_equal(err.text, "\"absent\" must be a whole number from 0 to 10, found nothing");
    assert_int_equal(json_need_u64(o, "z", 0, 10, &u, &err), -1);

    double d = 0;
    assert_int_equal(json_f64(o, "f", 0, 1, 2, &d, &err), 0);
    assert_true(d == 0.5);
    assert_int_equal(json_f64(o, "absent", 0, 1, 2, &d, &err), 0);
    assert_true(d == 2);
    assert_int_equal(json_f64(o, "huge", 0, 1e300, 2, &d, &err), -1);
    assert_int_equal(json_f64(o, "s", 0, 1, 2, &d, &err), -1);

    bool b = false;
    assert_int_equal(json_bool(o, "t", false, &b, &err), 0);
    assert_true(b);
    assert_int_equal(json_bool(o, "absent", true, &b, &err), 0);
    assert_true(b);
    assert_int_equal(json_bool(o, "n", true, &b, &err), -1);
    assert_string_equal(err.text, "\"n\" must be true or false, found 7");

    const char *s = NULL;
    assert_int_equal(json_string(o, "s", "other", &s, &err), 0);
    assert_string_equal(s, "text");
    assert_int_equal(json_string(o, "absent", NULL, &s, &err), 0);
    assert_null(s);
    assert_int_equal(json_string(o, "a", NULL, &s, &err), -1);
    assert_string_equal(err.text, "\"a\" must be a string, found an array");
    assert_null(json_get(o, "z"));
    assert_non_null(json_get(o, "o"));
    cJSON_Delete(o);
}

static void test_strings_arrive_whole(void **state) {
    (void)state;
    struct err err = {0};
    cJSON *tree = parse("[\"\\u00e9\\ud83d\\ude00\\n\\\\u0000\\/\"]", &err);
    assert_non_null(tree);
    assert_string_equal(tree->child->valuestring, "\xC3\xA9\xF0\x9F\x98\x80\n\\u0000/");
    cJSON_Delete(tree);
}

/* Whichever allocation fails, the answer is one sentence and nothing leaks. */
static void test_out_of_memory(void **state) {
    (void)state;
    struct err err = {0};
    struct buf text = {0};
    put_vocabulary(&text, 100, false);
    text.data[text.n - 1] = ',';
    buf_puts(&text, "\"\\u0061\": [1, \"x\"]}");
    unsigned long before = mem_count();
    cJSON_Delete(json_parse(text.data, text.n, wide, &err));
    unsigned long n_allocations = mem_count() - before;
    assert_true(n_allocations > 100);
    for (unsigned long i = 1; i <= n_allocations; i++) {
        mem_fail_at(i, false);
        cJSON *tree = json_parse(text.data, text.n, wide, &err);
        mem_fail_at(0, false);
        assert_null(tree);
        assert_int_equal(err.kind, ERR_MEMORY);
    }
    buf_release(&text);
}

int main(void) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepts),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_messages_carry_the_place),
        cmocka_unit_test(test_message_of_a_hostile_key_cannot_act),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_strings_arrive_whole),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
