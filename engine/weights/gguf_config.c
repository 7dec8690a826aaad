/*
 * Keys are "<architecture>.<name>". Sources: the GGUF specification, and for what is implied where
 * a key is absent the format's reference reader: head_count_kv = head_count, key_length =
 * embedding_length / head_count, rope.freq_base = 10000.
 */
#include "engine/weights/gguf_config.h"

#include "engine/base/mem.h"
#include "engine/weights/model_config_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* What an architecture's name implies; the rest is in the metadata and the tensors. */
static const struct {
    const char *name;
    bool rope_interleaved; /* the converter permutes rows of q and k */
    bool has_qk_norm;
    bool has_half_ffn; /* feed_forward_length counts w1 and w2 together, as v1's config does */
} architectures[] = {
    {"qwen", false, false, true},
    {"qwen2", false, false, false},
    {"qwen3", false, true, false},
    {"llama", true, false, false},
};

enum { N_ARCHITECTURES = sizeof architectures / sizeof *architectures };

struct reader {
    const struct gguf *g;
    const struct tensor_list *tensors;
    struct model_config *c;
    int architecture;
    char key[96];
    struct err *err;
};

static const char *key_of(struct reader *r, const char *name) {
    snprintf(r->key, sizeof r->key, "%s.%s", architectures[r->architecture].name, name);
    return r->key;
}

static int find_architecture(struct reader *r) {
    struct gguf_string type, name;
    if (gguf_text(r->g, "general.type", &type, r->err) != 0 ||
        gguf_text(r->g, "general.architecture", &name, r->err) != 0)
        return -1;
    if (type.data && !gguf_string_is(&type, "model"))
        return err_set(r->err, ERR_MODEL,
                       "%.160s: holds a '%.*s' (general.type), not a language model", r->g->name,
                       (int)(type.n < 40 ? type.n : 40), type.data);
    if (!name.data)
        return err_set(r->err, ERR_MODEL, "%.160s: general.architecture is missing", r->g->name);
    for (r->architecture = 0; r->architecture < N_ARCHITECTURES; r->architecture++)
        if (gguf_string_is(&name, architectures[r->architecture].name)) return 0;
    char text[41];
    snprintf(text, sizeof text, "%.*s", (int)(name.n < 40 ? name.n : 40), name.data);
    model_config_refuse_type(text, r->err);
    return err_within(r->err, "%.160s", r->g->name);
}

/* --- sizes ----------------------------------------------------------------------------------- */

#define FIELD(field) offsetof(struct model_config, field)

static const struct {
    size_t offset;
    const char *name;
} sizes[] = {
    {FIELD(n_layers), "block_count"},
    {FIELD(hidden), "embedding_length"},
    {FIELD(n_heads), "attention.head_count"},
    {FIELD(trained_tokens), "context_length"},
};

static int read_int(struct reader *r, const char *name, uint64_t min, uint64_t max, int fallback,
                    int *out) {
    uint64_t value;
    if (gguf_u64(r->g, key_of(r, name), min, max, (uint64_t)fallback, &value, r->err) != 0)
        return -1;
    *out = (int)value;
    return 0;
}

static int read_ffn(struct reader *r) {
    const uint64_t parts = architectures[r->architecture].has_half_ffn ? 2 : 1;
    uint64_t value;
    if (gguf_need_u64(r->g, key_of(r, "feed_forward_length"), parts,
                      parts * (uint64_t)model_limit(FIELD(ffn))->max, &value, r->err) != 0)
        return -1;
    if (value % parts != 0)
        return err_set(r->err, ERR_MODEL, "%.160s: %s is %llu, an even number is needed",
                       r->g->name, r->key, (unsigned long long)value);
    r->c->ffn = (int)(value / parts);
    return 0;
}

