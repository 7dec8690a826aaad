/*
 * A CUDA card as a device: memory, copies, recordings as CUDA graphs, and the op table. This file
 * has the module's only exported function.
 *
 * Nothing is printed. An error that leaves the card's context broken is remembered: from then on
 * everything that can tell says OP_FAULT.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/module.h"

#include <stdio.h>
#include <stdlib.h>

enum { LEAST_CAPABILITY = 75 };
static const size_t STAGING_BYTES = 4 << 20, BOX_BYTES = 64 << 10;

/* What the card lacks when our context stands is the context's and other programs'; more than this
 * is never ours. */
static const size_t MOST_CONTEXT_BYTES = (size_t)1 << 30;
/* Code that is loaded when it is first used (cuBLASLt's too), and recordings: NOTES.md. */
static const size_t LATER_BYTES = (size_t)16 << 20;

struct recording {
    cudaGraph_t graph;
    cudaGraphExec_t executable; /* NULL: of nothing */
};

/* ---- errors ---- */

enum op_status cuda_status(struct cuda_device *cuda, cudaError_t error) {
    if (cuda->status == OP_FAULT) return OP_FAULT;
    switch (error) {
    case cudaSuccess:
        return OP_OK;
    case cudaErrorMemoryAllocation:
        cudaGetLastError(); /* not a sticky one: clear it */
        return OP_NO_MEMORY;
    case cudaErrorInvalidConfiguration:
    case cudaErrorInvalidValue:
        cudaGetLastError();
        return OP_BAD_SHAPE;
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorNotSupported:
    case cudaErrorLaunchOutOfResources: /* a kernel needs more registers than the card has */
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
        cudaGetLastError();
        return OP_NOT_SUPPORTED;
    default:
        cuda->status = OP_FAULT;
        return OP_FAULT;
    }
}

/* ---- memory ---- */

static void *cuda_alloc(struct device *device, size_t bytes) {
    void *memory = NULL;
    if (cuda_status(cuda_of(device), cudaMalloc(&memory, bytes > 0 ? bytes : 1)) != OP_OK)
        return NULL;
    return memory;
}

static void cuda_release(struct device *device, void *memory) {
    struct cuda_device *cuda = cuda_of(device);
    loader_rest(cuda); /* it may write there */
    cudaStreamSynchronize(cuda->stream);
    cudaFree(memory);
}

static enum op_status cuda_sync(struct device *device) {
    struct cuda_device *cuda = cuda_of(device);
    const enum op_status loaded = loader_rest(cuda);
    const enum op_status status = cuda_status(cuda, cudaStreamSynchronize(cuda->stream));
    cuda->staging_used = 0;
    return status == OP_OK ? loaded : status;
}

/* Through pinned memory, so that the source may change once this returns. */
static enum op_status cuda_upload(struct device *device, void *to, const void *from, size_t bytes) {
    struct cuda_device *cuda = cuda_of(device);
    enum op_status status = OP_OK;
    for (size_t done = 0; done < bytes && status == OP_OK;) {
        if (cuda->staging_used == STAGING_BYTES) {
            status = cuda_status(cuda, cudaStreamSynchronize(cuda->stream));
            cuda->staging_used = 0;
        }
        const size_t room = STAGING_BYTES - cuda->staging_used, left = bytes - done;
        const size_t some = left < room ? left : room;
        unsigned char *staged = (unsigned char *)cuda->staging + cuda->staging_used;
        memcpy(staged, (const unsigned char *)from + done, some);
        if (status == OP_OK)
            status = cuda_status(cuda, cudaMemcpyAsync((unsigned char *)to + done, staged, some,
                                                       cudaMemcpyHostToDevice, cuda->stream));
        cuda->staging_used += some;
        done += some;
    }
    return status;
}

