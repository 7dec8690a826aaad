/* The timer fires when something is due; worker_take() turns what is due into events. */
#include "tests/support/fake_worker.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct fake_script fake_worker;
struct fake_request fake_request;

enum { MOST_TESTS = 8 };
static const double look_seconds = 0.005; /* at a gate, whether it is open */

struct worker {
    int fd;
    bool is_ready, has_failed, has_told;
    double begin; /* of loading, then of the answer */
    struct model_config config;
    struct model_info info;
    uint64_t running, last_id;
    int bench_step; /* of a bench: the next event, from 1; 0: an answer runs */
    int n_bench_tests;
    struct bench_test tests[MOST_TESTS];
    bool is_cancelled;
    const char *parts[2];
    size_t at[2];
    struct tokens tokens;
    int n_sent, n_sent_before; /* tokens of this answer, and of the ones before */
    size_t n_answers;
};

static void arm(struct worker *w, double seconds) {
    long ns = (long)(seconds * 1e9);
    if (ns < 1) ns = 1;
    struct itimerspec when = {.it_value = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}};
    if (timerfd_settime(w->fd, 0, &when, NULL) != 0) abort();
}

int worker_start(struct worker **out, const struct engine_options *options, struct err *err) {
    struct worker *w = mem_zalloc(1, sizeof *w);
    if (!w) return err_memory(err, sizeof *w, "the fake worker");
    w->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    snprintf(w->config.name, sizeof w->config.name, "%s",
             fake_worker.model_name ? fake_worker.model_name : "fake");
    snprintf(w->config.model_type, sizeof w->config.model_type, "fake");
    w->config.n_layers = 1;
    w->config.trained_tokens = w->config.max_tokens = 4096;
    w->info = (struct model_info){
        .config = &w->config,
        .path = mem_strdup(options->model),
        .device = "no device",
        .format = "f32",
        .backend = "CPU",
        .weight_bytes = 100 << 20,
        .device_bytes = 8ull << 30,
        .context_tokens = fake_worker.context_tokens ? fake_worker.context_tokens : 4096};
    if (fake_worker.notice) {
        snprintf(w->info.notices[0], sizeof w->info.notices[0], "%s", fake_worker.notice);
        w->info.n_notices = 1;
    }
    w->begin = clock_seconds();
    arm(w, 0);
    *out = w;
    return 0;
}

void worker_stop(struct worker *w) {
    if (!w) return;
    close(w->fd);
    tokens_release(&w->tokens);
    mem_free((char *)(uintptr_t)w->info.path);
    mem_free(w);
}

int worker_fd(const struct worker *w) {
    return w->fd;
}

void worker_event_release(struct worker_event *event) {
    mem_free(event->what);
    mem_free(event->text);
    mem_free(event->tokens);
    mem_free(event->row);
    *event = (struct worker_event){0};
}

/* --- events ----------------------------------------------------------------------------------- */

static bool take_loading(struct worker *w, struct worker_event *event) {
    double left = w->begin + fake_worker.loading_ms / 1000.0 - clock_seconds();
    if (fake_worker.gate && !fake_worker.gate->is_loaded) left = look_seconds;
    if (w->has_failed) return false;
    if (left > 0 && w->has_told) {
        arm(w, left);
        return false;
    }
    arm(w, 0); /* there will be more */
    if (!w->has_told) {
        w->has_told = true;
        *event = (struct worker_event){
            .kind = WORKER_LOADING, .what = mem_strdup("loading"), .share = 0.5f};
        return true;
    }
    bool fails = fake_worker.load_error.kind &&
                 (!fake_worker.bad_model || strcmp(fake_worker.bad_model, w->info.path) == 0);
    if (fails) {
        w->has_failed = true;
        *event = (struct worker_event){.kind = WORKER_FAILED, .err = fake_worker.load_error};
    } else {
        w->is_ready = true;
        *event = (struct worker_event){.kind = WORKER_READY};
    }
    return true;
}

static bool is_at_gate(const struct worker *w) {
    return fake_worker.gate && w->n_sent_before + w->n_sent >= fake_worker.gate->n_tokens;
}

/* Until the next token may come. */
static double seconds_to_next(const struct worker *w) {
    if (is_at_gate(w)) return look_seconds;
    if (!fake_worker.tokens_per_second) return 0;
    int n_due = (int)((clock_seconds() - w->begin) * fake_worker.tokens_per_second);
    return w->n_sent < n_due ? 0 : 1.0 / fake_worker.tokens_per_second;
}

