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
#define FUSED(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

/* Bytes of part.shared that the op needs with so many threads. */
size_t cpu_attention_shared_bytes(const struct op_attention *op, int n_threads);
size_t cpu_sample_shared_bytes(const struct op_sample *op, int n_threads);