/* Waits: what was copied can be read when this returns. */
static enum op_status cuda_download(struct device *device, void *to, const void *from,
                                    size_t bytes) {
    struct cuda_device *cuda = cuda_of(device);
    enum op_status status = cuda_sync(device); /* the staging buffer is free */
    for (size_t done = 0; done < bytes && status == OP_OK;) {
        const size_t left = bytes - done, some = left < STAGING_BYTES ? left : STAGING_BYTES;
        status =
            cuda_status(cuda, cudaMemcpyAsync(cuda->staging, (const unsigned char *)from + done,
                                              some, cudaMemcpyDeviceToHost, cuda->stream));
        if (status == OP_OK) status = cuda_status(cuda, cudaStreamSynchronize(cuda->stream));
        if (status == OP_OK) memcpy((unsigned char *)to + done, cuda->staging, some);
        done += some;
    }
    return status;
}

/* ---- results on their way to the host ---- */

static enum op_status cuda_post(struct device *device, int box, const void *from, size_t bytes) {
    struct cuda_device *cuda = cuda_of(device);
    if (bytes > BOX_BYTES) return OP_BAD_SHAPE;
    const enum op_status status = cuda_status(
        cuda, cudaMemcpyAsync(cuda->boxes[box], from, bytes, cudaMemcpyDeviceToHost, cuda->stream));
    if (status != OP_OK) return status;
    return cuda_status(cuda, cudaEventRecord(cuda->arrived[box], cuda->stream));
}

static enum op_status cuda_collect(struct device *device, int box, const void **out) {
    struct cuda_device *cuda = cuda_of(device);
    *out = cuda->boxes[box];
    return cuda_status(cuda, cudaEventSynchronize(cuda->arrived[box]));
}

static void cuda_memory(struct device *device, struct device_memory *out) {
    size_t free_bytes = 0, total_bytes = 0;
    cuda_status(cuda_of(device), cudaMemGetInfo(&free_bytes, &total_bytes));
    *out = {total_bytes, free_bytes, cuda_of(device)->own_bytes + LATER_BYTES};
}

/* ---- weights ---- */

/* No kernel computes with another format than the activations' yet. */
static enum format cuda_weight_format(struct device *device, enum format) {
    return device->activation;
}

/* Weights lie as they are stored. */
static enum matrix_layout cuda_layout(const struct device *, enum format) {
    return LAYOUT_STORED;
}

static enum op_status cuda_load(struct device *device, void *to, const void *from,
                                enum format format, size_t n) {
    return loader_load(cuda_of(device), to, from, format, n);
}

static enum op_status cuda_find_not_finite(struct device *device, const struct matrix *m,
                                           size_t *where) {
    return loader_find_not_finite(cuda_of(device), m, where);
}

/* ---- what ops need beside their arguments ---- */

/* Allowed while a recording is made: the memory is there before the recording is replayed. */
enum op_status cuda_workspace(struct cuda_device *cuda, struct workspace *w, size_t bytes) {
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    struct workspace *older = NULL;
    if (bytes <= w->bytes) return OP_OK;
    if (w->at) { /* recordings may point into it: it is kept */
        older = (struct workspace *)malloc(sizeof *older);
        if (!older) return OP_NO_MEMORY;
        *older = *w;
    }
    void *memory = NULL;
    cudaThreadExchangeStreamCaptureMode(&mode);
    enum op_status status = cuda_status(cuda, cudaMalloc(&memory, bytes));
    if (status == OP_OK)
        status = cuda_status(cuda, cudaMemsetAsync(memory, 0, bytes, cudaStreamPerThread));
    if (status == OP_OK) status = cuda_status(cuda, cudaStreamSynchronize(cudaStreamPerThread));
    cudaThreadExchangeStreamCaptureMode(&mode);
    if (status != OP_OK) {
        cudaFree(memory);
        free(older);
        return status;
    }
    *w = {memory, bytes, older};
    return OP_OK;
}

static void workspace_free(struct workspace *w) {
    cudaFree(w->at);
    for (struct workspace *older = w->older, *next; older; older = next) {
        next = older->older;
        cudaFree(older->at);
        free(older);
    }
}

