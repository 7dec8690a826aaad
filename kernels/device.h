/*
 * A place where arithmetic happens: memory, copies, recordings, and the op table.
 *
 * One thread owns a device. Copies and ops are ordered as called; device_sync() waits for them.
 * Between record_begin() and record_end() ops are not run but kept; replay() runs them as often as
 * wanted, reading the contents of the op_batch arrays (and weights, caches) as they are then. The
 * argument structs are copied when recorded; what they point to must stay (the op_batch and matrix
 * structs included). On the CPU replay() is one parallel region of the thread team; on CUDA a
 * graph.
 *
 * Where `is_async` is set, upload(), ops, replay() and post() return before they are done, in the
 * order of calls; the host's memory that upload() was given may be changed at once. Elsewhere all
 * is done when a call returns.
 */
#pragma once

#include "kernels/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

struct recording;    /* the backend's */
struct communicator; /* between the ranks of one model; NULL with one device */

struct device_memory {
    uint64_t total_bytes;
    uint64_t free_bytes; /* what could be taken now */
    uint64_t own_bytes;  /* what the backend has taken for itself, and will while it computes: a
                            GPU's context, buffers, code that is loaded when it is first used */
};

struct device {
    const struct ops *ops;
    enum format activation; /* of "act" arrays */
    bool reads_host_memory; /* weights may stay where they are mapped */
    bool is_async;
    bool has_bf16; /* products of it: activations may be BF16 */
    struct communicator *communicator;
    const char *backend; /* "CPU", "CUDA" */
    int threads;         /* of the CPU that compute; 0: none do */
    char name[96];       /* "AMD EPYC 7763, 2 threads, AVX2" */

    void (*close)(struct device *);
    void *(*alloc)(struct device *, size_t bytes); /* 64-byte aligned, not cleared; NULL: none */
    void (*release)(struct device *, void *);
    enum op_status (*upload)(struct device *, void *to, const void *from_host, size_t bytes);
    enum op_status (*download)(struct device *, void *to_host, const void *from, size_t bytes);
    /* Memory that ops take beside their arguments for passes of up to so many rows of logits: how
     * much, and taking it at once, so that no pass has to. NULL: none. */
    size_t (*work_bytes)(int n_outputs, int vocab);
    enum op_status (*take_work)(struct device *, int n_outputs, int vocab);

    /* Weights: the format that the device keeps those of a stored format in; n values brought there
     * in it, of which the source must stay until sync(); the index of a matrix's first NaN or
     * infinity, or SIZE_MAX (waits). */
    enum format (*weight_format)(struct device *, enum format stored);
    enum op_status (*load)(struct device *, void *to, const void *from_host, enum format stored,
                           size_t n);
    /* How load() reads its source, where that is not memory alone; threads of the device call it.
     * Set by whoever opened the device; NULL: memcpy(). */
    void (*copy_source)(void *to, const void *from_host, size_t bytes);
    enum op_status (*find_not_finite)(struct device *, const struct matrix *, size_t *where);
    enum op_status (*sync)(struct device *);

    /* How the device wants a matrix of that format; STORED: as it is. Where that is a packed layout
     * (layout_is_packed()) pack() writes the stored matrix `from`, in host memory, to layout_bytes() of device memory; not while recording.
     * OP_NOT_FINITE: a value of it is NaN or an infinity. */
    enum matrix_layout (*layout)(const struct device *, enum format);
    enum op_status (*pack)(struct device *, void *to, const struct matrix *from);

    /* A small result on its way to the host: post() copies it into one of two boxes, 0 or 1;
     * collect() waits for that copy alone and gives it, valid until the next post() to the box. */
    enum op_status (*post)(struct device *, int box, const void *from, size_t bytes);
    enum op_status (*collect)(struct device *, int box, const void **out);
    enum op_status (*record_begin)(struct device *);
    enum op_status (*record_end)(struct device *, struct recording **out);
    enum op_status (*replay)(struct device *, struct recording *);
    void (*recording_free)(struct device *, struct recording *);
    void (*memory)(struct device *, struct device_memory *);
    /* The roof of decoding: bytes per second of one pass that reads, with the device's own loads
     * and all its threads, memory far larger than the caches, which it takes and gives back. The
     * best of several passes; 0: it cannot be measured (no memory). */
    double (*read_speed)(struct device *);
};

struct device_cpu_options {
    int threads;         /* 0: as many as affinity, cgroup quota and cores allow */
    bool baseline;       /* only what every x86-64 has: for tests of the variants */
    bool is_exact;       /* weights stay as they are stored, activations float: the reference */
    const char *variant; /* "AVX2": that one or one that needs less; NULL: the best */
};

/* The CPU backend: the reference of all others. OP_NO_MEMORY when threads cannot be started. */
enum op_status device_cpu_open(struct device **out, const struct device_cpu_options *options);

/* What this machine's processor offers of what the kernels can use: "AVX2 FMA F16C", "baseline". */
const char *device_cpu_features(void);

/* "AMD EPYC 7763". */
void device_cpu_name(char *out, size_t n);

#ifdef __cplusplus
}
#endif
