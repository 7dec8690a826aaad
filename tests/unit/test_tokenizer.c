/*
 * engine/text: tokenizers from a tiny vocabulary, the files that must be refused, and what holds
 * for any text. (Agreement with the reference tokenizers: tests/golden/tokens.)
 */
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"
#include "engine/text/nfc.h"
#include "engine/text/tokenizer_build.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include <cmocka.h>

#define SMALL_QWEN "tests/golden/tokens/small_qwen.json"

/* --- a tiny vocabulary: ids 0 to 255 are the bytes, then these */

enum { HE = 256, LL, HELL, HELLO, END, THINK };

static uint32_t coded(int byte) {
    uint32_t n = 256;
    for (int b = 0; b < byte; b++)
        n += !((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174);
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174
               ? (uint32_t)byte
               : n;
}

static void put_coded_byte(int byte, struct buf *out) {
    struct buf one = {0};
    buf_put_utf8(&one, coded(byte));
    buf_put_json(out, one.data, one.n);
    buf_release(&one);
}

static void write_tiny_json(struct buf *out) {
    buf_puts(out, "{\"added_tokens\":[{\"id\":260,\"content\":\"<|end|>\",\"special\":true},"
                  "{\"id\":261,\"content\":\"<|end|>k\",\"special\":false,\"lstrip\":false}],"
                  "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                  "\"add_prefix_space\":false,\"use_regex\":true},"
                  "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"vocab\":{");
    for (int b = 0; b < 256; b++) {
        put_coded_byte(b, out);
        buf_printf(out, ":%d,", b);
    }
    buf_puts(out, "\"he\":256,\"ll\":257,\"hell\":258,\"hello\":259},\"merges\":["
                  "\"h e\",\"l l\",[\"he\",\"ll\"],\"hell o\"]}}");
}

static struct tokenizer *open_json(const struct buf *text) {
    struct err err = {0};
    struct tokenizer *t = NULL;
    if (tokenizer_open_json(&t, text->data, text->n, "tiny", &err) != 0) fail_msg("%s", err.text);
    return t;
}

static struct tokenizer *open_tiny(void) {
    struct buf text = {0};
    write_tiny_json(&text);
    struct tokenizer *t = open_json(&text);
    buf_release(&text);
    return t;
}

static struct tokenizer *open_small_qwen(void) {
    struct buf text = {0};
    assert_int_equal(io_read_file(SMALL_QWEN, 1 << 20, &text, NULL), 0);
    struct tokenizer *t = open_json(&text);
    buf_release(&text);
    return t;
}

static void write_tiny_tiktoken(struct buf *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int b = 0; b < 256; b++)
        buf_printf(out, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    buf_puts(out, "aGU= 256\nbGw= 257\naGVsbA== 258\naGVsbG8= 259\n");
}

static void check_ids(const struct tokenizer *t, bool with_added, const char *text, size_t n,
                      const int32_t *want, size_t n_want) {
    struct tokens got = {0};
    int rc = with_added ? tokenizer_encode_with_added(t, text, n, &got, NULL)
                        : tokenizer_encode(t, text, n, &got, NULL);
    assert_int_equal(rc, 0);
    assert_int_equal(got.n, n_want);
    if (n_want) assert_memory_equal(got.ids, want, n_want * sizeof *want);
    tokens_release(&got);
}

#define CHECK_IDS(t, with_added, text, ...)                                                        \
    check_ids(t, with_added, text, sizeof(text) - 1, (int32_t[]){__VA_ARGS__},                     \
              sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t))

