/*
 * Passes that are recorded once and replayed: one for each size class of a decode batch.
 *
 * A recording fixes how many rows a pass has; what is in them it reads from the arrays of the
 * batch. So a decode batch is padded to the next of 1, 2, 3, 4, 6, 8, 12, 16 … (at most a third
 * is padding). Prompts come in every length and keep the device busy for long: they are plain
 * calls of forward().
 */
#pragma once

#include "engine/forward/forward.h"

enum { MAX_GRAPHS = 16, MAX_GRAPH_ROWS = 256 };

struct graph {
    struct op_batch batch;       /* of this size; the recording points here */
    struct recording *recording; /* NULL: not recorded yet */
};

struct graph_cache {
    struct model model;
    bool is_off; /* the device cannot record */
    struct graph graphs[MAX_GRAPHS];
};

/* The rows of the class that n rows fall in; 1 <= n <= MAX_GRAPH_ROWS. */
int graph_rows(int n);

void graph_cache_init(struct graph_cache *g, const struct model *model);
void graph_cache_release(struct graph_cache *g);

/* Brings the batch to the device and computes it, by a recording where there is a class for it.
 * May pad the batch. Does not wait. */
enum op_status graph_cache_run(struct graph_cache *g, struct batch *batch);
