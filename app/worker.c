/*
 * The thread and its two queues. Jobs go in, events come out; one mutex guards the lists and is
 * held only to link and unlink. An eventfd counts the events that wait. A job moves from the inbox
 * to the thread's own list, which only the thread changes; a job's other fields are the thread's
 * alone.
 *
 * A job's last event is allocated with the job, so a request always ends, even without memory.
 */
#include "app/worker.h"

#include "app/prompt.h"
#include "app/reasoning.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <xxhash.h>

struct node {
    struct worker_event event;
    struct node *next;
};

struct job {
    struct job *next;
    bool is_cancelled; /* under the lock */
    uint64_t id;
    struct worker_request request; /* its copies */
    struct bench_plan bench;       /* tests: a copy; NULL: an answer */
    struct node *end;
    /* the thread's */
    bool is_started, is_cancel_sent;
    uint64_t engine_id;
    struct reasoning split;
    struct buf reasoning, answer; /* text of this step */
    struct tokens tokens;
    int left_out_turns;
};

struct worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int fd;
    bool is_stopping;
    struct job *inbox; /* asked, not yet seen by the thread; in order */
    struct job *jobs;  /* the thread's; changed under the lock, so that others may look for one */
    uint64_t last_id;
    struct node *first, *last;     /* events */
    struct node *opened;           /* READY or FAILED, allocated beforehand */
    struct engine_options options; /* its strings are copies */
    struct engine *engine;         /* the thread's */
    /* what WORKER_READY publishes, under the lock */
    bool is_ready;
    const struct model_info *info;
    const struct tokenizer *tokenizer;
    const struct chat_template *chat;
    char tokenizer_id[32];
    struct sampling sampling;
    struct engine_load load;
    uint64_t memory_bytes;
    double memory_seconds; /* when that was, of the monotonic clock; the thread's */
    double read_speed;
    bool wants_read_speed, is_broken;
};

enum { QUIET_MS = 1000, MEMORY_MS = 500 };

/* --- events ----------------------------------------------------------------------------------- */

void worker_event_release(struct worker_event *event) {
    mem_free(event->what);
    mem_free(event->text);
    mem_free(event->tokens);
    mem_free(event->row);
    *event = (struct worker_event){0};
}

static void push(struct worker *w, struct node *node) {
    const uint64_t one = 1;
    node->next = NULL;
    pthread_mutex_lock(&w->lock);
    if (w->last)
        w->last->next = node;
    else
        w->first = node;
    w->last = node;
    pthread_mutex_unlock(&w->lock);
    /* cannot block: the counter would have to reach 2^64 - 1 */
    if (write(w->fd, &one, sizeof one) != sizeof one) bug("eventfd: %s", strerror(errno));
}

/* False: out of memory; the text is not taken then. */
static bool push_text(struct worker *w, const struct job *job, enum answer_part part,
                      struct buf *text) {
    if (text->failed) return false;
    if (!text->n) return true;
    struct node *node = mem_zalloc(1, sizeof *node);
    if (!node) return false;
    node->event = (struct worker_event){.kind = WORKER_TEXT,
                                        .request = job->id,
                                        .part = part,
                                        .text = text->data,
                                        .n_text = text->n};
    *text = (struct buf){0};
    push(w, node);
    return true;
}

/* Progress is only news: without memory it is left out. */
static void push_progress(struct worker *w, struct worker_event event, const char *what) {
    struct node *node = mem_zalloc(1, sizeof *node);
    if (!node) return;
    node->event = event;
    node->event.what = what ? mem_strdup(what) : NULL;
    push(w, node);
}

bool worker_take(struct worker *w, struct worker_event *event) {
    uint64_t count;
    struct node *node;
    do {
        pthread_mutex_lock(&w->lock);
        node = w->first;
        if (node) w->first = node->next;
        if (!w->first) w->last = NULL;
        pthread_mutex_unlock(&w->lock);
        /* none: empty the counter, and look again for what came before it was empty */
    } while (!node && read(w->fd, &count, sizeof count) > 0);
    if (!node) return false;
    *event = node->event;
    mem_free(node);
    return true;
}

/* --- jobs ------------------------------------------------------------------------------------- */

