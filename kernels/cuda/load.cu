/*
 * Weights on their way to the device: several threads copy pieces of the source into pinned buffers
 * of their own, from where the card fetches them; formats that no kernel computes with are expanded
 * there to the device's activation format. Loads stand in a short queue, so that the threads go on
 * from one tensor into the next.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/decode.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    MOST_READERS = 12,      /* more only contend; three quarters of the cores are enough */
    BUFFERS = 2,            /* of each reader: one is filled while the card fetches the other */
    BUFFER_BYTES = 4 << 20, /* more than the largest piece */
    QUEUE = 8,              /* loads that wait; the caller waits when there are more */
    THREADS = 256,
};

struct buffer {
    unsigned char *pinned;
    unsigned char *device; /* what is to be expanded; made when something is */
    cudaEvent_t is_free;
};

struct reader {
    struct loader *loader;
    pthread_t thread;
    struct buffer buffers[BUFFERS];
    int next;
};

/* One load, given out in pieces. */
struct load {
    unsigned char *to;
    const unsigned char *from;
    enum format format;
    size_t n_blocks, next_block, blocks_per_piece; /* of the format */
};

struct loader {
    struct cuda_device *cuda;
    int n_readers;
    struct reader readers[MOST_READERS];
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t begin, end;
    bool is_closing;
    struct load queue[QUEUE];
    unsigned first, last; /* loads begun and asked for so far; queue[first % QUEUE] is next */
    int n_busy;           /* readers with a piece */
    enum op_status status;
    unsigned long long *first_bad; /* device */
};

/* ---- expanding ---- */

#define FORMAT(id, name, values, ...)                                                              \
    template <typename T>                                                                          \
    static __global__ void expand_##id(T *to, const struct block_##id *from, size_t n) {           \
        const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x;                               \
        float out[values];                                                                         \
        if (i >= n) return;                                                                        \
        decode_##id(from + i, out);                                                                \
        for (int k = 0; k < (values); k++) to[i * (values) + (size_t)k] = from_float<T>(out[k]);   \
    }
#include "kernels/formats.def"
#undef FORMAT

