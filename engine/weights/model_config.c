/*
 * config.json to facts. What differs between families stands in one table row each; the keys of
 * sizes stand in two tables, for v1 (both of its spellings) and for the rest.
 * Sources: configuration_qwen.py of the v1 checkpoints; configuration_{qwen2,qwen3,llama}.py and
 * modeling_rope_utils.py of huggingface/transformers.
 */
#include "engine/weights/model_config_parts.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct family {
    const char *model_type, *architecture;
    bool is_v1;
    bool has_qkv_bias, has_qk_norm;
    bool reads_attention_bias; /* the key gives q, k, v and o their biases */
    int head_size;             /* where head_dim is absent; 0: hidden / heads */
    double rope_base;          /* where rope_theta is absent; 0: it must be there */
} families[] = {
    {"qwen", "QWenLMHeadModel", true, true, false, false, 0, 10000},
    {"qwen2", "Qwen2ForCausalLM", false, true, false, false, 0, 0},
    {"qwen3", "Qwen3ForCausalLM", false, false, true, true, 128, 0},
    {"llama", "LlamaForCausalLM", false, false, false, true, 0, 10000},
};

/* Known by name, so that the refusal can say why. Keys as in config.json and as GGUF has them. */
static const struct {
    const char *part, *what;
} refused_types[] = {
    {"moe", "a mixture of experts"}, {"mixtral", "a mixture of experts"},
    {"vl", "a vision model"},        {"vision", "a vision model"},
    {"audio", "an audio model"},     {"omni", "a model of speech and pictures"},
    {"next", "linear attention"},    {"qwen3_5", "linear attention"},
    {"qwen35", "linear attention"},  {"mamba", "a state-space model"},
    {"bert", "an encoder"},          {"clip", "a vision model"},
};

static const struct model_limit limits[] = {
#define LIMIT(field, what, min, max) {offsetof(struct model_config, field), what, min, max},
    LIMIT(n_layers, "layers", 1, 512) LIMIT(hidden, "hidden size", 1,
                                            1 << 16) LIMIT(ffn, "feed-forward size", 1, 1 << 20)
        LIMIT(n_heads, "heads", 1, 1024) LIMIT(n_kv_heads, "key/value heads", 1, 1024)
            LIMIT(head_size, "head size", 2, MAX_HEAD_SIZE) LIMIT(vocab, "vocabulary", 2, 1 << 21)
                LIMIT(trained_tokens, "context length", 1, 1 << 27)
                    LIMIT(max_tokens, "context length", 1, 1 << 30)
#undef LIMIT
};

const struct model_limit *model_limit(size_t offset) {
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].offset == offset) return &limits[i];
    bug("no limit for the field at %zu", offset);
}

int model_config_refuse_type(const char *model_type, struct err *err) {
    const char *what = "an architecture of its own";
    for (size_t i = 0; i < sizeof refused_types / sizeof *refused_types; i++)
        if (strstr(model_type, refused_types[i].part)) what = refused_types[i].what;
    return err_set(err, ERR_MODEL,
                   "model type '%.40s' (%s) is not supported; qwen, qwen2, qwen3 and llama are",
                   model_type, what);
}

static int find_family(const cJSON *json, const struct family **out, struct err *err) {
    const char *type;
    if (json_string(json, "model_type", NULL, &type, err) != 0) return -1;
    if (!type)
        return err_set(err, ERR_MODEL,
                       "\"model_type\" must be qwen, qwen2, qwen3 or llama, found "
                       "nothing");
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        *out = &families[i];
        if (strcmp(type, families[i].model_type) == 0) return 0;
    }
    return model_config_refuse_type(type, err);
}

