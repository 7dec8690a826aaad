/* The safetensors parser: what the format allows, 60 hand-made bad files, systematic damage. */
#include "engine/base/buf.h"
#include "engine/weights/safetensors.h"
#include "tests/support/sentence.h"

#include <stdlib.h>

static void put_le(struct buf *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) buf_putc(out, (char)(value >> 8 * i & 0xFF));
}

/* Header length, header, n_data bytes 0, 1, 2 … */
static void make_file(struct buf *out, const char *header, size_t n_data) {
    buf_clear(out);
    put_le(out, strlen(header), 8);
    buf_puts(out, header);
    for (size_t i = 0; i < n_data; i++) buf_putc(out, (char)i);
}

/* Parses an exact copy, so that a sanitizer sees a read past the end. */
static int parse(const char *data, size_t n, struct tensor_list *list, unsigned char **copy,
                 struct err *err) {
    *copy = malloc(n ? n : 1);
    memcpy(*copy, data, n);
    *list = (struct tensor_list){0};
    int result = safetensors_parse(*copy, n, "x.safetensors", 3, list, err);
    return result == 0 ? tensor_list_index(list, err) : -1;
}

static void test_good_file(void **state) {
    (void)state;
    struct tensor_list list;
    struct err err = {0};
    struct buf file = {0};
    unsigned char *data;
    make_file(&file,
              "{\"__metadata__\": {\"format\": \"pt\", \"a\": \"-1e3 true \\\" {\"}, "
              "\"second\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [8, 20]}, "
              "\"first\": {\"data_offsets\": [0, 8], \"shape\": [2], \"dtype\": \"F32\"}}   ",
              20);
    if (parse(file.data, file.n, &list, &data, &err) != 0) fail_msg("%s", err.text);
    assert_int_equal(list.n, 2);
    const struct checkpoint_tensor *t = tensor_list_find(&list, "second");
    assert_non_null(t);
    assert_int_equal(t->format, FORMAT_BF16);
    assert_string_equal(t->type, "BF16");
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 2);
    assert_int_equal(t->dims[1], 3);
    assert_int_equal(t->bytes, 12);
    assert_int_equal(*(const unsigned char *)t->data, 8);
    assert_int_equal(t->file, 3);
    assert_string_equal(list.items[0].name, "first"); /* in the order of the bytes */
    assert_null(tensor_list_find(&list, "third"));
    tensor_list_release(&list);
    free(data);
    buf_release(&file);
}

/* Things that look odd but that the format allows. */
static void test_allowed(void **state) {
    (void)state;
    static const struct {
        const char *header;
        size_t n_data, n_tensors;
    } cases[] = {
        {"{}", 0, 0},
        {"  {}\n", 0, 0},
        {"{\"__metadata__\": {}}", 0, 0},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [], \"data_offsets\": [0, 4]}}", 4, 1},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [0, 7], \"data_offsets\": [0, 0]}}", 0, 1},
        {"{\"a\": {\"dtype\": \"I64\", \"shape\": [1], \"data_offsets\": [0, 8]}}", 8, 1},
        {"{\"a\": {\"dtype\": \"F4\", \"shape\": [4], \"data_offsets\": [0, 2]}}", 2, 1},
        {"{\"a\\u0041\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1, 1},
        {"{\"\\u4f60\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}", 1, 1},
    };
    struct buf file = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tensor_list list;
        struct err err = {0};
        unsigned char *data;
        make_file(&file, cases[i].header, cases[i].n_data);
        if (parse(file.data, file.n, &list, &data, &err) != 0)
            fail_msg("%s: %s", cases[i].header, err.text);
        assert_int_equal(list.n, cases[i].n_tensors);
        tensor_list_release(&list);
        free(data);
    }
    buf_release(&file);
}

/* --- bad headers ----------------------------------------------------------------------------- */

#define A(dtype, shape, offsets)                                                                   \
    "{\"a\": {\"dtype\": \"" dtype "\", \"shape\": " shape ", \"data_offsets\": " offsets "}}"
