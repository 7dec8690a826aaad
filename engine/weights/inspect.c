/* Facts to sentences; nothing here is asked twice by the engine. */
#include "engine/weights/inspect.h"

#include "engine/weights/weights.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rows {
    struct inspect_row *items;
    size_t n, max;
};

static void add(struct rows *rows, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void add(struct rows *rows, const char *name, const char *format, ...) {
    if (rows->n == rows->max) return;
    struct inspect_row *row = &rows->items[rows->n++];
    row->name = name;
    va_list args;
    va_start(args, format);
    vsnprintf(row->value, sizeof row->value, format, args);
    va_end(args);
}

void inspect_bytes(uint64_t bytes, char out[24]) {
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 999.95 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1000;
        unit++;
    }
    snprintf(out, 24, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void inspect_shape(const struct checkpoint_tensor *t, char out[96]) {
    size_t n = (size_t)snprintf(out, 96, "[");
    for (int i = 0; i < t->n_dims; i++)
        n += (size_t)snprintf(out + n, 96 - n, "%s%llu", i ? ", " : "",
                              (unsigned long long)t->dims[i]);
    snprintf(out + n, 96 - n, "]");
}

static void add_rope(struct rows *rows, const struct model_config *c) {
    switch (c->rope_scaling) {
    case ROPE_PLAIN:
        add(rows, "rotation", "base %g", c->rope_base);
        break;
    case ROPE_LINEAR:
        add(rows, "rotation", "base %g, linear x %g", c->rope_base, c->rope_factor);
        break;
    case ROPE_YARN:
        add(rows, "rotation", "base %g, YaRN x %g from %d tokens", c->rope_base, c->rope_factor,
            c->rope_original_tokens);
        break;
    case ROPE_DYNAMIC_NTK:
        add(rows, "rotation", "base %g, dynamic NTK from %d tokens", c->rope_base,
            c->rope_original_tokens);
        break;
    case ROPE_LLAMA3:
        add(rows, "rotation", "base %g, llama3 x %g from %d tokens", c->rope_base, c->rope_factor,
            c->rope_original_tokens);
        break;
    case ROPE_DIVISORS:
        add(rows, "rotation", "base %g, a divisor for each frequency", c->rope_base);
        break;
    }
    if (c->logn_tokens) add(rows, "logn scaling", "from %d tokens", c->logn_tokens);
    if (c->sliding_window)
        add(rows, "sliding window", "%d tokens, from layer %d", c->sliding_window,
            c->sliding_from_layer);
}

static void add_parameters(struct rows *rows, uint64_t n) {
    if (n < 1000000)
        add(rows, "parameters", "%llu", (unsigned long long)n);
    else if (n < 1000000000)
        add(rows, "parameters", "%.1f million", (double)n / 1e6);
    else
        add(rows, "parameters", "%.2f billion", (double)n / 1e9);
}

static void add_generation(struct rows *rows, const struct generation_defaults *g) {
    char ids[128] = "";
    for (int i = 0; i < g->n_stop_ids; i++)
        snprintf(ids + strlen(ids), sizeof ids - strlen(ids), "%s%d", i ? ", " : "",
                 g->stop_ids[i]);
    add(rows, "end ids", "%s", g->n_stop_ids ? ids : "none");
    const char *source = g->is_from_file ? "" : " (the family's)";
    if (g->do_sample)
        add(rows, "sampling", "temperature %g, top_k %d, top_p %g, min_p %g, repetition %g%s",
            (double)g->temperature, g->top_k, (double)g->top_p, (double)g->min_p,
            (double)g->repetition_penalty, source);
    else
        add(rows, "sampling", "greedy, repetition %g%s", (double)g->repetition_penalty, source);
}

size_t inspect_facts(const struct checkpoint *c, struct inspect_row *items, size_t max) {
    struct rows rows = {items, 0, max};
    const struct model_config *m = checkpoint_config(c);
    char bytes[24];
    inspect_bytes(checkpoint_bytes(c), bytes);
    add(&rows, "name", "%.120s", m->name);
    add(&rows, "architecture", "%s", m->model_type);
    add(&rows, "container", "%s", checkpoint_is_gguf(c) ? "GGUF" : "safetensors");
    add_parameters(&rows, weights_parameters(m));
    add(&rows, "weights", "%s in %zu tensors", bytes, checkpoint_n_tensors(c));
    add(&rows, "layers", "%d", m->n_layers);
    add(&rows, "hidden size", "%d", m->hidden);
    add(&rows, "feed-forward", "%d", m->ffn);
    add(&rows, "heads", "%d, %d for keys and values, of %d", m->n_heads, m->n_kv_heads,
        m->head_size);
    add(&rows, "vocabulary", "%d%s", m->vocab,
        m->has_tied_head ? ", head tied to the embedding" : "");
    add(&rows, "biases", "%s%s", m->has_qkv_bias ? "q, k, v" : "none", m->has_o_bias ? ", o" : "");
    add(&rows, "q and k norms", "%s", m->has_qk_norm ? "yes" : "no");
    add_rope(&rows, m);
    add(&rows, "context", "trained on %d tokens, up to %d", m->trained_tokens, m->max_tokens);
    add(&rows, "chat template", "%s", checkpoint_chat_template(c) ? "yes" : "no");
    add_generation(&rows, checkpoint_generation(c));
    return rows.n;
}

struct type_total {
    const char *type;
    uint64_t n, bytes;
};

static int compare_totals(const void *a, const void *b) {
    const struct type_total *x = a, *y = b;
    return x->bytes < y->bytes ? 1 : x->bytes > y->bytes ? -1 : strcmp(x->type, y->type);
}

size_t inspect_types(const struct checkpoint *c, struct inspect_row *items, size_t max) {
    struct rows rows = {items, 0, max};
    struct type_total totals[64]; /* more than there are types */
    size_t n = 0;
    for (size_t i = 0; i < checkpoint_n_tensors(c); i++) {
        const struct checkpoint_tensor *t = checkpoint_tensor_at(c, i);
        size_t k = 0;
        while (k < n && strcmp(totals[k].type, t->type) != 0) k++;
        if (k == n) totals[n++] = (struct type_total){t->type, 0, 0};
        totals[k].n++;
        totals[k].bytes += t->bytes;
    }
    if (n > 0) qsort(totals, n, sizeof *totals, compare_totals);
    for (size_t k = 0; k < n; k++) {
        char bytes[24];
        inspect_bytes(totals[k].bytes, bytes);
        add(&rows, totals[k].type, "%llu tensors, %s", (unsigned long long)totals[k].n, bytes);
    }
    return rows.n;
}

size_t inspect_sizes(const struct checkpoint *c, struct inspect_size sizes[N_FORMATS]) {
    const struct model_config *m = checkpoint_config(c);
    for (int f = 0; f < N_FORMATS; f++)
        sizes[f] = (struct inspect_size){(enum format)f, weights_matrix_bytes(m, (enum format)f) +
                                                             weights_vector_bytes(m)};
    return N_FORMATS;
}
