/* One GGUF file, or the parts of a split one: name-00001-of-00003.gguf, metadata in the first. */
#include "engine/base/mem.h"
#include "engine/weights/checkpoint_parts.h"
#include "engine/weights/gguf_config.h"

#include <stdio.h>
#include <string.h>

enum { MAX_PARTS = 1000, SUFFIX_BYTES = 20 /* "-00001-of-00003.gguf" */ };

/* Reads the digits of a five-digit number; -1 where there are others. */
static int five_digits(const char *text) {
    int value = 0;
    for (int i = 0; i < 5; i++) {
        if (text[i] < '0' || text[i] > '9') return -1;
        value = value * 10 + (text[i] - '0');
    }
    return value;
}

/* How many parts the name speaks of; 0 where it is not the name of a part. */
static int parts_in_name(const char *path) {
    size_t n = strlen(path);
    if (n <= SUFFIX_BYTES) return 0;
    const char *suffix = path + n - SUFFIX_BYTES;
    if (suffix[0] != '-' || memcmp(suffix + 6, "-of-", 4) != 0) return 0;
    int number = five_digits(suffix + 1), count = five_digits(suffix + 10);
    return number >= 1 && count >= number ? count : 0;
}

/* The path of part `number` (from 1), the caller's. */
static char *part_path(const char *path, int number, int count) {
    char suffix[SUFFIX_BYTES + 12];
    snprintf(suffix, sizeof suffix, "-%05d-of-%05d.gguf", number, count);
    struct buf out = {0};
    buf_printf(&out, "%.*s%s", (int)(strlen(path) - SUFFIX_BYTES), path, suffix);
    char *copy = out.failed ? NULL : mem_strdup(out.data);
    buf_release(&out);
    return copy;
}

/* Parses one part; the first one's metadata stay with the checkpoint. */
static int read_part(struct checkpoint *c, const char *path, int number, int count,
                     struct err *err) {
    struct checkpoint_file *file;
    struct gguf g;
    uint64_t part, parts;
    if (checkpoint_map(c, path, &file, err) != 0) return -1;
    if (gguf_parse(&g, file->map.data, file->map.size, file->path, number - 1, &c->tensors, err) !=
        0)
        return -1;
    int result = gguf_u64(&g, "split.no", 0, MAX_PARTS, 0, &part, err);
    if (result == 0) result = gguf_u64(&g, "split.count", 0, MAX_PARTS, 0, &parts, err);
    if (result == 0 && (parts < 2 ? count != 1 : (int)parts != count || (int)part != number - 1))
        result =
            err_set(err, ERR_MODEL,
                    "%.160s: is part %llu of %llu by its metadata (split.no, split.count), part "
                    "%d of %d by its name",
                    path, (unsigned long long)part + 1, (unsigned long long)parts, number, count);
    if (result == 0 && number == 1)
        c->gguf = g;
    else
        gguf_release(&g);
    return result;
}

static int read_parts(struct checkpoint *c, const char *path, int count, struct err *err) {
    if (count > MAX_PARTS)
        return err_set(err, ERR_MODEL, "%.160s: names %d parts, at most %d are read", path, count,
                       MAX_PARTS);
    for (int number = 1; number <= count; number++) {
        char *part = part_path(path, number, count);
        if (!part) return err_memory(err, strlen(path), "a path");
        int result = io_exists(part) ? read_part(c, part, number, count, err)
                                     : err_set(err, ERR_MODEL, "%.160s: is missing, part %d of %d",
                                               part, number, count);
        if (result == 0 && number == 1) {
            mem_free(c->path);
            c->path = part;
        } else {
            mem_free(part);
        }
        if (result != 0) return -1;
    }
    return 0;
}

static int check_tensor_count(const struct checkpoint *c, struct err *err) {
    uint64_t wanted;
    if (gguf_u64(&c->gguf, "split.tensors.count", 0, INT32_MAX, c->tensors.n, &wanted, err) != 0)
        return -1;
    if (wanted == c->tensors.n) return 0;
    return err_set(err, ERR_MODEL,
                   "%.160s: split.tensors.count is %llu, the parts hold %zu tensors", c->path,
                   (unsigned long long)wanted, c->tensors.n);
}

static int read_metadata(struct checkpoint *c, struct err *err) {
    struct gguf_string text;
    if (tensor_list_index(&c->tensors, err) != 0) return err_within(err, "%.160s", c->path);
    if (model_config_from_gguf(&c->config, &c->gguf, &c->tensors, err) != 0 ||
        generation_defaults_from_gguf(&c->generation, &c->gguf, &c->config, err) != 0 ||
        gguf_text(&c->gguf, "tokenizer.chat_template", &text, err) != 0)
        return -1;
    if (c->config.name[0] == '\0')
        snprintf(c->config.name, sizeof c->config.name, "%.120s", checkpoint_base_name(c->path));
    if (!text.data) return 0;
    c->chat_template = mem_strndup(text.data, text.n);
    return c->chat_template ? 0 : err_memory(err, text.n, "the chat template");
}

int checkpoint_read_gguf(struct checkpoint *c, const char *path, struct err *err) {
    int count = parts_in_name(path);
    c->is_gguf = true;
    c->path = mem_strdup(path);
    if (!c->path) return err_memory(err, strlen(path), "a path");
    if ((count > 1 ? read_parts(c, path, count, err) : read_part(c, path, 1, 1, err)) != 0)
        return -1;
    if (check_tensor_count(c, err) != 0) return -1;
    return read_metadata(c, err);
}
