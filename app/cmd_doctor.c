/*
 * qwen-chat doctor: what this machine, the folders and the model are like, and one greedy answer.
 * It goes on after a finding, so that one run shows them all; the gravest gives the exit code.
 */
#include "app/engine_setup.h"
#include "app/prompt.h"
#include "app/subcommands.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/sanitize.h"
#include "engine/weights/inspect.h"
#include "kernels/device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* --- GPU -------------------------------------------------------------------------------------- */

/* The CUDA driver's own functions, looked up at run time: no toolkit is needed to ask. */
struct cuda_driver {
    int (*init)(unsigned);
    int (*version)(int *);
    int (*device_count)(int *);
    int (*device_name)(char *, int, int);
    int (*device_memory)(size_t *, int);
};

static bool find_function(void *library, const char *name, void *out) {
    void *symbol = dlsym(library, name);
    memcpy(out, &symbol, sizeof symbol);
    return symbol != NULL;
}

static void show_gpus(const struct frontend *front, const struct cuda_driver *cuda) {
    int version = 0, n = 0, code = cuda->init(0);
    if (code != 0 || cuda->version(&version) != 0 || cuda->device_count(&n) != 0 || n == 0) {
        subcommand_row(front, "GPU", "none that the NVIDIA driver offers (code %d)", code);
        return;
    }
    for (int i = 0; i < n; i++) {
        char name[128] = "?", memory[24];
        size_t bytes = 0;
        cuda->device_name(name, sizeof name, i);
        cuda->device_memory(&bytes, i);
        inspect_bytes(bytes, memory);
        subcommand_row(front, "GPU", "%s, %s; driver for CUDA %d.%d", name, memory, version / 1000,
                       version % 1000 / 10);
    }
}

static void check_gpu(const struct frontend *front) {
    struct cuda_driver cuda;
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        subcommand_row(front, "GPU", "none: no NVIDIA driver (libcuda.so.1) is installed");
        return;
    }
    if (find_function(library, "cuInit", &cuda.init) &&
        find_function(library, "cuDriverGetVersion", &cuda.version) &&
        find_function(library, "cuDeviceGetCount", &cuda.device_count) &&
        find_function(library, "cuDeviceGetName", &cuda.device_name) &&
        find_function(library, "cuDeviceTotalMem_v2", &cuda.device_memory))
        show_gpus(front, &cuda);
    else
        subcommand_row(front, "GPU", "libcuda.so.1 lacks functions of the CUDA driver");
    dlclose(library);
}

/* --- folders ---------------------------------------------------------------------------------- */

/* Can it be written, or be made where it is not there? */
static bool is_writable(const char *folder) {
    char path[4096];
    if (snprintf(path, sizeof path, "%s", folder) >= (int)sizeof path) return false;
    while (!io_exists(path)) {
        char *slash = strrchr(path, '/');
        if (!slash) return false;
        slash[slash == path] = '\0';
    }
    return io_is_folder(path) && access(path, W_OK | X_OK) == 0;
}

static void check_folder(const struct frontend *front, const char *name, const char *folder,
                         struct err *worst) {
    if (!folder) {
        subcommand_row(front, name, "none: HOME is not set");
        return;
    }
    bool writable = is_writable(folder);
    subcommand_row(front, name, "%s (%s)", folder,
                   !writable           ? "cannot be written"
                   : io_exists(folder) ? "writable"
                                       : "will be made when needed");
    if (!writable && !worst->kind) err_set(worst, ERR_IO, "%s: cannot be written", folder);
}

/* --- model ------------------------------------------------------------------------------------ */

struct reply {
    struct buf text;
    struct engine_usage usage;
    bool is_over;
};

static int take_events(struct engine *e, struct reply *reply, struct err *err) {
    const struct engine_event *events;
    size_t n;
    if (engine_step(e, &events, &n, err) != 0) return -1;
    for (size_t i = 0; i < n; i++) {
        if (events[i].n_text) buf_add(&reply->text, events[i].text, events[i].n_text);
        if (events[i].kind != EVENT_END) continue;
        reply->is_over = true;
        reply->usage = *events[i].usage;
        if (events[i].stop == STOP_ERROR) {
            *err = *events[i].err;
            return -1;
        }
    }
    return 0;
}

