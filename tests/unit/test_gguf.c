/*
 * The GGUF parser and the facts it yields: hand-made bad files (structure and metadata), every
 * tensor type by name, systematic damage.
 */
#include "engine/base/buf.h"
#include "engine/base/mem.h"
#include "engine/weights/gguf_config.h"
#include "tests/support/gguf_text.h"
#include "tests/support/sentence.h"

#include <math.h>
#include <stdlib.h>

struct parsed {
    struct gguf g;
    struct tensor_list tensors;
    unsigned char *copy; /* exactly as long as the file, so that a sanitizer sees a read past it */
    struct model_config config;
    struct generation_defaults generation;
};

static int parse(struct parsed *p, const char *data, size_t n, struct err *err) {
    *p = (struct parsed){.copy = malloc(n ? n : 1)};
    memcpy(p->copy, data, n);
    if (gguf_parse(&p->g, p->copy, n, "x.gguf", 5, &p->tensors, err) != 0) return -1;
    return tensor_list_index(&p->tensors, err);
}

static int parse_config(struct parsed *p, const char *data, size_t n, struct err *err) {
    if (parse(p, data, n, err) != 0 ||
        model_config_from_gguf(&p->config, &p->g, &p->tensors, err) != 0)
        return -1;
    return generation_defaults_from_gguf(&p->generation, &p->g, &p->config, err);
}

static void release(struct parsed *p) {
    gguf_release(&p->g);
    tensor_list_release(&p->tensors);
    free(p->copy);
}

/* --- a whole model's metadata ---------------------------------------------------------------- */

struct entry {
    const char *key, *value; /* value: type and bytes in the language of gguf_text.h */
};

/* Types: 4 is a u32, 6 a float, 8 a string, 9 an array. */
static const struct entry base[] = {
    {"general.architecture", "8:4 'qwen2'"},
    {"general.name", "8:4 'Tiny+model'"},
    {"qwen2.block_count", "4:4 1:4"},
    {"qwen2.context_length", "4:4 512:4"},
    {"qwen2.embedding_length", "4:4 8:4"},
    {"qwen2.feed_forward_length", "4:4 12:4"},
    {"qwen2.attention.head_count", "4:4 2:4"},
    {"qwen2.attention.head_count_kv", "4:4 1:4"},
    {"qwen2.attention.layer_norm_rms_epsilon", "6:4 f1e-6"},
    {"qwen2.rope.freq_base", "6:4 f1000000"},
    {"tokenizer.ggml.eos_token_id", "4:4 3:4"},
};
enum { N_BASE = sizeof base / sizeof *base };

/* Tensors: the embedding [4, 8] in F32, and whatever `more` adds (n of them, with their data). */
static const char embedding[] = "'token_embd.weight' 2:4 8:8 4:8 0:4 0:8";

static void compose_with(struct buf *out, const char *key, const char *value, int n_more,
                         const char *more, const char *data) {
    struct buf entries = {0};
    int n = 0;
    buf_puts(&entries, "");
    for (size_t i = 0; i < N_BASE; i++) {
        if (key && strcmp(base[i].key, key) == 0) continue;
        buf_printf(&entries, " '%s' %s", base[i].key, base[i].value);
        n++;
    }
    if (key && value) {
        buf_printf(&entries, " '%s' %s", key, value);
        n++;
    }
    struct buf text = {0};
    buf_printf(&text, "GGUF 3:4 %d:8 %d:8%s %s %s @32 *128 %s", 1 + n_more, n, entries.data,
               embedding, more, data);
    buf_clear(out);
    gguf_put_text(out, text.data);
    buf_release(&text);
    buf_release(&entries);
}

static void compose(struct buf *out, const char *key, const char *value) {
    compose_with(out, key, value, 0, "", "");
}

