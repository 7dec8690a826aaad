/* Golden files and runs of the engine over them. */
#include "tests/golden/logits/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct golden_bytes golden_open(const char *path, const char magic[9]) {
    FILE *file = fopen(path, "rb");
    if (!file) fail_msg("cannot open %s (tests run in the project's root)", path);
    fseek(file, 0, SEEK_END);
    struct golden_bytes b = {.size = (size_t)ftell(file)};
    rewind(file);
    b.data = malloc(b.size);
    assert_non_null(b.data);
    assert_int_equal(fread(b.data, 1, b.size, file), b.size);
    fclose(file);
    assert_memory_equal(golden_take(&b, 8), magic, 8);
    return b;
}

const void *golden_take(struct golden_bytes *b, size_t n) {
    assert_true(n <= b->size - b->at);
    const void *p = b->data + b->at;
    b->at += n;
    return p;
}

int32_t golden_take_int(struct golden_bytes *b) {
    int32_t x;
    memcpy(&x, golden_take(b, sizeof x), sizeof x);
    return x;
}

float golden_take_float(struct golden_bytes *b) {
    float x;
    memcpy(&x, golden_take(b, sizeof x), sizeof x);
    return x;
}

void golden_close(struct golden_bytes *b) {
    assert_int_equal(b->at, b->size);
    free(b->data);
}

static void keep_row(void *ud, size_t position, const float *row, int vocab) {
    struct golden_run *run = ud;
    assert_int_equal(vocab, run->vocab);
    assert_true(position < (size_t)run->n_rows);
    memcpy(run->rows + position * (size_t)vocab, row, (size_t)vocab * sizeof *row);
}

static void submit(struct engine *e, struct golden_run *run) {
    run->vocab = engine_info(e)->config->vocab;
    run->n_rows = run->n_tokens + run->n_answer;
    size_t n = (size_t)run->n_rows * (size_t)run->vocab;
    run->rows = malloc(n * sizeof *run->rows);
    run->answer = calloc((size_t)run->n_answer, sizeof *run->answer);
    assert_non_null(run->rows);
    assert_non_null(run->answer);
    for (size_t i = 0; i < n; i++) run->rows[i] = NAN;
    struct engine_request request = {
        .tokens = run->tokens,
        .n_tokens = (size_t)run->n_tokens,
        .sampling = {.top_p = 1, .repetition_penalty = 1},
        .max_tokens = run->n_answer,
        .ignore_stop_ids = true,
        .logits = keep_row,
        .logits_ud = run,
        .logits_only_last = run->only_last,
    };
    struct err err = {0};
    if (engine_submit(e, &request, &run->id, &err) != 0) fail_msg("engine_submit: %s", err.text);
}

static void take_event(struct golden_run *run, const struct engine_event *event) {
    if (event->kind == EVENT_TOKEN) {
        assert_true(run->n_got < run->n_answer);
        run->answer[run->n_got++] = event->token;
    } else if (event->kind == EVENT_END) {
        run->stop = event->stop;
        run->cached_tokens = event->usage->cached_tokens;
        if (event->stop == STOP_ERROR) fail_msg("the answer ended: %s", event->err->text);
    }
}

void golden_run_all(struct engine *e, struct golden_run *runs, int n) {
    int most_steps = 16; /* for ends and cancellations; else a step computes at least a row */
    for (int i = 0; i < n; i++) {
        submit(e, &runs[i]);
        most_steps += runs[i].n_rows;
    }
    for (int step = 0; engine_is_busy(e); step++) {
        if (step == most_steps) fail_msg("the engine is busy and gets nowhere");
        const struct engine_event *events;
        size_t n_events;
        struct err err = {0};
        if (engine_step(e, &events, &n_events, &err) != 0) fail_msg("engine_step: %s", err.text);
        for (size_t k = 0; k < n_events; k++) {
            int i = 0;
            while (i < n && runs[i].id != events[k].request) i++;
            assert_true(i < n);
            take_event(&runs[i], &events[k]);
        }
    }
    for (int i = 0; i < n; i++) {
        assert_int_equal(runs[i].stop, STOP_LENGTH);
        assert_int_equal(runs[i].n_got, runs[i].n_answer);
    }
}

const float *golden_row(const struct golden_run *run, int position) {
    assert_in_range(position, 0, run->n_rows - 1);
    return run->rows + (size_t)position * (size_t)run->vocab;
}

void golden_run_release(struct golden_run *run) {
    free(run->rows);
    free(run->answer);
}

double golden_error(const float *a, const float *b, int n) {
    double difference = 0, largest = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(a[i])) return INFINITY;
        difference = fmax(difference, fabs((double)a[i] - b[i]));
        largest = fmax(largest, fabs((double)b[i]));
    }
    return difference / largest;
}
