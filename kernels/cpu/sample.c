/* Logits to tokens: each row by one thread, whoever is free. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/sampler.h"

/* A multiple of a cache line, so that the threads' pieces stay aligned and apart. */
static size_t workspace_bytes(int vocab) {
    return (sampler_bytes(vocab) + 63) / 64 * 64;
}

size_t cpu_sample_shared_bytes(const struct op_sample *op, int n_threads) {
    return (size_t)n_threads * workspace_bytes(op->vocab);
}

static int32_t sample_row(const struct op_sample *op, size_t r, void *workspace) {
    const struct op_batch *batch = op->batch;
    const struct draw *draw = &batch->draws[r];
    if (!draw->is_wanted) return SAMPLE_NOTHING;
    int32_t row = batch->outputs[r];
    const struct sampler_history history = {
        .seen = op->seen,
        .blocks = batch->block_table + (size_t)batch->seq_of[row] * (size_t)batch->max_blocks,
        .block_tokens = op->block_tokens,
        .n = batch->positions[row] + 1,
        .n_prompt = draw->n_prompt,
    };
    return sampler_pick(workspace, op->logits + r * (size_t)op->vocab, op->vocab, op->is_token,
                        &draw->sampling, history);
}

void cpu_sample(const struct op_sample *op, struct part part) {
    char *workspace = (char *)part.shared + (size_t)part.index * workspace_bytes(op->vocab);
    size_t n = (size_t)op->batch->n_outputs;
    for (size_t r; (r = part_take(part, 1)) < n;) op->drawn[r] = sample_row(op, r, workspace);
}
