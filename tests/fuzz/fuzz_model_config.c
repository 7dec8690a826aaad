/*
 * config.json, and behind a NUL generation_config.json. What is accepted must be computable: sizes
 * in range, finite frequencies, stop ids within the vocabulary, a table of weights with names.
 */
#include "engine/weights/weight_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct json_limits limits = {1 << 20, 1 << 16, 32};

static void check_sentence(const struct err *err) {
    if (err->kind != ERR_MODEL || !err->text[0] || strchr(err->text, '\n')) abort();
}

static void use_config(const struct model_config *c) {
    float freq[MAX_HEAD_SIZE / 2], scale;
    char name[MAX_WEIGHT_NAME];
    const int prompts[] = {1, c->trained_tokens, c->max_tokens};
    for (int i = 0; i < 3; i++) {
        rope_frequencies(c, prompts[i], freq, &scale);
        for (int k = 0; k < c->head_size / 2; k++)
            if (!isfinite(freq[k])) abort();
        if (!isfinite(scale) || rope_variant(c, prompts[i]) < 0) abort();
    }
    for (int i = 0; i < N_WEIGHTS; i++) {
        int first, total;
        weight_name(&weight_table[i], weight_naming(c, false), c->n_layers - 1, name);
        weight_rows(&weight_table[i], weight_naming(c, false), c, &first, &total);
        if (!name[0] || first < 0 || total <= first || weight_dim(weight_table[i].cols, c) < 1)
            abort();
    }
}

static void try_generation(const struct model_config *c, const cJSON *config, const char *text,
                           size_t n) {
    struct generation_defaults g;
    struct err err = {0};
    cJSON *json = n ? json_parse(text, n, limits, &err) : NULL;
    if (n && !json) return check_sentence(&err);
    if (generation_defaults_from_json(&g, json, config, c, &err) != 0) {
        check_sentence(&err);
    } else {
        for (int i = 0; i < g.n_stop_ids; i++)
            if (g.stop_ids[i] < 0 || g.stop_ids[i] >= c->vocab) abort();
        if (!(g.top_p >= 0 && g.top_p <= 1) || !(g.temperature >= 0) || g.top_k < 0) abort();
    }
    cJSON_Delete(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct model_config c;
    struct err err = {0};
    const uint8_t *end = n ? memchr(data, 0, n) : NULL;
    const size_t first = end ? (size_t)(end - data) : n;
    cJSON *json = json_parse((const char *)data, first, limits, &err);
    if (!json) {
        check_sentence(&err);
        return 0;
    }
    if (model_config_from_json(&c, json, &err) != 0) {
        check_sentence(&err);
    } else {
        use_config(&c);
        try_generation(&c, json, end ? (const char *)end + 1 : NULL, end ? n - first - 1 : 0);
    }
    cJSON_Delete(json);
    return 0;
}
