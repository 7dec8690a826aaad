/*
 * tokenizer.json of Hugging Face tokenizers. Only what the supported models use is accepted:
 * byte-level BPE, NFC or no normalizer, and a pre-tokenizer that is one of our rules. Anything
 * else is refused by name, as it would silently give other ids.
 */
#include "engine/text/tokenizer_json.h"

#include <string.h>

enum { MAX_STEPS = 4 };

cJSON *tokenizer_json_parse(const char *text, size_t n, struct err *err) {
    struct json_limits limits = {TOKENIZER_MAX_FILE_BYTES, 6 << 20, 16};
    return json_parse(text, n, limits, err);
}

static const char *type_of(const cJSON *object) {
    const cJSON *type = json_get(object, "type");
    return cJSON_IsString(type) ? type->valuestring : "";
}

static bool flag_of(const cJSON *object, const char *key, bool fallback) {
    const cJSON *flag = json_get(object, key);
    return flag ? cJSON_IsTrue(flag) : fallback;
}

int tokenizer_json_put_added(struct tokenizer *t, int64_t id, const cJSON *token, struct err *err) {
    static const char *const refused[] = {"single_word", "lstrip", "rstrip"};
    const cJSON *content = json_get(token, "content");
    if (!cJSON_IsString(content))
        return err_set(err, ERR_MODEL, "added token %lld has no \"content\"", (long long)id);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (flag_of(token, refused[i], false))
            return err_set(err, ERR_MODEL, "added token \"%s\": \"%s\" is not supported",
                           content->valuestring, refused[i]);
    }
    return tokenizer_put_added(t, id, content->valuestring, strlen(content->valuestring),
                               flag_of(token, "special", false), err);
}

int tokenizer_json_put_vocabulary(struct tokenizer *t, const cJSON *vocabulary, struct err *err) {
    for (const cJSON *token = vocabulary->child; token; token = token->next) {
        double id = cJSON_IsNumber(token) ? token->valuedouble : -1;
        if (!(id >= 0 && id < VOCABULARY_MAX_IDS) || id != (double)(int64_t)id)
            return err_set(err, ERR_MODEL, "token \"%s\": its id is not a whole number below %d",
                           token->string, VOCABULARY_MAX_IDS);
        if (tokenizer_put_coded(t, (int64_t)id, token->string, strlen(token->string), err) != 0)
            return -1;
    }
    return 0;
}

static int put_all_added(struct tokenizer *t, const cJSON *root, struct err *err) {
    const cJSON *list = json_get(root, "added_tokens");
    if (!list) return 0;
    if (!cJSON_IsArray(list)) return err_set(err, ERR_MODEL, "\"added_tokens\" is not an array");
    for (const cJSON *token = list->child; token; token = token->next) {
        uint64_t id;
        if (json_need_u64(token, "id", 0, VOCABULARY_MAX_IDS - 1, &id, err) != 0)
            return err_within(err, "added_tokens");
        if (tokenizer_json_put_added(t, (int64_t)id, token, err) != 0) return -1;
    }
    return 0;
}

/* A merge is "left right" or ["left", "right"]. */
static int put_merge(struct tokenizer *t, const cJSON *merge, struct err *err) {
    if (cJSON_IsString(merge))
        return tokenizer_put_merge_line(t, merge->valuestring, strlen(merge->valuestring), err);
    const cJSON *left = cJSON_IsArray(merge) ? merge->child : NULL;
    const cJSON *right = left ? left->next : NULL;
    if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next)
        return err_set(err, ERR_MODEL, "merge %zu is not two strings", t->bpe.n_merges);
    return tokenizer_put_merge(t, left->valuestring, strlen(left->valuestring), right->valuestring,
                               strlen(right->valuestring), err);
}

/* Settings of the BPE model that would change ids, and what they must be. */
static int check_model(const cJSON *model, struct err *err) {
    static const char *const must_be_empty[] = {"dropout", "continuing_subword_prefix",
                                                "end_of_word_suffix"};
    if (strcmp(type_of(model), "BPE") != 0)
        return err_set(err, ERR_MODEL, "the model \"%s\" is not supported, only \"BPE\"",
                       type_of(model));
    for (size_t i = 0; i < sizeof must_be_empty / sizeof must_be_empty[0]; i++) {
        const cJSON *value = json_get(model, must_be_empty[i]);
        if (value && !(cJSON_IsString(value) && value->valuestring[0] == '\0'))
            return err_set(err, ERR_MODEL, "BPE with \"%s\" is not supported", must_be_empty[i]);
    }
    if (flag_of(model, "byte_fallback", false))
        return err_set(err, ERR_MODEL, "BPE with \"byte_fallback\" is not supported");
    if (!cJSON_IsObject(json_get(model, "vocab")))
        return err_set(err, ERR_MODEL, "the model has no \"vocab\" object");
    if (!cJSON_IsArray(json_get(model, "merges")))
        return err_set(err, ERR_MODEL, "the model has no \"merges\" array");
    return 0;
}

static int put_model(struct tokenizer *t, const cJSON *model, struct err *err) {
    if (check_model(model, err) != 0) return -1;
    const cJSON *merges = json_get(model, "merges");
    if (tokenizer_json_put_vocabulary(t, json_get(model, "vocab"), err) != 0 ||
        bpe_open(&t->bpe, &t->vocabulary, (size_t)cJSON_GetArraySize(merges),
                 flag_of(model, "ignore_merges", false), err) != 0)
        return -1;
    for (const cJSON *merge = merges->child; merge; merge = merge->next) {
        if (put_merge(t, merge, err) != 0) return -1;
    }
    return 0;
}

