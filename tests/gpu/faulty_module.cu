/*
 * A CUDA module whose device fails: it opens the real one and stands before its functions. For
 * tests/gpu/faults, which names it in QWEN_CHAT_CUDA_MODULE.
 *
 *   FAULTY_MODULE   the real module's file
 *   FAULTY_HOW      sticky: a kernel writes where nothing is, and the card's context is lost;
 *                   memory: replays say that there is no memory; alloc: allocations do;
 *                   version: the module is another version's
 *   FAULTY_AFTER    how many replays (allocations) are made well before
 */
#include "tests/gpu/gpu_module.h"

#include <cuda_runtime.h>
#include <stdlib.h>

static struct device real; /* its functions */
static const char *how;
static int left; /* before the fault */

static __global__ void write_nowhere(int *nowhere) {
    *nowhere = 1;
}

static enum op_status faulty_replay(struct device *device, struct recording *recording) {
    if (left-- > 0) return real.replay(device, recording);
    if (strcmp(how, "memory") == 0) return OP_NO_MEMORY;
    write_nowhere<<<1, 1>>>((int *)16);
    cudaDeviceSynchronize();
    return real.replay(device, recording);
}

static void *faulty_alloc(struct device *device, size_t bytes) {
    return left-- > 0 ? real.alloc(device, bytes) : NULL;
}

enum op_status qwen_chat_cuda_open(struct device **out, const struct device_cuda_options *options,
                                   char *reason, size_t room) {
    const char *after = getenv("FAULTY_AFTER");
    how = getenv("FAULTY_HOW") ? getenv("FAULTY_HOW") : "";
    left = after ? atoi(after) : 0;
    device_cuda_open_fn *open = NULL;
    if (!gpu_function(getenv("FAULTY_MODULE"), DEVICE_CUDA_SYMBOL, &open)) return OP_NOT_SUPPORTED;
    struct device_cuda_options other = *options;
    if (strcmp(how, "version") == 0) other.abi++;
    const enum op_status status = open(out, &other, reason, room);
    if (status != OP_OK) return status;
    real = **out;
    if (strcmp(how, "sticky") == 0 || strcmp(how, "memory") == 0) (*out)->replay = faulty_replay;
    if (strcmp(how, "alloc") == 0) (*out)->alloc = faulty_alloc;
    return OP_OK;
}
