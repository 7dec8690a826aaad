/*
 * The products of skinny.cu with Qwen2.5-7B's shapes against a naive kernel, then the speed of
 * tile shapes and ring sizes beside cuBLASLt's.
 *
 *   skinny_bench [rows …]
 *
 * Each time is that of one product in a chain of its kind, recorded as one graph, over weights that
 * are together far larger than the L2 cache.
 */
#include "kernels/cuda/matmul.cu"
#include "kernels/cuda/norm.cu"
#include "kernels/cuda/skinny.cu"

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <vector>

static void must(bool is_so, const char *what) {
    if (is_so) return;
    printf("skinny_bench: %s: %s\n", what, cudaGetErrorString(cudaGetLastError()));
    fflush(stdout);
    _Exit(1);
}

enum op_status cuda_status(struct cuda_device *, cudaError_t error) {
    must(error == cudaSuccess, cudaGetErrorString(error));
    return OP_OK;
}
enum op_status cuda_workspace(struct cuda_device *, struct workspace *w, size_t bytes) {
    if (bytes <= w->bytes) return OP_OK;
    must(!w->at, "the workspace grows");
    must(cudaMalloc(&w->at, bytes) == cudaSuccess && cudaMemset(w->at, 0, bytes) == cudaSuccess,
         "workspace");
    w->bytes = bytes;
    return OP_OK;
}

static __host__ __device__ unsigned mix(unsigned x) {
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
    return x;
}
template <typename T>
static __global__ void fill_kernel(T *to, size_t n, float scale, unsigned seed) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x) {
        float sum = 0;
        for (int k = 0; k < 4; k++)
            sum += (float)(mix((unsigned)i * 4 + k + seed) >> 8) * 0x1p-24f - 0.5f;
        to[i] = from_float<T>(sum * 1.7320508f * scale);
    }
}

enum { EPS = 1 };

/* y[t, i] = silu(gate h) up h with h = rms_norm(x), or x w (+ y) */
template <typename T>
static __global__ void naive_kernel(float *y, const T *x, const T *w, const T *up, const T *before,
                                    const float *norm, int n, int k) {
    const int i = (int)(blockIdx.x * 8 + threadIdx.x / 32), t = (int)blockIdx.y;
    const int lane = (int)threadIdx.x % 32;
    if (i >= n) return;
    float sums[2] = {0, 0}, squares = 0;
    for (int c = lane; c < k; c += 32) {
        float v = to_float(x[(size_t)t * k + c]);
        squares += v * v;
        if (up) v *= norm[c];
        sums[0] += v * to_float(w[(size_t)i * k + c]);
        if (up) sums[1] += v * to_float(up[(size_t)i * k + c]);
    }
    for (float &s : sums) s = warp_sum(s);
    squares = warp_sum(squares);
    if (lane) return;
    if (up)
        for (float &s : sums) s /= sqrtf(squares / (float)k + EPS);
    const size_t at = (size_t)t * n + i;
    y[at] = up ? sums[0] / (1 + expf(-sums[0])) * sums[1]
               : sums[0] + (before ? to_float(before[at]) : 0);
}

typedef bf16 T;
static struct cuda_device cuda;
static T *weights; /* what the products' weights are cut from */
static size_t n_weights;
static T *x, *y, *before;
static float *logits, *expected, *norm_weights;

struct product {
    const char *name;
    int n, k; /* gate_up: of each */
    bool is_pair, adds, is_float;
};
static const struct product products[] = {
    {"qkv", 4608, 3584, false, false, false},     {"o", 3584, 3584, false, true, false},
    {"gate_up", 18944, 3584, true, false, false}, {"down", 3584, 18944, false, true, false},
    {"head", 152064, 3584, false, false, true},
};