/* ---- ops ---- */

static enum op_status check_weight_formats(struct cuda_device *cuda, const struct matrix *m) {
    return m->format == cuda->base.activation ? OP_OK : OP_BAD_FORMAT;
}
/* Matrices of each op that has some. */
static enum op_status check_embed(struct cuda_device *cuda, const struct op_embed *op) {
    return check_weight_formats(cuda, op->table);
}
static enum op_status check_linear(struct cuda_device *cuda, const struct op_linear *op) {
    return check_weight_formats(cuda, op->w);
}
static enum op_status check_qkv(struct cuda_device *cuda, const struct op_qkv *op) {
    const enum op_status q = check_weight_formats(cuda, op->wq);
    const enum op_status k = check_weight_formats(cuda, op->wk);
    return q != OP_OK ? q : k != OP_OK ? k : check_weight_formats(cuda, op->wv);
}
static enum op_status check_gate_up(struct cuda_device *cuda, const struct op_gate_up *op) {
    const enum op_status gate = check_weight_formats(cuda, op->gate);
    return gate != OP_OK ? gate : check_weight_formats(cuda, op->up);
}
static enum op_status check_head(struct cuda_device *cuda, const struct op_head *op) {
    return check_weight_formats(cuda, op->w);
}
#define NO_MATRIX(name)                                                                            \
    static enum op_status check_##name(struct cuda_device *, const struct op_##name *) {           \
        return OP_OK;                                                                              \
    }
NO_MATRIX(rms_norm)
NO_MATRIX(rope)
NO_MATRIX(kv_write)
NO_MATRIX(attention)
NO_MATRIX(silu_mul)
NO_MATRIX(gather)
NO_MATRIX(sample)

#define PLAIN(name)                                                                                \
    static enum op_status submit_##name(struct device *device, const struct op_##name *op) {       \
        struct cuda_device *cuda = cuda_of(device);                                                \
        enum op_status status = op_check_##name(op);                                               \
        if (status == OP_OK) status = check_##name(cuda, op);                                      \
        if (status == OP_OK) status = cuda_##name(cuda, op);                                       \
        if (cuda->is_recording && status != OP_OK) cuda->recording_status = status;                \
        return status;                                                                             \
    }
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

static const struct ops cuda_ops = {
#define PLAIN(name) .name = submit_##name,
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED
};

/* ---- recordings ---- */

static void cuda_recording_free(struct device *, struct recording *recording) {
    if (!recording) return;
    if (recording->executable) cudaGraphExecDestroy(recording->executable);
    if (recording->graph) cudaGraphDestroy(recording->graph);
    free(recording);
}

static enum op_status cuda_record_begin(struct device *device) {
    struct cuda_device *cuda = cuda_of(device);
    if (cuda->is_recording) return OP_NOT_SUPPORTED; /* one inside another */
    const enum op_status status =
        cuda_status(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal));
    cuda->is_recording = status == OP_OK;
    cuda->recording_status = OP_OK;
    return status;
}

/* A recording that lacks an op is none. */
static enum op_status cuda_record_end(struct device *device, struct recording **out) {
    struct cuda_device *cuda = cuda_of(device);
    *out = NULL;
    if (!cuda->is_recording) return OP_NOT_SUPPORTED;
    cuda->is_recording = false;
    struct recording *recording = (struct recording *)calloc(1, sizeof *recording);
    if (!recording) return OP_NO_MEMORY;
    enum op_status status =
        cuda_status(cuda, cudaStreamEndCapture(cuda->stream, &recording->graph));
    if (status == OP_OK) status = cuda->recording_status;
    if (status == OP_OK)
        status =
            cuda_status(cuda, cudaGraphInstantiate(&recording->executable, recording->graph, 0));
    if (status == OP_OK)
        *out = recording;
    else
        cuda_recording_free(device, recording);
    return status;
}

