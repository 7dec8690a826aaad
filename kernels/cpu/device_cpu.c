/* The CPU as a device: memory is the process's own, ops run on the thread team at once or are kept
 * in a recording. */
#include "kernels/cpu/machine.h"
#include "kernels/cpu/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ALIGNMENT = 64,
    MAX_THREADS = 1024,
    FIND_VALUES = 4096, /* decoded at a time; whole blocks of every format */
};

struct cpu_device {
    struct device base; /* first: device.h hands this out */
    const struct cpu_variant *variant;
    struct team *team;
    char *scratch; /* CPU_SCRATCH_BYTES for each thread */
    void *shared;  /* of all threads; grows as ops ask for it */
    size_t shared_bytes;
    struct recording *recording; /* being made, or NULL */
    enum op_status recording_status;
};

static struct cpu_device *cpu_of(struct device *device) {
    return (struct cpu_device *)device;
}

/* ---- memory ---- */

static void *cpu_alloc(struct device *device, size_t bytes) {
    (void)device;
    if (bytes > SIZE_MAX - ALIGNMENT) return NULL;
    return aligned_alloc(ALIGNMENT, (bytes + ALIGNMENT) & ~(size_t)(ALIGNMENT - 1));
}

static void cpu_release(struct device *device, void *memory) {
    (void)device;
    free(memory);
}

static enum op_status cpu_copy(struct device *device, void *to, const void *from, size_t bytes) {
    (void)device;
    if (bytes > 0) memcpy(to, from, bytes);
    return OP_OK;
}

static enum format cpu_weight_format(struct device *device, enum format stored) {
    (void)device;
    return stored;
}

static enum op_status cpu_load(struct device *device, void *to, const void *from, enum format stored,
                               size_t n) {
    return cpu_copy(device, to, from, format_row_bytes(stored, n));
}

static enum op_status cpu_find_not_finite(struct device *device, const struct matrix *m,
                                          size_t *where) {
    float values[FIND_VALUES];
    const size_t n = (size_t)m->rows * (size_t)m->cols;
    const char *data = m->data;
    (void)device;
    *where = SIZE_MAX;
    for (size_t at = 0; at < n; at += FIND_VALUES) {
        size_t some = n - at < FIND_VALUES ? n - at : FIND_VALUES;
        format_decode(m->format, data, values, some);
        for (size_t i = 0; i < some; i++) {
            if (isfinite(values[i])) continue;
            *where = at + i;
            return OP_OK;
        }
        data += format_row_bytes(m->format, some);
    }
    return OP_OK;
}

static enum op_status cpu_sync(struct device *device) {
    (void)device;
    return OP_OK;
}

static void cpu_memory(struct device *device, struct device_memory *out) {
    (void)device;
    *out = machine_memory();
}

/* ---- running ---- */

struct job {
    struct cpu_device *cpu;
    const struct step *steps;
    size_t n;
};

static void job_run(void *arg, int index) {
    const struct job *job = arg;
    const struct cpu_device *cpu = job->cpu;
    steps_run(job->steps, job->n,
              (struct part){.index = index,
                            .count = team_size(cpu->team),
                            .variant = cpu->variant,
                            .team = cpu->team,
                            .scratch = cpu->scratch + (size_t)index * CPU_SCRATCH_BYTES,
                            .shared = cpu->shared});
}

static enum op_status reserve_shared(struct cpu_device *cpu, size_t bytes) {
    if (bytes <= cpu->shared_bytes) return OP_OK;
    void *shared = cpu_alloc(&cpu->base, bytes);
    if (!shared) return OP_NO_MEMORY;
    free(cpu->shared);
    cpu->shared = shared;
    cpu->shared_bytes = bytes;
    return OP_OK;
}

/* Runs an op, whose check gave `status`, now or keeps it. */
static enum op_status submit(struct device *device, const struct step *step,
                             enum op_status status) {
    struct cpu_device *cpu = cpu_of(device);
    if (status == OP_OK && step->kind == STEP_attention)
        status = reserve_shared(
            cpu, cpu_attention_shared_bytes(&step->args.attention, team_size(cpu->team)));
    if (status == OP_OK && cpu->recording)
        status = recording_add(cpu->recording, step);
    else if (status == OP_OK)
        team_run(cpu->team, job_run, &(struct job){cpu, step, 1});
    if (cpu->recording && status != OP_OK) cpu->recording_status = status;
    return status;
}

