/*
 * config.json and generation_config.json to facts: published configurations, every key damaged, and
 * rotary frequencies against numbers that others computed (tests/golden/rope).
 */
#include "engine/base/buf.h"
#include "engine/base/io.h"
#include "engine/weights/model_config.h"
#include "tests/support/sentence.h"

#include <math.h>
#include <stdlib.h>

static const struct json_limits limits = {1 << 20, 1 << 16, 32};

/* --- configurations as lists of members ------------------------------------------------------ */

struct member {
    const char *key, *value;
};

static const struct member qwen25[] = {
    {"model_type", "\"qwen2\""},
    {"architectures", "[\"Qwen2ForCausalLM\"]"},
    {"hidden_size", "3584"},
    {"intermediate_size", "18944"},
    {"num_hidden_layers", "28"},
    {"num_attention_heads", "28"},
    {"num_key_value_heads", "4"},
    {"hidden_act", "\"silu\""},
    {"max_position_embeddings", "32768"},
    {"rms_norm_eps", "1e-06"},
    {"rope_theta", "1000000.0"},
    {"use_sliding_window", "false"},
    {"sliding_window", "131072"},
    {"max_window_layers", "28"},
    {"vocab_size", "152064"},
    {"tie_word_embeddings", "false"},
    {"torch_dtype", "\"bfloat16\""},
    {"eos_token_id", "151645"},
};
static const struct member qwen3[] = {
    {"model_type", "\"qwen3\""},
    {"architectures", "[\"Qwen3ForCausalLM\"]"},
    {"attention_bias", "false"},
    {"head_dim", "128"},
    {"hidden_size", "2560"},
    {"intermediate_size", "9728"},
    {"num_hidden_layers", "36"},
    {"num_attention_heads", "32"},
    {"num_key_value_heads", "8"},
    {"hidden_act", "\"silu\""},
    {"max_position_embeddings", "40960"},
    {"rms_norm_eps", "1e-06"},
    {"rope_theta", "1000000"},
    {"rope_scaling", "null"},
    {"sliding_window", "null"},
    {"vocab_size", "151936"},
    {"tie_word_embeddings", "true"},
};
static const struct member qwen_v1[] = {
    {"model_type", "\"qwen\""},
    {"architectures", "[\"QWenLMHeadModel\"]"},
    {"auto_map", "{\"AutoModelForCausalLM\": \"modeling_qwen.QWenLMHeadModel\"}"},
    {"hidden_size", "4096"},
    {"intermediate_size", "22016"},
    {"num_hidden_layers", "32"},
    {"num_attention_heads", "32"},
    {"kv_channels", "128"},
    {"layer_norm_epsilon", "1e-06"},
    {"max_position_embeddings", "32768"},
    {"seq_length", "8192"},
    {"rotary_emb_base", "10000"},
    {"rotary_pct", "1.0"},
    {"use_dynamic_ntk", "true"},
    {"use_logn_attn", "true"},
    {"no_bias", "true"},
    {"vocab_size", "151936"},
    {"tie_word_embeddings", "false"},
};
/* the oldest spelling */
static const struct member qwen_v1_old[] = {
    {"model_type", "\"qwen\""},
    {"n_embd", "4096"},
    {"n_layer", "32"},
    {"n_head", "32"},
    {"kv_channels", "128"},
    {"ffn_hidden_size", "22016"},
    {"layer_norm_epsilon", "1e-06"},
    {"n_positions", "6144"},
    {"seq_length", "2048"},
    {"rotary_emb_base", "10000"},
    {"use_dynamic_ntk", "true"},
    {"use_logn_attn", "true"},
    {"no_bias", "true"},
    {"padded_vocab_size", "151936"},
    {"vocab_size", "151851"},
};
static const struct member smollm2[] = {
    {"model_type", "\"llama\""},  {"architectures", "[\"LlamaForCausalLM\"]"},
    {"hidden_size", "576"},       {"intermediate_size", "1536"},
    {"num_hidden_layers", "30"},  {"num_attention_heads", "9"},
    {"num_key_value_heads", "3"}, {"max_position_embeddings", "8192"},
    {"rms_norm_eps", "1e-05"},    {"rope_theta", "100000"},
    {"vocab_size", "49152"},      {"tie_word_embeddings", "true"},
};