static void test_tiny(void **state) {
    (void)state;
    struct tokenizer *t = open_tiny();
    size_t n = 0;
    CHECK_IDS(t, false, "hello", HELLO);
    CHECK_IDS(t, false, "hellhe", HELL, HE);
    CHECK_IDS(t, false, "lll", LL, 'l');
    CHECK_IDS(t, false, "he\xFFllo", HE, 0xFF, LL, 'o');
    CHECK_IDS(t, true, "he<|end|>llo", HE, END, LL, 'o');
    CHECK_IDS(t, true, "<|end|>k<|end|>", THINK, END);
    CHECK_IDS(t, true, "<|end|<|end|>", '<', '|', 'e', 'n', 'd', '|', END);
    CHECK_IDS(t, false, "<|end|>", '<', '|', 'e', 'n', 'd', '|', '>');
    assert_int_equal(tokenizer_n_ids(t), 262);
    assert_int_equal(tokenizer_find_added(t, "<|end|>"), END);
    assert_int_equal(tokenizer_find_added(t, "<|end|>k"), THINK);
    assert_int_equal(tokenizer_find_added(t, "<|end|"), -1);
    assert_int_equal(tokenizer_find_added(t, "hello"), -1);
    assert_int_equal(tokenizer_find_added(t, ""), -1);
    assert_true(tokenizer_is_control(t, END) && tokenizer_is_added(t, END));
    assert_true(!tokenizer_is_control(t, THINK) && tokenizer_is_added(t, THINK));
    assert_false(tokenizer_is_added(t, HELLO) || tokenizer_is_added(t, -1));
    assert_false(tokenizer_is_added(t, 262) || tokenizer_is_control(t, INT32_MAX));
    assert_memory_equal(tokenizer_bytes(t, HELLO, &n), "hello", 5);
    assert_int_equal(n, 5);
    assert_null(tokenizer_bytes(t, -1, &n));
    assert_null(tokenizer_bytes(t, 262, &n));
    tokenizer_close(t);
}

static void test_decode(void **state) {
    (void)state;
    struct tokenizer *t = open_tiny();
    const int32_t ids[] = {HELLO, END, -5, THINK, 4000, '!'};
    for (int with_control = 0; with_control < 2; with_control++) {
        struct buf text = {0};
        tokenizer_decode(t, ids, 6, with_control, &text);
        assert_string_equal(text.data, with_control ? "hello<|end|><|end|>k!" : "hello<|end|>k!");
        buf_release(&text);
    }
    tokenizer_close(t);
}

static void test_tiktoken(void **state) {
    (void)state;
    struct err err = {0};
    struct buf text = {0};
    struct tokenizer *t = NULL;
    write_tiny_tiktoken(&text);
    assert_int_equal(tokenizer_open_tiktoken(&t, text.data, text.n, "tiny", &err), 0);
    CHECK_IDS(t, false, "hello hell", HELLO, ' ', HELL);
    assert_int_equal(tokenizer_find_added(t, "<|endoftext|>"), 260);
    assert_int_equal(tokenizer_find_added(t, "<|extra_0|>"), 263);
    assert_int_equal(tokenizer_n_ids(t), 260 + 208);
    tokenizer_close(t);
    buf_release(&text);
}

/* --- files that must be refused */

struct bad_row {
    const char *from, *to; /* the edit that makes a good file bad */
    const char *sentence;  /* part of the message */
};