template <class Shape>
static enum op_status run_variant(const struct product &p, int rows, const T *w) {
    const struct part_layout part = {w,
                                     p.n,
                                     1,
                                     p.n / 8,
                                     (cuuint64_t)p.k * sizeof(T),
                                     (cuuint64_t)p.n * (cuuint64_t)p.k * sizeof(T),
                                     16};
    if (p.is_pair) {
        const struct skinny_gate_up_job<T> job = { y, p.n, false };
        return run_shape<Shape>(&cuda, job, &part, 1, {x, norm_weights, EPS}, rows, p.k);
    }
    if (p.is_float) {
        const struct skinny_linear_job<T, float> job = { logits, NULL, p.n, p.adds };
        return run_shape<Shape>(&cuda, job, &part, 1, {x, NULL, 0}, rows, p.k);
    }
    const struct skinny_linear_job<T, T> job = { y, NULL, p.n, p.adds };
    return run_shape<Shape>(&cuda, job, &part, 1, {x, NULL, 0}, rows, p.k);
}

static enum op_status run_cublas(const struct product &p, int rows, const T *w) {
    const struct matrix m = {w, FORMAT_BF16, p.is_pair ? 2 * p.n : p.n, p.k, LAYOUT_STORED};
    const struct op_linear op = {
        p.is_float ? (void *)logits : y, x, &m, NULL, rows, p.adds, p.is_float};
    return matmul_run(&cuda, &op, p.adds ? 1.0f : 0.0f);
}

struct variant {
    const char *name;
    int least, most; /* rows */
    enum op_status (*run)(const struct product &, int rows, const T *w);
};
#define V(cols, tile, ring)                                                                        \
    {                                                                                              \
#cols " x " #tile ", ring of " #ring " KB", cols / 2 + 1, cols,                            \
            run_variant < skinny_shape < T, cols, tile, (ring) << 10>>                             \
    }
/* columns x rows of a tile */
static const struct variant variants[] = {
    {"cuBLASLt", 1, 64, run_cublas},
    V(8, 64, 104),
    V(16, 64, 64),
    V(16, 64, 104),
    V(32, 64, 104),
    V(32, 128, 104),
    V(64, 64, 104),
    V(64, 128, 104),
};

