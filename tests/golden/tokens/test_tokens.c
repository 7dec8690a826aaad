/*
 * Ids equal to those of Python's tokenizers and tiktoken on the strings beside this file
 * (make_golden.py). Always with the two small vocabularies; with the real ones where their paths
 * are given:
 *
 *     test_golden_tokens [tiktoken=PATH] [starter=PATH]
 */
#include "engine/base/io.h"
#include "engine/text/tokenizer.h"
#include "tests/support/gguf_vocabulary.h"
#include "tests/support/qwen_json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER    "tests/golden/tokens/"
#define MAX_BYTES ((size_t)64 << 20)
#define N_STRINGS 6000
#define N_SMALL   3000

static const char *qwen_tiktoken, *starter; /* paths, or NULL */

static void read_whole(const char *path, struct buf *out) {
    struct err err = {0};
    if (io_read_file(path, MAX_BYTES, out, &err) != 0) fail_msg("%s", err.text);
}

static uint32_t take_varint(const struct buf *file, size_t *at) {
    uint32_t n = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(*at < file->n && shift < 35);
        unsigned char byte = (unsigned char)file->data[(*at)++];
        n |= (uint32_t)(byte & 0x7F) << shift;
        if (byte < 0x80) return n;
    }
}

static void take_ids(const struct buf *file, size_t *at, struct tokens *out) {
    out->n = 0;
    for (uint32_t n = take_varint(file, at); n > 0; n--)
        assert_int_equal(tokens_add(out, (int32_t)take_varint(file, at), NULL), 0);
}

static bool are_equal(const struct tokens *a, const struct tokens *b) {
    return a->n == b->n && (a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0);
}

/* How many bytes have a token: a tokenizer leaves the others out. */
static int count_bytes(const struct tokenizer *t) {
    int n_bytes = 0;
    for (int i = 0; i < 256; i++) {
        struct tokens ids = {0};
        char byte = (char)i;
        assert_int_equal(tokenizer_encode(t, &byte, 1, &ids, NULL), 0);
        n_bytes += ids.n == 1;
        tokens_release(&ids);
    }
    return n_bytes;
}

/* What the ids decode to gives the same ids again. */
static void check_decode(const struct tokenizer *t, const struct tokens *ids) {
    struct buf text = {0};
    struct tokens again = {0};
    tokenizer_decode(t, ids->ids, ids->n, true, &text);
    assert_int_equal(tokenizer_encode(t, text.data ? text.data : "", text.n, &again, NULL), 0);
    assert_true(are_equal(ids, &again));
    buf_release(&text);
    tokens_release(&again);
}

static void check_golden(const struct tokenizer *t, const char *name, size_t n_strings) {
    bool has_all_bytes = count_bytes(t) == 256;
    struct buf strings = {0}, golden = {0};
    struct tokens want = {0}, got = {0};
    size_t at = 0, golden_at = 0, n_different = 0;
    read_whole(FOLDER "strings.bin", &strings);
    read_whole(name, &golden);
    for (size_t i = 0; i < n_strings; i++) {
        uint32_t n = take_varint(&strings, &at);
        const char *text = strings.data + at;
        at += n;
        assert_true(at <= strings.n);
        take_ids(&golden, &golden_at, &want);
        got.n = 0;
        assert_int_equal(tokenizer_encode(t, text, n, &got, NULL), 0);
        bool same = are_equal(&got, &want);
        if (has_all_bytes) check_decode(t, &got);
        got.n = 0;
        assert_int_equal(tokenizer_encode_with_added(t, text, n, &got, NULL), 0);
        struct tokens added = {0};
        take_ids(&golden, &golden_at, &added);
        same = same && are_equal(&got, added.n ? &added : &want);
        tokens_release(&added);
        if (same) continue;
        n_different++;
        print_error("%s: string %zu differs: %.*s\n", name, i, (int)n, text);
    }
    assert_int_equal(n_different, 0);
    assert_int_equal(golden_at, golden.n);
    buf_release(&strings);
    buf_release(&golden);
    tokens_release(&want);
    tokens_release(&got);
}

static void check_json(const char *path, const char *golden) {
    struct err err = {0};
    struct buf text = {0};
    struct tokenizer *t = NULL;
    read_whole(path, &text);
    if (tokenizer_open_json(&t, text.data, text.n, path, &err) != 0) fail_msg("%s", err.text);
    check_golden(t, golden, N_SMALL);
    tokenizer_close(t);
    buf_release(&text);
}

static void test_small(void **state) {
    (void)state;
    check_json(FOLDER "small_qwen.json", FOLDER "small_qwen.ids");
    check_json(FOLDER "small_smollm.json", FOLDER "small_smollm.ids");
}

static struct tokenizer *open_qwen_v1(void) {
    struct err err = {0};
    struct buf text = {0};
    struct tokenizer *t = NULL;
    if (!qwen_tiktoken) {
        print_message("skipped: no qwen.tiktoken was given (QWEN_TEST_QWEN_TIKTOKEN)\n");
        skip();
    }
    read_whole(qwen_tiktoken, &text);
    if (tokenizer_open_tiktoken(&t, text.data, text.n, qwen_tiktoken, &err) != 0)
        fail_msg("%s", err.text);
    buf_release(&text);
    return t;
}

static void test_qwen_v1(void **state) {
    (void)state;
    struct tokenizer *t = open_qwen_v1();
    assert_int_equal(tokenizer_n_ids(t), 151851);
    assert_int_equal(tokenizer_find_added(t, "<|im_end|>"), 151645);
    assert_int_equal(tokenizer_find_added(t, "<|extra_204|>"), 151850);
    check_golden(t, FOLDER "qwen_v1.ids", N_STRINGS);
    tokenizer_close(t);
}