enum base { QWEN25, QWEN3, QWEN_V1, QWEN_V1_OLD, SMOLLM2 };
static const struct {
    const struct member *members;
    size_t n;
} bases[] = {
#define BASE(name)                                                                                 \
    { name, sizeof name / sizeof *name }
    [QWEN25] = BASE(qwen25),           [QWEN3] = BASE(qwen3),     [QWEN_V1] = BASE(qwen_v1),
    [QWEN_V1_OLD] = BASE(qwen_v1_old), [SMOLLM2] = BASE(smollm2),
};

/* The base with `key` set to `value`; value NULL leaves it out. */
static void compose(struct buf *out, enum base base, const char *key, const char *value) {
    const char *separator = "";
    buf_clear(out);
    buf_putc(out, '{');
    for (size_t i = 0; i < bases[base].n; i++) {
        const struct member *m = &bases[base].members[i];
        if (key && strcmp(key, m->key) == 0) continue;
        buf_printf(out, "%s\"%s\": %s", separator, m->key, m->value);
        separator = ", ";
    }
    if (key && value) buf_printf(out, "%s\"%s\": %s", separator, key, value);
    buf_putc(out, '}');
}

static int parse(struct model_config *c, const char *text, size_t n, struct err *err) {
    cJSON *json = json_parse(text, n, limits, err);
    if (!json) return -1;
    int result = model_config_from_json(c, json, err);
    cJSON_Delete(json);
    return result;
}

static struct model_config parse_with(enum base base, const char *key, const char *value) {
    struct model_config c;
    struct err err = {0};
    struct buf text = {0};
    compose(&text, base, key, value);
    if (parse(&c, text.data, text.n, &err) != 0) fail_msg("%s: %s", key ? key : "base", err.text);
    buf_release(&text);
    return c;
}

/* --- what published files say ---------------------------------------------------------------- */

static void test_qwen2(void **state) {
    (void)state;
    struct model_config c = parse_with(QWEN25, NULL, NULL);
    assert_string_equal(c.model_type, "qwen2");
    assert_int_equal(c.n_layers, 28);
    assert_int_equal(c.hidden, 3584);
    assert_int_equal(c.ffn, 18944);
    assert_int_equal(c.n_heads, 28);
    assert_int_equal(c.n_kv_heads, 4);
    assert_int_equal(c.head_size, 128);
    assert_int_equal(c.vocab, 152064);
    assert_true(c.has_qkv_bias && !c.has_o_bias && !c.has_qk_norm && !c.has_tied_head);
    assert_true(c.norm_eps == 1e-6f && c.rope_base == 1e6);
    assert_int_equal(c.rope_scaling, ROPE_PLAIN);
    assert_int_equal(c.sliding_window, 0);
    assert_int_equal(c.trained_tokens, 32768);
    assert_int_equal(c.max_tokens, 32768);
    assert_int_equal(c.logn_tokens, 0);
}

static void test_qwen3(void **state) {
    (void)state;
    struct model_config c = parse_with(QWEN3, NULL, NULL);
    assert_int_equal(c.head_size, 128); /* not hidden / heads, which is 80 */
    assert_true(!c.has_qkv_bias && !c.has_o_bias && c.has_qk_norm && c.has_tied_head);
    assert_int_equal(c.max_tokens, 40960);
    assert_int_equal(parse_with(QWEN3, "head_dim", NULL).head_size, 128);
    c = parse_with(QWEN3, "attention_bias", "true");
    assert_true(c.has_qkv_bias && c.has_o_bias);
}

static void test_qwen_v1(void **state) {
    (void)state;
    struct model_config c = parse_with(QWEN_V1, NULL, NULL);
    assert_int_equal(c.ffn, 11008);
    assert_int_equal(c.n_kv_heads, 32);
    assert_int_equal(c.rope_scaling, ROPE_DYNAMIC_NTK);
    assert_int_equal(c.rope_original_tokens, 8192);
    assert_int_equal(c.logn_tokens, 8192);
    assert_int_equal(c.trained_tokens, 8192);
    assert_int_equal(c.max_tokens, 32768);
    assert_true(c.has_qkv_bias && !c.has_o_bias);
    c = parse_with(QWEN_V1, "use_dynamic_ntk", "false");
    assert_int_equal(c.rope_scaling, ROPE_PLAIN);
    assert_int_equal(parse_with(QWEN_V1, "use_logn_attn", "false").logn_tokens, 0);
}