static const struct bad_row bad_json[] = {
    {"{\"added", "{added", "line 1"},
    {"]}}", "]}", "line 1"},
    {"\"model\":{", "\"modle\":{", "\"model\""},
    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", "\"Unigram\""},
    {"\"type\":\"BPE\"", "\"type\":\"WordPiece\"", "\"WordPiece\""},
    {"\"type\":\"BPE\",", "", "the model \"\""},
    {"\"dropout\":null", "\"dropout\":0.1", "\"dropout\""},
    {"\"dropout\":null", "\"byte_fallback\":true", "\"byte_fallback\""},
    {"\"dropout\":null", "\"end_of_word_suffix\":\"</w>\"", "\"end_of_word_suffix\""},
    {"\"dropout\":null", "\"continuing_subword_prefix\":\"##\"", "\"continuing_subword_prefix\""},
    {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}", "\"Lowercase\""},
    {"\"normalizer\":null",
     "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"NFKC\"}"
     "]}",
     "\"NFKC\""},
    {"\"normalizer\":null", "\"normalizer\":7", "the normalizer \"\""},
    {"\"type\":\"ByteLevel\"", "\"type\":\"Metaspace\"", "\"Metaspace\""},
    {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "\"add_prefix_space\""},
    {"\"use_regex\":true", "\"use_regex\":false", "use_regex false"},
    {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}", "null",
     "the pre-tokenizer \"\""},
    {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a+)+"
     "\"},"
     "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":"
     "false,"
     "\"use_regex\":false}]}",
     "\"(a+)+\""},
    {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},"
     "\"behavior\":\"Removed\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":"
     "false,"
     "\"use_regex\":false}]}",
     "\"Isolated\""},
    {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":false},"
     "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}]}",
     "\"Digits\""},
    {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}",
     "{\"type\":\"Sequence\",\"pretokenizers\":[1,2,3,4,5]}", "more than 4 steps"},
    {"\"vocab\":{", "\"vocab\":[{", "line 1"},
    {"\"vocab\":{", "\"vocab\":3,\"x\":{", "\"vocab\""},
    {"\"merges\":[", "\"merges\":3,\"x\":[", "\"merges\""},
    {"\"he\":256", "\"he\":-1", "\"he\""},
    {"\"he\":256", "\"he\":255", "id 255 is given to two tokens"},
    {"\"he\":256", "\"he\":256.5", "\"he\""},
    {"\"he\":256", "\"he\":\"256\"", "\"he\""},
    {"\"he\":256", "\"he\":2147483648", "\"he\""},
    {"\"he\":256", "\"he\":1e300", "\"he\""},
    {"\"he\":256", "\"he\":256,\"he\":300", "\"he\""},
    {"\"he\":256", "\"\":256", "empty"},
    {"\"he\":256", "\"h e\":256", "not byte-level coded"},
    {"\"he\":256", "\"\xE2\x96\x81he\":256", "not byte-level coded"},
    {"\"A\":65,", "", "0x41"},
    {"\"he\":256,", "", "\"h e\""},
    {"\"hello\":259", "\"helloo\":259", "a result that is not a token"},
    {"\"h e\"", "\"h \xC4\x84\xC4\x84\"", "merge 0"},
    {"\"h e\"", "\"he\"", "merge 0 \"he\""},
    {"\"h e\"", "\"h e\",\"h e\"", "merges 0 and 1 are the same"},
    {"\"h e\"", "\" e\"", "merge 0"},
    {"\"h e\"", "\"h \"", "merge 0"},
    {"[\"he\",\"ll\"]", "[\"he\"]", "merge 2 is not two strings"},
    {"[\"he\",\"ll\"]", "[\"he\",\"ll\",\"o\"]", "merge 2 is not two strings"},
    {"[\"he\",\"ll\"]", "[\"he\",7]", "merge 2 is not two strings"},
    {"[\"he\",\"ll\"]", "null", "merge 2 is not two strings"},
    {"\"id\":260", "\"id\":-3", "added_tokens"},
    {"\"id\":260", "\"id\":9000000", "added_tokens"},
    {"\"id\":260", "\"id\":259", "id 259"},
    {"\"id\":260", "\"id\":261", "id 261"},
    {"\"id\":260,", "", "added_tokens"},
    {"\"content\":\"<|end|>\",", "", "\"content\""},
    {"\"content\":\"<|end|>\"", "\"content\":\"\"", "token 260 is empty"},
    {"\"content\":\"<|end|>k\"", "\"content\":\"<|end|>\"", "same text"},
    {"\"lstrip\":false", "\"lstrip\":true", "\"lstrip\""},
    {"\"lstrip\":false", "\"rstrip\":true", "\"rstrip\""},
    {"\"lstrip\":false", "\"single_word\":true", "\"single_word\""},
};

static const struct bad_row bad_tiktoken[] = {
    {"QQ== 65\n", "QQ==65\n", "line 66"},
    {"QQ== 65\n", "QQ= 65\n", "base64"},
    {"QQ== 65\n", "QR== 65\n", "base64"},
    {"QQ== 65\n", "Q!== 65\n", "base64"},
    {"QQ== 65\n", "QQ==QQ== 65\n", "base64"},
    {"QQ== 65\n", "==== 65\n", "base64"},
    {"QQ== 65\n", " 65\n", "base64"},
    {"QQ== 65\n", "\n", "line 66"},
    {"QQ== 65\n", "QQ== 65\r\n", "is not a rank"},
    {"QQ== 65\n", "QQ== +65\n", "is not a rank"},
    {"QQ== 65\n", "QQ== -65\n", "is not a rank"},
    {"QQ== 65\n", "QQ== 065\n", "is not a rank"},
    {"QQ== 65\n", "QQ==  65\n", "is not a rank"},
    {"QQ== 65\n", "QQ== 65 \n", "is not a rank"},
    {"QQ== 65\n", "QQ== \n", "is not a rank"},
    {"QQ== 65\n", "QQ== 6x\n", "is not a rank"},
    {"QQ== 65\n", "QQ== 99999999\n", "is not a rank"},
    {"QQ== 65\n", "QQ== 9999999\n", "id 9999999"},
    {"QQ== 65\n", "QQ== 64\n", "id 64"},
    {"QQ== 65\n", "Qg== 65\n", "same text"},
    {"QQ== 65\n", "", "the highest is"},
    {"QQ== 65\n", "QUJD 65\n", "0x41"},
    {"aGVsbG8= 259\n", "aGVsbG8= 260\n", "the highest is"},
    {"aGVsbG8= 259\n", "aGVsbG8= 259", "the file is cut"},
    {"aGVsbG8= 259\n", "eHh4 259\n", "rank 259"},
    {"bGw= 257\naGVsbA== 258\n", "aGVsbA== 257\nbGw= 258\n", "rank 257"},
};

