/*
 * A Hugging Face folder: config.json, generation_config.json, the chat template, and one or many
 * safetensors files. A folder without config.json may hold one GGUF model instead.
 */
#include "engine/base/json.h"
#include "engine/base/mem.h"
#include "engine/base/text.h"
#include "engine/weights/checkpoint_parts.h"
#include "engine/weights/file_kind.h"
#include "engine/weights/safetensors.h"
#include "engine/weights/shard_index.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_CONFIG_BYTES = 1 << 20,
    MAX_CONFIG_NODES = 1 << 16,
    MAX_TEMPLATE_BYTES = 16 << 20, /* tokenizer_config.json lists all added tokens too */
    MAX_TEMPLATE_NODES = 1 << 20,
    MAX_INDEX_BYTES = 64 << 20,
    MAX_LISTED_FILES = 1 << 16,
};

/* --- links ----------------------------------------------------------------------------------- */

/* The last two parts of "…/models--org--name/snapshots/<revision>" replaced by "blobs". */
static bool blobs_of(const char *folder, char out[PATH_MAX]) {
    const char *revision = strrchr(folder, '/');
    const size_t n = revision ? (size_t)(revision - folder) : 0;
    static const char snapshots[] = "/snapshots";
    const size_t m = sizeof snapshots - 1;
    if (n < m || memcmp(folder + n - m, snapshots, m) != 0) return false;
    return snprintf(out, PATH_MAX, "%.*s/blobs", (int)(n - m), folder) < PATH_MAX;
}

static bool is_directly_in(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return strncmp(path, folder, n) == 0 && path[n] == '/' && !strchr(path + n + 1, '/');
}

/*
 * A file of the folder may be a link, but only to another file of the folder or, in the Hugging
 * Face cache, to the blobs that belong to it: a model must not make us read what is elsewhere.
 */
static int check_link(const char *folder, const char *path, struct err *err) {
    char real_folder[PATH_MAX], real_path[PATH_MAX], blobs[PATH_MAX];
    if (!realpath(folder, real_folder) || !realpath(path, real_path))
        return err_set(err, ERR_MODEL, "%.160s: cannot open: %s", path, strerror(errno));
    if (is_directly_in(real_path, real_folder)) return 0;
    if (blobs_of(real_folder, blobs) && is_directly_in(real_path, blobs)) return 0;
    return err_set(err, ERR_MODEL,
                   "%.160s: is a link to outside of its folder, which is not followed", path);
}

/* --- JSON files ------------------------------------------------------------------------------ */

static int read_text(const char *folder, const char *name, size_t max_bytes, struct buf *out,
                     struct err *err) {
    char *path = checkpoint_join(folder, name);
    if (!path) return err_memory(err, strlen(folder), "a path");
    int result = check_link(folder, path, err);
    if (result == 0) result = io_read_file(path, max_bytes, out, err);
    mem_free(path);
    return result;
}

static bool has_file(const char *folder, const char *name) {
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n < (int)sizeof path && io_exists(path);
}

static cJSON *read_json(const char *folder, const char *name, size_t max_bytes, size_t max_nodes,
                        struct err *err) {
    struct buf text = {0};
    cJSON *json = NULL;
    if (read_text(folder, name, max_bytes, &text, err) == 0) {
        enum file_kind kind = file_kind_of((const unsigned char *)text.data, text.n);
        if (kind != FILE_UNKNOWN) {
            err_set(err, ERR_MODEL, "%s is %s", name, file_kind_text(kind));
        } else {
            json =
                json_parse(text.data, text.n, (struct json_limits){max_bytes, max_nodes, 32}, err);
            if (!json) err_within(err, "%s", name);
        }
    }
    buf_release(&text);
    return json;
}

