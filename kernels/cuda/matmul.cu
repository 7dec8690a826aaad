/*
 * Products with many rows, by cuBLASLt. The algorithm for each shape is what the library's
 * heuristic puts first, asked once per shape. Everything is allocated when the device opens.
 */
#include "kernels/cuda/cuda.h"

#include <stdlib.h>

enum { N_PLANS = 512, WORKSPACE_BYTES = 32 << 20 };

/* What one shape is computed with. Row major y [rows, n] is column major [n, rows] to cuBLASLt. */
struct matmul_plan {
    int rows, n, k;
    bool adds, y_is_float, is_used;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algorithm;
};

struct matmul {
    cublasLtHandle_t handle;
    void *workspace;
    struct matmul_plan plans[N_PLANS]; /* by hash, the newest in its place */
};

static cudaDataType_t type_of(enum format format) {
    return format == FORMAT_BF16 ? CUDA_R_16BF : format == FORMAT_F16 ? CUDA_R_16F : CUDA_R_32F;
}

enum op_status matmul_open(struct cuda_device *cuda) {
    struct matmul *m = (struct matmul *)calloc(1, sizeof *m);
    if (!m) return OP_NO_MEMORY;
    cuda->matmul = m;
    if (cublasLtCreate(&m->handle) != CUBLAS_STATUS_SUCCESS) return OP_FAULT;
    return cuda_status(cuda, cudaMalloc(&m->workspace, WORKSPACE_BYTES));
}

static void plan_release(struct matmul_plan *plan) {
    if (plan->operation) cublasLtMatmulDescDestroy(plan->operation);
    if (plan->w) cublasLtMatrixLayoutDestroy(plan->w);
    if (plan->x) cublasLtMatrixLayoutDestroy(plan->x);
    if (plan->y) cublasLtMatrixLayoutDestroy(plan->y);
    *plan = {};
}

void matmul_close(struct cuda_device *cuda) {
    struct matmul *m = cuda->matmul;
    if (!m) return;
    for (int i = 0; i < N_PLANS; i++) plan_release(&m->plans[i]);
    if (m->handle) cublasLtDestroy(m->handle);
    cudaFree(m->workspace);
    free(m);
    cuda->matmul = NULL;
}

static bool choose_algorithm(struct matmul *m, struct matmul_plan *plan) {
    cublasLtMatmulPreference_t preference;
    const size_t workspace = WORKSPACE_BYTES;
    cublasLtMatmulHeuristicResult_t result = {};
    int n_found = 0;
    if (cublasLtMatmulPreferenceCreate(&preference) != CUBLAS_STATUS_SUCCESS) return false;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                         &workspace, sizeof workspace);
    /* sums are split, if at all, in float: not in the rounded output */
    const uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                         &schemes, sizeof schemes);
    cublasLtMatmulAlgoGetHeuristic(m->handle, plan->operation, plan->w, plan->x, plan->y, plan->y,
                                   preference, 1, &result, &n_found);
    cublasLtMatmulPreferenceDestroy(preference);
    plan->algorithm = result.algo;
    return n_found > 0;
}

static bool plan_make(struct cuda_device *cuda, struct matmul_plan *plan, int rows, int n, int k,
                      bool adds, bool y_is_float) {
    const cudaDataType_t type = type_of(cuda->base.activation);
    const cudaDataType_t y_type = y_is_float ? CUDA_R_32F : type;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    plan_release(plan);
    if (cublasLtMatmulDescCreate(&plan->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F) ||
        cublasLtMatmulDescSetAttribute(plan->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                       sizeof transposed) ||
        cublasLtMatrixLayoutCreate(&plan->w, type, (uint64_t)k, (uint64_t)n, k) ||
        cublasLtMatrixLayoutCreate(&plan->x, type, (uint64_t)k, (uint64_t)rows, k) ||
        cublasLtMatrixLayoutCreate(&plan->y, y_type, (uint64_t)n, (uint64_t)rows, n) ||
        !choose_algorithm(cuda->matmul, plan))
        return false;
    plan->rows = rows, plan->n = n, plan->k = k;
    plan->adds = adds, plan->y_is_float = y_is_float, plan->is_used = true;
    return true;
}

static struct matmul_plan *plan_for(struct cuda_device *cuda, const struct op_linear *op,
                                    bool adds) {
    const int rows = op->rows, n = op->w->rows, k = op->w->cols;
    unsigned hash = (unsigned)rows * 2654435761u ^ (unsigned)n * 40503u ^ (unsigned)k * 2246822519u;
    hash = (hash ^ hash >> 15) * 2 + (adds ? 1 : 0);
    struct matmul_plan *plan = &cuda->matmul->plans[hash % N_PLANS];
    if (plan->is_used && plan->rows == rows && plan->n == n && plan->k == k && plan->adds == adds &&
        plan->y_is_float == op->y_is_float)
        return plan;
    return plan_make(cuda, plan, rows, n, k, adds, op->y_is_float) ? plan : NULL;
}

enum op_status matmul_run(struct cuda_device *cuda, const struct op_linear *op, float beta) {
    const float one = 1;
    struct matmul *m = cuda->matmul;
    const struct matmul_plan *plan = plan_for(cuda, op, beta != 0);
    if (!plan) return OP_NOT_SUPPORTED;
    const cublasStatus_t status = cublasLtMatmul(
        m->handle, plan->operation, &one, op->w->data, plan->w, op->x, plan->x, &beta, op->y,
        plan->y, op->y, plan->y, &plan->algorithm, m->workspace, WORKSPACE_BYTES, cuda->stream);
    if (status == CUBLAS_STATUS_SUCCESS) return OP_OK;
    return status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE
               ? OP_NOT_SUPPORTED
               : cuda_status(cuda, cudaErrorLaunchFailure);
}