static void request_release(struct worker_request *r) {
    struct message *messages = (struct message *)(uintptr_t)r->messages;
    struct tokens *tokens = (struct tokens *)(uintptr_t)r->message_tokens;
    char **stops = (char **)(uintptr_t)r->stops;
    for (size_t i = 0; i < r->n_messages && messages; i++) {
        mem_free((char *)(uintptr_t)messages[i].content);
        mem_free((char *)(uintptr_t)messages[i].reasoning);
        if (tokens) tokens_release(&tokens[i]);
    }
    for (size_t i = 0; i < r->n_stops && stops; i++) mem_free(stops[i]);
    mem_free(messages);
    mem_free(tokens);
    mem_free(stops);
    mem_free((char *)(uintptr_t)r->raw);
    *r = (struct worker_request){0};
}

static bool copy_tokens(struct tokens *out, const struct tokens *from) {
    if (!from->n) return true;
    out->ids = mem_copy(from->ids, from->n * sizeof *from->ids);
    out->n = out->capacity = out->ids ? from->n : 0;
    return out->ids != NULL;
}

static bool copy_messages(struct worker_request *out, const struct worker_request *from) {
    struct message *messages = mem_zalloc(from->n_messages, sizeof *messages);
    struct tokens *tokens =
        from->message_tokens ? mem_zalloc(from->n_messages, sizeof *tokens) : NULL;
    bool is_whole = messages && (tokens || !from->message_tokens);
    out->messages = messages;
    out->message_tokens = tokens;
    for (size_t i = 0; i < from->n_messages && is_whole; i++) {
        const struct message *m = &from->messages[i];
        messages[i].role = m->role;
        messages[i].content = mem_strdup(m->content ? m->content : "");
        messages[i].reasoning = m->reasoning ? mem_strdup(m->reasoning) : NULL;
        is_whole = messages[i].content && (!m->reasoning || messages[i].reasoning) &&
                   (!tokens || copy_tokens(&tokens[i], &from->message_tokens[i]));
        out->n_messages = i + 1;
    }
    return is_whole;
}

static bool copy_stops(struct worker_request *out, const struct worker_request *from) {
    char **stops = mem_zalloc(from->n_stops, sizeof *stops);
    bool is_whole = stops != NULL;
    out->stops = (const char *const *)stops;
    for (size_t i = 0; i < from->n_stops && is_whole; i++) {
        stops[i] = mem_strdup(from->stops[i]);
        is_whole = stops[i] != NULL;
        out->n_stops = i + 1;
    }
    return is_whole;
}

static bool copy_request(struct worker_request *out, const struct worker_request *from) {
    *out = *from;
    out->messages = NULL;
    out->message_tokens = NULL;
    out->stops = NULL;
    out->n_messages = out->n_stops = 0;
    out->chat.tools = NULL;
    out->chat.n_tools = 0;
    out->raw = from->raw ? mem_strdup(from->raw) : NULL;
    return (!from->raw || out->raw) && copy_messages(out, from) && copy_stops(out, from);
}

static void job_free(struct job *job) {
    request_release(&job->request);
    mem_free((struct bench_test *)(uintptr_t)job->bench.tests);
    reasoning_release(&job->split);
    buf_release(&job->reasoning);
    buf_release(&job->answer);
    tokens_release(&job->tokens);
    mem_free(job->end);
    mem_free(job);
}

static uint64_t post(struct worker *w, struct job *job) {
    pthread_mutex_lock(&w->lock);
    struct job **link = &w->inbox;
    while (*link) link = &(*link)->next;
    *link = job;
    uint64_t id = job->id = ++w->last_id;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    return id;
}

static struct job *job_new(void) {
    struct job *job = mem_zalloc(1, sizeof *job);
    if (job) job->end = mem_zalloc(1, sizeof *job->end);
    if (job && job->end) return job;
    mem_free(job);
    return NULL;
}

uint64_t worker_ask(struct worker *w, const struct worker_request *request) {
    struct job *job = job_new();
    if (job && copy_request(&job->request, request)) return post(w, job);
    if (job) job_free(job);
    return 0;
}

uint64_t worker_bench(struct worker *w, const struct bench_plan *plan) {
    struct job *job = job_new();
    if (!job) return 0;
    job->bench = *plan;
    job->bench.tests = mem_copy(plan->tests, plan->n_tests * sizeof *plan->tests);
    if (job->bench.tests) return post(w, job);
    job_free(job);
    return 0;
}