static int read_head_size(struct reader *r) {
    struct model_config *c = r->c;
    int value_size, rotated, experts;
    if (!gguf_find(r->g, key_of(r, "attention.key_length")) &&
        model_config_imply_head_size(c, &c->head_size, r->err) != 0)
        return err_within(r->err, "%.160s", r->g->name);
    if (read_int(r, "attention.head_count_kv", 1, 1024, c->n_heads, &c->n_kv_heads) != 0 ||
        read_int(r, "attention.key_length", 2, MAX_HEAD_SIZE, c->head_size, &c->head_size) != 0 ||
        read_int(r, "attention.value_length", 2, MAX_HEAD_SIZE, c->head_size, &value_size) != 0 ||
        read_int(r, "rope.dimension_count", 0, 1 << 16, c->head_size, &rotated) != 0 ||
        read_int(r, "expert_count", 0, 1 << 16, 0, &experts) != 0)
        return -1;
    if (experts > 0)
        return err_set(r->err, ERR_MODEL,
                       "%.160s: has %d experts; a mixture of experts is not supported", r->g->name,
                       experts);
    if (value_size != c->head_size || rotated != c->head_size)
        return err_set(r->err, ERR_MODEL,
                       "%.160s: heads have %d values for keys, %d for values and %d rotated ones; "
                       "all three must be equal",
                       r->g->name, c->head_size, value_size, rotated);
    return 0;
}

static int read_vocab(struct reader *r) {
    const struct checkpoint_tensor *t = tensor_list_find(r->tensors, "token_embd.weight");
    const struct model_limit *limit = model_limit(FIELD(vocab));
    if (!t || t->n_dims != 2)
        return err_set(r->err, ERR_MODEL,
                       "%.160s: the matrix token_embd.weight is missing, which tells the "
                       "vocabulary's size",
                       r->g->name);
    if (t->dims[0] < (uint64_t)limit->min || t->dims[0] > (uint64_t)limit->max)
        return err_set(r->err, ERR_MODEL,
                       "%.160s: token_embd.weight has %llu rows, from %d to %d is allowed",
                       r->g->name, (unsigned long long)t->dims[0], limit->min, limit->max);
    r->c->vocab = (int)t->dims[0];
    return 0;
}

static int read_sizes(struct reader *r) {
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct model_limit *limit = model_limit(sizes[i].offset);
        uint64_t value;
        if (gguf_need_u64(r->g, key_of(r, sizes[i].name), (uint64_t)limit->min,
                          (uint64_t)limit->max, &value, r->err) != 0)
            return -1;
        *(int *)((char *)r->c + sizes[i].offset) = (int)value;
    }
    double eps;
    const char *key = key_of(r, "attention.layer_norm_rms_epsilon");
    if (!gguf_find(r->g, key))
        return err_set(r->err, ERR_MODEL, "%.160s: %s is missing from the metadata", r->g->name,
                       key);
    if (gguf_f64(r->g, key, 1e-12, 0.1, 0, &eps, r->err) != 0) return -1;
    r->c->norm_eps = (float)eps;
    if (read_ffn(r) != 0 || read_head_size(r) != 0) return -1;
    return read_vocab(r);
}

/* --- rotation -------------------------------------------------------------------------------- */

/* Llama 3's scaling comes as one divisor for each frequency. */
static int read_divisors(struct reader *r, const struct checkpoint_tensor *t) {
    const size_t n = (size_t)r->c->head_size / 2;
    if (r->c->rope_scaling != ROPE_PLAIN)
        return err_set(r->err, ERR_MODEL,
                       "%.160s: has both rope_freqs.weight and rope.scaling; one can be followed",
                       r->g->name);
    if (t->format != FORMAT_F32 || t->n_dims != 1 || t->dims[0] != n)
        return err_set(r->err, ERR_MODEL, "%.160s: rope_freqs.weight must be %zu values of F32",
                       r->g->name, n);
    memcpy(r->c->rope_divisors, t->data, n * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        const double divisor = (double)r->c->rope_divisors[i];
        if (!(divisor >= 1e-6 && divisor <= 1e6)) /* true for NaN */
            return err_set(r->err, ERR_MODEL,
                           "%.160s: rope_freqs.weight has %g at %zu, from 1e-6 to 1e6 is allowed",
                           r->g->name, divisor, i);
    }
    r->c->rope_scaling = ROPE_DIVISORS;
    return 0;
}

static int read_yarn(struct reader *r) {
    struct model_config *c = r->c;
    double attention;
    c->rope_scaling = ROPE_YARN;
    if (gguf_f64(r->g, key_of(r, "rope.scaling.yarn_beta_fast"), 1e-3, 1e6, 32, &c->yarn_beta_fast,
                 r->err) != 0 ||
        gguf_f64(r->g, key_of(r, "rope.scaling.yarn_beta_slow"), 1e-3, 1e6, 1, &c->yarn_beta_slow,
                 r->err) != 0 ||
        gguf_f64(r->g, key_of(r, "rope.scaling.attn_factor"), 1e-3, 1e3, 1, &attention, r->err) !=
            0)
        return -1;
    /* here it multiplies the paper's factor, in config.json it replaces it */
    if (attention != 1) c->yarn_attention_factor = attention * (0.1 * log(c->rope_factor) + 1);
    return 0;
}

