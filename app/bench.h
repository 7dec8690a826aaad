/*
 * Speed tests of an engine, with the words of llama-bench: pp512 reads a prompt of 512 tokens,
 * tg128 generates 128 tokens, pp512+tg128 does both, "@ d4096" behind 4,096 tokens of context, "x4"
 * in four sequences at once. Pure of any skin: the engine goes in, rows come out.
 *
 * What is timed
 *   pp     from the submit to the last sequence's first token, its sampling included
 *   tg     n_gen passes, a token of every sequence each; the prompt is not in it
 *   pp+tg  from the submit to the last token
 * Ids are random with a fixed seed, sampling is greedy, nothing ends an answer early. Every
 * repetition has another prompt, so that only what stands before it (the depth) is found computed;
 * of that the up to 15 tokens behind its last whole block are computed again, and are in the time.
 */
#pragma once

#include "engine/engine.h"

enum { BENCH_MOST_REPETITIONS = 100 };

struct bench_test {
    int n_prompt, n_gen; /* not both 0 */
    int n_depth;         /* tokens of context before */
    int n_seqs;          /* at once, each with all of the above */
};

struct bench_row {
    struct bench_test test;
    int64_t time; /* seconds since 1970, when it began */
    int n_samples;
    double seconds[BENCH_MOST_REPETITIONS]; /* a repetition each */
    /* means and deviations (of a sample: over n - 1) of nanoseconds and of tokens per second */
    double avg_ns, stddev_ns, avg_ts, stddev_ts;
    double roof;              /* bytes/s read, the best pass before and after; 0: not known */
    double roof_share;        /* tg: of it, by the bytes that must be read; below 0: has none */
    uint64_t bytes_per_token; /* tg: weights and KV that a pass reads, over its tokens; else 0 */
    double flops;             /* the model's multiplications and additions per second */
    uint64_t memory_bytes;    /* engine_memory_bytes() at the end */
};

/* Tokens that a repetition counts. */
int bench_tokens(const struct bench_test *test);

/* "pp512", "tg128 @ d4096 x4" */
void bench_name(const struct bench_test *test, char out[64]);

/* From test and seconds: means, deviations; share and speeds by the model's facts. */
void bench_summarize(struct bench_row *row, const struct model_info *info);

/* What an engine must be opened with for such tests. */
int bench_context(const struct bench_test *tests, size_t n);
int bench_sequences(const struct bench_test *tests, size_t n);

struct bench_host {
    void *ud;
    /* What runs, and how far all tests together are, 0 to 1, each counting alike; false stops it.
     * Called after each pass. */
    bool (*progress)(void *ud, const char *what, double share);
    void (*row)(void *ud, const struct bench_row *row);
};

struct bench_plan {
    const struct bench_test *tests;
    size_t n_tests;
    int repetitions; /* 1 to BENCH_MOST_REPETITIONS */
    bool no_warmup;  /* else each test runs once before it is timed */
};

/*
 * Runs the tests one after the other on an engine that has nothing to do. Cached prefixes are lost.
 * -1 with ERR_CONTEXT where a test does not fit the engine's context, ERR_USAGE for more sequences
 * than it runs. 1: stopped by progress(). The engine is left idle in each case but a broken
 * engine's.
 */
int bench_run(struct engine *e, const struct bench_plan *plan, const struct bench_host *host,
              struct err *err);
