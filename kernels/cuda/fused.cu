/*
 * The fused ops. One row (a step of one chat) is a single kernel each: the norm goes in with x, and
 * bias, rotation, cache and activation come with the sums. More rows need their norm first; beyond
 * what skinny.cu takes they are plain products with one kernel for what comes behind them.
 */
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemv.cuh"
#include "kernels/cuda/rotate.cuh"
#include "kernels/cuda/skinny.h"

#define TRY(call)                                                                                  \
    do {                                                                                           \
        const enum op_status status_ = (call);                                                     \
        if (status_ != OP_OK) return status_;                                                      \
    } while (0)

static enum op_status norm_rows(struct cuda_device *cuda, void *y, const void *x,
                                const float *weight, int rows, int n, float eps) {
    const struct op_rms_norm op = {y, x, weight, rows, n, eps};
    return cuda_rms_norm(cuda, &op);
}

static enum op_status product(struct cuda_device *cuda, void *y, const void *x,
                              const struct matrix *w, const float *bias, int rows) {
    const struct op_linear op = {y, x, w, bias, rows, false, false};
    return cuda_linear(cuda, &op);
}

/* ---- qkv ---- */

/* The rows of q, k and v as one matrix, a pair that is rotated together at a time. */
template <typename T> struct qkv_rows {
    const T *q_weight, *k_weight, *v_weight;
    const float *q_bias, *k_bias, *v_bias; /* or NULL */
    struct rope_params rope;
    int n_heads, n_kv_heads, hidden;

    __device__ int part_of(int head) const {
        return head < n_heads ? 0 : head < n_heads + n_kv_heads ? 1 : 2;
    }
    /* The head within its part. */
    __device__ int head_in(int part, int head) const {
        return head - (part > 0 ? n_heads : 0) - (part > 1 ? n_kv_heads : 0);
    }
    __device__ const float *bias_of(int part) const {
        return part == 0 ? q_bias : part == 1 ? k_bias : v_bias;
    }
    __device__ const T *row(int atom, int i) const {
        const int n_pairs = rope.head_size / 2, head = atom / n_pairs, part = part_of(head);
        const int2 at = pair_at(atom % n_pairs, n_pairs, rope.interleaved);
        const int row = head_in(part, head) * rope.head_size + (i ? at.y : at.x);
        const T *w = part == 0 ? q_weight : part == 1 ? k_weight : v_weight;
        return w + (size_t)row * (size_t)hidden;
    }
};

/* To the queries and the cache, rotated. */
template <typename T> struct qkv_job : qkv_rows<T> {
    enum { ATOM = 2 };
    T *q;
    struct kv_view kv;
    struct row_facts rows;

    struct facts {
        int slot;
        float2 bias, rotation;
    };
    __device__ struct facts facts_of(int atom, int col) const {
        const int n = this->rope.head_size, n_pairs = n / 2, head = atom / n_pairs;
        const int i = atom % n_pairs, part = this->part_of(head), own = this->head_in(part, head);
        const int2 at = pair_at(i, n_pairs, this->rope.interleaved);
        const float *bias = this->bias_of(part);
        struct facts f = {rows.slots[col], {0, 0}, {1, 0}};
        if (bias) f.bias = make_float2(bias[own * n + at.x], bias[own * n + at.y]);
        if (part < 2 && f.slot >= 0)
            f.rotation =
                rotation_of(rows, (size_t)col, i, n_pairs, this->rope.logn_tokens, part == 0);
        return f;
    }
    __device__ void look_up(struct facts &, int, int) const {}
    __device__ void finish(const struct facts &f, int atom, int col, const float *sums) const {
        const int n = this->rope.head_size, n_pairs = n / 2, head = atom / n_pairs;
        const int i = atom % n_pairs, part = this->part_of(head), own = this->head_in(part, head);
        if (f.slot < 0) return;
        const int2 at = pair_at(i, n_pairs, this->rope.interleaved);
        const float2 y = rotate(sums[0] + f.bias.x, sums[1] + f.bias.y, f.rotation);
        if (part == 0) {
            T *to = q + ((size_t)col * (size_t)this->n_heads + (size_t)own) * (size_t)n;
            to[at.x] = from_float<T>(y.x);
            to[at.y] = from_float<T>(y.y);
        } else {
            void *plane = part == 1 ? kv.k : kv.v;
            const size_t to = cache_row(kv, f.slot, own);
            store_as(plane, to + (size_t)at.x, kv.format, y.x);
            store_as(plane, to + (size_t)at.y, kv.format, y.y);
        }
    }
};