void worker_cancel(struct worker *w, uint64_t request) {
    pthread_mutex_lock(&w->lock);
    for (struct job *job = w->inbox; job; job = job->next)
        if (job->id == request) job->is_cancelled = true;
    for (struct job *job = w->jobs; job; job = job->next)
        if (job->id == request) job->is_cancelled = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}

/* --- the thread: one request ------------------------------------------------------------------ */

/* Sends the job's last event and frees it. */
static void finish(struct worker *w, struct job *job, enum engine_stop stop,
                   const struct engine_usage *usage, const struct err *err) {
    struct node *node = job->end;
    node->event = (struct worker_event){.kind = WORKER_END,
                                        .request = job->id,
                                        .stop = stop,
                                        .tokens = job->tokens.ids,
                                        .n_tokens = job->tokens.n,
                                        .left_out_turns = job->left_out_turns};
    if (usage) node->event.usage = *usage;
    if (err) node->event.err = *err;
    job->tokens = (struct tokens){0};
    job->end = NULL;
    pthread_mutex_lock(&w->lock);
    struct job **link = &w->jobs;
    while (*link != job) link = &(*link)->next;
    *link = job->next;
    pthread_mutex_unlock(&w->lock);
    push(w, node);
    job_free(job);
}

static void send_text(struct worker *w, struct job *job) {
    if (push_text(w, job, PART_REASONING, &job->reasoning) &&
        push_text(w, job, PART_ANSWER, &job->answer))
        return;
    /* an answer with a hole is none */
    engine_cancel(w->engine, job->engine_id);
}

/* ChatML's turns end so; published configs do not always list it among the stop ids. */
static size_t find_turn_end(const struct worker *w, const struct job *job, int32_t *id) {
    *id = tokenizer_find_added(w->tokenizer, "<|im_end|>");
    return !job->request.raw && *id >= 0 ? 1 : 0;
}

static int submit(struct worker *w, struct job *job, struct err *err) {
    const struct worker_request *r = &job->request;
    struct prompt prompt;
    int32_t turn_end;
    if (prompt_build(r, w->chat, w->tokenizer, w->info->context_tokens, &prompt, err) != 0)
        return -1;
    job->left_out_turns = prompt.left_out_turns;
    bool thinks = !r->raw && chat_template_thinks(w->chat);
    struct chat_options options = r->chat;
    options.generation_prompt = true;
    reasoning_begin(&job->split, thinks, thinks && chat_template_opens_thinking(w->chat, &options));
    struct engine_request request = {.tokens = prompt.tokens.ids,
                                     .n_tokens = prompt.tokens.n,
                                     .sampling = r->sampling,
                                     .max_tokens = r->max_tokens,
                                     .stops = r->stops,
                                     .n_stops = r->n_stops,
                                     .stop_ids = &turn_end,
                                     .n_stop_ids = find_turn_end(w, job, &turn_end),
                                     .show_control = r->raw != NULL};
    int result = engine_submit(w->engine, &request, &job->engine_id, err);
    prompt_release(&prompt);
    job->is_started = result == 0;
    return result;
}

/* The kernel is asked about memory now and then only: a step may take less time than that. */
static void publish_load(struct worker *w) {
    struct engine_load load = engine_load(w->engine);
    double time = clock_seconds();
    bool is_due = time - w->memory_seconds > MEMORY_MS / 1e3;
    uint64_t bytes = is_due ? engine_memory_bytes(w->engine) : 0;
    pthread_mutex_lock(&w->lock);
    w->load = load;
    if (is_due) w->memory_bytes = bytes;
    pthread_mutex_unlock(&w->lock);
    if (is_due) w->memory_seconds = time;
}

static void publish_read_speed(struct worker *w, double speed) {
    pthread_mutex_lock(&w->lock);
    if (speed > w->read_speed) w->read_speed = speed;
    w->wants_read_speed = false;
    pthread_mutex_unlock(&w->lock);
}

struct bench_run {
    struct worker *worker;
    struct job *job;
};

static bool on_bench_progress(void *ud, const char *what, double share) {
    const struct bench_run *run = ud;
    struct worker *w = run->worker;
    push_progress(
        w,
        (struct worker_event){.kind = WORKER_BENCH, .request = run->job->id, .share = (float)share},
        what);
    pthread_mutex_lock(&w->lock);
    bool goes_on = !w->is_stopping && !run->job->is_cancelled;
    pthread_mutex_unlock(&w->lock);
    return goes_on;
}

