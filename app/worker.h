/*
 * The engine's thread. It opens the model, tokenizes, steps, and closes; the front end's thread
 * posts requests and takes events, and never waits for either. worker_fd() is readable while events
 * wait, so it goes into a poll() beside the keyboard.
 */
#pragma once

#include "app/bench.h"
#include "app/frontend.h"

struct worker;

enum worker_event_kind {
    WORKER_LOADING, /* what, share */
    WORKER_READY,   /* the engine is open; worker_info() may be used from now on */
    WORKER_FAILED,  /* the model could not be opened, or the engine broke: err */
    WORKER_PROMPT,  /* done of total prompt tokens are computed */
    WORKER_TEXT,    /* text of the answer in part */
    WORKER_BENCH,   /* a test runs: what, share */
    WORKER_ROW,     /* a test is done: row */
    WORKER_END,     /* the request is over */
};

/* Owned by whoever took it; worker_event_release(). */
struct worker_event {
    enum worker_event_kind kind;
    uint64_t request;
    char *what;
    float share;
    int done, total;
    struct bench_row *row;
    enum answer_part part;
    char *text; /* NUL-terminated, n_text bytes; raw, not sanitized */
    size_t n_text;
    /* WORKER_END */
    enum engine_stop stop;
    struct engine_usage usage;
    int32_t *tokens; /* the answer's ids, stop id left out */
    size_t n_tokens;
    int left_out_turns;
    struct err err; /* WORKER_FAILED; WORKER_END with STOP_ERROR */
};
void worker_event_release(struct worker_event *event);

/* Starts the thread and returns at once; loading goes on behind it. Options are copied. */
int worker_start(struct worker **out, const struct engine_options *options, struct err *err);
void worker_stop(struct worker *w); /* cancels, closes the engine, joins */

int worker_fd(const struct worker *w);
bool worker_take(struct worker *w, struct worker_event *event); /* false: none waits */

/* NULL before WORKER_READY; immutable afterwards. */
const struct model_info *worker_info(const struct worker *w);
const struct tokenizer *worker_tokenizer(const struct worker *w);
const struct chat_template *worker_chat(const struct worker *w);
const char *worker_tokenizer_id(const struct worker *w); /* equal ids: equal vocabularies */

/* From WORKER_READY on. */
struct sampling worker_default_sampling(const struct worker *w); /* as the model recommends */
struct engine_load worker_load(const struct worker *w);          /* after the last step */
uint64_t worker_memory_bytes(const struct worker *w); /* engine_memory_bytes(), now and then */

/* The roof of decoding: bytes per second that the device reads memory with, the best that was
 * measured; 0: not yet. Benches measure it; where it is wanted the thread does it by itself, once,
 * when nothing was asked of it for a second: it takes some tenths of one, and a piece of memory. */
double worker_read_speed(const struct worker *w);
void worker_want_read_speed(struct worker *w);

/* What to answer. Everything is copied; tools and tool calls are not passed on. */
struct worker_request {
    const struct message *messages;
    size_t n_messages;
    /* NULL, or for each message the ids that an assistant's turn was made of (n 0: unknown), of the
     * tokenizer that is open: they are reused where the template says the same text, so that a
     * resumed conversation finds its cached prefix. */
    const struct tokens *message_tokens;
    struct chat_options chat;
    const char *raw;    /* raw text to complete instead of messages, or NULL */
    bool raw_has_added; /* control tokens written in `raw` count as such */
    struct sampling sampling;
    int max_tokens;
    const char *const *stops;
    size_t n_stops;
    bool is_strict; /* history that does not fit: an error instead of leaving turns out */
};

/* Posts a request; its number, never 0 (0: out of memory). Events come later. */
uint64_t worker_ask(struct worker *w, const struct worker_request *request);

/* Posts speed tests, which are copied: events WORKER_BENCH and WORKER_ROW, then WORKER_END, with
 * STOP_END where all were run. No answer runs meanwhile, and what was cached is forgotten. */
uint64_t worker_bench(struct worker *w, const struct bench_plan *plan);
void worker_cancel(struct worker *w, uint64_t request);
