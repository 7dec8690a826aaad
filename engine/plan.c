/*
 * The memory plan. Everything is counted from the headers of the checkpoint:
 *
 *   weights      tensor bytes as stored (mapped, packed or uploaded). An embedding of which only
 * some rows are read counts whole: kernels map up to 2 MiB around each KV cache     bytes per token
 * * context activations  the arena of a pass, the sampler's workspace, the arrays of a batch
 *   tokenizer    by its vocabulary
 *   program      what the process has already
 *
 * Where a GPU computes, only what lies in its memory counts: weights in the format that it keeps,
 * and for the program its context, its code and the buffers of the ops.
 */
#include "engine/plan.h"

#include "engine/base/io.h"
#include "engine/forward/activations.h"
#include "engine/forward/graph_cache.h"
#include "engine/forward/kv_cache.h"
#include "engine/open_device.h"
#include "engine/schedule/pace.h"
#include "engine/weights/inspect.h"
#include "engine/weights/weights.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum {
    DEFAULT_SEQUENCES = 8,
    DEFAULT_ROWS = 512,
    GPU_ROWS = 2048, /* a pass of so many rows keeps a large GPU busy and lasts some 50 ms */
    LARGE_GPU_ROWS = 4096,
    LEAST_ROWS = 32,
    MOST_ROWS = 4096,
    LEAST_OUTPUTS = 8,      /* so that all logits of a prompt do not come one by one */
    LEAST_CONTEXT = 256,    /* less is no use */
    MOST_CONTEXT = 1 << 24, /* keeps counts of tokens and slots within int */
    TOKENIZER_BYTES_PER_TOKEN =
        100,                      /* measured: bytes, merges and tables of 49 k and 152 k tokens */
    SAMPLER_BYTES_PER_TOKEN = 25, /* sampler.c's arrays, the row of logits, is_token */
};

/* What a thread does at least, roughly: passes begin with so many rows. Packed weights are
 * multiplied up to 16 times as fast. */
static const double guessed_flops = 15e9;
static const double most_faster = 16;
static const double guessed_gpu_seconds = 1e-6; /* a row: passes begin with all they may have */

/* Of free memory a sixteenth is left to the rest of the system; a GPU's is asked for less. */
static const uint64_t reserve_divisor = 16, gpu_reserve_divisor = 64;

/* A GPU that gives so much memory is fast enough for LARGE_GPU_ROWS, and has room for them. */
static const uint64_t large_gpu_bytes = (uint64_t)64 << 30;

static int clamp(int value, int least, int most) {
    return value < least ? least : value > most ? most : value;
}