/* The good file with the row's edit. */
static void edit(const struct buf *good, const struct bad_row *row, struct buf *out) {
    const char *at = strstr(good->data, row->from);
    if (!at) fail_msg("\"%s\" is not in the good file", row->from);
    size_t n_before = (size_t)(at - good->data), n_from = strlen(row->from);
    buf_add(out, good->data, n_before);
    buf_puts(out, row->to);
    buf_add(out, at + n_from, good->n - n_before - n_from);
}

typedef int opener(struct tokenizer **, const char *, size_t, const char *, struct err *);

static void check_refused(opener *open, const char *text, size_t n, const char *sentence) {
    struct err err = {0};
    struct tokenizer *t = NULL;
    if (open(&t, text, n, "folder/file", &err) == 0) fail_msg("accepted: %s", sentence);
    assert_null(t);
    assert_int_equal(err.kind, ERR_MODEL);
    assert_memory_equal(err.text, "folder/file: ", 13);
    if (!strstr(err.text, sentence)) fail_msg("\"%s\" does not say %s", err.text, sentence);
}

static void test_bad_json(void **state) {
    (void)state;
    struct buf good = {0};
    write_tiny_json(&good);
    for (size_t i = 0; i < sizeof bad_json / sizeof bad_json[0]; i++) {
        struct buf bad = {0};
        edit(&good, &bad_json[i], &bad);
        check_refused(tokenizer_open_json, bad.data, bad.n, bad_json[i].sentence);
        buf_release(&bad);
    }
    for (size_t n = 0; n < good.n; n += 97)
        check_refused(tokenizer_open_json, good.data, n, "line");
    buf_release(&good);
}

static void test_bad_tiktoken(void **state) {
    (void)state;
    struct buf good = {0};
    write_tiny_tiktoken(&good);
    for (size_t i = 0; i < sizeof bad_tiktoken / sizeof bad_tiktoken[0]; i++) {
        struct buf bad = {0};
        edit(&good, &bad_tiktoken[i], &bad);
        check_refused(tokenizer_open_tiktoken, bad.data, bad.n, bad_tiktoken[i].sentence);
        buf_release(&bad);
    }
    check_refused(tokenizer_open_tiktoken, "", 0, "0x00");
    buf_release(&good);
}

/* --- GGUF */

struct tiny_gguf {
    char text[512][8];
    struct gguf_string tokens[512];
    int32_t types[512];
    struct gguf_string merges[8];
    struct tokenizer_gguf gguf;
};

static struct gguf_string string_of(const char *text) {
    return (struct gguf_string){text, strlen(text)};
}

static void make_tiny_gguf(struct tiny_gguf *v) {
    static const char *const merges[] = {"h e", "l l", "he ll", "hell o"};
    static const char *const tokens[] = {"he", "ll", "hell", "hello", "<|end|>", "<think>"};
    memset(v, 0, sizeof *v);
    for (int b = 0; b < 256; b++) {
        struct buf one = {0};
        buf_put_utf8(&one, coded(b));
        memcpy(v->text[b], one.data, one.n);
        buf_release(&one);
        v->tokens[b] = string_of(v->text[b]);
        v->types[b] = 1;
    }
    for (int i = 0; i < 6; i++) {
        v->tokens[256 + i] = string_of(tokens[i]);
        v->types[256 + i] = i < 4 ? 1 : i == 4 ? 3 : 4;
    }
    for (int i = 0; i < 4; i++) v->merges[i] = string_of(merges[i]);
    v->gguf = (struct tokenizer_gguf){"gpt2", "gpt-2", v->tokens, v->types, 262, v->merges, 4};
}

