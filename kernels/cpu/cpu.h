/*
 * Inside the CPU backend: how an op runs.
 *
 * An op is a function that all threads of the team enter together, each with its part. It shares
 * the work out by part_range() or part_take(), may meet the others in part_barrier(), and uses the
 * memory the part carries; it allocates nothing and checks nothing (kernels/ops.c did). Whatever
 * the number of threads, each output is computed by one thread in one order, so results are the
 * same bits.
 */
#pragma once

#include "kernels/cpu/threads.h"
#include "kernels/cpu/variants.h"
#include "kernels/device.h"

struct part {
    int index, count; /* this thread of how many */
    const struct cpu_variant *variant;
    struct team *team;
    void *scratch; /* this thread's, CPU_SCRATCH_BYTES */
    void *shared;  /* all threads', as large as the op asked for: cpu_*_shared_bytes() */
};

enum { CPU_SCRATCH_BYTES = 512 << 10 };

struct range {
    size_t from, to;
};

/* This thread's share of n things, of even pieces of `step`. */
static inline struct range part_range(struct part part, size_t n, size_t step) {
    size_t n_steps = (n + step - 1) / step, count = (size_t)part.count, index = (size_t)part.index;
    struct range range = {n_steps * index / count * step, n_steps * (index + 1) / count * step};
    if (range.to > n) range.to = n;
    if (range.from > n) range.from = n;
    return range;
}

/* The first of n more things that no thread has taken; at most one loop of takes per barrier. */
static inline size_t part_take(struct part part, size_t n) {
    return team_take(part.team, n);
}

/* The first of those meant for thread `whose` that no thread has taken. */
static inline size_t part_take_of(struct part part, int whose) {
    return team_take_of(part.team, whose);
}

static inline void part_barrier(struct part part) {
    team_barrier(part.team);
}

static inline int smaller(int a, int b) {
    return a < b ? a : b;
}

static inline int larger(int a, int b) {
    return a > b ? a : b;
}

#define PLAIN(name) void cpu_##name(const struct op_##name *op, struct part part);
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

/* Is the fused op one that cpu_<name> can run: by rounded activations? Else it is run as plain ops
 * (kernels/fused.c). */
#define PLAIN(name)
#define FUSED(name)                                                                                \
    bool cpu_fuses_##name(const struct op_##name *op, const struct cpu_variant *variant);
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

/* Bytes of part.shared that these need with so many threads. */
size_t cpu_attention_shared_bytes(const struct op_attention *op, int n_threads);
size_t cpu_sample_shared_bytes(const struct op_sample *op, int n_threads);
size_t cpu_linear_shared_bytes(const struct op_linear *op);
size_t cpu_qkv_shared_bytes(const struct op_qkv *op);
size_t cpu_gate_up_shared_bytes(const struct op_gate_up *op);
size_t cpu_head_shared_bytes(const struct op_head *op);

/* ---- what plain and fused ops share ---- */

/* rms_norm of a row: y = x * factor * weight */
float cpu_norm_factor(const float *x, int n, float eps);
void cpu_norm_scale(float *y, const float *x, float factor, const float *weight, int n);

/* rope of a row, which is not padding: the same for all its heads */
struct rotation {
    float cosines[MAX_HEAD_SIZE / 2], sines[MAX_HEAD_SIZE / 2];
    float query_scale; /* logn */
};
void cpu_rotation(struct rotation *out, const struct rope_params *rope,
                  const struct op_batch *batch, size_t t);
void cpu_rotate(float *x, const struct rotation *rotation, const struct rope_params *rope,
                bool is_query);

/* kv_write of one head's key or value [K] */
void cpu_kv_put(const struct kv_view *kv, void *cache, int head, int slot, const float *from,
                struct part part);