#define F32(name, shape, offsets)                                                                  \
    "\"" name "\": {\"dtype\": \"F32\", \"shape\": " shape ", \"data_offsets\": " offsets "}"

static const struct bad_header {
    const char *header;
    size_t n_data;
    const char *part;
} bad_headers[] = {
    /* not the JSON of a header */
    {"", 0, "header"},
    {"[]", 0, "object"},
    {"7", 0, "object"},
    {"{", 0, "header"},
    {"{}}", 0, "header"},
    {"{} x", 0, "header"},
    {"{\"a\": 1", 0, "header"},
    {"\xef\xbb\xbf{}", 0, "header"},
    {"{\"a\xff\": 1}", 0, "header"},
    {"{\"\\ud800\": 1}", 0, "header"},
    {"{\"\\u0000\": 1}", 0, "header"},
    {"{\"a\": {\"b\": {\"c\": {\"d\": {\"e\": {\"f\": {\"g\": {\"h\": {}}}}}}}}}", 0, "header"},
    {"{" F32("a", "[1]", "[0, 4]") ", " F32("a", "[1]", "[4, 8]") "}", 8, "header"},
    {"{\"a\": {\"dtype\": \"F32\", \"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
     4, "header"},
    /* members */
    {"{\"a\": 1}", 0, "dtype"},
    {"{\"a\": []}", 0, "dtype"},
    {"{\"a\": {\"shape\": [1], \"data_offsets\": [0, 4]}}", 4, "dtype"},
    {"{\"a\": {\"dtype\": 7, \"shape\": [1], \"data_offsets\": [0, 4]}}", 4, "dtype"},
    {"{\"a\": {\"dtype\": \"F32\", \"data_offsets\": [0, 4]}}", 4, "shape"},
    {"{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}", 4, "data_offsets"},
    {A("F33", "[1]", "[0, 4]"), 4, "F33"},
    {A("f32", "[1]", "[0, 4]"), 4, "f32"},
    {A("F32", "1", "[0, 4]"), 4, "shape"},
    {A("F32", "{}", "[0, 4]"), 4, "shape"},
    {A("F32", "[\"1\"]", "[0, 4]"), 4, "dimension 1"},
    {A("F32", "[1, 1, 1, 1, 1]", "[0, 4]"), 4, "more than 4"},
    {A("F32", "[1]", "4"), 4, "data_offsets"},
    {A("F32", "[1]", "[0]"), 4, "data_offsets"},
    {A("F32", "[1]", "[0, 4, 4]"), 4, "data_offsets"},
    {A("F32", "[1]", "[0, \"4\"]"), 4, "data_offsets"},
    {A("F32", "[1]", "[]"), 4, "data_offsets"},
    /* numbers that JSON allows and the format does not */
    {A("F32", "[-1]", "[0, 4]"), 4, "'-'"},
    {A("F32", "[-0]", "[0, 4]"), 4, "'-'"},
    {A("F32", "[1e0]", "[0, 4]"), 4, "'e'"},
    {A("F32", "[1.0]", "[0, 4]"), 4, "'.'"},
    {A("F32", "[null]", "[0, 4]"), 4, "'n'"},
    {A("F32", "[true]", "[0, 4]"), 4, "'t'"},
    {A("F32", "[18446744073709551616]", "[0, 4]"), 4, "dimension 1"},
    {A("F32", "[18446744073709551615]", "[0, 4]"), 4, "dimension 1"},
    {A("F32", "[9007199254740993]", "[0, 4]"), 4, "dimension 1"},
    /* sizes */
    {A("F32", "[2]", "[0, 4]"), 4, "takes 8 bytes"},
    {A("F32", "[1]", "[0, 8]"), 8, "takes 4 bytes"},
    {A("F32", "[0]", "[0, 4]"), 4, "takes 0 bytes"},
    {A("F32", "[4294967296, 4294967296]", "[0, 4]"), 4, "64 bits"},
    {A("F32", "[4294967296, 1073741824]", "[0, 0]"), 0, "64 bits"},
    {A("F4", "[3]", "[0, 1]"), 1, "whole bytes"},
    /* places */
    {A("F32", "[1]", "[4, 0]"), 4, "not within"},
    {A("F32", "[1]", "[0, 4]"), 3, "not within"},
    {A("F32", "[1]", "[4, 8]"), 4, "not within"},
    {A("F32", "[1]", "[9007199254740990, 9007199254740991]"), 4, "not within"},
    {A("F32", "[1]", "[4, 8]"), 8, "hole"},
    {A("F32", "[1]", "[0, 4]"), 8, "the file has 8"},
    {"{}", 1, "the file has 1"},
    {"{" F32("a", "[1]", "[0, 4]") ", " F32("b", "[1]", "[0, 4]") "}", 4, "overlap"},
    {"{" F32("a", "[2]", "[0, 8]") ", " F32("b", "[1]", "[4, 8]") "}", 8, "overlap"},
    {"{" F32("a", "[1]", "[0, 4]") ", " F32("b", "[1]", "[8, 12]") "}", 12, "hole"},
    /* metadata */
    {"{\"__metadata__\": []}", 0, "__metadata__"},
    {"{\"__metadata__\": {\"format\": 1}}", 0, "'format'"},
    {"{\"__metadata__\": {\"format\": {\"a\": \"b\"}}}", 0, "'format'"},
};

