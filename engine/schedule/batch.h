/*
 * The arrays of one pass, filled on the host: what struct op_batch (kernels/ops.h) points to.
 *
 * They lie in one piece of memory, in the order below, so that one copy brings them to the device,
 * and always at the same offsets, so that a recorded pass finds them there:
 *
 *   tokens positions seq_of slots [max_rows] | outputs draws [max_outputs] | starts [max_seqs + 1]
 *   rope_scale [max_seqs] | inv_freq [max_seqs, n_freq] | block_table [max_seqs, max_blocks]
 *
 * Pure: no device. Whoever copies asks batch_bytes() how much of it this pass uses.
 */
#pragma once

#include "engine/schedule/scheduler.h"
#include "kernels/ops.h"

struct batch_size {
    int max_rows, max_seqs, max_outputs;
    int max_blocks; /* of one sequence */
    int n_freq;     /* K / 2 */
    int block_tokens;
};

struct batch {
    struct batch_size size;
    int n_rows, n_seqs, n_outputs; /* of this pass */
    unsigned char *memory;         /* batch_capacity() bytes */
};

/* Bytes of the whole. */
size_t batch_capacity(const struct batch_size *size);

int batch_init(struct batch *b, struct batch_size size, struct err *err);
void batch_release(struct batch *b);

void batch_clear(struct batch *b);
void batch_add(struct batch *b, const struct scheduler_pick *pick, const struct sampling *sampling);

/*
 * Adds sequences of one padding row until there are n_rows; for a pass that has one row and one
 * output per sequence.
 */
void batch_pad(struct batch *b, int n_rows);
bool batch_is_decode(const struct batch *b); /* one row and one output per sequence */

/* Bytes from the beginning that this pass uses. */
size_t batch_bytes(const struct batch *b);

/* The op_batch whose arrays are the copy of `memory` at `base`. */
struct op_batch batch_view(const struct batch *b, const void *base);