static void test_gguf(void **state) {
    (void)state;
    struct err err = {0};
    struct tiny_gguf v;
    struct tokenizer *t = NULL;
    size_t n;
    make_tiny_gguf(&v);
    v.tokens[262] = string_of("[PAD262]");
    v.tokens[263] = string_of("[PAD263]");
    v.types[262] = 5;
    v.types[263] = 4;
    v.gguf.n_tokens = 264;
    assert_int_equal(tokenizer_open_gguf(&t, &v.gguf, &err), 0);
    CHECK_IDS(t, true, "hello<|end|><think>", HELLO, END, THINK);
    assert_true(tokenizer_is_control(t, END) && !tokenizer_is_control(t, THINK));
    assert_null(tokenizer_bytes(t, 262, &n));
    assert_null(tokenizer_bytes(t, 263, &n));
    assert_int_equal(tokenizer_find_added(t, "[PAD263]"), -1);
    tokenizer_close(t);
    v.gguf.types = NULL; /* all normal: "<|end|>" is then a token without merges, never found */
    v.gguf.n_tokens = 260;
    assert_int_equal(tokenizer_open_gguf(&t, &v.gguf, &err), 0);
    CHECK_IDS(t, true, "hello<", HELLO, '<');
    tokenizer_close(t);
}