/* As they come, to q, k and v [rows, heads, K]: where a norm per head is still to come. */
template <typename T> struct qkv_raw_job : qkv_rows<T> {
    enum { ATOM = 2 };
    T *q, *k, *v;

    struct facts {};
    __device__ struct facts facts_of(int, int) const {
        return {};
    }
    __device__ void look_up(struct facts &, int, int) const {}
    __device__ void finish(const struct facts &, int atom, int col, const float *sums) const {
        const int n = this->rope.head_size, n_pairs = n / 2, head = atom / n_pairs;
        const int part = this->part_of(head), own = this->head_in(part, head);
        const int heads = part == 0 ? this->n_heads : this->n_kv_heads;
        const int2 at = pair_at(atom % n_pairs, n_pairs, this->rope.interleaved);
        const float *bias = this->bias_of(part);
        T *to = (part == 0   ? q
                 : part == 1 ? k
                             : v) +
                ((size_t)col * (size_t)heads + (size_t)own) * (size_t)n;
        to[at.x] = from_float<T>(sums[0] + (bias ? bias[own * n + at.x] : 0));
        to[at.y] = from_float<T>(sums[1] + (bias ? bias[own * n + at.y] : 0));
    }
};

/* What the products left of q, k and v: row t of each begins at t times its stride. */
template <typename T> struct finish_args {
    const T *from[3];
    size_t strides[3];
    const float *bias[3];         /* still to be added, or NULL */
    const float *q_norm, *k_norm; /* or NULL */
    T *q;
    float eps;
    struct rope_params rope;
    struct kv_view kv;
    int n_heads;
    struct row_facts rows;
};

enum { FINISH_THREADS = 128, FINISH_WARPS = FINISH_THREADS / WARP, ROWS_TO_SHARE = 64 };

template <typename T, int N> struct alignas(N * sizeof(T)) some { T v[N]; };

template <typename T, int N>
static __device__ __forceinline__ void load_some(float *to, const T *from) {
    const some<T, N> values = *(const some<T, N> *)from;
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_float(values.v[i]);
}
template <typename T, int N>
static __device__ __forceinline__ void store_some(void *to, size_t at, const float *from) {
    some<T, N> values;
#pragma unroll
    for (int i = 0; i < N; i++) values.v[i] = from_float<T>(from[i]);
    *(some<T, N> *)((T *)to + at) = values;
}
template <int N>
static __device__ __forceinline__ void store_some_as(void *to, size_t at, enum format format,
                                                     const float *from) {
    if (format == FORMAT_F16)
        store_some<f16, N>(to, at, from);
    else if (format == FORMAT_BF16)
        store_some<bf16, N>(to, at, from);
    else
        store_some<float, N>(to, at, from);
}

/*
 * Bias, norm per head where there is one, rotation, cache: a warp for each head of a row, or for
 * several, one after the other. A lane has N adjacent pairs, then those 32 N further.
 */
