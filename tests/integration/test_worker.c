/* The engine's thread with a real engine and a tiny model: order of events, cancelling, stopping.
 */
#include "app/worker.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "tests/support/make_checkpoint.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* Of what hangs; nothing here takes a tenth of it, but on a machine that has other things to do. */
enum { LONGEST_SECONDS = 60 };

static char root[256], path[300];

static int set_up(void **state) {
    const struct tiny_spec spec = {.context = 512};
    (void)state;
    make_temporary_folder(root);
    snprintf(path, sizeof path, "%s/tiny", root);
    return make_tiny_folder(path, &spec);
}

static int tear_down(void **state) {
    (void)state;
    remove_folder(root);
    return 0;
}

static struct worker *start(const char *model) {
    const struct engine_options options = {.model = model, .threads = 2, .max_sequences = 2};
    struct worker *w = NULL;
    struct err err = {0};
    if (worker_start(&w, &options, &err) != 0) fail_msg("%s", err.text);
    return w;
}

/* The next event; fails the test when none comes. */
static struct worker_event next(struct worker *w) {
    struct worker_event event;
    while (!worker_take(w, &event)) {
        struct pollfd fd = {.fd = worker_fd(w), .events = POLLIN};
        if (poll(&fd, 1, LONGEST_SECONDS * 1000) != 1) fail_msg("no event came");
    }
    return event;
}

static enum worker_event_kind wait_until_open(struct worker *w) {
    for (;;) {
        struct worker_event event = next(w);
        enum worker_event_kind kind = event.kind;
        worker_event_release(&event);
        if (kind != WORKER_LOADING) return kind;
    }
}

static uint64_t ask(struct worker *w, const struct message *messages, size_t n,
                    const struct tokens *ids, int max_tokens) {
    const struct worker_request request = {
        .messages = messages,
        .n_messages = n,
        .message_tokens = ids,
        .max_tokens = max_tokens,
        .sampling = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7}};
    uint64_t id = worker_ask(w, &request);
    assert_true(id != 0);
    return id;
}

/* Reads on until the request's end; its text goes into `text`. The caller releases the event. */
static struct worker_event wait_for_end(struct worker *w, uint64_t request, struct buf *text) {
    for (;;) {
        struct worker_event event = next(w);
        if (event.request == request && event.kind == WORKER_END) return event;
        if (event.request == request && event.kind == WORKER_TEXT)
            buf_add(text, event.text, event.n_text);
        worker_event_release(&event);
    }
}

static const struct message hello = {.role = ROLE_USER, .content = "hello"};

static void test_answers(void **state) {
    (void)state;
    struct worker *w = start(path);
    struct buf first = {0}, second = {0};
    uint64_t early = ask(w, &hello, 1, NULL, 24); /* it may not be open yet: then it waits */
    assert_int_equal(wait_until_open(w), WORKER_READY);
    assert_non_null(worker_info(w));
    assert_non_null(worker_chat(w));
    assert_true(strlen(worker_tokenizer_id(w)) > 10);
    struct worker_event a = wait_for_end(w, early, &first);
    assert_true(a.stop == STOP_LENGTH || a.stop == STOP_END);
    assert_int_equal(a.n_tokens, a.usage.answer_tokens); /* no stop id among them */
    struct worker_event b = wait_for_end(w, ask(w, &hello, 1, NULL, 24), &second);
    assert_int_equal(a.n_tokens, b.n_tokens);
    assert_memory_equal(a.tokens, b.tokens, a.n_tokens * sizeof *a.tokens);
    assert_int_equal(first.n, second.n);
    if (first.n) assert_memory_equal(first.data, second.data, first.n);
    worker_event_release(&a);
    worker_event_release(&b);
    buf_release(&first);
    buf_release(&second);
    worker_stop(w);
}

/* The next turn finds all of the turn before in the cache, by the ids of its answer. */
static void test_cached_prefix(void **state) {
    (void)state;
    struct worker *w = start(path);
    struct buf text = {0};
    assert_int_equal(wait_until_open(w), WORKER_READY);
    struct worker_event a = wait_for_end(w, ask(w, &hello, 1, NULL, 40), &text);
    buf_puts(&text, "");
    const struct message turns[] = {hello,
                                    {.role = ROLE_ASSISTANT, .content = text.data},
                                    {.role = ROLE_USER, .content = "more"}};
    const struct tokens ids[] = {{0}, {.ids = a.tokens, .n = a.n_tokens}, {0}};
    struct worker_event b = wait_for_end(w, ask(w, turns, 3, ids, 4), &text);
    assert_true(b.usage.cached_tokens > 0);
    assert_true(b.usage.prompt_tokens > a.usage.prompt_tokens + (int)a.n_tokens);
    worker_event_release(&a);
    worker_event_release(&b);
    buf_release(&text);
    worker_stop(w);
}

