/*
 * Speeds of passes on a GPU with random weights of a model's shapes.
 *
 *   decode_bench MODULE [model [f16] [what…]]    model: 7b, 1.5b, 0.5b; what: see main(), or
 *                                               16x512: a step of 16 sequences at context 512
 *
 * The roof is the device's read speed (kernels/device.h). A step's share is what it would take at
 * that speed, for its weights and its keys and values, over what it takes.
 */
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "engine/forward/graph_cache.h"
#include "tests/gpu/gpu_module.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 8192, MAX_SEQS = 64, BLOCK_TOKENS = KV_BLOCK_TOKENS, RANDOM_VALUES = 1 << 24 };

struct shape {
    const char *name;
    int layers, hidden, ffn, heads, kv_heads, head_size, vocab;
    bool is_tied;
};
static const struct shape shapes[] = {
    {"7b", 28, 3584, 18944, 28, 4, 128, 152064, false},
    {"1.5b", 28, 1536, 8960, 12, 2, 128, 151936, true},
    {"0.5b", 24, 896, 4864, 14, 2, 64, 151936, true},
};

static struct device *device;
static struct model_config config;
static struct weights weights;
static struct kv_cache kv;
static struct activations activations;
static struct batch batch;
static struct graph_cache graphs;
static float *random_values;
static uint64_t weight_bytes; /* read by a step */
static double roof;           /* bytes per second */

static void must(bool is_so, const char *what) {
    if (is_so) return;
    fprintf(stderr, "decode_bench: %s\n", what);
    exit(1);
}

static float random_normal(void) {
    static uint64_t state = 1;
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        sum += (double)(state >> 40) * 0x1p-24 - 0.5;
    }
    return (float)(sum * 1.7320508);
}

/* ---- a model ---- */

static char *room; /* for the matrices that come next: side by side, as weights.c has them */

static void reserve(size_t values) {
    room = device->alloc(device, 2 * values);
    must(room != NULL, "out of GPU memory");
}

static struct matrix new_matrix(int rows, int cols, float scale) {
    size_t n = (size_t)rows * (size_t)cols;
    struct matrix m = {room, device->activation, rows, cols, LAYOUT_STORED};
    room += 2 * n;
    static float *scaled;
    static float last_scale;
    if (!scaled) scaled = malloc(RANDOM_VALUES * sizeof *scaled);
    if (last_scale != scale)
        for (int i = 0; i < RANDOM_VALUES; i++) scaled[i] = random_values[i] * scale;
    last_scale = scale;
    for (size_t done = 0; done < n; done += RANDOM_VALUES) {
        size_t some = n - done < RANDOM_VALUES ? n - done : RANDOM_VALUES;
        must(device->load(device, (char *)(uintptr_t)m.data + 2 * done, scaled, FORMAT_F32, some) ==
                 OP_OK,
             "load");
    }
    weight_bytes += 2 * n;
    return m;
}

static const float *new_vector(int n, float value) {
    float *values = malloc((size_t)n * sizeof *values);
    float *to = device->alloc(device, (size_t)n * sizeof *values);
    for (int i = 0; i < n; i++) values[i] = value + 0.1f * random_normal();
    must(device->upload(device, to, values, (size_t)n * sizeof *values) == OP_OK, "upload");
    must(device->sync(device) == OP_OK, "sync");
    free(values);
    return to;
}

