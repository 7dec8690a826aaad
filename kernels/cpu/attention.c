/*
 * Attention over the paged cache, flash style: keys are taken in spans of SPAN positions; each span
 * gives a query its own maximum, sum and weighted values, which are merged in order of position
 * (online softmax, arXiv 1805.02867; FlashAttention, arXiv 2205.14135).
 *
 * Spans lie at fixed positions, so what a query gets does not depend on the rows computed beside
 * it, on where its blocks lie, or on which of two plans is used:
 *   whole  a thread takes a tile of queries of one key/value head through all its spans;
 *   split  (few queries) threads share the spans too, and meet before merging.
 */
#include "kernels/cpu/cpu.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { SPAN = 128, MOST_KEYS = 32, TILE_QUERIES = 32, P_STRIDE = SPAN + WIDEST };

/* Rows are those of struct tile. Rows of q, kv, mixed and y are padded_size() apart. */
struct attention_scratch {
    float q[TILE_QUERIES * MAX_HEAD_SIZE];
    float kv[MOST_KEYS * MAX_HEAD_SIZE]; /* of a run that cannot be read where it lies */
    float p[TILE_QUERIES * P_STRIDE];
    float mixed[TILE_QUERIES * MAX_HEAD_SIZE]; /* of this span: sum of p v, not divided */
    float max[TILE_QUERIES], sum[TILE_QUERIES];
    struct range keys[TILE_QUERIES]; /* that the row sees, of this span */
    float y[TILE_QUERIES * MAX_HEAD_SIZE];
    float y_max[TILE_QUERIES], y_sum[TILE_QUERIES];
};
static_assert(sizeof(struct attention_scratch) <= CPU_SCRATCH_BYTES, "scratch of attention");

/*
 * Queries of one sequence: of several tokens with one key/value head, or of one token with several,
 * which lie side by side in the cache. Row (g * n_tokens + t) * n_heads + h is the query of token t
 * and of head h of the tile's heads of key/value head g.
 */
struct tile {
    int token, n_tokens;
    int kv_head, n_kv_heads;
    int skipped, n_heads; /* of each group: all, or TILE_QUERIES of it after so many */
};

static int rows_of(const struct tile *tile) {
    return tile->n_kv_heads * tile->n_tokens * tile->n_heads;
}

/* The token and the head of row j. */
static int token_of(const struct tile *tile, int j) {
    return tile->token + j / tile->n_heads % tile->n_tokens;
}

static int head_of(const struct op_attention *op, const struct tile *tile, int j) {
    int kv_head = tile->kv_head + j / (tile->n_heads * tile->n_tokens);
    return kv_head * (op->heads / op->kv.n_kv_heads) + tile->skipped + j % tile->n_heads;
}

/* How the work is cut, from sizes alone: recordings are planned before positions are known. */
struct plan {
    int heads_at_once, n_head_tiles; /* of one key/value head's group */
    int tokens_at_once, n_token_tiles;
    int n_spans; /* at most, of a sequence */
    bool is_split;
};

static struct plan plan_of(const struct op_attention *op, int n_threads) {
    struct plan plan;
    int group = op->heads / op->kv.n_kv_heads, n_rows = op->batch->n_rows;
    long long n_keys = (long long)op->batch->max_blocks * op->kv.block_tokens;
    plan.heads_at_once = smaller(group, TILE_QUERIES);
    plan.n_head_tiles = (group + plan.heads_at_once - 1) / plan.heads_at_once;
    plan.tokens_at_once = TILE_QUERIES / plan.heads_at_once;
    plan.n_token_tiles = (n_rows + plan.tokens_at_once - 1) / plan.tokens_at_once;
    plan.n_spans = (int)((n_keys + SPAN - 1) / SPAN);
    plan.is_split = (long long)n_rows * op->kv.n_kv_heads <= 8 * (long long)n_threads;
    return plan;
}

/* The keys that the row sees, all spans. */
static struct range keys_of(const struct op_attention *op, int token) {
    size_t to = (size_t)op->batch->positions[token] + 1, window = (size_t)op->window;
    return (struct range){window > 0 && to > window ? to - window : 0, to};
}

/* Vectors are whole: rows in scratch end in zeros. */
static size_t padded_size(const struct op_attention *op) {
    return ((size_t)op->kv.head_size + WIDEST - 1) / WIDEST * WIDEST;
}