static int read_generation(struct checkpoint *c, const char *folder, const cJSON *config,
                           struct err *err) {
    static const char name[] = "generation_config.json";
    cJSON *json = NULL;
    if (has_file(folder, name)) {
        json = read_json(folder, name, MAX_CONFIG_BYTES, MAX_CONFIG_NODES, err);
        if (!json) return -1;
    }
    int result = generation_defaults_from_json(&c->generation, json, config, &c->config, err);
    if (result != 0) err_within(err, "%s", json ? name : "config.json");
    cJSON_Delete(json);
    return result;
}

/* A snapshot in the cache is named by its revision; models--org--name stands two folders above. */
static void set_name(struct checkpoint *c, const char *folder) {
    char path[PATH_MAX], blobs[PATH_MAX];
    const size_t size = sizeof c->config.name;
    if (!realpath(folder, path)) return;
    snprintf(c->config.name, size, "%.120s", checkpoint_base_name(path));
    if (!blobs_of(path, blobs)) return;
    *strrchr(blobs, '/') = '\0';
    const char *repository = checkpoint_base_name(blobs), *org = strstr(repository, "--");
    const char *name = org ? strstr(org + 2, "--") : NULL;
    if (name)
        snprintf(c->config.name, size, "%.*s/%.60s",
                 (int)(name - org - 2 < 60 ? name - org - 2 : 60), org + 2, name + 2);
}

/* Named dtype by newer versions of transformers. What else may stand there is nobody's trouble. */
static void keep_dtype(struct checkpoint *c, const cJSON *json) {
    const cJSON *dtype = json_get(json, "torch_dtype");
    if (!dtype) dtype = json_get(json, "dtype");
    if (cJSON_IsString(dtype)) snprintf(c->dtype, sizeof c->dtype, "%s", dtype->valuestring);
}

int checkpoint_read_config(struct checkpoint *c, const char *folder, const char *name,
                           struct err *err) {
    c->path = mem_strdup(folder);
    if (!c->path) return err_memory(err, strlen(folder), "a path");
    cJSON *json = read_json(folder, name, MAX_CONFIG_BYTES, MAX_CONFIG_NODES, err);
    if (!json) return -1;
    int result = model_config_from_json(&c->config, json, err);
    if (result != 0)
        err_within(err, "%.80s", name);
    else
        result = read_generation(c, folder, json, err);
    keep_dtype(c, json);
    cJSON_Delete(json);
    set_name(c, folder);
    return result;
}

/* --- the chat template ----------------------------------------------------------------------- */

/* "chat_template": one text, or a list of named ones of which "default" is for chats. */
static const char *find_template(const cJSON *json) {
    const cJSON *value = json_get(json, "chat_template");
    if (cJSON_IsString(value)) return value->valuestring;
    if (!cJSON_IsArray(value)) return NULL;
    for (const cJSON *item = value->child; item; item = item->next) {
        const cJSON *name = json_get(item, "name"), *text = json_get(item, "template");
        if (cJSON_IsString(name) && cJSON_IsString(text) &&
            strcmp(name->valuestring, "default") == 0)
            return text->valuestring;
    }
    return NULL;
}

static int keep_template(struct checkpoint *c, const char *text, struct err *err) {
    c->chat_template = mem_strdup(text);
    return c->chat_template ? 0 : err_memory(err, strlen(text), "the chat template");
}

static int read_jinja(struct checkpoint *c, const char *folder, struct err *err) {
    struct buf text = {0};
    int result = read_text(folder, "chat_template.jinja", MAX_CONFIG_BYTES, &text, err);
    if (result == 0) result = keep_template(c, text.data, err);
    buf_release(&text);
    return result;
}

/* Newer folders keep the template in a file of its own, which then is the one that counts. */
static int read_template(struct checkpoint *c, const char *folder, struct err *err) {
    static const char *const names[] = {"tokenizer_config.json", "chat_template.json"};
    if (has_file(folder, "chat_template.jinja")) return read_jinja(c, folder, err);
    for (size_t i = 0; i < sizeof names / sizeof *names && !c->chat_template; i++) {
        if (!has_file(folder, names[i])) continue;
        cJSON *json = read_json(folder, names[i], MAX_TEMPLATE_BYTES, MAX_TEMPLATE_NODES, err);
        if (!json) return -1;
        const char *text = find_template(json);
        int result = text ? keep_template(c, text, err) : 0;
        cJSON_Delete(json);
        if (result != 0) return -1;
    }
    return 0;
}

