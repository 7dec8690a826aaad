/*
 * Storage formats: the table and its lookups, decoders against values that Python's gguf package
 * gives (tests/golden/formats), encoders against a search for the nearest value.
 */
#include "kernels/decode.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_lookups(void **state) {
    (void)state;
    for (int f = 0; f < N_FORMATS; f++) {
        const struct format_info *info = &format_table[f];
        assert_int_equal(format_by_name(info->name), f);
        if (info->gguf_type >= 0)
            assert_int_equal(format_by_gguf_type((uint32_t)info->gguf_type), f);
        if (info->safetensors) assert_int_equal(format_by_safetensors(info->safetensors), f);
        assert_true(info->uses != 0 && info->label[0] != '\0');
    }
    assert_int_equal(format_by_name("Q4_K"), FORMAT_Q4_K);
    assert_int_equal(format_by_name("q4"), -1);
    assert_int_equal(format_by_gguf_type(UINT32_MAX), -1);
    assert_int_equal(format_by_gguf_type(9999), -1);
    assert_int_equal(format_by_safetensors("F8_E4M3"), -1);
    assert_int_equal(format_row_bytes(FORMAT_Q4_1, 576), 576 / 32 * 20);
    assert_int_equal(format_row_bytes(FORMAT_Q6_K, 0), 0);
}

static void test_decode_golden(void **state) {
    (void)state;
    FILE *file = fopen("tests/golden/formats/formats.bin", "rb");
    assert_non_null(file);
    int n_seen = 0;
    struct {
        char name[8];
        uint32_t n_bytes, n_values;
    } head;
    while (fread(&head, sizeof head, 1, file) == 1) {
        int f = format_by_name(head.name);
        assert_int_not_equal(f, -1);
        assert_int_equal(format_row_bytes((enum format)f, head.n_values), head.n_bytes);
        /* one byte further than malloc gives: blocks may lie at odd addresses */
        uint8_t *bytes = malloc(head.n_bytes + 1);
        float *expected = malloc(head.n_values * sizeof *expected);
        float *got = malloc(head.n_values * sizeof *got);
        assert_true(bytes && expected && got);
        assert_int_equal(fread(bytes + 1, 1, head.n_bytes, file), head.n_bytes);
        assert_int_equal(fread(expected, sizeof *expected, head.n_values, file), head.n_values);
        format_decode((enum format)f, bytes + 1, got, head.n_values);
        for (uint32_t i = 0; i < head.n_values; i++)
            assert_true(got[i] == expected[i]); /* -0 and 0 are the same value */
        free(bytes);
        free(expected);
        free(got);
        n_seen++;
    }
    fclose(file);
    assert_int_equal(n_seen, N_FORMATS);
}

/* Every binary16 value, in order of the number it stands for: index 0 is -infinity. */
static float ordered_f16(int index) {
    return float_of_f16((uint16_t)(index < 0x7c01 ? 0xfc00 - index : index - 0x7c01));
}

static void test_f16_decode(void **state) {
    (void)state;
    assert_true(float_of_f16(0x3c00) == 1.0f && float_of_f16(0xc000) == -2.0f);
    assert_true(float_of_f16(0x7bff) == 65504.0f);
    assert_true(float_of_f16(0x0001) == 0x1p-24f && float_of_f16(0x03ff) == 1023 * 0x1p-24f);
    assert_true(float_of_f16(0x0400) == 0x1p-14f);
    assert_true(isinf(float_of_f16(0x7c00)) && float_of_f16(0xfc00) < 0);
    assert_true(isnan(float_of_f16(0x7c01)) && isnan(float_of_f16(0xffff)));
    assert_int_equal(bits_of_float(float_of_f16(0x8000)), 0x80000000);
    for (int i = 1; i < 2 * 0x7c01; i++) /* -0 and 0 are neighbours */
        assert_true(ordered_f16(i - 1) <= ordered_f16(i));
}

