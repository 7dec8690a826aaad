/*
 * Products of prefill: what cuBLASLt's candidates reach, shape by shape.
 *
 *   nvcc -std=c++17 -O3 tests/gpu/gemm_bench.cu -lcublasLt; gemm_bench [f16]
 */
#include <algorithm>
#include <cublasLt.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#define CHECK(call) do { auto e_ = (call); if (e_) { printf("%s:%d: %d\n", __FILE__, __LINE__, (int)e_); exit(1);} } while (0)

__global__ void fill(__nv_bfloat16 *x, size_t n, unsigned seed, float scale, bool half) {
    for (size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        float s = 0;
        unsigned h = (unsigned)i * 2654435761u ^ seed;
        for (int k = 0; k < 4; k++) {
            h ^= h >> 16, h *= 0x7feb352du, h ^= h >> 15, h *= 0x846ca68bu, h ^= h >> 16;
            s += (float)(h >> 8) * (1.0f / (1 << 24)) - 0.5f;
        }
        s *= 1.7320508f * scale;
        if (half) ((__half *)x)[i] = __float2half_rn(s);
        else x[i] = __float2bfloat16_rn(s);
    }
}
static __nv_bfloat16 *array(size_t n, float scale, bool half) {
    __nv_bfloat16 *p;
    CHECK(cudaMalloc(&p, n * 2));
    fill<<<1024, 256>>>(p, n, (unsigned)n, scale, half);
    return p;
}
struct shape { const char *name; int n, k; float beta; };
static const shape shapes7[] = {
    {"q", 3584, 3584, 0}, {"k", 512, 3584, 0}, {"qkv", 4608, 3584, 0}, {"o", 3584, 3584, 1},
    {"gate", 18944, 3584, 0}, {"gate_up", 37888, 3584, 0}, {"down", 3584, 18944, 1}};
static const shape shapes05[] = {
    {"q", 896, 896, 0}, {"qkv", 1152, 896, 0}, {"o", 896, 896, 1},
    {"gate", 4864, 896, 0}, {"gate_up", 9728, 896, 0}, {"down", 896, 4864, 1}};

int main(int argc, char **argv) {
    const bool half = argc > 1 && !strcmp(argv[1], "f16");
    const cudaDataType_t type = half ? CUDA_R_16F : CUDA_R_16BF;
    cublasLtHandle_t handle;
    CHECK(cublasLtCreate(&handle));
    const size_t workspace = 32 << 20;
    void *ws;
    CHECK(cudaMalloc(&ws, workspace));
    cudaStream_t stream;
    CHECK(cudaStreamCreate(&stream));
    cudaEvent_t from, to;
    CHECK(cudaEventCreate(&from)); CHECK(cudaEventCreate(&to));
    __nv_bfloat16 *w = array(3ull * 37888 * 3584, 0.017f, half), *x = array(8192ull * 18944, 1, half);
    __nv_bfloat16 *y = array(8192ull * 37888, 1, half);
    cublasLtMatmulPreference_t pref;
    CHECK(cublasLtMatmulPreferenceCreate(&pref));
    CHECK(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace));
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    CHECK(cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof schemes));
    printf("cublasLt %zu\n%-5s %-8s %6s | %s\n", cublasLtGetVersion(), "rows", "what", "first", "TFLOP/s of each candidate");
    for (int small = 0; small < 2; small++) {
        const shape *shapes = small ? shapes05 : shapes7;
        const int n_shapes = small ? 6 : 7;
        const int rows_of[] = {512, 2048, 4096, 8192, 1024};
        for (int r = 0; r < (half ? 2 : small ? 2 : 4); r++) {
            const int rows = rows_of[r];
            double first_sum = 0, best_sum = 0;
            for (int i = 0; i < n_shapes; i++) {
                const shape &s = shapes[i];
                cublasLtMatmulDesc_t op;
                cublasLtMatrixLayout_t lw, lx, ly;
                const cublasOperation_t t = CUBLAS_OP_T;
                CHECK(cublasLtMatmulDescCreate(&op, CUBLAS_COMPUTE_32F, CUDA_R_32F));
                CHECK(cublasLtMatmulDescSetAttribute(op, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
                CHECK(cublasLtMatrixLayoutCreate(&lw, type, s.k, s.n, s.k));
                CHECK(cublasLtMatrixLayoutCreate(&lx, type, s.k, rows, s.k));
                CHECK(cublasLtMatrixLayoutCreate(&ly, type, s.n, rows, s.n));
                cublasLtMatmulHeuristicResult_t found[12];
                int n = 0;
                CHECK(cublasLtMatmulAlgoGetHeuristic(handle, op, lw, lx, ly, ly, pref, 12, found, &n));
                const float one = 1;
                std::vector<double> speed;
                double best = 0;
                const double flop = 2.0 * rows * s.n * s.k;
                const int runs = std::max(3, (int)(8e-3 / (flop / 600e12)));
                const size_t copies = std::max<size_t>(1, 3ull * 37888 * 3584 / ((size_t)s.n * s.k));
                const auto time = [&](int c) {
                    for (int k = -1; k < runs; k++) {
                        if (k == 0) cudaEventRecord(from, stream);
                        CHECK(cublasLtMatmul(handle, op, &one, w + (k + 1) % copies * (size_t)s.n * s.k, lw, x, lx, &s.beta, y, ly, y, ly, &found[c].algo, ws, workspace, stream));
                    }
                    cudaEventRecord(to, stream);
                    CHECK(cudaStreamSynchronize(stream));
                    float ms;
                    cudaEventElapsedTime(&ms, from, to);
                    return flop * runs / ms * 1e-9;
                };
                time(0);
                for (int c = 0; c < n; c++) {
                    speed.push_back(time(c));
                    best = std::max(best, speed.back());
                }
                printf("%-5d %-8s %6.0f |", rows, s.name, speed[0]);
                for (double v : speed) printf(" %.0f", v);
                const int c = (int)(std::max_element(speed.begin(), speed.end()) - speed.begin());
                int id = -1, tile = -1, stages = -1, splitk = -1; 
                size_t done;
                cublasLtMatmulAlgoConfigGetAttribute(&found[c].algo, CUBLASLT_ALGO_CONFIG_ID, &id, sizeof id, &done);
                cublasLtMatmulAlgoConfigGetAttribute(&found[c].algo, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile, sizeof tile, &done);
                cublasLtMatmulAlgoConfigGetAttribute(&found[c].algo, CUBLASLT_ALGO_CONFIG_STAGES_ID, &stages, sizeof stages, &done);
                cublasLtMatmulAlgoConfigGetAttribute(&found[c].algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splitk, sizeof splitk, &done);
                printf("  best #%d: algo %d tile %d stages %d split %d ws %zu, %.1f us\n", c, id, tile, stages, splitk, found[c].workspaceSize, flop / best * 1e-6);
                if (strcmp(s.name, "q") && strcmp(s.name, "k") && strcmp(s.name, "gate")) first_sum += flop / speed[0] * 1e-6, best_sum += flop / best * 1e-6;
            }
            printf("      a layer (qkv, o, gate_up, down): first %.0f us, best %.0f us\n", first_sum, best_sum);
            fflush(stdout);
        }
    }
    return 0;
}
