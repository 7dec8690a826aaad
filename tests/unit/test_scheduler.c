/*
 * The scheduler, the batch arrays and the pace. A stand-in for the model writes into a shadow of
 * the cache what each slot was given, so a pass that would attend to somebody else's keys is seen.
 */
#include "engine/schedule/batch.h"
#include "engine/schedule/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCK = 4, MAX_SEQUENCES = 4, MAX_OUTPUTS = 6, MAX_BLOCKS = 16, N_FREQ = 2 };

struct world {
    struct block_manager blocks;
    struct scheduler scheduler;
    uint64_t n_added;
};

static void open_world(struct world *w, int n_blocks) {
    *w = (struct world){0};
    assert_int_equal(block_manager_init(&w->blocks, n_blocks, BLOCK, NULL), 0);
    assert_int_equal(scheduler_init(&w->scheduler, &w->blocks, MAX_SEQUENCES, MAX_OUTPUTS, NULL),
                     0);
}

static void close_world(struct world *w) {
    assert_int_equal(w->blocks.n_used, 0);
    scheduler_release(&w->scheduler);
    block_manager_release(&w->blocks);
}

/* A sequence of n tokens first, first + 1, …. */
static struct sequence *add(struct world *w, int first, int n, int max_tokens) {
    int32_t tokens[MAX_BLOCKS * BLOCK];
    struct sequence *seq = calloc(1, sizeof *seq);
    assert_non_null(seq);
    for (int i = 0; i < n; i++) tokens[i] = first + i;
    assert_int_equal(sequence_init(seq, tokens, n, max_tokens, BLOCK, N_FREQ, NULL), 0);
    seq->number = ++w->n_added;
    scheduler_add(&w->scheduler, seq);
    return seq;
}

static void end(struct world *w, struct sequence *seq) {
    scheduler_remove(&w->scheduler, seq);
    sequence_release(seq);
    free(seq);
}

static const struct scheduler_pick *pick_of(const struct world *w, const struct sequence *seq) {
    for (int i = 0; i < w->scheduler.n_picks; i++)
        if (w->scheduler.picks[i].sequence == seq) return &w->scheduler.picks[i];
    return NULL;
}

static int rows_of(const struct world *w, const struct sequence *seq) {
    const struct scheduler_pick *pick = pick_of(w, seq);
    return pick ? pick->n_rows : 0;
}

/* A pass: every sequence that reached its end gets one more token. */
static int pass(struct world *w, int budget) {
    int n = scheduler_pick(&w->scheduler, budget);
    scheduler_commit(&w->scheduler);
    for (int i = 0; i < n; i++) {
        struct sequence *seq = w->scheduler.picks[i].sequence;
        if (seq->n_drawing > 0) sequence_append(seq, 1000);
    }
    return n;
}

static void nothing_to_do_picks_nothing(void **state) {
    (void)state;
    struct world w;
    open_world(&w, 8);
    assert_int_equal(scheduler_pick(&w.scheduler, 16), 0);
    close_world(&w);
}

static void a_prompt_comes_in_chunks_and_then_one_by_one(void **state) {
    (void)state;
    struct world w;
    open_world(&w, 8);
    struct sequence *seq = add(&w, 0, 10, 32);
    const int expected_rows[] = {4, 4, 2, 1, 1}, expected_outputs[] = {0, 0, 1, 1, 1};
    for (int i = 0; i < 5; i++) {
        pass(&w, 4);
        assert_int_equal(rows_of(&w, seq), expected_rows[i]);
        assert_int_equal(pick_of(&w, seq)->n_outputs, expected_outputs[i]);
    }
    assert_int_equal(seq->n_tokens, 13);
    assert_int_equal(w.blocks.n_used, 3); /* as many as the 12 computed tokens need */
    end(&w, seq);
    close_world(&w);
}

