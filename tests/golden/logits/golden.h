/*
 * Golden files in memory, and prompts run through the engine with every logits row kept. Shared by
 * the tests of this folder; asserts instead of returning errors.
 */
#pragma once

#include "engine/engine.h"

/* A file read front to back; what it hands out points into it. */
struct golden_bytes {
    unsigned char *data;
    size_t size, at;
};
struct golden_bytes golden_open(const char *path, const char magic[9]);
const void *golden_take(struct golden_bytes *b, size_t n);
int32_t golden_take_int(struct golden_bytes *b);
float golden_take_float(struct golden_bytes *b);
void golden_close(struct golden_bytes *b); /* asserts that all was taken */

/* What one request gave. rows [n_rows, vocab]; a row that never came holds NaN. */
struct golden_run {
    const int32_t *tokens; /* set by the caller */
    int n_tokens;
    int n_answer;   /* tokens wanted */
    bool only_last; /* logits of the last prefix token only */
    uint64_t id;
    int vocab, n_rows; /* n_tokens + n_answer */
    float *rows;
    int32_t *answer; /* [n_answer] */
    int n_got;
    int cached_tokens;
    enum engine_stop stop;
};

/* Submits all runs, greedily and past stop ids, and steps until the engine is idle. */
void golden_run_all(struct engine *e, struct golden_run *runs, int n);
const float *golden_row(const struct golden_run *run, int position);
void golden_run_release(struct golden_run *run);

/* max |a - b| / max |b|; infinite where a is not finite. */
double golden_error(const float *a, const float *b, int n);
