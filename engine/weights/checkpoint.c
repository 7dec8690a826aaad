/* What all checkpoints have in common: finding them, the list of tensors, closing. */
#include "engine/weights/checkpoint.h"

#include "engine/base/mem.h"
#include "engine/base/text.h"
#include "engine/weights/checkpoint_parts.h"
#include "engine/weights/file_kind.h"
#include "engine/weights/gguf_config.h"
#include "engine/weights/hub_cache.h"

#include <string.h>

char *checkpoint_join(const char *folder, const char *name) {
    struct buf path = {0};
    size_t n = strlen(folder);
    buf_printf(&path, "%s%s%s", folder, n > 0 && folder[n - 1] == '/' ? "" : "/", name);
    char *joined = path.failed ? NULL : mem_strdup(path.data);
    buf_release(&path);
    return joined;
}

const char *checkpoint_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int checkpoint_map(struct checkpoint *c, const char *path, struct checkpoint_file **out,
                   struct err *err) {
    void *files = c->files;
    char *copy = mem_strdup(path);
    if (!copy || mem_grow(&files, &c->capacity, c->n_files + 1, sizeof *c->files) != 0) {
        mem_free(copy);
        return err_memory(err, sizeof *c->files, "the list of files");
    }
    c->files = files;
    *out = &c->files[c->n_files];
    **out = (struct checkpoint_file){.path = copy};
    if (io_map_open(&(*out)->map, path, err) != 0) {
        mem_free(copy);
        return -1;
    }
    c->n_files++;
    return 0;
}

/* A .safetensors file: its folder, and nothing else of it. */
static int read_weights_file(struct checkpoint *c, const char *path, struct err *err) {
    const char *name = checkpoint_base_name(path);
    char *folder = name == path ? mem_strdup(".") : mem_strndup(path, (size_t)(name - path));
    if (!folder) return err_memory(err, strlen(path), "a path");
    int result = checkpoint_read_folder(c, folder, name, err);
    mem_free(folder);
    return result;
}

static int refuse_file(const char *path, struct err *err) {
    struct io_map map;
    if (file_name_is_pickle(path))
        return err_set(err, ERR_MODEL,
                       "%.160s: is a pickled checkpoint, which could run code and is "
                       "never read; fetch the safetensors or GGUF files of the model",
                       path);
    if (io_map_open(&map, path, err) != 0) return -1;
    enum file_kind kind = file_kind_of(map.data, map.size);
    io_map_close(&map);
    return err_set(err, ERR_MODEL, "%.160s: is %s%s", path, file_kind_text(kind),
                   kind == FILE_UNKNOWN ? "; a folder, .gguf or .safetensors is needed" : "");
}

static int read_any(struct checkpoint *c, const char *path, struct err *err) {
    if (io_is_folder(path)) return checkpoint_read_folder(c, path, NULL, err);
    if (ends_with(path, ".gguf")) return checkpoint_read_gguf(c, path, err);
    if (ends_with(path, ".safetensors")) return read_weights_file(c, path, err);
    return refuse_file(path, err);
}

static int read_where(struct checkpoint *c, const char *where, struct err *err) {
    if (where[0] == '\0') return err_set(err, ERR_MODEL, "the name of the model is empty");
    if (io_exists(where)) return read_any(c, where, err);
    if (!hub_cache_is_name(where))
        return err_set(err, ERR_MODEL,
                       "'%.200s' is no file or folder (nor a name like Qwen/Qwen2.5-7B-Instruct)",
                       where);
    char *folder = hub_cache_find(where, err);
    if (!folder) return -1;
    int result = checkpoint_read_folder(c, folder, NULL, err);
    mem_free(folder);
    return result;
}

int checkpoint_open(struct checkpoint **out, const char *where, struct err *err) {
    struct checkpoint *c = mem_zalloc(1, sizeof *c);
    *out = NULL;
    if (!c) return err_memory(err, sizeof *c, "a checkpoint");
    if (read_where(c, where, err) != 0 || checkpoint_is_lost(c, err)) {
        checkpoint_close(c);
        return -1;
    }
    *out = c;
    return 0;
}

