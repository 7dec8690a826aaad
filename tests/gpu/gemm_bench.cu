/*
 * gemm_sm90.cu against a naive kernel, then its speed beside cuBLASLt's candidates.
 *
 *   nvcc -std=c++20 -O3 -I. -gencode=arch=compute_90a,code=sm_90a tests/gpu/gemm_bench.cu
 * -lcublasLt gemm_bench [test] [bench] [f16]
 *
 * Every case: odd sizes, outputs start as NaN (or as what is added to), what lies around them is
 * watched, two runs are bit-equal, and rows computed in other company give the same bits.
 * -DQWEN_CUDA_BOUND_WAITS: a wait that never ends says where it is.
 */
#include "kernels/cuda/gemm_sm90.cu"

#include <algorithm>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

enum op_status cuda_status(struct cuda_device *, cudaError_t error) {
    if (error == cudaSuccess) return OP_OK;
    printf("CUDA: %s\n", cudaGetErrorString(error));
    return OP_FAULT;
}

#define CHECK(call)                                                                                \
    do {                                                                                           \
        const int error_ = (int)(call);                                                            \
        if (error_ != 0) {                                                                         \
            printf("%s:%d: error %d\n", __FILE__, __LINE__, error_);                               \
            fflush(stdout);                                                                        \
            _Exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static struct cuda_device cuda;

/* numbers.cuh's to_float() is the device's: called here it would end the program, without a word
 * (tests/lint/device_calls.sh) */
static double number(bf16 x) {
    return (double)__bfloat162float(x);
}
static double number(f16 x) {
    return (double)__half2float(x);
}

/* ---- arrays of 16-bit numbers ---- */

static __host__ __device__ unsigned mix(unsigned x) {
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
    return x;
}

/* About normal. */
template <typename T>
static __global__ void fill_kernel(T *x, size_t n, unsigned seed, float scale) {
    const size_t step = (size_t)gridDim.x * blockDim.x;
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += step) {
        float sum = 0;
        for (unsigned k = 0; k < 4; k++)
            sum += (float)(mix((unsigned)i * 4 + k ^ seed) >> 8) * 0x1p-24f - 0.5f;
        x[i] = from_float<T>(sum * 1.7320508f * scale);
    }
}
template <typename T> static T *array(size_t n, float scale) {
    static unsigned seed = 1;
    T *x;
    CHECK(cudaMalloc((void **)&x, n * sizeof *x));
    fill_kernel<T><<<1024, 256>>>(x, n, seed += 77, scale);
    return x;
}

/* ---- right? ---- */

template <typename T>
static __global__ void naive_kernel(float *y, const T *x, const T *w, const T *up, const T *before,
                                    int rows, int n, int k) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), t = (int)blockIdx.y;
    if (i >= n) return;
    double sum = 0, other = 0;
    for (int c = 0; c < k; c++) {
        const double value = to_float(x[(size_t)t * k + c]);
        sum += value * to_float(w[(size_t)i * k + c]);
        if (up) other += value * to_float(up[(size_t)i * k + c]);
    }
    if (up) sum = sum / (1 + exp(-sum)) * other;
    if (before) sum += to_float(before[(size_t)t * n + i]);
    y[(size_t)t * n + i] = (float)sum;
}

/* Plain products, with or without what is added to: cuBLASLt is as fast (NOTES.md), so only this
 * program has them. */
template <typename T, enum epilogue E>
static enum op_status product(struct cuda_device *cuda, const struct op_linear *op) {
    static const struct gemm_choice choices[] = {CHOICE(128, E), CHOICE(112, E), CHOICE(96, E),
                                                 CHOICE(72, E),  CHOICE(64, E),  CHOICE(56, E)};
    return launch_best(cuda, choices, 6, true, op->y, op->x, op->w->data, op->w->data, op->rows,
                       op->w->rows, op->w->cols);
}

static enum op_status gemm_product(struct cuda_device *cuda, const struct op_linear *op,
                                   bool adds) {
    if (cuda->base.activation == FORMAT_BF16)
        return adds ? product<bf16, ADD>(cuda, op) : product<bf16, STORE>(cuda, op);
    return adds ? product<f16, ADD>(cuda, op) : product<f16, STORE>(cuda, op);
}

enum { STORES, ADDS, SILUS, N_MODES };
static const char *const mode_names[] = {"store", "add", "silu"};