static bool fails_now(const struct worker *w) {
    return fake_worker.answer_error.kind && w->n_sent >= fake_worker.error_after;
}

static bool take_character(struct worker *w, struct worker_event *event) {
    int part = w->parts[0] && w->parts[0][w->at[0]] ? PART_REASONING : PART_ANSWER;
    const char *text = w->parts[part] + w->at[part];
    uint32_t code_point;
    if (!*text || fails_now(w)) return false;
    int characters = fake_worker.token_characters ? fake_worker.token_characters : 1;
    size_t n = 0, left = strnlen(text, 4 * (size_t)characters); /* UTF-8 */
    for (int i = 0; i < characters && n < left; i++)
        n += utf8_decode(text + n, left - n, &code_point);
    *event = (struct worker_event){.kind = WORKER_TEXT,
                                   .request = w->running,
                                   .part = (enum answer_part)part,
                                   .text = mem_strndup(text, n),
                                   .n_text = n};
    tokens_add(&w->tokens, (int32_t)code_point, NULL);
    w->at[part] += n;
    w->n_sent++;
    return true;
}

static void take_end(struct worker *w, struct worker_event *event) {
    bool fails = fails_now(w);
    *event = (struct worker_event){.kind = WORKER_END,
                                   .request = w->running,
                                   .stop = w->is_cancelled ? STOP_CANCELLED
                                           : fails         ? STOP_ERROR
                                                           : STOP_END,
                                   .usage = {.prompt_tokens = 10,
                                             .answer_tokens = w->n_sent,
                                             .prompt_seconds = 0.5,
                                             .answer_seconds = 1},
                                   .tokens = w->tokens.ids,
                                   .n_tokens = w->tokens.n,
                                   .left_out_turns = fake_worker.left_out_turns,
                                   .err = fake_worker.answer_error};
    w->tokens = (struct tokens){0};
    w->running = 0;
    w->has_failed = fails && fake_worker.breaks;
}

/* For each test progress, then a row: 1,000 tokens/s of prompts, 100 of answers, at half of the
 * roof. */
static bool take_bench(struct worker *w, struct worker_event *event) {
    int i = (w->bench_step - 1) / 2, step = (w->bench_step - 1) % 2;
    if (fake_worker.bench_stall && w->bench_step > fake_worker.bench_stall && !w->is_cancelled) {
        arm(w, 3600);
        return false;
    }
    *event = (struct worker_event){.request = w->running};
    if (i < w->n_bench_tests && !w->is_cancelled && step == 0) {
        event->kind = WORKER_BENCH;
        char name[64];
        bench_name(&w->tests[i], name);
        event->what = mem_strdup(name);
        event->share = ((float)i + 0.5F) / (float)w->n_bench_tests;
    } else if (i < w->n_bench_tests && !w->is_cancelled) {
        struct bench_row row = {.test = w->tests[i], .n_samples = 1, .roof = 20e9};
        bool is_prompt = row.test.n_prompt > 0;
        row.avg_ts = is_prompt ? 1000 : 100;
        row.roof_share = is_prompt ? -1 : 0.5;
        row.bytes_per_token = is_prompt ? 0 : 100 << 20;
        row.memory_bytes = 200 << 20;
        event->kind = WORKER_ROW;
        event->row = mem_copy(&row, sizeof row);
    } else {
        event->kind = WORKER_END;
        event->stop = w->is_cancelled ? STOP_CANCELLED : STOP_END;
        w->running = 0;
        w->bench_step = -1;
    }
    w->bench_step++;
    return true;
}

static bool take_answer(struct worker *w, struct worker_event *event) {
    if (w->has_failed) {
        w->has_failed = false;
        *event = (struct worker_event){.kind = WORKER_FAILED, .err = fake_worker.answer_error};
        return true;
    }
    if (!w->running) return false;
    arm(w, 0);
    if (w->bench_step) return take_bench(w, event);
    double seconds = w->is_cancelled ? 0 : seconds_to_next(w);
    if (seconds > 0) {
        arm(w, seconds);
        return false;
    }
    if (w->is_cancelled || !take_character(w, event)) take_end(w, event);
    return true;
}

bool worker_take(struct worker *w, struct worker_event *event) {
    uint64_t expired;
    if (read(w->fd, &expired, sizeof expired) < 0) expired = 0; /* nothing is due, or all is */
    return w->is_ready ? take_answer(w, event) : take_loading(w, event);
}

/* --- requests --------------------------------------------------------------------------------- */

