/* Commands about the model and what it costs. */
#include "app/chat_internal.h"
#include "app/engine_setup.h"
#include "app/language.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void row(struct chat *chat, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void row(struct chat *chat, const char *name, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, _(format), args);
    va_end(args);
    const char *const cells[] = {_(name), text};
    chat_row(chat, false, 2, cells);
}

static double mib(uint64_t bytes) {
    return (double)bytes / (1024.0 * 1024.0);
}

/* --- /model ----------------------------------------------------------------------------------- */

static enum chat_result show_model(struct chat *chat, struct err *err) {
    const struct model_info *info = worker_info(chat->worker);
    if (!info) {
        err_set(err, ERR_OTHER, "the model is not loaded yet");
        return CHAT_FAILED;
    }
    const struct chat_template *t = worker_chat(chat->worker);
    row(chat, "model", "%s (%s)", info->config->name, info->config->model_type);
    row(chat, "path", "%s", info->path);
    row(chat, "format", "%s", info->format);
    row(chat, "device", "%s", info->device);
    row(chat, "context", N_("%d tokens (trained on %d)"), info->context_tokens,
        info->config->trained_tokens);
    row(chat, "template", "%s", t ? chat_template_name(t) : _("none: completes raw text"));
    chat_row(chat, false, 0, NULL);
    return CHAT_DONE;
}

enum chat_result cmd_model(struct chat *chat, const char *arguments, struct err *err) {
    struct memory_plan plan;
    if (!*arguments) return show_model(chat, err);
    char *path = config_expand_path(chat->config, arguments);
    if (!path) {
        err_memory(err, strlen(arguments), "a path");
        return CHAT_FAILED;
    }
    /* what is plainly no model is found out before the old one is given up */
    const struct engine_options options = engine_setup(chat->config, path);
    const struct model_info *info = worker_info(chat->worker);
    int result = engine_plan(&options, info ? &info->facts : NULL, &plan, err);
    if (result == 0) result = chat_load(chat, path, err);
    mem_free(path);
    return result == 0 ? CHAT_DONE : CHAT_FAILED;
}

/* --- /models --- */

/* A row for a model, or nothing for what is none. `facts`: before any model is opened. */
static bool list_model(struct chat *chat, const struct device_facts *facts, const char *path,
                       bool is_first) {
    static const char *const head[] = {N_("model"), N_("weights"), N_("memory"), ""};
    const struct model_info *info = worker_info(chat->worker);
    struct memory_plan plan;
    struct buf config = {0};
    buf_printf(&config, "%s/config.json", path);
    bool is_model = ends_with(path, ".gguf") || (!config.failed && io_exists(config.data));
    buf_release(&config);
    if (!is_model) return false;
    if (is_first) chat_row(chat, true, 4, head);
    const struct engine_options options = engine_setup(chat->config, path);
    char weights[32] = "", memory[32] = "";
    const char *note = info && strcmp(info->path, path) == 0 ? _("open") : "";
    struct err err;
    if (engine_plan(&options, facts, &plan, &err) != 0) {
        note = _("cannot be read");
    } else {
        snprintf(weights, sizeof weights, "%.0f MiB", mib(plan.weights_bytes));
        snprintf(memory, sizeof memory, "%.0f MiB", mib(plan.total_bytes));
        if (plan.total_bytes > plan.available_bytes) note = _("does not fit");
    }
    const char *const cells[] = {path, weights, memory, note};
    chat_row(chat, false, 4, cells);
    return true;
}