/* Two answers are asked for and cancelled; the seconds until all is said, the events not yet come.
 */
static double ask_and_cancel(struct worker *w) {
    struct buf text = {0};
    double begin = clock_seconds();
    uint64_t a = ask(w, &hello, 1, NULL, 0), b = ask(w, &hello, 1, NULL, 0);
    worker_cancel(w, b);
    worker_cancel(w, 12345); /* nobody's: nothing happens */
    worker_cancel(w, a);
    double seconds = clock_seconds() - begin;
    for (int n_ends = 0; n_ends < 2;) {
        struct worker_event event = next(w);
        if (event.kind == WORKER_END) {
            assert_true(event.request == a || event.request == b);
            assert_true(event.stop == STOP_CANCELLED || event.stop == STOP_END);
            n_ends++;
        }
        worker_event_release(&event);
    }
    buf_release(&text);
    return seconds;
}

/* Asking and cancelling wait for nothing: where this thread had to wait for a processor it did not
 * in another round. */
static void test_cancel(void **state) {
    (void)state;
    struct worker *w = start(path);
    struct buf text = {0};
    double best = 1e9;
    assert_int_equal(wait_until_open(w), WORKER_READY);
    for (int round = 0; round < 10 && best >= 0.2; round++) {
        double seconds = ask_and_cancel(w);
        if (seconds < best) best = seconds;
    }
    assert_true(best < 0.2);
    /* and the worker goes on */
    struct worker_event end = wait_for_end(w, ask(w, &hello, 1, NULL, 3), &text);
    assert_true(end.stop == STOP_LENGTH || end.stop == STOP_END);
    worker_event_release(&end);
    buf_release(&text);
    worker_stop(w);
}

static void test_both_at_once(void **state) {
    (void)state;
    struct worker *w = start(path);
    struct buf text = {0};
    int n_ends = 0;
    assert_int_equal(wait_until_open(w), WORKER_READY);
    uint64_t a = ask(w, &hello, 1, NULL, 16), b = ask(w, &hello, 1, NULL, 16);
    assert_true(a != b);
    while (n_ends < 2) {
        struct worker_event event = next(w);
        if (event.kind == WORKER_END) {
            assert_true(event.request == a || event.request == b);
            assert_true(event.stop != STOP_ERROR);
            n_ends++;
        }
        worker_event_release(&event);
    }
    buf_release(&text);
    worker_stop(w);
}

/* A bench that would go on for minutes on any machine. */
static uint64_t start_long_bench(struct worker *w) {
    enum { TESTS = 1000 };
    static struct bench_test tests[TESTS];
    for (int i = 0; i < TESTS; i++) tests[i] = (struct bench_test){200, 0, 0, 1};
    return worker_bench(w, &(struct bench_plan){tests, TESTS, BENCH_MOST_REPETITIONS, false});
}

/* A bench between two answers: rows, then its end; the second answer is as the first. */
static void test_bench(void **state) {
    static const struct bench_test tests[] = {{16, 0, 0, 1}, {0, 8, 16, 2}};
    const struct bench_plan plan = {tests, 2, 2, false};
    (void)state;
    struct worker *w = start(path);
    struct buf first = {0}, second = {0};
    int n_rows = 0, n_progress = 0;
    assert_int_equal(wait_until_open(w), WORKER_READY);
    struct worker_event a = wait_for_end(w, ask(w, &hello, 1, NULL, 24), &first);
    uint64_t id = worker_bench(w, &plan);
    for (bool is_over = false; !is_over;) {
        struct worker_event event = next(w);
        assert_int_equal(event.request, id);
        n_progress += event.kind == WORKER_BENCH;
        is_over = event.kind == WORKER_END;
        if (is_over) assert_int_equal(event.stop, STOP_END);
        if (event.kind == WORKER_ROW)
            assert_memory_equal(&event.row->test, &tests[n_rows++], sizeof *tests);
        worker_event_release(&event);
    }
    assert_int_equal(n_rows, 2);
    assert_true(n_progress > 4);
    assert_int_equal(worker_load(w).kv_cached_bytes, 0);

    id = start_long_bench(w);
    worker_cancel(w, id);
    struct worker_event end = wait_for_end(w, id, &second);
    assert_int_equal(end.stop, STOP_CANCELLED);
    worker_event_release(&end);
    const struct bench_test wide = {.n_gen = 4, .n_seqs = 3};
    id = worker_bench(w, &(struct bench_plan){&wide, 1, 1, false});
    end = wait_for_end(w, id, &second);
    assert_int_equal(end.stop, STOP_ERROR);
    assert_int_equal(end.err.kind, ERR_USAGE);
    worker_event_release(&end);

    struct worker_event b = wait_for_end(w, ask(w, &hello, 1, NULL, 24), &second);
    assert_int_equal(b.usage.cached_tokens, 0);
    assert_int_equal(a.n_tokens, b.n_tokens);
    assert_memory_equal(a.tokens, b.tokens, a.n_tokens * sizeof *a.tokens);
    worker_event_release(&a);
    worker_event_release(&b);
    buf_release(&first);
    buf_release(&second);
    worker_stop(w);
}

