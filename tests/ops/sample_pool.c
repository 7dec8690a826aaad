/* A pool of random sequences, and the reference on a plain copy of each history. */
#include "tests/ops/sample_pool.h"

#include "kernels/cpu/sampler.h"

struct sample_pool sample_pool_new(int n_seqs, int max_tokens, int vocab) {
    struct sample_pool p = {.block_tokens = 16};
    int max_blocks = (max_tokens + 15) / 16;
    p.n_blocks = n_seqs * max_blocks;
    p.b = test_batch_new(n_seqs, n_seqs, n_seqs, max_blocks, 2);
    p.draws = test_alloc((size_t)n_seqs * sizeof *p.draws);
    p.seen = test_alloc((size_t)(p.n_blocks * 16) * sizeof *p.seen);
    p.ids = test_alloc((size_t)n_seqs * sizeof *p.ids);
    p.b.batch.draws = p.draws;
    for (int s = 0; s < n_seqs; s++) {
        int n = test_random_int(1, max_tokens);
        p.ids[s] = test_alloc((size_t)n * sizeof(int32_t));
        p.b.positions[s] = n - 1;
        p.b.seq_of[s] = p.b.outputs[s] = s;
        for (int i = 0; i < max_blocks; i++) /* every second one, backwards */
            p.b.block_table[s * max_blocks + i] = p.n_blocks - 1 - (i * n_seqs + s);
        for (int i = 0; i < n; i++) {
            int slot = p.b.block_table[s * max_blocks + i / 16] * 16 + i % 16;
            p.seen[slot] = p.ids[s][i] = test_random_int(0, vocab - 1);
        }
        p.draws[s] = (struct draw){.sampling = {.temperature = s % 4 ? 0.5f + (float)s / 8 : 0,
                                                .top_k = s % 3 ? 0 : 20,
                                                .top_p = s % 2 ? 0.9f : 1,
                                                .min_p = s % 5 ? 0 : 0.05f,
                                                .repetition_penalty = s % 3 == 1 ? 1.2f : 1,
                                                .presence_penalty = s % 3 == 2 ? 0.5f : 0,
                                                .frequency_penalty = s % 7 == 2 ? 0.1f : 0,
                                                .seed = (uint64_t)s},
                                   .n_prompt = test_random_int(0, n),
                                   .is_wanted = s % 11 != 5};
    }
    return p;
}

int32_t sample_pool_reference(const struct sample_pool *p, int s, const float *logits, int vocab,
                              const uint8_t *is_token) {
    static const int32_t first_block[] = {0};
    int n = p->b.positions[s] + 1;
    if (!p->draws[s].is_wanted) return SAMPLE_NOTHING;
    void *workspace = test_alloc((sampler_bytes(vocab) + 7) / 8 * 8);
    return sampler_pick(
        workspace, logits + (size_t)s * (size_t)vocab, vocab, is_token, &p->draws[s].sampling,
        (struct sampler_history){p->ids[s], first_block, n, n, p->draws[s].n_prompt});
}
