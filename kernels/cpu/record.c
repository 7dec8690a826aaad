/* Keeping op calls, and running them one after the other on every thread of the team. */
#include "kernels/cpu/record.h"

#include <stdlib.h>

enum op_status recording_add(struct recording *recording, const struct step *step) {
    if (recording->n == recording->capacity) {
        size_t capacity = recording->capacity ? recording->capacity * 2 : 64;
        struct step *steps = realloc(recording->steps, capacity * sizeof *steps);
        if (!steps) return OP_NO_MEMORY;
        recording->steps = steps;
        recording->capacity = capacity;
    }
    recording->steps[recording->n++] = *step;
    return OP_OK;
}

void recording_release(struct recording *recording) {
    free(recording->steps);
    *recording = (struct recording){0};
}

static void step_run(const struct step *step, struct part part) {
    switch (step->kind) {
#define PLAIN(name)                                                                                \
    case STEP_##name:                                                                              \
        cpu_##name(&step->args.name, part);                                                        \
        break;
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED
    }
}

size_t step_shared_bytes(const struct step *step, int n_threads) {
    switch (step->kind) {
    case STEP_attention:
        return cpu_attention_shared_bytes(&step->args.attention, n_threads);
    case STEP_sample:
        return cpu_sample_shared_bytes(&step->args.sample, n_threads);
    case STEP_linear:
        return cpu_linear_shared_bytes(&step->args.linear);
    case STEP_qkv:
        return cpu_qkv_shared_bytes(&step->args.qkv);
    case STEP_gate_up:
        return cpu_gate_up_shared_bytes(&step->args.gate_up);
    case STEP_head:
        return cpu_head_shared_bytes(&step->args.head);
    default:
        return 0;
    }
}

void steps_run(const struct step *steps, size_t n, struct part part) {
    for (size_t i = 0; i < n; i++) {
        if (i > 0) part_barrier(part);
        step_run(&steps[i], part);
    }
}
