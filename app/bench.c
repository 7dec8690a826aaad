/* One repetition is a small state machine around engine_step(); the rest is counting. */
#include "app/bench.h"

#include "engine/base/clock.h"
#include "engine/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

enum { BLOCK = 64, WARMUP_GEN = 4, STOPPED = 1 };

static int larger(int a, int b) {
    return a > b ? a : b;
}

/* --- what a test is --------------------------------------------------------------------------- */

int bench_tokens(const struct bench_test *t) {
    return t->n_seqs * (t->n_prompt + t->n_gen);
}

void bench_name(const struct bench_test *t, char out[64]) {
    char depth[24] = "", seqs[24] = "", prompt[24] = "", gen[24] = "";
    if (t->n_prompt) snprintf(prompt, sizeof prompt, "pp%d", t->n_prompt);
    if (t->n_gen) snprintf(gen, sizeof gen, "%stg%d", t->n_prompt ? "+" : "", t->n_gen);
    if (t->n_depth) snprintf(depth, sizeof depth, " @ d%d", t->n_depth);
    if (t->n_seqs > 1) snprintf(seqs, sizeof seqs, " x%d", t->n_seqs);
    snprintf(out, 64, "%s%s%s%s", prompt, gen, depth, seqs);
}

/* A token must be there to generate behind. */
static int prefix_tokens(const struct bench_test *t) {
    return t->n_prompt ? t->n_depth : larger(t->n_depth, 1);
}

/* Of one sequence. The first token of tg is not timed, and while prompts of several are read the
 * first ones generate already: a block more. */
static int context_of(const struct bench_test *t) {
    return prefix_tokens(t) + t->n_prompt + t->n_gen + BLOCK;
}

int bench_context(const struct bench_test *tests, size_t n) {
    int most = 0;
    for (size_t i = 0; i < n; i++)
        most = larger(most, tests[i].n_seqs * (context_of(&tests[i]) + BLOCK));
    return most;
}

int bench_sequences(const struct bench_test *tests, size_t n) {
    int most = 1;
    for (size_t i = 0; i < n; i++) most = larger(most, tests[i].n_seqs);
    return most;
}

/* --- what it comes to ------------------------------------------------------------------------- */

static void mean_and_deviation(const double *x, int n, double *mean, double *deviation) {
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    *mean = n > 0 ? sum / n : 0;
    for (int i = 0; i < n; i++) squares += (x[i] - *mean) * (x[i] - *mean);
    *deviation = n > 1 ? sqrt(squares / (n - 1)) : 0;
}

/* Of a pass of tg. */
static double pass_bytes(const struct bench_test *t, const struct model_info *info) {
    return engine_pass_bytes(info, t->n_seqs, prefix_tokens(t) + (t->n_gen + 1) / 2.0);
}

/* Multiplications and additions of a repetition: of the layers for each token, of the head for each
 * that is drawn, of attention for each pair. */
static double repetition_flops(const struct bench_test *t, const struct model_config *c) {
    double heads = (double)c->n_heads * c->head_size, kv = (double)c->n_kv_heads * c->head_size;
    double layer = c->hidden * (2 * heads + 2 * kv + 3.0 * c->ffn);
    double n_tokens = t->n_prompt + t->n_gen, n_drawn = larger(t->n_gen, 1);
    double context = prefix_tokens(t) + (n_tokens + 1) / 2;
    double one = n_tokens * c->n_layers * (2 * layer + 4 * heads * engine_keys_seen(c, context)) +
                 n_drawn * 2 * c->hidden * (double)c->vocab;
    return one * t->n_seqs;
}

void bench_summarize(struct bench_row *row, const struct model_info *info) {
    const struct bench_test *t = &row->test;
    double ns[BENCH_MOST_REPETITIONS], ts[BENCH_MOST_REPETITIONS];
    for (int i = 0; i < row->n_samples; i++) {
        ns[i] = row->seconds[i] * 1e9;
        ts[i] = bench_tokens(t) / row->seconds[i];
    }
    mean_and_deviation(ns, row->n_samples, &row->avg_ns, &row->stddev_ns);
    mean_and_deviation(ts, row->n_samples, &row->avg_ts, &row->stddev_ts);
    row->roof_share = -1;
    row->bytes_per_token = 0;
    row->flops = repetition_flops(t, info->config) * row->avg_ts / bench_tokens(t);
    if (t->n_prompt) return;
    double bytes = pass_bytes(t, info) / t->n_seqs;
    row->bytes_per_token = (uint64_t)bytes;
    if (row->roof > 0) row->roof_share = bytes * row->avg_ts / row->roof;
}

/* --- a repetition ----------------------------------------------------------------------------- */

struct sequence_state {
    uint64_t id;
    int n_read; /* of its prompt */
    int n_drawn;
    bool has_ended;
};