static double time_of(const struct variant &v, const struct product &p, int rows) {
    enum { RUNS = 7 };
    const size_t each = (size_t)p.n * (size_t)p.k * (p.is_pair ? 2 : 1);
    const int n_places = (int)(n_weights / each), n = each > 200000000 ? 6 : 24;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    must(cudaStreamBeginCapture(cuda.stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess,
         "capture");
    for (int i = 0; i < n; i++)
        if (v.run(p, rows, weights + (size_t)(i % n_places) * each) != OP_OK) {
            cudaStreamEndCapture(cuda.stream, &graph);
            return 0;
        }
    must(cudaStreamEndCapture(cuda.stream, &graph) == cudaSuccess, "end of capture");
    must(cudaGraphInstantiate(&exec, graph, 0) == cudaSuccess, "graph");
    cudaEvent_t begin, end;
    cudaEventCreate(&begin), cudaEventCreate(&end);
    float times[RUNS];
    for (int r = -1; r < RUNS; r++) {
        cudaEventRecord(begin, cuda.stream);
        cudaGraphLaunch(exec, cuda.stream);
        cudaEventRecord(end, cuda.stream);
        must(cudaStreamSynchronize(cuda.stream) == cudaSuccess, v.name);
        if (r >= 0) cudaEventElapsedTime(&times[r], begin, end);
    }
    std::sort(times, times + RUNS);
    cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
    cudaEventDestroy(begin), cudaEventDestroy(end);
    return times[RUNS / 2] * 1e-3 / n;
}

/* Largest difference to the naive result over its root mean square; the bits of a second run. */
static bool is_right(const struct variant &v, const struct product &p, int rows) {
    const size_t n = (size_t)rows * (size_t)p.n, bytes = n * (p.is_float ? 4 : 2);
    void *result = p.is_float ? (void *)logits : y;
    std::vector<float> want(n);
    std::vector<char> got[2];
    naive_kernel<T><<<dim3((unsigned)(p.n + 7) / 8, (unsigned)rows), 256, 0, cuda.stream>>>(
        expected, x, weights, p.is_pair ? weights + (size_t)p.n * p.k : NULL,
        p.adds ? before : NULL, norm_weights, p.n, p.k);
    cudaMemcpyAsync(want.data(), expected, n * 4, cudaMemcpyDeviceToHost, cuda.stream);
    for (auto &g : got) {
        g.resize(bytes);
        cudaMemsetAsync(result, 0xff, bytes, cuda.stream);
        if (p.adds) cudaMemcpyAsync(y, before, bytes, cudaMemcpyDeviceToDevice, cuda.stream);
        if (v.run(p, rows, weights) != OP_OK) return false;
        cudaMemcpyAsync(g.data(), result, bytes, cudaMemcpyDeviceToHost, cuda.stream);
        must(cudaStreamSynchronize(cuda.stream) == cudaSuccess, v.name);
    }
    double squares = 0, worst = 0;
    for (size_t i = 0; i < n; i++) squares += (double)want[i] * want[i];
    const double rms = sqrt(squares / (double)n);
    for (size_t i = 0; i < n; i++) {
        const double value = p.is_float ? ((float *)got[0].data())[i]
                                        : (double)__bfloat162float(((bf16 *)got[0].data())[i]);
        const double error = fabs(value - want[i]) / fmax(rms, fabs(want[i]));
        if (!(error <= worst)) worst = error;
    }
    const bool is_same = got[0] == got[1];
    if (worst > 0.01 || !is_same || isnan(worst))
        printf("WRONG: %s, %s, %d rows: error %.4f, second run %s\n", v.name, p.name, rows, worst,
               is_same ? "equal" : "differs");
    return worst <= 0.01 && is_same;
}

int main(int argc, char **argv) {
    setbuf(stdout, NULL);
    cudaDeviceProp card;
    must(cudaGetDeviceProperties(&card, 0) == cudaSuccess, "no card");
    cuda.n_sms = card.multiProcessorCount, cuda.capability = card.major * 10 + card.minor;
    cuda.shared_bytes = (int)card.sharedMemPerBlockOptin;
    cuda.base.activation = FORMAT_BF16;
    must(cudaStreamCreateWithFlags(&cuda.stream, cudaStreamNonBlocking) == cudaSuccess, "stream");
    must(matmul_open(&cuda) == OP_OK, "cuBLASLt");
    n_weights = (size_t)1200 << 20;
    const size_t n_x = 64 * 18944, n_y = 64 * 37888;
    must(cudaMalloc(&weights, n_weights * 2) == cudaSuccess &&
             cudaMalloc(&x, n_x * 2) == cudaSuccess && cudaMalloc(&y, n_y * 2) == cudaSuccess &&
             cudaMalloc(&before, n_y * 2) == cudaSuccess &&
             cudaMalloc(&logits, 64 * 152064 * 4) == cudaSuccess &&
             cudaMalloc(&expected, 64 * 152064 * 4) == cudaSuccess &&
             cudaMalloc(&norm_weights, 18944 * 4) == cudaSuccess,
         "memory");
    fill_kernel<T><<<1024, 256>>>(weights, n_weights, 0.02f, 1);
    fill_kernel<T><<<1024, 256>>>(x, n_x, 1, 2);
    fill_kernel<T><<<1024, 256>>>(before, n_y, 1, 3);
    fill_kernel<float><<<64, 256>>>(norm_weights, 18944, 1, 4);
    must(cudaDeviceSynchronize() == cudaSuccess, "fill");

    std::vector<int> rows;
    for (int i = 1; i < argc; i++) rows.push_back(atoi(argv[i]));
    if (rows.empty()) rows = {8, 13, 16, 32, 64};
    printf("%s; us, and GB/s of weights\n", card.name);
    for (int r : rows) {
        printf("%2d rows%-24s", r, "");
        for (const struct product &p : products) printf(" %7s      ", p.name);
        printf("    layer\n");
        for (const struct variant &v : variants) {
            if (r < v.least || r > v.most) continue;
            printf("%-31s", v.name);
            double layer = 0;
            for (const struct product &p : products) {
                const bool is_ok = v.run == run_cublas || is_right(v, p, r);
                const double t = time_of(v, p, r);
                const double bytes = 2.0 * p.n * p.k * (p.is_pair ? 2 : 1);
                if (!p.is_float) layer += t;
                printf(" %6.1f%s%5.0f ", t * 1e6, is_ok ? " " : "!", bytes / t * 1e-9);
            }
            printf(" %7.1f\n", layer * 1e6);
        }
    }
    return 0;
}