static void test_qwen_v1_old_spelling(void **state) {
    (void)state;
    struct model_config c = parse_with(QWEN_V1_OLD, NULL, NULL);
    assert_int_equal(c.hidden, 4096);
    assert_int_equal(c.n_layers, 32);
    assert_int_equal(c.n_heads, 32);
    assert_int_equal(c.ffn, 11008);
    assert_int_equal(c.vocab, 151936);
    assert_int_equal(c.trained_tokens, 2048);
    assert_int_equal(c.max_tokens, 6144);
}

static void test_llama(void **state) {
    (void)state;
    struct model_config c = parse_with(SMOLLM2, NULL, NULL);
    assert_int_equal(c.head_size, 64);
    assert_true(!c.has_qkv_bias && c.has_tied_head && !c.rope_interleaved);
    assert_true(c.norm_eps == 1e-5f && c.rope_base == 100000);
    assert_true(parse_with(SMOLLM2, "rope_theta", NULL).rope_base == 10000);
    assert_int_equal(parse_with(SMOLLM2, "num_key_value_heads", NULL).n_kv_heads, 9);
    c = parse_with(SMOLLM2, "attention_bias", "true");
    assert_true(c.has_qkv_bias && c.has_o_bias);
    c = parse_with(SMOLLM2, "rope_scaling",
                   "{\"rope_type\": \"llama3\", \"factor\": 32.0, \"low_freq_factor\": 1.0, "
                   "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}");
    assert_int_equal(c.rope_scaling, ROPE_LLAMA3);
    assert_int_equal(c.max_tokens, 8192);
}

/* transformers 5 writes other keys. */
static void test_new_spelling(void **state) {
    (void)state;
    static const char text[] =
        "{\"model_type\": \"qwen2\", \"dtype\": \"bfloat16\", \"hidden_size\": 64, "
        "\"intermediate_size\": 96, \"num_hidden_layers\": 3, \"num_attention_heads\": 4, "
        "\"num_key_value_heads\": 2, \"max_position_embeddings\": 512, \"vocab_size\": 300, "
        "\"layer_types\": [\"full_attention\", \"sliding_attention\", \"sliding_attention\"], "
        "\"use_sliding_window\": true, \"sliding_window\": 128, \"max_window_layers\": 1, "
        "\"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 500000.0, \"factor\": 4.0, "
        "\"original_max_position_embeddings\": 128}}";
    struct model_config c;
    struct err err = {0};
    if (parse(&c, text, sizeof text - 1, &err) != 0) fail_msg("%s", err.text);
    assert_true(c.rope_base == 500000 && c.rope_factor == 4);
    assert_int_equal(c.rope_scaling, ROPE_YARN);
    assert_int_equal(c.trained_tokens, 128);
    assert_int_equal(c.max_tokens, 512);
    assert_int_equal(c.sliding_window, 128);
    assert_int_equal(c.sliding_from_layer, 1);
}

static void test_lengths(void **state) {
    (void)state;
    /* Qwen2.5's documents: 32768 positions, factor 4: 131072 */
    struct model_config c = parse_with(
        QWEN25, "rope_scaling",
        "{\"type\": \"yarn\", \"factor\": 4.0, \"original_max_position_embeddings\": 32768}");
    assert_int_equal(c.trained_tokens, 32768);
    assert_int_equal(c.max_tokens, 131072);
    /* Qwen3: 40960 positions of which 32768 were trained; the written factor counts, not 1.25 */
    c = parse_with(QWEN3, "rope_scaling",
                   "{\"rope_type\": \"yarn\", \"factor\": 4.0, "
                   "\"original_max_position_embeddings\": 32768}");
    assert_int_equal(c.trained_tokens, 32768);
    assert_int_equal(c.max_tokens, 131072);
    assert_true(c.rope_factor == 4 && c.yarn_attention_factor == 0);
    c = parse_with(QWEN25, "rope_scaling", "{\"type\": \"linear\", \"factor\": 2.0}");
    assert_int_equal(c.trained_tokens, 32768);
    assert_int_equal(c.max_tokens, 65536);
}