/* An object with "type": "Sequence" is the list under `key`; any other is a list of itself.
 * Returns how many, or -1. */
static int steps_of(const cJSON *object, const char *key, const cJSON *steps[MAX_STEPS],
                    struct err *err) {
    if (!object) return 0;
    steps[0] = object;
    if (strcmp(type_of(object), "Sequence") != 0) return 1;
    const cJSON *list = json_get(object, key);
    int n = 0;
    for (const cJSON *step = cJSON_IsArray(list) ? list->child : NULL; step; step = step->next) {
        if (n == MAX_STEPS)
            return err_set(err, ERR_MODEL, "\"%s\" has more than %d steps", key, MAX_STEPS);
        steps[n++] = step;
    }
    return n;
}

static int read_normalizer(const cJSON *root, bool *is_nfc, struct err *err) {
    const cJSON *steps[MAX_STEPS];
    int n = steps_of(json_get(root, "normalizer"), "normalizers", steps, err);
    *is_nfc = n > 0;
    for (int i = 0; i < n; i++) {
        if (strcmp(type_of(steps[i]), "NFC") != 0)
            return err_set(err, ERR_MODEL, "the normalizer \"%s\" is not supported, only \"NFC\"",
                           type_of(steps[i]));
    }
    return n < 0 ? -1 : 0;
}

/* The rule whose pattern this Split has. */
static int read_split(const cJSON *split, enum pretokenizer *rule, struct err *err) {
    const cJSON *pattern = json_get(json_get(split, "pattern"), "Regex");
    const cJSON *behavior = json_get(split, "behavior");
    if (!cJSON_IsString(behavior) || strcmp(behavior->valuestring, "Isolated") != 0 ||
        flag_of(split, "invert", false))
        return err_set(err, ERR_MODEL, "a Split that is not \"Isolated\" is not supported");
    for (int i = 0; cJSON_IsString(pattern) && i < N_PRETOKENIZERS; i++) {
        if (strcmp(pattern->valuestring, pretokenize_published((enum pretokenizer)i)) != 0)
            continue;
        *rule = (enum pretokenizer)i;
        return 0;
    }
    return err_set(err, ERR_MODEL, "the Split pattern \"%.200s\" is not one of the known ones",
                   cJSON_IsString(pattern) ? pattern->valuestring : "");
}

/* Split + ByteLevel, Digits + ByteLevel with its pattern, or the latter alone. */
static int read_pretokenizer(const cJSON *root, enum pretokenizer *rule, struct err *err) {
    const cJSON *steps[MAX_STEPS];
    int n = steps_of(json_get(root, "pre_tokenizer"), "pretokenizers", steps, err);
    if (n < 0) return -1;
    const char *first = n > 0 ? type_of(steps[0]) : "", *last = n > 0 ? type_of(steps[n - 1]) : "";
    if (n == 0 || n > 2 || strcmp(last, "ByteLevel") != 0)
        return err_set(err, ERR_MODEL, "the pre-tokenizer \"%s\" is not supported%s", first,
                       n > 2 ? " with more steps than two" : "; expected \"ByteLevel\" last");
    if (flag_of(steps[n - 1], "add_prefix_space", true))
        return err_set(err, ERR_MODEL, "ByteLevel with \"add_prefix_space\" is not supported");
    bool has_pattern = flag_of(steps[n - 1], "use_regex", true);
    if (n == 1 && has_pattern) {
        *rule = PRETOKENIZER_GPT2;
        return 0;
    }
    if (n == 2 && strcmp(first, "Digits") == 0 && has_pattern &&
        flag_of(steps[0], "individual_digits", false)) {
        *rule = PRETOKENIZER_SMOLLM;
        return 0;
    }
    if (n == 2 && strcmp(first, "Split") == 0 && !has_pattern)
        return read_split(steps[0], rule, err);
    return err_set(err, ERR_MODEL,
                   "the pre-tokenizer \"%s\" before ByteLevel with use_regex %s is not supported",
                   n == 2 ? first : "", has_pattern ? "true" : "false");
}

static int fill(struct tokenizer *t, const cJSON *root, size_t n, struct err *err) {
    enum pretokenizer rule = PRETOKENIZER_QWEN2;
    bool is_nfc;
    const cJSON *model = json_get(root, "model");
    size_t n_ids = (size_t)cJSON_GetArraySize(json_get(model, "vocab"));
    if (!cJSON_IsObject(root) || !cJSON_IsObject(model))
        return err_set(err, ERR_MODEL, "there is no \"model\" object");
    if (read_normalizer(root, &is_nfc, err) != 0 || read_pretokenizer(root, &rule, err) != 0 ||
        vocabulary_reserve(&t->vocabulary, n_ids, n / 4, err) != 0 ||
        put_all_added(t, root, err) != 0 || put_model(t, model, err) != 0)
        return -1;
    return tokenizer_finish(t, rule, is_nfc, err);
}

int tokenizer_open_json(struct tokenizer **out, const char *text, size_t n, const char *name,
                        struct err *err) {
    struct tokenizer *t = NULL;
    cJSON *root = tokenizer_json_parse(text, n, err);
    if (root) t = tokenizer_new(err);
    int rc = t ? fill(t, root, n, err) : -1;
    cJSON_Delete(root);
    if (rc != 0) {
        tokenizer_close(t);
        return err_within(err, "%s", name);
    }
    *out = t;
    return 0;
}