static void answers_go_on_while_a_prompt_is_read(void **state) {
    (void)state;
    struct world w;
    open_world(&w, 16);
    struct sequence *a = add(&w, 0, 3, 32);
    pass(&w, 8);
    struct sequence *b = add(&w, 100, 20, 32);
    pass(&w, 8);
    assert_int_equal(rows_of(&w, a), 1);
    assert_int_equal(rows_of(&w, b), 7);
    pass(&w, 1); /* however small the budget, the prompt moves */
    assert_int_equal(rows_of(&w, a), 1);
    assert_int_equal(rows_of(&w, b), 1);
    end(&w, a);
    end(&w, b);
    close_world(&w);
}

static void a_cached_prefix_is_not_computed_again(void **state) {
    (void)state;
    struct world w;
    open_world(&w, 16);
    struct sequence *a = add(&w, 0, 12, 32);
    pass(&w, 32);
    assert_int_equal(a->n_cached, 0);
    end(&w, a);
    struct sequence *b = add(&w, 0, 12, 32), *c = add(&w, 0, 14, 32), *d = add(&w, 0, 9, 32);
    d->reuses_prefix = false;
    pass(&w, 32);
    assert_int_equal(b->n_cached, 8); /* the last token is always computed */
    assert_int_equal(c->n_cached, 12);
    assert_int_equal(d->n_cached, 0);
    assert_int_equal(rows_of(&w, b), 4);
    assert_int_equal(rows_of(&w, c), 2);
    assert_int_equal(rows_of(&w, d), 9);
    assert_int_equal(d->blocks[0], c->blocks[0]); /* what d computed is the same */
    end(&w, b);
    end(&w, c);
    end(&w, d);
    close_world(&w);
}

static void all_logits_come_in_pieces_that_fit(void **state) {
    (void)state;
    struct world w;
    open_world(&w, 16);
    struct sequence *a = add(&w, 0, 10, 32), *b = add(&w, 100, 10, 32);
    a->wants_all_logits = b->wants_all_logits = true;
    pass(&w, 32);
    assert_int_equal(rows_of(&w, a), MAX_OUTPUTS - MAX_SEQUENCES + 1);
    assert_int_equal(pick_of(&w, a)->n_outputs, rows_of(&w, a));
    assert_int_equal(rows_of(&w, b), 1);
    end(&w, a);
    end(&w, b);
    close_world(&w);
}

static void when_blocks_run_out_the_newest_waits(void **state) {
    (void)state;
    struct world w;
    open_world(&w, 5);
    struct sequence *a = add(&w, 0, 7, 20), *b = add(&w, 100, 5, 20);
    pass(&w, 32);
    assert_int_equal(w.scheduler.n_running, 2);
    assert_int_equal(w.blocks.n_used, 4);
    while (a->n_tokens < 18) pass(&w, 32);
    assert_int_equal(b->state, SEQUENCE_WAITING);
    assert_int_equal(w.scheduler.n_preemptions, 1);
    assert_true(b->n_tokens > 5); /* its answer is not lost */
    int n_before = b->n_tokens;
    end(&w, a);
    pass(&w, 32);
    assert_int_equal(b->state, SEQUENCE_RUNNING);
    assert_int_equal(b->n_tokens, n_before + 1);
    end(&w, b);
    close_world(&w);
}

static void nobody_overtakes(void **state) {
    (void)state;
    struct world w;
    open_world(&w, 5);
    struct sequence *a = add(&w, 0, 12, 20), *b = add(&w, 100, 12, 20), *c = add(&w, 200, 2, 20);
    pass(&w, 32);
    assert_int_equal(rows_of(&w, a), 12);
    assert_int_equal(rows_of(&w, b) + rows_of(&w, c), 0); /* c would fit, but b was first */
    end(&w, a);
    pass(&w, 32);
    assert_true(rows_of(&w, b) > 0 && rows_of(&w, c) > 0);
    end(&w, b);
    end(&w, c);
    close_world(&w);
}

