/* weight_names.def made a table. */
#include "engine/weights/weight_table.h"

#include "engine/weights/weights.h"

#include <stdio.h>
#include <string.h>

#define OFFSET_MODEL(field) offsetof(struct weights, field)
#define OFFSET_LAYER(field) offsetof(struct layer_weights, field)

const struct weight_row weight_table[N_WEIGHTS] = {
#define WEIGHT(scope, kind, field, rows, cols, when, part, hf, v1, gguf, v1_gguf)                  \
    {SCOPE_##scope, KIND_##kind, #field,      OFFSET_##scope(field),  DIM_##rows,                  \
     DIM_##cols,    WHEN_##when, PART_##part, {hf, v1, gguf, v1_gguf}},
#include "engine/weights/weight_names.def"
#undef WEIGHT
};

enum weight_naming weight_naming(const struct model_config *c, bool is_gguf) {
    bool is_v1 = strcmp(c->model_type, "qwen") == 0;
    return is_gguf ? (is_v1 ? NAMES_V1_GGUF : NAMES_GGUF) : (is_v1 ? NAMES_V1 : NAMES_HF);
}

bool weight_is_there(const struct weight_row *row, const struct model_config *c) {
    switch (row->when) {
    case WHEN_ALWAYS:
        return true;
    case WHEN_QKV_BIAS:
        return c->has_qkv_bias;
    case WHEN_O_BIAS:
        return c->has_o_bias;
    case WHEN_QK_NORM:
        return c->has_qk_norm;
    case WHEN_UNTIED:
        return !c->has_tied_head;
    }
    return false;
}

int weight_dim(enum weight_dim dim, const struct model_config *c) {
    switch (dim) {
    case DIM_V:
        return c->vocab;
    case DIM_D:
        return c->hidden;
    case DIM_F:
        return c->ffn;
    case DIM_K:
        return c->head_size;
    case DIM_HK:
        return c->n_heads * c->head_size;
    case DIM_GK:
        return c->n_kv_heads * c->head_size;
    case DIM_ONE:
        return 1;
    }
    return 0;
}

void weight_name(const struct weight_row *row, enum weight_naming naming, int layer,
                 char out[MAX_WEIGHT_NAME]) {
    const char *name = row->names[naming], *mark = strchr(name, '#');
    if (mark)
        snprintf(out, MAX_WEIGHT_NAME, "%.*s%d%s", (int)(mark - name), name, layer, mark + 1);
    else
        snprintf(out, MAX_WEIGHT_NAME, "%s", name);
}

void weight_rows(const struct weight_row *row, enum weight_naming naming,
                 const struct model_config *c, int *first, int *total) {
    const int hk = weight_dim(DIM_HK, c), gk = weight_dim(DIM_GK, c);
    bool is_fused = naming == NAMES_V1 || naming == NAMES_V1_GGUF;
    *first = 0;
    *total = weight_dim(row->rows, c);
    if (!is_fused || row->part == PART_WHOLE) return;
    *first = row->part == PART_Q_ROWS ? 0 : row->part == PART_K_ROWS ? hk : hk + gk;
    *total = hk + 2 * gk;
}