static void test_window(void **state) {
    (void)state;
    static const char off[] = "\"use_sliding_window\": false",
                      on[] = "\"use_sliding_window\": true ";
    struct model_config c = parse_with(QWEN25, "max_window_layers", "20");
    struct buf text = {0};
    struct err err = {0};
    assert_int_equal(c.sliding_window, 0); /* use_sliding_window is false */
    compose(&text, QWEN25, "max_window_layers", "20");
    memcpy(strstr(text.data, off), on, sizeof on - 1);
    if (parse(&c, text.data, text.n, &err) != 0) fail_msg("%s", err.text);
    assert_int_equal(c.sliding_window, 131072);
    assert_int_equal(c.sliding_from_layer, 20);
    compose(&text, QWEN25, "max_window_layers", "28"); /* no layer is left for it */
    memcpy(strstr(text.data, off), on, sizeof on - 1);
    assert_int_equal(parse(&c, text.data, text.n, &err), 0);
    assert_int_equal(c.sliding_window, 0);
    buf_release(&text);
}

/* --- what must be refused -------------------------------------------------------------------- */

static const struct bad_case {
    enum base base;
    const char *key, *value, *part;
} bad_cases[] = {
    {QWEN25, "model_type", NULL, "model_type"},
    {QWEN25, "model_type", "7", "model_type"},
    {QWEN25, "model_type", "\"mamba\"", "state-space"},
    {QWEN25, "model_type", "\"qwen2_moe\"", "mixture of experts"},
    {QWEN25, "model_type", "\"qwen3_moe\"", "qwen, qwen2, qwen3 and llama"},
    {QWEN25, "model_type", "\"mixtral\"", "mixture of experts"},
    {QWEN25, "model_type", "\"qwen2_5_vl\"", "vision"},
    {QWEN25, "model_type", "\"qwen3_next\"", "linear attention"},
    {QWEN25, "model_type", "\"\\u001b[31mgpt2\"", "not supported"},
    {QWEN25, "architectures", "[\"Qwen2ForSequenceClassification\"]", "Qwen2ForCausalLM"},
    {QWEN25, "vision_config", "{}", "vision"},
    {QWEN25, "quantization_config", "{\"quant_method\": \"gptq\", \"bits\": 4}", "'gptq'"},
    {QWEN25, "quantization_config", "{\"quant_method\": \"awq\", \"bits\": 4}", "'awq'"},
    {QWEN25, "quantization_config", "{\"quant_method\": \"fp8\"}", "'fp8'"},
    {QWEN25, "quantization_config", "{\"bits\": 4}", "quantized"},
    {QWEN25, "quantization_config", "{\"quant_method\": 4}", "quant_method"},
    {QWEN25, "num_hidden_layers", "0", "num_hidden_layers"},
    {QWEN25, "num_hidden_layers", "1000000000", "512"},
    {QWEN25, "num_hidden_layers", "-1", "num_hidden_layers"},
    {QWEN25, "num_hidden_layers", "28.5", "num_hidden_layers"},
    {QWEN25, "num_hidden_layers", "\"28\"", "num_hidden_layers"},
    {QWEN25, "num_hidden_layers", NULL, "num_hidden_layers"},
    {QWEN25, "hidden_size", "0", "hidden_size"},
    {QWEN25, "hidden_size", "1e9", "hidden_size"},
    {QWEN25, "hidden_size", "null", "hidden_size"},
    {QWEN25, "intermediate_size", "0", "intermediate_size"},
    {QWEN25, "intermediate_size", "18446744073709551616", "intermediate_size"},
    {QWEN25, "num_attention_heads", "0", "num_attention_heads"},
    {QWEN25, "num_attention_heads", "100000", "num_attention_heads"},
    {QWEN25, "num_key_value_heads", "0", "num_key_value_heads"},
    {QWEN25, "num_key_value_heads", "3", "28 heads"},
    {QWEN25, "num_key_value_heads", "56", "28 heads"},
    {QWEN25, "head_dim", "127", "head size is 127"},
    {QWEN25, "head_dim", "1000000", "head_dim"},
    {QWEN25, "num_attention_heads", "512", "head size is 7"},
    {QWEN25, "num_attention_heads", "24", "hidden size 3584"},
    {QWEN25, "vocab_size", "0", "vocab_size"},
    {QWEN25, "vocab_size", "1", "vocab_size"},
    {QWEN25, "vocab_size", "2147483648", "vocab_size"},
    {QWEN25, "max_position_embeddings", "0", "max_position_embeddings"},
    {QWEN25, "max_position_embeddings", "9223372036854775808", "max_position_embeddings"},
    {QWEN25, "rms_norm_eps", "0", "rms_norm_eps"},
    {QWEN25, "rms_norm_eps", "-1", "rms_norm_eps"},
    {QWEN25, "rms_norm_eps", "1e400", "rms_norm_eps"},
    {QWEN25, "rms_norm_eps", "NaN", "line"},
    {QWEN25, "rope_theta", NULL, "rope_theta"},
    {QWEN3, "rope_theta", NULL, "rope_theta"},
    {QWEN25, "rope_theta", "0", "rope_theta"},
    {QWEN25, "rope_theta", "-1", "rope_theta"},
    {QWEN25, "rope_theta", "1e400", "rope_theta"},
    {QWEN25, "rope_theta", "Infinity", "line"},
    {QWEN25, "rope_theta", "[1]", "rope_theta"},
    {QWEN25, "rope_scaling", "{\"type\": \"longrope\"}", "longrope"},
    {QWEN25, "rope_scaling", "{\"type\": \"dynamic\", \"factor\": 2}", "dynamic"},
    {QWEN25, "rope_scaling", "\"yarn\"", "rope_scaling"},
    {QWEN25, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 0.5}", "factor"},
    {QWEN25, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 1e9}", "factor"},
    {QWEN25, "rope_scaling", "{\"type\": \"yarn\", \"factor\": \"4\"}", "factor"},
    {QWEN25, "rope_scaling", "{\"type\": \"yarn\", \"factor\": 4, \"beta_fast\": 0}", "beta_fast"},
    {QWEN25, "rope_scaling", "{\"type\": \"yarn\", \"original_max_position_embeddings\": 0}",
     "original_max_position_embeddings"},
    {QWEN25, "rope_scaling", "{\"type\": \"linear\", \"factor\": 0}", "factor"},
    {QWEN25, "rope_scaling",
     "{\"type\": \"llama3\", \"low_freq_factor\": 4, \"high_freq_factor\": 4}", "high_freq_factor"},
    {QWEN25, "partial_rotary_factor", "0.5", "partial_rotary_factor"},
    {QWEN25, "hidden_act", "\"gelu\"", "gelu"},
    {QWEN25, "mlp_bias", "true", "mlp_bias"},
    {QWEN25, "tie_word_embeddings", "\"yes\"", "tie_word_embeddings"},
    {QWEN25, "layer_types", "[\"full_attention\"]", "28 layers"},
    {QWEN25, "layer_types", "{}", "layer_types"},
    {QWEN_V1, "no_bias", "false", "no_bias"},
    {QWEN_V1, "rotary_pct", "0.25", "rotary_pct"},
    {QWEN_V1, "visual", "{\"heads\": 16}", "vision"},
    {QWEN_V1, "intermediate_size", "22017", "even"},
    {QWEN_V1, "intermediate_size", NULL, "intermediate_size"},
    {QWEN_V1, "seq_length", "0", "seq_length"},
    {QWEN_V1, "kv_channels", "129", "129"},
    {QWEN_V1, "kv_channels", "2", "head size of 4"},
    {QWEN_V1, "use_dynamic_ntk", "1", "use_dynamic_ntk"},
    {QWEN_V1_OLD, "n_embd", NULL, "hidden_size"},
    {QWEN_V1_OLD, "n_layer", "513", "n_layer"},
    {SMOLLM2, "mlp_bias", "true", "mlp_bias"},
};