static enum op_status cuda_replay(struct device *device, struct recording *recording) {
    struct cuda_device *cuda = cuda_of(device);
    if (cuda->is_recording) return OP_NOT_SUPPORTED;
    return cuda_status(cuda, cudaGraphLaunch(recording->executable, cuda->stream));
}

/* ---- life ---- */

static void cuda_close(struct device *device) {
    struct cuda_device *cuda = cuda_of(device);
    if (cuda->stream) cudaStreamSynchronize(cuda->stream);
    loader_close(cuda);
    matmul_close(cuda);
    attention_close(cuda);
    workspace_free(&cuda->sample_memory);
    workspace_free(&cuda->sample_marks);
    workspace_free(&cuda->product_memory);
    for (int i = 0; i < 2; i++) {
        if (cuda->arrived[i]) cudaEventDestroy(cuda->arrived[i]);
        cudaFreeHost(cuda->boxes[i]);
    }
    cudaFreeHost(cuda->staging);
    if (cuda->stream) cudaStreamDestroy(cuda->stream);
    free(cuda);
}

static enum op_status refuse(char *reason, size_t room, const char *text) {
    snprintf(reason, room, "%s", text);
    return OP_NOT_SUPPORTED;
}

/* What the driver says of itself: whether there is one, and a card. */
static enum op_status find_cards(const struct device_cuda_options *o, char *reason, size_t room) {
    int driver = 0, n_cards = 0;
    cudaDriverGetVersion(&driver);
    const cudaError_t error = cudaGetDeviceCount(&n_cards);
    if (driver == 0) return refuse(reason, room, "no NVIDIA driver is installed");
    if (error == cudaErrorInsufficientDriver) {
        snprintf(reason, room,
                 "the NVIDIA driver is for CUDA %d.%d; this program was built with CUDA %d.%d",
                 driver / 1000, driver % 1000 / 10, CUDART_VERSION / 1000,
                 CUDART_VERSION % 1000 / 10);
        return OP_NOT_SUPPORTED;
    }
    if (error != cudaSuccess && error != cudaErrorNoDevice) {
        snprintf(reason, room, "the NVIDIA driver fails: %s", cudaGetErrorString(error));
        return OP_NOT_SUPPORTED;
    }
    if (n_cards == 0) return refuse(reason, room, "no NVIDIA GPU is there");
    if (o->index >= n_cards) {
        snprintf(reason, room, "there is no GPU %d: this machine has %d", o->index, n_cards);
        return OP_NOT_SUPPORTED;
    }
    return OP_OK;
}

static enum op_status check_card(struct cuda_device *cuda, char *reason, size_t room) {
    struct cudaDeviceProp card;
    struct cudaFuncAttributes any;
    if (cudaGetDeviceProperties(&card, cuda->index) != cudaSuccess)
        return refuse(reason, room, "the NVIDIA driver does not describe the GPU");
    cuda->n_sms = card.multiProcessorCount;
    cuda->capability = card.major * 10 + card.minor;
    cuda->shared_bytes = (int)card.sharedMemPerBlockOptin;
    snprintf(cuda->base.name, sizeof cuda->base.name, "%.80s", card.name);
    if (cuda->capability < LEAST_CAPABILITY) {
        snprintf(reason, room, "the %s is too old: compute capability %d.%d, and 7.5 is needed",
                 card.name, card.major, card.minor);
        return OP_NOT_SUPPORTED;
    }
    if (cudaSetDevice(cuda->index) != cudaSuccess)
        return refuse(reason, room, "the GPU cannot be used now; another program may hold it");
    if (cudaFuncGetAttributes(&any, kernels_probe()) != cudaSuccess) {
        snprintf(reason, room, "this build has no code for the %s (compute capability %d.%d)",
                 card.name, card.major, card.minor);
        return OP_NOT_SUPPORTED;
    }
    /* code for an older card, translated by the driver, has no more than that card */
    if (any.ptxVersion < cuda->capability) cuda->capability = any.ptxVersion;
    return OP_OK;
}

