/* Op calls as data, so that they can be kept and run later. */
#pragma once

#include "kernels/cpu/cpu.h"

enum step_kind {
#define PLAIN(name) STEP_##name,
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED
};

struct step {
    enum step_kind kind;
    union {
#define PLAIN(name) struct op_##name name;
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED
    } args;
};

struct recording {
    struct step *steps;
    size_t n, capacity;
};

enum op_status recording_add(struct recording *recording, const struct step *step);
void recording_release(struct recording *recording); /* the steps, not the struct */

/* Bytes of part.shared that the step needs with so many threads. */
size_t step_shared_bytes(const struct step *step, int n_threads);

/* Runs the steps in order on this part's thread; all threads of the team must call it. */
void steps_run(const struct step *steps, size_t n, struct part part);