/* Where the key or value of a position lies; those behind it in its block follow. */
static const uint8_t *cached(const struct op_attention *op, const void *cache, int sequence,
                             int kv_head, size_t position) {
    const struct kv_view *kv = &op->kv;
    const int32_t *blocks =
        op->batch->block_table + (size_t)sequence * (size_t)op->batch->max_blocks;
    uint32_t at = (uint32_t)position, block_tokens = (uint32_t)kv->block_tokens;
    size_t block = (size_t)blocks[at / block_tokens], offset = at % block_tokens;
    size_t row = (block * (size_t)kv->n_kv_heads + (size_t)kv_head) * block_tokens + offset;
    return (const uint8_t *)cache + format_row_bytes(kv->format, row * (size_t)kv->head_size);
}

/* Keys or values of positions that lie side by side, as the inner loops read them. */
struct run {
    struct range range;
    enum format format;
    const void *at;
};

/* To scratch, as float and with whole vectors. */
static void widen(const struct op_attention *op, struct part part, struct run *run) {
    size_t head_size = (size_t)op->kv.head_size, padded = padded_size(op);
    size_t bytes = format_row_bytes(run->format, head_size);
    float *to = ((struct attention_scratch *)part.scratch)->kv;
    for (size_t i = 0; i < run->range.to - run->range.from; i++) {
        part.variant->decode[run->format]((const uint8_t *)run->at + i * bytes, to + i * padded,
                                          head_size);
        memset(to + i * padded + head_size, 0, (padded - head_size) * sizeof *to);
    }
    run->format = FORMAT_F32;
    run->at = to;
}

/* The first positions of `range` that lie side by side in cache. */
static struct run run_at(const struct op_attention *op, struct part part, const void *cache,
                         int sequence, int kv_head, struct range range) {
    const struct kv_view *kv = &op->kv;
    size_t n = (size_t)kv->block_tokens - (uint32_t)range.from % (uint32_t)kv->block_tokens;
    if (n > range.to - range.from) n = range.to - range.from;
    if (n > MOST_KEYS) n = MOST_KEYS;
    struct run run = {
        {range.from, range.from + n}, kv->format, cached(op, cache, sequence, kv_head, range.from)};
    if ((size_t)kv->head_size % WIDEST) widen(op, part, &run);
    return run;
}

static const float *query(const struct op_attention *op, int token, int head) {
    size_t row = (size_t)token * (size_t)op->heads + (size_t)head;
    return (const float *)op->q + row * (size_t)op->kv.head_size;
}

static void load_queries(const struct op_attention *op, const struct tile *tile, float *out) {
    size_t head_size = (size_t)op->kv.head_size, padded = padded_size(op);
    for (int j = 0; j < rows_of(tile); j++, out += padded) {
        memcpy(out, query(op, token_of(tile, j), head_of(op, tile, j)), head_size * sizeof *out);
        memset(out + head_size, 0, (padded - head_size) * sizeof *out);
    }
}

/* The keys of the span that any row of the tile sees; keys[] for each row. */
static struct range intersect(const struct op_attention *op, const struct tile *tile, size_t span,
                              struct range *keys) {
    struct range any = {SIZE_MAX, 0};
    for (int j = 0; j < rows_of(tile); j++) {
        struct range range = keys_of(op, token_of(tile, j));
        if (range.from < span * SPAN) range.from = span * SPAN;
        if (range.to > (span + 1) * SPAN) range.to = (span + 1) * SPAN;
        if (range.from > range.to) range.from = range.to;
        keys[j] = range;
        if (range.from == range.to) continue;
        if (range.from < any.from) any.from = range.from;
        if (range.to > any.to) any.to = range.to;
    }
    return any;
}

static struct range overlap(struct range a, struct range b) {
    struct range both = {a.from > b.from ? a.from : b.from, a.to < b.to ? a.to : b.to};
    if (both.from > both.to) both.from = both.to;
    return both;
}

