/*
 * THE contract of the kernels. One struct per op: formula, shapes, aliasing.
 *
 * Shape letters, used everywhere:
 *   T rows (tokens) of the pass   S sequences          R rows whose logits are wanted
 *   D hidden size                 F feed-forward size  V vocabulary   L layers
 *   H query heads                 G key/value heads    K head size (H is a multiple of G)
 * Arrays are dense, row major, innermost last: [T, D] has x[t * D + d].
 *
 * Rules:
 *   - Pointers are device memory. "act" arrays hold the device's activation format
 *     (device->activation; FORMAT_F32 on the CPU). Norm weights, biases, inv_freq and logits are
 *     float on every device.
 *   - Outputs do not overlap inputs unless the op says so. Nothing is read outside the stated
 *     shapes, nothing outside them is written.
 *   - An op allocates nothing, waits for nothing, prints nothing and reads no device value on the
 *     host: any sequence of ops can be recorded and replayed. What may differ between replays is
 *     read from the arrays of struct op_batch; the counts in it are the recording's size class.
 *   - Sums are in float or wider. NaN and Inf propagate.
 *   - Return OP_OK or a code; the caller, who knows the tensor's name, makes the sentence.
 */
#pragma once

#include "kernels/layout.h"
#include "kernels/sampling.h"

