/*
 * Binding walks weight_names.def twice: first every name, shape and format is checked and all that
 * is wrong is listed, then matrices are viewed (or uploaded) and vectors become floats in one
 * block of device memory.
 */
#include "engine/weights/weights.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/weights/weight_table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MAX_LISTED = 10,       /* differences named in one sentence */
    MAX_LIST_BYTES = 220,  /* and how long their list may get */
    VECTOR_ALIGNMENT = 16, /* floats: 64 bytes */
    PACK_BYTES = 8 << 20,  /* packed at a time; then the file's pages are given back */
    COPY_ALIGNMENT = 256,  /* bytes: of a matrix that is copied */
};

/* One row of the table in one layer: the unit that both passes work on. */
struct place {
    const struct weight_row *row;
    int layer;
    int rows, cols;
    char name[MAX_WEIGHT_NAME];
};

typedef int place_visitor(void *ud, const struct place *p, struct err *err);

/* Calls for every weight that the config says is there, in the order of the model. */
static int visit(const struct model_config *c, enum weight_naming naming, place_visitor *visitor,
                 void *ud, struct err *err) {
    for (int layer = -1; layer <= c->n_layers; layer++) {
        bool in_layer = layer >= 0 && layer < c->n_layers;
        for (int i = 0; i < N_WEIGHTS; i++) {
            const struct weight_row *row = &weight_table[i];
            /* the embedding stands before the layers, final norm and head behind them */
            bool is_here = row->scope == SCOPE_LAYER
                               ? in_layer
                               : layer == (i == WEIGHT_embed ? -1 : c->n_layers);
            if (!is_here || !weight_is_there(row, c)) continue;
            struct place p = {row, layer, weight_dim(row->rows, c), weight_dim(row->cols, c), ""};
            weight_name(row, naming, layer, p.name);
            if (visitor(ud, &p, err) != 0) return -1;
        }
    }
    return 0;
}

/* --- checking -------------------------------------------------------------------------------- */

struct check {
    const struct checkpoint *checkpoint;
    const struct model_config *config;
    enum weight_naming naming;
    int n_wrong, n_listed;
    char list[MAX_LIST_BYTES + 160];
};

static void add_wrong(struct check *check, const char *name, const char *what) {
    size_t n = strlen(check->list);
    check->n_wrong++;
    if (check->n_listed == MAX_LISTED || n > MAX_LIST_BYTES) return;
    check->n_listed++;
    snprintf(check->list + n, sizeof check->list - n, "%s%s %s", n ? ", " : "", name, what);
}

/* A tensor of GPTQ, AWQ, bitsandbytes or FP8 in the place of this one, or NULL. */
static const char *quantized_leftover(const struct checkpoint *c, const char *name) {
    static const char *const ends[] = {"qweight",      "qzeros",           "weight_packed",
                                       "weight_scale", "weight_scale_inv", "weight.absmax"};
    char other[MAX_WEIGHT_NAME + 24];
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++) {
        snprintf(other, sizeof other, "%.*s.%s", (int)(dot - name), name, ends[i]);
        if (checkpoint_find(c, other)) return ends[i];
    }
    return NULL;
}

static bool has_shape(const struct checkpoint_tensor *t, const struct place *p, int total) {
    if (p->row->kind == KIND_VECTOR) return t->n_dims == 1 && t->dims[0] == (uint64_t)total;
    return t->n_dims == 2 && t->dims[0] == (uint64_t)total && t->dims[1] == (uint64_t)p->cols;
}

/* "is [3, 4], not [4]" */
static void describe_shape(const struct checkpoint_tensor *t, const struct place *p, int total,
                           char *out, size_t size) {
    size_t n = (size_t)snprintf(out, size, "is [");
    for (int i = 0; i < t->n_dims; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%llu", i ? ", " : "",
                              (unsigned long long)t->dims[i]);
    if (p->row->kind == KIND_VECTOR)
        snprintf(out + n, size - n, "], not [%d]", total);
    else
        snprintf(out + n, size - n, "], not [%d, %d]", total, p->cols);
}

static int refuse_format(const struct checkpoint_tensor *t, struct err *err) {
    char known[128] = "";
    for (int f = 0; f < N_FORMATS; f++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", f ? ", " : "",
                 format_table[f].name);
    return err_set(err, ERR_MODEL, "tensor '%.80s' is stored as %s, which is not supported; %s are",
                   t->name, t->type, known);
}