/* Without memory the row has nothing in it, or is missing: the next ones may be whole. */
static void on_bench_row(void *ud, const struct bench_row *row) {
    const struct bench_run *run = ud;
    struct node *node = mem_zalloc(1, sizeof *node);
    publish_read_speed(run->worker, row->roof);
    if (!node) return;
    node->event = (struct worker_event){
        .kind = WORKER_ROW, .request = run->job->id, .row = mem_copy(row, sizeof *row)};
    push(run->worker, node);
}

static void bench(struct worker *w, struct job *job) {
    struct bench_run run = {w, job};
    const struct bench_host host = {&run, on_bench_progress, on_bench_row};
    struct err err = {0};
    int result = bench_run(w->engine, &job->bench, &host, &err);
    publish_load(w);
    finish(w, job,
           result < 0   ? STOP_ERROR
           : result > 0 ? STOP_CANCELLED
                        : STOP_END,
           NULL, result < 0 ? &err : NULL);
}

static void start_job(struct worker *w, struct job *job, bool is_cancelled) {
    struct err err = {0};
    if (is_cancelled)
        finish(w, job, STOP_CANCELLED, NULL, NULL);
    else if (job->bench.tests)
        bench(w, job);
    else if (submit(w, job, &err) != 0)
        finish(w, job, STOP_ERROR, NULL, &err);
}

static struct job *job_of(struct worker *w, uint64_t engine_id) {
    struct job *job = w->jobs;
    while (job && (!job->is_started || job->engine_id != engine_id)) job = job->next;
    return job;
}

static void take_text(struct job *job, const struct engine_event *event) {
    if (event->n_text)
        reasoning_feed(&job->split, event->text, event->n_text, &job->reasoning, &job->answer);
}

static void handle_end(struct worker *w, struct job *job, const struct engine_event *event) {
    struct err lost;
    const struct err *err = event->err;
    enum engine_stop stop = event->stop;
    take_text(job, event);
    reasoning_finish(&job->split, &job->reasoning, &job->answer);
    if (!push_text(w, job, PART_REASONING, &job->reasoning) ||
        !push_text(w, job, PART_ANSWER, &job->answer)) {
        err_memory(&lost, 0, "the answer's text");
        err = &lost;
        stop = STOP_ERROR;
    }
    finish(w, job, stop, event->usage, err);
}

static void handle(struct worker *w, const struct engine_event *event) {
    struct job *job = job_of(w, event->request);
    if (!job) return;
    switch (event->kind) {
    case EVENT_PROMPT:
        push_progress(w,
                      (struct worker_event){.kind = WORKER_PROMPT,
                                            .request = job->id,
                                            .done = event->done,
                                            .total = event->total},
                      NULL);
        break;
    case EVENT_TOKEN:
        take_text(job, event);
        /* without memory the ids are a hint less: the text is what counts */
        if (event->token >= 0 && tokens_add(&job->tokens, event->token, NULL) != 0)
            tokens_release(&job->tokens);
        break;
    case EVENT_END:
        handle_end(w, job, event);
        break;
    }
}

/* --- the thread: its life --------------------------------------------------------------------- */