static void make_model(const struct shape *s, int max_rows, int context) {
    struct err err = {0};
    config = (struct model_config){.n_layers = s->layers,
                                   .hidden = s->hidden,
                                   .ffn = s->ffn,
                                   .n_heads = s->heads,
                                   .n_kv_heads = s->kv_heads,
                                   .head_size = s->head_size,
                                   .vocab = s->vocab,
                                   .norm_eps = 1e-6f,
                                   .rope_base = 1e6};
    random_values = malloc(RANDOM_VALUES * sizeof *random_values);
    for (int i = 0; i < RANDOM_VALUES; i++) random_values[i] = random_normal();
    const int q = s->heads * s->head_size, k = s->kv_heads * s->head_size;
    const float in = 1 / sqrtf((float)s->hidden);
    weights = (struct weights){.device = device};
    weights.layers = calloc((size_t)s->layers, sizeof *weights.layers);
    const size_t vocab_values = (size_t)s->vocab * (size_t)s->hidden;
    reserve(s->is_tied ? vocab_values : 2 * vocab_values);
    weights.embed = new_matrix(s->vocab, s->hidden, in);
    if (!s->is_tied) weight_bytes = 0;
    weights.head = s->is_tied ? weights.embed : new_matrix(s->vocab, s->hidden, in);
    weights.final_norm = new_vector(s->hidden, 1);
    for (int l = 0; l < s->layers; l++) {
        struct layer_weights *w = &weights.layers[l];
        w->attn_norm = new_vector(s->hidden, 1);
        w->ffn_norm = new_vector(s->hidden, 1);
        reserve((size_t)s->hidden * (size_t)(2 * q + 2 * k + 3 * s->ffn));
        w->q = new_matrix(q, s->hidden, in);
        w->k = new_matrix(k, s->hidden, in);
        w->v = new_matrix(k, s->hidden, in);
        w->q_bias = new_vector(q, 0);
        w->k_bias = new_vector(k, 0);
        w->v_bias = new_vector(k, 0);
        w->o = new_matrix(s->hidden, q, in);
        w->gate = new_matrix(s->ffn, s->hidden, in);
        w->up = new_matrix(s->ffn, s->hidden, in);
        w->down = new_matrix(s->hidden, s->ffn, 1 / sqrtf((float)s->ffn));
    }
    must(device->sync(device) == OP_OK, "sync");
    const struct batch_size size = {.max_rows = max_rows,
                                    .max_seqs = MAX_SEQS,
                                    .max_outputs = MAX_SEQS,
                                    .max_blocks = context / BLOCK_TOKENS + 1,
                                    .n_freq = s->head_size / 2,
                                    .block_tokens = BLOCK_TOKENS};
    must(kv_cache_init(&kv, device, &config, FORMAT_F16, size.max_blocks * 8, &err) == 0, err.text);
    must(activations_init(&activations, device, &config, &size, &err) == 0, err.text);
    must(batch_init(&batch, size, &err) == 0, err.text);
    /* keys and values that are numbers */
    size_t n = kv.plane_bytes / 2 * 2 * (size_t)kv.n_layers;
    uint16_t *halves = malloc(RANDOM_VALUES * sizeof *halves);
    format_encode(FORMAT_F16, random_values, halves, RANDOM_VALUES);
    for (size_t done = 0; done < n; done += RANDOM_VALUES) {
        size_t some = n - done < RANDOM_VALUES ? n - done : RANDOM_VALUES;
        must(device->upload(device, kv.memory + 2 * done, halves, 2 * some) == OP_OK, "upload");
    }
    free(halves);
    graph_cache_init(&graphs, &(struct model){.device = device,
                                              .config = &config,
                                              .weights = &weights,
                                              .kv = &kv,
                                              .activations = &activations});
}

/* ---- measuring ---- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure_roof(void) {
    roof = device->read_speed(device);
    must(roof > 0, "the read speed cannot be measured");
    printf("roof: %.0f GB/s (the best of several passes that only read)\n", roof * 1e-9);
}

static void *at(const void *field) {
    return batch.memory + (uintptr_t)field;
}

/* n_seqs sequences whose last n_new tokens end at `context`, each with keys of its own (there is
 * room for 8 of the longest context). */