static void keep_request(const struct worker_request *r) {
    struct buf text = {0};
    buf_puts(&text, "");
    if (r->raw) buf_printf(&text, "raw:%s\n", r->raw);
    fake_request.n_reused = 0;
    for (size_t i = 0; i < r->n_messages; i++) {
        buf_printf(&text, "%s:%s\n", role_name(r->messages[i].role), r->messages[i].content);
        fake_request.n_reused += r->message_tokens && r->message_tokens[i].n > 0;
    }
    mem_free(fake_request.messages);
    fake_request.messages = text.data;
    fake_request.sampling = r->sampling;
    fake_request.max_tokens = r->max_tokens;
    fake_request.n_stops = r->n_stops;
    fake_request.thinking = r->chat.thinking;
    fake_request.is_strict = r->is_strict;
    fake_request.n_requests++;
}

uint64_t worker_ask(struct worker *w, const struct worker_request *request) {
    const char *const *answers = fake_worker.answers;
    size_t n = 0;
    while (answers && answers[n]) n++;
    size_t turn = n ? w->n_answers++ % n : 0;
    keep_request(request);
    w->parts[PART_ANSWER] = n ? answers[turn] : "answer";
    w->parts[PART_REASONING] = fake_worker.reasoning ? fake_worker.reasoning[turn] : NULL;
    w->at[0] = w->at[1] = 0;
    w->n_sent_before += w->n_sent;
    w->n_sent = 0;
    w->is_cancelled = false;
    w->begin = clock_seconds();
    arm(w, 0);
    return w->running = ++w->last_id;
}

uint64_t worker_bench(struct worker *w, const struct bench_plan *plan) {
    fake_request.test = plan->tests[0];
    fake_request.n_tests = plan->n_tests;
    fake_request.repetitions = plan->repetitions;
    w->is_cancelled = false;
    w->bench_step = 1;
    w->n_bench_tests = plan->n_tests < MOST_TESTS ? (int)plan->n_tests : MOST_TESTS;
    for (int i = 0; i < w->n_bench_tests; i++) w->tests[i] = plan->tests[i];
    arm(w, 0);
    return w->running = ++w->last_id;
}

void worker_cancel(struct worker *w, uint64_t request) {
    if (!w->running || request != w->running) return;
    w->is_cancelled = true;
    arm(w, 0);
}

/* --- facts ------------------------------------------------------------------------------------ */

const struct model_info *worker_info(const struct worker *w) {
    return w->is_ready ? &w->info : NULL;
}

const struct tokenizer *worker_tokenizer(const struct worker *w) {
    (void)w;
    return NULL;
}

const struct chat_template *worker_chat(const struct worker *w) {
    if (!w->is_ready || !fake_worker.template_name) return NULL;
    return chat_template_by_name(fake_worker.template_name);
}

const char *worker_tokenizer_id(const struct worker *w) {
    return w->is_ready ? "code points" : NULL;
}

struct sampling worker_default_sampling(const struct worker *w) {
    (void)w;
    return (struct sampling){
        .temperature = 0.75f, .top_k = 20, .top_p = 0.5f, .repetition_penalty = 1};
}

struct engine_load worker_load(const struct worker *w) {
    return (struct engine_load){.n_drawn = (uint64_t)w->n_sent};
}

uint64_t worker_memory_bytes(const struct worker *w) {
    return w->is_ready ? 200 << 20 : 0;
}

double worker_read_speed(const struct worker *w) {
    (void)w;
    return fake_worker.read_speed;
}

void worker_want_read_speed(struct worker *w) {
    (void)w;
}

/* --- the script ------------------------------------------------------------------------------- */

void fake_worker_reset(void) {
    mem_free(fake_request.messages);
    if (fake_worker.gate) munmap(fake_worker.gate, sizeof *fake_worker.gate);
    fake_request = (struct fake_request){0};
    fake_worker = (struct fake_script){0};
}

static struct fake_gate *gate(void) {
    if (fake_worker.gate) return fake_worker.gate;
    fake_worker.gate = mmap(NULL, sizeof *fake_worker.gate, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (fake_worker.gate == MAP_FAILED) abort();
    fake_worker.gate->is_loaded = true;
    fake_worker.gate->n_tokens = INT_MAX;
    return fake_worker.gate;
}

void fake_hold_answers(void) {
    gate()->n_tokens = 0;
}

void fake_hold_loading(void) {
    gate()->is_loaded = false;
}

void fake_let(int n_tokens) {
    gate()->n_tokens += n_tokens;
}

void fake_let_all(void) {
    gate()->n_tokens = INT_MAX;
}

void fake_let_load(void) {
    gate()->is_loaded = true;
}
