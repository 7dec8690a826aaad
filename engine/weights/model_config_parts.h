/* What the readers of config.json and of GGUF metadata share. */
#pragma once

#include "engine/weights/model_config.h"

#include <stddef.h>

/* The smallest and largest value allowed for an int field: offsetof(struct model_config, …). */
struct model_limit {
    size_t offset;
    const char *what; /* "layers" */
    int min, max;
};
const struct model_limit *model_limit(size_t offset);

/* The defaults that a family published, with its stop ids; for a checkpoint that has none. */
void generation_defaults_of_family(struct generation_defaults *g, const struct model_config *c);

/* Appends a stop id once; refuses one that is no row of the embedding, or a 17th. */
int generation_add_stop(struct generation_defaults *g, uint64_t id, const struct model_config *c,
                        struct err *err);

/* hidden / n_heads, for a source that does not give the head size; refuses what does not divide. */
int model_config_imply_head_size(const struct model_config *c, int *out, struct err *err);

/* Sets what follows from others: trained_tokens and max_tokens of a scaled rotation. */
void model_config_set_lengths(struct model_config *c, int positions);

/* Refuses an architecture that is not supported, by name and, where known, with its reason. */
int model_config_refuse_type(const char *model_type, struct err *err);