/* What the folder holds is a causal language model, unquantized and without a vision tower. */
static int check_kind(const cJSON *json, const struct family *family, struct err *err) {
    const cJSON *architectures = json_get(json, "architectures");
    const cJSON *first = cJSON_IsArray(architectures) ? architectures->child : NULL;
    if (cJSON_IsString(first) && strcmp(first->valuestring, family->architecture) != 0)
        return err_set(err, ERR_MODEL, "\"architectures\" is %.60s, for %s only %s is supported",
                       first->valuestring, family->model_type, family->architecture);
    if (json_get(json, "visual") || json_get(json, "vision_config"))
        return err_set(err, ERR_MODEL,
                       "this is a vision model; text models of qwen, qwen2, qwen3 "
                       "and llama are supported");
    const cJSON *quantization = json_get(json, "quantization_config");
    if (!quantization) return 0;
    const char *method = "unnamed";
    if (json_string(quantization, "quant_method", method, &method, err) != 0) return -1;
    return err_set(err, ERR_MODEL,
                   "the weights are quantized (quantization_config: quant_method '%.40s'), which "
                   "this version does not read; use the model's unquantized folder or a GGUF file",
                   method);
}

/* --- sizes ----------------------------------------------------------------------------------- */

struct size_key {
    size_t offset;
    const char *key, *other; /* the first of the two that is there */
};
#define FIELD(field) offsetof(struct model_config, field)

static const struct size_key v1_sizes[] = {
    {FIELD(hidden), "hidden_size", "n_embd"},
    {FIELD(n_layers), "num_hidden_layers", "n_layer"},
    {FIELD(n_heads), "num_attention_heads", "n_head"},
    {FIELD(trained_tokens), "max_position_embeddings", "n_positions"},
    {FIELD(vocab), "padded_vocab_size", "vocab_size"},
};

static const struct size_key hf_sizes[] = {
    {FIELD(hidden), "hidden_size", NULL},
    {FIELD(ffn), "intermediate_size", NULL},
    {FIELD(n_layers), "num_hidden_layers", NULL},
    {FIELD(n_heads), "num_attention_heads", NULL},
    {FIELD(trained_tokens), "max_position_embeddings", NULL},
    {FIELD(vocab), "vocab_size", NULL},
};

static const char *present_key(const cJSON *json, const char *key, const char *other) {
    return other && !json_get(json, key) && json_get(json, other) ? other : key;
}

static int read_sizes(struct model_config *c, const cJSON *json, const struct size_key *keys,
                      size_t n, struct err *err) {
    for (size_t i = 0; i < n; i++) {
        const struct model_limit *limit = model_limit(keys[i].offset);
        uint64_t value;
        if (json_need_u64(json, present_key(json, keys[i].key, keys[i].other), (uint64_t)limit->min,
                          (uint64_t)limit->max, &value, err) != 0)
            return -1;
        *(int *)((char *)c + keys[i].offset) = (int)value;
    }
    return 0;
}

/* An optional int; `fallback` where it is absent. */
static int read_int(const cJSON *json, const char *key, uint64_t min, uint64_t max, int fallback,
                    int *out, struct err *err) {
    uint64_t value;
    if (json_u64(json, key, min, max, (uint64_t)fallback, &value, err) != 0) return -1;
    *out = (int)value;
    return 0;
}

static int read_eps(struct model_config *c, const cJSON *json, const char *key, struct err *err) {
    double eps;
    if (json_f64(json, key, 1e-12, 0.1, 1e-6, &eps, err) != 0) return -1;
    c->norm_eps = (float)eps;
    return 0;
}

/* A key that may be there, but must have the one value that this program computes. */
static int check_bool(const cJSON *json, const char *key, bool needed, struct err *err) {
    bool value;
    if (json_bool(json, key, needed, &value, err) != 0) return -1;
    if (value == needed) return 0;
    return err_set(err, ERR_MODEL, "\"%s\" is %s, only %s is supported", key,
                   value ? "true" : "false", needed ? "true" : "false");
}

