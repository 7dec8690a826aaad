/* Collects events; cmocka's assertions end the test at the first broken rule. */
#include "tests/support/run_requests.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

void outcome_release(struct outcome *o) {
    mem_free(o->tokens);
    mem_free(o->logits);
    buf_release(&o->text);
    *o = (struct outcome){0};
}

static void keep_row(void *ud, size_t position, const float *row, int vocab) {
    struct outcome *o = ud;
    size_t n = (size_t)vocab;
    if (o->n_logits == 0) o->first_position = position;
    assert_int_equal(position, o->first_position + o->n_logits); /* each once and in order */
    assert_int_equal(
        mem_grow((void **)&o->logits, &o->logits_capacity, (o->n_logits + 1) * n, sizeof *row), 0);
    memcpy(o->logits + o->n_logits++ * n, row, n * sizeof *row);
    o->vocab = vocab;
}

void submit(struct engine *e, const struct engine_request *request, bool keep_logits,
            struct outcome *out) {
    struct engine_request copy = *request;
    struct err err = {0};
    *out = (struct outcome){0};
    if (keep_logits) {
        copy.logits = keep_row;
        copy.logits_ud = out;
    }
    if (engine_submit(e, &copy, &out->id, &err) != 0) fail_msg("%s", err.text);
    assert_true(out->id != 0);
}

static void take_event(struct outcome *o, const struct engine_event *event) {
    assert_int_equal(o->stop, STOP_NONE);
    assert_true(utf8_valid(event->text, event->n_text));
    buf_add(&o->text, event->text, event->n_text);
    if (event->kind == EVENT_PROMPT) {
        assert_int_equal(o->n_tokens, 0);
        assert_in_range(event->done, 1, event->total);
        o->n_prompt_events++;
    } else if (event->kind == EVENT_TOKEN) {
        assert_int_equal(
            mem_grow((void **)&o->tokens, &o->tokens_capacity, o->n_tokens + 1, sizeof *o->tokens),
            0);
        o->tokens[o->n_tokens++] = event->token;
    } else {
        assert_true(event->stop != STOP_NONE);
        assert_int_equal(event->usage->answer_tokens, o->n_tokens);
        o->stop = event->stop;
        o->usage = *event->usage;
        if (event->err) o->err = *event->err;
        assert_int_equal(event->stop == STOP_ERROR, event->err != NULL);
    }
}

void step_once(struct engine *e, struct outcome *outcomes, size_t n) {
    const struct engine_event *events;
    struct err err = {0};
    size_t n_events;
    if (engine_step(e, &events, &n_events, &err) != 0) fail_msg("%s", err.text);
    for (size_t i = 0; i < n_events; i++) {
        size_t k = 0;
        while (k < n && outcomes[k].id != events[i].request) k++;
        assert_true(k < n);
        take_event(&outcomes[k], &events[i]);
    }
}

int run_to_end(struct engine *e, struct outcome *outcomes, size_t n) {
    int n_steps = 0;
    for (; engine_is_busy(e); n_steps++) step_once(e, outcomes, n);
    for (size_t i = 0; i < n; i++) assert_true(outcomes[i].stop != STOP_NONE);
    assert_int_equal(engine_load(e).kv_used_bytes, 0);
    return n_steps;
}

struct outcome run_one(struct engine *e, const struct engine_request *request, bool keep_logits) {
    struct outcome o;
    submit(e, request, keep_logits, &o);
    run_to_end(e, &o, 1);
    return o;
}