static void fill(int n_seqs, int n_new, int context, bool is_decode) {
    batch_clear(&batch);
    batch.n_rows = n_seqs * n_new;
    batch.n_seqs = n_seqs;
    batch.n_outputs = n_seqs;
    const struct op_batch v = batch_view(&batch, NULL);
    int32_t *tokens = at(v.tokens), *positions = at(v.positions), *seq_of = at(v.seq_of);
    int32_t *slots = at(v.slots), *outputs = at(v.outputs), *starts = at(v.starts);
    int32_t *table = at(v.block_table);
    float *rope_scale = at(v.rope_scale), *inv_freq = at(v.inv_freq);
    (void)is_decode;
    const int n_blocks = (context + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    must(n_seqs * n_blocks <= 8 * batch.size.max_blocks, "too few KV blocks");
    for (int s = 0; s < n_seqs; s++) {
        int32_t *blocks = table + (size_t)s * (size_t)batch.size.max_blocks;
        for (int i = 0; i < n_blocks; i++) blocks[i] = s * n_blocks + i;
        for (int i = 0; i < n_new; i++) {
            int t = s * n_new + i, p = context - n_new + i;
            tokens[t] = rand() % config.vocab;
            positions[t] = p;
            seq_of[t] = s;
            slots[t] = blocks[p / BLOCK_TOKENS] * BLOCK_TOKENS + p % BLOCK_TOKENS;
        }
        starts[s + 1] = (s + 1) * n_new;
        outputs[s] = (s + 1) * n_new - 1;
        rope_scale[s] = 1;
        for (int i = 0; i < config.head_size / 2; i++)
            inv_freq[(size_t)s * (size_t)(config.head_size / 2) + (size_t)i] =
                (float)pow(1e6, -2.0 * i / config.head_size);
    }
    starts[0] = 0;
}

static void check_logits(const char *what) {
    float *logits = malloc((size_t)config.vocab * sizeof *logits);
    double squares = 0;
    must(device->download(device, logits, activations.logits,
                          (size_t)config.vocab * sizeof *logits) == OP_OK,
         what);
    for (int i = 0; i < config.vocab; i++) squares += (double)logits[i] * (double)logits[i];
    must(isfinite(squares) && squares > 0, "logits are not finite");
    free(logits);
}

/* Steps of one token each: back to back, and with the host waiting for each. */
static void decode(int n_seqs, int context) {
    enum { RUNS = 7 };
    int steps = 40;
    double times[RUNS], waited[RUNS];
    fill(n_seqs, 1, context, true);
    for (int i = 0; i < 3; i++) must(graph_cache_run(&graphs, &batch) == OP_OK, "decode");
    must(device->sync(device) == OP_OK, "decode");
    for (int r = 0; r < RUNS; r++) {
        double begin = clock_seconds();
        for (int i = 0; i < steps; i++) must(graph_cache_run(&graphs, &batch) == OP_OK, "decode");
        must(device->sync(device) == OP_OK, "decode");
        times[r] = (clock_seconds() - begin) / steps;
        begin = clock_seconds();
        for (int i = 0; i < steps; i++) {
            must(graph_cache_run(&graphs, &batch) == OP_OK, "decode");
            must(device->sync(device) == OP_OK, "decode");
        }
        waited[r] = (clock_seconds() - begin) / steps;
    }
    qsort(times, RUNS, sizeof *times, by_size);
    qsort(waited, RUNS, sizeof *waited, by_size);
    check_logits("decode");
    double bytes =
        (double)weight_bytes +
        (double)n_seqs * context * (double)kv_cache_bytes_per_token(&config, kv.layout.format);
    double t = times[RUNS / 2];
    printf(
        "  decode batch %2d context %5d: %8.1f tok/s  %7.1f us  %5.1f %% of the roof; waiting for "
        "each step %8.1f tok/s\n",
        n_seqs, context, n_seqs / t, t * 1e6, bytes / roof / t * 100, n_seqs / waited[RUNS / 2]);
    fflush(stdout);
}

static void prefill(int n_seqs, int n_new, int context) {
    enum { RUNS = 5 };
    double times[RUNS];
    fill(n_seqs, n_new, context, false);
    for (int r = -1; r < RUNS; r++) {
        double begin = clock_seconds();
        must(graph_cache_run(&graphs, &batch) == OP_OK, "prefill");
        must(device->sync(device) == OP_OK, "prefill");
        if (r >= 0) times[r] = clock_seconds() - begin;
    }
    qsort(times, RUNS, sizeof *times, by_size);
    check_logits("prefill");
    double t = times[RUNS / 2], body = (double)(weight_bytes / 2);
    body -= (double)config.vocab * config.hidden;
    printf("  prefill %d x %d up to %d: %8.0f tok/s  %7.2f ms  %5.0f TFLOP/s in products\n", n_seqs,
           n_new, context, n_seqs * n_new / t, t * 1e3, 2 * body * n_seqs * n_new / t * 1e-12);
    fflush(stdout);
}

/* Whole prompts of n_tokens, with at most `rows` of them, or of several sequences, in a pass. */
static void prompts(int n_seqs, int n_tokens, int rows) {
    enum { RUNS = 3 };
    double times[RUNS];
    const int together = rows > n_tokens ? rows / n_tokens : 1;
    for (int r = -1; r < RUNS; r++) {
        double begin = clock_seconds();
        for (int s = 0; s < n_seqs; s += together)
            for (int done = 0; done < n_tokens; done += rows) {
                int some = n_tokens - done < rows ? n_tokens - done : rows;
                fill(together, some, done + some, false);
                if (done + some < n_tokens) batch.n_outputs = 0;
                must(graph_cache_run(&graphs, &batch) == OP_OK, "prompts");
            }
        must(device->sync(device) == OP_OK, "prompts");
        if (r >= 0) times[r] = clock_seconds() - begin;
    }
    qsort(times, RUNS, sizeof *times, by_size);
    check_logits("prompts");
    double t = times[RUNS / 2];
    printf("  prompts %d x %d, %d rows in a pass: %8.0f tok/s  %7.2f ms\n", n_seqs, n_tokens, rows,
           n_seqs * n_tokens / t, t * 1e3);
    fflush(stdout);
}

/* One kind of op at a time, layer after layer, as one recording: what each costs in a step. */
enum kind { QKV, ATTENTION, O, GATE_UP, DOWN, HEAD, EMBED, NORM, N_KINDS };

static enum op_status run_op(enum kind kind, const struct op_batch *b, int l) {
    const struct layer_weights *w = &weights.layers[l];
    const struct activations *a = &activations;
    const struct rope_params rope = {config.head_size, false, 0};
    const struct kv_view view = kv_cache_layer(&kv, l);
    const struct ops *ops = device->ops;
    switch (kind) {
    case QKV:
        return ops->qkv(device, &(struct op_qkv){.q = a->q,
                                                 .x = a->x,
                                                 .norm = w->attn_norm,
                                                 .eps = 1e-6f,
                                                 .wq = &w->q,
                                                 .wk = &w->k,
                                                 .wv = &w->v,
                                                 .bq = w->q_bias,
                                                 .bk = w->k_bias,
                                                 .bv = w->v_bias,
                                                 .rope = rope,
                                                 .kv = view,
                                                 .heads = config.n_heads,
                                                 .batch = b,
                                                 .scratch = a->scratch});
    case ATTENTION:
        return ops->attention(device,
                              &(struct op_attention){a->y, a->q, view, config.n_heads, 0, 0.1f, b});
    case O:
        return ops->linear(
            device, &(struct op_linear){
                        .y = a->x, .x = a->y, .w = &w->o, .rows = b->n_rows, .accumulate = true});
    case GATE_UP:
        return ops->gate_up(device, &(struct op_gate_up){a->ffn, a->x, w->ffn_norm, &w->gate,
                                                         &w->up, 1e-6f, b->n_rows, a->scratch});
    case DOWN:
        return ops->linear(
            device,
            &(struct op_linear){
                .y = a->x, .x = a->ffn, .w = &w->down, .rows = b->n_rows, .accumulate = true});
    case HEAD:
        return ops->head(device, &(struct op_head){a->logits, a->x, weights.final_norm,
                                                   &weights.head, 1e-6f, b, a->scratch});
    case EMBED:
        return ops->embed(device,
                          &(struct op_embed){.y = a->x, .table = &weights.embed, .batch = b});
    case NORM:
        return ops->rms_norm(device, &(struct op_rms_norm){a->scratch, a->x, w->ffn_norm, b->n_rows,
                                                           config.hidden, 1e-6f});
    default:
        return OP_BAD_SHAPE;
    }
}

/* Seconds per layer of the kinds `first` to `last`, one after the other, as one recording. */
static double time_kinds(const struct op_batch *b, int first, int last) {
    enum { RUNS = 5 };
    struct recording *r;
    double times[RUNS];
    int n = first >= HEAD ? 4 : config.n_layers;
    must(device->record_begin(device) == OP_OK, "record");
    for (int l = 0; l < n; l++)
        for (int kind = first; kind <= last; kind++)
            must(run_op((enum kind)kind, b, l) == OP_OK, "op");
    must(device->record_end(device, &r) == OP_OK, "record");
    for (int i = -1; i < RUNS; i++) {
        double begin = clock_seconds();
        for (int k = 0; k < 4; k++) must(device->replay(device, r) == OP_OK, "replay");
        must(device->sync(device) == OP_OK, "replay");
        if (i >= 0) times[i] = (clock_seconds() - begin) / (4.0 * n);
    }
    device->recording_free(device, r);
    qsort(times, RUNS, sizeof *times, by_size);
    return times[RUNS / 2];
}

static void op_times(int n_seqs, int n_new, int context) {
    static const char *const names[] = {"qkv",  "attention", "o",     "gate_up",
                                        "down", "head",      "embed", "norm"};
    fill(n_seqs, n_new, context, true);
    must(graph_cache_run(&graphs, &batch) == OP_OK, "ops");
    must(device->sync(device) == OP_OK, "ops");
    static struct op_batch b;
    b = batch_view(&batch, activations.batch);
    printf("  ops, batch %d x %d, context %d:", n_seqs, n_new, context);
    for (int kind = 0; kind < N_KINDS; kind++)
        printf(" %s %.1f us", names[kind], time_kinds(&b, kind, kind) * 1e6);
    printf("\n    together:");
    for (int kind = QKV; kind < DOWN; kind++)
        printf(" %s+%s %.1f us", names[kind], names[kind + 1],
               time_kinds(&b, kind, kind + 1) * 1e6);
    printf(" a layer %.1f us", time_kinds(&b, QKV, DOWN) * 1e6);
    printf("\n");
}

int main(int argc, char **argv) {
    must(argc > 1, "which module?");
    const char *name = argc > 2 ? argv[2] : "7b";
    const struct shape *s = NULL;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, name) == 0) s = &shapes[i];
    must(s != NULL, "no such model");
    const bool is_half = argc > 3 && strcmp(argv[3], "f16") == 0;
    must(gpu_open(&device, argv[1], is_half ? FORMAT_F16 : FORMAT_BF16), "the module");
    double begin = clock_seconds();
    measure_roof();
    make_model(s, MAX_ROWS, 16384);
    printf("%s, Qwen2.5-%s %s, %.2f GB a step; made in %.1f s\n", device->name, s->name,
           format_table[device->activation].name, (double)weight_bytes * 1e-9,
           clock_seconds() - begin);
    bool all = argc <= (device->activation == FORMAT_F16 ? 4 : 3);
    for (int i = 3; i < argc || all; i++, all = false) {
        const char *what = all ? "all" : argv[i];
        if (strcmp(what, "decode") == 0 || strcmp(what, "all") == 0) {
            decode(1, 512);
            decode(1, 16000);
        }
        if (strcmp(what, "batch") == 0 || strcmp(what, "all") == 0) {
            decode(2, 512);
            decode(4, 512);
            decode(8, 512);
            decode(16, 512);
            decode(64, 1024);
        }
        int n_seqs, context; /* "16x512" */
        if (sscanf(what, "%dx%d", &n_seqs, &context) == 2) decode(n_seqs, context);
        if (strcmp(what, "batch-ops") == 0) {
            op_times(8, 1, 512);
            op_times(16, 1, 512);
            op_times(64, 1, 1024);
        }
        if (strcmp(what, "ops") == 0 || strcmp(what, "all") == 0) {
            op_times(1, 1, 512);
            op_times(1, 1, 16000);
            op_times(8, 1, 512);
            op_times(1, 512, 512);
        }
        if (strcmp(what, "prefill-ops") == 0) {
            op_times(1, 512, 512);
            op_times(1, 2048, 2048);
            op_times(1, 2048, 16000);
        }
        if (strcmp(what, "prefill") == 0 || strcmp(what, "all") == 0) {
            prefill(1, 512, 512);
            prefill(1, 2048, 2048);
            for (int rows = 2048; rows <= 4096; rows *= 2) prompts(8, 2048, rows);
            for (int rows = 2048; rows <= MAX_ROWS; rows *= 2) prompts(1, 16000, rows);
        }
    }
    return 0;
}