static void test_bad_gguf(void **state) {
    (void)state;
    static const struct {
        const char *model, *pre, *token, *merge, *sentence;
        int type;
    } rows[] = {
        {"llama", NULL, NULL, NULL, "\"llama\"", 0},
        {"bert", NULL, NULL, NULL, "\"bert\"", 0},
        {NULL, NULL, NULL, NULL, "\"\"", 0},
        {"gpt2", "chatglm-bpe", NULL, NULL, "\"chatglm-bpe\"", 0},
        {"gpt2", "", NULL, NULL, "pre-tokenizer \"\"", 0},
        {"gpt2", "qwen2", NULL, NULL, "type 7", 7},
        {"gpt2", "qwen2", NULL, NULL, "type -1", -1},
        {"gpt2", "qwen2", "", NULL, "empty", 0},
        {"gpt2", "qwen2", "A", NULL, "same text", 0},
        {"gpt2", "qwen2", "h\xE4\xB8\xAD", NULL, "not byte-level coded", 0},
        {"gpt2", "qwen2", "h\xC3", NULL, "not byte-level coded", 0},
        {"gpt2", "qwen2", NULL, "he", "not two tokens", 0},
        {"gpt2", "qwen2", NULL, "h q", "a result that is not a token", 0},
        {"gpt2", "qwen2", NULL, "hh e", "a left side", 0},
        {"gpt2", "qwen2", NULL, "h ee", "a right side", 0},
        {"gpt2", "qwen2", NULL, "l l", "are the same", 0},
        {"gpt2", "qwen2", NULL, "", "not two tokens", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = {0};
        struct tiny_gguf v;
        struct tokenizer *t = NULL;
        make_tiny_gguf(&v);
        v.gguf.model = rows[i].model;
        v.gguf.pre = rows[i].pre;
        if (rows[i].token) v.tokens[HE] = string_of(rows[i].token);
        if (rows[i].merge) v.merges[0] = string_of(rows[i].merge);
        if (rows[i].type) v.types[HE] = rows[i].type;
        assert_int_equal(tokenizer_open_gguf(&t, &v.gguf, &err), -1);
        assert_int_equal(err.kind, ERR_MODEL);
        if (!strstr(err.text, rows[i].sentence)) fail_msg("%s: %s", rows[i].sentence, err.text);
    }
}

/* --- folders */

static void test_folder(void **state) {
    (void)state;
    static const char *const names[] = {"tokenizer.json", "qwen.tiktoken", "vocab.json"};
    struct err err = {0};
    struct buf json = {0}, ranks = {0};
    char folder[] = "/tmp/qwen-chat-tokenizer-XXXXXX", path[256], command[64];
    struct tokenizer *t = NULL;
    write_tiny_json(&json);
    write_tiny_tiktoken(&ranks);
    assert_non_null(mkdtemp(folder));
    assert_int_equal(tokenizer_open_folder(&t, folder, &err), -1);
    assert_int_equal(err.kind, ERR_MODEL);
    assert_non_null(strstr(err.text, "has no tokenizer"));
    for (int i = 0; i < 3; i++) {
        const struct buf *text = i == 1 ? &ranks : &json;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(io_write_atomic(path, 0600, text->data, text->n, NULL), 0);
        int rc = tokenizer_open_folder(&t, folder, &err);
        assert_int_equal(rc, i == 2 ? -1 : 0); /* that vocab.json is no vocabulary */
        if (rc == 0) CHECK_IDS(t, false, "hello", HELLO);
        if (rc == 0) tokenizer_close(t);
        io_unlink(path);
    }
    assert_non_null(strstr(err.text, "vocab.json"));
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
    buf_release(&json);
    buf_release(&ranks);
}

/* --- what holds for any text */

static void check_round_trip(const struct tokenizer *t, const char *text, size_t n) {
    struct tokens ids = {0};
    struct buf again = {0};
    assert_int_equal(tokenizer_encode(t, text, n, &ids, NULL), 0);
    for (size_t i = 0; i < ids.n; i++) assert_false(tokenizer_is_added(t, ids.ids[i]));
    tokenizer_decode(t, ids.ids, ids.n, false, &again);
    assert_int_equal(again.n, n);
    if (n) assert_memory_equal(again.data, text, n);
    buf_release(&again);
    tokens_release(&ids);
}

static void test_any_bytes(void **state) {
    (void)state;
    static const char *const invalid[] = {
        "\x80",         "\xC0\x80",         "\xE0\x80\x80",
        "\xED\xA0\x80", "\xF4\x90\x80\x80", "a\xC3",
        "\xE4\xB8",     "\xF0\x9F\x98",     "\xFF\xFE",
        "he\xF5llo",    "\xC3\xC3\xA9",     "\xE4\xB8\xE4\xB8\xAD",
    };
    struct tokenizer *t = open_tiny();
    check_round_trip(t, "", 0);
    check_round_trip(t, "a\0b\0", 4);
    for (size_t i = 0; i < sizeof invalid / sizeof invalid[0]; i++)
        check_round_trip(t, invalid[i], strlen(invalid[i]));
    srand(1);
    for (int round = 0; round < 20000; round++) {
        char text[64];
        size_t n = (size_t)rand() % sizeof text;
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(rand() % 3 ? "hello \n\xE4\xB8\xAD\xC3\xA9'1"[rand() % 14] : rand());
        check_round_trip(t, text, n);
    }
    tokenizer_close(t);
}

/* More steps than PCRE2 allows by itself. */
static void test_long_white_space(void **state) {
    (void)state;
    enum { N = 11000000 };
    struct tokenizer *t = open_tiny();
    struct tokens ids = {0};
    char *text = mem_alloc(N);
    assert_non_null(text);
    memset(text, ' ', N);
    text[N - 1] = 'h';
    assert_int_equal(tokenizer_encode(t, text, N, &ids, NULL), 0);
    assert_int_equal(ids.n, N);
    tokens_release(&ids);
    mem_free(text);
    tokenizer_close(t);
}

/* The lowest-ranked pair, leftmost first, by the definition. */
static size_t merge_plainly(const struct bpe *b, const char *text, size_t n, int32_t *ids) {
    for (size_t i = 0; i < n; i++) ids[i] = b->byte_ids[(unsigned char)text[i]];
    for (;;) {
        uint32_t least = BPE_NO_RANK;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = bpe_rank(b, ids[i], ids[i + 1]);
            if (rank < least) at = i;
            if (rank < least) least = rank;
        }
        if (least == BPE_NO_RANK) return n;
        ids[at] = b->merged[least];
        memmove(&ids[at + 1], &ids[at + 2], (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void check_merging(const struct bpe *b, const char *text, size_t n) {
    int32_t want[512];
    size_t n_want = merge_plainly(b, text, n, want);
    for (int is_long = 0; is_long < 2; is_long++) {
        struct tokens got = {0};
        struct bpe_scratch scratch = {0};
        int rc = is_long ? bpe_merge_long(b, &scratch, text, n, &got, NULL)
                         : bpe_merge(b, &scratch, text, n, &got, NULL);
        assert_int_equal(rc, 0);
        assert_int_equal(got.n, n_want);
        if (n_want) assert_memory_equal(got.ids, want, n_want * sizeof *want);
        bpe_scratch_release(&scratch);
        tokens_release(&got);
    }
}

static void random_text(char *text, size_t n, const char *letters) {
    size_t n_letters = strlen(letters);
    for (size_t i = 0; i < n; i++) text[i] = letters[(size_t)rand() % n_letters];
}

static void test_merging(void **state) {
    (void)state;
    static const char *const alphabets[] = {"a",  "ab",          "the an", "etaoin shrdlu",
                                            "01", "\xE4\xB8\xAD"};
    char text[512];
    struct tokenizer *t = open_small_qwen();
    srand(2);
    for (int round = 0; round < 3000; round++) {
        size_t n = (size_t)rand() % (round % 10 ? 100 : sizeof text);
        random_text(text, n, alphabets[rand() % 6]);
        check_merging(&t->bpe, text, n);
    }
    tokenizer_close(t);
}

/* The bytes, and all words of a and b of 2 to 4 letters. */
static void make_ab_vocabulary(struct vocabulary *v) {
    int32_t n_ids = 0;
    for (int c = 0; c < 256; c++)
        assert_int_equal(vocabulary_add(v, n_ids++, &(char){(char)c}, 1, NULL), 0);
    for (int length = 2; length <= 4; length++) {
        for (int word = 0; word < 1 << length; word++) {
            char bytes[4];
            for (int i = 0; i < length; i++) bytes[i] = word >> i & 1 ? 'b' : 'a';
            assert_int_equal(vocabulary_add(v, n_ids++, bytes, (size_t)length, NULL), 0);
        }
    }
    for (int32_t id = 0; id < n_ids; id++) assert_int_equal(vocabulary_list(v, id, NULL), 0);
}

/* Merges two random tokens of such a vocabulary, where the result is a token too. */
static void add_random_merge(struct bpe *b, const struct vocabulary *v) {
    char bytes[8];
    size_t n = 0;
    int32_t ids[2];
    for (int side = 0; side < 2; side++) {
        size_t n_side = 0;
        ids[side] = rand() % 2 ? 256 + rand() % ((int)v->n_ids - 256) : 'a' + rand() % 2;
        const char *token = vocabulary_bytes(v, ids[side], &n_side);
        memcpy(bytes + n, token, n_side);
        n += n_side;
    }
    int32_t merged = vocabulary_find(v, bytes, n);
    if (merged >= 0) bpe_add_merge(b, ids[0], ids[1], merged, NULL);
}

/* Merges in any order, their parts after them too: ranks then fall while merging. */
static void test_hostile_merges(void **state) {
    (void)state;
    srand(3);
    for (int round = 0; round < 300; round++) {
        struct vocabulary v = {0};
        struct bpe b = {0};
        char text[300];
        make_ab_vocabulary(&v);
        assert_int_equal(bpe_open(&b, &v, 60, false, NULL), 0);
        for (int i = 0; i < 60; i++) add_random_merge(&b, &v);
        for (int i = 0; i < 20; i++) {
            size_t n = (size_t)rand() % sizeof text;
            random_text(text, n, "ab");
            check_merging(&b, text, n);
        }
        bpe_release(&b);
        vocabulary_release(&v);
    }
}

static void test_nfc(void **state) {
    (void)state;
    static const char *const units[] = {
        "a",
        "e",
        " ",
        "\xC3\xA9",
        "\xCC\x81",
        "\xCC\xA3",
        "\xCC\x88",
        "\xCD\x85",
        "\xE1\x84\x80",
        "\xE1\x85\xA1",
        "\xE1\x86\xA8",
        "\xEA\xB0\x80",
        "\xE2\x84\xAB",
        "\xE0\xA6\xBE",
        "\xE0\xA7\x87",
        "\xF0\x9D\x85\x9E",
        "\xEF\xA4\x80",
        "\xE4\xB8\xAD",
        "\xCD\x84",
        "\xE0\xBD\xB1",
        "\xE0\xBD\xB4",
    };
    srand(4);
    for (int round = 0; round < 20000; round++) {
        struct buf text = {0}, got = {0};
        utf8proc_uint8_t *want = NULL;
        for (int i = rand() % 10; i >= 0; i--) buf_puts(&text, units[rand() % 21]);
        utf8proc_ssize_t n =
            utf8proc_map((const utf8proc_uint8_t *)text.data, (utf8proc_ssize_t)text.n, &want,
                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        bool is_changed = nfc_normalize(text.data, text.n, &got);
        const struct buf *result = is_changed ? &got : &text;
        assert_false(got.failed);
        assert_int_equal(result->n, n);
        assert_memory_equal(result->data, want, (size_t)n);
        free(want);
        buf_release(&text);
        buf_release(&got);
    }
}

static void test_nfc_of_many_marks(void **state) {
    (void)state;
    struct buf text = {0}, got = {0};
    buf_putc(&text, 'a');
    for (int i = 0; i < 200000; i++) buf_puts(&text, i % 2 ? "\xCC\xA3" : "\xCC\x81");
    assert_true(nfc_normalize(text.data, text.n, &got));
    assert_memory_equal(got.data, "\xE1\xBA\xA1\xCC\xA3", 5); /* all dots below come first */
    assert_memory_equal(got.data + got.n - 4, "\xCC\x81\xCC\x81", 4);
    buf_release(&text);
    buf_release(&got);
}

/* --- threads and memory */

struct thread_work {
    const struct tokenizer *t;
    const struct buf *text;
    struct tokens ids;
    int rc;
};

static void *encode_in_thread(void *p) {
    struct thread_work *work = p;
    work->rc = tokenizer_encode(work->t, work->text->data, work->text->n, &work->ids, NULL);
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    enum { N = 4 };
    struct tokenizer *t = open_small_qwen();
    struct buf text = {0};
    struct thread_work work[N];
    pthread_t threads[N];
    assert_int_equal(io_read_file("tests/golden/tokens/strings.bin", 1 << 20, &text, NULL), 0);
    for (int i = 0; i < N; i++) {
        work[i] = (struct thread_work){.t = t, .text = &text};
        assert_int_equal(pthread_create(&threads[i], NULL, encode_in_thread, &work[i]), 0);
    }
    for (int i = 0; i < N; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < N; i++) {
        assert_int_equal(work[i].rc, 0);
        assert_int_equal(work[i].ids.n, work[0].ids.n);
        assert_memory_equal(work[i].ids.ids, work[0].ids.ids, work[0].ids.n * sizeof(int32_t));
    }
    for (int i = 0; i < N; i++) tokens_release(&work[i].ids);
    buf_release(&text);
    tokenizer_close(t);
}

/* Opens and encodes; an error must be one of memory. */
static int open_and_encode(const struct buf *json, const struct buf *ranks,
                           const struct buf *text) {
    for (int i = 0; i < 2; i++) {
        struct err err = {0};
        struct tokenizer *t = NULL;
        struct tokens ids = {0};
        int rc = i ? tokenizer_open_tiktoken(&t, ranks->data, ranks->n, "tiny", &err)
                   : tokenizer_open_json(&t, json->data, json->n, "tiny", &err);
        if (rc == 0) rc = tokenizer_encode(t, text->data, text->n, &ids, &err);
        if (rc != 0) assert_int_equal(ids.n, 0);
        tokens_release(&ids);
        tokenizer_close(t);
        if (rc != 0) assert_int_equal(err.kind, ERR_MEMORY);
        if (rc != 0) return -1;
    }
    return 0;
}

static void test_no_memory(void **state) {
    (void)state;
    struct buf json = {0}, ranks = {0}, text = {0};
    write_tiny_json(&json);
    write_tiny_tiktoken(&ranks);
    buf_puts(&text, "hello e\xCC\x81 ");
    for (int i = 0; i < 300; i++) buf_puts(&text, "he");
    unsigned long before = mem_count();
    assert_int_equal(open_and_encode(&json, &ranks, &text), 0);
    unsigned long n = mem_count() - before, n_failed = 0;
    for (unsigned long i = 1; i <= n; i++) {
        mem_fail_at(i, false);
        n_failed += open_and_encode(&json, &ranks, &text) != 0;
        mem_fail_at(0, false);
    }
    assert_true(n_failed > 10);
    buf_release(&json);
    buf_release(&ranks);
    buf_release(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),         cmocka_unit_test(test_decode),
        cmocka_unit_test(test_tiktoken),     cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_bad_tiktoken), cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_bad_gguf),     cmocka_unit_test(test_folder),
        cmocka_unit_test(test_any_bytes),    cmocka_unit_test(test_long_white_space),
        cmocka_unit_test(test_merging),      cmocka_unit_test(test_hostile_merges),
        cmocka_unit_test(test_nfc),          cmocka_unit_test(test_nfc_of_many_marks),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