template <typename T> struct gemm_case {
    T *x, *w, *up, *y;
    int rows, n, k, mode;
};

template <typename T> static void run_case(const gemm_case<T> &c, int rows) {
    const struct matrix w = {c.w, cuda.base.activation, c.n, c.k, LAYOUT_STORED};
    const struct op_linear linear = {c.y, c.x, &w, NULL, rows, c.mode == ADDS, false};
    const struct gemm_silu silu = {c.y, c.x, c.w, c.up, rows, c.n, c.k};
    CHECK(c.mode == SILUS ? gemm_silu_mul(&cuda, &silu)
                          : gemm_product(&cuda, &linear, c.mode == ADDS));
}

template <typename T> static bool test_case(int rows, int n, int k, int mode) {
    enum { AROUND = 128 };
    const size_t n_y = (size_t)rows * n;
    gemm_case<T> c = {array<T>((size_t)rows * k, 1),
                      array<T>((size_t)n * k, 1 / sqrtf(k)),
                      array<T>((size_t)n * k, 1 / sqrtf(k)),
                      NULL,
                      rows,
                      n,
                      k,
                      mode};
    T *memory, *before = array<T>(n_y, 1);
    float *expected;
    CHECK(cudaMalloc((void **)&memory, (n_y + 2 * AROUND) * sizeof(T)));
    CHECK(cudaMalloc((void **)&expected, n_y * sizeof(float)));
    c.y = memory + AROUND;
    std::vector<T> got(n_y + 2 * AROUND), again(got.size()), part(got.size());
    std::vector<float> want(n_y);
    const auto run = [&](std::vector<T> &to, int some) {
        CHECK(cudaMemset(memory, 0xff, got.size() * sizeof(T))); /* NaN */
        if (mode == ADDS) CHECK(cudaMemcpy(c.y, before, n_y * sizeof(T), cudaMemcpyDeviceToDevice));
        CHECK(cudaDeviceSynchronize());
        run_case(c, some);
        CHECK(cudaDeviceSynchronize());
        CHECK(cudaMemcpy(to.data(), memory, to.size() * sizeof(T), cudaMemcpyDeviceToHost));
    };
    run(got, rows);
    run(again, rows);
    const int some = rows / 2 + 1;
    run(part, some);
    naive_kernel<T><<<dim3((n + 127) / 128, rows), 128>>>(
        expected, c.x, c.w, mode == SILUS ? c.up : NULL, mode == ADDS ? before : NULL, rows, n, k);
    CHECK(cudaMemcpy(want.data(), expected, n_y * sizeof(float), cudaMemcpyDeviceToHost));
    double error = 0, size = 0, worst = 0;
    for (size_t i = 0; i < n_y; i++) {
        const double d = number(got[AROUND + i]) - want[i];
        error += d * d, size += (double)want[i] * want[i];
        worst = std::max(worst, fabs(d) / (fabs(want[i]) + 0.1));
        if (isnan(d)) worst = NAN;
    }
    error = sqrt(error / size);
    bool is_watched = true;
    for (int i = 0; i < AROUND; i++)
        for (size_t at : {(size_t)i, n_y + AROUND + i})
            is_watched = is_watched && !memcmp(&got[at], "\xff\xff", 2);
    const bool is_same = !memcmp(got.data(), again.data(), got.size() * sizeof(T));
    const bool is_part =
        !memcmp(got.data() + AROUND, part.data() + AROUND, (size_t)some * n * sizeof(T));
    const double bound = sizeof(T) == 2 && is_bf16<T> ? 2.5e-3 : 4e-4;
    const bool is_right = error < bound && worst < 20 * bound && is_watched && is_same && is_part;
    printf("%-5s %5d x %5d x %5d: error %.1e, worst %.1e%s%s%s%s\n", mode_names[mode], rows, n, k,
           error, worst, is_watched ? "" : " WROTE AROUND", is_same ? "" : " RUNS DIFFER",
           is_part ? "" : " COMPANY MATTERS", is_right ? "" : "  WRONG");
    for (void *p :
         {(void *)c.x, (void *)c.w, (void *)c.up, (void *)memory, (void *)before, (void *)expected})
        cudaFree(p);
    fflush(stdout);
    return is_right;
}