template <typename T, int N>
static __global__ void qkv_finish_kernel(const struct finish_args<T> a) {
    enum { GROUPS = MAX_HEAD_SIZE / 2 / WARP / N };
    let_next_begin();
    const size_t t = blockIdx.x;
    const int lane = (int)threadIdx.x % WARP, n = a.rope.head_size, n_pairs = n / 2;
    const int n_kv = a.kv.n_kv_heads, slot = a.rows.slots[t];
    const int logn_tokens = a.rope.logn_tokens;
    float2 by[GROUPS][N];
#pragma unroll
    for (int j = 0; j < GROUPS; j++)
#pragma unroll
        for (int x = 0; x < N; x++) {
            const int i = (j * WARP + lane) * N + x;
            if (i < n_pairs && slot >= 0) by[j][x] = rotation_of(a.rows, t, i, n_pairs, 0, false);
        }
    const float of_query = slot < 0 ? 1 : logn_of(a.rows.positions[t], logn_tokens);
    wait_for_previous();
    if (slot < 0) return;

    const int warp = (int)(blockIdx.y * FINISH_WARPS + threadIdx.x / WARP);
    for (int head = warp; head < a.n_heads + 2 * n_kv; head += (int)gridDim.y * FINISH_WARPS) {
        const int part = head < a.n_heads ? 0 : head < a.n_heads + n_kv ? 1 : 2;
        const int own = part == 0 ? head : (head - a.n_heads) % n_kv;
        const T *from = a.from[part] + t * a.strides[part] + (size_t)own * (size_t)n;
        const float *bias = a.bias[part] ? a.bias[part] + own * n : NULL;
        const float *norm = part == 0 ? a.q_norm : part == 1 ? a.k_norm : NULL;
        float first[GROUPS][N], second[GROUPS][N], squares = 0;
#pragma unroll
        for (int j = 0; j < GROUPS; j++) {
            const int i = (j * WARP + lane) * N;
            if (i >= n_pairs) break;
            const int2 at = pair_at(i, n_pairs, a.rope.interleaved);
            load_some<T, N>(first[j], from + at.x);
            load_some<T, N>(second[j], from + at.y);
#pragma unroll
            for (int x = 0; x < N; x++) {
                if (bias) first[j][x] += bias[at.x + x], second[j][x] += bias[at.y + x];
                squares += first[j][x] * first[j][x] + second[j][x] * second[j][x];
            }
        }
        const float scale = norm ? 1 / sqrtf(warp_sum(squares) / (float)n + a.eps) : 1;
#pragma unroll
        for (int j = 0; j < GROUPS; j++) {
            const int i = (j * WARP + lane) * N;
            if (i >= n_pairs) break;
            const int2 at = pair_at(i, n_pairs, a.rope.interleaved);
#pragma unroll
            for (int x = 0; x < N; x++) {
                float2 y = make_float2(first[j][x], second[j][x]);
                if (norm) y.x *= scale * norm[at.x + x], y.y *= scale * norm[at.y + x];
                if (part < 2) y = rotate(y.x, y.y, by[j][x]);
                if (part == 0) y.x *= of_query, y.y *= of_query;
                first[j][x] = y.x, second[j][x] = y.y;
            }
            if (part == 0) {
                const size_t to = (t * (size_t)a.n_heads + (size_t)own) * (size_t)n;
                store_some<T, N>(a.q, to + (size_t)at.x, first[j]);
                store_some<T, N>(a.q, to + (size_t)at.y, second[j]);
            } else {
                void *plane = part == 1 ? a.kv.k : a.kv.v;
                const size_t to = cache_row(a.kv, slot, own);
                store_some_as<N>(plane, to + (size_t)at.x, a.kv.format, first[j]);
                store_some_as<N>(plane, to + (size_t)at.y, a.kv.format, second[j]);
            }
        }
    }
}

/* q, k, v: what the products left, without biases if `adds_bias`, one beside the other if
 * `is_packed`. */
template <typename T>
static enum op_status qkv_finish(struct cuda_device *cuda, const struct op_qkv *op, const T *q,
                                 const T *k, const T *v, bool is_packed, bool adds_bias) {
    const size_t n_q = (size_t)op->wq->rows, n_kv = (size_t)op->wk->rows, all = n_q + 2 * n_kv;
    struct finish_args<T> a = {
        {q, k, v}, {is_packed ? all : n_q, is_packed ? all : n_kv, is_packed ? all : n_kv},
            {NULL, NULL, NULL}, op->q_norm, op->k_norm,
            (T *)op->q, op->eps, op->rope, op->kv, op->heads, row_facts_of(op->batch)
    };
    if (adds_bias) a.bias[0] = op->bq, a.bias[1] = op->bk, a.bias[2] = op->bv;
    const int heads = op->heads + 2 * op->kv.n_kv_heads, rows = op->batch->n_rows;
    const bool in_twos = op->rope.head_size % 4 == 0 && !op->rope.interleaved;
    const dim3 grid((unsigned)rows,
                    rows >= ROWS_TO_SHARE ? 2 : blocks_for((size_t)heads, FINISH_WARPS));
    return in_twos ? launch(cuda, qkv_finish_kernel<T, 2>, grid, FINISH_THREADS, 0, a)
                   : launch(cuda, qkv_finish_kernel<T, 1>, grid, FINISH_THREADS, 0, a);
}