static void test_bad_configs(void **state) {
    (void)state;
    struct buf text = {0};
    for (size_t i = 0; i < sizeof bad_cases / sizeof *bad_cases; i++) {
        const struct bad_case *b = &bad_cases[i];
        struct model_config c;
        struct err err = {0};
        compose(&text, b->base, b->key, b->value);
        if (parse(&c, text.data, text.n, &err) == 0)
            fail_msg("%s: %s was accepted", b->key, b->value ? b->value : "nothing");
        assert_sentence(b->key, &err, b->part);
        assert_int_equal(err.kind, ERR_MODEL);
    }
    buf_release(&text);
}

/* Whole texts that are no configuration at all. */
static void test_bad_texts(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "[]",
        "null",
        "7",
        "\"qwen2\"",
        "{",
        "{\"a\": 1,}",
        "{\"a\": 1} {}",
        "{'a': 1}",
        "{\"model_type\": \"qwen2\", \"model_type\": \"qwen2\"}",
        "{\"a\": \"\\u0000\"}",
        "{\"a\": \"\xff\"}",
        "{\"a\": 01}",
        "// x\n{}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct model_config c;
        struct err err = {0};
        assert_int_equal(parse(&c, texts[i], strlen(texts[i]), &err), -1);
        assert_sentence(texts[i], &err, "");
    }
}

