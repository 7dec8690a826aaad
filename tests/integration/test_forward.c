/*
 * Passes without the engine: a recording that is replayed with another batch's contents gives the
 * bits of a fresh forward(), whatever the size class, and padding changes nothing.
 */
#include "engine/base/mem.h"
#include "engine/forward/graph_cache.h"
#include "tests/support/make_checkpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_SEQS = 6, N_BLOCKS = 64, N_STEPS = 20 };

struct bench {
    char folder[256];
    struct checkpoint *checkpoint;
    struct device *device;
    struct weights weights;
    struct kv_cache kv;
    struct activations activations;
    struct block_manager blocks;
    struct scheduler scheduler;
    struct batch batch;
    struct model model;
    struct graph_cache graphs;
    struct sequence sequences[MAX_SEQS];
};

static void open_bench(struct bench *b, const struct tiny_spec *spec) {
    const struct device_cpu_options options = {.threads = 2};
    struct err err = {0};
    memset(b, 0, sizeof *b);
    make_temporary_folder(b->folder);
    assert_int_equal(make_tiny_folder(b->folder, spec), 0);
    assert_int_equal(checkpoint_open(&b->checkpoint, b->folder, &err), 0);
    assert_int_equal(device_cpu_open(&b->device, &options), OP_OK);
    assert_int_equal(weights_bind(&b->weights, b->checkpoint, b->device, NULL, &err), 0);
    const struct model_config *c = checkpoint_config(b->checkpoint);
    const struct batch_size size = {.max_rows = 64,
                                    .max_seqs = graph_rows(MAX_SEQS),
                                    .max_outputs = graph_rows(MAX_SEQS),
                                    .max_blocks = N_BLOCKS,
                                    .n_freq = c->head_size / 2,
                                    .block_tokens = KV_BLOCK_TOKENS};
    assert_int_equal(kv_cache_init(&b->kv, b->device, c, FORMAT_F32, N_BLOCKS, &err), 0);
    assert_int_equal(activations_init(&b->activations, b->device, c, &size, &err), 0);
    assert_int_equal(block_manager_init(&b->blocks, N_BLOCKS, KV_BLOCK_TOKENS, &err), 0);
    assert_int_equal(scheduler_init(&b->scheduler, &b->blocks, MAX_SEQS, size.max_outputs, &err),
                     0);
    assert_int_equal(batch_init(&b->batch, size, &err), 0);
    b->model = (struct model){.device = b->device,
                              .config = c,
                              .weights = &b->weights,
                              .kv = &b->kv,
                              .activations = &b->activations};
    graph_cache_init(&b->graphs, &b->model);
}

static void close_bench(struct bench *b) {
    graph_cache_release(&b->graphs);
    batch_release(&b->batch);
    scheduler_release(&b->scheduler);
    block_manager_release(&b->blocks);
    activations_release(&b->activations);
    kv_cache_release(&b->kv);
    weights_release(&b->weights);
    b->device->close(b->device);
    checkpoint_close(b->checkpoint);
    remove_folder(b->folder);
}

static void add_sequence(struct bench *b, int i, int n_tokens) {
    const struct model_config *c = b->model.config;
    int32_t tokens[64];
    struct sequence *seq = &b->sequences[i];
    for (int k = 0; k < n_tokens; k++) tokens[k] = rand() % 256;
    assert_int_equal(
        sequence_init(seq, tokens, n_tokens, 128, KV_BLOCK_TOKENS, c->head_size / 2, NULL), 0);
    rope_frequencies(c, n_tokens, seq->inv_freq, &seq->rope_scale);
    seq->number = (uint64_t)i + 1;
    scheduler_add(&b->scheduler, seq);
}

static void end_sequence(struct bench *b, int i) {
    scheduler_remove(&b->scheduler, &b->sequences[i]);
    sequence_release(&b->sequences[i]);
}

static const struct sampling lively = {
    .temperature = 1, .top_p = 0.9f, .repetition_penalty = 1.1f, .seed = 5};

static void fill(struct bench *b) {
    batch_clear(&b->batch);
    for (int i = 0; i < b->scheduler.n_picks; i++)
        batch_add(&b->batch, &b->scheduler.picks[i], &lively);
}

static size_t logits_bytes(const struct bench *b, int rows) {
    return (size_t)rows * (size_t)b->model.config->vocab * sizeof(float);
}

static float *copy_of_logits(const struct bench *b, int rows) {
    float *copy = malloc(logits_bytes(b, rows));
    assert_non_null(copy);
    memcpy(copy, b->activations.logits, logits_bytes(b, rows));
    return copy;
}