static int read_rope(struct reader *r) {
    struct model_config *c = r->c;
    struct gguf_string type;
    const struct checkpoint_tensor *divisors = tensor_list_find(r->tensors, "rope_freqs.weight");
    c->rope_interleaved = architectures[r->architecture].rope_interleaved;
    if (gguf_f64(r->g, key_of(r, "rope.freq_base"), 1, 1e12, 10000, &c->rope_base, r->err) != 0 ||
        gguf_text(r->g, key_of(r, "rope.scaling.type"), &type, r->err) != 0 ||
        gguf_f64(r->g, key_of(r, "rope.scale_linear"), 1, 1e4, 1, &c->rope_factor, r->err) != 0 ||
        gguf_f64(r->g, key_of(r, "rope.scaling.factor"), 1, 1e4, c->rope_factor, &c->rope_factor,
                 r->err) != 0 ||
        read_int(r, "rope.scaling.original_context_length", 1, 1 << 27, c->trained_tokens,
                 &c->rope_original_tokens) != 0)
        return -1;
    /* files older than rope.scaling.type have only a factor, which is linear */
    bool is_linear = type.data ? gguf_string_is(&type, "linear") : c->rope_factor != 1;
    if (gguf_string_is(&type, "yarn")) {
        if (read_yarn(r) != 0) return -1;
    } else if (is_linear) {
        c->rope_scaling = ROPE_LINEAR;
    } else if (type.data && !gguf_string_is(&type, "none")) {
        return err_set(r->err, ERR_MODEL,
                       "%.160s: rope.scaling.type is '%.*s'; none, linear and yarn are supported",
                       r->g->name, (int)(type.n < 40 ? type.n : 40), type.data);
    }
    return divisors ? read_divisors(r, divisors) : 0;
}

/* --- the whole ------------------------------------------------------------------------------- */

/* What tensors are there decides; a feed-forward bias has no place in any of the families. */
static int read_tensor_facts(struct reader *r) {
    struct model_config *c = r->c;
    c->has_tied_head = !tensor_list_find(r->tensors, "output.weight");
    c->has_qkv_bias = tensor_list_find(r->tensors, "blk.0.attn_q.bias") ||
                      tensor_list_find(r->tensors, "blk.0.attn_qkv.bias");
    c->has_o_bias = tensor_list_find(r->tensors, "blk.0.attn_output.bias") != NULL;
    c->has_qk_norm = architectures[r->architecture].has_qk_norm;
    if (tensor_list_find(r->tensors, "blk.0.ffn_gate.bias") ||
        tensor_list_find(r->tensors, "blk.0.ffn_up.bias"))
        return err_set(r->err, ERR_MODEL,
                       "%.160s: its feed-forward layers have biases, which is not supported",
                       r->g->name);
    return 0;
}

int model_config_from_gguf(struct model_config *c, const struct gguf *g,
                           const struct tensor_list *tensors, struct err *err) {
    struct reader r = {.g = g, .tensors = tensors, .c = c, .err = err};
    struct gguf_string name;
    *c = (struct model_config){0};
    if (find_architecture(&r) != 0) return -1;
    snprintf(c->model_type, sizeof c->model_type, "%s", architectures[r.architecture].name);
    if (gguf_text(g, "general.name", &name, err) != 0) return -1;
    if (name.data)
        snprintf(c->name, sizeof c->name, "%.*s", (int)(name.n < 120 ? name.n : 120), name.data);
    if (read_sizes(&r) != 0 || read_rope(&r) != 0 || read_tensor_facts(&r) != 0) return -1;
    model_config_set_lengths(c, c->trained_tokens);
    return model_config_check(c, err) == 0 ? 0 : err_within(err, "%.160s", g->name);
}

static int read_float(const struct gguf *g, const char *key, double min, double max, float *out,
                      bool *found, struct err *err) {
    double value;
    if (gguf_f64(g, key, min, max, (double)*out, &value, err) != 0) return -1;
    *found = *found || gguf_find(g, key);
    *out = (float)value;
    return 0;
}