/* Each number between two neighbours goes to the nearer one, each midpoint to the even one. */
static void check_midpoints(enum format format, uint16_t lower_code) {
    uint16_t codes[2] = {lower_code, (uint16_t)(lower_code + 1)};
    float ends[2];
    format_decode(format, codes, ends, 2);
    if (!isfinite(ends[0]) || !isfinite(ends[1])) return;
    float middle = (float)(((double)ends[0] + (double)ends[1]) / 2);
    float in[5] = {ends[0], nextafterf(middle, ends[0]), middle, nextafterf(middle, ends[1]),
                   ends[1]};
    uint16_t even = codes[0] & 1 ? codes[1] : codes[0];
    uint16_t expected[5] = {codes[0], codes[0], even, codes[1], codes[1]}, got[5];
    /* the smallest binary16 subnormals have exact midpoints, all float neighbours are finer */
    format_encode(format, in, got, 5);
    for (int i = 0; i < 5; i++) assert_int_equal(got[i], expected[i]);
}

static void test_encode_rounding(void **state) {
    (void)state;
    for (int code = 0; code < 0x7c00; code++) {
        check_midpoints(FORMAT_F16, (uint16_t)code);
        check_midpoints(FORMAT_F16, (uint16_t)(0x8000 | code));
    }
    for (int code = 0; code < 0x7f80; code++) {
        check_midpoints(FORMAT_BF16, (uint16_t)code);
        check_midpoints(FORMAT_BF16, (uint16_t)(0x8000 | code));
    }
}

static void test_encode_limits(void **state) {
    (void)state;
    float in[] = {65504.0f, 65519.99f, 65520.0f, INFINITY, -INFINITY, 0x1p-25f, 0x1.8p-25f, -0.0f};
    uint16_t f16[] = {0x7bff, 0x7bff, 0x7c00, 0x7c00, 0xfc00, 0, 1, 0x8000}, got[8];
    format_encode(FORMAT_F16, in, got, 8);
    assert_memory_equal(got, f16, sizeof f16);

    float wide[] = {3.4e38f, INFINITY, -INFINITY, -0.0f, 0x1p-149f};
    uint16_t bf16[] = {0x7f80, 0x7f80, 0xff80, 0x8000, 0};
    format_encode(FORMAT_BF16, wide, got, 5);
    assert_memory_equal(got, bf16, sizeof bf16);

    /* NaN stays NaN whatever its payload: rounding must not carry it into infinity */
    uint32_t nans[] = {0x7f800001, 0x7fffffff, 0xffc00000, 0xffffffff};
    for (int i = 0; i < 4; i++) {
        float nan = float_of_bits(nans[i]), back[2];
        format_encode(FORMAT_F16, &nan, got, 1);
        format_decode(FORMAT_F16, got, &back[0], 1);
        format_encode(FORMAT_BF16, &nan, got, 1);
        format_decode(FORMAT_BF16, got, &back[1], 1);
        assert_true(isnan(back[0]) && isnan(back[1]));
    }
    float same[3] = {1.5f, -0.0f, 1e-40f}, copy[3];
    format_encode(FORMAT_F32, same, copy, 3);
    assert_memory_equal(same, copy, sizeof same);
}

/* NaN or infinity in a scale reaches the values. */
static void test_not_finite_scale(void **state) {
    (void)state;
    for (int f = 0; f < N_FORMATS; f++) {
        const struct format_info *info = &format_table[f];
        if (info->block_values == 1) continue;
        uint8_t block[256];
        float out[256];
        memset(block, 0x77, sizeof block);
        size_t at = f == FORMAT_Q6_K ? 208 : 0;
        block[at] = 0;
        block[at + 1] = 0x7e;
        format_decode((enum format)f, block, out, (size_t)info->block_values);
        for (int i = 0; i < info->block_values; i++) assert_true(isnan(out[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookups),       cmocka_unit_test(test_decode_golden),
        cmocka_unit_test(test_f16_decode),    cmocka_unit_test(test_encode_rounding),
        cmocka_unit_test(test_encode_limits), cmocka_unit_test(test_not_finite_scale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