static struct model_config config_with(const char *key, const char *value) {
    struct parsed p;
    struct err err = {0};
    struct buf file = {0};
    compose(&file, key, value);
    if (parse_config(&p, file.data, file.n, &err) != 0) fail_msg("%s: %s", key, err.text);
    struct model_config c = p.config;
    release(&p);
    buf_release(&file);
    return c;
}

/* --- what good files say --------------------------------------------------------------------- */

static void test_good_file(void **state) {
    (void)state;
    struct parsed p;
    struct err err = {0};
    struct buf file = {0};
    compose(&file, NULL, NULL);
    if (parse_config(&p, file.data, file.n, &err) != 0) fail_msg("%s", err.text);
    const struct checkpoint_tensor *t = tensor_list_find(&p.tensors, "token_embd.weight");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 2);
    assert_int_equal(t->dims[0], 4); /* outermost first: rows */
    assert_int_equal(t->dims[1], 8);
    assert_int_equal(t->bytes, 128);
    assert_int_equal(t->file, 5);
    assert_ptr_equal((const unsigned char *)t->data + t->bytes, p.copy + file.n);
    assert_string_equal(p.config.model_type, "qwen2");
    assert_string_equal(p.config.name, "Tiny model");
    assert_int_equal(p.config.vocab, 4);
    assert_int_equal(p.config.head_size, 4);
    assert_int_equal(p.config.n_kv_heads, 1);
    assert_int_equal(p.config.max_tokens, 512);
    assert_true(p.config.has_tied_head && !p.config.has_qkv_bias && !p.config.rope_interleaved);
    assert_true(p.config.rope_base == 1e6);
    assert_int_equal(p.generation.n_stop_ids, 1);
    assert_int_equal(p.generation.stop_ids[0], 3);
    assert_true(p.generation.temperature == 0.7f && !p.generation.is_from_file);
    release(&p);
    buf_release(&file);
}

static void test_implied_values(void **state) {
    (void)state;
    assert_int_equal(config_with("qwen2.attention.head_count_kv", NULL).n_kv_heads, 2);
    assert_true(config_with("qwen2.rope.freq_base", NULL).rope_base == 10000);
    assert_int_equal(config_with("qwen2.attention.key_length", "4:4 6:4").head_size, 6);
}

static void test_scaling(void **state) {
    (void)state;
    struct model_config c = config_with("qwen2.rope.scaling.factor", "6:4 f4");
    assert_int_equal(c.rope_scaling, ROPE_LINEAR);
    assert_int_equal(c.max_tokens, 2048);
    assert_int_equal(config_with("qwen2.rope.scaling.type", "8:4 'none'").rope_scaling, ROPE_PLAIN);
    c = config_with("qwen2.rope.scaling.type",
                    "8:4 'yarn'"); /* with no factor: 1, and the context as trained */
    assert_int_equal(c.rope_scaling, ROPE_YARN);
    assert_true(c.rope_factor == 1 && c.yarn_beta_fast == 32 && c.yarn_beta_slow == 1);
    assert_int_equal(c.rope_original_tokens, 512);
}

/* The facts that hang on the presence of tensors. */
static void test_tensor_facts(void **state) {
    (void)state;
    struct parsed p;
    struct err err = {0};
    struct buf file = {0};
    compose_with(&file, NULL, NULL, 3,
                 "'output.weight' 2:4 8:8 4:8 0:4 128:8 'blk.0.attn_q.bias' 1:4 8:8 0:4 256:8 "
                 "'rope_freqs.weight' 1:4 2:8 0:4 288:8",
                 "*128 *32 f1 f8");
    if (parse_config(&p, file.data, file.n, &err) != 0) fail_msg("%s", err.text);
    assert_true(!p.config.has_tied_head && p.config.has_qkv_bias);
    assert_int_equal(p.config.rope_scaling, ROPE_DIVISORS);
    assert_true(p.config.rope_divisors[0] == 1 && p.config.rope_divisors[1] == 8);
    release(&p);
    buf_release(&file);
}