static void waiting_ones_can_be_removed(void **state) {
    (void)state;
    struct world w;
    open_world(&w, 8);
    struct sequence *seqs[6];
    for (int i = 0; i < 6; i++) seqs[i] = add(&w, i * 100, 3, 8);
    pass(&w, 32);
    assert_int_equal(w.scheduler.n_running, MAX_SEQUENCES);
    assert_int_equal(w.scheduler.n_waiting, 2);
    end(&w, seqs[4]);
    assert_int_equal(w.scheduler.n_waiting, 1);
    end(&w, seqs[1]);
    pass(&w, 32);
    assert_true(rows_of(&w, seqs[5]) > 0);
    end(&w, seqs[0]);
    end(&w, seqs[2]);
    end(&w, seqs[3]);
    end(&w, seqs[5]);
    assert_false(scheduler_pick(&w.scheduler, 8));
    close_world(&w);
}

/* ---- batch ---- */

static const struct batch_size batch_size = {.max_rows = 16,
                                             .max_seqs = MAX_SEQUENCES,
                                             .max_outputs = MAX_OUTPUTS,
                                             .max_blocks = MAX_BLOCKS,
                                             .n_freq = N_FREQ,
                                             .block_tokens = BLOCK};

static const struct sampling greedy = {.top_p = 1, .repetition_penalty = 1, .seed = 77};

static void a_batch_holds_what_was_picked(void **state) {
    (void)state;
    struct world w;
    struct batch batch;
    open_world(&w, 16);
    assert_int_equal(batch_init(&batch, batch_size, NULL), 0);
    struct sequence *a = add(&w, 0, 6, 32), *b = add(&w, 100, 3, 32);
    a->inv_freq[1] = 0.25f;
    b->rope_scale = 2;
    scheduler_pick(&w.scheduler, 8);
    for (int i = 0; i < w.scheduler.n_picks; i++) batch_add(&batch, &w.scheduler.picks[i], &greedy);

    const struct op_batch op = batch_view(&batch, batch.memory);
    const int32_t tokens[] = {0, 1, 2, 3, 4, 5, 100, 101}, positions[] = {0, 1, 2, 3, 4, 5, 0, 1};
    const int32_t seq_of[] = {0, 0, 0, 0, 0, 0, 1, 1}, starts[] = {0, 6, 8};
    assert_int_equal(op.n_rows, 8);
    assert_int_equal(op.n_seqs, 2);
    assert_int_equal(op.n_outputs, 1); /* b's last token is not among them */
    assert_memory_equal(op.tokens, tokens, sizeof tokens);
    assert_memory_equal(op.positions, positions, sizeof positions);
    assert_memory_equal(op.seq_of, seq_of, sizeof seq_of);
    assert_memory_equal(op.starts, starts, sizeof starts);
    assert_int_equal(op.outputs[0], 5);
    assert_int_equal(op.draws[0].n_prompt, 6);
    assert_true(op.draws[0].is_wanted && op.draws[0].sampling.seed == greedy.seed);
    assert_int_equal(op.slots[5], a->blocks[1] * BLOCK + 1);
    assert_int_equal(op.block_table[0], a->blocks[0]);
    assert_int_equal(op.block_table[MAX_BLOCKS], b->blocks[0]);
    assert_true(op.inv_freq[1] == 0.25f && op.rope_scale[0] == 1 && op.rope_scale[1] == 2);
    assert_in_range(batch_bytes(&batch), 1, batch_capacity(&batch_size));
    assert_false(batch_is_decode(&batch));
    end(&w, a);
    end(&w, b);
    batch_release(&batch);
    close_world(&w);
}

static void padding_writes_nowhere(void **state) {
    (void)state;
    struct world w;
    struct batch batch;
    open_world(&w, 16);
    assert_int_equal(batch_init(&batch, batch_size, NULL), 0);
    struct sequence *a = add(&w, 7, 1, 32);
    scheduler_pick(&w.scheduler, 8);
    batch_add(&batch, w.scheduler.picks, &greedy);
    assert_true(batch_is_decode(&batch));
    batch_pad(&batch, 3);
    assert_true(batch_is_decode(&batch));
    const struct op_batch op = batch_view(&batch, batch.memory);
    assert_int_equal(op.n_rows, 3);
    for (int row = 1; row < 3; row++) {
        assert_int_equal(op.slots[row], -1);
        assert_int_equal(op.positions[row], 0);
        assert_int_equal(op.seq_of[row], row);
        assert_int_equal(op.starts[row + 1], row + 1);
        assert_int_equal(op.outputs[row], row);
        assert_false(op.draws[row].is_wanted);
        assert_in_range(op.block_table[row * MAX_BLOCKS], 0, 15);
    }
    end(&w, a);
    batch_release(&batch);
    close_world(&w);
}

