/* The CPU as a device: memory is the process's own, ops run on the thread team at once or are kept
 * in a recording. */
#include "kernels/cpu/machine.h"
#include "kernels/cpu/record.h"
#include "kernels/cpu/roof.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGNMENT = 64,
    MAX_THREADS = 1024,
    FIND_VALUES = 4096, /* decoded at a time; whole blocks of every format */
};

struct box {
    void *data;
    size_t capacity;
};

struct cpu_device {
    struct device base; /* first: device.h hands this out */
    const struct cpu_variant *variant;
    bool is_exact;
    struct team *team;
    char *scratch; /* CPU_SCRATCH_BYTES for each thread */
    void *shared;  /* of all threads; grows as ops ask for it */
    size_t shared_bytes;
    struct box boxes[2];         /* post() to collect() */
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

static enum op_status cpu_load(struct device *device, void *to, const void *from,
                               enum format stored, size_t n) {
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

static enum op_status cpu_post(struct device *device, int box, const void *from, size_t bytes) {
    struct box *to = &cpu_of(device)->boxes[box];
    if (bytes > to->capacity) {
        void *data = realloc(to->data, bytes);
        if (!data) return OP_NO_MEMORY;
        *to = (struct box){data, bytes};
    }
    memcpy(to->data, from, bytes);
    return OP_OK;
}

static enum op_status cpu_collect(struct device *device, int box, const void **out) {
    *out = cpu_of(device)->boxes[box].data;
    return OP_OK;
}

static void cpu_memory(struct device *device, struct device_memory *out) {
    (void)device;
    *out = machine_memory();
}

static double cpu_read_speed(struct device *device) {
    return roof_read_speed(cpu_of(device)->team);
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

/* Packed weights need loops for them; a fused op without is run as plain ones, of which one
 * refuses. */
static enum op_status check_layout(const struct cpu_device *cpu, const struct step *step) {
    const struct matrix *w = step->kind == STEP_linear ? step->args.linear.w : NULL;
    bool is_packed = w && w->layout == LAYOUT_STRIPS16;
    return is_packed && !cpu->variant->multiply[w->format] ? OP_BAD_FORMAT : OP_OK;
}

/* Runs an op, whose check gave `status`, now or keeps it. */
static enum op_status submit(struct device *device, const struct step *step,
                             enum op_status status) {
    struct cpu_device *cpu = cpu_of(device);
    if (status == OP_OK) status = check_layout(cpu, step);
    if (status == OP_OK)
        status = reserve_shared(cpu, step_shared_bytes(step, team_size(cpu->team)));
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
#define FUSED(name)                                                                                \
    static enum op_status submit_##name(struct device *device, const struct op_##name *op) {       \
        enum op_status status = op_check_##name(op);                                               \
        if (status == OP_OK && !cpu_fuses_##name(op, cpu_of(device)->variant))                     \
            return fused_##name(device, op);                                                       \
        return submit(device, &(struct step){STEP_##name, {.name = *op}}, status);                 \
    }
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED

static const struct ops cpu_ops = {
#define PLAIN(name) .name = submit_##name,
#define FUSED(name) PLAIN(name)
#include "kernels/ops.def"
#undef PLAIN
#undef FUSED
};

/* ---- layouts ---- */

static enum matrix_layout cpu_layout(const struct device *device, enum format format) {
    const struct cpu_device *cpu = (const struct cpu_device *)device;
    if (cpu->is_exact) return LAYOUT_STORED;
    if (cpu->variant->multiply[format]) return LAYOUT_STRIPS16;
    return format == FORMAT_BF16 && cpu->variant->multiply_bf16 ? LAYOUT_ROUNDED : LAYOUT_STORED;
}

struct packing {
    const struct matrix *from;
    char *to;
    int n_parts;
    atomic_bool has_not_finite;
};

static void pack_share(void *arg, int index) {
    struct packing *p = arg;
    const struct matrix *m = p->from;
    size_t row_bytes = format_row_bytes(m->format, (size_t)m->cols);
    struct part part = {.index = index, .count = p->n_parts};
    struct range rows = part_range(part, (size_t)m->rows, STRIP_ROWS);
    for (size_t row = rows.from; row < rows.to; row += STRIP_ROWS)
        if (!strip_pack(m->format, (const char *)m->data + row * row_bytes,
                        smaller(STRIP_ROWS, m->rows - (int)row), (size_t)m->cols,
                        p->to + row * row_bytes))
            p->has_not_finite = true;
}

/* What is read once a token costs an address translation every 4 KB else. What follows is likely
 * packed next, so the last page may be a whole one. */
static void want_huge_pages(void *at, size_t bytes) {
    const uintptr_t small = 4096, huge = 2 << 20;
    uintptr_t from = ((uintptr_t)at + small - 1) & ~(small - 1);
    uintptr_t to = ((uintptr_t)at + bytes + huge - 1) & ~(huge - 1);
    madvise((void *)from, to - from, MADV_HUGEPAGE); /* a hint */
}

static enum op_status cpu_pack(struct device *device, void *to, const struct matrix *from) {
    struct cpu_device *cpu = cpu_of(device);
    want_huge_pages(
        to, layout_bytes(LAYOUT_STRIPS16, from->format, (size_t)from->rows, (size_t)from->cols));
    if (cpu_layout(device, from->format) != LAYOUT_STRIPS16) return OP_BAD_FORMAT;
    struct packing packing = {.from = from, .to = to, .n_parts = team_size(cpu->team)};
    team_run(cpu->team, pack_share, &packing);
    return packing.has_not_finite ? OP_NOT_FINITE : OP_OK;
}

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
    free(cpu->boxes[0].data);
    free(cpu->boxes[1].data);
    free(cpu);
}

void device_cpu_name(char *out, size_t n) {
    machine_cpu_name(out, n);
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
        .backend = "CPU",
        .threads = n_threads,
        .close = cpu_close,
        .alloc = cpu_alloc,
        .release = cpu_release,
        .upload = cpu_copy,
        .download = cpu_copy,
        .weight_format = cpu_weight_format,
        .load = cpu_load,
        .find_not_finite = cpu_find_not_finite,
        .sync = cpu_sync,
        .layout = cpu_layout,
        .pack = cpu_pack,
        .post = cpu_post,
        .collect = cpu_collect,
        .record_begin = cpu_record_begin,
        .record_end = cpu_record_end,
        .replay = cpu_replay,
        .recording_free = cpu_recording_free,
        .memory = cpu_memory,
        .read_speed = cpu_read_speed,
    };
    cpu->is_exact = options->is_exact;
    cpu->variant = cpu_variant_pick(options->baseline ? 0 : cpu_features(), options->variant);
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