#define PLAIN(name)                                                                                \
    static enum op_status submit_##name(struct device *device, const struct op_##name *op) {       \
        return submit(device, &(struct step){STEP_##name, {.name = *op}}, op_check_##name(op));    \
    }
#define FUSED(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

static const struct ops cpu_ops = {
#define PLAIN(name) .name = submit_##name,
#define FUSED(name) .name = fused_##name,
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED
};

/* ---- recordings ---- */

static void cpu_recording_free(struct device *device, struct recording *recording) {
    (void)device;
    if (!recording) return;
    recording_release(recording);
    free(recording);
}

static enum op_status cpu_record_begin(struct device *device) {
    struct cpu_device *cpu = cpu_of(device);
    if (cpu->recording) return OP_NOT_SUPPORTED; /* one inside another */
    cpu->recording = calloc(1, sizeof *cpu->recording);
    cpu->recording_status = OP_OK;
    return cpu->recording ? OP_OK : OP_NO_MEMORY;
}

/* A recording that lacks an op is none. */
static enum op_status cpu_record_end(struct device *device, struct recording **out) {
    struct cpu_device *cpu = cpu_of(device);
    *out = NULL;
    if (!cpu->recording) return OP_NOT_SUPPORTED;
    if (cpu->recording_status == OP_OK)
        *out = cpu->recording;
    else
        cpu_recording_free(device, cpu->recording);
    cpu->recording = NULL;
    return cpu->recording_status;
}

static enum op_status cpu_replay(struct device *device, struct recording *recording) {
    struct cpu_device *cpu = cpu_of(device);
    if (cpu->recording) return OP_NOT_SUPPORTED;
    team_run(cpu->team, job_run, &(struct job){cpu, recording->steps, recording->n});
    return OP_OK;
}

/* ---- life ---- */

static void cpu_close(struct device *device) {
    struct cpu_device *cpu = cpu_of(device);
    cpu_recording_free(device, cpu->recording);
    team_free(cpu->team);
    free(cpu->scratch);
    free(cpu->shared);
    free(cpu);
}

static void write_name(struct cpu_device *cpu) {
    char processor[64];
    machine_cpu_name(processor, sizeof processor);
    int n_threads = team_size(cpu->team);
    snprintf(cpu->base.name, sizeof cpu->base.name, "%s, %d thread%s, %s", processor, n_threads,
             n_threads == 1 ? "" : "s", cpu->variant->name);
}

enum op_status device_cpu_open(struct device **out, const struct device_cpu_options *options) {
    *out = NULL;
    int n_threads = options->threads > 0 ? options->threads : machine_threads();
    if (n_threads > MAX_THREADS) return OP_BAD_SHAPE;
    struct cpu_device *cpu = calloc(1, sizeof *cpu);
    if (!cpu) return OP_NO_MEMORY;
    cpu->base = (struct device){
        .ops = &cpu_ops,
        .activation = FORMAT_F32,
        .reads_host_memory = true,
        .close = cpu_close,
        .alloc = cpu_alloc,
        .release = cpu_release,
        .upload = cpu_copy,
        .download = cpu_copy,
        .weight_format = cpu_weight_format,
        .load = cpu_load,
        .find_not_finite = cpu_find_not_finite,
        .sync = cpu_sync,
        .record_begin = cpu_record_begin,
        .record_end = cpu_record_end,
        .replay = cpu_replay,
        .recording_free = cpu_recording_free,
        .memory = cpu_memory,
    };
    cpu->variant = cpu_variant_pick(options->baseline ? 0 : cpu_features());
    cpu->scratch = calloc((size_t)n_threads, CPU_SCRATCH_BYTES);
    cpu->team = team_create(n_threads);
    if (!cpu->scratch || !cpu->team) {
        cpu_close(&cpu->base);
        return OP_NO_MEMORY;
    }
    write_name(cpu);
    *out = &cpu->base;
    return OP_OK;
}
