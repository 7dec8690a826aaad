/*
 * Random weights: what is in the blocks of each format, which tensors a config gets, the q4_k_m
 * mix, and the published shapes of tests/shapes.
 */
#include "engine/base/buf.h"
#include "engine/base/mem.h"
#include "engine/weights/random_blocks.h"
#include "engine/weights/weights.h"
#include "tests/support/make_checkpoint.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* --- blocks ----------------------------------------------------------------------------------- */

static void check_values(const char *name, const float *values, size_t n) {
    double sum = 0, squares = 0, beyond = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i])) fail_msg("%s: value %zu is not finite", name, i);
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
        beyond += fabsf(values[i]) > 0.02F;
    }
    double mean = sum / (double)n, deviation = sqrt(squares / (double)n - mean * mean);
    /* 5 standard errors; a few levels more or less in a block format */
    if (fabs(mean) > 5 * 0.02 / sqrt((double)n)) fail_msg("%s: mean %g", name, mean);
    if (fabs(deviation - 0.02) > 0.0002) fail_msg("%s: deviation %g", name, deviation);
    beyond /= (double)n; /* of a normal distribution 31.7 %; levels of 4 bits are coarse */
    if (beyond < 0.2 || beyond > 0.45) fail_msg("%s: %g beyond a deviation", name, beyond);
}

static void test_blocks(void **state) {
    enum { VALUES = 1 << 18 };
    (void)state;
    float *values = mem_alloc(VALUES * sizeof *values);
    uint8_t *blocks = mem_alloc(VALUES * 4), *again = mem_alloc(VALUES * 4);
    assert_true(values && blocks && again);
    for (int f = 0; f < N_FORMATS; f++) {
        const struct format_info *info = &format_table[f];
        size_t n = VALUES / (size_t)info->block_values, bytes = n * (size_t)info->block_bytes;
        if (!(info->uses & USE_WEIGHT)) continue;
        assert_true(random_blocks((enum format)f, 0.02, 7, blocks, n));
        assert_true(random_blocks((enum format)f, 0.02, 7, again, n));
        assert_memory_equal(blocks, again, bytes);
        assert_true(random_blocks((enum format)f, 0.02, 8, again, n));
        assert_memory_not_equal(blocks, again, bytes);
        format_decode((enum format)f, blocks, values, VALUES);
        check_values(info->name, values, VALUES);
    }
    mem_free(values);
    mem_free(blocks);
    mem_free(again);
}

/* Each row of another seed: nothing repeats within a range of blocks that is mapped. */
static void test_no_memory(void **state) {
    (void)state;
    uint8_t block[64];
    mem_fail_at(1, false);
    assert_false(random_blocks(FORMAT_Q8_0, 0.02, 1, block, 1));
    mem_fail_at(0, false);
}

/* --- tensors ---------------------------------------------------------------------------------- */

static struct checkpoint *open_shape(const char *name, const char *mix) {
    struct checkpoint *c;
    struct err err;
    char path[160];
    snprintf(path, sizeof path, "tests/shapes/%s", name);
    if (checkpoint_open_random(&c, path, mix, &err) != 0) fail_msg("%s: %s", name, err.text);
    assert_true(checkpoint_is_random(c));
    return c;
}

static enum format format_of(const struct checkpoint *c, const char *name) {
    const struct checkpoint_tensor *t = checkpoint_find(c, name);
    if (!t) fail_msg("there is no %s", name);
    return t->format;
}

/* The bytes of the tensors of a published file (Qwen2.5-0.5B-Instruct-Q4_K_M.gguf, tied head). */
static void test_q4_k_m(void **state) {
    (void)state;
    struct checkpoint *c = open_shape("qwen2.5-0.5b", "q4_k_m");
    assert_int_equal(checkpoint_bytes(c), 391859712);
    assert_int_equal(format_of(c, "model.embed_tokens.weight"), FORMAT_Q8_0);
    assert_int_equal(format_of(c, "model.layers.0.self_attn.q_proj.weight"), FORMAT_Q5_0);
    assert_int_equal(format_of(c, "model.layers.0.self_attn.v_proj.weight"), FORMAT_Q8_0);
    assert_int_equal(format_of(c, "model.layers.3.self_attn.v_proj.weight"), FORMAT_Q5_0);
    assert_int_equal(format_of(c, "model.layers.0.mlp.down_proj.weight"), FORMAT_Q6_K);
    assert_int_equal(format_of(c, "model.layers.3.mlp.down_proj.weight"), FORMAT_Q4_K);
    assert_int_equal(format_of(c, "model.layers.23.mlp.up_proj.weight"), FORMAT_Q5_0);
    checkpoint_close(c);
    c = open_shape("qwen-7b", "q4_k_m");
    assert_int_equal(format_of(c, "transformer.h.0.attn.c_attn.weight"), FORMAT_Q5_K);
    assert_int_equal(format_of(c, "transformer.wte.weight"), FORMAT_Q4_K);
    assert_int_equal(format_of(c, "lm_head.weight"), FORMAT_Q6_K);
    checkpoint_close(c);
}

