/*
 * qwen-chat bench: opens the model once for each number of threads, runs the tests of the options,
 * and prints rows as they come. /bench: the same on the engine of the chat.
 */
#include "app/bench_output.h"
#include "app/chat_internal.h"
#include "app/engine_setup.h"
#include "app/language.h"
#include "app/subcommands.h"
#include "engine/base/mem.h"
#include "engine/base/sanitize.h"

#include <stdio.h>
#include <string.h>

struct printer {
    const struct frontend *front;
    enum bench_output output;
    struct bench_about about;
    bool has_rows;
    struct buf text; /* of what is being written */
};

/* Whole lines go out; the rest waits for its newline. */
static void flush(struct printer *p) {
    char *line = p->text.data, *newline;
    while (line && !p->text.failed && (newline = strchr(line, '\n'))) {
        *newline = '\0';
        if (p->front->is_terminal) sanitize_line(line);
        p->front->say(p->front->ui, TONE_OUTPUT, line);
        line = newline + 1;
    }
    if (!line) return;
    p->text.n -= (size_t)(line - p->text.data);
    memmove(p->text.data, line, p->text.n + 1);
}

static void on_row(void *ud, const struct bench_row *row) {
    struct printer *p = ud;
    if (p->front->progress) p->front->progress(p->front->ui, "", 1, -1, true);
    bench_output_row(p->output, &p->about, row, !p->has_rows, &p->text);
    p->has_rows = true;
    flush(p);
}

static bool on_progress(void *ud, const char *what, double share) {
    struct printer *p = ud;
    if (p->front->progress) p->front->progress(p->front->ui, what, share, -1, false);
    return true;
}

static bool on_opening(void *ud, const char *what, float share) {
    return on_progress(ud, what, (double)share);
}

/* --- a run ------------------------------------------------------------------------------------ */

static int run_threads(struct printer *p, const struct engine_options *options,
                       const struct bench_plan *plan, struct err *err) {
    const struct bench_host host = {p, on_progress, on_row};
    struct engine *e = NULL;
    if (engine_open(&e, options, err) != 0) return -1;
    const struct model_info *info = engine_info(e);
    bool is_named = options->random_weights && *options->random_weights;
    bench_about_model(&p->about, info, is_named ? options->random_weights : NULL);
    p->about.cpu = info->processor;
    p->about.gpu = strcmp(info->backend, "CPU") == 0 ? "" : info->device;
    int result = bench_run(e, plan, &host, err);
    engine_close(e);
    return result;
}

static int run_all(const struct config *config, const struct bench_options *o, const char *path,
                   struct printer *p, struct err *err) {
    struct bench_test *tests = NULL;
    size_t n_tests = 0;
    if (bench_options_tests(o, &tests, &n_tests, err) != 0) return -1;
    const struct bench_plan plan = {tests, n_tests, o->repetitions, o->no_warmup};
    struct engine_options options = engine_setup(config, path);
    options.context_tokens = bench_context(tests, n_tests);
    options.max_sequences = bench_sequences(tests, n_tests);
    options.prefill_tokens = o->ubatch;
    options.random_weights = o->random_weights;
    options.ids_only = true;
    options.progress = on_opening;
    options.progress_ud = p;
    int result = 0;
    bench_output_begin(p->output, &p->text);
    flush(p);
    for (int i = 0; i < o->threads.n && result == 0; i++) {
        options.threads = o->threads.items[i] ? o->threads.items[i] : (int)config->threads;
        result = run_threads(p, &options, &plan, err);
    }
    if (p->front->progress) p->front->progress(p->front->ui, "", 1, -1, true);
    bench_output_end(p->output, &p->text);
    flush(p);
    if (result == 0 && p->text.failed) result = err_memory(err, 0, "the table");
    mem_free(tests);
    return result;
}

static int print_help(const struct frontend *front, struct err *err) {
    struct printer p = {.front = front};
    bench_options_help(&p.text);
    flush(&p);
    int result = p.text.failed ? err_memory(err, 0, "the text") : 0;
    buf_release(&p.text);
    return result;
}

int subcommand_bench(const struct config *config, const struct frontend *front, struct err *err) {
    struct bench_options options;
    char *path;
    if (bench_options_read(&options, config->arguments.items + 1, config->arguments.n - 1,
                           BENCH_IN_PROGRAM, err) != 0)
        return -1;
    if (options.help) return print_help(front, err);
    if (!options.model) {
        if (config_find_model(config, &path, err) != 0) return -1;
    } else if (!(path = config_expand_path(config, options.model))) {
        return err_memory(err, strlen(options.model), "a path");
    }
    struct printer printer = {
        .front = front, .output = (enum bench_output)options.output, .about = {.model = path}};
    int result = run_all(config, &options, path, &printer, err);
    buf_release(&printer.text);
    mem_free(path);
    return result;
}