static int check_place(void *ud, const struct place *p, struct err *err) {
    struct check *check = ud;
    const struct checkpoint_tensor *t = checkpoint_find(check->checkpoint, p->name);
    const char *leftover = quantized_leftover(check->checkpoint, p->name);
    char what[128];
    int first, total;
    weight_rows(p->row, check->naming, check->config, &first, &total);
    if (first > 0) return 0; /* of a fused tensor, which was checked with its first rows */
    if (leftover)
        return err_set(err, ERR_MODEL,
                       "'%.80s' has quantized parts (.%s) of GPTQ, AWQ or the like, which this "
                       "version does not read; use the unquantized model or a GGUF file",
                       p->name, leftover);
    if (!t) {
        add_wrong(check, p->name, "is missing");
        return 0;
    }
    if (!has_shape(t, p, total)) {
        describe_shape(t, p, total, what, sizeof what);
        add_wrong(check, p->name, what);
        return 0;
    }
    if (t->format == N_FORMATS) return refuse_format(t, err);
    if (p->row->kind == KIND_VECTOR && format_table[t->format].block_values != 1)
        return err_set(err, ERR_MODEL, "tensor '%.80s' is stored as %s; f32, f16 or bf16 is needed",
                       t->name, t->type);
    if (p->cols % format_table[t->format].block_values != 0 && p->row->kind == KIND_MATRIX)
        return err_set(err, ERR_MODEL,
                       "tensor '%.80s' has rows of %d values; %s needs multiples of %d", t->name,
                       p->cols, t->type, format_table[t->format].block_values);
    return 0;
}

int weights_check(const struct checkpoint *c, struct err *err) {
    const struct model_config *config = checkpoint_config(c);
    struct check check = {c, config, weight_naming(config, checkpoint_is_gguf(c)), 0, 0, ""};
    if (visit(config, check.naming, check_place, &check, err) != 0) return -1;
    if (check.n_wrong == 0) return 0;
    char more[40] = "";
    if (check.n_wrong > check.n_listed)
        snprintf(more, sizeof more, " and %d more", check.n_wrong - check.n_listed);
    return err_set(err, ERR_MODEL,
                   "%d of the model's tensors do not fit its configuration: %.300s%s",
                   check.n_wrong, check.list, more);
}

/* --- counting -------------------------------------------------------------------------------- */

struct count {
    enum format format;
    uint64_t matrix_bytes, vector_bytes, parameters;
};

static int count_place(void *ud, const struct place *p, struct err *err) {
    struct count *count = ud;
    (void)err;
    count->parameters += (uint64_t)p->rows * (uint64_t)p->cols;
    if (p->row->kind == KIND_VECTOR) {
        count->vector_bytes += (uint64_t)p->rows * sizeof(float);
        return 0;
    }
    bool divides = p->cols % format_table[count->format].block_values == 0;
    count->matrix_bytes +=
        (uint64_t)p->rows * format_row_bytes(divides ? count->format : FORMAT_F16, (size_t)p->cols);
    return 0;
}

static struct count count_weights(const struct model_config *c, enum format format) {
    struct count count = {.format = format};
    visit(c, NAMES_HF, count_place, &count, NULL);
    return count;
}

uint64_t weights_matrix_bytes(const struct model_config *c, enum format format) {
    return count_weights(c, format).matrix_bytes;
}

uint64_t weights_vector_bytes(const struct model_config *c) {
    return count_weights(c, FORMAT_F32).vector_bytes;
}

uint64_t weights_parameters(const struct model_config *c) {
    return count_weights(c, FORMAT_F32).parameters;
}

/* --- binding --------------------------------------------------------------------------------- */

struct binding {
    struct weights *weights;
    const struct checkpoint *checkpoint;
    enum weight_naming naming;
    float *host;    /* all vectors, as they will lie on the device */
    float *device;  /* the same places there */
    size_t used;    /* floats given out */
    char *matrices; /* room for those that are packed or copied; NULL: none */
    size_t matrices_used;
    const struct weights_progress *progress;
    uint64_t bytes_done, bytes_all; /* of the matrices as they are stored; for progress */
};

static size_t vector_room(int n) {
    return ((size_t)n + VECTOR_ALIGNMENT - 1) / VECTOR_ALIGNMENT * VECTOR_ALIGNMENT;
}

