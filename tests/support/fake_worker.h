/*
 * A worker without an engine, for tests of the chat and of the skins: link fake_worker.c instead of
 * app/worker.c (everything else of app/ as it is) and set the global script before chat_open().
 *
 *     fake_worker = (struct fake_script){.answers = (const char *const[]){"Hello", "Bye", NULL},
 *                                        .tokens_per_second = 50};
 *
 * Answers are given in turn, a character a token, with ids that are the code points; after the last
 * one it starts again. It needs no thread: worker_fd() is a timer, and worker_take()
 * makes the events that are due. Requests are kept for the test to look at.
 *
 * In CMake: target_sources(<test> PRIVATE support/fake_worker.c) before linking qc_app: the linker
 * takes app/worker.c out of the library only for what is still missing, which is nothing.
 */
#pragma once

#include "app/worker.h"

#include <stdatomic.h>

/*
 * How far the fake worker may go; in memory that a test and the program under test, its child, have
 * together. What is to happen while an answer comes must not depend on who is faster: the test lets
 * the answer begin, does it, and lets the rest come.
 */
struct fake_gate {
    atomic_bool is_loaded; /* WORKER_READY may come */
    atomic_int n_tokens;   /* that may have come, in all answers together */
};

struct fake_script {
    const char *const *answers;   /* NULL-terminated; NULL: "answer" for ever */
    const char *const *reasoning; /* beside the answers, NULL: none */
    int tokens_per_second;        /* 0: all at once */
    int token_characters;         /* of a token, 0: one */
    int loading_ms;               /* until WORKER_READY; 0: at once */
    struct fake_gate *gate;       /* NULL: nothing holds it back */
    int context_tokens;           /* 0: 4096 */
    const char *template_name;    /* NULL: no template, a base model */
    const char *model_name;       /* NULL: "fake" */
    const char *notice;           /* of the model, or NULL */
    struct err load_error;        /* kind not 0: WORKER_FAILED instead of READY */
    const char *bad_model;        /* only this path fails to load, with load_error */
    struct err answer_error;      /* kind not 0: answers end so, after error_after characters */
    int error_after;
    bool breaks;        /* WORKER_FAILED behind the failing answer */
    int left_out_turns; /* what every answer reports */
    double read_speed;  /* the roof; 0: not measured */
    int bench_stall;    /* a bench goes on to its n-th event and then waits to be stopped; 0: no */
};
extern struct fake_script fake_worker;

/* What the last request held: "system:…\nuser:…\n" or "raw:…", the sampling, and so on. */
struct fake_request {
    char *messages; /* NULL: none yet */
    struct sampling sampling;
    int max_tokens;
    size_t n_stops;
    enum thinking thinking;
    bool is_strict;
    size_t n_reused; /* messages that came with their ids */
    int n_requests;
    struct bench_test test; /* the first one of the last bench, and how many, how often */
    size_t n_tests;
    int repetitions;
};
extern struct fake_request fake_request;
void fake_worker_reset(void); /* frees and zeroes both */

/* Before the worker starts: no token comes, nor the end of an answer; or the model is not loaded.
 * Until the test lets it. */
void fake_hold_answers(void);
void fake_hold_loading(void);
void fake_let(int n_tokens); /* so many more */
void fake_let_all(void);
void fake_let_load(void);
