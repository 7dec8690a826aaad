/*
 * The CUDA backend as the program sees it: a module (shared library) that is opened at run time
 * and exports one function, so that the program starts at once and where no CUDA is there.
 */
#pragma once

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DEVICE_CUDA_MODULE "qwen-chat-cuda.so"
#define DEVICE_CUDA_SYMBOL "qwen_chat_cuda_open"

/* A module of another version, or built from other headers, does not fit; the sizes tell most of
 * those apart. */
static inline unsigned device_cuda_abi(void) {
    unsigned abi = (unsigned)(sizeof(struct device) * 10007 + sizeof(struct ops) * 101 +
                              sizeof(struct op_qkv) * 7 + N_FORMATS);
    for (const char *c = QWEN_CHAT_VERSION; *c; c++) abi = abi * 31 + (unsigned char)*c;
    return abi;
}
#define DEVICE_CUDA_ABI device_cuda_abi()

struct device_cuda_options {
    unsigned abi;           /* DEVICE_CUDA_ABI */
    int index;              /* which GPU, from 0 */
    enum format activation; /* BF16, F16, or F32 for tests; what cannot be BF16 becomes F16 */
};

/*
 * OP_OK, or why not: `reason` then holds half a sentence for people ("no NVIDIA driver is
 * installed"). One thread may open several devices, on one card or more.
 */
typedef enum op_status device_cuda_open_fn(struct device **out,
                                           const struct device_cuda_options *options, char *reason,
                                           size_t room);

#ifdef __GNUC__
__attribute__((visibility("default")))
#endif
device_cuda_open_fn qwen_chat_cuda_open;

#ifdef __cplusplus
}
#endif
