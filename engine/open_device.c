/* Which device, and the module that brings it. */
#include "engine/open_device.h"

#include "kernels/cuda/module.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PATH = 4096, MAX_REASON = 160, MOST_GPUS = 64 };

/* ---- what was asked for ---- */

enum wish { WISH_AUTO, WISH_CPU, WISH_CUDA };

static int parse_wish(const char *text, enum wish *wish, int *index, struct err *err) {
    *index = 0;
    *wish = WISH_CUDA;
    if (strcmp(text, "auto") == 0) {
        *wish = WISH_AUTO;
        return 0;
    }
    if (strcmp(text, "cpu") == 0) {
        *wish = WISH_CPU;
        return 0;
    }
    if (strcmp(text, "cuda") == 0) return 0;
    if (strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9') {
        char *end;
        unsigned long n = strtoul(text + 5, &end, 10);
        *index = n < MOST_GPUS ? (int)n : MOST_GPUS;
        if (*end == '\0') return 0;
    }
    return err_set(err, ERR_USAGE,
                   "there is no device \"%.60s\": auto, cpu, cuda and cuda:N are known", text);
}

/* ---- the module ---- */

static device_cuda_open_fn *opener(const char *path) {
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL), *symbol;
    device_cuda_open_fn *open = NULL;
    if (!module) return NULL;
    symbol = dlsym(module, DEVICE_CUDA_SYMBOL);
    memcpy(&open, &symbol, sizeof open);
    return open;
}

static bool beside_program(char path[MAX_PATH]) {
    ssize_t n = readlink("/proc/self/exe", path, MAX_PATH - 1);
    if (n <= 0) return false;
    path[n] = '\0';
    char *name = strrchr(path, '/');
    if (!name) return false;
    size_t room = MAX_PATH - (size_t)(name + 1 - path);
    return (size_t)snprintf(name + 1, room, "%s", DEVICE_CUDA_MODULE) < room;
}

/* The module's function, or NULL and why there is none; *is_there: its file is. */
static device_cuda_open_fn *find_module(const char *given, bool *is_there,
                                        char reason[MAX_REASON]) {
    char path[MAX_PATH];
    const char *places[2] = {NULL, NULL};
    if (given)
        places[0] = given;
    else {
        places[0] = beside_program(path) ? path : NULL;
        places[1] = QWEN_CHAT_MODULE_FOLDER "/" DEVICE_CUDA_MODULE;
    }
    snprintf(reason, MAX_REASON, "%s is not there", given ? given : DEVICE_CUDA_MODULE);
    for (int i = 0; i < 2; i++) {
        if (!places[i] || access(places[i], F_OK) != 0) continue;
        *is_there = true;
        device_cuda_open_fn *open = opener(places[i]);
        if (open) return open;
        const char *why = dlerror();
        snprintf(reason, MAX_REASON, "its module cannot be loaded: %s", why ? why : places[i]);
    }
    return NULL;
}

enum format gpu_activation(const struct engine_options *o, enum format stored, bool has_bf16) {
    if (o->in_float) return FORMAT_F32;
    const enum format own = format_table[stored].uses & USE_ACTIVATION ? stored : FORMAT_BF16;
    return own == FORMAT_BF16 && !has_bf16 ? FORMAT_F16 : own;
}

static enum op_status open_cuda(struct device **out, const struct engine_options *o, int index,
                                enum format stored, bool *has_module, char reason[MAX_REASON]) {
    device_cuda_open_fn *open = find_module(o->cuda_module, has_module, reason);
    const struct device_cuda_options options = {
        .abi = DEVICE_CUDA_ABI, .index = index, .activation = gpu_activation(o, stored, true)};
    if (!open) return OP_NOT_SUPPORTED;
    const enum op_status status = open(out, &options, reason, MAX_REASON);
    if (status != OP_OK && !reason[0]) snprintf(reason, MAX_REASON, "%s", op_status_text(status));
    return status;
}

static int open_cpu(struct device **out, const struct engine_options *o, struct err *err) {
    const struct device_cpu_options options = {
        .threads = o->threads, .baseline = o->is_baseline, .is_exact = o->is_exact};
    enum op_status status = device_cpu_open(out, &options);
    if (status == OP_OK) return 0;
    return err_set(err, ERR_MEMORY, "the CPU cannot be used: %s", op_status_text(status));
}

int open_device(struct device **out, const struct engine_options *o, enum format stored,
                char notice[DEVICE_NOTICE_BYTES], struct err *err) {
    enum wish wish;
    int index;
    char reason[MAX_REASON] = "";
    notice[0] = '\0';
    *out = NULL;
    if (parse_wish(o->device ? o->device : "cpu", &wish, &index, err) != 0) return -1;
    if (wish == WISH_CPU) return open_cpu(out, o, err);
    bool has_module = false;
    if (open_cuda(out, o, index, stored, &has_module, reason) == OP_OK) return 0;
    if (wish == WISH_CUDA) return err_set(err, ERR_MEMORY, "no GPU can be used: %s", reason);
    if (has_module) /* else this program is one for the CPU */
        snprintf(notice, DEVICE_NOTICE_BYTES,
                 err_text("The GPU cannot be used: %s; the CPU computes."), reason);
    return open_cpu(out, o, err);
}