static void test_values(void **state) {
    (void)state;
    struct parsed p;
    struct err err = {0};
    struct buf file = {0};
    uint64_t u;
    double d;
    struct gguf_string text, *strings;
    int32_t *ints;
    size_t n;
    gguf_put_text(&file,
                  "GGUF 2:4 0:8 8:8 'u8' 0:4 200:1 'i8' 1:4 0x80:1 'i64' 11:4 77:8 'f' 6:4 f0.5 "
                  "'nan' 6:4 0x7FC00000:4 's' 8:4 'text' 'list' 9:4 8:4 2:8 'a' '' "
                  "'ints' 9:4 5:4 2:8 1:4 0xFFFFFFFF:4");
    if (parse(&p, file.data, file.n, &err) != 0) fail_msg("%s", err.text);
    assert_int_equal(p.g.version, 2);
    assert_int_equal(gguf_u64(&p.g, "u8", 0, 255, 0, &u, &err), 0);
    assert_int_equal(u, 200);
    assert_int_equal(gguf_u64(&p.g, "u8", 0, 199, 0, &u, &err), -1);
    assert_sentence("u8", &err, "from 0 to 199");
    assert_int_equal(gguf_u64(&p.g, "i8", 0, 255, 0, &u, &err), -1); /* -128 */
    assert_int_equal(gguf_u64(&p.g, "i64", 0, 100, 0, &u, &err), 0);
    assert_int_equal(u, 77);
    assert_int_equal(gguf_u64(&p.g, "none", 0, 9, 4, &u, &err), 0);
    assert_int_equal(u, 4);
    assert_int_equal(gguf_need_u64(&p.g, "none", 0, 9, &u, &err), -1);
    assert_int_equal(gguf_u64(&p.g, "s", 0, 9, 4, &u, &err), -1);
    assert_int_equal(gguf_f64(&p.g, "f", 0, 1, 2, &d, &err), 0);
    assert_true(d == 0.5);
    assert_int_equal(gguf_f64(&p.g, "nan", -1e300, 1e300, 2, &d, &err), -1);
    assert_int_equal(gguf_f64(&p.g, "u8", 0, 1, 2, &d, &err), -1);
    assert_int_equal(gguf_text(&p.g, "s", &text, &err), 0);
    assert_true(gguf_string_is(&text, "text") && !gguf_string_is(&text, "tex"));
    assert_int_equal(gguf_text(&p.g, "f", &text, &err), -1);
    assert_int_equal(gguf_strings(&p.g, "list", &strings, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_true(gguf_string_is(&strings[0], "a") && strings[1].n == 0);
    mem_free(strings);
    assert_int_equal(gguf_strings(&p.g, "ints", &strings, &n, &err), -1);
    assert_int_equal(gguf_int32s(&p.g, "ints", &ints, &n, &err), 0);
    assert_int_equal(ints[1], -1);
    mem_free(ints);
    assert_null(gguf_find(&p.g, "lis"));
    release(&p);
    buf_release(&file);
}

/* --- bad structure --------------------------------------------------------------------------- */

#define HEAD(tensors, entries) "GGUF 3:4 " #tensors ":8 " #entries ":8 "

static const struct bad_file {
    const char *text, *part;
} bad_files[] = {
    /* header */
    {"", "empty"},
    {"GG", "not a GGUF"},
    {"GGUX 3:4 0:8 0:8", "not a GGUF"},
    {"GGUF", "header"},
    {"GGUF 3:3", "header"},
    {"GGUF 3:4 0:7", "header"},
    {"GGUF 3:4 0:8 0:7", "header"},
    {"GGUF 0:4 0:8 0:8", "version 0"},
    {"GGUF 1:4 0:4 0:4", "version 1"},
    {"GGUF 4:4 0:8 0:8", "version 4"},
    {"GGUF 0x03000000:4 0:8 0:8", "big-endian"},
    {"version 32:1 https://git-lfs.github.com/spec/v1", "Git LFS"},
    {"<html> x", "web page"},
    {"PK 3:1 4:1 *30", "zip"},
    {"2:8 {}", "safetensors"},
    /* counts */
    {HEAD(0, 1), "1 metadata entries"},
    {HEAD(0, 0xFFFFFFFFFFFFFFFF) "*99", "metadata entries"},
    {HEAD(0, 0x1000000000000000) "*99", "metadata entries"},
    {HEAD(0, 65537) "*999999", "65536"},
    {HEAD(1, 0), "1 tensors"},
    {HEAD(0xFFFFFFFFFFFFFFFF, 0) "*99", "tensors do not fit"},
    {HEAD(0x8000000000000000, 0) "*99", "tensors do not fit"},
    /* entries */
    {HEAD(0, 1) "'' 4:4 1:4", "empty key"},
    {HEAD(0, 1) "0xFFFFFFFFFFFFFFFF:8 a 4:4 1:4 *9", "a key"},
    {HEAD(0, 1) "0x7FFFFFFFFFFFFFFF:8 a 4:4 1:4 *9", "a key"},
    {HEAD(0, 1) "65536:8 a 4:4 1:4 *9", "65535"},
    {HEAD(0, 1) "60:8 a 4:4 1:4 *9", "within a key"},
    {HEAD(0, 1) "'a' 13:4 1:4 *9", "type 13"},
    {HEAD(0, 1) "'a' 0xFFFFFFFF:4 1:4 *9", "type 4294967295"},
    {HEAD(0, 1) "'abcdefgh' 4:4 1:3", "ends at byte"},
    {HEAD(0, 1) "'abcdefgh' 10:4 1:7", "ends at byte"},
    {HEAD(0, 1) "'abc' 8:4 99:8 abc", "within a string"},
    {HEAD(0, 1) "'abc' 8:4 0xFFFFFFFFFFFFFFFF:8 abc", "within a string"},
    {HEAD(0, 2) "'a' 4:4 1:4 'a' 4:4 2:4", "twice"},
    {HEAD(0, 1) "'abc' 9:4 9:4 1:8 4:4 1:8 1:4", "array of arrays"},
    {HEAD(0, 1) "'abc' 9:4 13:4 1:8 1:4", "type 13"},
    {HEAD(0, 1) "'abc' 9:4 4:4 2:8 1:4", "within an array"},
    {HEAD(0, 1) "'abc' 9:4 4:4 0x4000000000000001:8 1:4", "within an array"},
    {HEAD(0, 1) "'abc' 9:4 8:4 0x2000000000000001:8 'a'", "array of strings"},
    {HEAD(0, 1) "'abc' 9:4 8:4 1:8 9:8 a", "string of an array"},
    {HEAD(0, 1) "'abc' 9:4 8:4 1:8 0xFFFFFFFFFFFFFFF8:8 a", "string of an array"},
    {HEAD(0, 1) "'abc' 9:4 4:4", "array's length"},
    /* alignment */
    {HEAD(0, 1) "'general.alignment' 4:4 0:4", "general.alignment"},
    {HEAD(0, 1) "'general.alignment' 4:4 3:4", "power of two"},
    {HEAD(0, 1) "'general.alignment' 4:4 0x80000000:4", "general.alignment"},
    {HEAD(0, 1) "'general.alignment' 8:4 '32'", "general.alignment"},
    /* tensors */
    {HEAD(1, 0) "0xFFFFFFFFFFFFFFFF:8 a 0:4 0:4 0:8 *64", "name"},
    {HEAD(1, 0) "1025:8 a 0:4 0:4 0:8 *64", "1024"},
    {HEAD(1, 0) "'' 1:4 8:8 0:4 0:8 @32 *32", "name is empty"},
    {HEAD(1, 0) "2:8 a 0:1 1:4 8:8 0:4 0:8 @32 *32", "NUL"},
    {HEAD(1, 0) "'t' 5:4 1:8 1:8 1:8 1:8 1:8 0:4 0:8 @32 *32", "5 dimensions"},
    {HEAD(1, 0) "'t' 0xFFFFFFFF:4 8:8 0:4 0:8 @32 *32", "dimensions"},
    {HEAD(1, 0) "'t' 2:4 0x100000000:8 0x100000000:8 0:4 0:8 @32 *32", "64 bits"},
    {HEAD(1, 0) "'t' 2:4 0x80000000:8 0x80000000:8 0:4 0:8 @32 *32", "64 bits"},
    {HEAD(1, 0) "'t' 1:4 0xFFFFFFFFFFFFFFFF:8 0:4 0:8 @32 *32", "64 bits"},
    {HEAD(1, 0) "'t' 1:4 8:8 42:4 0:8 @32 *32", "type 42"},
    {HEAD(1, 0) "'t' 1:4 8:8 0x80000000:4 0:8 @32 *32", "type 2147483648"},
    {HEAD(1, 0) "'t' 1:4 32:8 4:4 0:8 @32 *32", "withdrawn"},
    {HEAD(1, 0) "'t' 1:4 32:8 31:4 0:8 @32 *32", "withdrawn"},
    {HEAD(1, 0) "'t' 1:4 33:8 8:4 0:8 @32 *64", "multiples of 32"},
    {HEAD(1, 0) "'t' 1:4 128:8 12:4 0:8 @32 *256", "multiples of 256"},
    {HEAD(1, 0) "'t' 1:4 8:8 0:4 32:8 @32 *64", "offset 32"},
    {HEAD(1, 0) "'t' 1:4 8:8 0:4 1:8 @32 *64", "offset 1"},
    {HEAD(1, 0) "'t' 1:4 8:8 0:4 0xFFFFFFFFFFFFFFE0:8 @32 *64", "offset"},
    {HEAD(1, 0) "'t' 1:4 8:8 0:4 0:8 @32 *31", "the file ends"},
    {HEAD(1, 0) "'t' 1:4 8:8 0:4 0:8", "the file ends"},
    {HEAD(1, 0) "'t' 1:4 8:8 0:4 0:4", "offset"},
    {HEAD(2, 0) "'t' 1:4 8:8 0:4 0:8 'u' 1:4 8:8 0:4 0:8 @32 *64", "offset 0"},
    {HEAD(2, 0) "'t' 1:4 8:8 0:4 0:8 'u' 1:4 8:8 0:4 64:8 @32 *96", "offset 64"},
    {HEAD(2, 0) "'t' 1:4 8:8 0:4 0:8 't' 1:4 8:8 0:4 32:8 @32 *64", "twice"},
};

static void test_bad_files(void **state) {
    (void)state;
    struct buf file = {0};
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        struct parsed p;
        struct err err = {0};
        buf_clear(&file);
        buf_puts(&file, "");
        gguf_put_text(&file, bad_files[i].text);
        if (parse(&p, file.data, file.n, &err) == 0) fail_msg("accepted: %s", bad_files[i].text);
        assert_sentence(bad_files[i].text, &err, bad_files[i].part);
        assert_int_equal(err.kind, ERR_MODEL);
        release(&p);
    }
    buf_release(&file);
}

/* --- bad metadata ---------------------------------------------------------------------------- */

static const struct bad_entry {
    const char *key, *value, *part;
} bad_entries[] = {
    {"general.architecture", NULL, "general.architecture"},
    {"general.architecture", "4:4 1:4", "general.architecture"},
    {"general.architecture", "8:4 'qwen2moe'", "mixture of experts"},
    {"general.architecture", "8:4 'qwen2vl'", "vision"},
    {"general.architecture", "8:4 'qwen35'", "linear attention"},
    {"general.architecture", "8:4 'gemma3'", "gemma3"},
    {"general.architecture", "8:4 'clip'", "vision"},
    {"general.architecture", "8:4 'llama'", "llama.block_count"},
    {"general.type", "8:4 'adapter'", "adapter"},
    {"general.type", "8:4 'mmproj'", "mmproj"},
    {"general.name", "4:4 1:4", "general.name"},
    {"qwen2.block_count", NULL, "qwen2.block_count"},
    {"qwen2.block_count", "4:4 0:4", "qwen2.block_count"},
    {"qwen2.block_count", "4:4 513:4", "512"},
    {"qwen2.block_count", "5:4 0xFFFFFFFF:4", "qwen2.block_count"},
    {"qwen2.block_count", "6:4 f1", "whole number"},
    {"qwen2.block_count", "8:4 '1'", "whole number"},
    {"qwen2.context_length", NULL, "qwen2.context_length"},
    {"qwen2.context_length", "10:4 0x8000000000000000:8", "qwen2.context_length"},
    {"qwen2.embedding_length", "4:4 0:4", "qwen2.embedding_length"},
    {"qwen2.embedding_length", "4:4 0xFFFFFFFF:4", "qwen2.embedding_length"},
    {"qwen2.feed_forward_length", NULL, "qwen2.feed_forward_length"},
    {"qwen2.feed_forward_length", "4:4 0:4", "qwen2.feed_forward_length"},
    {"qwen2.attention.head_count", "4:4 0:4", "qwen2.attention.head_count"},
    {"qwen2.attention.head_count", "9:4 4:4 1:8 2:4", "whole number"},
    {"qwen2.attention.head_count", "4:4 3:4", "hidden size 8"},
    {"qwen2.attention.head_count_kv", "4:4 0:4", "head_count_kv"},
    {"qwen2.attention.head_count_kv", "4:4 3:4", "2 heads"},
    {"qwen2.attention.key_length", "4:4 5:4", "head size is 5"},
    {"qwen2.attention.key_length", "4:4 100000:4", "key_length"},
    {"qwen2.attention.value_length", "4:4 8:4", "8 for values"},
    {"qwen2.rope.dimension_count", "4:4 2:4", "2 rotated"},
    {"qwen2.expert_count", "4:4 8:4", "8 experts"},
    {"qwen2.attention.layer_norm_rms_epsilon", NULL, "epsilon"},
    {"qwen2.attention.layer_norm_rms_epsilon", "6:4 f0", "epsilon"},
    {"qwen2.attention.layer_norm_rms_epsilon", "6:4 0x7FC00000:4", "epsilon"},
    {"qwen2.attention.layer_norm_rms_epsilon", "4:4 1:4", "float"},
    {"qwen2.rope.freq_base", "6:4 f0", "freq_base"},
    {"qwen2.rope.freq_base", "6:4 f-1", "freq_base"},
    {"qwen2.rope.freq_base", "6:4 0x7F800000:4", "freq_base"},
    {"qwen2.rope.freq_base", "6:4 0x7FC00000:4", "freq_base"},
    {"qwen2.rope.scaling.type", "8:4 'longrope'", "longrope"},
    {"qwen2.rope.scaling.type", "4:4 1:4", "rope.scaling.type"},
    {"qwen2.rope.scaling.factor", "6:4 f0.5", "rope.scaling.factor"},
    {"qwen2.rope.scaling.factor", "6:4 0x7FC00000:4", "rope.scaling.factor"},
    {"qwen2.rope.scaling.original_context_length", "4:4 0:4", "original_context_length"},
    {"tokenizer.ggml.eos_token_id", "4:4 4:4", "no token"},
    {"tokenizer.ggml.eos_token_id", "4:4 0xFFFFFFFF:4", "eos_token_id"},
    {"tokenizer.ggml.eot_token_id", "4:4 99:4", "99"},
    {"tokenizer.ggml.tokens", "9:4 4:4 1:8 1:4", "tokenizer.ggml.tokens"},
    {"general.sampling.temp", "6:4 f-1", "temp"},
    {"general.sampling.top_k", "5:4 0xFFFFFFFF:4", "top_k"},
};

static void test_bad_metadata(void **state) {
    (void)state;
    struct buf file = {0};
    for (size_t i = 0; i < sizeof bad_entries / sizeof *bad_entries; i++) {
        const struct bad_entry *b = &bad_entries[i];
        struct parsed p;
        struct err err = {0};
        compose(&file, b->key, b->value);
        if (parse_config(&p, file.data, file.n, &err) == 0)
            fail_msg("%s: %s was accepted", b->key, b->value ? b->value : "nothing");
        assert_sentence(b->key, &err, b->part);
        assert_int_equal(err.kind, ERR_MODEL);
        release(&p);
    }
    buf_release(&file);
}

static void test_bad_facts(void **state) {
    (void)state;
    static const struct {
        const char *more, *data, *part;
    } cases[] = {
        {"'blk.0.ffn_up.bias' 1:4 12:8 0:4 128:8", "*48", "feed-forward"},
        {"'rope_freqs.weight' 1:4 3:8 0:4 128:8", "*12", "2 values of F32"},
        {"'rope_freqs.weight' 1:4 2:8 1:4 128:8", "*4", "2 values of F32"},
        {"'rope_freqs.weight' 1:4 2:8 0:4 128:8", "f1 f0", "1e-6 to 1e6"},
        {"'rope_freqs.weight' 1:4 2:8 0:4 128:8", "f1 0x7FC00000:4", "1e-6 to 1e6"},
        {"'rope_freqs.weight' 1:4 2:8 0:4 128:8", "f1 f-1", "1e-6 to 1e6"},
        {"'rope_freqs.weight' 1:4 2:8 0:4 128:8", "f1 f1e-40", "1e-6 to 1e6"},
    };
    struct buf file = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct parsed p;
        struct err err = {0};
        compose_with(&file, NULL, NULL, 1, cases[i].more, cases[i].data);
        assert_int_equal(parse_config(&p, file.data, file.n, &err), -1);
        assert_sentence(cases[i].more, &err, cases[i].part);
        release(&p);
    }
    buf_release(&file);
}

