/* Which tensors there are, in which format, and the ranges they lie in. */
#include "engine/weights/random_weights.h"

#include "engine/base/checked.h"
#include "engine/base/mem.h"
#include "engine/weights/checkpoint_parts.h"
#include "engine/weights/random_blocks.h"
#include "engine/weights/weight_table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    PERIOD_BYTES = (8 << 20) + 1, /* of random blocks, about; rounded up to no power of two */
    SEED = 1,
};
static const double deviation = 0.02;

/* --- formats ---------------------------------------------------------------------------------- */

/* A third of the layers, those at both ends and every third between, get the better format. */
static bool is_better_layer(int layer, int n_layers) {
    int eighth = n_layers / 8;
    return layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2;
}

/*
 * llama.cpp's Q4_K_M: Q4_K, but v, down and the head in Q6_K (v and down in the better layers
 * only), v1's fused q, k and v in Q5_K. Read from the files it makes: of a Qwen2.5-0.5B (Q5_0,
 * Q8_0, Q6_K and Q4_K, as 896 is no multiple of 256) the tensors come to 391,859,712 bytes, or to
 * the 462.96 MiB that llama-bench shows where the embedding stands beside the head in Q5_0.
 */
static enum format pick_q4_k_m(const struct weight_row *row, int layer,
                               const struct model_config *c) {
    bool is_head = row == &weight_table[WEIGHT_head] ||
                   (row == &weight_table[WEIGHT_embed] && c->has_tied_head);
    bool is_sensitive = row == &weight_table[WEIGHT_v] || row == &weight_table[WEIGHT_down];
    if (is_head) return FORMAT_Q6_K;
    if (row == &weight_table[WEIGHT_q] && weight_naming(c, false) == NAMES_V1) return FORMAT_Q5_K;
    return is_sensitive && is_better_layer(layer, c->n_layers) ? FORMAT_Q6_K : FORMAT_Q4_K;
}

/* What takes the place of a format whose blocks do not divide a row. */
static enum format instead_of(enum format format) {
    switch (format) {
    case FORMAT_Q4_K:
        return FORMAT_Q5_0;
    case FORMAT_Q5_K:
        return FORMAT_Q5_1;
    case FORMAT_Q6_K:
        return FORMAT_Q8_0;
    default:
        return FORMAT_F16;
    }
}

struct mix {
    bool is_q4_k_m;
    enum format format; /* of all matrices, else */
};

static enum format pick(const struct mix *mix, const struct weight_row *row, int layer,
                        const struct model_config *c) {
    enum format format = mix->is_q4_k_m ? pick_q4_k_m(row, layer, c) : mix->format;
    while (weight_dim(row->cols, c) % format_table[format].block_values != 0)
        format = instead_of(format);
    return format;
}

static enum format format_of_dtype(const char *dtype) {
    return strcmp(dtype, "float16") == 0   ? FORMAT_F16
           : strcmp(dtype, "float32") == 0 ? FORMAT_F32
                                           : FORMAT_BF16;
}