static void *field_of(const struct binding *b, const struct place *p) {
    struct weights *w = b->weights;
    void *base = p->row->scope == SCOPE_MODEL ? (void *)w : (void *)&w->layers[p->layer];
    return (char *)base + p->row->offset;
}

static int refuse_value(const char *name, size_t at, float value, struct err *err) {
    return err_set(err, ERR_MODEL,
                   "tensor '%.80s' holds %s at value %zu; all weights must be finite", name,
                   isnan(value) ? "NaN" : "an infinity", at);
}

static int check_finite(const char *name, const float *values, size_t n, size_t first,
                        struct err *err) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(values[i])) return refuse_value(name, first + i, values[i], err);
    return 0;
}

/* Names the first value of `m`, a part of a stored matrix in host memory whose values before it are
 * `before`, that is not finite. */
static int refuse_matrix(const char *name, const struct matrix *m, size_t before, struct err *err) {
    const struct format_info *info = &format_table[m->format];
    const size_t n = (size_t)m->rows * (size_t)m->cols, at_once = (size_t)info->block_values;
    const unsigned char *block = m->data;
    float values[256];
    for (size_t at = 0; at < n; at += at_once, block += info->block_bytes) {
        format_decode(m->format, block, values, at_once);
        if (check_finite(name, values, at_once, before + at, err) != 0) return -1;
    }
    return err_set(err, ERR_MODEL, "tensor '%.80s' holds values that are not finite", name);
}

/* Device memory that weights_release() gives back. */
static void *take(struct weights *w, size_t bytes, const char *what, struct err *err) {
    void *memory = w->device->alloc(w->device, bytes);
    if (!memory) {
        err_memory(err, bytes, what);
        return NULL;
    }
    w->owned[w->n_owned++] = memory;
    w->owned_bytes += bytes;
    return memory;
}

static int upload(struct weights *w, void *to, const void *from, size_t bytes, const char *what,
                  struct err *err) {
    enum op_status status = w->device->upload(w->device, to, from, bytes);
    if (status == OP_OK) return 0;
    return err_set(err, ERR_MEMORY, "cannot copy '%.80s' to the device: %s", what,
                   op_status_text(status));
}

static int load(struct weights *w, void *to, const void *from, enum format stored, size_t n,
                const char *what, struct err *err) {
    enum op_status status = w->device->load(w->device, to, from, stored, n);
    if (status == OP_OK) return 0;
    return err_set(err, ERR_MEMORY, "cannot bring '%.80s' to the device: %s", what,
                   op_status_text(status));
}

/* Kernels read a block's fields in place: floats at multiples of 4, the rest at multiples of 2. */
static bool is_aligned(const struct matrix *m) {
    return (uintptr_t)m->data % (m->format == FORMAT_F32 ? 4 : 2) == 0;
}

/* The layout that the device wants of a matrix. An embedding that is no head is only looked up:
 * it stays in its file. */
static enum matrix_layout layout_of(const struct device *device, const struct model_config *c,
                                    const struct place *p, enum format format) {
    bool is_looked_up = p->row == &weight_table[WEIGHT_embed] && !c->has_tied_head;
    return is_looked_up ? LAYOUT_STORED : device->layout(device, format);
}

/* Where the device wants a matrix that is stored at `data`, and how. */
struct home {
    enum format format;
    enum matrix_layout layout;
    bool is_mapped; /* it stays where it is */
    size_t bytes;   /* else: what it takes of the room for matrices */
};

static struct home home_of(const struct binding *b, const struct place *p,
                           const unsigned char *data, enum format stored) {
    struct device *device = b->weights->device;
    const struct model_config *c = checkpoint_config(b->checkpoint);
    const struct matrix m = {data, stored, p->rows, p->cols, LAYOUT_STORED};
    struct home home = {.format = stored, .layout = layout_of(device, c, p, stored)};
    if (!layout_is_packed(home.layout)) {
        home.is_mapped =
            device->reads_host_memory && is_aligned(&m) && !checkpoint_is_random(b->checkpoint);
        home.format = home.is_mapped ? stored : device->weight_format(device, stored);
    }
    if (home.is_mapped) return home;
    home.bytes = layout_bytes(home.layout, home.format, (size_t)p->rows, (size_t)p->cols);
    home.bytes = (home.bytes + COPY_ALIGNMENT - 1) / COPY_ALIGNMENT * COPY_ALIGNMENT;
    return home;
}

