/* The rows of weight_names.def as data, and the little that is computed from a row and a config. */
#pragma once

#include "engine/weights/model_config.h"

#include <stddef.h>

enum weight_scope { SCOPE_MODEL, SCOPE_LAYER };
enum weight_kind { KIND_MATRIX, KIND_VECTOR };
enum weight_dim { DIM_V, DIM_D, DIM_F, DIM_K, DIM_HK, DIM_GK, DIM_ONE };
enum weight_when { WHEN_ALWAYS, WHEN_QKV_BIAS, WHEN_O_BIAS, WHEN_QK_NORM, WHEN_UNTIED };
enum weight_part { PART_WHOLE, PART_Q_ROWS, PART_K_ROWS, PART_V_ROWS };
enum weight_naming { NAMES_HF, NAMES_V1, NAMES_GGUF, NAMES_V1_GGUF, N_NAMINGS };

struct weight_row {
    enum weight_scope scope;
    enum weight_kind kind;
    const char *field;
    size_t offset; /* of the field in struct weights or struct layer_weights */
    enum weight_dim rows, cols;
    enum weight_when when;
    enum weight_part part;
    const char *names[N_NAMINGS];
};

enum {
#define WEIGHT(scope, kind, field, ...) WEIGHT_##field,
#include "engine/weights/weight_names.def"
#undef WEIGHT
    N_WEIGHTS
};
extern const struct weight_row weight_table[N_WEIGHTS];

/* Which column of names a checkpoint uses. */
enum weight_naming weight_naming(const struct model_config *c, bool is_gguf);

bool weight_is_there(const struct weight_row *row, const struct model_config *c);
int weight_dim(enum weight_dim dim, const struct model_config *c);

/* The tensor's name with the layer's number in it. */
enum { MAX_WEIGHT_NAME = 80 };
void weight_name(const struct weight_row *row, enum weight_naming naming, int layer,
                 char out[MAX_WEIGHT_NAME]);

/*
 * Where the row's values begin in its tensor and how many rows that tensor has: 0 and the row's own
 * count, but for v1's fused q, k and v.
 */
void weight_rows(const struct weight_row *row, enum weight_naming naming,
                 const struct model_config *c, int *first, int *total);