/* --- damage ---------------------------------------------------------------------------------- */

/* Accepted or refused: what was accepted can be computed with. */
static void use(const char *data, size_t n) {
    struct model_config c;
    struct err err = {0};
    char *exact = malloc(n ? n : 1);
    float freq[MAX_HEAD_SIZE / 2], scale;
    memcpy(exact, data, n);
    if (parse(&c, exact, n, &err) != 0) {
        assert_sentence("damage", &err, "");
    } else {
        assert_int_equal(model_config_check(&c, &err), 0);
        rope_frequencies(&c, c.max_tokens, freq, &scale);
        for (int i = 0; i < c.head_size / 2; i++) assert_true(isfinite(freq[i]));
        assert_true(isfinite(scale) && rope_variant(&c, c.max_tokens) >= 0);
    }
    free(exact);
}

static void damage(enum base base) {
    static const unsigned char bytes[] = {0x00, 0x7F, 0x80, 0xFF};
    struct buf text = {0};
    compose(&text, base, NULL, NULL);
    for (size_t i = 0; i < text.n; i++) {
        char kept = text.data[i];
        use(text.data, i);
        for (int bit = 0; bit < 8; bit++) {
            text.data[i] = (char)(kept ^ 1 << bit);
            use(text.data, text.n);
        }
        for (size_t k = 0; k < sizeof bytes; k++) {
            text.data[i] = (char)bytes[k];
            use(text.data, text.n);
        }
        text.data[i] = kept;
    }
    buf_release(&text);
}

static void test_damage(void **state) {
    (void)state;
    for (int base = QWEN25; base <= SMOLLM2; base++) damage((enum base)base);
}

static void test_nasty_numbers(void **state) {
    (void)state;
    static const char *const values[] = {
        "0",          "1",          "-1",         "2147483647",           "2147483648",
        "2147483649", "4294967295", "4294967296", "9223372036854775807",  "9223372036854775808",
        "1e308",      "1e400",      "-0.0",       "18446744073709551615", "0.5",
    };
    struct buf text = {0};
    for (int base = QWEN25; base <= SMOLLM2; base++) {
        for (size_t m = 0; m < bases[base].n; m++) {
            for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
                compose(&text, (enum base)base, bases[base].members[m].key, values[v]);
                use(text.data, text.n);
            }
            compose(&text, (enum base)base, bases[base].members[m].key, NULL);
            use(text.data, text.n);
        }
    }
    buf_release(&text);
}

/* --- generation_config.json ------------------------------------------------------------------ */

static int generation(struct generation_defaults *g, const char *text, const char *config_text,
                      const struct model_config *c, struct err *err) {
    cJSON *json = text ? json_parse(text, strlen(text), limits, err) : NULL;
    cJSON *config = config_text ? json_parse(config_text, strlen(config_text), limits, err) : NULL;
    int result = text && !json ? -1 : generation_defaults_from_json(g, json, config, c, err);
    cJSON_Delete(json);
    cJSON_Delete(config);
    return result;
}

static void test_generation_file(void **state) {
    (void)state;
    struct model_config c = parse_with(QWEN25, NULL, NULL);
    struct generation_defaults g;
    struct err err = {0};
    assert_int_equal(generation(&g,
                                "{\"bos_token_id\": 151643, \"do_sample\": true, \"eos_token_id\": "
                                "[151645, 151643], \"repetition_penalty\": 1.05, \"temperature\": "
                                "0.7, \"top_k\": 20, \"top_p\": 0.8}",
                                NULL, &c, &err),
                     0);
    assert_true(g.is_from_file && g.do_sample);
    assert_true(g.temperature == 0.7f && g.top_p == 0.8f && g.repetition_penalty == 1.05f);
    assert_int_equal(g.top_k, 20);
    assert_int_equal(g.n_stop_ids, 2);
    assert_int_equal(g.stop_ids[0], 151645);
    assert_int_equal(g.stop_ids[1], 151643);
    /* a base model's file: greedy, transformers' defaults, one id */
    assert_int_equal(
        generation(&g, "{\"do_sample\": false, \"eos_token_id\": 151643}", NULL, &c, &err), 0);
    assert_true(!g.do_sample && g.temperature == 1 && g.top_p == 1 && g.repetition_penalty == 1);
    assert_int_equal(g.top_k, 50);
    assert_int_equal(g.n_stop_ids, 1);
    /* ids from config.json where the file has none, then the family's */
    assert_int_equal(generation(&g, "{}", "{\"eos_token_id\": 7}", &c, &err), 0);
    assert_int_equal(g.n_stop_ids, 1);
    assert_int_equal(g.stop_ids[0], 7);
    assert_int_equal(generation(&g, "{}", "{}", &c, &err), 0);
    assert_int_equal(g.n_stop_ids, 2);
}