/* --- /bench ----------------------------------------------------------------------------------- */

enum { MOST_WORDS = 64, BAR_CELLS = 10 };

/* Of one width in all rows, as they are shown one by one. */
static void show_cells(struct chat *chat, const char *const *cells, bool is_head) {
    static const int widths[BENCH_COLUMNS] = {-16, 16, 5, 9, 11, 10};
    char padded[BENCH_COLUMNS + 1][2 * BENCH_CELL];
    const char *shown[BENCH_COLUMNS + 1];
    for (int i = 0; i <= BENCH_COLUMNS; i++) {
        int width = i < BENCH_COLUMNS ? widths[i] : 0;
        if (strstr(cells[i], "±")) width++; /* two bytes in one column */
        snprintf(padded[i], sizeof padded[i], "%*s", width, cells[i]);
        shown[i] = padded[i];
    }
    chat_row(chat, is_head, BENCH_COLUMNS + 1, shown);
}

/* The share of the roof, drawn. */
static void write_bar(double share, char out[64]) {
    out[0] = '\0';
    int n = (int)(share * BAR_CELLS + 0.5), at = 0;
    for (int i = 0; i < BAR_CELLS && share >= 0; i++)
        at += snprintf(out + at, 64 - (size_t)at, "%s", i < n ? "█" : "░");
}

static void show_head(struct chat *chat) {
    const char *cells[BENCH_COLUMNS + 1];
    for (int i = 0; i < BENCH_COLUMNS; i++) cells[i] = bench_columns[i];
    cells[BENCH_COLUMNS] = "";
    show_cells(chat, cells, true);
}

static void show_row(struct chat *chat, const struct bench_row *row) {
    char texts[BENCH_COLUMNS][BENCH_CELL], bar[64];
    const char *cells[BENCH_COLUMNS + 1];
    bench_cells(row, texts);
    write_bar(row->roof_share, bar);
    for (int i = 0; i < BENCH_COLUMNS; i++) cells[i] = texts[i];
    cells[BENCH_COLUMNS] = bar;
    if (!chat->answer->has_bench_rows) show_head(chat);
    chat->answer->has_bench_rows = true;
    show_cells(chat, cells, false);
    chat_row(chat, false, 0, NULL);
}

static void finish(struct chat *chat, const struct worker_event *event) {
    chat->running = 0;
    chat->answer->is_bench = false;
    chat_progress_end(chat);
    if (event->stop == STOP_ERROR) chat_say(chat, TONE_ERROR, "%s", event->err.text);
    if (event->stop == STOP_CANCELLED) chat_say(chat, TONE_NOTICE, _("the bench was stopped"));
}

void chat_bench_event(struct chat *chat, const struct worker_event *event) {
    switch (event->kind) {
    case WORKER_BENCH:
        chat_progress(chat, event->what ? event->what : "bench", (double)event->share);
        break;
    case WORKER_ROW:
        if (event->row) show_row(chat, event->row);
        break;
    case WORKER_END:
        finish(chat, event);
        break;
    default:
        bug("event %d of a bench", event->kind);
    }
}

static int start(struct chat *chat, const struct bench_options *o, struct err *err) {
    struct bench_test *tests = NULL;
    size_t n = 0;
    if (bench_options_tests(o, &tests, &n, err) != 0) return -1;
    const struct bench_plan plan = {tests, n, o->repetitions, o->no_warmup};
    chat->running = worker_bench(chat->worker, &plan);
    mem_free(tests);
    if (!chat->running) return err_memory(err, n * sizeof *tests, "the bench");
    chat->answer->is_bench = true;
    chat->answer->has_bench_rows = false;
    return 0;
}

enum chat_result cmd_bench(struct chat *chat, const char *arguments, struct err *err) {
    struct bench_options options;
    char *words[MOST_WORDS], *rest, *text = mem_strdup(arguments);
    size_t n = 0;
    int result = text ? 0 : err_memory(err, strlen(arguments), "the flags");
    if (result == 0 && !chat->is_ready)
        result = err_set(err, ERR_OTHER, "the model is not loaded yet");
    for (char *word = text ? strtok_r(text, " \t", &rest) : NULL; word && result == 0;
         word = strtok_r(NULL, " \t", &rest)) {
        if (n == MOST_WORDS) result = err_set(err, ERR_USAGE, "/bench: too many words");
        if (result == 0) words[n++] = word;
    }
    if (result == 0) result = bench_options_read(&options, words, n, BENCH_IN_CHAT, err);
    if (result == 0) result = start(chat, &options, err);
    mem_free(text);
    return result == 0 ? CHAT_SENT : CHAT_FAILED;
}
