/*
 * Inside the CUDA backend: the device, how a kernel is launched, and one function per op.
 *
 * An op's function checks nothing (kernels/ops.c did), allocates nothing and waits for nothing; it
 * launches kernels on the device's stream, which may be recording. What differs between replays is
 * read by the kernels from the arrays of struct op_batch.
 */
#pragma once

#include "kernels/cuda/numbers.cuh"
#include "kernels/device.h"

#include <cublasLt.h>

struct loader; /* load.cu; loader_rest(): threads and buffers go until the next load */
struct matmul; /* matmul.cu */

/* Memory that grows; what was given out before stays until the device is closed. */
struct workspace {
    void *at;
    size_t bytes;
    struct workspace *older;
};

struct cuda_device {
    struct device base; /* first: device.h hands this out */
    int index;
    int n_sms, capability; /* 90: 9.0; the card's or, where that is less, the code's */
    int shared_bytes;      /* that a block may have */
    size_t own_bytes;      /* device.h: taken while opening, context included */
    cudaStream_t stream;
    enum op_status status; /* OP_FAULT once a sticky error was seen: it stays */
    bool is_recording;
    enum op_status recording_status;

    void *staging; /* pinned: small copies to the device go through it */
    size_t staging_used;
    struct loader *loader; /* large ones */
    void *boxes[2];        /* pinned: post() to collect() */
    cudaEvent_t arrived[2];
    struct matmul *matmul;

    /* attention's partial results, and who was last to leave some */
    float *partial;
    size_t partial_bytes;
    int *counters;
    int *next_item; /* flash_sm90.cu's; 0 between launches */
    struct workspace sample_memory, sample_marks, product_memory;
};

static inline struct cuda_device *cuda_of(struct device *device) {
    return (struct cuda_device *)device;
}

/* Makes `w` hold `bytes`, zeroed where it is new. Ops may call it while a recording is made. */
enum op_status cuda_workspace(struct cuda_device *cuda, struct workspace *w, size_t bytes);

/* sample.cu: its memory for passes with so many rows of logits. */
size_t sample_bytes(int n_outputs, int vocab);
enum op_status sample_open(struct cuda_device *cuda, int n_outputs, int vocab);

/* roof.cu */
double cuda_read_speed(struct device *device);

/* What a CUDA call came to; remembers errors that the device does not recover from. */
enum op_status cuda_status(struct cuda_device *cuda, cudaError_t error);

/* Launches as a dependent of the kernel before it, where the card can: see wait_for_previous(). */
template <typename... Parameters, typename... Arguments>
static enum op_status launch(struct cuda_device *cuda, void (*kernel)(Parameters...), dim3 grid,
                             int threads, size_t shared, Arguments... arguments) {
    /* all kernels with the same: a multiprocessor that has to change its split between cache and
     * shared memory drains first, and the blocks of two kernels would not lie side by side */
    cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                         cudaSharedmemCarveoutMaxShared);
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3((unsigned)threads);
    config.dynamicSmemBytes = shared;
    config.stream = cuda->stream;
    config.attrs = &attribute;
    config.numAttrs = cuda->capability >= 90 ? 1 : 0;
    return cuda_status(cuda, cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...));
}

/* Calls f<T>(…) with T the type of the device's activations. */
#define FOR_ACTIVATION(cuda, f, ...)                                                               \
    ((cuda)->base.activation == FORMAT_BF16  ? f<bf16>(__VA_ARGS__)                                \
     : (cuda)->base.activation == FORMAT_F16 ? f<f16>(__VA_ARGS__)                                 \
                                             : f<float>(__VA_ARGS__))

static inline unsigned blocks_for(size_t n, int per_block) {
    return (unsigned)((n + (size_t)per_block - 1) / (size_t)per_block);
}

#define PLAIN(name) enum op_status cuda_##name(struct cuda_device *, const struct op_##name *);
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

/* matmul.cu: y = x w^T, many rows, by cuBLASLt; `beta` 1 adds to y. */
enum op_status matmul_open(struct cuda_device *cuda);
void matmul_close(struct cuda_device *cuda);
enum op_status matmul_run(struct cuda_device *cuda, const struct op_linear *op, float beta);

/* load.cu; loader_load() returns before the source was read, loader_rest() when all was, and with
 * what it came to: threads and buffers go until the next load */
enum op_status loader_open(struct cuda_device *cuda);
void loader_close(struct cuda_device *cuda);
enum op_status loader_rest(struct cuda_device *cuda);
enum op_status loader_load(struct cuda_device *cuda, void *to, const void *from, enum format format,
                           size_t n);
enum op_status loader_find_not_finite(struct cuda_device *cuda, const struct matrix *m,
                                      size_t *where);

/* Some kernel of this module: is there code for the card? */
const void *kernels_probe(void);

/* attention.cu: allocates what the ops may not. */
enum op_status attention_open(struct cuda_device *cuda);
void attention_close(struct cuda_device *cuda);