static void test_generation_of_families(void **state) {
    (void)state;
    struct model_config c = parse_with(QWEN25, NULL, NULL);
    struct generation_defaults g;
    struct err err = {0};
    assert_int_equal(generation(&g, NULL, NULL, &c, &err), 0);
    assert_true(!g.is_from_file && g.do_sample && g.temperature == 0.7f && g.top_p == 0.8f);
    assert_int_equal(g.top_k, 20);
    assert_int_equal(g.stop_ids[0], 151645);
    c = parse_with(QWEN3, NULL, NULL);
    assert_int_equal(generation(&g, NULL, NULL, &c, &err), 0);
    assert_true(g.temperature == 0.6f && g.top_p == 0.95f && g.repetition_penalty == 1);
    c = parse_with(QWEN_V1, NULL, NULL);
    assert_int_equal(generation(&g, NULL, NULL, &c, &err), 0);
    assert_true(g.temperature == 1 && g.repetition_penalty == 1.1f);
    assert_int_equal(g.top_k, 0);
    assert_int_equal(g.n_stop_ids, 3);
    c = parse_with(SMOLLM2, NULL, NULL);
    assert_int_equal(generation(&g, NULL, "{\"eos_token_id\": 2}", &c, &err), 0);
    assert_int_equal(g.n_stop_ids, 1);
    assert_int_equal(g.stop_ids[0], 2);
    assert_true(g.temperature == 0 && g.repetition_penalty == 1.05f);
}

/* v1 lists only <|endoftext|>; its own code stops a chat at the ChatML tokens too. */
static void test_generation_v1(void **state) {
    (void)state;
    struct model_config c = parse_with(QWEN_V1, NULL, NULL);
    struct generation_defaults g;
    struct err err = {0};
    assert_int_equal(
        generation(&g,
                   "{\"chat_format\": \"chatml\", \"eos_token_id\": 151643, \"top_k\": 0, "
                   "\"top_p\": 0.8, \"do_sample\": true, \"max_window_size\": 24000}",
                   NULL, &c, &err),
        0);
    assert_string_equal(g.chat_format, "chatml");
    assert_int_equal(g.n_stop_ids, 3);
    assert_int_equal(g.top_k, 0);
    assert_int_equal(
        generation(&g, "{\"chat_format\": \"raw\", \"eos_token_id\": 151643}", NULL, &c, &err), 0);
    assert_int_equal(g.n_stop_ids, 1);
}

static void test_bad_generation(void **state) {
    (void)state;
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"[]", "object"},
        {"{\"temperature\": -1}", "temperature"},
        {"{\"temperature\": \"hot\"}", "temperature"},
        {"{\"temperature\": 1e400}", "temperature"},
        {"{\"top_p\": 1.5}", "top_p"},
        {"{\"min_p\": 2}", "min_p"},
        {"{\"top_k\": -1}", "top_k"},
        {"{\"top_k\": 1.5}", "top_k"},
        {"{\"repetition_penalty\": 0}", "repetition_penalty"},
        {"{\"do_sample\": 1}", "do_sample"},
        {"{\"eos_token_id\": -1}", "eos_token_id"},
        {"{\"eos_token_id\": 152064}", "152064"},
        {"{\"eos_token_id\": \"x\"}", "eos_token_id"},
        {"{\"eos_token_id\": [1, \"x\"]}", "eos_token_id"},
        {"{\"eos_token_id\": 1.5}", "eos_token_id"},
        {"{\"eos_token_id\": 4294967296}", "eos_token_id"},
        {"{\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}", "16"},
        {"{\"chat_format\": \"a name that is far too long\"}", "chat_format"},
        {"{\"chat_format\": 1}", "chat_format"},
    };
    struct model_config c = parse_with(QWEN25, NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct generation_defaults g;
        struct err err = {0};
        if (generation(&g, cases[i].text, NULL, &c, &err) == 0)
            fail_msg("accepted %s", cases[i].text);
        assert_sentence(cases[i].text, &err, cases[i].part);
    }
}

