/*
 * qwen-chat inspect: what a model is made of, and what it would take in each storage format. The
 * one part of app/ that looks into a checkpoint: nothing is loaded, only headers are read.
 */
#include "app/engine_setup.h"
#include "app/subcommands.h"

#include "engine/base/mem.h"
#include "engine/base/sanitize.h"
#include "engine/weights/inspect.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void subcommand_row(const struct frontend *front, const char *name, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    sanitize_line(text);
    const char *const cells[] = {name, text};
    front->row(front->ui, cells, 2, false);
}

static void end_table(const struct frontend *front) {
    front->row(front->ui, NULL, 0, false);
    front->say(front->ui, TONE_OUTPUT, "");
}

static void show_facts(const struct frontend *front, const struct checkpoint *c) {
    struct inspect_row rows[24];
    size_t n = inspect_facts(c, rows, sizeof rows / sizeof *rows);
    for (size_t i = 0; i < n; i++) subcommand_row(front, rows[i].name, "%s", rows[i].value);
    end_table(front);
}

/* --- tensors ---------------------------------------------------------------------------------- */

/* Tensors of one kind: the same name but for the layer's number, the same shape and format. */
struct group {
    char name[160];
    const struct checkpoint_tensor *first;
    size_t n;
    uint64_t bytes;
};

/* "model.layers.17.mlp.up_proj.weight" -> "model.layers.*.mlp.up_proj.weight" */
static void generalize(const char *name, char *out, size_t n_out) {
    size_t n = 0;
    for (const char *c = name; *c && n + 1 < n_out;) {
        bool begins = isdigit((unsigned char)*c) && (c == name || c[-1] == '.');
        size_t digits = begins ? strspn(c, "0123456789") : 0;
        if (digits && (c[digits] == '.' || c[digits] == '\0')) {
            out[n++] = '*';
            c += digits;
        } else {
            out[n++] = *c++;
        }
    }
    out[n] = '\0';
}

static bool is_alike(const struct checkpoint_tensor *a, const struct checkpoint_tensor *b) {
    return a->format == b->format && a->n_dims == b->n_dims &&
           memcmp(a->dims, b->dims, (size_t)a->n_dims * sizeof *a->dims) == 0;
}

static void show_group(const struct frontend *front, const struct group *g) {
    char count[24], shape[96], bytes[24], name[sizeof g->name];
    inspect_shape(g->first, shape);
    inspect_bytes(g->bytes, bytes);
    snprintf(count, sizeof count, "%zu", g->n);
    snprintf(name, sizeof name, "%s", g->name);
    sanitize_line(name);
    const char *const cells[] = {name, count, shape, format_table[g->first->format].name, bytes};
    front->row(front->ui, cells, 5, false);
}

static int add_to_groups(struct group **groups, size_t *n, size_t *capacity,
                         const struct checkpoint_tensor *t, bool is_verbose, struct err *err) {
    struct group group = {.first = t, .n = 1, .bytes = t->bytes};
    if (is_verbose)
        snprintf(group.name, sizeof group.name, "%s", t->name);
    else
        generalize(t->name, group.name, sizeof group.name);
    for (size_t i = 0; i < *n && !is_verbose; i++) {
        struct group *g = &(*groups)[i];
        if (strcmp(g->name, group.name) != 0 || !is_alike(g->first, t)) continue;
        g->n++;
        g->bytes += t->bytes;
        return 0;
    }
    if (mem_grow((void **)groups, capacity, *n + 1, sizeof **groups) != 0)
        return err_memory(err, (*n + 1) * sizeof **groups, "the list of tensors");
    (*groups)[(*n)++] = group;
    return 0;
}

static int show_tensors(const struct frontend *front, const struct checkpoint *c, bool is_verbose,
                        struct err *err) {
    static const char *const head[] = {"tensor", "count", "shape", "format", "size"};
    struct group *groups = NULL;
    size_t n = 0, capacity = 0;
    int result = 0;
    for (size_t i = 0; i < checkpoint_n_tensors(c) && result == 0; i++)
        result = add_to_groups(&groups, &n, &capacity, checkpoint_tensor_at(c, i), is_verbose, err);
    if (result == 0) {
        front->row(front->ui, head, 5, true);
        for (size_t i = 0; i < n; i++) show_group(front, &groups[i]);
        end_table(front);
    }
    mem_free(groups);
    return result;
}

