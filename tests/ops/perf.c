/*
 * Speeds of the ops beside what the machine gives: the memory read roof, measured with the same
 * threads in the same run. Not a test; `test_ops perf [threads [linear|attention|pass]]`.
 */
#include "tests/ops/ops_test.h"

#include "engine/base/clock.h"
#include "kernels/cpu/machine.h"
#include "kernels/cpu/threads.h"

#include <stdio.h>

/* The best of several repetitions, over at least 0.3 s. */
static double best_seconds(void (*run)(void *ud), void *ud) {
    double best = INFINITY, start = clock_seconds();
    for (int i = 0; i < 3 || (clock_seconds() - start < 0.3 && i < 1000); i++) {
        double from = clock_seconds();
        run(ud);
        double took = clock_seconds() - from;
        if (took < best) best = took;
    }
    return best;
}

/* ---- roof ---- */

enum { ROOF_BYTES = 256 << 20 };

struct roof {
    struct team *team;
    uint64_t *data;
    uint64_t sums[64];
};

static void read_share(void *arg, int index) {
    struct roof *roof = arg;
    size_t n = ROOF_BYTES / 8, size = (size_t)team_size(roof->team);
    size_t from = n * (size_t)index / size, to = n * ((size_t)index + 1) / size;
    uint64_t sums[8] = {0};
    for (size_t i = from & ~(size_t)7; i + 8 <= to; i += 8)
        for (size_t k = 0; k < 8; k++) sums[k] ^= roof->data[i + k];
    for (int k = 0; k < 8; k++) roof->sums[index % 64] ^= sums[k];
}

static void read_all(void *ud) {
    struct roof *roof = ud;
    team_run(roof->team, read_share, roof);
}

static double roof_bytes_per_second(int n_threads) {
    struct roof roof = {.team = team_create(n_threads), .data = malloc(ROOF_BYTES)};
    memset(roof.data, 1, ROOF_BYTES);
    double best = best_seconds(read_all, &roof);
    team_free(roof.team);
    free(roof.data);
    return ROOF_BYTES / best;
}

/* ---- single ops ---- */

struct timed {
    struct device *device;
    double roof;
    struct op_linear linear;
    struct op_attention attention;
};

static void print_row(const struct timed *t, const char *name, double took, double bytes,
                      double flops) {
    printf("%-34s %9.1f us %7.1f GB/s %4.0f%% of roof %7.1f GFLOP/s\n", name, took * 1e6,
           bytes / took * 1e-9, bytes / took / t->roof * 100, flops / took * 1e-9);
}

static void run_linear(void *ud) {
    struct timed *t = ud;
    t->device->ops->linear(t->device, &t->linear);
}

static void time_linear(struct timed *t, enum format format, int rows, int n_out, int n) {
    char name[64];
    size_t bytes = format_row_bytes(format, (size_t)n_out * (size_t)n);
    uint8_t *data = malloc(bytes);
    struct test_matrix few = test_random_matrix(format, 1, n);
    for (int i = 0; i < n_out; i++)
        memcpy(data + bytes / (size_t)n_out * (size_t)i, few.matrix.data, bytes / (size_t)n_out);
    struct matrix stored = {data, format, n_out, n, LAYOUT_STORED};
    struct matrix w = test_pack_for(t->device, &stored);
    float *x = test_random_floats((size_t)rows * (size_t)n, 1);
    float *y = test_floats((size_t)rows * (size_t)n_out);
    t->linear = (struct op_linear){.y = y, .x = x, .w = &w, .rows = rows};
    snprintf(name, sizeof name, "linear %s %dx%d, %d rows", format_table[format].name, n_out, n,
             rows);
    print_row(t, name, best_seconds(run_linear, t), (double)bytes, 2.0 * rows * n_out * (double)n);
    free(data);
    test_free_all();
}

static void run_attention(void *ud) {
    struct timed *t = ud;
    t->device->ops->attention(t->device, &t->attention);
}