#ifdef __cplusplus
extern "C" {
#endif

enum op_status {
    OP_OK = 0,
    OP_BAD_SHAPE,     /* a size is zero, negative or does not divide */
    OP_BAD_FORMAT,    /* the device has no kernel for that storage format */
    OP_NO_MEMORY,     /* host or device memory */
    OP_FAULT,         /* the device failed; nothing it holds can be trusted any more */
    OP_NOT_SUPPORTED, /* the backend lacks this */
    OP_NOT_FINITE,    /* a weight is NaN or an infinity */
};
const char *op_status_text(enum op_status status); /* "out of memory" */

enum { MAX_HEAD_SIZE = 256 }; /* K of attention and rope; backends size their scratch by it */

/* A weight, [rows, cols]. STORED: each row format_row_bytes(format, cols) long, rows adjacent; else
 * as the device packed it (device.h). */
struct matrix {
    const void *data;
    enum format format;
    int rows, cols;
    enum matrix_layout layout; /* LAYOUT_STORED is 0 */
};

/*
 * One pass over rows of several sequences. Rows of a sequence are adjacent and in order; a row
 * with slot -1 is padding: it writes no keys, and its outputs mean nothing.
 */
struct op_batch {
    int n_rows;                 /* T */
    int n_seqs;                 /* S */
    int n_outputs;              /* R */
    int max_blocks;             /* columns of block_table */
    const int32_t *tokens;      /* [T] ids; below 0: op_embed tells */
    const int32_t *positions;   /* [T] from 0; a row sees the keys 0..position of its sequence */
    const int32_t *seq_of;      /* [T] */
    const int32_t *slots;       /* [T] block * block_tokens + offset, or -1 */
    const int32_t *starts;      /* [S + 1] first row of each sequence */
    const int32_t *block_table; /* [S, max_blocks] KV blocks of each sequence, in order */
    const float *inv_freq;      /* [S, K / 2] rotary frequencies: per sequence, v1's NTK differs */
    const float *rope_scale;    /* [S] factor on cos and sin (YaRN); else 1 */
    const int32_t *outputs;     /* [R] rows whose logits are wanted */
    const struct draw *draws;   /* [R] how a token is drawn from them */
};

/* The KV cache of one layer: k and v are [blocks, G, block_tokens, K] in `format`. */
struct kv_view {
    void *k, *v;
    enum format format;
    int block_tokens, n_kv_heads, head_size;
};

/* How queries and keys are rotated, and v1's logn scaling of queries. */
struct rope_params {
    int head_size;    /* K, even */
    bool interleaved; /* pairs (2i, 2i+1), as GGUF stores `llama`; else (i, i + K/2) */
    int logn_tokens;  /* 0, or: a query at position p >= this is scaled by log(p+1)/log(this) */
};

/*
 * y[t] = table[id], seen[slots[t]] = id         y act [T, D], table [V, D]; ids are in range
 * id = tokens[t]; where that is below 0, drawn[-1 - tokens[t]]: what op_sample drew in the pass
 * before, which the host need not know yet (below 0 there too: nothing was drawn, id is 0).
 */
struct op_embed {
    void *y;
    const struct matrix *table;
    const int32_t *drawn; /* NULL where no token is below 0 */
    int32_t *seen;        /* [blocks * block_tokens] which token a KV slot belongs to, or NULL */
    const struct op_batch *batch;
};

/* y[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight      act [rows, n]; y may be x */
struct op_rms_norm {
    void *y;
    const void *x;
    const float *weight; /* [n] */
    int rows, n;
    float eps;
};

/* y[t] = w x[t] + bias (+ y[t] where `accumulate`)      x act [rows, w.cols], y [rows, w.rows] */
struct op_linear {
    void *y;
    const void *x;
    const struct matrix *w;
    const float *bias; /* [w.rows] or NULL */
    int rows;
    bool accumulate;
    bool y_is_float; /* y is float, not act: the logits */
};

/*
 * Rotates x act [T, heads, K] in place, by positions[t] * inv_freq[seq_of[t]] (product in float).
 * Sources: RoFormer, arXiv 2104.09864; logn: arXiv 2202.12172.
 */
struct op_rope {
    void *x;
    int heads;
    bool is_query; /* logn applies to queries only */
    struct rope_params rope;
    const struct op_batch *batch;
};

/* cache[slots[t]] = k[t], v[t]       act [T, G, K]; rows with slot -1 are left out */
struct op_kv_write {
    const void *k, *v;
    struct kv_view kv;
    const struct op_batch *batch;
};

/*
 * y[t,h] = sum_j softmax_j(scale * q[t,h] . k[j, h / (H/G)]) v[j, h / (H/G)]
 * over the keys j of t's sequence with position - window < j <= position (window 0: all).
 * q, y act [T, H, K].
 */
struct op_attention {
    void *y;
    const void *q;
    struct kv_view kv;
    int heads; /* H */
    int window;
    float scale;
    const struct op_batch *batch;
};

/* y[i] = gate[i] * sigmoid(gate[i]) * up[i]        act [n]; y may be gate */
struct op_silu_mul {
    void *y;
    const void *gate, *up;
    size_t n;
};

/* y[r] = x[outputs[r]]               x act [T, n], y act [R, n] */
struct op_gather {
    void *y;
    const void *x;
    int n;
    const struct op_batch *batch;
};

/*
 * From the residual stream to queries and cached keys and values:
 *   h = rms_norm(x); q, k, v = linear(h) + biases; q_norm, k_norm per head where given;
 *   rope on q and k; kv_write.
 */
struct op_qkv {
    void *q;                           /* out, act [T, H, K] */
    const void *x;                     /* act [T, D] */
    const float *norm;                 /* [D] */
    const struct matrix *wq, *wk, *wv; /* [H K, D], [G K, D], [G K, D] */
    const float *bq, *bk, *bv;         /* or NULL */
    const float *q_norm, *k_norm;      /* [K] or NULL (Qwen3) */
    float eps;
    struct rope_params rope;
    struct kv_view kv;
    int heads; /* H */
    const struct op_batch *batch;
    void *scratch; /* act [T, D + (H + 2 G) K] */
};

/* y = silu(gate h) * (up h), h = rms_norm(x)        x act [T, D], y act [T, F] */
struct op_gate_up {
    void *y;
    const void *x;
    const float *norm; /* [D] */
    const struct matrix *gate, *up;
    float eps;
    int rows;
    void *scratch; /* act [T, D + F] */
};

/* logits[r] = w rms_norm(x[outputs[r]])             x act [T, D], logits float [R, V] */
struct op_head {
    float *logits;
    const void *x;
    const float *norm; /* [D] */
    const struct matrix *w;
    float eps;
    const struct op_batch *batch;
    void *scratch; /* act [R, D] */
};

/*
 * drawn[r] = a token of sequence seq_of[outputs[r]], drawn from logits[r] as draws[r] says, by the
 * steps of sampling.h; SAMPLE_NOTHING where none is wanted. The tokens before it, which penalties
 * look at, are those in `seen` at positions 0 .. positions[outputs[r]].
 */
struct op_sample {
    int32_t *drawn;      /* [R] */
    const float *logits; /* [R, V] */
    int vocab;
    const uint8_t *is_token; /* [V] 0: never drawn; one at least is 1. NULL: all are tokens */
    const int32_t *seen;     /* as op_embed left it */
    int block_tokens;
    const struct op_batch *batch;
};

struct device;

/* The op table that a device carries: ops->linear(device, &(struct op_linear){ … }). */
struct ops {
#define PLAIN(name) enum op_status (*name)(struct device *, const struct op_##name *);
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED
};

/* ops.c: OP_OK, or what is wrong with the sizes and formats of an op; reads no device memory. Every
 * backend asks before it runs or records the op. */
#define PLAIN(name) enum op_status op_check_##name(const struct op_##name *);
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

/* fused.c: each fused op as plain ops of the same device. A backend's table starts from these. */
#define PLAIN(name)
#define FUSED(name) enum op_status fused_##name(struct device *, const struct op_##name *);
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

#ifdef __cplusplus
}
#endif
