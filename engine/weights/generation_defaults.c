/*
 * generation_config.json, and what each family published for a checkpoint that lacks it. A file
 * that leaves a key out means transformers' default for it (GenerationConfig: temperature 1,
 * top_p 1, top_k 50, no penalty, greedy unless do_sample).
 */
#include "engine/weights/model_config_parts.h"

#include <stdio.h>
#include <string.h>

enum { MAX_STOPS = sizeof((struct generation_defaults *)0)->stop_ids / sizeof(int32_t) };

/* Qwen's ids: 151643 <|endoftext|>, 151644 <|im_start|>, 151645 <|im_end|>. v1 also stops at both
 * ChatML ids. `llama`: greedy, as SmolLM2's generation_config.json has it (its card's temperature
 * of 0.2 makes the 4-bit starter answer an English question in French every fourth time), with the
 * least penalty that ended its loops; ids differ from checkpoint to checkpoint. */
static const struct {
    const char *model_type;
    float temperature, top_p, repetition_penalty;
    int top_k;
    int stop_ids[3]; /* ends with 0 */
} families[] = {
    {"qwen", 1, 0.8f, 1.1f, 0, {151643, 151645, 151644}},
    {"qwen2", 0.7f, 0.8f, 1.05f, 20, {151645, 151643}},
    {"qwen3", 0.6f, 0.95f, 1, 20, {151645, 151643}},
    {"llama", 0, 1, 1.05f, 0, {0}},
};

int generation_add_stop(struct generation_defaults *g, uint64_t id, const struct model_config *c,
                        struct err *err) {
    if (id >= (uint64_t)c->vocab)
        return err_set(err, ERR_MODEL, "the end id %llu is no token, the vocabulary has %d",
                       (unsigned long long)id, c->vocab);
    for (int i = 0; i < g->n_stop_ids; i++)
        if (g->stop_ids[i] == (int32_t)id) return 0;
    if (g->n_stop_ids == MAX_STOPS)
        return err_set(err, ERR_MODEL, "more than %d end ids are listed", MAX_STOPS);
    g->stop_ids[g->n_stop_ids++] = (int32_t)id;
    return 0;
}

static void add_family_stops(struct generation_defaults *g, const struct model_config *c) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strcmp(families[i].model_type, c->model_type) != 0) continue;
        for (int k = 0; k < 3 && families[i].stop_ids[k] != 0; k++)
            generation_add_stop(g, (uint64_t)families[i].stop_ids[k], c, NULL);
    }
}

void generation_defaults_of_family(struct generation_defaults *g, const struct model_config *c) {
    *g = (struct generation_defaults){
        .do_sample = true, .temperature = 1, .top_p = 1, .repetition_penalty = 1};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        if (strcmp(families[i].model_type, c->model_type) != 0) continue;
        g->temperature = families[i].temperature;
        g->top_p = families[i].top_p;
        g->top_k = families[i].top_k;
        g->repetition_penalty = families[i].repetition_penalty;
    }
    add_family_stops(g, c);
}

/* eos_token_id: one id or a list. */
static int read_stops(struct generation_defaults *g, const cJSON *json,
                      const struct model_config *c, struct err *err) {
    const cJSON *value = json_get(json, "eos_token_id");
    if (!value) return 0;
    for (const cJSON *id = cJSON_IsArray(value) ? value->child : value; id;
         id = cJSON_IsArray(value) ? id->next : NULL) {
        bool is_id = cJSON_IsNumber(id) && id->valuedouble >= 0 && id->valuedouble < 0x1p31 &&
                     id->valuedouble == (double)(int32_t)id->valuedouble;
        if (!is_id)
            return err_set(err, ERR_MODEL,
                           "\"eos_token_id\" must be token ids, whole numbers from "
                           "0 to %d",
                           c->vocab - 1);
        if (generation_add_stop(g, (uint64_t)id->valuedouble, c, err) != 0) return -1;
    }
    return 0;
}

static int read_float(const cJSON *json, const char *key, double min, double max, double fallback,
                      float *out, struct err *err) {
    double value;
    if (json_f64(json, key, min, max, fallback, &value, err) != 0) return -1;
    *out = (float)value;
    return 0;
}

static int read_file(struct generation_defaults *g, const cJSON *json, struct err *err) {
    const char *chat_format;
    uint64_t top_k;
    if (!cJSON_IsObject(json)) return err_set(err, ERR_MODEL, "must be a JSON object");
    if (json_bool(json, "do_sample", false, &g->do_sample, err) != 0 ||
        read_float(json, "temperature", 0, 100, 1, &g->temperature, err) != 0 ||
        read_float(json, "top_p", 0, 1, 1, &g->top_p, err) != 0 ||
        read_float(json, "min_p", 0, 1, 0, &g->min_p, err) != 0 ||
        read_float(json, "repetition_penalty", 0.01, 100, 1, &g->repetition_penalty, err) != 0 ||
        json_u64(json, "top_k", 0, INT32_MAX, 50, &top_k, err) != 0 ||
        json_string(json, "chat_format", "", &chat_format, err) != 0)
        return -1;
    g->is_from_file = true;
    g->top_k = (int)top_k;
    if (strlen(chat_format) >= sizeof g->chat_format)
        return err_set(err, ERR_MODEL, "\"chat_format\" must be chatml or raw, found '%.40s'",
                       chat_format);
    snprintf(g->chat_format, sizeof g->chat_format, "%s", chat_format);
    return 0;
}

int generation_defaults_from_json(struct generation_defaults *g, const cJSON *json,
                                  const cJSON *config_json, const struct model_config *c,
                                  struct err *err) {
    generation_defaults_of_family(g, c);
    if (json) {
        *g = (struct generation_defaults){0};
        if (read_file(g, json, err) != 0 || read_stops(g, json, c, err) != 0) return -1;
    } else if (json_get(config_json, "eos_token_id")) {
        g->n_stop_ids = 0;
    }
    if (g->n_stop_ids == 0 && config_json && read_stops(g, config_json, c, err) != 0) return -1;
    /* v1's own code stops a chat at <|im_end|> and <|im_start|>, whatever the file lists */
    bool is_v1_chat = strcmp(c->model_type, "qwen") == 0 && strcmp(g->chat_format, "raw") != 0;
    if (g->n_stop_ids == 0 || is_v1_chat) add_family_stops(g, c);
    return 0;
}