template <typename T> static int test(void) {
    static const int sizes[][3] = {{128, 128, 64},   {1, 8, 64},       {257, 256, 512},
                                   {300, 136, 200},  {600, 1000, 72},  {512, 3584, 3584},
                                   {511, 4608, 896}, {777, 4864, 896}, {2048, 3584, 512},
                                   {2300, 896, 4864}};
    int n_wrong = 0;
    for (const auto &s : sizes)
        for (int mode = 0; mode < N_MODES; mode++) n_wrong += !test_case<T>(s[0], s[1], s[2], mode);
    return n_wrong;
}

/* ---- fast? ---- */

static cublasLtHandle_t handle;
static cublasLtMatmulPreference_t preference;
static void *workspace;
static const size_t workspace_bytes = 32 << 20;
static cudaEvent_t from, to;

/* TFLOP/s of `run(i)`, for which i says which of several weights. Long enough that the card is as
 * warm, and as slow for want of power, as in a long prompt. */
template <typename F> static double speed_of(double flop, F run) {
    const int runs = std::max(3, (int)(25e-3 / (flop / 600e12)));
    for (int i = -1; i < runs; i++) {
        if (i == 0) cudaEventRecord(from, cuda.stream);
        run(i + 1);
    }
    cudaEventRecord(to, cuda.stream);
    CHECK(cudaStreamSynchronize(cuda.stream));
    float ms;
    cudaEventElapsedTime(&ms, from, to);
    return flop * runs / ms * 1e-9;
}