struct run {
    struct engine *engine;
    const struct bench_host *host;
    struct bench_test test;
    struct sequence_state *seqs;  /* [n_seqs] */
    int32_t *tokens;              /* [prefix + n_prompt] */
    int n_samples, n_repetitions; /* done, and to do; for progress */
    double share;                 /* of this one, likewise */
    size_t i_test, n_tests;       /* likewise */
    char name[64];
};

/* Ids of sequence s: those of the prefix are the same in each repetition. */
static void make_tokens(const struct run *r, int s, int repetition, int n_prefix, int n) {
    uint32_t vocab = (uint32_t)engine_info(r->engine)->config->vocab;
    for (int i = 0; i < n; i++) {
        uint64_t round = i < n_prefix ? 0 : (uint64_t)repetition + 1;
        uint64_t z = ((uint64_t)s << 40 ^ round << 32 ^ (uint64_t)i) * 0x9e3779b97f4a7c15;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9; /* splitmix64's finish */
        z = (z ^ z >> 27) * 0x94d049bb133111eb;
        r->tokens[i] = (int32_t)((z ^ z >> 31) % vocab);
    }
}

/* All sequences: n tokens each, the first n_prefix of them its prefix. */
static int submit(struct run *r, int repetition, int n_prefix, int n, int max_tokens,
                  struct err *err) {
    for (int s = 0; s < r->test.n_seqs; s++) {
        const struct engine_request request = {.tokens = r->tokens,
                                               .n_tokens = (size_t)n,
                                               .sampling = {.top_p = 1, .repetition_penalty = 1},
                                               .max_tokens = max_tokens,
                                               .ignore_stop_ids = true};
        r->seqs[s] = (struct sequence_state){0};
        make_tokens(r, s, repetition, n_prefix, n);
        if (engine_submit(r->engine, &request, &r->seqs[s].id, err) != 0) return -1;
    }
    return 0;
}

static int take_event(struct run *r, const struct engine_event *event, struct err *err) {
    for (int s = 0; s < r->test.n_seqs; s++) {
        struct sequence_state *seq = &r->seqs[s];
        if (seq->id != event->request) continue;
        if (event->kind == EVENT_PROMPT) seq->n_read = event->done;
        if (event->kind == EVENT_TOKEN) seq->n_drawn++;
        if (event->kind == EVENT_END) seq->has_ended = true;
    }
    if (event->kind != EVENT_END || event->stop != STOP_ERROR) return 0;
    *err = *event->err;
    return -1;
}

static int step(struct run *r, struct err *err) {
    const struct engine_event *events = NULL;
    size_t n = 0;
    if (engine_step(r->engine, &events, &n, err) != 0) return -1;
    for (size_t i = 0; i < n; i++)
        if (take_event(r, &events[i], err) != 0) return -1;
    return 0;
}

/* The fewest tokens that a sequence has drawn, and of all together. */
static int fewest_drawn(const struct run *r) {
    int fewest = r->seqs[0].n_drawn;
    for (int s = 1; s < r->test.n_seqs; s++)
        if (r->seqs[s].n_drawn < fewest) fewest = r->seqs[s].n_drawn;
    return fewest;
}

static int all_drawn(const struct run *r) {
    int n = 0;
    for (int s = 0; s < r->test.n_seqs; s++) n += r->seqs[s].n_drawn;
    return n;
}

/* When the context is there and the test begins, what is read again of it is not counted back. */
static double share_done(struct run *r) {
    double done = 0, all = prefix_tokens(&r->test) + r->test.n_prompt + r->test.n_gen;
    for (int s = 0; s < r->test.n_seqs; s++) done += r->seqs[s].n_read + r->seqs[s].n_drawn;
    r->share = fmax(r->share, fmin(done / (all * r->test.n_seqs), 1));
    double of_test = fmin((r->n_samples + r->share) / r->n_repetitions, 1);
    return ((double)r->i_test + of_test) / (double)r->n_tests;
}

/* Steps until each sequence has drawn `each`, and all together `all` tokens. */
static int step_until(struct run *r, int each, int all, struct err *err) {
    while (fewest_drawn(r) < each || all_drawn(r) < all) {
        if (!engine_is_busy(r->engine))
            return err_set(err, ERR_CONTEXT, "%s: an answer ended before it was long enough",
                           r->name);
        if (step(r, err) != 0) return -1;
        if (!r->host->progress(r->host->ud, r->name, share_done(r))) return STOPPED;
    }
    return 0;
}

/* Lets go of what still runs. A broken engine stays as it is. */
static void drain(struct run *r) {
    const struct engine_event *events;
    size_t n;
    for (int s = 0; s < r->test.n_seqs; s++) engine_cancel(r->engine, r->seqs[s].id);
    while (engine_is_busy(r->engine) && engine_step(r->engine, &events, &n, NULL) == 0) continue;
}