enum chat_result cmd_models(struct chat *chat, const char *arguments, struct err *err) {
    struct buf folder = {0};
    struct dirent **entries = NULL;
    size_t found = 0;
    const struct model_info *info = worker_info(chat->worker);
    struct device_facts facts;
    (void)arguments;
    const struct engine_options options = engine_setup(chat->config, "");
    if (info)
        facts = info->facts;
    else if (engine_device_facts(&options, &facts, err) != 0)
        return CHAT_FAILED;
    if (chat->config->data_folder) buf_printf(&folder, "%s/models", chat->config->data_folder);
    int n = folder.n ? scandir(folder.data, &entries, NULL, alphasort) : 0;
    for (int i = 0; i < n; i++) {
        struct buf path = {0};
        buf_printf(&path, "%s/%s", folder.data, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.' && !path.failed)
            found += list_model(chat, &facts, path.data, found == 0);
        buf_release(&path);
        free(entries[i]);
    }
    free(entries);
    if (found)
        chat_row(chat, false, 0, NULL);
    else
        chat_say(chat, TONE_OUTPUT, _("no model lies in %s; /model PATH opens one from anywhere"),
                 folder.n ? folder.data : _("the models folder"));
    buf_release(&folder);
    return CHAT_DONE;
}

/* --- /stats ----------------------------------------------------------------------------------- */

/* Memory of this process as the kernel counts it; 0 where it does not say. */
static uint64_t resident_bytes(void) {
    char text[128] = "";
    unsigned long long pages = 0;
    int fd = io_open("/proc/self/statm", O_RDONLY, 0);
    if (fd < 0) return 0;
    ssize_t n = io_read(fd, text, sizeof text - 1);
    io_close(fd);
    if (n <= 0) return 0;
    const char *second = strchr(text, ' ');
    if (second) pages = strtoull(second, NULL, 10);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void show_last(struct chat *chat, const struct engine_usage *u) {
    int computed = u->prompt_tokens - u->cached_tokens;
    row(chat, "last prompt", N_("%d tokens, %d of them cached"), u->prompt_tokens,
        u->cached_tokens);
    if (u->prompt_seconds > 0 && computed > 0)
        row(chat, "", N_("%.2f s to the first token, %.1f tokens/s"), u->prompt_seconds,
            computed / u->prompt_seconds);
    row(chat, "last answer", N_("%d tokens"), u->answer_tokens);
    if (u->answer_seconds > 0 && u->answer_tokens > 1)
        row(chat, "", N_("%.2f s, %.1f tokens/s"), u->answer_seconds,
            (u->answer_tokens - 1) / u->answer_seconds);
}

enum chat_result cmd_stats(struct chat *chat, const char *arguments, struct err *err) {
    const struct chat_answer *a = chat->answer;
    const struct model_info *info = worker_info(chat->worker);
    struct engine_load load = worker_load(chat->worker);
    uint64_t resident = resident_bytes();
    (void)arguments;
    (void)err;
    if (a->n_answers) show_last(chat, &a->last);
    row(chat, "all answers", N_("%llu, %llu tokens"), (unsigned long long)a->n_answers,
        (unsigned long long)a->n_answer_tokens);
    row(chat, "all prompts", N_("%llu tokens, %llu of them cached"),
        (unsigned long long)a->n_prompt_tokens, (unsigned long long)a->n_cached_tokens);
    if (info) {
        int used = a->last.prompt_tokens + a->last.answer_tokens;
        row(chat, "context", N_("%d of %d tokens"), used, info->context_tokens);
        row(chat, "KV cache", N_("%.1f MiB used, %.1f MiB taken, %.1f MiB kept for reuse"),
            mib(load.kv_used_bytes), mib(load.kv_taken_bytes), mib(load.kv_cached_bytes));
        row(chat, "planned", N_("%.1f MiB: weights %.1f, KV cache up to %.1f, work %.1f"),
            mib(info->plan.total_bytes), mib(info->plan.weights_bytes), mib(info->plan.kv_bytes),
            mib(info->plan.activations_bytes));
    }
    if (info && info->device_bytes)
        row(chat, "device", N_("%.0f MiB of %.0f MiB taken"),
            mib(worker_memory_bytes(chat->worker)), mib(info->device_bytes));
    if (worker_read_speed(chat->worker) > 0)
        row(chat, "roof", N_("%.1f GB/s: as fast as memory can be read"),
            worker_read_speed(chat->worker) * 1e-9);
    if (resident) row(chat, "process", N_("%.1f MiB resident"), mib(resident));
    chat_row(chat, false, 0, NULL);
    return CHAT_DONE;
}