/* The row of a token that is still being drawn names the output row that draws it. */
static void a_row_may_run_before_its_token_is_known(void **state) {
    (void)state;
    struct world w;
    struct batch batch;
    open_world(&w, 16);
    assert_int_equal(batch_init(&batch, batch_size, NULL), 0);
    struct sequence *a = add(&w, 0, 3, 5), *b = add(&w, 100, 4, 32), *c = add(&w, 200, 4, 5);
    scheduler_pick(&w.scheduler, 16);
    scheduler_commit(&w.scheduler);
    assert_int_equal(c->draw_row, 2);
    assert_int_equal(sequence_pending(c), 0); /* what is drawn is its last token */
    assert_int_equal(scheduler_pick(&w.scheduler, 16), 2);
    for (int i = 0; i < 2; i++) batch_add(&batch, &w.scheduler.picks[i], &greedy);
    const struct op_batch op = batch_view(&batch, batch.memory);
    assert_true(batch_is_decode(&batch));
    assert_int_equal(op.tokens[0], -1);
    assert_int_equal(op.tokens[1], -2);
    assert_int_equal(op.positions[0], 3);
    scheduler_commit(&w.scheduler);
    assert_int_equal(a->n_drawing, 2);
    assert_int_equal(b->n_registered, 1); /* of a full block all tokens are known */
    sequence_append(a, 9);
    sequence_append(b, 9);
    assert_int_equal(scheduler_pick(&w.scheduler, 16), 1); /* a's last is on its way */
    assert_ptr_equal(w.scheduler.picks[0].sequence, b);
    end(&w, a);
    end(&w, b);
    end(&w, c);
    batch_release(&batch);
    close_world(&w);
}

/* ---- random traffic ---- */

enum { N_BLOCKS = 20, MAX_TOKENS = 60, N_REQUESTS = 3000, BUDGET = 12 };

/* What a slot's key was computed from: a hash of the whole prefix and the variant. */
static uint64_t slot_content[N_BLOCKS * BLOCK];

static uint64_t content_of(const struct sequence *seq, int position) {
    uint64_t hash = 1469598103934665603u + (uint64_t)seq->variant;
    for (int i = 0; i <= position; i++) hash = (hash ^ (uint64_t)seq->tokens[i]) * 1099511628211u;
    return hash;
}

/* Writes the rows' keys, then looks at every key that the rows may see. */
static void run_pass(const struct batch *batch, const struct scheduler *s) {
    const struct op_batch op = batch_view(batch, batch->memory);
    for (int row = 0; row < op.n_rows; row++)
        slot_content[op.slots[row]] =
            content_of(s->picks[op.seq_of[row]].sequence, op.positions[row]);
    for (int i = 0; i < s->n_picks; i++) {
        int last = op.positions[op.starts[i + 1] - 1];
        for (int p = 0; p <= last; p++) {
            int32_t block = op.block_table[i * op.max_blocks + p / BLOCK];
            assert_in_range(block, 0, N_BLOCKS - 1);
            assert_true(slot_content[block * BLOCK + p % BLOCK] ==
                        content_of(s->picks[i].sequence, p));
        }
    }
}

static struct sequence *add_random(struct world *w) {
    int n = 1 + rand() % (rand() % 4 ? 12 : MAX_TOKENS);
    int max_tokens = n + rand() % (MAX_TOKENS - n + 1);
    struct sequence *seq = add(w, 0, n, max_tokens);
    for (int i = 0; i < n; i++) seq->tokens[i] = rand() % 12 == 0;
    seq->variant = rand() % 8 == 0;
    seq->reuses_prefix = rand() % 10 != 0;
    seq->wants_all_logits = !seq->reuses_prefix;
    return seq;
}

