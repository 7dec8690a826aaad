/* First come, first served over paged blocks; the rules stand in the header. */
#include "engine/schedule/scheduler.h"

#include "engine/base/mem.h"

static int min_int(int a, int b) {
    return a < b ? a : b;
}

static int max_int(int a, int b) {
    return a > b ? a : b;
}

static int blocks_for(const struct scheduler *s, int n_tokens) {
    return (n_tokens + s->blocks->block_tokens - 1) / s->blocks->block_tokens;
}

/* ---- the two queues ---- */

static void waiting_insert(struct scheduler *s, struct sequence *seq) {
    struct sequence **link = &s->waiting;
    while (*link && (*link)->number < seq->number) link = &(*link)->next;
    seq->next = *link;
    *link = seq;
    seq->state = SEQUENCE_WAITING;
    s->n_waiting++;
}

static void waiting_remove(struct scheduler *s, struct sequence *seq) {
    struct sequence **link = &s->waiting;
    while (*link != seq) link = &(*link)->next;
    *link = seq->next;
    s->n_waiting--;
}

static void running_remove(struct scheduler *s, struct sequence *seq) {
    int i = 0;
    while (s->running[i] != seq) i++;
    s->n_running--;
    for (; i < s->n_running; i++) s->running[i] = s->running[i + 1];
}

/* ---- blocks ---- */

static void return_blocks(struct scheduler *s, struct sequence *seq) {
    block_manager_return(s->blocks, seq->blocks, seq->n_blocks);
    seq->n_blocks = seq->n_registered = seq->n_computed = 0;
}

static void preempt_newest(struct scheduler *s) {
    struct sequence *newest = s->running[--s->n_running];
    return_blocks(s, newest);
    waiting_insert(s, newest);
    s->n_preemptions++;
}

/* Blocks for the next n tokens; false when `seq` itself had to give way. */
static bool reserve(struct scheduler *s, struct sequence *seq, int n) {
    int missing = blocks_for(s, seq->n_computed + n) - seq->n_blocks;
    while (missing > block_manager_available(s->blocks) && seq->state == SEQUENCE_RUNNING)
        preempt_newest(s);
    if (seq->state != SEQUENCE_RUNNING) return false;
    while (missing-- > 0) seq->blocks[seq->n_blocks++] = block_manager_take(s->blocks);
    return true;
}

/*
 * Lets the oldest waiting sequence run if there is room. The last token is always computed: its
 * logits are wanted. So at most n_tokens - 1 come from the cache.
 */
static bool admit(struct scheduler *s) {
    struct sequence *seq = s->waiting;
    if (!seq || s->n_running == s->max_sequences) return false;
    if (seq->reuses_prefix)
        seq->n_blocks = block_manager_match(s->blocks, seq->variant, seq->tokens, seq->n_tokens - 1,
                                            seq->blocks);
    int missing = blocks_for(s, seq->n_tokens) - seq->n_blocks;
    int growth = s->n_running; /* a block for each that runs already */
    if (missing + growth > block_manager_available(s->blocks)) {
        return_blocks(s, seq);
        return false;
    }
    seq->n_registered = seq->n_blocks;
    seq->n_computed = seq->n_blocks * s->blocks->block_tokens;
    if (seq->n_cached < 0) seq->n_cached = seq->n_computed;
    waiting_remove(s, seq);
    seq->state = SEQUENCE_RUNNING;
    s->running[s->n_running++] = seq;
    return true;
}

/* ---- a pass ---- */

static int count_single_rows(const struct scheduler *s) {
    int n = 0;
    for (int i = 0; i < s->n_running; i++) n += sequence_pending(s->running[i]) == 1;
    return n;
}

static void add_pick(struct scheduler *s, struct sequence *seq, int n_rows) {
    bool reaches_end = n_rows == sequence_pending(seq);
    s->picks[s->n_picks++] = (struct scheduler_pick){
        .sequence = seq,
        .first = seq->n_computed,
        .n_rows = n_rows,
        .n_outputs = seq->wants_all_logits ? n_rows : reaches_end,
        .draws = reaches_end,
    };
}

int scheduler_pick(struct scheduler *s, int row_budget) {
    int n_before = s->n_running;
    int spare_rows = max_int(1, row_budget - count_single_rows(s)); /* for prompts */
    int spare_outputs = s->max_outputs - s->max_sequences + 1;      /* for one that wants all */
    s->n_picks = 0;
    for (int i = 0;; i++) {
        if (i >= s->n_running && !(spare_rows > 0 && admit(s))) break;
        struct sequence *seq = s->running[i];
        bool has_own_row = i < n_before && sequence_pending(seq) == 1;
        int n = has_own_row ? 1 : min_int(sequence_pending(seq), spare_rows);
        if (seq->wants_all_logits) n = min_int(n, spare_outputs);
        if (n == 0) continue;
        if (!reserve(s, seq, n)) break;
        add_pick(s, seq, n);
        if (!has_own_row) spare_rows -= n;
        if (seq->wants_all_logits) spare_outputs -= n - 1;
    }
    return s->n_picks;
}

void scheduler_commit(struct scheduler *s) {
    for (int i = 0, output = 0; i < s->n_picks; i++) {
        struct sequence *seq = s->picks[i].sequence;
        seq->n_computed += s->picks[i].n_rows;
        output += s->picks[i].n_outputs;
        if (s->picks[i].draws) {
            seq->n_drawing++;
            seq->draw_row = output - 1;
        }
        int n_full = min_int(seq->n_computed, seq->n_tokens) / s->blocks->block_tokens;
        for (; seq->n_registered < n_full; seq->n_registered++)
            block_manager_register(s->blocks, seq->variant, seq->tokens, seq->blocks,
                                   seq->n_registered);
    }
}

/* ---- public ---- */

int scheduler_init(struct scheduler *s, struct block_manager *blocks, int max_sequences,
                   int max_outputs, struct err *err) {
    if (max_outputs < max_sequences) bug("%d outputs for %d rows", max_outputs, max_sequences);
    *s = (struct scheduler){
        .blocks = blocks, .max_sequences = max_sequences, .max_outputs = max_outputs};
    s->running = mem_zalloc((size_t)max_sequences, sizeof *s->running);
    s->picks = mem_zalloc((size_t)max_sequences, sizeof *s->picks);
    if (s->running && s->picks) return 0;
    scheduler_release(s);
    return err_memory(err, (size_t)max_sequences * sizeof *s->picks, "the scheduler");
}

void scheduler_release(struct scheduler *s) {
    mem_free(s->running);
    mem_free(s->picks);
    *s = (struct scheduler){0};
}

void scheduler_add(struct scheduler *s, struct sequence *seq) {
    waiting_insert(s, seq);
}

void scheduler_remove(struct scheduler *s, struct sequence *seq) {
    if (seq->state == SEQUENCE_WAITING) waiting_remove(s, seq);
    if (seq->state == SEQUENCE_RUNNING) running_remove(s, seq);
    return_blocks(s, seq);
    seq->state = SEQUENCE_ENDED;
}
