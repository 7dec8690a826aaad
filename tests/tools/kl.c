/*
 * How far a model as this program runs it is from logits that llama.cpp kept, at the positions that
 * llama-perplexity looks at, so that both programs' figures stand beside each other:
 *
 *   llama-perplexity -m F32.gguf -f TEXT -c 128 --kl-divergence-base BASE     keeps them
 *   llama-perplexity -m MODEL -c 128 --kl-divergence-base BASE --kl-divergence
 *   kl MODEL BASE                                                  exact, then as it runs
 *
 * BASE: "_logits_", then as 32 bit tokens per chunk n, vocabulary V and chunks, the tokens, and of
 * positions n / 2 to n - 2 of each chunk V log probabilities: float scale and minimum, V numbers of
 * 16 bits, padded to an even count. Those below -16 are left out, as llama-perplexity does.
 */
#include "tests/golden/logits/golden.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double divergence(const uint16_t *kept, const float *logits, int vocab) {
    float scale, least, largest = logits[0];
    double all = 0, kl = 0;
    memcpy(&scale, kept, sizeof scale);
    memcpy(&least, kept + 2, sizeof least);
    for (int i = 1; i < vocab; i++) largest = fmaxf(largest, logits[i]);
    for (int i = 0; i < vocab; i++) all += exp((double)(logits[i] - largest));
    for (int i = 0; i < vocab; i++) {
        double p = (double)(scale * (float)kept[4 + i] + least);
        if (p > -16) kl += exp(p) * (p - ((double)(logits[i] - largest) - log(all)));
    }
    return kl;
}

static int run(const char *model, const char *base, bool is_exact) {
    struct engine_options options = {.model = model,
                                     .context_tokens = 512,
                                     .max_sequences = 1,
                                     .kv_format = FORMAT_F16,
                                     .is_exact = is_exact};
    struct engine *e = NULL;
    struct err err = {0};
    if (engine_open(&e, &options, &err) != 0) {
        fprintf(stderr, "%s: %s\n", model, err.text);
        return 1;
    }
    struct golden_bytes b = golden_open(base, "_logits_");
    int n = golden_take_int(&b), vocab = golden_take_int(&b), n_chunks = golden_take_int(&b);
    const int32_t *tokens = golden_take(&b, (size_t)n * (size_t)n_chunks * sizeof *tokens);
    double sum = 0, squares = 0, worst = 0;
    int count = 0;
    for (int c = 0; c < n_chunks; c++) {
        struct golden_run one = {.tokens = tokens + c * n, .n_tokens = n, .n_answer = 1};
        golden_run_all(e, &one, 1);
        for (int t = n / 2; t < n - 1; t++, count++) {
            size_t row = ((size_t)vocab + 1) / 2 * 2 + 4;
            double kl =
                divergence(golden_take(&b, row * sizeof(uint16_t)), golden_row(&one, t), vocab);
            sum += kl;
            squares += kl * kl;
            worst = fmax(worst, kl);
        }
        golden_run_release(&one);
    }
    golden_close(&b);
    engine_close(e);
    double mean = sum / count;
    printf("%-12s %d positions: mean KL %.6f +- %.6f, largest %.6f\n",
           is_exact ? "exact:" : "as it runs:", count, mean,
           sqrt((squares / count - mean * mean) / (count - 1)), worst);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: kl MODEL BASE\n");
        return 2;
    }
    return run(argv[1], argv[2], true) || run(argv[1], argv[2], false);
}