static void check_limits(const struct world *w, int budget) {
    const struct scheduler *s = &w->scheduler;
    int rows = 0, outputs = 0;
    for (int i = 0; i < s->n_picks; i++) {
        const struct scheduler_pick *p = &s->picks[i];
        assert_true(p->n_rows >= 1 && p->first == p->sequence->n_computed);
        assert_true(i == 0 || p[-1].sequence->number < p->sequence->number);
        rows += p->n_rows;
        outputs += p->n_outputs;
    }
    assert_true(rows <= (budget > MAX_SEQUENCES ? budget : MAX_SEQUENCES));
    assert_true(outputs <= MAX_OUTPUTS);
    for (int i = 0; i < s->n_running; i++)
        assert_true(!s->waiting || s->running[i]->number < s->waiting->number);
}

/* A pass draws the next token: it is known to the device only, until it is appended. */
static void draw_next(const struct scheduler *s) {
    for (int i = 0; i < s->n_picks; i++) {
        const struct sequence *seq = s->picks[i].sequence;
        int at = seq->n_tokens + seq->n_drawing - 1;
        if (s->picks[i].draws && at < seq->max_tokens) seq->tokens[at] = rand() % 12 == 0;
    }
}

/* `lag` 0: the host learns at once what a pass draws; 1: when the next one was launched. */
static void random_traffic(int lag) {
    struct world w;
    struct batch batch;
    struct sequence *live[32];
    int n_live = 0, n_ended = 0, n_cached = 0, idle = 0;
    srand(2);
    open_world(&w, N_BLOCKS);
    assert_int_equal(batch_init(&batch, batch_size, NULL), 0);
    while (n_ended < N_REQUESTS) {
        int n_due = 0;
        if (n_live < 32 && rand() % 3 == 0) live[n_live++] = add_random(&w);
        for (int i = 0; i < n_live; i++) n_due += live[i]->n_drawing;
        int budget = 1 + rand() % BUDGET;
        int n = scheduler_pick(&w.scheduler, budget);
        assert_true(n > 0 || n_live == 0 || n_due > 0);
        idle += n == 0;
        check_limits(&w, budget);
        batch_clear(&batch);
        for (int i = 0; i < n; i++) batch_add(&batch, &w.scheduler.picks[i], &greedy);
        run_pass(&batch, &w.scheduler);
        scheduler_commit(&w.scheduler);
        draw_next(&w.scheduler);
        for (int i = 0; i < n_live; i++) {
            struct sequence *seq = live[i];
            bool was_picked = pick_of(&w, seq) && pick_of(&w, seq)->draws;
            bool is_due = seq->n_drawing > (lag && was_picked);
            bool is_full = is_due && seq->n_tokens == seq->max_tokens;
            if (is_full || rand() % 200 == 0) {
                n_cached += seq->n_cached > 0;
                end(&w, seq);
                live[i--] = live[--n_live];
                n_ended++;
            } else if (is_due) {
                sequence_append(seq, seq->tokens[seq->n_tokens]);
            }
        }
    }
    while (n_live > 0) end(&w, live[--n_live]);
    assert_true(w.scheduler.n_preemptions > 100);
    assert_true(n_cached > N_REQUESTS / 20);
    assert_true(idle < N_REQUESTS);
    batch_release(&batch);
    close_world(&w);
}

static void random_traffic_ends_without_a_leak(void **state) {
    (void)state;
    random_traffic(0);
}

static void random_traffic_one_pass_behind(void **state) {
    (void)state;
    random_traffic(1);
}

/* Without any coming in or being cancelled, all end, in whatever order of lengths. */
static void every_sequence_ends(void **state) {
    (void)state;
    srand(3);
    for (int trial = 0; trial < 100; trial++) {
        struct world w;
        struct sequence *live[20];
        int n_live = 20, n_passes = 0;
        open_world(&w, 15 + rand() % 5);
        for (int i = 0; i < n_live; i++) live[i] = add_random(&w);
        for (; n_live > 0; n_passes++) {
            scheduler_pick(&w.scheduler, 1 + rand() % BUDGET);
            scheduler_commit(&w.scheduler);
            for (int i = 0; i < n_live; i++) {
                if (live[i]->n_drawing == 0) continue;
                if (live[i]->n_tokens < live[i]->max_tokens) {
                    sequence_append(live[i], 5);
                } else {
                    end(&w, live[i]);
                    live[i--] = live[--n_live];
                }
            }
            assert_true(n_passes < 20 * MAX_TOKENS * 2);
        }
        close_world(&w);
    }
}