/* mixed += p v of a run of the values of the tile's key/value head g. */
static void mix_run(const struct op_attention *op, struct part part, const struct tile *tile, int g,
                    const struct run *run, size_t p_from, const void *next) {
    struct attention_scratch *s = part.scratch;
    size_t stride = padded_size(op), bytes = format_row_bytes(run->format, stride);
    int n_heads = tile->n_heads, first = g * tile->n_tokens * n_heads;
    for (int t = 0, n; t < tile->n_tokens; t += n) { /* tokens that see the same keys together */
        struct range keys = overlap(s->keys[first + t * n_heads], run->range);
        for (n = 1; t + n < tile->n_tokens; n++) {
            struct range other = overlap(s->keys[first + (t + n) * n_heads], run->range);
            if (other.from != keys.from || other.to != keys.to) break;
        }
        if (keys.from == keys.to) continue;
        size_t row = (size_t)(first + t * n_heads);
        part.variant->mix[run->format](
            (struct rows){s->p + row * P_STRIDE + (keys.from - p_from), P_STRIDE, n * n_heads},
            (const uint8_t *)run->at + (keys.from - run->range.from) * bytes,
            (int)(keys.to - keys.from), (int)stride, s->mixed + row * stride, stride, next);
    }
}

/* Memory is far away: while the keys of a position are used its values are fetched, and with those
 * the keys of a position in the span to come; NULL: nothing. */
static const void *ahead(const struct op_attention *op, const struct tile *tile, const void *cache,
                         int g, size_t position, size_t to) {
    if (position >= to) return NULL;
    return cached(op, cache, op->batch->seq_of[tile->token], tile->kv_head + g, position);
}

static void score_all(const struct op_attention *op, struct part part, const struct tile *tile,
                      struct range any) {
    struct attention_scratch *s = part.scratch;
    int sequence = op->batch->seq_of[tile->token], n_rows = tile->n_tokens * tile->n_heads;
    size_t stride = padded_size(op);
    struct run run = {.range = any};
    for (struct range rest = any; rest.from < any.to; rest.from = run.range.to) {
        for (int g = 0; g < tile->n_kv_heads; g++) {
            size_t row = (size_t)(g * n_rows);
            run = run_at(op, part, op->kv.k, sequence, tile->kv_head + g, rest);
            part.variant->score[run.format](
                run.at, (int)(run.range.to - run.range.from),
                (struct rows){s->q + row * stride, stride, n_rows}, (int)stride,
                s->p + row * P_STRIDE + (rest.from - any.from), P_STRIDE,
                ahead(op, tile, op->kv.v, g, rest.from, any.to));
        }
    }
}

static void mix_all(const struct op_attention *op, struct part part, const struct tile *tile,
                    struct range any, size_t next) {
    struct attention_scratch *s = part.scratch;
    int sequence = op->batch->seq_of[tile->token];
    size_t end = keys_of(op, tile->token + tile->n_tokens - 1).to;
    struct run run = {.range = any};
    memset(s->mixed, 0, (size_t)rows_of(tile) * padded_size(op) * sizeof *s->mixed);
    for (struct range rest = any; rest.from < any.to; rest.from = run.range.to) {
        for (int g = 0; g < tile->n_kv_heads; g++) {
            run = run_at(op, part, op->kv.v, sequence, tile->kv_head + g, rest);
            mix_run(op, part, tile, g, &run, any.from,
                    ahead(op, tile, op->kv.k, g, next * SPAN + (rest.from - any.from), end));
        }
    }
}

/* One span for all rows of the tile: keys, and where these are any: max, sum, mixed. The thread
 * goes on with the span `next`. */
static void attend(const struct op_attention *op, struct part part, const struct tile *tile,
                   size_t span, size_t next) {
    struct attention_scratch *s = part.scratch;
    struct range any = intersect(op, tile, span, s->keys);
    if (any.to == 0) return;
    score_all(op, part, tile, any);
    for (int j = 0; j < rows_of(tile); j++) {
        struct range keys = s->keys[j];
        if (keys.from == keys.to) continue;
        part.variant->softmax(s->p + (size_t)j * P_STRIDE + (keys.from - any.from),
                              (int)(keys.to - keys.from), op->scale, &s->max[j], &s->sum[j]);
    }
    mix_all(op, part, tile, any, next);
}

/* Adds a span's result to what the spans before it gave. */
static void merge(float *y, float *y_max, float *y_sum, const float *mixed, float max, float sum,
                  int head_size) {
    float together = max > *y_max ? max : *y_max;
    float base = together == -INFINITY ? 0 : together;
    float before = expf(*y_max - base), now = expf(max - base);
    for (int i = 0; i < head_size; i++) y[i] = y[i] * before + mixed[i] * now;
    *y_sum = *y_sum * before + sum * now;
    *y_max = together;
}