static void refuse(const char *name, const char *data, size_t n, const char *part) {
    struct tensor_list list;
    struct err err = {0};
    unsigned char *copy;
    if (parse(data, n, &list, &copy, &err) == 0) fail_msg("accepted: %s", name);
    assert_sentence(name, &err, part);
    assert_int_equal(err.kind, ERR_MODEL);
    tensor_list_release(&list);
    free(copy);
}

static void test_bad_headers(void **state) {
    (void)state;
    struct buf file = {0};
    for (size_t i = 0; i < sizeof bad_headers / sizeof *bad_headers; i++) {
        make_file(&file, bad_headers[i].header, bad_headers[i].n_data);
        refuse(bad_headers[i].header, file.data, file.n, bad_headers[i].part);
    }
    buf_release(&file);
}

/* Files that are something else, by their whole bytes. */
static void test_bad_files(void **state) {
    (void)state;
    static const struct {
        const char *data;
        size_t n;
        const char *part;
    } cases[] = {
        {"", 0, "empty"},
        {"\2\0\0", 3, "3 bytes"},
        {"\2\0\0\0\0\0\0", 7, "7 bytes"},
        {"\2\0\0\0\0\0\0\0{", 9, "header"},
        {"\0\0\0\0\0\0\0\0", 8, "header"},
        {"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "header"},
        {"\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10, "header"},
        {"\1\xe1\xf5\5\0\0\0\0{}", 10, "100000000"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", 64,
         "Git LFS pointer"},
        {"<!DOCTYPE html><html>", 21, "web page"},
        {"<html><body>404", 15, "web page"},
        {"GGUF\3\0\0\0", 8, "GGUF"},
        {"PK\3\4xxxxxxxxxx", 14, "zip"},
        {"\x80\2}q\1(X\3\0\0\0", 11, "pickle"},
        {"\x1f\x8b\x08\0\0\0\0\0\0", 9, "gzip"},
        {"\x89HDF\r\n\x1a\n", 8, "HDF5"},
        {"{\"error\": \"not found\"}", 22, "header"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse(cases[i].part, cases[i].data, cases[i].n, cases[i].part);
}

/* --- damage ---------------------------------------------------------------------------------- */

static volatile unsigned sink;

/* Refused with a sentence, or every tensor can be read. */
static void use(const char *data, size_t n) {
    struct tensor_list list;
    struct err err = {0};
    unsigned char *copy;
    if (parse(data, n, &list, &copy, &err) != 0) {
        assert_sentence("damage", &err, "");
    } else {
        uint64_t total = 0;
        for (size_t i = 0; i < list.n; i++) {
            const unsigned char *bytes = list.items[i].data;
            total += list.items[i].bytes;
            if (list.items[i].bytes) sink = bytes[0] + bytes[list.items[i].bytes - 1];
        }
        assert_true(total <= n);
    }
    tensor_list_release(&list);
    free(copy);
}

static const char whole[] = "{\"__metadata__\": {\"format\": \"pt\"}, " F32(
    "a.weight", "[2, 3]",
    "[0, 24]") ", "
               "\"b\": {\"dtype\": \"BF16\", \"shape\": [5], \"data_offsets\": [24, 34]}, "
               "\"empty\": {\"dtype\": \"U8\", \"shape\": [0], \"data_offsets\": [34, 34]}}";

static void test_damage(void **state) {
    (void)state;
    static const unsigned char bytes[] = {0x00, 0x7F, 0x80, 0xFF};
    struct buf file = {0};
    make_file(&file, whole, 34);
    for (size_t i = 0; i < file.n; i++) {
        char kept = file.data[i];
        use(file.data, i);
        for (int bit = 0; bit < 8; bit++) {
            file.data[i] = (char)(kept ^ 1 << bit);
            use(file.data, file.n);
        }
        for (size_t k = 0; k < sizeof bytes; k++) {
            file.data[i] = (char)bytes[k];
            use(file.data, file.n);
        }
        file.data[i] = kept;
    }
    use(file.data, file.n);
    buf_release(&file);
}

/* Every number of the header, and the header's length, becomes each of these. */
static void test_nasty_numbers(void **state) {
    (void)state;
    static const char *const values[] = {
        "0",          "1",          "-1",         "2147483647",          "2147483648",
        "2147483649", "4294967295", "4294967297", "9223372036854775808", "18446744073709551615",
        "1e308",      "1e-9",
    };
    struct buf file = {0}, header = {0};
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        make_file(&file, whole, 34);
        uint64_t length = strtoull(values[v], NULL, 10);
        for (int i = 0; i < 8; i++) file.data[i] = (char)(length >> 8 * i & 0xFF);
        use(file.data, file.n);
        for (const char *at = whole; (at = strpbrk(at, "0123456789"));
             at += strspn(at, "0123456789")) {
            buf_clear(&header);
            buf_add(&header, whole, (size_t)(at - whole));
            buf_puts(&header, values[v]);
            buf_puts(&header, at + strspn(at, "0123456789"));
            make_file(&file, header.data, 34);
            use(file.data, file.n);
        }
    }
    buf_release(&file);
    buf_release(&header);
}

/* A byte put in or taken out anywhere. */
static void test_shifts(void **state) {
    (void)state;
    struct buf file = {0}, shifted = {0};
    make_file(&file, whole, 34);
    for (size_t i = 0; i < file.n; i++) {
        buf_clear(&shifted);
        buf_add(&shifted, file.data, i);
        buf_add(&shifted, file.data + i + 1, file.n - i - 1);
        use(shifted.data, shifted.n);
        for (const char *put = "\1\"9}, "; *put; put++) {
            buf_clear(&shifted);
            buf_add(&shifted, file.data, i);
            buf_putc(&shifted, *put);
            buf_add(&shifted, file.data + i, file.n - i);
            use(shifted.data, shifted.n);
        }
    }
    buf_release(&file);
    buf_release(&shifted);
}

/* Ten thousand names for one byte: refused by its second entry, not computed with. */
static void test_many_overlaps(void **state) {
    (void)state;
    struct buf header = {0}, file = {0};
    buf_puts(&header, "{\"__metadata__\": {}");
    for (int i = 0; i < 10000; i++)
        buf_printf(&header,
                   ", \"t%d\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}", i);
    buf_putc(&header, '}');
    make_file(&file, header.data, 1);
    refuse("overlaps", file.data, file.n, "overlap");
    buf_release(&header);
    buf_release(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_file),   cmocka_unit_test(test_allowed),
        cmocka_unit_test(test_bad_headers), cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_damage),      cmocka_unit_test(test_nasty_numbers),
        cmocka_unit_test(test_shifts),      cmocka_unit_test(test_many_overlaps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
