/* What decoding is measured against: how fast the card reads memory, by one pass over far more than
 * its caches hold, with 16-byte loads of which each thread has several under way. */
#include "kernels/cuda/cuda.h"

enum { THREADS = 512, LOADS = 8, PASSES = 5 };
static const size_t LEAST_BYTES = 256 << 20, MOST_BYTES = (size_t)4 << 30;

static __global__ void read_kernel(const uint4 *data, size_t n, unsigned *out) {
    const size_t step = (size_t)gridDim.x * THREADS;
    unsigned all = 0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += step * LOADS) {
#pragma unroll
        for (int k = 0; k < LOADS; k++) {
            const size_t at = i + step * (size_t)k;
            const uint4 v = at < n ? __ldcs(data + at) : make_uint4(0, 0, 0, 0);
            all |= v.x | v.y | v.z | v.w;
        }
    }
    if (all == 1) *out = all; /* never: the data is zeros; but the loads must be made */
}

/* The best of some passes, bytes per second; 0 where one fails. */
static double measure(struct cuda_device *cuda, void *data, size_t bytes, cudaEvent_t begin,
                      cudaEvent_t end) {
    const size_t n = bytes / sizeof(uint4);
    double best = 0;
    for (int i = 0; i < PASSES; i++) {
        float milliseconds = 0;
        cudaEventRecord(begin, cuda->stream);
        read_kernel<<<cuda->n_sms * 4, THREADS, 0, cuda->stream>>>((const uint4 *)data, n,
                                                                   (unsigned *)data);
        cudaEventRecord(end, cuda->stream);
        if (cuda_status(cuda, cudaEventSynchronize(end)) != OP_OK ||
            cudaEventElapsedTime(&milliseconds, begin, end) != cudaSuccess || milliseconds <= 0)
            return 0;
        const double speed = (double)n * sizeof(uint4) / (1e-3 * milliseconds);
        if (speed > best) best = speed;
    }
    return best;
}

double cuda_read_speed(struct device *device) {
    struct cuda_device *cuda = cuda_of(device);
    cudaEvent_t begin = NULL, end = NULL;
    void *data = NULL;
    double speed = 0;
    size_t bytes = MOST_BYTES;
    while (bytes >= LEAST_BYTES && cudaMalloc(&data, bytes) != cudaSuccess) {
        cudaGetLastError(); /* too little is free: less will do */
        bytes /= 2;
    }
    if (!data) return 0;
    if (cudaMemsetAsync(data, 0, bytes, cuda->stream) == cudaSuccess &&
        cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess)
        speed = measure(cuda, data, bytes, begin, end);
    if (begin) cudaEventDestroy(begin);
    if (end) cudaEventDestroy(end);
    cudaStreamSynchronize(cuda->stream);
    cudaFree(data);
    return speed;
}
