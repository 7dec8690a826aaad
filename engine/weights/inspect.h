/* A checkpoint as rows of text for people: what `inspect` prints. Needs no device. */
#pragma once

#include "engine/weights/checkpoint.h"

struct inspect_row {
    const char *name; /* static */
    char value[160];
};

/* Architecture, rotation, context, tokens: at most `max` rows; returns how many. 24 is enough. */
size_t inspect_facts(const struct checkpoint *c, struct inspect_row *rows, size_t max);

/* One row for each storage type in the files, the largest first: name is the type, value
 * "210 tensors, 66.4 MB". 48 is enough. */
size_t inspect_types(const struct checkpoint *c, struct inspect_row *rows, size_t max);

/* One tensor as text: "[576, 1536]", and its type from checkpoint_tensor. */
void inspect_shape(const struct checkpoint_tensor *t, char out[96]);

/* "66.4 MB": decimal units, as disks and downloads have them. */
void inspect_bytes(uint64_t bytes, char out[24]);

/* What the weights would take in one format, on disk and mapped or copied: matrices in it, norms
 * and biases in F32. */
struct inspect_size {
    enum format format;
    uint64_t bytes;
};
size_t inspect_sizes(const struct checkpoint *c, struct inspect_size sizes[N_FORMATS]);
