/*
 * Layouts. Hugging Face: <cache>/models--org--name/{refs/main, snapshots/<revision>/}, the cache
 * being HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub.
 * ModelScope: <cache>/[models/]org/name with "." written "___", the cache being MODELSCOPE_CACHE or
 * ~/.cache/modelscope/hub.
 */
#include "engine/weights/hub_cache.h"

#include "engine/base/buf.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <stdlib.h>
#include <string.h>

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

bool hub_cache_is_name(const char *model) {
    size_t org = strspn(model, NAME_CHARACTERS);
    if (org == 0 || org > 100 || model[org] != '/' || model[0] == '.') return false;
    const char *name = model + org + 1;
    size_t n = strspn(name, NAME_CHARACTERS);
    return n > 0 && n <= 100 && name[n] == '\0' && name[0] != '.';
}

static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value && value[0] ? value : NULL;
}

/* The first of the rows whose variable is set, with its ending; "" when none is. */
static void find_root(struct buf *out, const char *const rows[][2], size_t n) {
    for (size_t i = 0; i < n; i++) {
        const char *value = variable(rows[i][0]);
        if (!value) continue;
        buf_printf(out, "%s%s", value, rows[i][1]);
        return;
    }
    buf_puts(out, "");
}

static void find_hugging_face_root(struct buf *out) {
    static const char *const rows[][2] = {
        {"HF_HUB_CACHE", ""},
        {"HUGGINGFACE_HUB_CACHE", ""},
        {"HF_HOME", "/hub"},
        {"XDG_CACHE_HOME", "/huggingface/hub"},
        {"HOME", "/.cache/huggingface/hub"},
    };
    find_root(out, rows, sizeof rows / sizeof *rows);
}

static void find_modelscope_root(struct buf *out) {
    static const char *const rows[][2] = {
        {"MODELSCOPE_CACHE", ""},
        {"HOME", "/.cache/modelscope/hub"},
    };
    find_root(out, rows, sizeof rows / sizeof *rows);
}

/* Text with every `from` written as `to`. */
static void add_replaced(struct buf *out, const char *text, char from, const char *to) {
    for (; *text; text++) {
        if (*text == from)
            buf_puts(out, to);
        else
            buf_putc(out, *text);
    }
}

/* The folder that refs/main of a repository in the cache names. */
static char *find_snapshot(const char *repository) {
    struct buf path = {0}, revision = {0};
    char *found = NULL;
    buf_printf(&path, "%s/refs/main", repository);
    if (!path.failed && io_read_file(path.data, 256, &revision, NULL) == 0) {
        size_t n = strspn(revision.data, NAME_CHARACTERS);
        buf_clear(&path);
        buf_printf(&path, "%s/snapshots/%.*s", repository, (int)n, revision.data);
        if (n > 0 && revision.data[0] != '.' && !path.failed && io_is_folder(path.data))
            found = mem_strdup(path.data);
    }
    buf_release(&path);
    buf_release(&revision);
    return found;
}

static char *find_in_hugging_face(const char *root, const char *model) {
    struct buf path = {0};
    buf_printf(&path, "%s/models--", root);
    add_replaced(&path, model, '/', "--");
    char *found = path.failed ? NULL : find_snapshot(path.data);
    buf_release(&path);
    return found;
}

static char *find_in_modelscope(const char *root, const char *model) {
    static const char *const folders[] = {"", "/models", "/hub", "/hub/models"};
    char *found = NULL;
    for (size_t i = 0; i < 2 * sizeof folders / sizeof *folders && !found; i++) {
        struct buf path = {0};
        buf_printf(&path, "%s%s/", root, folders[i / 2]);
        if (i % 2)
            buf_puts(&path, model);
        else
            add_replaced(&path, model, '.', "___");
        if (!path.failed && io_is_folder(path.data)) found = mem_strdup(path.data);
        buf_release(&path);
    }
    return found;
}

char *hub_cache_find(const char *model, struct err *err) {
    struct buf hugging_face = {0}, modelscope = {0};
    char *found = NULL;
    find_hugging_face_root(&hugging_face);
    find_modelscope_root(&modelscope);
    if (hugging_face.failed || modelscope.failed) {
        err_memory(err, 256, "the path of a cache");
    } else {
        found = find_in_hugging_face(hugging_face.data, model);
        if (!found) found = find_in_modelscope(modelscope.data, model);
        if (!found)
            err_set(
                err, ERR_MODEL,
                "'%.120s' is no file or folder, and neither %.80s nor %.80s holds a model of that "
                "name",
                model, hugging_face.data, modelscope.data);
    }
    buf_release(&hugging_face);
    buf_release(&modelscope);
    return found;
}