/* ---- pace ---- */

/* A machine on which a pass takes 10 ms and so much for each row. */
static double pass_seconds(double seconds_per_row, int rows) {
    return 0.01 + seconds_per_row * rows;
}

static void chunks_fit_the_speed_of_the_machine(void **state) {
    (void)state;
    static const double speeds[] = {1e-5, 1e-4, 1e-3, 1e-2, 0.1};
    for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++) {
        for (double guess = 1e-4; guess < 2; guess *= 7) {
            struct pace pace;
            pace_init(&pace, 512, guess, false);
            double first = pass_seconds(speeds[i], pace_rows(&pace));
            for (int pass = 0; pass < 30; pass++) {
                int rows = pace_rows(&pace);
                assert_in_range(rows, 1, 512);
                pace_measured(&pace, rows, pass_seconds(speeds[i], rows));
                pace_measured(&pace, 1, pass_seconds(speeds[i], 1)); /* the end of a prompt */
            }
            int rows = pace_rows(&pace);
            double last = pass_seconds(speeds[i], rows);
            assert_true(last < 0.25 && (last > 0.1 || rows == 512));
            assert_true(first < 0.25 || guess < speeds[i]); /* only a wrong guess is too long */
        }
    }
}

/* A GPU begins with all rows; a slow one comes to fewer, of a size that it is prepared for. */
static void a_slow_gpu_takes_powers_of_two(void **state) {
    (void)state;
    static const struct {
        double seconds_per_row;
        int rows;
    } cards[] = {{25e-6, 2048}, {90e-6, 2048}, {250e-6, 512}, {1e-3, 128}, {0.1, 64}};
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        struct pace pace;
        pace_init(&pace, 2048, 1e-6, true);
        assert_int_equal(pace_rows(&pace), 2048);
        for (int pass = 0; pass < 30; pass++)
            pace_measured(&pace, pace_rows(&pace), cards[i].seconds_per_row * pace_rows(&pace));
        assert_int_equal(pace_rows(&pace), cards[i].rows);
    }
    struct pace small;
    pace_init(&small, 33, 1e-6, true);
    for (int pass = 0; pass < 30; pass++) pace_measured(&small, pace_rows(&small), 10);
    assert_int_equal(pace_rows(&small), 33);
}

static void a_fixed_pace_is_kept(void **state) {
    (void)state;
    struct pace pace;
    pace_init(&pace, 100, 0, false);
    pace_measured(&pace, 100, 50);
    assert_int_equal(pace_rows(&pace), 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_do_picks_nothing),
        cmocka_unit_test(a_prompt_comes_in_chunks_and_then_one_by_one),
        cmocka_unit_test(answers_go_on_while_a_prompt_is_read),
        cmocka_unit_test(a_cached_prefix_is_not_computed_again),
        cmocka_unit_test(all_logits_come_in_pieces_that_fit),
        cmocka_unit_test(when_blocks_run_out_the_newest_waits),
        cmocka_unit_test(nobody_overtakes),
        cmocka_unit_test(waiting_ones_can_be_removed),
        cmocka_unit_test(a_batch_holds_what_was_picked),
        cmocka_unit_test(padding_writes_nowhere),
        cmocka_unit_test(a_row_may_run_before_its_token_is_known),
        cmocka_unit_test(random_traffic_ends_without_a_leak),
        cmocka_unit_test(random_traffic_one_pass_behind),
        cmocka_unit_test(every_sequence_ends),
        cmocka_unit_test(chunks_fit_the_speed_of_the_machine),
        cmocka_unit_test(a_slow_gpu_takes_powers_of_two),
        cmocka_unit_test(a_fixed_pace_is_kept),
    };
    return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
