/* model.safetensors.index.json: which file of a sharded checkpoint holds which tensor. */
#pragma once

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct shard_entry {
    const char *tensor;
    size_t shard; /* index into names */
};

struct shard_index {
    const char **names; /* of files, sorted, each once */
    size_t n_names;
    struct shard_entry *entries;
    size_t n_entries;
    void *json; /* owns the strings */
};

/* `name` is for messages. File names that could leave the folder are refused. */
int shard_index_parse(struct shard_index *index, const char *text, size_t n, const char *name,
                      struct err *err);
void shard_index_release(struct shard_index *index);

/* [A-Za-z0-9._-]{1,200}, no leading dot, ending in `suffix`: safe to append to a folder. */
bool shard_name_is_safe(const char *name, const char *suffix);