static void time_attention(struct timed *t, int rows, int context, int kv_heads, int group,
                           int head_size) {
    enum { BLOCK = 32 };
    char name[64];
    int n_blocks = (context + BLOCK - 1) / BLOCK, heads = kv_heads * group;
    size_t n = (size_t)n_blocks * BLOCK * (size_t)(kv_heads * head_size);
    uint16_t *k = test_alloc(n * 2), *v = test_alloc(n * 2);
    float *values = test_random_floats(n, 1);
    format_encode(FORMAT_F16, values, k, n);
    format_encode(FORMAT_F16, values, v, n);
    struct test_batch b = test_batch_new(rows, 1, 1, n_blocks, head_size);
    double n_keys = 0;
    for (int i = 0; i < n_blocks; i++) b.block_table[i] = i;
    for (int i = 0; i < rows; i++) {
        b.positions[i] = context - rows + i;
        n_keys += b.positions[i] + 1;
    }
    size_t n_q = (size_t)rows * (size_t)(heads * head_size);
    t->attention = (struct op_attention){.y = test_floats(n_q),
                                         .q = test_random_floats(n_q, 1),
                                         .kv = {k, v, FORMAT_F16, BLOCK, kv_heads, head_size},
                                         .heads = heads,
                                         .scale = 0.125f,
                                         .batch = &b.batch};
    snprintf(name, sizeof name, "attention %dx%dx%d, %d of %d", kv_heads, group, head_size, rows,
             context);
    print_row(t, name, best_seconds(run_attention, t), (double)n * 4,
              4.0 * n_keys * heads * head_size);
    test_free_all();
}

/* ---- a whole pass of the starter's shape ---- */

enum { LAYERS = 30, HIDDEN = 576, FF = 1536, HEADS = 9, KV_HEADS = 3, HEAD = 64, VOCAB = 49152 };

struct model {
    struct device *device;
    struct matrix layers[LAYERS][7], head; /* q, k, v, o, gate, up, down */
    float *norm, *x, *q_out, *attended, *ff, *scratch, *logits;
    struct kv_view kv;
    struct test_batch b;
    struct recording *recording;
};

static struct matrix pass_matrix(struct device *device, enum format format, int rows, int cols) {
    size_t bytes = format_row_bytes(format, (size_t)rows * (size_t)cols);
    uint8_t *data = test_alloc(bytes);
    struct test_matrix one = test_random_matrix(format, 1, cols);
    size_t row_bytes = bytes / (size_t)rows;
    for (int i = 0; i < rows; i++) memcpy(data + (size_t)i * row_bytes, one.matrix.data, row_bytes);
    return test_pack_for(device, &(struct matrix){data, format, rows, cols, LAYOUT_STORED});
}

static void pass_ops(struct model *m) {
    struct device *d = m->device;
    const struct op_batch *batch = &m->b.batch;
    d->ops->embed(d, &(struct op_embed){.y = m->x, .table = &m->head, .batch = batch});
    for (int i = 0; i < LAYERS; i++) {
        const struct matrix *w = m->layers[i];
        struct kv_view kv = m->kv;
        d->ops->qkv(d, &(struct op_qkv){.q = m->q_out,
                                        .x = m->x,
                                        .norm = m->norm,
                                        .wq = &w[0],
                                        .wk = &w[1],
                                        .wv = &w[2],
                                        .eps = 1e-5f,
                                        .rope = {HEAD, true, 0},
                                        .kv = kv,
                                        .heads = HEADS,
                                        .batch = batch,
                                        .scratch = m->scratch});
        d->ops->attention(
            d, &(struct op_attention){m->attended, m->q_out, kv, HEADS, 0, 0.125f, batch});
        d->ops->linear(d, &(struct op_linear){.y = m->x,
                                              .x = m->attended,
                                              .w = &w[3],
                                              .rows = batch->n_rows,
                                              .accumulate = true});
        d->ops->gate_up(d, &(struct op_gate_up){m->ff, m->x, m->norm, &w[4], &w[5], 1e-5f,
                                                batch->n_rows, m->scratch});
        d->ops->linear(
            d, &(struct op_linear){
                   .y = m->x, .x = m->ff, .w = &w[6], .rows = batch->n_rows, .accumulate = true});
    }
    d->ops->head(d,
                 &(struct op_head){m->logits, m->x, m->norm, &m->head, 1e-5f, batch, m->scratch});
}

static void replay(void *ud) {
    struct model *m = ud;
    m->device->replay(m->device, m->recording);
}