static int check_one(const cJSON *json, const char *key, struct err *err) {
    double value;
    if (json_f64(json, key, 0, 1e6, 1, &value, err) != 0) return -1;
    if (value == 1) return 0;
    return err_set(err, ERR_MODEL, "\"%s\" is %g, only 1 is supported", key, value);
}

int model_config_imply_head_size(const struct model_config *c, int *out, struct err *err) {
    *out = c->hidden / c->n_heads;
    if (c->hidden % c->n_heads == 0) return 0;
    return err_set(err, ERR_MODEL, "the hidden size %d does not divide into %d heads", c->hidden,
                   c->n_heads);
}

/* The head size under `key`, else `fallback`, else (0) the implied one. */
static int read_head_size(struct model_config *c, const cJSON *json, const char *key, int fallback,
                          struct err *err) {
    if (!json_get(json, key) && fallback == 0)
        return model_config_imply_head_size(c, &c->head_size, err);
    return read_int(json, key, 2, MAX_HEAD_SIZE, fallback, &c->head_size, err);
}

/* --- v1 -------------------------------------------------------------------------------------- */

static int read_v1_rope(struct model_config *c, const cJSON *json, struct err *err) {
    bool has_ntk, has_logn;
    int seq_length;
    const char *base = present_key(json, "rotary_emb_base", "rope_theta");
    if (json_f64(json, base, 1, 1e12, 10000, &c->rope_base, err) != 0 ||
        check_one(json, "rotary_pct", err) != 0 ||
        json_bool(json, "use_dynamic_ntk", false, &has_ntk, err) != 0 ||
        json_bool(json, "use_logn_attn", false, &has_logn, err) != 0 ||
        read_int(json, "seq_length", 2, 1 << 27, c->trained_tokens, &seq_length, err) != 0)
        return -1;
    c->max_tokens = c->trained_tokens > seq_length ? c->trained_tokens : seq_length;
    c->trained_tokens = seq_length;
    c->rope_scaling = has_ntk ? ROPE_DYNAMIC_NTK : ROPE_PLAIN;
    c->rope_original_tokens = has_ntk ? seq_length : 0;
    c->logn_tokens = has_logn ? seq_length : 0;
    return 0;
}

static int read_v1(struct model_config *c, const cJSON *json, struct err *err) {
    uint64_t ffn;
    const uint64_t max_ffn = 2 * (uint64_t)model_limit(FIELD(ffn))->max;
    if (read_sizes(c, json, v1_sizes, sizeof v1_sizes / sizeof *v1_sizes, err) != 0 ||
        json_need_u64(json, present_key(json, "intermediate_size", "ffn_hidden_size"), 2, max_ffn,
                      &ffn, err) != 0 ||
        read_head_size(c, json, "kv_channels", 0, err) != 0 ||
        read_eps(c, json, "layer_norm_epsilon", err) != 0 ||
        check_bool(json, "no_bias", true, err) != 0 ||
        json_bool(json, "tie_word_embeddings", false, &c->has_tied_head, err) != 0)
        return -1;
    if (ffn % 2 != 0)
        return err_set(err, ERR_MODEL, "intermediate_size is %llu, an even number is needed",
                       (unsigned long long)ffn);
    c->ffn = (int)(ffn / 2); /* the config counts w1 and w2 together */
    c->n_kv_heads = c->n_heads;
    return read_v1_rope(c, json, err);
}

/* --- qwen2, qwen3, llama --------------------------------------------------------------------- */

/* An explicit attention_factor, or DeepSeek's two factors; 0 leaves the paper's formula. */
static int read_yarn_attention(struct model_config *c, const cJSON *rope, struct err *err) {
    double scale, all_dim;
    if (json_f64(rope, "attention_factor", 1e-3, 1e3, 0, &c->yarn_attention_factor, err) != 0 ||
        json_f64(rope, "mscale", 0, 1e3, 0, &scale, err) != 0 ||
        json_f64(rope, "mscale_all_dim", 0, 1e3, 0, &all_dim, err) != 0)
        return -1;
    if (c->yarn_attention_factor == 0 && scale != 0 && all_dim != 0)
        c->yarn_attention_factor =
            (0.1 * scale * log(c->rope_factor) + 1) / (0.1 * all_dim * log(c->rope_factor) + 1);
    return 0;
}