/* Packs some rows at a time, so that a matrix never lies in memory twice. */
static int pack_matrix(struct binding *b, const struct place *p, struct matrix *m, char *to,
                       enum matrix_layout layout, struct err *err) {
    struct device *device = b->weights->device;
    const size_t row_bytes = format_row_bytes(m->format, (size_t)m->cols);
    const int together = layout_table[layout].rows;
    int rows_at_once = (int)(PACK_BYTES / row_bytes) / together * together;
    if (rows_at_once < together) rows_at_once = together;
    for (int row = 0; row < m->rows; row += rows_at_once) {
        struct matrix some = *m;
        some.data = (const char *)m->data + (size_t)row * row_bytes;
        some.rows = m->rows - row < rows_at_once ? m->rows - row : rows_at_once;
        enum op_status status = device->pack(device, to + (size_t)row * row_bytes, &some);
        if (status == OP_NOT_FINITE)
            return refuse_matrix(p->name, &some, (size_t)row * (size_t)m->cols, err);
        if (status != OP_OK)
            return err_set(err, ERR_MEMORY, "cannot pack '%.80s': %s", p->name,
                           op_status_text(status));
        io_map_drop(some.data, (size_t)some.rows * row_bytes);
    }
    m->data = to;
    m->layout = layout;
    return 0;
}

static int tell_progress(struct binding *b, const struct place *p, enum format stored,
                         struct err *err) {
    const struct weights_progress *progress = b->progress;
    b->bytes_done += format_row_bytes(stored, (size_t)p->rows * (size_t)p->cols);
    const double share = (double)b->bytes_done / (double)b->bytes_all;
    if (!progress || progress->told(progress->ud, (float)share)) return 0;
    return err_set(err, ERR_OTHER, "opening the model was cancelled");
}

/* Mapped weights stay where they are; others are brought to the device in its format. */
static int bind_matrix(struct binding *b, const struct place *p, const unsigned char *data,
                       enum format stored, struct err *err) {
    struct weights *w = b->weights;
    struct matrix *m = field_of(b, p);
    const size_t n = (size_t)p->rows * (size_t)p->cols;
    const struct home home = home_of(b, p, data, stored);
    *m = (struct matrix){data, stored, p->rows, p->cols, LAYOUT_STORED};
    w->matrix_bytes += format_row_bytes(home.format, n);
    m->layout = layout_is_packed(home.layout) ? LAYOUT_STORED : home.layout;
    if (home.is_mapped) return 0;
    char *to = b->matrices + b->matrices_used;
    b->matrices_used += home.bytes;
    if (layout_is_packed(home.layout)) {
        if (pack_matrix(b, p, m, to, home.layout, err) != 0) return -1;
    } else {
        *m = (struct matrix){to, home.format, p->rows, p->cols, home.layout};
        if (load(w, to, data, stored, n, p->name, err) != 0) return -1;
    }
    return tell_progress(b, p, stored, err);
}

static int bind_vector(struct binding *b, const struct place *p, const unsigned char *data,
                       enum format format, struct err *err) {
    const float **field = field_of(b, p);
    float *values = b->host + b->used;
    *field = b->device + b->used;
    b->used += vector_room(p->rows);
    format_decode(format, data, values, (size_t)p->rows);
    return check_finite(p->name, values, (size_t)p->rows, 0, err);
}

/* Its bytes in the checkpoint: some rows of a tensor, where that is a fused one. */
static const unsigned char *stored_at(const struct binding *b, const struct place *p,
                                      const struct checkpoint_tensor *t) {
    int first, total;
    weight_rows(p->row, b->naming, checkpoint_config(b->checkpoint), &first, &total);
    return (const unsigned char *)t->data +
           (size_t)first * format_row_bytes(t->format, (size_t)p->cols);
}

static int bind_place(void *ud, const struct place *p, struct err *err) {
    struct binding *b = ud;
    const struct checkpoint_tensor *t = checkpoint_find(b->checkpoint, p->name);
    const unsigned char *data = stored_at(b, p, t);
    return p->row->kind == KIND_MATRIX ? bind_matrix(b, p, data, t->format, err)
                                       : bind_vector(b, p, data, t->format, err);
}