/* Two tensors of one kind begin at different values, and the norms are 1. */
static void test_contents(void **state) {
    (void)state;
    float a[256], b[256];
    struct checkpoint *c = open_shape("qwen3-0.6b", NULL);
    const struct checkpoint_tensor *first = checkpoint_find(c, "model.layers.0.mlp.up_proj.weight");
    const struct checkpoint_tensor *second =
        checkpoint_find(c, "model.layers.1.mlp.up_proj.weight");
    assert_int_equal(first->format, FORMAT_BF16);
    format_decode(FORMAT_BF16, first->data, a, 256);
    format_decode(FORMAT_BF16, second->data, b, 256);
    assert_memory_not_equal(a, b, sizeof a);
    const struct checkpoint_tensor *norm =
        checkpoint_find(c, "model.layers.27.self_attn.k_norm.weight");
    format_decode(norm->format, norm->data, a, 128);
    for (int i = 0; i < 128; i++) assert_true(a[i] == 1);
    /* to the last byte */
    const struct checkpoint_tensor *last =
        checkpoint_find(c, "model.layers.27.mlp.down_proj.weight");
    const unsigned char *bytes = last->data;
    format_decode(FORMAT_BF16, bytes + last->bytes - 512, a, 256);
    double squares = 0;
    for (int i = 0; i < 256; i++) squares += (double)a[i] * (double)a[i];
    assert_true(fabs(sqrt(squares / 256) - 0.02) < 0.004);
    checkpoint_close(c);
}

/* Out of memory anywhere: a sentence, and nothing is kept. */
static void test_opening_without_memory(void **state) {
    (void)state;
    struct checkpoint *c = NULL;
    struct err err;
    unsigned long i = 0;
    for (int result = -1; result != 0;) {
        mem_fail_at(++i, false);
        result = checkpoint_open_random(&c, "tests/shapes/qwen2-0.5b", "q8_0", &err);
        mem_fail_at(0, false);
        if (result != 0 && err.kind != ERR_MEMORY) fail_msg("allocation %lu: %s", i, err.text);
        if (result != 0) i += i / 8; /* each of the first ones, then some of the thousand */
    }
    assert_true(i > 100);
    checkpoint_close(c);
}

static void test_refusals(void **state) {
    (void)state;
    struct checkpoint *c;
    struct err err;
    assert_int_equal(checkpoint_open_random(&c, "tests/shapes/qwen2-7b", "int3", &err), -1);
    assert_int_equal(err.kind, ERR_USAGE);
    assert_non_null(strstr(err.text, "q8_0"));
    assert_int_equal(checkpoint_open_random(&c, "tests/shapes", "", &err), -1);
    assert_non_null(strstr(err.text, "config.json"));
    assert_int_equal(checkpoint_open_random(&c, "tests/run", "", &err), -1);
    assert_non_null(strstr(err.text, "nor such a file"));
    assert_int_equal(checkpoint_open_random(&c, "tests/shapes/qwen2-7b/config.json", "f16", &err),
                     0);
    assert_int_equal(format_of(c, "lm_head.weight"), FORMAT_F16);
    checkpoint_close(c);
}

static void test_config_only(void **state) {
    (void)state;
    char folder[256], path[400];
    const struct tiny_spec spec = {.seed = 1};
    assert_true(checkpoint_is_config_only("tests/shapes/qwen2-7b"));
    assert_true(checkpoint_is_config_only("tests/shapes/qwen2-7b/config.json"));
    assert_false(checkpoint_is_config_only("tests/shapes"));
    assert_false(checkpoint_is_config_only("nowhere/config.json"));
    make_temporary_folder(folder);
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    assert_false(checkpoint_is_config_only(folder));
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    assert_int_equal(remove(path), 0);
    assert_true(checkpoint_is_config_only(folder));
    remove_folder(folder);
}

/* --- shapes ----------------------------------------------------------------------------------- */

/* Parameters as the published checkpoints count them, a tied head once. */
static const struct {
    const char *name;
    uint64_t parameters;
} shapes[] = {
    {"qwen-1.8b", 1836828672},    {"qwen-7b", 7721324544},      {"qwen-14b", 14167290880},
    {"qwen-72b", 72287920128},    {"qwen1.5-0.5b", 463987712},  {"qwen1.5-1.8b", 1836828672},
    {"qwen1.5-4b", 3950369280},   {"qwen1.5-7b", 7721324544},   {"qwen1.5-14b", 14167290880},
    {"qwen1.5-32b", 32512218112}, {"qwen1.5-72b", 72287920128}, {"codeqwen1.5-7b", 7250284544},
    {"qwen2-0.5b", 494032768},    {"qwen2-1.5b", 1543714304},   {"qwen2-7b", 7615616512},
    {"qwen2-72b", 72706203648},   {"qwen2.5-0.5b", 494032768},  {"qwen2.5-1.5b", 1543714304},
    {"qwen2.5-3b", 3085938688},   {"qwen2.5-7b", 7615616512},   {"qwen2.5-14b", 14770033664},
    {"qwen2.5-32b", 32763876352}, {"qwen2.5-72b", 72706203648}, {"qwen3-0.6b", 596049920},
    {"qwen3-1.7b", 1720574976},   {"qwen3-4b", 4022468096},     {"qwen3-8b", 8190735360},
    {"qwen3-14b", 14768307200},   {"qwen3-32b", 32762123264},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void test_shapes(void **state) {
    (void)state;
    struct err err;
    for (size_t i = 0; i < N_SHAPES; i++) {
        struct checkpoint *c = open_shape(shapes[i].name, i % 2 ? "q4_k_m" : NULL);
        if (weights_check(c, &err) != 0) fail_msg("%s: %s", shapes[i].name, err.text);
        uint64_t parameters = weights_parameters(checkpoint_config(c));
        if (parameters != shapes[i].parameters)
            fail_msg("%s has %llu parameters", shapes[i].name, (unsigned long long)parameters);
        checkpoint_close(c);
    }
}

static void test_shapes_are_all(void **state) {
    (void)state;
    DIR *dir = opendir("tests/shapes");
    size_t n = 0;
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));)
        n += entry->d_name[0] != '.' && strcmp(entry->d_name, "README.md") != 0;
    closedir(dir);
    assert_int_equal(n, N_SHAPES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_q4_k_m),
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_config_only),
        cmocka_unit_test(test_opening_without_memory),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_shapes_are_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