static void begin(float *y, float *y_max, float *y_sum, int head_size) {
    memset(y, 0, (size_t)head_size * sizeof *y);
    *y_max = -INFINITY;
    *y_sum = 0;
}

static float *output(const struct op_attention *op, int token, int head) {
    size_t row = (size_t)token * (size_t)op->heads + (size_t)head;
    return (float *)op->y + row * (size_t)op->kv.head_size;
}

static void finish(const struct op_attention *op, int token, int head, const float *y, float sum) {
    float *out = output(op, token, head);
    for (int i = 0; i < op->kv.head_size; i++) out[i] = y[i] / sum;
}

static void attend_whole(const struct op_attention *op, struct part part, const struct tile *tile) {
    struct attention_scratch *s = part.scratch;
    int head_size = op->kv.head_size, n_rows = rows_of(tile);
    size_t stride = padded_size(op);
    struct range first = keys_of(op, tile->token);
    struct range last = keys_of(op, tile->token + tile->n_tokens - 1);
    load_queries(op, tile, s->q);
    for (int j = 0; j < n_rows; j++)
        begin(s->y + (size_t)j * stride, &s->y_max[j], &s->y_sum[j], head_size);
    for (size_t span = first.from / SPAN; span * SPAN < last.to; span++) {
        attend(op, part, tile, span, span + 1);
        for (int j = 0; j < n_rows; j++)
            if (s->keys[j].from < s->keys[j].to)
                merge(s->y + (size_t)j * stride, &s->y_max[j], &s->y_sum[j],
                      s->mixed + (size_t)j * stride, s->max[j], s->sum[j], head_size);
    }
    for (int j = 0; j < n_rows; j++)
        finish(op, token_of(tile, j), head_of(op, tile, j), s->y + (size_t)j * stride, s->y_sum[j]);
}

static bool is_padding(const struct op_attention *op, int token) {
    return op->batch->slots[token] < 0;
}

/* Padding has no reader: zeros, so that nothing odd goes on. */
static void put_zeros(const struct op_attention *op, int token, int head, int n_heads) {
    size_t n = (size_t)n_heads * (size_t)op->kv.head_size;
    memset(output(op, token, head), 0, n * sizeof(float));
}

/* How many tokens from the first on, before end, are of its sequence. */
static int tokens_together(const struct op_attention *op, int token, int end) {
    int n = 1;
    while (token + n < end && !is_padding(op, token + n) &&
           op->batch->seq_of[token + n] == op->batch->seq_of[token])
        n++;
    return n;
}

/* Of n_kv_heads from kv_head on, the group's heads of tile `head_tile`; no tokens yet. */
static struct tile tile_at(const struct op_attention *op, const struct plan *plan, int kv_head,
                           int n_kv_heads, int head_tile) {
    int group = op->heads / op->kv.n_kv_heads, skipped = head_tile * plan->heads_at_once;
    return (struct tile){.kv_head = kv_head,
                         .n_kv_heads = n_kv_heads,
                         .skipped = skipped,
                         .n_heads = smaller(plan->heads_at_once, group - skipped)};
}

static void attention_whole(const struct op_attention *op, struct part part,
                            const struct plan *plan) {
    size_t n_per_tokens = (size_t)op->kv.n_kv_heads * (size_t)plan->n_head_tiles;
    size_t n_items = n_per_tokens * (size_t)plan->n_token_tiles;
    int group = op->heads / op->kv.n_kv_heads;
    for (size_t item; (item = part_take(part, 1)) < n_items;) {
        size_t rest = item % n_per_tokens;
        struct tile tile = tile_at(op, plan, (int)(rest / (size_t)plan->n_head_tiles), 1,
                                   (int)(rest % (size_t)plan->n_head_tiles));
        /* late tokens see the most keys: first, so that threads end together */
        int token = (plan->n_token_tiles - 1 - (int)(item / n_per_tokens)) * plan->tokens_at_once;
        int end = smaller(token + plan->tokens_at_once, op->batch->n_rows);
        for (; token < end; token += tile.n_tokens) {
            tile.token = token;
            tile.n_tokens = 1;
            if (is_padding(op, token)) {
                put_zeros(op, token, tile.kv_head * group + tile.skipped, tile.n_heads);
            } else {
                tile.n_tokens = tokens_together(op, token, end);
                attend_whole(op, part, &tile);
            }
        }
    }
}