static const void *behind(const struct matrix *w) {
    return (const char *)w->data + format_row_bytes(w->format, (size_t)w->rows * (size_t)w->cols);
}

/* Many rows: one product where the three matrices lie side by side, as weights.c has them. */
template <typename T>
static enum op_status qkv_products(struct cuda_device *cuda, const struct op_qkv *op, const T *h,
                                   T *out) {
    const int rows = op->batch->n_rows;
    const size_t n_q = (size_t)op->wq->rows, n_kv = (size_t)op->wk->rows;
    if (behind(op->wq) == op->wk->data && behind(op->wk) == op->wv->data) {
        struct matrix all = *op->wq;
        all.rows += op->wk->rows + op->wv->rows;
        TRY(product(cuda, out, h, &all, NULL, rows));
        return qkv_finish<T>(cuda, op, out, out + n_q, out + n_q + n_kv, true, true);
    }
    T *k = out + (size_t)rows * n_q, *v = k + (size_t)rows * n_kv;
    TRY(product(cuda, out, h, op->wq, NULL, rows));
    TRY(product(cuda, k, h, op->wk, NULL, rows));
    TRY(product(cuda, v, h, op->wv, NULL, rows));
    return qkv_finish<T>(cuda, op, out, k, v, false, true);
}

template <typename T> static enum op_status qkv(struct cuda_device *cuda, const struct op_qkv *op) {
    const int rows = op->batch->n_rows, hidden = op->wq->cols, n_kv = op->wk->rows;
    const int n_atoms = (op->wq->rows + 2 * n_kv) / 2;
    T *h = (T *)op->scratch, *k = h + (size_t)rows * (size_t)hidden;
    T *v = k + (size_t)rows * (size_t)n_kv;
    const struct qkv_rows<T> weights = {
        (const T *)op->wq->data, (const T *)op->wk->data, (const T *)op->wv->data, op->bq, op->bk,
            op->bv, op->rope, op->heads, op->kv.n_kv_heads, hidden
    };
    const bool is_aligned =
        gemv_can<T>(op->wq, op->x) && gemv_can<T>(op->wk, h) && gemv_can<T>(op->wv, h);
    const struct qkv_job<T> job = { {weights}, (T *)op->q, op->kv, row_facts_of(op->batch) };
    const struct qkv_raw_job<T> raw = { {weights}, (T *)op->q, k, v };
    enum op_status status = OP_NOT_SUPPORTED;

    if (is_aligned && rows == 1 && !op->q_norm && !op->k_norm)
        status = gemv_normed<T>(cuda, job, n_atoms, hidden, op->x, NULL, op->norm, op->eps);
    if (status != OP_NOT_SUPPORTED) return status;
    if (is_aligned && rows == 1)
        status = gemv_normed<T>(cuda, raw, n_atoms, hidden, op->x, NULL, op->norm, op->eps);
    if (status == OP_NOT_SUPPORTED) {
        if (rows >= SKINNY_LEAST_ROWS) status = skinny_qkv(cuda, op);
        if (status != OP_NOT_SUPPORTED) return status;
        TRY(norm_rows(cuda, h, op->x, op->norm, rows, hidden, op->eps));
        if (is_aligned && rows <= GEMV_MAX_COLS)
            status = gemv<T>(cuda, raw, n_atoms, hidden, rows, h, NULL);
    }
    if (status == OP_NOT_SUPPORTED) return qkv_products<T>(cuda, op, h, k);
    if (status != OP_OK) return status;
    return qkv_finish<T>(cuda, op, (const T *)op->q, k, v, false, false);
}

enum op_status cuda_qkv(struct cuda_device *cuda, const struct op_qkv *op) {
    return FOR_ACTIVATION(cuda, qkv, cuda, op);
}

/* ---- gate_up ---- */

