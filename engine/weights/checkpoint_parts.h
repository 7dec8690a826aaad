/* What checkpoint.c, checkpoint_folder.c and checkpoint_gguf.c share: the checkpoint in the making.
 */
#pragma once

#include "engine/base/io.h"
#include "engine/weights/gguf.h"
#include "engine/weights/random_weights.h"
#include "engine/weights/tensor_list.h"

struct checkpoint_file {
    char *path;
    struct io_map map;
};

struct checkpoint {
    char *path; /* the folder, or the (first) GGUF file */
    bool is_gguf;
    struct checkpoint_file *files;
    size_t n_files, capacity;
    struct gguf gguf; /* metadata of the first file; empty for a folder */
    struct tensor_list tensors;
    struct model_config config;
    struct generation_defaults generation;
    char *chat_template;
    char dtype[16]; /* torch_dtype of config.json: "bfloat16"; "" where it has none */
    bool is_random;
    struct random_memory random;
};

/* Maps one more file; *out is its entry, valid until the next call. */
int checkpoint_map(struct checkpoint *c, const char *path, struct checkpoint_file **out,
                   struct err *err);

/* Each fills *c from what stands at `path`. `only`: the one weights file to read, or NULL. */
int checkpoint_read_folder(struct checkpoint *c, const char *path, const char *only,
                           struct err *err);
/* Only `name`, a config.json, and what belongs to it. */
int checkpoint_read_config(struct checkpoint *c, const char *folder, const char *name,
                           struct err *err);
int checkpoint_read_gguf(struct checkpoint *c, const char *path, struct err *err);

/* "folder/name"; NULL when out of memory. The caller frees. */
char *checkpoint_join(const char *folder, const char *name);

/* The last part of a path. */
const char *checkpoint_base_name(const char *path);