/* --- weights --------------------------------------------------------------------------------- */

static int read_shard(struct checkpoint *c, const char *folder, const char *name, struct err *err) {
    struct checkpoint_file *file;
    char *path = checkpoint_join(folder, name);
    if (!path) return err_memory(err, strlen(folder), "a path");
    int result = io_exists(path) ? check_link(folder, path, err)
                                 : err_set(err, ERR_MODEL, "%.160s: is missing", path);
    if (result == 0) result = checkpoint_map(c, path, &file, err);
    if (result == 0)
        result = safetensors_parse(file->map.data, file->map.size, name, (int)c->n_files - 1,
                                   &c->tensors, err);
    mem_free(path);
    return result;
}

static int check_entries(const struct checkpoint *c, const struct shard_index *index,
                         struct err *err) {
    for (size_t i = 0; i < index->n_entries; i++) {
        const struct shard_entry *e = &index->entries[i];
        const struct checkpoint_tensor *t = tensor_list_find(&c->tensors, e->tensor);
        if (!t || t->file != (int)e->shard)
            return err_set(
                err, ERR_MODEL,
                "model.safetensors.index.json: tensor '%.80s' is said to be in %.80s, where "
                "it is not",
                e->tensor, index->names[e->shard]);
    }
    return 0;
}

static int read_shards(struct checkpoint *c, const char *folder, const struct shard_index *index,
                       struct err *err) {
    for (size_t i = 0; i < index->n_names; i++)
        if (read_shard(c, folder, index->names[i], err) != 0) return -1;
    if (tensor_list_index(&c->tensors, err) != 0) return -1;
    return check_entries(c, index, err);
}

static bool index_lists(const struct shard_index *index, const char *name) {
    for (size_t i = 0; i < index->n_names; i++)
        if (strcmp(index->names[i], name) == 0) return true;
    return false;
}

static int read_one(struct checkpoint *c, const char *folder, const char *name, struct err *err) {
    if (read_shard(c, folder, name, err) != 0) return -1;
    return tensor_list_index(&c->tensors, err) == 0 ? 0 : err_within(err, "%.160s", name);
}

static int read_weights(struct checkpoint *c, const char *folder, const char *only,
                        struct err *err) {
    static const char name[] = "model.safetensors.index.json";
    const char *single = only ? only : "model.safetensors";
    struct shard_index index;
    struct buf text = {0};
    if (!has_file(folder, name) || (!only && has_file(folder, single)))
        return read_one(c, folder, single, err);
    int result = read_text(folder, name, MAX_INDEX_BYTES, &text, err);
    if (result == 0) result = shard_index_parse(&index, text.data, text.n, name, err);
    if (result == 0) {
        result = only && !index_lists(&index, only) ? read_one(c, folder, only, err)
                                                    : read_shards(c, folder, &index, err);
        shard_index_release(&index);
    }
    buf_release(&text);
    return result;
}

/* --- what else may be there ------------------------------------------------------------------ */

struct listing {
    char gguf[NAME_MAX + 1], weights[NAME_MAX + 1], pickle[NAME_MAX + 1]; /* first by name, or "" */
    int n_gguf, n_weights; /* models: of a split one only the first part counts */
};

static void keep_first(char name[NAME_MAX + 1], const char *found) {
    if (!name[0] || strcmp(name, found) > 0) snprintf(name, NAME_MAX + 1, "%s", found);
}