template <typename T> struct gate_up_job {
    enum { ATOM = 2 };
    const T *gate, *up;
    T *y;
    int n, k;

    __device__ const T *row(int atom, int i) const {
        return (i ? up : gate) + (size_t)atom * (size_t)k;
    }
    struct facts {};
    __device__ struct facts facts_of(int, int) const {
        return {};
    }
    __device__ void look_up(struct facts &, int, int) const {}
    __device__ void finish(const struct facts &, int atom, int col, const float *sums) const {
        const float g = sums[0];
        y[(size_t)col * (size_t)n + (size_t)atom] = from_float<T>(g / (1 + __expf(-g)) * sums[1]);
    }
};

template <typename T>
static enum op_status gate_up(struct cuda_device *cuda, const struct op_gate_up *op) {
    const int rows = op->rows, hidden = op->gate->cols, n = op->gate->rows;
    T *h = (T *)op->scratch, *up = h + (size_t)rows * (size_t)hidden;
    const struct gate_up_job<T> job = {
        (const T *)op->gate->data, (const T *)op->up->data, (T *)op->y, n, hidden
    };
    const bool is_aligned = gemv_can<T>(op->gate, op->x) && gemv_can<T>(op->up, h);
    enum op_status status = OP_NOT_SUPPORTED;
    if (is_aligned && rows == 1)
        status = gemv_normed<T>(cuda, job, n, hidden, op->x, NULL, op->norm, op->eps);
    if (status != OP_NOT_SUPPORTED) return status;
    if (rows >= SKINNY_LEAST_ROWS) status = skinny_gate_up(cuda, op);
    if (status != OP_NOT_SUPPORTED) return status;
    TRY(norm_rows(cuda, h, op->x, op->norm, rows, hidden, op->eps));
    if (is_aligned && rows <= GEMV_MAX_COLS) status = gemv<T>(cuda, job, n, hidden, rows, h, NULL);
    if (status != OP_NOT_SUPPORTED) return status;
#ifdef QWEN_CUDA_SM90A
    if (gemm_can(cuda, h, op->gate, rows) && gemm_can(cuda, op->y, op->up, rows)) {
        const struct gemm_silu silu = {op->y, h, op->gate->data, op->up->data, rows, n, hidden};
        return gemm_silu_mul(cuda, &silu);
    }
#endif
    TRY(product(cuda, op->y, h, op->gate, NULL, rows));
    TRY(product(cuda, up, h, op->up, NULL, rows));
    const struct op_silu_mul mul = {op->y, op->y, up, (size_t)rows * (size_t)n};
    return cuda_silu_mul(cuda, &mul);
}

enum op_status cuda_gate_up(struct cuda_device *cuda, const struct op_gate_up *op) {
    return FOR_ACTIVATION(cuda, gate_up, cuda, op);
}

/* ---- head ---- */

template <typename T> struct head_job {
    enum { ATOM = 1 };
    const T *w;
    float *logits;
    int n, k;

    __device__ const T *row(int atom, int) const {
        return w + (size_t)atom * (size_t)k;
    }
    struct facts {};
    __device__ struct facts facts_of(int, int) const {
        return {};
    }
    __device__ void look_up(struct facts &, int, int) const {}
    __device__ void finish(const struct facts &, int atom, int col, const float *sums) const {
        logits[(size_t)col * (size_t)n + (size_t)atom] = sums[0];
    }
};

template <typename T>
static enum op_status head(struct cuda_device *cuda, const struct op_head *op) {
    const int rows = op->batch->n_outputs, hidden = op->w->cols;
    const struct head_job<T> job = { (const T *)op->w->data, op->logits, op->w->rows, hidden };
    enum op_status status = OP_NOT_SUPPORTED;
    if (rows == 1 && gemv_can<T>(op->w, op->x))
        status = gemv_normed<T>(cuda, job, op->w->rows, hidden, op->x, op->batch->outputs, op->norm,
                                op->eps);
    if (status != OP_NOT_SUPPORTED) return status;
    const struct op_gather gather = {op->scratch, op->x, hidden, op->batch};
    TRY(cuda_gather(cuda, &gather));
    TRY(norm_rows(cuda, op->scratch, op->scratch, op->norm, rows, hidden, op->eps));
    const struct op_linear linear = {op->logits, op->scratch, op->w, NULL, rows, false, true};
    return cuda_linear(cuda, &linear);
}

enum op_status cuda_head(struct cuda_device *cuda, const struct op_head *op) {
    return FOR_ACTIVATION(cuda, head, cuda, op);
}