/* What the process has in memory now: the second number of /proc/self/statm, in pages. */
uint64_t plan_resident_bytes(void) {
    char text[128];
    unsigned long long total, resident;
    int fd = io_open("/proc/self/statm", O_RDONLY, 0);
    if (fd < 0) return 0;
    ssize_t n = io_read(fd, text, sizeof text - 1);
    io_close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    if (sscanf(text, "%llu %llu", &total, &resident) != 2) return 0;
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- sizes ---- */

static int check_options(const struct engine_options *o, struct err *err) {
    if (o->context_tokens < 0 || o->context_tokens > MOST_CONTEXT)
        return err_set(err, ERR_USAGE, "a context of %d tokens: 0 (automatic) to %d are possible",
                       o->context_tokens, MOST_CONTEXT);
    if (o->max_sequences < 0 || o->max_sequences > MAX_GRAPH_ROWS)
        return err_set(err, ERR_USAGE, "%d sequences at once: 0 (automatic) to %d are possible",
                       o->max_sequences, MAX_GRAPH_ROWS);
    if (o->prefill_tokens < 0 || o->prefill_tokens > MOST_ROWS)
        return err_set(err, ERR_USAGE, "%d tokens in a pass: 0 (automatic) to %d are possible",
                       o->prefill_tokens, MOST_ROWS);
    if (!(format_table[o->kv_format].uses & USE_KV))
        return err_set(err, ERR_USAGE, "a KV cache cannot be %s", format_table[o->kv_format].name);
    return 0;
}

static void set_batch(struct plan *plan, const struct engine_options *o,
                      const struct model_config *c, bool is_gpu, bool is_large) {
    int n_sequences = o->max_sequences > 0 ? o->max_sequences : DEFAULT_SEQUENCES;
    int rows = o->prefill_tokens;
    if (rows == 0 && is_gpu) {
        rows = is_large ? LARGE_GPU_ROWS : GPU_ROWS;
        plan->seconds_per_row = guessed_gpu_seconds;
    } else if (rows == 0) {
        long n_threads = o->threads > 0 ? o->threads : sysconf(_SC_NPROCESSORS_ONLN);
        double flops = guessed_flops * (double)(n_threads > 0 ? n_threads : 1);
        plan->seconds_per_row = 2 * (double)weights_parameters(c) / flops;
        double reachable = fmin(PACE_SECONDS / plan->seconds_per_row * most_faster, DEFAULT_ROWS);
        rows = clamp((int)reachable, LEAST_ROWS, DEFAULT_ROWS);
    }
    plan->max_sequences = n_sequences;
    plan->max_rows = rows;
    int padded = graph_rows(n_sequences);
    plan->batch = (struct batch_size){
        .max_rows = rows > padded ? rows : padded,
        .max_seqs = padded,
        .max_outputs = padded > LEAST_OUTPUTS ? padded : LEAST_OUTPUTS,
        .n_freq = c->head_size / 2,
        .block_tokens = KV_BLOCK_TOKENS,
    };
}

static void set_context(struct plan *plan, const struct model_config *c, int context_tokens) {
    struct memory_plan *m = &plan->memory;
    enum { BOOKS_PER_BLOCK = 128 }; /* block_manager.c's tables */
    m->context_tokens = context_tokens;
    plan->n_blocks = kv_cache_blocks(context_tokens);
    plan->batch.max_blocks = plan->n_blocks;
    m->kv_bytes = (uint64_t)plan->n_blocks * (KV_BLOCK_TOKENS * m->kv_bytes_per_token);
    m->activations_bytes = activations_bytes(c, plan->activation, &plan->batch) + plan->work_bytes;
    if (!plan->is_gpu)
        m->activations_bytes += batch_capacity(&plan->batch) +
                                (uint64_t)plan->n_blocks * BOOKS_PER_BLOCK +
                                (uint64_t)c->vocab * SAMPLER_BYTES_PER_TOKEN;
    m->total_bytes = m->weights_bytes + m->kv_bytes + m->activations_bytes + m->tokenizer_bytes +
                     m->program_bytes;
}

static bool fits(struct plan *plan, const struct model_config *c, int context_tokens) {
    set_context(plan, c, context_tokens);
    return plan->memory.total_bytes <= plan->memory.available_bytes;
}

/* The largest context that fits, at most `most` and, fitting or not, at least LEAST_CONTEXT. */
static int fitting_context(struct plan *plan, const struct model_config *c, int most) {
    if (most <= LEAST_CONTEXT || fits(plan, c, most)) return most;
    int low = LEAST_CONTEXT, high = most;
    while (high - low > KV_BLOCK_TOKENS) {
        int middle = low + (high - low) / 2;
        if (fits(plan, c, middle))
            low = middle;
        else
            high = middle;
    }
    return low / KV_BLOCK_TOKENS * KV_BLOCK_TOKENS;
}

/* ---- public ---- */

int plan_open_checkpoint(struct checkpoint **out, const struct engine_options *o, struct err *err) {
    return o->random_weights ? checkpoint_open_random(out, o->model, o->random_weights, err)
                             : checkpoint_open(out, o->model, err);
}

enum format most_stored(const struct checkpoint *checkpoint) {
    uint64_t bytes[N_FORMATS] = {0};
    int most = 0;
    for (size_t i = 0; i < checkpoint_n_tensors(checkpoint); i++) {
        const struct checkpoint_tensor *t = checkpoint_tensor_at(checkpoint, i);
        if (t->n_dims == 2 && t->format < N_FORMATS) bytes[t->format] += t->bytes;
    }
    for (int f = 1; f < N_FORMATS; f++)
        if (bytes[f] > bytes[most]) most = f;
    return (enum format)most;
}

struct device_facts plan_facts(struct device *device) {
    struct device_memory memory;
    device->memory(device, &memory);
    const bool is_gpu = !device->reads_host_memory;
    return (struct device_facts){.is_gpu = is_gpu,
                                 .has_bf16 = device->has_bf16,
                                 .free_bytes = memory.free_bytes,
                                 .own_bytes = is_gpu ? memory.own_bytes : plan_resident_bytes(),
                                 .work_bytes = device->work_bytes};
}

/* What may be taken by all that the plan counts, the program included. */
static uint64_t available(const struct engine_options *o, const struct device_facts *facts) {
    const uint64_t divisor = facts->is_gpu ? gpu_reserve_divisor : reserve_divisor;
    const uint64_t all = facts->free_bytes - facts->free_bytes / divisor + facts->own_bytes;
    if (!facts->is_gpu) return o->memory_bytes ? o->memory_bytes : all;
    return o->gpu_memory_bytes && o->gpu_memory_bytes < all ? o->gpu_memory_bytes : all;
}

int plan_make(struct plan *plan, const struct engine_options *o,
              const struct checkpoint *checkpoint, const struct device_facts *facts,
              struct err *err) {
    const struct model_config *c = checkpoint_config(checkpoint);
    const enum format stored = most_stored(checkpoint);
    struct memory_plan *m = &plan->memory;
    *plan = (struct plan){.is_gpu = facts->is_gpu, .activation = FORMAT_F32};
    if (check_options(o, err) != 0) return -1;
    set_batch(plan, o, c, facts->is_gpu, available(o, facts) >= large_gpu_bytes);
    m->kv_bytes_per_token = kv_cache_bytes_per_token(c, o->kv_format);
    m->available_bytes = available(o, facts);
    m->program_bytes = facts->own_bytes;
    if (facts->is_gpu) {
        plan->activation = gpu_activation(o, stored, facts->has_bf16);
        m->weights_bytes = weights_matrix_bytes(c, plan->activation) + weights_vector_bytes(c);
    } else {
        m->weights_bytes = checkpoint_bytes(checkpoint) + weights_vector_bytes(c);
        m->tokenizer_bytes = o->ids_only ? 0 : (uint64_t)c->vocab * TOKENIZER_BYTES_PER_TOKEN;
    }
    if (facts->work_bytes) plan->work_bytes = facts->work_bytes(plan->batch.max_outputs, c->vocab);
    int context = o->context_tokens;
    if (context == 0) context = fitting_context(plan, c, c->max_tokens);
    set_context(plan, c, context);
    return 0;
}

int plan_check(const struct plan *plan, const struct model_config *c, struct err *err) {
    const struct memory_plan *m = &plan->memory;
    char needed[24], available[24], missing[24];
    if (m->total_bytes <= m->available_bytes) return 0;
    inspect_bytes(m->total_bytes, needed);
    inspect_bytes(m->available_bytes, available);
    inspect_bytes(m->total_bytes - m->available_bytes, missing);
    struct plan other = *plan;
    int context = fitting_context(&other, c, m->context_tokens);
    if (fits(&other, c, context))
        return err_set(err, ERR_MEMORY,
                       "a context of %d tokens needs %s of memory and %s is free: %s is missing; a "
                       "context of %d tokens fits",
                       m->context_tokens, needed, available, missing, context);
    return err_set(err, ERR_MEMORY, "the model needs %s of memory and %s is free: %s is missing",
                   needed, available, missing);
}

int engine_device_facts(const struct engine_options *options, struct device_facts *facts,
                        struct err *err) {
    struct device *device;
    char notice[DEVICE_NOTICE_BYTES];
    if (open_device(&device, options, FORMAT_BF16, notice, err) != 0) return -1;
    *facts = plan_facts(device);
    device->close(device);
    return 0;
}

int engine_plan(const struct engine_options *options, const struct device_facts *facts,
                struct memory_plan *out, struct err *err) {
    struct checkpoint *checkpoint;
    struct device_facts asked;
    struct plan plan;
    if (plan_open_checkpoint(&checkpoint, options, err) != 0) return -1;
    int result = facts ? 0 : engine_device_facts(options, &asked, err);
    if (result == 0) result = plan_make(&plan, options, checkpoint, facts ? facts : &asked, err);
    if (result == 0) *out = plan.memory;
    checkpoint_close(checkpoint);
    return result;
}