static void time_pass(struct device *device, double roof, int rows, int context) {
    enum { BLOCK = 32 };
    int n_blocks = (context + BLOCK - 1) / BLOCK;
    size_t n = (size_t)rows;
    struct model m = {.device = device, .norm = test_random_floats(HIDDEN, 1)};
    static const int shapes[7][2] = {{HEADS * HEAD, HIDDEN},
                                     {KV_HEADS * HEAD, HIDDEN},
                                     {KV_HEADS * HEAD, HIDDEN},
                                     {HIDDEN, HEADS * HEAD},
                                     {FF, HIDDEN},
                                     {FF, HIDDEN},
                                     {HIDDEN, FF}};
    double bytes = 0;
    for (int i = 0; i < LAYERS * 7; i++) {
        m.layers[i / 7][i % 7] =
            pass_matrix(device, FORMAT_Q4_1, shapes[i % 7][0], shapes[i % 7][1]);
        bytes +=
            (double)format_row_bytes(FORMAT_Q4_1, (size_t)(shapes[i % 7][0] * shapes[i % 7][1]));
    }
    m.head = pass_matrix(device, FORMAT_Q8_0, VOCAB, HIDDEN);
    bytes += (double)format_row_bytes(FORMAT_Q8_0, (size_t)VOCAB * HIDDEN);
    size_t n_cache = (size_t)n_blocks * BLOCK * KV_HEADS * HEAD;
    m.kv = (struct kv_view){
        test_alloc(n_cache * 2), test_alloc(n_cache * 2), FORMAT_F16, BLOCK, KV_HEADS, HEAD};
    memset(m.kv.k, 0x11, n_cache * 2);
    memset(m.kv.v, 0x11, n_cache * 2);
    m.x = test_floats(n * HIDDEN);
    m.q_out = test_floats(n * HEADS * HEAD);
    m.attended = test_floats(n * HEADS * HEAD);
    m.ff = test_floats(n * FF);
    m.scratch = test_floats(n * (HIDDEN + FF));
    m.logits = test_floats(VOCAB);
    m.b = test_batch_new(rows, 1, 1, n_blocks, HEAD);
    for (int i = 0; i < n_blocks; i++) m.b.block_table[i] = i;
    for (int i = 0; i < rows; i++)
        m.b.positions[i] = m.b.slots[i] = context - rows + i; /* blocks are in order */
    device->record_begin(device);
    pass_ops(&m);
    device->record_end(device, &m.recording);
    double took = best_seconds(replay, &m);
    printf("starter's shape, %3d rows at %4d:   %9.1f us %7.1f tokens/s, weights %.0f%% of roof\n",
           rows, context, took * 1e6, rows / took, bytes / took / roof * 100);
    device->recording_free(device, m.recording);
    test_free_all();
}

static void time_linears(struct timed *t) {
    for (int f = 0; f < N_FORMATS; f++) time_linear(t, (enum format)f, 1, 8192, 3072);
    for (int f = 0; f < N_FORMATS; f++) time_linear(t, (enum format)f, 4, 4096, 1536);
    for (int f = 0; f < N_FORMATS; f++) time_linear(t, (enum format)f, 512, 1024, 1536);
}

static void time_attentions(struct timed *t) {
    time_attention(t, 1, 4096, 3, 3, 64);
    time_attention(t, 512, 512, 3, 3, 64);
    time_attention(t, 512, 4096, 2, 7, 64);
    time_attention(t, 1, 4096, 8, 4, 128);
}

int run_perf(int n_threads, const char *what) {
    struct device *device;
    if (device_cpu_open(&device, &(struct device_cpu_options){.threads = n_threads}) != OP_OK)
        return 1;
    if (n_threads <= 0) n_threads = machine_threads();
    struct timed t = {.device = device, .roof = roof_bytes_per_second(n_threads)};
    printf("%s; memory read %.1f GB/s\n", device->name, t.roof * 1e-9);
    if (!what || strcmp(what, "linear") == 0) time_linears(&t);
    if (!what || strcmp(what, "attention") == 0) time_attentions(&t);
    if (!what || strcmp(what, "pass") == 0) {
        time_pass(device, t.roof, 1, 128);
        time_pass(device, t.roof, 1, 4096);
        time_pass(device, t.roof, 4, 128);
        time_pass(device, t.roof, 512, 512);
    }
    device->close(device);
    return 0;
}