/* The pass that was picked, by plain calls and by the graph cache; both write the same keys. */
static void assert_replay_equals_forward(struct bench *b) {
    fill(b);
    int rows = b->batch.n_outputs;
    assert_true(rows > 0);
    assert_int_equal(activations_upload(&b->activations, &b->batch), OP_OK);
    const struct op_batch op = batch_view(&b->batch, b->activations.batch);
    assert_int_equal(forward(&b->model, &op), OP_OK);
    float *fresh = copy_of_logits(b, rows);
    int32_t drawn[MAX_SEQS];
    memcpy(drawn, b->activations.drawn, (size_t)rows * sizeof *drawn);
    memset(b->activations.logits, 0xFF, logits_bytes(b, rows));
    memset(b->activations.drawn, 0xFF, (size_t)rows * sizeof *drawn);
    assert_int_equal(graph_cache_run(&b->graphs, &b->batch), OP_OK);
    assert_memory_equal(fresh, b->activations.logits, logits_bytes(b, rows));
    assert_memory_equal(drawn, b->activations.drawn, (size_t)rows * sizeof *drawn);
    for (int i = 0; i < rows; i++) assert_in_range(drawn[i], 0, b->model.config->vocab - 1);
    free(fresh);
}

/* Everyone's next token is random: other contents in each step. */
static void step(struct bench *b, int n_sequences) {
    scheduler_commit(&b->scheduler);
    for (int i = 0; i < n_sequences; i++)
        if (b->sequences[i].n_drawing > 0) sequence_append(&b->sequences[i], rand() % 256);
}

static int count_recordings(const struct bench *b) {
    int n = 0;
    for (int i = 0; i < MAX_GRAPHS; i++) n += b->graphs.graphs[i].recording != NULL;
    return n;
}

static void replays_equal_forward(const struct tiny_spec *spec) {
    struct bench b;
    srand(4);
    open_bench(&b, spec);
    for (int n = 1; n <= MAX_SEQS; n++) {
        for (int i = 0; i < n; i++) add_sequence(&b, i, 3 + 5 * i);
        while (scheduler_pick(&b.scheduler, 64) && b.sequences[n - 1].n_computed == 0) {
            fill(&b);
            assert_int_equal(graph_cache_run(&b.graphs, &b.batch), OP_OK);
            step(&b, n);
        }
        for (int k = 0; k < N_STEPS; k++) {
            assert_int_equal(scheduler_pick(&b.scheduler, 64), n);
            assert_replay_equals_forward(&b);
            step(&b, n);
        }
        for (int i = 0; i < n; i++) end_sequence(&b, i);
    }
    assert_int_equal(count_recordings(&b), 5); /* of 1, 2, 3, 4 and 6 rows */
    close_bench(&b);
}

static void replays_equal_forward_qwen2(void **state) {
    (void)state;
    replays_equal_forward(&(struct tiny_spec){.family = TINY_QWEN2, .seed = 1});
}

static void replays_equal_forward_qwen3_in_bf16(void **state) {
    (void)state;
    static const enum format formats[] = {FORMAT_BF16};
    replays_equal_forward(&(struct tiny_spec){
        .family = TINY_QWEN3, .seed = 2, .is_tied = true, .formats = formats, .n_formats = 1});
}

static void size_classes_waste_at_most_a_third(void **state) {
    (void)state;
    for (int n = 1; n <= MAX_GRAPH_ROWS; n++) {
        assert_in_range(graph_rows(n), n, n + n / 2);
        assert_int_equal(graph_rows(graph_rows(n)), graph_rows(n));
    }
    assert_int_equal(graph_rows(5), 6);
    assert_int_equal(graph_rows(MAX_GRAPH_ROWS), MAX_GRAPH_ROWS);
}

static int linears_left;
static const struct ops *real_ops;

static enum op_status failing_linear(struct device *device, const struct op_linear *op) {
    return linears_left-- > 0 ? real_ops->linear(device, op) : OP_NO_MEMORY;
}

/* Whichever op fails, in a plain pass or while recording, the pass fails; the next one is whole. */
static void a_failing_op_ends_the_pass(void **state) {
    (void)state;
    enum { N_LINEARS = 2 * 7 + 1 };
    struct bench b;
    open_bench(&b, &(struct tiny_spec){.seed = 3});
    real_ops = b.device->ops;
    struct ops failing = *real_ops;
    failing.linear = failing_linear;
    for (int n_tokens = 1; n_tokens <= 4; n_tokens += 3) {
        add_sequence(&b, 0, n_tokens);
        assert_int_equal(scheduler_pick(&b.scheduler, 64), 1);
        b.device->ops = &failing;
        for (int n = 0; n < N_LINEARS; n++) {
            linears_left = n;
            fill(&b);
            assert_int_equal(graph_cache_run(&b.graphs, &b.batch), OP_NO_MEMORY);
            assert_int_equal(count_recordings(&b), 0);
        }
        b.device->ops = real_ops;
        assert_replay_equals_forward(&b);
        graph_cache_release(&b.graphs);
        graph_cache_init(&b.graphs, &b.model);
        end_sequence(&b, 0);
    }
    close_bench(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_classes_waste_at_most_a_third),
        cmocka_unit_test(replays_equal_forward_qwen2),
        cmocka_unit_test(replays_equal_forward_qwen3_in_bf16),
        cmocka_unit_test(a_failing_op_ends_the_pass),
    };
    return cmocka_run_group_tests_name("forward", tests, NULL, NULL);
}