static int read_mix(const struct checkpoint *c, const char *name, struct mix *out,
                    struct err *err) {
    char known[160] = "";
    *out = (struct mix){.format = format_of_dtype(c->dtype)};
    if (!name || !name[0]) return 0;
    if (strcmp(name, "q4_k_m") == 0) {
        out->is_q4_k_m = true;
        return 0;
    }
    int found = format_by_name(name);
    if (found >= 0 && (format_table[found].uses & USE_WEIGHT)) {
        out->format = (enum format)found;
        return 0;
    }
    for (int f = 0; f < N_FORMATS; f++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s, ", format_table[f].name);
    return err_set(err, ERR_USAGE, "random weights cannot be \"%.40s\"; %sq4_k_m can", name, known);
}

/* --- the list --------------------------------------------------------------------------------- */

static size_t round_up(size_t n, size_t step) {
    return (n + step - 1) / step * step;
}

/* Behind the last one of its format; whole blocks follow on whole blocks. */
static int place(struct checkpoint *c, struct checkpoint_tensor *t, enum format format, int cols,
                 struct err *err) {
    struct random_range *range = &c->random.ranges[format];
    t->format = format;
    t->type = format_table[format].name;
    t->data = (void *)(uintptr_t)range->bytes; /* for now: where in its range */
    if (checked_mul(t->dims[0], format_row_bytes(format, (size_t)cols), &t->bytes) &&
        checked_add(range->bytes, t->bytes, &range->bytes))
        return 0;
    return err_set(err, ERR_MODEL, "tensor '%.80s' is too large", t->name);
}

static bool is_norm(const struct weight_row *row) {
    const char *underscore = strrchr(row->field, '_');
    return underscore && strcmp(underscore, "_norm") == 0;
}

static int add_tensor(struct checkpoint *c, const struct mix *mix, const struct weight_row *row,
                      int layer, struct err *err) {
    const enum weight_naming naming = weight_naming(&c->config, false);
    char name[MAX_WEIGHT_NAME];
    int first, total;
    weight_rows(row, naming, &c->config, &first, &total);
    if (!weight_is_there(row, &c->config) || first > 0) return 0;
    weight_name(row, naming, layer, name);
    struct checkpoint_tensor *t = tensor_list_add(&c->tensors, name, strlen(name), err);
    if (!t) return -1;
    t->dims[0] = (uint64_t)total;
    if (row->kind == KIND_MATRIX) {
        t->n_dims = 2;
        int cols = weight_dim(row->cols, &c->config);
        t->dims[1] = (uint64_t)cols;
        return place(c, t, pick(mix, row, layer, &c->config), cols, err);
    }
    t->n_dims = 1;
    if (!is_norm(row)) return place(c, t, FORMAT_F32, 1, err);
    t->format = FORMAT_F32;
    t->type = "f32";
    t->bytes = t->dims[0] * sizeof(float);
    t->data = c->random.ones;
    return 0;
}

/* In the order of the model: the embedding, the layers, what is behind them. */
static int add_all(struct checkpoint *c, const struct mix *mix, struct err *err) {
    for (int layer = -1; layer <= c->config.n_layers; layer++) {
        bool is_inside = layer >= 0 && layer < c->config.n_layers;
        for (int i = 0; i < N_WEIGHTS; i++) {
            bool is_here = weight_table[i].scope == SCOPE_LAYER
                               ? is_inside
                               : layer == (i == WEIGHT_embed ? -1 : c->config.n_layers);
            if (is_here && add_tensor(c, mix, &weight_table[i], layer, err) != 0) return -1;
        }
    }
    return 0;
}

static int make_ones(struct checkpoint *c, struct err *err) {
    size_t n =
        (size_t)(c->config.hidden > c->config.head_size ? c->config.hidden : c->config.head_size);
    c->random.ones = mem_zalloc(n, sizeof(float));
    if (!c->random.ones) return err_memory(err, n * sizeof(float), "norms");
    for (size_t i = 0; i < n; i++) c->random.ones[i] = 1;
    return 0;
}

/* --- the ranges ------------------------------------------------------------------------------- */

/* A file in memory with whole random blocks and whole pages; -1: none, errno says why. */
static int make_file(enum format format, size_t *period) {
    const size_t block_bytes = (size_t)format_table[format].block_bytes;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), both = page * block_bytes;
    *period = round_up(PERIOD_BYTES, both);
    int file = memfd_create("random weights", MFD_CLOEXEC);
    if (file < 0) return -1;
    void *data = MAP_FAILED;
    if (ftruncate(file, (off_t)*period) == 0)
        data = mmap(NULL, *period, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    bool is_full = data != MAP_FAILED && random_blocks(format, deviation, SEED + (uint64_t)format,
                                                       data, *period / block_bytes);
    if (data != MAP_FAILED) munmap(data, *period);
    if (is_full) return file;
    int code = data == MAP_FAILED ? errno : ENOMEM;
    close(file);
    errno = code;
    return -1;
}

static int map_range(struct random_range *range, enum format format) {
    size_t period, size;
    int file = make_file(format, &period);
    if (file < 0) return -1;
    size = round_up(range->bytes, period);
    void *data = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    range->bytes = 0;
    for (size_t at = 0; data != MAP_FAILED && at < size; at += period) {
        if (mmap((char *)data + at, period, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) !=
            MAP_FAILED)
            continue;
        munmap(data, size);
        data = MAP_FAILED;
    }
    int code = errno;
    close(file); /* the mappings keep it */
    errno = code;
    if (data == MAP_FAILED) return -1;
    *range = (struct random_range){data, size};
    return 0;
}

static int map_all(struct checkpoint *c, struct err *err) {
    for (int f = 0; f < N_FORMATS; f++) {
        struct random_range *range = &c->random.ranges[f];
        uint64_t bytes = range->bytes;
        if (bytes > 0 && map_range(range, (enum format)f) != 0)
            return err_set(err, ERR_MEMORY, "cannot make %llu bytes of random weights: %s",
                           (unsigned long long)bytes, strerror(errno));
    }
    for (size_t i = 0; i < c->tensors.n; i++) {
        struct checkpoint_tensor *t = &c->tensors.items[i];
        if (t->data != c->random.ones)
            t->data = c->random.ranges[t->format].data + (uintptr_t)t->data;
    }
    return 0;
}

/* --- public ----------------------------------------------------------------------------------- */

int random_weights_add(struct checkpoint *c, const char *mix_name, struct err *err) {
    struct mix mix;
    if (read_mix(c, mix_name, &mix, err) != 0 || make_ones(c, err) != 0 ||
        add_all(c, &mix, err) != 0 || map_all(c, err) != 0)
        return -1;
    return tensor_list_index(&c->tensors, err);
}

void random_memory_drop(const struct random_memory *m) {
    for (int f = 0; f < N_FORMATS; f++)
        if (m->ranges[f].data) madvise(m->ranges[f].data, m->ranges[f].bytes, MADV_DONTNEED);
}

void random_memory_release(struct random_memory *m) {
    for (int f = 0; f < N_FORMATS; f++)
        if (m->ranges[f].data) munmap(m->ranges[f].data, m->ranges[f].bytes);
    mem_free(m->ones);
    *m = (struct random_memory){0};
}