struct lt_plan {
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulHeuristicResult_t found[6];
    int n_found;
};
static lt_plan lt_plan_of(int rows, int n, int k) {
    lt_plan p;
    const cudaDataType_t type = cuda.base.activation == FORMAT_F16 ? CUDA_R_16F : CUDA_R_16BF;
    const cublasOperation_t t = CUBLAS_OP_T;
    CHECK(cublasLtMatmulDescCreate(&p.op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CHECK(cublasLtMatmulDescSetAttribute(p.op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
    CHECK(cublasLtMatrixLayoutCreate(&p.w, type, k, n, k));
    CHECK(cublasLtMatrixLayoutCreate(&p.x, type, k, rows, k));
    CHECK(cublasLtMatrixLayoutCreate(&p.y, type, n, rows, n));
    CHECK(cublasLtMatmulAlgoGetHeuristic(handle, p.op, p.w, p.x, p.y, p.y, preference, 6, p.found,
                                         &p.n_found));
    return p;
}

struct shape {
    const char *name;
    int n, k, mode; /* n of SILUS: of gate and up together */
};
static const shape shapes[2][5] = {{{"qkv", 4608, 3584, STORES},
                                    {"o", 3584, 3584, ADDS},
                                    {"gate_up", 37888, 3584, SILUS},
                                    {"down", 3584, 18944, ADDS},
                                    {"gate", 18944, 3584, STORES}},
                                   {{"qkv", 1152, 896, STORES},
                                    {"o", 896, 896, ADDS},
                                    {"gate_up", 9728, 896, SILUS},
                                    {"down", 896, 4864, ADDS},
                                    {"gate", 4864, 896, STORES}}};

template <typename T, enum epilogue E>
static void own_variants(const gemm_case<T> &c, double flop, size_t copies, double *best) {
    const auto time = [&](auto launch, const char *name) {
        const double v = speed_of(flop, [&](int i) {
            launch(&cuda, c.y, c.x, c.w + i % copies * (size_t)c.n * c.k,
                   c.w + i % copies * (size_t)c.n * c.k, c.rows, c.n, c.k);
        });
        printf(" %s %.0f", name, v);
        *best = std::max(*best, v);
    };
    time(gemm_launch<gemm_shape<T, 128, E>>, "256:");
    time(gemm_launch<gemm_shape<T, 112, E>>, "224:");
    time(gemm_launch<gemm_shape<T, 96, E>>, "192:");
    if constexpr (E != SILU) time(gemm_launch<gemm_shape<T, 72, E>>, "144:");
    time(gemm_launch<gemm_shape<T, 64, E>>, "128:");
    if constexpr (E != SILU) time(gemm_launch<gemm_shape<T, 56, E>>, "112:");
}

template <typename T> static void bench(bool is_short) {
    const size_t all = 3ull * 37888 * 3584;
    T *w = array<T>(all, 0.017f), *x = array<T>(8192ull * 18944, 1),
      *y = array<T>(8192ull * 37888, 1);
    static const int row_counts[] = {512, 2048, 8192};
    printf("cuBLASLt %zu; TFLOP/s: the heuristic's first | its others | own kernel by columns of a "
           "tile\n",
           cublasLtGetVersion());
    for (int model = 0; model < 2; model++)
        for (int r = 0; r < (is_short || model ? 2 : 3); r++) {
            const int rows = row_counts[r];
            double sums[3] = {0, 0, 0}; /* us of a layer: first, best candidate, own */
            for (const shape &s : shapes[model]) {
                const lt_plan p = lt_plan_of(rows, s.n, s.k);
                const double flop = 2.0 * rows * s.n * s.k;
                const size_t size = (size_t)s.n * s.k, copies = std::max<size_t>(1, all / size);
                const float one = 1, beta = s.mode == ADDS;
                double first = 0, best = 0, own = 0;
                int at = 0;
                printf("%-5d %-8s", rows, s.name);
                for (int c = -1; c < p.n_found; c++) {
                    const cublasLtMatmulAlgo_t &algo = p.found[c < 0 ? 0 : c].algo;
                    const double v = speed_of(flop, [&](int i) {
                        CHECK(cublasLtMatmul(handle, p.op, &one, w + i % copies * size, p.w, x, p.x,
                                             &beta, y, p.y, y, p.y, &algo, workspace,
                                             workspace_bytes, cuda.stream));
                    });
                    if (c < 0) continue;
                    if (c == 0) first = v;
                    if (v > best) best = v, at = c;
                    printf(c == 0 ? " %.0f |" : " %.0f", v);
                }
                printf(" | ");
                gemm_case<T> k = {x, w, NULL, y, rows, s.n, s.k, s.mode};
                if (s.mode == SILUS) {
                    k.n /= 2;
                    own = speed_of(flop, [&](int i) {
                        gemm_case<T> one_of = k;
                        one_of.w = w + i % copies * size, one_of.up = one_of.w + size / 2;
                        run_case(one_of, rows);
                    });
                    printf("silu: %.0f", own);
                } else if (s.mode == ADDS) {
                    own_variants<T, ADD>(k, flop, copies, &own);
                } else {
                    own_variants<T, STORE>(k, flop, copies, &own);
                }
                int tile = -1, split = -1;
                size_t done;
                cublasLtMatmulAlgoConfigGetAttribute(
                    &p.found[at].algo, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile, sizeof tile, &done);
                cublasLtMatmulAlgoConfigGetAttribute(&p.found[at].algo,
                                                     CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &split,
                                                     sizeof split, &done);
                printf("  (best: %d, tile %d split %d, %.1f us; own %.1f us)\n", at, tile, split,
                       flop / best * 1e-6, flop / own * 1e-6);
                if (strcmp(s.name, "gate") == 0) continue;
                sums[0] += flop / first * 1e-6, sums[1] += flop / best * 1e-6;
                sums[2] += flop / own * 1e-6;
            }
            printf("  %d rows, a layer: first %.0f us, best %.0f us, own (with silu) %.0f us\n",
                   rows, sums[0], sums[1], sums[2]);
            fflush(stdout);
        }
}

int main(int argc, char **argv) {
    bool tests = false, benches = false, half = false;
    for (int i = 1; i < argc; i++) {
        tests |= !strcmp(argv[i], "test");
        benches |= !strcmp(argv[i], "bench");
        half |= !strcmp(argv[i], "f16");
    }
    cudaDeviceProp card;
    CHECK(cudaGetDeviceProperties(&card, 0));
    cuda.n_sms = card.multiProcessorCount, cuda.capability = 10 * card.major + card.minor;
    cuda.base.activation = half ? FORMAT_F16 : FORMAT_BF16;
    CHECK(cudaStreamCreate(&cuda.stream));
    CHECK(cudaEventCreate(&from));
    CHECK(cudaEventCreate(&to));
    CHECK(cublasLtCreate(&handle));
    CHECK(cudaMalloc(&workspace, workspace_bytes));
    CHECK(cublasLtMatmulPreferenceCreate(&preference));
    CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &workspace_bytes, sizeof workspace_bytes));
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    CHECK(cublasLtMatmulPreferenceSetAttribute(
        preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes));
    int n_wrong = 0;
    if (tests) {
        n_wrong = half ? test<f16>() : test<bf16>();
        printf("%s: %d wrong\n", half ? "f16" : "bf16", n_wrong);
    }
    if (benches) half ? bench<f16>(true) : bench<bf16>(false);
    return n_wrong > 0;
}