/* --- rotary frequencies ---------------------------------------------------------------------- */

/* The line that ends at the next newline; *at moves behind it. */
static char *next_line(char **at) {
    char *line = *at, *end = strchr(line, '\n');
    if (!end) fail_msg("the golden file ends early");
    *end = '\0';
    *at = end + 1;
    return line;
}

static void check_rope_case(const char *name, const char *config, char *numbers, char *line) {
    struct model_config c;
    struct err err = {0};
    float freq[MAX_HEAD_SIZE / 2], scale;
    if (parse(&c, config, strlen(config), &err) != 0) fail_msg("%s: %s", name, err.text);
    int n_prompt = (int)strtol(numbers, &numbers, 10);
    double wanted_scale = strtod(numbers, NULL);
    rope_frequencies(&c, n_prompt, freq, &scale);
    if (fabs((double)scale - wanted_scale) > 1e-6)
        fail_msg("%s: factor %g, not %g", name, (double)scale, wanted_scale);
    for (int i = 0; i < c.head_size / 2; i++) {
        double wanted = strtod(line, &line);
        if (fabs((double)freq[i] - wanted) > 1e-6 * wanted)
            fail_msg("%s: frequency %d is %.9g, not %.9g", name, i, (double)freq[i], wanted);
    }
    assert_int_equal(strspn(line, " \n"), strlen(line)); /* as many numbers as pairs */
}

static void test_golden_rope(void **state) {
    (void)state;
    struct buf text = {0};
    struct err err = {0};
    if (io_read_file("tests/golden/rope/rope.txt", 1 << 20, &text, &err) != 0)
        fail_msg("%s", err.text);
    int n_cases = 0;
    for (char *at = text.data; *at; n_cases++) {
        char *name = next_line(&at), *config = next_line(&at), *numbers = next_line(&at);
        check_rope_case(name, config, numbers, next_line(&at));
    }
    assert_int_equal(n_cases, 25);
    buf_release(&text);
}

static void test_rope_variants(void **state) {
    (void)state;
    struct model_config c = parse_with(QWEN_V1, "seq_length", "2048");
    static const struct {
        int n_prompt, variant;
    } cases[] = {{0, 0},    {1, 0},    {2048, 0}, {2049, 1},      {4096, 1},
                 {4097, 2}, {8192, 2}, {8193, 3}, {INT32_MAX, 20}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(rope_variant(&c, cases[i].n_prompt), cases[i].variant);
    c = parse_with(QWEN25, NULL, NULL);
    assert_int_equal(rope_variant(&c, 1 << 20), 0);
}

static void test_rope_divisors(void **state) {
    (void)state;
    struct model_config c = parse_with(SMOLLM2, NULL, NULL), plain = c;
    float freq[MAX_HEAD_SIZE / 2], plain_freq[MAX_HEAD_SIZE / 2], scale;
    c.rope_scaling = ROPE_DIVISORS;
    for (int i = 0; i < c.head_size / 2; i++) c.rope_divisors[i] = i < 16 ? 1 : 8;
    rope_frequencies(&c, 1, freq, &scale);
    rope_frequencies(&plain, 1, plain_freq, &scale);
    assert_true(freq[15] == plain_freq[15] && freq[16] == plain_freq[16] / 8 && scale == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_qwen2),           cmocka_unit_test(test_qwen3),
        cmocka_unit_test(test_qwen_v1),         cmocka_unit_test(test_qwen_v1_old_spelling),
        cmocka_unit_test(test_llama),           cmocka_unit_test(test_new_spelling),
        cmocka_unit_test(test_lengths),         cmocka_unit_test(test_window),
        cmocka_unit_test(test_bad_configs),     cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_damage),          cmocka_unit_test(test_nasty_numbers),
        cmocka_unit_test(test_generation_file), cmocka_unit_test(test_generation_of_families),
        cmocka_unit_test(test_generation_v1),   cmocka_unit_test(test_bad_generation),
        cmocka_unit_test(test_golden_rope),     cmocka_unit_test(test_rope_variants),
        cmocka_unit_test(test_rope_divisors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