/* config.json of a folder, or the file that `where` is. */
static int read_config_only(struct checkpoint *c, const char *where, struct err *err) {
    bool is_folder = io_is_folder(where);
    const char *name = is_folder ? "config.json" : checkpoint_base_name(where);
    if (!is_folder && !ends_with(where, ".json"))
        return err_set(err, ERR_MODEL,
                       "'%.200s' is neither a folder with config.json nor such a file", where);
    char *folder = is_folder       ? mem_strdup(where)
                   : name == where ? mem_strdup(".")
                                   : mem_strndup(where, (size_t)(name - where));
    if (!folder) return err_memory(err, strlen(where), "a path");
    int result = checkpoint_read_config(c, folder, name, err);
    mem_free(folder);
    return result;
}

int checkpoint_open_random(struct checkpoint **out, const char *where, const char *mix,
                           struct err *err) {
    struct checkpoint *c = mem_zalloc(1, sizeof *c);
    *out = NULL;
    if (!c) return err_memory(err, sizeof *c, "a checkpoint");
    c->is_random = true;
    if (read_config_only(c, where, err) != 0 || random_weights_add(c, mix, err) != 0) {
        checkpoint_close(c);
        return -1;
    }
    *out = c;
    return 0;
}

void checkpoint_close(struct checkpoint *c) {
    if (!c) return;
    gguf_release(&c->gguf);
    tensor_list_release(&c->tensors);
    random_memory_release(&c->random);
    for (size_t i = 0; i < c->n_files; i++) {
        io_map_close(&c->files[i].map);
        mem_free(c->files[i].path);
    }
    mem_free(c->files);
    mem_free(c->chat_template);
    mem_free(c->path);
    mem_free(c);
}

const struct model_config *checkpoint_config(const struct checkpoint *c) {
    return &c->config;
}

const struct generation_defaults *checkpoint_generation(const struct checkpoint *c) {
    return &c->generation;
}

const char *checkpoint_chat_template(const struct checkpoint *c) {
    return c->chat_template;
}

const char *checkpoint_path(const struct checkpoint *c) {
    return c->path;
}

bool checkpoint_is_gguf(const struct checkpoint *c) {
    return c->is_gguf;
}

bool checkpoint_is_random(const struct checkpoint *c) {
    return c->is_random;
}

size_t checkpoint_n_tensors(const struct checkpoint *c) {
    return c->tensors.n;
}

const struct checkpoint_tensor *checkpoint_tensor_at(const struct checkpoint *c, size_t i) {
    return &c->tensors.items[i];
}

const struct checkpoint_tensor *checkpoint_find(const struct checkpoint *c, const char *name) {
    return tensor_list_find(&c->tensors, name);
}

uint64_t checkpoint_bytes(const struct checkpoint *c) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < c->tensors.n; i++) bytes += c->tensors.items[i].bytes;
    return bytes;
}

void checkpoint_drop_pages(const struct checkpoint *c) {
    random_memory_drop(&c->random);
}

bool checkpoint_is_lost(const struct checkpoint *c, struct err *err) {
    for (size_t i = 0; i < c->n_files; i++) {
        if (!io_map_failed(&c->files[i].map)) continue;
        err_set(err, ERR_IO, "%.200s: became shorter or unreadable while it was in use",
                c->files[i].path);
        return true;
    }
    return false;
}

/* Ids that text can turn into must be rows of the embedding. */
static int check_vocabulary(const struct checkpoint *c, const struct tokenizer *t,
                            struct err *err) {
    int32_t n = tokenizer_n_ids(t);
    if (n <= c->config.vocab) return 0;
    return err_set(err, ERR_MODEL,
                   "the tokenizer has %d tokens, the model's embedding only %d rows; they do not "
                   "belong together",
                   n, c->config.vocab);
}

int checkpoint_open_tokenizer(const struct checkpoint *c, const char *folder,
                              struct tokenizer **out, struct err *err) {
    *out = NULL;
    int result = folder       ? tokenizer_open_folder(out, folder, err)
                 : c->is_gguf ? gguf_open_tokenizer(&c->gguf, out, err)
                              : tokenizer_open_folder(out, c->path, err);
    if (result != 0 || check_vocabulary(c, *out, err) == 0) return result;
    tokenizer_close(*out);
    *out = NULL;
    return -1;
}