static void list_folder(struct listing *l, const char *folder) {
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    *l = (struct listing){0};
    for (int i = 0; dir && i < MAX_LISTED_FILES && (entry = readdir(dir)); i++) {
        const char *name = entry->d_name;
        const char *rest = name + 1; /* ".gguf" alone is the ending of nothing */
        bool is_later_part = strstr(name, "-of-") && !strstr(name, "-00001-of-");
        if (ends_with(rest, ".gguf")) {
            if (is_later_part || strncmp(name, "mmproj", 6) == 0) continue;
            keep_first(l->gguf, name);
            l->n_gguf++;
        } else if (ends_with(rest, ".safetensors")) {
            keep_first(l->weights, name);
            l->n_weights++;
        } else if (file_name_is_pickle(name)) {
            keep_first(l->pickle, name);
        }
    }
    if (dir) closedir(dir);
}

/* No config.json: a folder of one GGUF model, or a sentence about what is there. */
static int read_without_config(struct checkpoint *c, const char *folder, const struct listing *l,
                               struct err *err) {
    if (l->n_gguf == 1) {
        char *path = checkpoint_join(folder, l->gguf);
        int result = path ? check_link(folder, path, err) : err_memory(err, 256, "a path");
        if (result == 0) result = checkpoint_read_gguf(c, path, err);
        mem_free(path);
        return result;
    }
    if (l->n_gguf > 1)
        return err_set(err, ERR_MODEL,
                       "%.160s: holds %d GGUF models; name one of them, as in %.80s", folder,
                       l->n_gguf, l->gguf);
    if (has_file(folder, "adapter_config.json"))
        return err_set(err, ERR_MODEL,
                       "%.160s: holds a LoRA adapter, not a model; merge it into its base model",
                       folder);
    return err_set(err, ERR_MODEL, "%.160s: holds neither config.json nor a GGUF file, so no model",
                   folder);
}

/* config.json is there, its weights under their usual names are not. */
static int read_other_weights(struct checkpoint *c, const char *folder, const struct listing *l,
                              struct err *err) {
    if (l->n_weights == 1) return read_one(c, folder, l->weights, err);
    if (l->n_weights > 1)
        return err_set(
            err, ERR_MODEL,
            "%.160s: holds %d safetensors files, but no model.safetensors.index.json to say "
            "what is in which",
            folder, l->n_weights);
    if (l->pickle[0])
        return err_set(
            err, ERR_MODEL,
            "%.160s: its weights are pickled (%.60s), which could run code and is never read; "
            "fetch the model's safetensors or GGUF files, or convert it to safetensors",
            folder, l->pickle);
    return err_set(err, ERR_MODEL, "%.160s: has config.json, but no model.safetensors", folder);
}

bool checkpoint_is_config_only(const char *where) {
    struct listing l;
    if (!io_is_folder(where)) return ends_with(where, ".json") && io_exists(where);
    list_folder(&l, where);
    bool has_weights = l.gguf[0] || l.weights[0] || l.pickle[0];
    return !has_weights && has_file(where, "config.json") &&
           !has_file(where, "model.safetensors.index.json");
}

static int read_listed(struct checkpoint *c, const char *folder, const char *only,
                       const struct listing *l, struct err *err) {
    if (!has_file(folder, "config.json") && only)
        return err_set(err, ERR_MODEL, "%.160s: has no config.json, which %.60s needs beside it",
                       folder, only);
    if (!has_file(folder, "config.json")) return read_without_config(c, folder, l, err);
    if (checkpoint_read_config(c, folder, "config.json", err) != 0 ||
        read_template(c, folder, err) != 0)
        return -1;
    bool has_usual = only || has_file(folder, "model.safetensors") ||
                     has_file(folder, "model.safetensors.index.json");
    return has_usual ? read_weights(c, folder, only, err) : read_other_weights(c, folder, l, err);
}

int checkpoint_read_folder(struct checkpoint *c, const char *folder, const char *only,
                           struct err *err) {
    struct listing l;
    list_folder(&l, folder);
    return read_listed(c, folder, only, &l, err);
}