static int read_yarn(struct model_config *c, const cJSON *rope, struct err *err) {
    bool truncates;
    double implied = (double)c->trained_tokens / c->rope_original_tokens;
    double fallback = implied < 1 ? 1 : implied;
    c->rope_scaling = ROPE_YARN;
    if (json_f64(rope, "factor", 1, 1e4, fallback, &c->rope_factor, err) != 0 ||
        json_f64(rope, "beta_fast", 1e-3, 1e6, 32, &c->yarn_beta_fast, err) != 0 ||
        json_f64(rope, "beta_slow", 1e-3, 1e6, 1, &c->yarn_beta_slow, err) != 0 ||
        json_bool(rope, "truncate", true, &truncates, err) != 0)
        return -1;
    c->yarn_is_exact = !truncates;
    return read_yarn_attention(c, rope, err);
}

static int read_linear(struct model_config *c, const cJSON *rope, struct err *err) {
    c->rope_scaling = ROPE_LINEAR;
    return json_f64(rope, "factor", 1, 1e4, 1, &c->rope_factor, err);
}

static int read_llama3(struct model_config *c, const cJSON *rope, struct err *err) {
    c->rope_scaling = ROPE_LLAMA3;
    if (json_f64(rope, "factor", 1, 1e4, 8, &c->rope_factor, err) != 0 ||
        json_f64(rope, "low_freq_factor", 1e-3, 1e4, 1, &c->llama3_low_freq, err) != 0 ||
        json_f64(rope, "high_freq_factor", 1e-3, 1e4, 4, &c->llama3_high_freq, err) != 0)
        return -1;
    if (c->llama3_high_freq > c->llama3_low_freq) return 0;
    return err_set(err, ERR_MODEL,
                   "high_freq_factor is %g, more than low_freq_factor's %g is needed",
                   c->llama3_high_freq, c->llama3_low_freq);
}

static int read_default(struct model_config *c, const cJSON *rope, struct err *err) {
    (void)rope;
    (void)err;
    c->rope_scaling = ROPE_PLAIN;
    return 0;
}

static const struct {
    const char *name;
    int (*read)(struct model_config *, const cJSON *, struct err *);
} rope_types[] = {
    {"default", read_default},
    {"linear", read_linear},
    {"yarn", read_yarn},
    {"llama3", read_llama3},
};

/* rope_parameters (transformers 5) or rope_scaling; rope_theta stands in the first or beside. */
static int read_rope(struct model_config *c, const cJSON *json, const struct family *family,
                     struct err *err) {
    const char *key = present_key(json, "rope_parameters", "rope_scaling"), *type;
    const cJSON *rope = json_get(json, key);
    if (rope && !cJSON_IsObject(rope))
        return err_set(err, ERR_MODEL, "\"%s\" must be an object", key);
    const cJSON *with_base = json_get(rope, "rope_theta") ? rope : json;
    if (!json_get(with_base, "rope_theta") && family->rope_base == 0)
        return err_set(err, ERR_MODEL, "\"rope_theta\" is missing, which %s needs",
                       family->model_type);
    if (json_f64(with_base, "rope_theta", 1, 1e12, family->rope_base, &c->rope_base, err) != 0 ||
        json_string(rope, present_key(rope, "rope_type", "type"), "default", &type, err) != 0 ||
        check_one(json, "partial_rotary_factor", err) != 0 ||
        check_one(rope, "partial_rotary_factor", err) != 0 ||
        read_int(rope, "original_max_position_embeddings", 1, 1 << 27, c->trained_tokens,
                 &c->rope_original_tokens, err) != 0)
        return -1;
    for (size_t i = 0; i < sizeof rope_types / sizeof *rope_types; i++)
        if (strcmp(type, rope_types[i].name) == 0) return rope_types[i].read(c, rope, err);
    return err_set(err, ERR_MODEL,
                   "\"%s\" is of type '%.40s'; default, linear, yarn and llama3 are supported", key,
                   type);
}