static int read_sampling(struct generation_defaults *out, const struct gguf *g, struct err *err) {
    uint64_t top_k;
    bool found = gguf_find(g, "general.sampling.top_k") != NULL;
    if (gguf_u64(g, "general.sampling.top_k", 0, INT32_MAX, (uint64_t)out->top_k, &top_k, err) !=
            0 ||
        read_float(g, "general.sampling.temp", 0, 100, &out->temperature, &found, err) != 0 ||
        read_float(g, "general.sampling.top_p", 0, 1, &out->top_p, &found, err) != 0 ||
        read_float(g, "general.sampling.min_p", 0, 1, &out->min_p, &found, err) != 0 ||
        read_float(g, "general.sampling.penalty_repeat", 0.01, 100, &out->repetition_penalty,
                   &found, err) != 0)
        return -1;
    out->top_k = (int)top_k;
    out->is_from_file = found;
    return 0;
}

/* Control tokens that end an answer, by the names byte-level vocabularies give them: files name
 * one or two of them as ids, though a model may end with either. */
static int add_named_stops(struct generation_defaults *out, const struct gguf *g,
                           const struct model_config *c, struct err *err) {
    static const char *const names[] = {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>",
                                        "<|end_of_text|>"};
    struct gguf_string *tokens;
    size_t n;
    int result = 0;
    if (gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &n, err) != 0) return -1;
    for (size_t i = 0; i < n && i < (size_t)c->vocab && result == 0; i++) {
        if (tokens[i].n < 10 || tokens[i].n > 15 || tokens[i].data[0] != '<') continue;
        for (size_t k = 0; k < sizeof names / sizeof *names && result == 0; k++)
            if (gguf_string_is(&tokens[i], names[k])) result = generation_add_stop(out, i, c, err);
    }
    mem_free(tokens);
    return result;
}

int generation_defaults_from_gguf(struct generation_defaults *out, const struct gguf *g,
                                  const struct model_config *c, struct err *err) {
    static const char *const keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    generation_defaults_of_family(out, c);
    if (read_sampling(out, g, err) != 0) return -1;
    out->n_stop_ids = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        uint64_t id;
        if (!gguf_find(g, keys[i])) continue;
        if (gguf_u64(g, keys[i], 0, INT32_MAX, 0, &id, err) != 0) return -1;
        if (generation_add_stop(out, id, c, err) != 0)
            return err_within(err, "%.160s: %s", g->name, keys[i]);
    }
    return add_named_stops(out, g, c, err);
}

int gguf_open_tokenizer(const struct gguf *g, struct tokenizer **out, struct err *err) {
    struct gguf_string model, pre, *tokens = NULL, *merges = NULL;
    int32_t *types = NULL;
    size_t n_tokens, n_merges, n_types;
    char model_text[64], pre_text[64];
    int result = -1;
    if (gguf_text(g, "tokenizer.ggml.model", &model, err) != 0 ||
        gguf_text(g, "tokenizer.ggml.pre", &pre, err) != 0)
        return -1;
    if (!model.data || !gguf_find(g, "tokenizer.ggml.tokens"))
        return err_set(err, ERR_MODEL,
                       "%.160s: holds no tokenizer (tokenizer.ggml.model and .tokens are needed); "
                       "one can be given with --tokenizer",
                       g->name);
    snprintf(model_text, sizeof model_text, "%.*s", (int)(model.n < 60 ? model.n : 60), model.data);
    snprintf(pre_text, sizeof pre_text, "%.*s", (int)(pre.n < 60 ? pre.n : 60),
             pre.data ? pre.data : "");
    if (gguf_strings(g, "tokenizer.ggml.tokens", &tokens, &n_tokens, err) != 0 ||
        gguf_strings(g, "tokenizer.ggml.merges", &merges, &n_merges, err) != 0 ||
        gguf_int32s(g, "tokenizer.ggml.token_type", &types, &n_types, err) != 0)
        goto done;
    if (types && n_types != n_tokens) {
        err_set(err, ERR_MODEL, "%.160s: %zu tokens, but %zu token types", g->name, n_tokens,
                n_types);
        goto done;
    }
    result = tokenizer_open_gguf(out,
                                 &(struct tokenizer_gguf){.model = model_text,
                                                          .pre = pre.data ? pre_text : NULL,
                                                          .tokens = tokens,
                                                          .types = types,
                                                          .n_tokens = n_tokens,
                                                          .merges = merges,
                                                          .n_merges = n_merges},
                                 err);
    if (result != 0) err_within(err, "%.160s", g->name);
done:
    mem_free(tokens);
    mem_free(merges);
    mem_free(types);
    return result;
}