/* --- types ----------------------------------------------------------------------------------- */

/* Each type is known by its name and size; the formats of kernels/ are found among them. */
static void test_types(void **state) {
    (void)state;
    static const struct {
        int number, values, bytes;
        const char *name;
    } types[] = {
#define GGUF_TYPE(number, name, values, bytes) {number, values, bytes, name},
#include "engine/weights/gguf_types.def"
#undef GGUF_TYPE
    };
    int n_computed = 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].bytes == 0) continue;
        struct parsed p;
        struct err err = {0};
        struct buf file = {0}, text = {0};
        buf_printf(&text, "GGUF 3:4 1:8 0:8 't' 2:4 %d:8 3:8 %d:4 0:8 @32 *%d", types[i].values,
                   types[i].number, 3 * types[i].bytes);
        gguf_put_text(&file, text.data);
        if (parse(&p, file.data, file.n, &err) != 0) fail_msg("%s: %s", types[i].name, err.text);
        assert_string_equal(p.tensors.items[0].type, types[i].name);
        assert_int_equal(p.tensors.items[0].bytes, 3 * types[i].bytes);
        if (p.tensors.items[0].format != N_FORMATS) {
            const struct format_info *f = &format_table[p.tensors.items[0].format];
            n_computed++;
            assert_int_equal(f->gguf_type, types[i].number);
            assert_int_equal(f->block_values, types[i].values);
            assert_int_equal(f->block_bytes, types[i].bytes);
        }
        release(&p);
        buf_release(&file);
        buf_release(&text);
    }
    assert_int_equal(n_computed, N_FORMATS);
}

