/* The memory of a sequence. */
#include "engine/schedule/sequence.h"

#include "engine/base/mem.h"

#include <string.h>

int sequence_init(struct sequence *s, const int32_t *tokens, int n_tokens, int max_tokens,
                  int block_tokens, int n_freq, struct err *err) {
    if (n_tokens < 1 || max_tokens < n_tokens) bug("sequence of %d tokens", n_tokens);
    size_t max_blocks = ((size_t)max_tokens + (size_t)block_tokens - 1) / (size_t)block_tokens;
    *s = (struct sequence){.n_tokens = n_tokens,
                           .n_prompt = n_tokens,
                           .max_tokens = max_tokens,
                           .n_cached = -1,
                           .rope_scale = 1,
                           .reuses_prefix = true};
    s->tokens = mem_alloc((size_t)max_tokens * sizeof *s->tokens);
    s->blocks = mem_alloc(max_blocks * sizeof *s->blocks);
    s->inv_freq = mem_zalloc((size_t)n_freq + 1, sizeof *s->inv_freq);
    if (!s->tokens || !s->blocks || !s->inv_freq) {
        sequence_release(s);
        return err_memory(err, (size_t)max_tokens * sizeof *s->tokens, "a request");
    }
    memcpy(s->tokens, tokens, (size_t)n_tokens * sizeof *tokens);
    return 0;
}

void sequence_release(struct sequence *s) {
    mem_free(s->tokens);
    mem_free(s->blocks);
    mem_free(s->inv_freq);
    s->tokens = s->blocks = NULL;
    s->inv_freq = NULL;
}

void sequence_append(struct sequence *s, int32_t token) {
    if (s->n_tokens >= s->max_tokens) bug("a sequence outgrew its %d tokens", s->max_tokens);
    s->tokens[s->n_tokens++] = token;
    if (s->n_drawing > 0) s->n_drawing--;
}