/* What a span gave one query, in part.shared: [T, H, spans][K + 2], maximum and sum last. */
static float *partial(const struct op_attention *op, struct part part, const struct plan *plan,
                      int token, int head, size_t span) {
    size_t row = (size_t)token * (size_t)op->heads + (size_t)head;
    return (float *)part.shared +
           (row * (size_t)plan->n_spans + span) * ((size_t)op->kv.head_size + 2);
}

static void store_partials(const struct op_attention *op, struct part part, const struct plan *plan,
                           const struct tile *tile, size_t span) {
    struct attention_scratch *s = part.scratch;
    size_t head_size = (size_t)op->kv.head_size, stride = padded_size(op);
    for (int j = 0; j < rows_of(tile); j++) {
        float *to = partial(op, part, plan, tile->token, head_of(op, tile, j), span);
        memcpy(to, s->mixed + (size_t)j * stride, head_size * sizeof *to);
        to[head_size] = s->max[j];
        to[head_size + 1] = s->sum[j];
    }
}

/* Heads of a tile: as many as there is room for, so that a thread reads blocks from end to end; one
 * where the spans are few, so that all threads have work. */
static int kv_heads_at_once(const struct op_attention *op, const struct plan *plan, size_t n_spans,
                            int n_threads) {
    if (n_spans < 4 * (size_t)n_threads) return 1;
    return smaller(op->kv.n_kv_heads, TILE_QUERIES / plan->heads_at_once);
}

/* A thread's share of the spans of a token, each with all heads. */
static void attend_split(const struct op_attention *op, struct part part, const struct plan *plan,
                         int token) {
    struct attention_scratch *s = part.scratch;
    struct range keys = keys_of(op, token);
    size_t first = keys.from / SPAN, n_spans = (keys.to + SPAN - 1) / SPAN - first;
    int n_kv_heads = op->kv.n_kv_heads;
    int at_once = kv_heads_at_once(op, plan, n_spans, part.count);
    size_t n_kv_tiles = (size_t)((n_kv_heads + at_once - 1) / at_once);
    size_t n_tiles = n_kv_tiles * (size_t)plan->n_head_tiles;
    struct range run = part_range(part, n_tiles * n_spans, 1);
    for (size_t item = run.from; item < run.to; item++) {
        int i = (int)(item % n_tiles), kv_head = i / plan->n_head_tiles * at_once;
        size_t span = first + item / n_tiles;
        struct tile tile = tile_at(op, plan, kv_head, smaller(at_once, n_kv_heads - kv_head),
                                   i % plan->n_head_tiles);
        tile.token = token;
        tile.n_tokens = 1;
        load_queries(op, &tile, s->q);
        attend(op, part, &tile, span, span + 1);
        store_partials(op, part, plan, &tile, span);
    }
}

static void attention_split(const struct op_attention *op, struct part part,
                            const struct plan *plan) {
    for (int token = 0; token < op->batch->n_rows; token++)
        if (!is_padding(op, token)) attend_split(op, part, plan, token);
}

static void merge_split(const struct op_attention *op, struct part part, const struct plan *plan) {
    struct attention_scratch *s = part.scratch;
    int head_size = op->kv.head_size;
    for (int row = part.index; row < op->batch->n_rows * op->heads; row += part.count) {
        int token = row / op->heads, head = row % op->heads;
        if (is_padding(op, token)) {
            put_zeros(op, token, head, 1);
            continue;
        }
        struct range keys = keys_of(op, token);
        begin(s->y, s->y_max, s->y_sum, head_size);
        for (size_t span = keys.from / SPAN; span * SPAN < keys.to; span++) {
            const float *from = partial(op, part, plan, token, head, span);
            merge(s->y, s->y_max, s->y_sum, from, from[head_size], from[head_size + 1], head_size);
        }
        finish(op, token, head, s->y, s->y_sum[0]);
    }
}

size_t cpu_attention_shared_bytes(const struct op_attention *op, int n_threads) {
    struct plan plan = plan_of(op, n_threads);
    if (!plan.is_split) return 0;
    return (size_t)op->batch->n_rows * (size_t)op->heads * (size_t)plan.n_spans *
           ((size_t)op->kv.head_size + 2) * sizeof(float);
}

void cpu_attention(const struct op_attention *op, struct part part) {
    struct plan plan = plan_of(op, part.count);
    if (!plan.is_split) {
        attention_whole(op, part, &plan);
        return;
    }
    attention_split(op, part, &plan);
    part_barrier(part);
    merge_split(op, part, &plan);
}