static enum op_status take_resources(struct cuda_device *cuda, char *reason, size_t room) {
    size_t total = 0, before = 0, after = 0;
    enum op_status status = cuda_status(cuda, cudaMemGetInfo(&before, &total));
    if (status == OP_OK)
        status = cuda_status(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    if (status == OP_OK)
        status = cuda_status(cuda, cudaHostAlloc(&cuda->staging, STAGING_BYTES, 0));
    for (int i = 0; i < 2 && status == OP_OK; i++) {
        status = cuda_status(cuda, cudaHostAlloc(&cuda->boxes[i], BOX_BYTES, 0));
        if (status == OP_OK)
            status = cuda_status(
                cuda, cudaEventCreateWithFlags(&cuda->arrived[i], cudaEventDisableTiming));
    }
    if (status == OP_OK) status = attention_open(cuda);
    if (status == OP_OK) status = loader_open(cuda);
    if (status == OP_OK) status = matmul_open(cuda);
    if (status == OP_OK) status = cuda_status(cuda, cudaMemGetInfo(&after, &total));
    const size_t context = total - before;
    cuda->own_bytes = (context < MOST_CONTEXT_BYTES ? context : MOST_CONTEXT_BYTES) +
                      (after < before ? before - after : 0);
    if (status == OP_NO_MEMORY)
        refuse(reason, room, "the GPU has too little free memory to begin with");
    else if (status != OP_OK)
        refuse(reason, room, "the GPU fails");
    return status;
}

static size_t cuda_work_bytes(int n_outputs, int vocab) {
    return sample_bytes(n_outputs, vocab);
}

static enum op_status cuda_take_work(struct device *device, int n_outputs, int vocab) {
    return sample_open(cuda_of(device), n_outputs, vocab);
}

static const struct device cuda_functions = {
    .ops = &cuda_ops,
    .activation = FORMAT_BF16,
    .is_async = true,
    .backend = "CUDA",
    .close = cuda_close,
    .alloc = cuda_alloc,
    .release = cuda_release,
    .upload = cuda_upload,
    .download = cuda_download,
    .work_bytes = cuda_work_bytes,
    .take_work = cuda_take_work,
    .weight_format = cuda_weight_format,
    .load = cuda_load,
    .find_not_finite = cuda_find_not_finite,
    .sync = cuda_sync,
    .layout = cuda_layout,
    .post = cuda_post,
    .collect = cuda_collect,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .replay = cuda_replay,
    .recording_free = cuda_recording_free,
    .memory = cuda_memory,
    .read_speed = cuda_read_speed,
};

enum op_status qwen_chat_cuda_open(struct device **out, const struct device_cuda_options *options,
                                   char *reason, size_t room) {
    *out = NULL;
    reason[0] = '\0';
    if (options->abi != DEVICE_CUDA_ABI)
        return refuse(reason, room, "the CUDA module belongs to another version of the program");
    enum op_status status = find_cards(options, reason, room);
    if (status != OP_OK) return status;
    struct cuda_device *cuda = (struct cuda_device *)calloc(1, sizeof *cuda);
    if (!cuda) return OP_NO_MEMORY;
    cuda->base = cuda_functions;
    cuda->base.activation = options->activation;
    cuda->index = options->index;
    status = check_card(cuda, reason, room);
    /* bfloat16 products begin with compute capability 8.0 */
    cuda->base.has_bf16 = cuda->capability >= 80;
    if (!cuda->base.has_bf16 && cuda->base.activation == FORMAT_BF16)
        cuda->base.activation = FORMAT_F16;
    if (status == OP_OK) status = take_resources(cuda, reason, room);
    if (status != OP_OK) {
        cuda_close(&cuda->base);
        return status;
    }
    *out = &cuda->base;
    return OP_OK;
}