/* Under the lock: until something is there, or until it has been quiet for so long. */
static void wait_for_change(struct worker *w) {
    struct timespec end;
    if (!w->wants_read_speed) {
        pthread_cond_wait(&w->wake, &w->lock);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += QUIET_MS / 1000;
    if (pthread_cond_timedwait(&w->wake, &w->lock, &end) != ETIMEDOUT) return;
    pthread_mutex_unlock(&w->lock);
    publish_read_speed(w, engine_read_speed(w->engine));
    pthread_mutex_lock(&w->lock);
}

/* Waits for something to do and takes the inbox over; false: the worker is to stop. */
static bool wait_for_work(struct worker *w) {
    pthread_mutex_lock(&w->lock);
    while (!w->is_stopping && !w->jobs && !w->inbox) wait_for_change(w);
    struct job **link = &w->jobs;
    while (*link) link = &(*link)->next;
    *link = w->inbox;
    w->inbox = NULL;
    bool goes_on = !w->is_stopping;
    pthread_mutex_unlock(&w->lock);
    return goes_on;
}

static bool is_cancelled(struct worker *w, const struct job *job) {
    pthread_mutex_lock(&w->lock);
    bool cancelled = job->is_cancelled;
    pthread_mutex_unlock(&w->lock);
    return cancelled;
}

/* Starts what is new and passes on what is cancelled. */
static void apply_changes(struct worker *w) {
    for (struct job *job = w->jobs, *next; job; job = next) {
        next = job->next; /* start_job() may free the job */
        bool cancelled = is_cancelled(w, job);
        if (!job->is_started) {
            start_job(w, job, cancelled);
        } else if (cancelled && !job->is_cancel_sent) {
            engine_cancel(w->engine, job->engine_id);
            job->is_cancel_sent = true;
        }
    }
}

static int step(struct worker *w, struct err *err) {
    const struct engine_event *events = NULL;
    size_t n = 0;
    if (engine_step(w->engine, &events, &n, err) != 0) return -1;
    publish_load(w); /* first: who takes an event finds what is true since then */
    for (size_t i = 0; i < n; i++) handle(w, &events[i]);
    for (struct job *job = w->jobs; job; job = job->next)
        if (job->is_started) send_text(w, job);
    return 0;
}

/* Equal for equal vocabularies: a conversation's ids may be used again. */
static void name_tokenizer(const struct tokenizer *t, char *out, size_t n_out) {
    XXH64_hash_t hash = 0;
    for (int32_t id = 0; id < tokenizer_n_ids(t); id++) {
        size_t n = 0;
        const char *bytes = tokenizer_bytes(t, id, &n);
        hash = XXH3_64bits_withSeed(bytes ? bytes : "", n, hash + (uint64_t)n + 1);
    }
    snprintf(out, n_out, "%d-%016llx", (int)tokenizer_n_ids(t), (unsigned long long)hash);
}

static void publish(struct worker *w) {
    w->info = engine_info(w->engine);
    w->tokenizer = engine_tokenizer(w->engine);
    w->chat = engine_chat(w->engine);
    w->sampling = engine_default_sampling(w->engine);
    name_tokenizer(w->tokenizer, w->tokenizer_id, sizeof w->tokenizer_id);
    publish_load(w);
    pthread_mutex_lock(&w->lock);
    w->is_ready = true;
    pthread_mutex_unlock(&w->lock);
}

static bool on_progress(void *ud, const char *what, float share) {
    struct worker *w = ud;
    push_progress(w, (struct worker_event){.kind = WORKER_LOADING, .share = share}, what);
    pthread_mutex_lock(&w->lock);
    bool goes_on = !w->is_stopping;
    pthread_mutex_unlock(&w->lock);
    return goes_on;
}

static void end_all(struct worker *w, const struct err *err) {
    while (w->jobs) finish(w, w->jobs, STOP_ERROR, NULL, err);
}

/* Says so, and lets whatever is still asked end with the error until the worker is stopped. */
static void fail(struct worker *w, const struct err *err) {
    struct node *node = w->opened ? w->opened : mem_zalloc(1, sizeof *node);
    w->opened = NULL;
    pthread_mutex_lock(&w->lock);
    w->is_broken = true;
    w->wants_read_speed = false;
    pthread_mutex_unlock(&w->lock);
    end_all(w, err);
    if (node) {
        node->event = (struct worker_event){.kind = WORKER_FAILED, .err = *err};
        push(w, node);
    }
    while (wait_for_work(w)) end_all(w, err);
}

static int serve(struct worker *w, struct err *err) {
    while (wait_for_work(w)) {
        apply_changes(w);
        if (engine_is_busy(w->engine) && step(w, err) != 0) return -1;
    }
    return 0;
}

static int open_engine(struct worker *w, struct err *err) {
    if (engine_open(&w->engine, &w->options, err) != 0) return -1;
    publish(w);
    struct node *node = w->opened;
    w->opened = NULL;
    node->event.kind = WORKER_READY;
    push(w, node);
    return 0;
}

static void *thread_main(void *ud) {
    struct worker *w = ud;
    struct err err = {0};
    if (open_engine(w, &err) != 0 || serve(w, &err) != 0) fail(w, &err);
    if (w->engine) engine_close(w->engine);
    return NULL;
}

/* --- starting and stopping -------------------------------------------------------------------- */

static void free_jobs(struct job *job) {
    while (job) {
        struct job *next = job->next;
        job_free(job);
        job = next;
    }
}

static void worker_free(struct worker *w) {
    struct worker_event event;
    while (w->fd >= 0 && worker_take(w, &event)) worker_event_release(&event);
    free_jobs(w->inbox);
    free_jobs(w->jobs);
    if (w->fd >= 0) close(w->fd);
    mem_free(w->opened);
    mem_free((char *)(uintptr_t)w->options.model);
    mem_free((char *)(uintptr_t)w->options.tokenizer);
    mem_free((char *)(uintptr_t)w->options.template_name);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

static bool copy_options(struct worker *w, const struct engine_options *from) {
    w->options = *from;
    w->options.model = from->model ? mem_strdup(from->model) : NULL;
    w->options.tokenizer = from->tokenizer ? mem_strdup(from->tokenizer) : NULL;
    w->options.template_name = from->template_name ? mem_strdup(from->template_name) : NULL;
    w->options.progress = on_progress;
    w->options.progress_ud = w;
    return w->options.model && (w->options.tokenizer || !from->tokenizer) &&
           (w->options.template_name || !from->template_name);
}

/* Signals are the front end's business: the thread takes none. */
static int create_thread(struct worker *w) {
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* a page of a mapped file may be gone: its handler must run */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&w->thread, NULL, thread_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

/* It also waits for a time, of a clock that nobody sets. */
static void init_wake(struct worker *w) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->wake, &attributes);
    pthread_condattr_destroy(&attributes);
}

int worker_start(struct worker **out, const struct engine_options *options, struct err *err) {
    struct worker *w = mem_zalloc(1, sizeof *w);
    if (!w) return err_memory(err, sizeof *w, "the engine's thread");
    pthread_mutex_init(&w->lock, NULL);
    init_wake(w);
    w->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    w->opened = mem_zalloc(1, sizeof *w->opened);
    int code = w->fd < 0 ? errno : 0;
    bool has_memory = w->opened && copy_options(w, options);
    if (has_memory && !code) code = create_thread(w);
    if (has_memory && !code) {
        *out = w;
        return 0;
    }
    worker_free(w);
    if (!has_memory) return err_memory(err, sizeof *w, "the engine's thread");
    return err_set(err, ERR_OTHER, "the engine's thread cannot be started: %s", strerror(code));
}

void worker_stop(struct worker *w) {
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->is_stopping = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    worker_free(w);
}

/* --- facts ------------------------------------------------------------------------------------ */

int worker_fd(const struct worker *w) {
    return w->fd;
}

static bool is_ready(const struct worker *w) {
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&w->lock;
    pthread_mutex_lock(lock);
    bool ready = w->is_ready;
    pthread_mutex_unlock(lock);
    return ready;
}

const struct model_info *worker_info(const struct worker *w) {
    return is_ready(w) ? w->info : NULL;
}

const struct tokenizer *worker_tokenizer(const struct worker *w) {
    return is_ready(w) ? w->tokenizer : NULL;
}

const struct chat_template *worker_chat(const struct worker *w) {
    return is_ready(w) ? w->chat : NULL;
}

const char *worker_tokenizer_id(const struct worker *w) {
    return is_ready(w) ? w->tokenizer_id : NULL;
}

struct sampling worker_default_sampling(const struct worker *w) {
    return is_ready(w) ? w->sampling : (struct sampling){.top_p = 1, .repetition_penalty = 1};
}

struct engine_load worker_load(const struct worker *w) {
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&w->lock;
    pthread_mutex_lock(lock);
    struct engine_load load = w->load;
    pthread_mutex_unlock(lock);
    return load;
}

uint64_t worker_memory_bytes(const struct worker *w) {
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&w->lock;
    pthread_mutex_lock(lock);
    uint64_t bytes = w->memory_bytes;
    pthread_mutex_unlock(lock);
    return bytes;
}

double worker_read_speed(const struct worker *w) {
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&w->lock;
    pthread_mutex_lock(lock);
    double speed = w->read_speed;
    pthread_mutex_unlock(lock);
    return speed;
}

void worker_want_read_speed(struct worker *w) {
    pthread_mutex_lock(&w->lock);
    w->wants_read_speed = w->is_ready && !w->is_broken && w->read_speed <= 0;
    if (w->wants_read_speed) pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->lock);
}