void model_config_set_lengths(struct model_config *c, int positions) {
    double scaled = positions;
    c->trained_tokens = positions;
    if (c->rope_scaling == ROPE_LINEAR) scaled = positions * c->rope_factor;
    if (c->rope_scaling == ROPE_YARN) {
        /* checkpoints differ in whether max_position_embeddings counts the extension already */
        c->trained_tokens = c->rope_original_tokens;
        scaled = fmax(positions, c->rope_original_tokens * c->rope_factor);
    }
    c->max_tokens = scaled < model_limit(FIELD(max_tokens))->max
                        ? (int)scaled
                        : model_limit(FIELD(max_tokens))->max;
}

/* layer_types (transformers 5): full attention below some layer, sliding from there on. */
static int read_layer_types(struct model_config *c, const cJSON *types, int *first,
                            struct err *err) {
    if (!cJSON_IsArray(types) || cJSON_GetArraySize(types) != c->n_layers)
        return err_set(err, ERR_MODEL, "\"layer_types\" must list %d layers", c->n_layers);
    int layer = 0;
    *first = c->n_layers;
    for (const cJSON *item = types->child; item; item = item->next, layer++) {
        const char *type = cJSON_IsString(item) ? item->valuestring : "(no string)";
        bool is_sliding = strcmp(type, "sliding_attention") == 0;
        if (is_sliding && *first == c->n_layers) *first = layer;
        if (is_sliding || (strcmp(type, "full_attention") == 0 && *first == c->n_layers)) continue;
        return err_set(err, ERR_MODEL,
                       "\"layer_types\" has '%.40s' at layer %d; full_attention, then "
                       "sliding_attention to the end is supported",
                       type, layer);
    }
    return 0;
}

/* Only with use_sliding_window, and then only from max_window_layers on. Llama has none. */
static int read_window(struct model_config *c, const cJSON *json, struct err *err) {
    bool is_used;
    int window, first;
    if (json_bool(json, "use_sliding_window", false, &is_used, err) != 0 ||
        read_int(json, "sliding_window", 0, 1 << 27, 4096, &window, err) != 0 ||
        read_int(json, "max_window_layers", 0, 1 << 16, 28, &first, err) != 0)
        return -1;
    const cJSON *types = json_get(json, "layer_types");
    if (types && read_layer_types(c, types, &first, err) != 0) return -1;
    if (!is_used || first >= c->n_layers) return 0;
    if (window == 0)
        return err_set(err, ERR_MODEL, "\"sliding_window\" is 0, but use_sliding_window is true");
    c->sliding_window = window;
    c->sliding_from_layer = first;
    return 0;
}

static int read_biases(struct model_config *c, const cJSON *json, const struct family *family,
                       struct err *err) {
    bool has_bias = false;
    if (check_bool(json, "mlp_bias", false, err) != 0) return -1;
    if (family->reads_attention_bias &&
        json_bool(json, "attention_bias", false, &has_bias, err) != 0)
        return -1;
    c->has_qkv_bias = family->has_qkv_bias || has_bias;
    c->has_o_bias = has_bias;
    return 0;
}