/* --- damage ---------------------------------------------------------------------------------- */

static volatile unsigned sink;

static void walk(const struct parsed *p, size_t n) {
    uint64_t total = 0;
    for (size_t i = 0; i < p->tensors.n; i++) {
        const struct checkpoint_tensor *t = &p->tensors.items[i];
        const unsigned char *bytes = t->data;
        total += t->bytes;
        if (t->bytes) sink = bytes[0] + bytes[t->bytes - 1];
    }
    assert_true(total <= n);
}

static void use(const char *data, size_t n) {
    struct parsed p;
    struct err err = {0};
    float freq[MAX_HEAD_SIZE / 2], scale;
    int result = parse(&p, data, n, &err);
    if (result == 0) {
        walk(&p, n);
        result = model_config_from_gguf(&p.config, &p.g, &p.tensors, &err);
    }
    if (result == 0) {
        rope_frequencies(&p.config, p.config.max_tokens, freq, &scale);
        for (int i = 0; i < p.config.head_size / 2; i++) assert_true(isfinite(freq[i]));
        result = generation_defaults_from_gguf(&p.generation, &p.g, &p.config, &err);
    }
    if (result != 0) assert_sentence("damage", &err, "");
    release(&p);
}

/* The small whole file: metadata, a vocabulary, two tensors. */
static void make_whole(struct buf *file) {
    compose_with(file, "tokenizer.ggml.tokens", "9:4 8:4 4:8 'a' 'b' '<|im_end|>' '<|endoftext|>'",
                 1, "'output.weight' 2:4 8:8 4:8 0:4 128:8", "*128");
    assert_true(file->n < 4096);
}