/* Value i of a matrix on the device; NaN where it cannot be had. */
static float value_at(struct device *device, const struct matrix *m, size_t i) {
    unsigned char block[256];
    float values[256];
    const struct format_info *info = &format_table[m->format];
    const size_t n = (size_t)info->block_values;
    const unsigned char *from =
        (const unsigned char *)m->data + format_row_bytes(m->format, i / n * n);
    if (device->download(device, block, from, (size_t)info->block_bytes) != OP_OK ||
        device->sync(device) != OP_OK)
        return NAN;
    format_decode(m->format, block, values, n);
    return values[i % n];
}

/* Looks through a matrix that was copied; those that stay mapped are not read before they are used.
 */
static int check_place_finite(void *ud, const struct place *p, struct err *err) {
    struct binding *b = ud;
    struct device *device = b->weights->device;
    const struct matrix *m = field_of(b, p);
    size_t where;
    const char *data = m->data;
    bool is_copied = b->matrices && data >= b->matrices && data < b->matrices + b->matrices_used;
    if (p->row->kind != KIND_MATRIX || layout_is_packed(m->layout) ||
        checkpoint_is_random(b->checkpoint) || !is_copied)
        return 0;
    enum op_status status = device->find_not_finite(device, m, &where);
    if (status != OP_OK)
        return err_set(err, ERR_MEMORY, "the device failed while it looked through '%.80s': %s",
                       p->name, op_status_text(status));
    if (where == SIZE_MAX) return 0;
    return refuse_value(p->name, where, value_at(device, m, where), err);
}

struct room {
    struct binding *binding;
    size_t floats, matrices_bytes;
};

static int add_room(void *ud, const struct place *p, struct err *err) {
    struct room *room = ud;
    struct binding *b = room->binding;
    const struct checkpoint_tensor *t = checkpoint_find(b->checkpoint, p->name);
    (void)err;
    if (p->row->kind == KIND_VECTOR) {
        room->floats += vector_room(p->rows);
        return 0;
    }
    const struct home home = home_of(b, p, stored_at(b, p, t), t->format);
    room->matrices_bytes += home.bytes;
    if (!home.is_mapped)
        b->bytes_all += format_row_bytes(t->format, (size_t)p->rows * (size_t)p->cols);
    return 0;
}

static int bind_all(struct binding *b, const struct model_config *config, struct err *err) {
    struct weights *w = b->weights;
    struct room room = {.binding = b};
    visit(config, b->naming, add_room, &room, err);
    const size_t bytes = room.floats * sizeof(float);
    w->layers = mem_zalloc((size_t)config->n_layers, sizeof *w->layers);
    b->host = mem_zalloc(room.floats, sizeof(float));
    if (!w->layers || !b->host) return err_memory(err, bytes, "norms and biases");
    b->device = take(w, bytes, "norms and biases", err);
    if (!b->device) return -1;
    if (room.matrices_bytes > 0) {
        b->matrices = take(w, room.matrices_bytes, "weights", err);
        if (!b->matrices) return -1;
    }
    if (visit(config, b->naming, bind_place, b, err) != 0) return -1;
    if (config->has_tied_head) w->head = w->embed;
    if (upload(w, b->device, b->host, bytes, "norms and biases", err) != 0) return -1;
    enum op_status status = w->device->sync(w->device);
    checkpoint_drop_pages(b->checkpoint);
    if (status != OP_OK)
        return err_set(err, ERR_MEMORY, "the device failed while it took the weights: %s",
                       op_status_text(status));
    if (checkpoint_is_lost(b->checkpoint, err)) return -1;
    return visit(config, b->naming, check_place_finite, b, err);
}

int weights_bind(struct weights *w, const struct checkpoint *c, struct device *device,
                 const struct weights_progress *progress, struct err *err) {
    const struct model_config *config = checkpoint_config(c);
    *w = (struct weights){.device = device};
    if (weights_check(c, err) != 0) return -1;
    struct binding binding = {.weights = w,
                              .checkpoint = c,
                              .naming = weight_naming(config, checkpoint_is_gguf(c)),
                              .progress = progress};
    int result = bind_all(&binding, config, err);
    mem_free(binding.host);
    if (result != 0) weights_release(w);
    return result;
}

void weights_release(struct weights *w) {
    for (size_t i = 0; i < w->n_owned; i++) w->device->release(w->device, w->owned[i]);
    mem_free(w->layers);
    *w = (struct weights){0};
}