/* The roof is measured by itself only where somebody wants it, and a second after the last work. */
static void test_read_speed(void **state) {
    struct worker *w = start(path);
    struct buf text = {0};
    (void)state;
    assert_int_equal(wait_until_open(w), WORKER_READY);
    assert_true(worker_memory_bytes(w) > 0);
    assert_true(worker_memory_bytes(w) < worker_info(w)->device_bytes);
    nanosleep(&(struct timespec){.tv_sec = 1, .tv_nsec = 500000000}, NULL);
    assert_true(worker_read_speed(w) == 0);
    double begin = clock_seconds();
    uint64_t id = ask(w, &hello, 1, NULL, 4);
    worker_want_read_speed(w);
    struct worker_event end = wait_for_end(w, id, &text);
    int n_answer = end.usage.answer_tokens; /* and the id that ended it, if one did */
    assert_in_range(worker_load(w).n_drawn, n_answer, n_answer + (end.stop == STOP_END));
    worker_event_release(&end);
    while (worker_read_speed(w) == 0) {
        if (clock_seconds() - begin > LONGEST_SECONDS) fail_msg("the roof was not measured");
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    }
    assert_true(clock_seconds() - begin >= 1);
    assert_true(worker_read_speed(w) > 1e8);
    buf_release(&text);
    worker_stop(w);
}

static void test_stop_in_bench(void **state) {
    (void)state;
    struct worker *w = start(path);
    assert_int_equal(wait_until_open(w), WORKER_READY);
    start_long_bench(w);
    double begin = clock_seconds();
    worker_stop(w);
    assert_true(clock_seconds() - begin < LONGEST_SECONDS);
}

static void test_too_long(void **state) {
    (void)state;
    struct worker *w = start(path);
    struct buf text = {0}, question = {0};
    for (int i = 0; i < 600; i++) buf_puts(&question, "q ");
    const struct message message = {.role = ROLE_USER, .content = question.data};
    assert_int_equal(wait_until_open(w), WORKER_READY);
    struct worker_event end = wait_for_end(w, ask(w, &message, 1, NULL, 4), &text);
    assert_int_equal(end.stop, STOP_ERROR);
    assert_int_equal(end.err.kind, ERR_CONTEXT);
    worker_event_release(&end);
    buf_release(&text);
    buf_release(&question);
    worker_stop(w);
}

static void test_no_model(void **state) {
    (void)state;
    struct worker *w = start("/nonexistent/model");
    struct worker_event event;
    uint64_t asked = ask(w, &hello, 1, NULL, 4);
    struct buf text = {0};
    event = next(w);
    while (event.kind == WORKER_LOADING || event.kind == WORKER_END) {
        worker_event_release(&event);
        event = next(w);
    }
    assert_int_equal(event.kind, WORKER_FAILED);
    assert_int_equal(event.err.kind, ERR_MODEL);
    worker_event_release(&event);
    assert_null(worker_info(w)); /* there is one only where the engine is open */
    (void)asked;
    event = wait_for_end(w, ask(w, &hello, 1, NULL, 4), &text); /* later ones end as well */
    assert_int_equal(event.stop, STOP_ERROR);
    worker_event_release(&event);
    buf_release(&text);
    worker_stop(w);
}

/* Stopping at any moment ends the thread: while loading, while answering, with events waiting. */
static void test_stop(void **state) {
    (void)state;
    for (int i = 0; i < 12; i++) {
        struct worker *w = start(path);
        const struct timespec pause = {.tv_nsec = i * 2000000L};
        ask(w, &hello, 1, NULL, 0);
        ask(w, &hello, 1, NULL, 0);
        nanosleep(&pause, NULL);
        double begin = clock_seconds();
        worker_stop(w);
        assert_true(clock_seconds() - begin < LONGEST_SECONDS);
    }
    worker_stop(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),       cmocka_unit_test(test_cached_prefix),
        cmocka_unit_test(test_cancel),        cmocka_unit_test(test_both_at_once),
        cmocka_unit_test(test_too_long),      cmocka_unit_test(test_no_model),
        cmocka_unit_test(test_stop),          cmocka_unit_test(test_bench),
        cmocka_unit_test(test_stop_in_bench), cmocka_unit_test(test_read_speed),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