template <typename T>
static enum op_status expand(struct cuda_device *cuda, void *to, const void *from,
                             enum format format, size_t n) {
    const unsigned blocks = blocks_for(n, THREADS);
    switch (format) {
#define FORMAT(id, ...)                                                                            \
    case FORMAT_##id:                                                                              \
        expand_##id<T>                                                                             \
            <<<blocks, THREADS, 0, cuda->stream>>>((T *)to, (const struct block_##id *)from, n);   \
        break;
#include "kernels/formats.def"
#undef FORMAT
    case N_FORMATS:
        return OP_BAD_FORMAT;
    }
    return cuda_status(cuda, cudaGetLastError());
}

/* ---- pieces ---- */

struct piece {
    struct load load;
    size_t first, n; /* blocks of it */
};

/* Those of a reader, where they are not there yet. */
static enum op_status make_buffers(struct reader *r) {
    struct cuda_device *cuda = r->loader->cuda;
    enum op_status status = OP_OK;
    for (int i = 0; i < BUFFERS && status == OP_OK; i++) {
        struct buffer *b = &r->buffers[i];
        if (b->is_free) continue;
        status = cuda_status(
            cuda, cudaHostAlloc((void **)&b->pinned, BUFFER_BYTES, cudaHostAllocDefault));
        if (status == OP_OK)
            status =
                cuda_status(cuda, cudaEventCreateWithFlags(&b->is_free, cudaEventDisableTiming));
    }
    return status;
}

/* Brings a piece on its way. */
static enum op_status send(struct reader *r, const struct piece *piece) {
    struct cuda_device *cuda = r->loader->cuda;
    const struct load *l = &piece->load;
    const enum format act = cuda->base.activation;
    struct buffer *b = &r->buffers[r->next];
    const struct format_info *info = &format_table[l->format];
    const size_t bytes = piece->n * (size_t)info->block_bytes;
    const unsigned char *from = l->from + piece->first * (size_t)info->block_bytes;
    unsigned char *to = l->to + format_row_bytes(act, piece->first * (size_t)info->block_values);
    const bool is_same = l->format == act;
    enum op_status status = OP_OK;
    r->next = (r->next + 1) % BUFFERS;
    if (!is_same && !b->device)
        status = cuda_status(cuda, cudaMalloc((void **)&b->device, BUFFER_BYTES));
    if (status == OP_OK) status = cuda_status(cuda, cudaEventSynchronize(b->is_free));
    if (status != OP_OK) return status;
    if (cuda->base.copy_source)
        cuda->base.copy_source(b->pinned, from, bytes);
    else
        memcpy(b->pinned, from, bytes);
    status = cuda_status(cuda, cudaMemcpyAsync(is_same ? to : b->device, b->pinned, bytes,
                                               cudaMemcpyHostToDevice, cuda->stream));
    if (status == OP_OK && !is_same)
        status = FOR_ACTIVATION(cuda, expand, cuda, to, b->device, l->format, piece->n);
    if (status == OP_OK) status = cuda_status(cuda, cudaEventRecord(b->is_free, cuda->stream));
    return status;
}

/* The next piece; false: none is there. Under the lock. */
static bool take_piece(struct loader *l, struct piece *piece) {
    if (l->first == l->last) return false;
    struct load *load = &l->queue[l->first % QUEUE];
    const size_t left = load->n_blocks - load->next_block;
    piece->load = *load;
    piece->first = load->next_block;
    piece->n = left < load->blocks_per_piece ? left : load->blocks_per_piece;
    load->next_block += piece->n;
    if (piece->n == left) {
        l->first++;
        pthread_cond_signal(&l->end);
    }
    return true;
}

static void *reader_main(void *arg) {
    struct reader *r = (struct reader *)arg;
    struct loader *l = r->loader;
    struct piece piece;
    cudaSetDevice(l->cuda->index);
    if (make_buffers(r) != OP_OK) return NULL; /* too little pinned memory: the others do it */
    pthread_mutex_lock(&l->lock);
    while (!l->is_closing) {
        if (!take_piece(l, &piece)) {
            pthread_cond_wait(&l->begin, &l->lock);
            continue;
        }
        l->n_busy++;
        pthread_mutex_unlock(&l->lock);
        const enum op_status status = send(r, &piece);
        pthread_mutex_lock(&l->lock);
        if (status != OP_OK) l->status = status;
        if (--l->n_busy == 0) pthread_cond_signal(&l->end);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static void reader_release(struct reader *r) {
    for (int i = 0; i < BUFFERS; i++) {
        cudaFreeHost(r->buffers[i].pinned);
        cudaFree(r->buffers[i].device);
        if (r->buffers[i].is_free) cudaEventDestroy(r->buffers[i].is_free);
    }
}

/* ---- public ---- */

enum op_status loader_open(struct cuda_device *cuda) {
    struct loader *l = (struct loader *)calloc(1, sizeof *l);
    if (!l) return OP_NO_MEMORY;
    cuda->loader = l;
    l->cuda = cuda;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->begin, NULL);
    pthread_cond_init(&l->end, NULL);
    return cuda_status(cuda, cudaMalloc((void **)&l->first_bad, sizeof *l->first_bad));
}

/* Threads and buffers exist from the first load to the next sync(). The first reader's buffers are
 * made here, so that there is one at least; the others make their own while it works. */
static enum op_status start_readers(struct loader *l) {
    l->readers[0].loader = l;
    const enum op_status status = make_buffers(&l->readers[0]);
    if (status != OP_OK) return status;
    const long n_cores = sysconf(_SC_NPROCESSORS_ONLN);
    const long wanted = (n_cores * 3 + 3) / 4;
    const int n = wanted < 1 ? 1 : wanted > MOST_READERS ? MOST_READERS : (int)wanted;
    for (; l->n_readers < n; l->n_readers++) {
        struct reader *r = &l->readers[l->n_readers];
        r->loader = l;
        if (pthread_create(&r->thread, NULL, reader_main, r) != 0) break;
    }
    return l->n_readers > 0 ? OP_OK : OP_NO_MEMORY;
}

/* Until everything that was asked for is under way. */
static void wait_for_readers(struct loader *l) {
    pthread_mutex_lock(&l->lock);
    while (l->first != l->last || l->n_busy > 0) pthread_cond_wait(&l->end, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

static void stop_readers(struct loader *l) {
    pthread_mutex_lock(&l->lock);
    l->is_closing = true;
    pthread_cond_broadcast(&l->begin);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->n_readers; i++) pthread_join(l->readers[i].thread, NULL);
    cudaStreamSynchronize(l->cuda->stream);
    for (int i = 0; i < MOST_READERS; i++) reader_release(&l->readers[i]);
    memset(l->readers, 0, sizeof l->readers);
    l->n_readers = 0;
    l->is_closing = false;
}

enum op_status loader_rest(struct cuda_device *cuda) {
    struct loader *l = cuda->loader;
    if (l->n_readers == 0) return OP_OK;
    wait_for_readers(l);
    stop_readers(l);
    const enum op_status status = l->status;
    l->status = OP_OK;
    return status;
}

void loader_close(struct cuda_device *cuda) {
    struct loader *l = cuda->loader;
    if (!l) return;
    loader_rest(cuda);
    cudaFree(l->first_bad);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->begin);
    pthread_cond_destroy(&l->end);
    free(l);
    cuda->loader = NULL;
}

enum op_status loader_load(struct cuda_device *cuda, void *to, const void *from, enum format format,
                           size_t n) {
    struct loader *l = cuda->loader;
    const struct format_info *info = &format_table[format];
    if (n == 0) return OP_OK;
    if ((unsigned)format >= N_FORMATS || n % (size_t)info->block_values != 0) return OP_BAD_FORMAT;
    const enum op_status status = start_readers(l);
    if (status != OP_OK) return status;
    struct load load = {};
    load.to = (unsigned char *)to;
    load.from = (const unsigned char *)from;
    load.format = format;
    load.n_blocks = n / (size_t)info->block_values;
    /* whole blocks, and pieces that begin at 16 bytes on the device */
    load.blocks_per_piece = BUFFER_BYTES / (size_t)info->block_bytes / 16 * 16;
    pthread_mutex_lock(&l->lock);
    while (l->last - l->first == QUEUE) pthread_cond_wait(&l->end, &l->lock);
    l->queue[l->last++ % QUEUE] = load;
    const enum op_status so_far = l->status;
    pthread_cond_broadcast(&l->begin);
    pthread_mutex_unlock(&l->lock);
    return so_far;
}

/* ---- looking for values that are not finite ---- */

template <typename T>
static __global__ void find_kernel(const T *values, size_t n, unsigned long long *first) {
    enum { UNROLL = 4 };
    const size_t stride = (size_t)gridDim.x * THREADS, n_packs = n / per_16<T>;
    const size_t thread = (size_t)blockIdx.x * THREADS + threadIdx.x;
    const uint4 *packs = (const uint4 *)values;
    for (size_t i = thread; i < n_packs; i += stride * UNROLL) {
        uint4 pack[UNROLL];
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            const size_t at = i + (size_t)u * stride;
            pack[u] = at < n_packs ? __ldcs(packs + at) : make_uint4(0, 0, 0, 0);
        }
#pragma unroll
        for (int u = 0; u < UNROLL; u++) {
            float v[per_16<T>], sum = 0;
            unpack<T>(pack[u], v);
#pragma unroll
            for (int k = 0; k < per_16<T>; k++) sum += v[k] * 0;
            if (sum == 0) continue; /* else 0 times something was NaN */
            for (int k = 0; k < per_16<T>; k++)
                if (!isfinite(v[k]))
                    atomicMin(first, (unsigned long long)((i + (size_t)u * stride) * per_16<T> +
                                                          (size_t)k));
        }
    }
    const size_t last = n_packs * per_16<T> + thread;
    if (last < n && !isfinite(to_float(values[last]))) atomicMin(first, (unsigned long long)last);
}

template <typename T>
static enum op_status find(struct cuda_device *cuda, const struct matrix *m,
                           unsigned long long *first) {
    const size_t n = (size_t)m->rows * (size_t)m->cols;
    find_kernel<T>
        <<<(unsigned)cuda->n_sms * 8, THREADS, 0, cuda->stream>>>((const T *)m->data, n, first);
    return cuda_status(cuda, cudaGetLastError());
}

enum op_status loader_find_not_finite(struct cuda_device *cuda, const struct matrix *m,
                                      size_t *where) {
    struct loader *l = cuda->loader;
    unsigned long long first = ~0ull;
    enum op_status status =
        cuda_status(cuda, cudaMemcpyAsync(l->first_bad, &first, sizeof first,
                                          cudaMemcpyHostToDevice, cuda->stream));
    if (status == OP_OK) status = FOR_ACTIVATION(cuda, find, cuda, m, l->first_bad);
    if (status == OP_OK)
        status = cuda_status(cuda, cudaMemcpyAsync(&first, l->first_bad, sizeof first,
                                                   cudaMemcpyDeviceToHost, cuda->stream));
    if (status == OP_OK) status = cuda_status(cuda, cudaStreamSynchronize(cuda->stream));
    *where = status == OP_OK ? (size_t)first : 0;
    return status;
}

const void *kernels_probe(void) {
    return (const void *)find_kernel<float>;
}