static int read_hf(struct model_config *c, const cJSON *json, const struct family *family,
                   struct err *err) {
    const char *act;
    if (read_sizes(c, json, hf_sizes, sizeof hf_sizes / sizeof *hf_sizes, err) != 0) return -1;
    if (read_int(json, "num_key_value_heads", 1, 1024, c->n_heads, &c->n_kv_heads, err) != 0 ||
        read_head_size(c, json, "head_dim", family->head_size, err) != 0 ||
        read_eps(c, json, "rms_norm_eps", err) != 0 ||
        json_string(json, "hidden_act", "silu", &act, err) != 0 ||
        json_bool(json, "tie_word_embeddings", false, &c->has_tied_head, err) != 0)
        return -1;
    if (strcmp(act, "silu") != 0)
        return err_set(err, ERR_MODEL, "\"hidden_act\" is '%.40s', only silu is supported", act);
    if (read_biases(c, json, family, err) != 0 || read_rope(c, json, family, err) != 0 ||
        read_window(c, json, err) != 0)
        return -1;
    model_config_set_lengths(c, c->trained_tokens);
    return 0;
}

/* --- the whole ------------------------------------------------------------------------------- */

int model_config_from_json(struct model_config *c, const cJSON *json, struct err *err) {
    const struct family *family;
    *c = (struct model_config){0};
    if (!cJSON_IsObject(json)) return err_set(err, ERR_MODEL, "must be a JSON object");
    if (find_family(json, &family, err) != 0 || check_kind(json, family, err) != 0) return -1;
    snprintf(c->model_type, sizeof c->model_type, "%s", family->model_type);
    c->has_qkv_bias = family->has_qkv_bias;
    c->has_qk_norm = family->has_qk_norm;
    int result = family->is_v1 ? read_v1(c, json, err) : read_hf(c, json, family, err);
    return result != 0 ? -1 : model_config_check(c, err);
}

static int check_rope(const struct model_config *c, struct err *err) {
    if (!(c->rope_base >= 1 && c->rope_base <= 1e12))
        return err_set(err, ERR_MODEL, "the rotary base is %g, from 1 to 1e12 is allowed",
                       c->rope_base);
    if (c->rope_scaling == ROPE_YARN && !(c->rope_base > 1))
        return err_set(err, ERR_MODEL, "YaRN needs a rotary base above 1, found %g", c->rope_base);
    if (c->rope_scaling == ROPE_DYNAMIC_NTK && c->head_size < 4)
        return err_set(err, ERR_MODEL, "dynamic NTK needs a head size of 4 or more, found %d",
                       c->head_size);
    if (c->rope_scaling == ROPE_PLAIN || c->rope_scaling == ROPE_DIVISORS) return 0;
    if (c->rope_scaling != ROPE_LINEAR && c->rope_original_tokens < 1)
        return err_set(err, ERR_MODEL, "the original context length is %d, 1 or more is needed",
                       c->rope_original_tokens);
    if (c->rope_scaling != ROPE_DYNAMIC_NTK && !(c->rope_factor >= 1 && c->rope_factor <= 1e4))
        return err_set(err, ERR_MODEL,
                       "the rotary scaling factor is %g, from 1 to 10000 is allowed",
                       c->rope_factor);
    return 0;
}

int model_config_check(const struct model_config *c, struct err *err) {
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        int value;
        memcpy(&value, (const char *)c + limits[i].offset, sizeof value);
        if (value < limits[i].min || value > limits[i].max)
            return err_set(err, ERR_MODEL, "the %s is %d, from %d to %d is allowed", limits[i].what,
                           value, limits[i].min, limits[i].max);
    }
    if (c->n_heads % c->n_kv_heads != 0)
        return err_set(err, ERR_MODEL, "%d heads cannot share %d key/value heads evenly",
                       c->n_heads, c->n_kv_heads);
    if (c->head_size % 2 != 0)
        return err_set(err, ERR_MODEL, "the head size is %d, an even one is needed for rotation",
                       c->head_size);
    if (!(c->norm_eps > 0 && c->norm_eps <= 0.1f))
        return err_set(err, ERR_MODEL, "the norm's epsilon is %g, above 0 to 0.1 is allowed",
                       (double)c->norm_eps);
    return check_rope(c, err);
}
