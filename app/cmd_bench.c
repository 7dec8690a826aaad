/*
 * qwen-chat bench: opens the model once for each number of threads, runs the tests of the options,
 * and prints rows as they come.
 */
#include "app/bench_output.h"
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
    bench_about_model(&p->about, info);
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
    struct engine_options options = {.model = path,
                                     .context_tokens = bench_context(tests, n_tests),
                                     .max_sequences = bench_sequences(tests, n_tests),
                                     .prefill_tokens = o->ubatch,
                                     .kv_format = FORMAT_F16,
                                     .memory_bytes = config->memory,
                                     .random_weights = o->random_weights,
                                     .ids_only = true,
                                     .progress = on_opening,
                                     .progress_ud = p};
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

int cmd_bench(const struct config *config, const struct frontend *front, struct err *err) {
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
