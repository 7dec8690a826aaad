/* The CUDA module opened by its path: what the tests and benches of this folder share. */
#pragma once

#include "kernels/cuda/module.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* A function of the module, to `*function`; false, and why on stderr, where it has none. The module
 * stays open. */
static inline bool gpu_function(const char *path, const char *name, void *function) {
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *symbol = module ? dlsym(module, name) : NULL;
    if (!symbol) fprintf(stderr, "%s\n", dlerror());
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* The first GPU, in that format; false, and why on stderr, where there is none. The device may have
 * another format, where the card lacks that one. */
static inline bool gpu_open(struct device **out, const char *path, enum format activation) {
    device_cuda_open_fn *open = NULL;
    if (!gpu_function(path, DEVICE_CUDA_SYMBOL, &open)) return false;
    char reason[160] = "";
    const struct device_cuda_options options = {DEVICE_CUDA_ABI, 0, activation};
    if (open(out, &options, reason, sizeof reason) == OP_OK) return true;
    fprintf(stderr, "no GPU: %s\n", reason);
    return false;
}
