/* weight_map maps tensor to file; both strings are somebody else's. */
#include "engine/weights/shard_index.h"

#include "engine/base/json.h"
#include "engine/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_INDEX_BYTES = 64 << 20, MAX_ENTRIES = 1 << 20, MAX_SHARDS = 1000, MAX_NAME = 200 };

bool shard_name_is_safe(const char *name, const char *suffix) {
    size_t n = strlen(name), m = strlen(suffix);
    if (n <= m || n > MAX_NAME || name[0] == '.' || strcmp(name + n - m, suffix) != 0) return false;
    return strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static int compare_strings(const void *a, const void *b) {
    const char *const *left = a, *const *right = b;
    return strcmp(*left, *right);
}

/* names: sorted, each once. */
static int collect_names(struct shard_index *index, const cJSON *map, const char *name,
                         struct err *err) {
    size_t n = 0;
    for (const cJSON *item = map->child; item; item = item->next) {
        if (!cJSON_IsString(item) || !shard_name_is_safe(item->valuestring, ".safetensors"))
            return err_set(err, ERR_MODEL,
                           "%.160s: tensor '%.60s' is said to be in '%.60s'; a plain file name "
                           "ending in .safetensors is needed",
                           name, item->string,
                           cJSON_IsString(item) ? item->valuestring : "(no string)");
        index->names[n++] = item->valuestring;
    }
    qsort(index->names, n, sizeof *index->names, compare_strings);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(index->names[i], index->names[index->n_names - 1]) != 0)
            index->names[index->n_names++] = index->names[i];
    if (index->n_names > MAX_SHARDS)
        return err_set(err, ERR_MODEL, "%.160s: names %zu files, at most %d are read", name,
                       index->n_names, MAX_SHARDS);
    return 0;
}

static void collect_entries(struct shard_index *index, const cJSON *map) {
    for (const cJSON *item = map->child; item; item = item->next) {
        const char *file = item->valuestring;
        const char **at =
            bsearch(&file, index->names, index->n_names, sizeof *index->names, compare_strings);
        index->entries[index->n_entries++] =
            (struct shard_entry){item->string, (size_t)(at - index->names)};
    }
}

static int read_map(struct shard_index *index, const cJSON *map, const char *name,
                    struct err *err) {
    if (!cJSON_IsObject(map) || !map->child)
        return err_set(err, ERR_MODEL, "%.160s: weight_map must be an object that is not empty",
                       name);
    size_t n = (size_t)cJSON_GetArraySize(map);
    index->names = mem_zalloc(n, sizeof *index->names);
    index->entries = mem_zalloc(n, sizeof *index->entries);
    if (!index->names || !index->entries) return err_memory(err, n * sizeof *index->entries, name);
    if (collect_names(index, map, name, err) != 0) return -1;
    collect_entries(index, map);
    return 0;
}

int shard_index_parse(struct shard_index *index, const char *text, size_t n, const char *name,
                      struct err *err) {
    *index = (struct shard_index){0};
    cJSON *json = json_parse(text, n, (struct json_limits){MAX_INDEX_BYTES, MAX_ENTRIES, 8}, err);
    if (!json) return err_within(err, "%.160s", name);
    index->json = json;
    if (read_map(index, json_get(json, "weight_map"), name, err) == 0) return 0;
    shard_index_release(index);
    return -1;
}

void shard_index_release(struct shard_index *index) {
    mem_free(index->names);
    mem_free(index->entries);
    cJSON_Delete(index->json);
    *index = (struct shard_index){0};
}
