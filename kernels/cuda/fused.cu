/*
 * The fused ops. One row (a step of one chat) is a single kernel each: the norm goes in with x, and
 * bias, rotation, cache and activation come with the sums. More rows need their norm first; beyond
 * what skinny.cu takes they are plain products with one kernel for what comes behind them.
 */
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

/* Norm per head where there is one, rotation, cache: a warp for each head of a row. */
template <typename T> struct finish_args {
    T *q;
    const T *k, *v;
    const float *q_norm, *k_norm; /* or NULL */
    float eps;
    struct rope_params rope;
    struct kv_view kv;
    int n_heads;
    struct row_facts rows;
};

enum { FINISH_THREADS = 128, MAX_PAIRS_OF_LANE = MAX_HEAD_SIZE / 2 / WARP };

template <typename T> static __global__ void qkv_finish_kernel(const struct finish_args<T> a) {
    let_next_begin();
    wait_for_previous();
    const size_t t = blockIdx.x;
    const int lane = (int)threadIdx.x % WARP, n = a.rope.head_size, n_pairs = n / 2;
    const int head = (int)(blockIdx.y * (FINISH_THREADS / WARP) + threadIdx.x / WARP);
    const int n_kv = a.kv.n_kv_heads, slot = a.rows.slots[t];
    if (head >= a.n_heads + 2 * n_kv || slot < 0) return;
    const int part = head < a.n_heads ? 0 : head < a.n_heads + n_kv ? 1 : 2;
    const int own = part == 0 ? head : (head - a.n_heads) % n_kv;
    const int heads = part == 0 ? a.n_heads : n_kv;
    const size_t from = (t * (size_t)heads + (size_t)own) * (size_t)n;
    const T *x = (part == 0 ? a.q : part == 1 ? a.k : a.v) + from;

    float2 y[MAX_PAIRS_OF_LANE];
    float squares = 0;
#pragma unroll
    for (int j = 0; j < MAX_PAIRS_OF_LANE; j++) {
        const int i = j * WARP + lane;
        if (i >= n_pairs) break;
        const int2 at = pair_at(i, n_pairs, a.rope.interleaved);
        y[j] = make_float2(to_float(x[at.x]), to_float(x[at.y]));
        squares += y[j].x * y[j].x + y[j].y * y[j].y;
    }
    const float *norm = part == 0 ? a.q_norm : part == 1 ? a.k_norm : NULL;
    const float scale = norm ? 1 / sqrtf(warp_sum(squares) / (float)n + a.eps) : 1;
#pragma unroll
    for (int j = 0; j < MAX_PAIRS_OF_LANE; j++) {
        const int i = j * WARP + lane;
        if (i >= n_pairs) break;
        const int2 at = pair_at(i, n_pairs, a.rope.interleaved);
        if (norm) y[j].x *= scale * norm[at.x], y[j].y *= scale * norm[at.y];
        if (part < 2)
            y[j] = rotate(y[j].x, y[j].y,
                          rotation_of(a.rows, t, i, n_pairs, a.rope.logn_tokens, part == 0));
        if (part == 0) {
            a.q[from + (size_t)at.x] = from_float<T>(y[j].x);
            a.q[from + (size_t)at.y] = from_float<T>(y[j].y);
        } else {
            void *plane = part == 1 ? a.kv.k : a.kv.v;
            const size_t to = cache_row(a.kv, slot, own);
            store_as(plane, to + (size_t)at.x, a.kv.format, y[j].x);
            store_as(plane, to + (size_t)at.y, a.kv.format, y[j].y);
        }
    }
}

template <typename T>
static enum op_status qkv_finish(struct cuda_device *cuda, const struct op_qkv *op, const T *k,
                                 const T *v) {
    const struct finish_args<T> a = {
        (T *)op->q, k, v, op->q_norm, op->k_norm, op->eps, op->rope, op->kv, op->heads,
            row_facts_of(op->batch)
    };
    const size_t heads = (size_t)(op->heads + 2 * op->kv.n_kv_heads);
    const dim3 grid((unsigned)op->batch->n_rows, blocks_for(heads, FINISH_THREADS / WARP));
    return launch(cuda, qkv_finish_kernel<T>, grid, FINISH_THREADS, 0, a);
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
    if (status == OP_NOT_SUPPORTED) {
        TRY(product(cuda, op->q, h, op->wq, op->bq, rows));
        TRY(product(cuda, k, h, op->wk, op->bk, rows));
        TRY(product(cuda, v, h, op->wv, op->bv, rows));
        status = OP_OK;
    }
    return status == OP_OK ? qkv_finish<T>(cuda, op, k, v) : status;
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
    if (is_aligned && status == OP_NOT_SUPPORTED && rows <= GEMV_MAX_COLS)
        status = gemv<T>(cuda, job, n, hidden, rows, h, NULL);
    if (status != OP_NOT_SUPPORTED) return status;
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
