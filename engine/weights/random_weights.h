/*
 * A checkpoint without weights files: every tensor that the config asks for, filled with values of
 * N(0, 0.02^2) (norms are 1), so that any shape can be measured before it is downloaded.
 *
 * Only some megabytes of random blocks are made, for each format. The tensors lie one behind the
 * other in an address range in which those blocks are mapped over and over, so each begins at
 * another place in them, and a model of any size takes no memory for itself. A device must copy
 * them, even one that reads host memory: read in place they would come from the processor's caches.
 */
#pragma once

#include "engine/base/err.h"
#include "kernels/format.h"

struct checkpoint;

/* A range of one format. */
struct random_range {
    unsigned char *data; /* NULL: none */
    uint64_t bytes;
};

struct random_memory {
    struct random_range ranges[N_FORMATS];
    float *ones; /* of the norms */
};

/*
 * Adds the tensors of c->config to c->tensors. `mix` names a row of formats.def, or "q4_k_m", what
 * llama.cpp's quantizer of that name makes of a Qwen2; NULL or "": as torch_dtype in config.json
 * says. Matrices whose rows a format's blocks do not divide get another one, as they do there.
 */
int random_weights_add(struct checkpoint *c, const char *mix, struct err *err);

/* The copied pages are no longer needed; what is read again comes back. */
void random_memory_drop(const struct random_memory *m);
void random_memory_release(struct random_memory *m);
