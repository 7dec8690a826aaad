/* From picks to flat arrays. */
#include "engine/schedule/batch.h"

#include "engine/base/mem.h"

#include <string.h>

enum { ARRAY_ALIGNMENT = 64 };

/* Offsets in bytes of each array. */
struct layout {
    size_t tokens, positions, seq_of, slots, outputs, draws, starts, rope_scale, inv_freq;
    size_t block_table;
    size_t end;
};

static size_t place(size_t *end, size_t n, size_t bytes) {
    size_t at = *end;
    *end = (at + n * bytes + ARRAY_ALIGNMENT - 1) / ARRAY_ALIGNMENT * ARRAY_ALIGNMENT;
    return at;
}

static struct layout layout_of(const struct batch_size *size) {
    size_t rows = (size_t)size->max_rows, seqs = (size_t)size->max_seqs;
    struct layout at = {0};
    at.tokens = place(&at.end, rows, sizeof(int32_t));
    at.positions = place(&at.end, rows, sizeof(int32_t));
    at.seq_of = place(&at.end, rows, sizeof(int32_t));
    at.slots = place(&at.end, rows, sizeof(int32_t));
    at.outputs = place(&at.end, (size_t)size->max_outputs, sizeof(int32_t));
    at.draws = place(&at.end, (size_t)size->max_outputs, sizeof(struct draw));
    at.starts = place(&at.end, seqs + 1, sizeof(int32_t));
    at.rope_scale = place(&at.end, seqs, sizeof(float));
    at.inv_freq = place(&at.end, seqs * (size_t)size->n_freq, sizeof(float));
    at.block_table = place(&at.end, seqs * (size_t)size->max_blocks, sizeof(int32_t));
    return at;
}

static int32_t *ints(const struct batch *b, size_t offset) {
    return (int32_t *)(void *)(b->memory + offset);
}

static void add_row(struct batch *b, const struct layout *at, int32_t token, int32_t position,
                    int32_t slot) {
    ints(b, at->tokens)[b->n_rows] = token;
    ints(b, at->positions)[b->n_rows] = position;
    ints(b, at->seq_of)[b->n_rows] = b->n_seqs;
    ints(b, at->slots)[b->n_rows] = slot;
    b->n_rows++;
}

/* The last n rows; the very last of them draws as `last` says. */
static void add_outputs(struct batch *b, const struct layout *at, int n, struct draw last) {
    struct draw *draws = (struct draw *)(void *)(b->memory + at->draws);
    for (int i = n; i > 0; i--) {
        ints(b, at->outputs)[b->n_outputs] = b->n_rows - i;
        draws[b->n_outputs++] = i == 1 ? last : (struct draw){.is_wanted = false};
    }
}

/* The rows of a sequence are there: its own arrays follow. */
static void close_sequence(struct batch *b, const struct layout *at, const int32_t *blocks,
                           int n_blocks, const float *inv_freq, float rope_scale) {
    size_t seq = (size_t)b->n_seqs++;
    size_t n_freq = (size_t)b->size.n_freq, max_blocks = (size_t)b->size.max_blocks;
    float *frequencies = (float *)(void *)(b->memory + at->inv_freq) + seq * n_freq;
    if (inv_freq)
        memcpy(frequencies, inv_freq, n_freq * sizeof *inv_freq);
    else
        memset(frequencies, 0, n_freq * sizeof *frequencies);
    ((float *)(void *)(b->memory + at->rope_scale))[seq] = rope_scale;
    memcpy(ints(b, at->block_table) + seq * max_blocks, blocks, (size_t)n_blocks * sizeof *blocks);
    ints(b, at->starts)[seq + 1] = b->n_rows;
}

size_t batch_capacity(const struct batch_size *size) {
    return layout_of(size).end;
}

int batch_init(struct batch *b, struct batch_size size, struct err *err) {
    size_t bytes = batch_capacity(&size);
    *b = (struct batch){.size = size, .memory = mem_zalloc(1, bytes)};
    return b->memory ? 0 : err_memory(err, bytes, "the arrays of a batch");
}

void batch_release(struct batch *b) {
    mem_free(b->memory);
    *b = (struct batch){0};
}

void batch_clear(struct batch *b) {
    b->n_rows = b->n_seqs = b->n_outputs = 0;
}

/* Its id, or where the device finds it: the pass before this one draws it. */
static int32_t token_at(const struct sequence *seq, int position) {
    return position < seq->n_tokens ? seq->tokens[position] : -1 - seq->draw_row;
}

void batch_add(struct batch *b, const struct scheduler_pick *pick,
               const struct sampling *sampling) {
    const struct sequence *seq = pick->sequence;
    const struct layout at = layout_of(&b->size);
    if (b->n_seqs >= b->size.max_seqs || b->n_rows + pick->n_rows > b->size.max_rows ||
        b->n_outputs + pick->n_outputs > b->size.max_outputs)
        bug("a pass of %d rows is too large", b->n_rows + pick->n_rows);
    int block_tokens = b->size.block_tokens;
    for (int p = pick->first; p < pick->first + pick->n_rows; p++) {
        int slot = seq->blocks[p / block_tokens] * block_tokens + p % block_tokens;
        add_row(b, &at, token_at(seq, p), p, slot);
    }
    add_outputs(b, &at, pick->n_outputs,
                (struct draw){*sampling, .n_prompt = seq->n_prompt, .is_wanted = pick->draws});
    close_sequence(b, &at, seq->blocks, seq->n_blocks, seq->inv_freq, seq->rope_scale);
}

void batch_pad(struct batch *b, int n_rows) {
    const struct layout at = layout_of(&b->size);
    const int32_t any_block = 0;
    while (b->n_rows < n_rows) {
        add_row(b, &at, 0, 0, -1);
        add_outputs(b, &at, 1, (struct draw){.is_wanted = false});
        close_sequence(b, &at, &any_block, 1, NULL, 1);
    }
}

bool batch_is_decode(const struct batch *b) {
    return b->n_rows == b->n_seqs && b->n_rows == b->n_outputs;
}

size_t batch_bytes(const struct batch *b) {
    size_t cells = (size_t)b->n_seqs * (size_t)b->size.max_blocks;
    return layout_of(&b->size).block_table + cells * sizeof(int32_t);
}

struct op_batch batch_view(const struct batch *b, const void *base) {
    const struct layout at = layout_of(&b->size);
    const unsigned char *from = base;
    return (struct op_batch){
        .n_rows = b->n_rows,
        .n_seqs = b->n_seqs,
        .n_outputs = b->n_outputs,
        .max_blocks = b->size.max_blocks,
        .tokens = (const void *)(from + at.tokens),
        .positions = (const void *)(from + at.positions),
        .seq_of = (const void *)(from + at.seq_of),
        .slots = (const void *)(from + at.slots),
        .starts = (const void *)(from + at.starts),
        .block_table = (const void *)(from + at.block_table),
        .inv_freq = (const void *)(from + at.inv_freq),
        .rope_scale = (const void *)(from + at.rope_scale),
        .outputs = (const void *)(from + at.outputs),
        .draws = (const void *)(from + at.draws),
    };
}