static int fill_context(struct run *r, struct err *err) {
    int n = r->test.n_depth;
    if (!n) return 0;
    int result = submit(r, 0, n, n, 1, err);
    if (result == 0) result = step_until(r, 1, 0, err);
    drain(r);
    return result;
}

/* n_gen 0: nothing but the prompt. */
static int time_prompt(struct run *r, int repetition, double *seconds, struct err *err) {
    const struct bench_test *t = &r->test;
    int n_drawn = larger(t->n_gen, 1);
    double begin = clock_seconds();
    int result = submit(r, repetition, t->n_depth, t->n_depth + t->n_prompt, n_drawn, err);
    if (result == 0) result = step_until(r, n_drawn, 0, err);
    *seconds = clock_seconds() - begin;
    return result;
}

/* From the pass on in which the last sequence drew its first token all of them run. */
static int time_generation(struct run *r, double *seconds, struct err *err) {
    int n = prefix_tokens(&r->test);
    int result = submit(r, 0, n, n, 0, err);
    if (result == 0) result = step_until(r, 1, 0, err);
    double begin = clock_seconds();
    if (result == 0) result = step_until(r, 1, all_drawn(r) + r->test.n_seqs * r->test.n_gen, err);
    *seconds = clock_seconds() - begin;
    return result;
}

static int run_once(struct run *r, int repetition, double *seconds, struct err *err) {
    r->share = 0;
    if (r->test.n_depth == 0) engine_forget(r->engine);
    int result = fill_context(r, err);
    if (result == 0)
        result = r->test.n_prompt ? time_prompt(r, repetition, seconds, err)
                                  : time_generation(r, seconds, err);
    drain(r);
    return result;
}

/* --- a row ------------------------------------------------------------------------------------ */

static int run_repetitions(struct run *r, const struct bench_plan *plan, struct bench_row *row,
                           struct err *err) {
    double seconds;
    int result = 0;
    r->n_repetitions = plan->repetitions + !plan->no_warmup;
    if (!plan->no_warmup) {
        if (!r->test.n_prompt)
            r->test.n_gen = row->test.n_gen < WARMUP_GEN ? row->test.n_gen : WARMUP_GEN;
        result = run_once(r, -1, &seconds, err);
        r->test = row->test;
        r->n_samples++;
    }
    for (int i = 0; i < plan->repetitions && result == 0; i++) {
        result = run_once(r, i, &row->seconds[i], err);
        r->n_samples++;
        row->n_samples = i + 1;
    }
    engine_forget(r->engine);
    return result;
}

static int check(const struct bench_test *t, const struct model_info *info, int max_sequences,
                 struct err *err) {
    char name[64];
    bench_name(t, name);
    if (t->n_seqs > max_sequences)
        return err_set(err, ERR_USAGE, "%s: the engine runs %d sequence%s at once", name,
                       max_sequences, max_sequences == 1 ? "" : "s");
    if (bench_context(t, 1) > info->context_tokens)
        return err_set(err, ERR_CONTEXT, "%s needs a context of %d tokens, there are %d", name,
                       bench_context(t, 1), info->context_tokens);
    return 0;
}

static int run_test(struct engine *e, const struct bench_plan *plan, size_t i_test,
                    const struct bench_host *host, double *roof, struct err *err) {
    const struct bench_test *test = &plan->tests[i_test];
    struct bench_row row = {.test = *test, .time = (int64_t)time(NULL), .roof = *roof};
    struct run r = {
        .engine = e, .host = host, .test = *test, .i_test = i_test, .n_tests = plan->n_tests};
    size_t n_tokens = (size_t)(prefix_tokens(test) + test->n_prompt);
    bench_name(test, r.name);
    r.seqs = mem_zalloc((size_t)test->n_seqs, sizeof *r.seqs);
    r.tokens = mem_zalloc(n_tokens, sizeof *r.tokens);
    int result = r.seqs && r.tokens ? run_repetitions(&r, plan, &row, err)
                                    : err_memory(err, n_tokens * sizeof *r.tokens, "a bench");
    mem_free(r.seqs);
    mem_free(r.tokens);
    if (result != 0) return result;
    row.memory_bytes = engine_memory_bytes(e);
    *roof = engine_read_speed(e);
    if (*roof > row.roof) row.roof = *roof;
    bench_summarize(&row, engine_info(e));
    host->row(host->ud, &row);
    return 0;
}

int bench_run(struct engine *e, const struct bench_plan *plan, const struct bench_host *host,
              struct err *err) {
    const struct model_info *info = engine_info(e);
    for (size_t i = 0; i < plan->n_tests; i++)
        if (check(&plan->tests[i], info, info->max_sequences, err) != 0) return -1;
    if (!host->progress(host->ud, "memory", 0)) return STOPPED;
    double roof = engine_read_speed(e);
    int result = 0;
    for (size_t i = 0; i < plan->n_tests && result == 0; i++)
        result = run_test(e, plan, i, host, &roof, err);
    return result;
}