/* --- memory ----------------------------------------------------------------------------------- */

static void show_bytes(const struct frontend *front, const char *name, uint64_t bytes) {
    char text[24];
    inspect_bytes(bytes, text);
    subcommand_row(front, name, "%s", text);
}

static void show_plan(const struct frontend *front, const struct memory_plan *p) {
    subcommand_row(front, "context", "%d tokens", p->context_tokens);
    show_bytes(front, "weights", p->weights_bytes);
    show_bytes(front, "KV cache", p->kv_bytes);
    show_bytes(front, "KV cache of a token", p->kv_bytes_per_token);
    show_bytes(front, "work", p->activations_bytes);
    show_bytes(front, "tokenizer", p->tokenizer_bytes);
    show_bytes(front, "program", p->program_bytes);
    show_bytes(front, "all", p->total_bytes);
    show_bytes(front, "available", p->available_bytes);
    end_table(front);
}

static void show_format(const struct frontend *front, const char *name, uint64_t disk,
                        uint64_t memory, const char *label) {
    char disk_text[24], memory_text[24];
    inspect_bytes(disk, disk_text);
    inspect_bytes(memory, memory_text);
    const char *const cells[] = {name, disk_text, memory_text, label};
    front->row(front->ui, cells, 4, false);
}

/* What the plan has beside the weights is the same in every format. */
static void show_formats(const struct frontend *front, const struct checkpoint *c,
                         const struct memory_plan *plan) {
    static const char *const head[] = {"format", "disk", "memory", "what it is"};
    struct inspect_size sizes[N_FORMATS];
    size_t n = inspect_sizes(c, sizes);
    uint64_t beside = plan->total_bytes - plan->weights_bytes;
    front->row(front->ui, head, 4, true);
    show_format(front, "as it is", checkpoint_bytes(c), plan->total_bytes, "");
    for (size_t i = 0; i < n; i++)
        show_format(front, format_table[sizes[i].format].name, sizes[i].bytes,
                    beside + sizes[i].bytes, format_table[sizes[i].format].label);
    end_table(front);
}

/* -----------------------------------------------------------------------------------------------
 */

static int show_all(const struct config *config, const struct frontend *front, const char *path,
                    const struct checkpoint *c, struct err *err) {
    struct memory_plan plan;
    bool is_random = checkpoint_is_random(c);
    struct engine_options options = engine_setup(config, path);
    if (is_random) {
        options.random_weights = "";
        front->say(front->ui, TONE_NOTICE,
                   "there are no weights: what follows is as if they were here, by config.json");
    }
    show_facts(front, c);
    if (show_tensors(front, c, config->verbose, err) != 0) return -1;
    if (engine_plan(&options, NULL, &plan, err) != 0) return -1;
    show_plan(front, &plan);
    show_formats(front, c, &plan);
    return 0;
}

int subcommand_inspect(const struct config *config, const struct frontend *front, struct err *err) {
    struct checkpoint *checkpoint;
    char *path;
    if (config->arguments.n > 2)
        return err_set(err, ERR_USAGE, "inspect takes one path, found also \"%s\"",
                       config->arguments.items[2]);
    if (config->arguments.n == 2) {
        path = config_expand_path(config, config->arguments.items[1]);
        if (!path) return err_memory(err, 64, "a path");
    } else if (config_find_model(config, &path, err) != 0) {
        return -1;
    }
    int result = checkpoint_is_config_only(path)
                     ? checkpoint_open_random(&checkpoint, path, NULL, err)
                     : checkpoint_open(&checkpoint, path, err);
    if (result == 0) {
        result = show_all(config, front, path, checkpoint, err);
        checkpoint_close(checkpoint);
    }
    mem_free(path);
    return result;
}