static void test_qwen25(void **state) {
    (void)state;
    struct tokenizer *v1 = open_qwen_v1();
    for (int as_pairs = 0; as_pairs < 2; as_pairs++) {
        struct err err = {0};
        struct buf json = {0};
        struct tokenizer *t = NULL;
        qwen_json_write(v1, as_pairs, &json);
        if (tokenizer_open_json(&t, json.data, json.n, "qwen2.5", &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(tokenizer_n_ids(t), 151665);
        assert_true(tokenizer_is_control(t, tokenizer_find_added(t, "<|im_end|>")));
        assert_int_equal(tokenizer_find_added(t, "<tool_call>"), 151657);
        assert_false(tokenizer_is_control(t, 151657));
        check_golden(t, FOLDER "qwen25.ids", N_STRINGS);
        tokenizer_close(t);
        buf_release(&json);
    }
    tokenizer_close(v1);
}

static void write_whole(const char *folder, const char *name, const struct buf *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(io_write_atomic(path, 0600, text->data, text->n, NULL), 0);
}

/* vocab.json and merges.txt have the same ids; 96 merges begin with '#'. */
static void test_vocab_and_merges(void **state) {
    (void)state;
    struct err err = {0};
    struct tokenizer *v1 = open_qwen_v1(), *t = NULL;
    struct buf vocab = {0}, merges = {0};
    char folder[] = "/tmp/qwen-chat-tokens-XXXXXX", command[64];
    qwen_json_write_vocab(v1, &vocab, &merges);
    assert_non_null(mkdtemp(folder));
    write_whole(folder, "vocab.json", &vocab);
    write_whole(folder, "merges.txt", &merges);
    if (tokenizer_open_folder(&t, folder, &err) != 0) fail_msg("%s", err.text);
    struct tokens ours = {0}, theirs = {0};
    struct buf strings = {0};
    read_whole(FOLDER "strings.bin", &strings);
    assert_int_equal(tokenizer_encode(v1, strings.data, strings.n, &ours, NULL), 0);
    assert_int_equal(tokenizer_encode(t, strings.data, strings.n, &theirs, NULL), 0);
    assert_true(are_equal(&ours, &theirs));
    assert_int_equal(tokenizer_find_added(t, "<|im_end|>"), 151645);
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
    tokens_release(&ours);
    tokens_release(&theirs);
    buf_release(&strings);
    buf_release(&vocab);
    buf_release(&merges);
    tokenizer_close(t);
    tokenizer_close(v1);
}

static void test_starter(void **state) {
    (void)state;
    struct err err = {0};
    struct tokenizer *t = NULL;
    struct gguf_vocabulary v;
    if (!starter) {
        print_message("skipped: no starter model was given (QWEN_TEST_STARTER)\n");
        skip();
    }
    gguf_vocabulary_read(&v, starter);
    if (tokenizer_open_gguf(&t, &v.gguf, &err) != 0) fail_msg("%s", err.text);
    check_golden(t, FOLDER "starter.ids", N_STRINGS);
    tokenizer_close(t);
    struct tokenizer_gguf without_pre = v.gguf;
    without_pre.pre = NULL; /* told from the vocabulary */
    if (tokenizer_open_gguf(&t, &without_pre, &err) != 0) fail_msg("%s", err.text);
    check_golden(t, FOLDER "starter.ids", N_STRINGS);
    tokenizer_close(t);
    gguf_vocabulary_release(&v);
}

static double cpu_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static double encode_ms(const struct tokenizer *t, const char *text, size_t n) {
    struct tokens ids = {0};
    double begin = cpu_ms();
    assert_int_equal(tokenizer_encode(t, text, n, &ids, NULL), 0);
    double ms = cpu_ms() - begin;
    tokens_release(&ids);
    return ms;
}

/* Texts that were superlinear in other tokenizers: four times the length takes about four times the
 * time (at most 2.5 times as long for twice the length, twice over). Other programs disturb the
 * clock, so the best of up to ten tries counts. */
static void test_linear_time(void **state) {
    (void)state;
    static const char *const units[] = {
        "a",
        " ",
        "^",
        "\n",
        "_",
        "ab",
        "\xE4\xB8\xAD",
        "\xF0\x9F\x98\x80",
        "0",
        "'s",
        "\xCC\x81\xCC\xA3",
    };
    enum { BYTES = 1 << 18, TIMES = 4, TRIES = 10 };
    const double most = 2.5 * 2.5;
    struct tokenizer *t = open_qwen_v1();
    for (size_t k = 0; k < sizeof units / sizeof units[0]; k++) {
        struct buf text = {0};
        double once = 1e300, long_one = 1e300;
        while (text.n < TIMES * BYTES) buf_puts(&text, units[k]);
        for (int i = 0; i < TRIES && !(long_one < most * once && i > 0); i++) {
            double ms = encode_ms(t, text.data, BYTES);
            once = ms < once ? ms : once;
            ms = encode_ms(t, text.data, TIMES * (size_t)BYTES);
            long_one = ms < long_one ? ms : long_one;
        }
        print_message("\"%s\": %.1f ns a byte, %.2f times the time for %d times the text\n",
                      units[k], once * 1e6 / BYTES, long_one / once, TIMES);
        assert_true(long_one < most * once);
        buf_release(&text);
    }
    tokenizer_close(t);
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "tiktoken=", 9) == 0 && argv[i][9]) qwen_tiktoken = argv[i] + 9;
        if (strncmp(argv[i], "starter=", 8) == 0 && argv[i][8]) starter = argv[i] + 8;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),   cmocka_unit_test(test_qwen_v1),
        cmocka_unit_test(test_qwen25),  cmocka_unit_test(test_vocab_and_merges),
        cmocka_unit_test(test_starter), cmocka_unit_test(test_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