/* `system`: a prompt, or NULL for the model's own. */
static int ask(struct engine *e, const char *system, const char *question, struct reply *reply,
               struct err *err) {
    const struct message messages[] = {{.role = ROLE_SYSTEM, .content = system},
                                       {.role = ROLE_USER, .content = question}};
    const struct worker_request request = {.messages = system ? messages : messages + 1,
                                           .n_messages = system ? 2 : 1,
                                           .chat = {.thinking = THINKING_OFF},
                                           .raw = engine_chat(e) ? NULL : question,
                                           .max_tokens = 24};
    struct prompt prompt;
    uint64_t id;
    if (prompt_build(&request, engine_chat(e), engine_tokenizer(e), engine_info(e)->context_tokens,
                     &prompt, err) != 0)
        return -1;
    struct engine_request greedy = {.tokens = prompt.tokens.ids,
                                    .n_tokens = prompt.tokens.n,
                                    .sampling = {.top_p = 1, .repetition_penalty = 1},
                                    .max_tokens = request.max_tokens};
    int result = engine_submit(e, &greedy, &id, err);
    prompt_release(&prompt);
    while (result == 0 && !reply->is_over) result = take_events(e, reply, err);
    if (result == 0 && reply->text.failed) result = err_memory(err, 0, "the answer");
    return result;
}

static int show_answer(const struct frontend *front, struct engine *e, const char *system,
                       struct err *err) {
    const char *question =
        engine_chat(e) ? "What is the capital of France?" : "The capital of France is";
    struct reply reply = {0};
    struct buf clean = {0};
    int result = ask(e, system, question, &reply, err);
    if (result == 0) {
        const struct engine_usage *u = &reply.usage;
        sanitize_text(reply.text.data ? reply.text.data : "", reply.text.n, &clean);
        subcommand_row(front, "question", "%s", question);
        subcommand_row(front, "answer", "%s", clean.data && !clean.failed ? clean.data : "");
        subcommand_row(front, "speed", "%d prompt tokens in %.2f s, %d answer tokens in %.2f s",
                       u->prompt_tokens, u->prompt_seconds, u->answer_tokens, u->answer_seconds);
    }
    buf_release(&clean);
    buf_release(&reply.text);
    return result;
}

static void show_opening(const struct frontend *front, const struct model_info *info) {
    char text[256] = "";
    for (int i = 0, n = 0; i < info->n_stages && n < (int)sizeof text; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%s %.2f s", i ? ", " : "",
                      info->stages[i].what, info->stages[i].seconds);
    subcommand_row(front, "opened in", "%s", text);
}

static int check_model(const struct config *config, const struct frontend *front, struct err *err) {
    struct engine *e = NULL;
    char *path;
    if (config_find_model(config, &path, err) != 0) return -1;
    struct engine_options options = engine_setup(config, path);
    subcommand_row(front, "model", "%s", path);
    int result = engine_open(&e, &options, err);
    mem_free(path);
    if (result != 0) return -1;
    const struct model_info *info = engine_info(e);
    subcommand_row(front, "", "%s (%s), %s, context %d tokens", info->config->name,
                   info->config->model_type, info->format, info->context_tokens);
    subcommand_row(front, "device", "%s", info->device);
    char planned[24], available[24];
    inspect_bytes(info->plan.total_bytes, planned);
    inspect_bytes(info->plan.available_bytes, available);
    subcommand_row(front, "memory", "%s planned, %s available", planned, available);
    show_opening(front, info);
    for (int i = 0; i < info->n_notices; i++) subcommand_row(front, "note", "%s", info->notices[i]);
    result = show_answer(front, e, config->system, err);
    engine_close(e);
    return result;
}

/* -----------------------------------------------------------------------------------------------
 */

int subcommand_doctor(const struct config *config, const struct frontend *front, struct err *err) {
    struct err worst = {0};
    if (config->arguments.n > 1)
        return err_set(err, ERR_USAGE, "doctor takes no operands, found \"%s\"",
                       config->arguments.items[1]);
    subcommand_row(front, "version", "%s", QWEN_CHAT_VERSION);
    subcommand_row(front, "CPU", "%s; %ld processors", device_cpu_features(),
                   sysconf(_SC_NPROCESSORS_ONLN));
    check_gpu(front);
    check_folder(front, "config", config->config_folder, &worst);
    check_folder(front, "data", config->data_folder, &worst);
    check_folder(front, "state", config->state_folder, &worst);
    check_folder(front, "cache", config->cache_folder, &worst);
    int result = check_model(config, front, err);
    if (result == 0 && worst.kind) {
        *err = worst;
        result = -1;
    }
    if (result != 0)
        subcommand_row(front, "problem", "%s", err->text);
    else
        subcommand_row(front, "result", "everything works");
    front->row(front->ui, NULL, 0, false);
    return result;
}