static void test_damage(void **state) {
    (void)state;
    static const unsigned char bytes[] = {0x00, 0x7F, 0x80, 0xFF};
    struct buf file = {0};
    make_whole(&file);
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
    buf_release(&file);
}

/* At every place 4 and 8 bytes become each of these. */
static void test_nasty_numbers(void **state) {
    (void)state;
    static const uint64_t values[] = {0,
                                      1,
                                      UINT64_MAX,
                                      0x7FFFFFFF,
                                      0x80000000,
                                      0x80000001,
                                      0xFFFFFFFF,
                                      0x100000000,
                                      0x100000001,
                                      1ull << 63,
                                      (1ull << 63) - 1,
                                      1ull << 60,
                                      0xFFFFFFFFFFFFFFE0};
    struct buf file = {0};
    make_whole(&file);
    for (size_t i = 0; i + 8 <= file.n; i++) {
        char kept[8];
        memcpy(kept, file.data + i, 8);
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
            for (int b = 0; b < 8; b++) {
                file.data[i + (size_t)b] = (char)(values[v] >> 8 * b & 0xFF);
                if (b == 3) use(file.data, file.n);
            }
            use(file.data, file.n);
            memcpy(file.data + i, kept, 8);
        }
    }
    buf_release(&file);
}

static void test_shifts(void **state) {
    (void)state;
    struct buf file = {0}, shifted = {0};
    make_whole(&file);
    for (size_t i = 0; i < file.n; i++) {
        buf_clear(&shifted);
        buf_add(&shifted, file.data, i);
        buf_add(&shifted, file.data + i + 1, file.n - i - 1);
        use(shifted.data, shifted.n);
        buf_clear(&shifted);
        buf_add(&shifted, file.data, i);
        buf_putc(&shifted, '\1');
        buf_add(&shifted, file.data + i, file.n - i);
        use(shifted.data, shifted.n);
    }
    buf_release(&file);
    buf_release(&shifted);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_file),     cmocka_unit_test(test_implied_values),
        cmocka_unit_test(test_scaling),       cmocka_unit_test(test_tensor_facts),
        cmocka_unit_test(test_values),        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_bad_metadata),  cmocka_unit_test(test_bad_facts),
        cmocka_unit_test(test_types),         cmocka_unit_test(test_damage),
        cmocka_unit_test(test_nasty_numbers), cmocka_unit_test(test_shifts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
