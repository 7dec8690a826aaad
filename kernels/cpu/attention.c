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

/* Row j of the tile: token j / n_heads, head j % n_heads of the tile. Rows of q, kv, mixed and y
 * are padded_size() apart. */
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

/* Queries that see the same sequence and key/value head. */
struct tile {
    int token, n_tokens;
    int kv_head;
    int head, n_heads; /* all of the group, or TILE_QUERIES of it */
};

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
    plan.is_split =
        n_threads > 1 && (long long)n_rows * op->kv.n_kv_heads < 4 * (long long)n_threads;
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

/* What is wanted after this: positions from `from` on, up to `to`, of `cache`. */
struct ahead {
    const void *cache;
    int kv_head;
    size_t from, to;
};

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

/* The first positions of `range` that lie side by side in cache. Blocks lie anywhere, and memory is
 * far away: while one is used one of those to come is fetched. */
static struct run run_at(const struct op_attention *op, struct part part, const void *cache,
                         int sequence, int kv_head, struct range range, struct ahead ahead) {
    const struct kv_view *kv = &op->kv;
    size_t head_size = (size_t)kv->head_size;
    size_t n = (size_t)kv->block_tokens - (uint32_t)range.from % (uint32_t)kv->block_tokens;
    if (n > range.to - range.from) n = range.to - range.from;
    if (n > MOST_KEYS) n = MOST_KEYS;
    if (ahead.from < ahead.to) {
        const uint8_t *next = cached(op, ahead.cache, sequence, ahead.kv_head, ahead.from);
        size_t bytes = format_row_bytes(kv->format, n * head_size);
        for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i, 0, 2);
    }
    struct run run = {
        {range.from, range.from + n}, kv->format, cached(op, cache, sequence, kv_head, range.from)};
    if (head_size % WIDEST) widen(op, part, &run);
    return run;
}

static void load_queries(const struct op_attention *op, const struct tile *tile, float *out) {
    size_t head_size = (size_t)op->kv.head_size, padded = padded_size(op);
    for (int t = 0; t < tile->n_tokens; t++) {
        size_t row = (size_t)(tile->token + t) * (size_t)op->heads + (size_t)tile->head;
        const float *q = (const float *)op->q + row * head_size;
        for (int h = 0; h < tile->n_heads; h++, q += head_size, out += padded) {
            memcpy(out, q, head_size * sizeof *out);
            memset(out + head_size, 0, (padded - head_size) * sizeof *out);
        }
    }
}

/* The keys of the span that any row of the tile sees; keys[] for each row. */
static struct range intersect(const struct op_attention *op, const struct tile *tile, size_t span,
                              struct range *keys) {
    struct range any = {SIZE_MAX, 0};
    for (int j = 0; j < tile->n_tokens * tile->n_heads; j++) {
        struct range range = keys_of(op, tile->token + j / tile->n_heads);
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

/* mixed += p v of a run of values. */
static void mix_run(const struct op_attention *op, struct part part, const struct tile *tile,
                    const struct run *run, size_t p_from) {
    struct attention_scratch *s = part.scratch;
    size_t stride = padded_size(op), bytes = format_row_bytes(run->format, stride);
    int n_heads = tile->n_heads;
    for (int t = 0, n; t < tile->n_tokens; t += n) { /* tokens that see the same keys together */
        struct range keys = overlap(s->keys[t * n_heads], run->range);
        for (n = 1; t + n < tile->n_tokens; n++) {
            struct range other = overlap(s->keys[(t + n) * n_heads], run->range);
            if (other.from != keys.from || other.to != keys.to) break;
        }
        if (keys.from == keys.to) continue;
        size_t row = (size_t)(t * n_heads);
        part.variant->mix[run->format](
            (struct rows){s->p + row * P_STRIDE + (keys.from - p_from), P_STRIDE, n * n_heads},
            (const uint8_t *)run->at + (keys.from - run->range.from) * bytes,
            (int)(keys.to - keys.from), (int)stride, s->mixed + row * stride, stride);
    }
}

/* One span for all rows of the tile: keys, and where these are any: max, sum, mixed. The thread
 * goes on with the span `next` of next_kv_head. */
static void attend(const struct op_attention *op, struct part part, const struct tile *tile,
                   size_t span, int next_kv_head, size_t next) {
    struct attention_scratch *s = part.scratch;
    int n_rows = tile->n_tokens * tile->n_heads, sequence = op->batch->seq_of[tile->token];
    size_t stride = padded_size(op);
    struct range any = intersect(op, tile, span, s->keys), rest = any;
    if (any.to == 0) return;

    struct range last = keys_of(op, tile->token + tile->n_tokens - 1);
    for (struct run run; rest.from < any.to; rest.from = run.range.to) {
        run = run_at(op, part, op->kv.k, sequence, tile->kv_head, rest,
                     (struct ahead){op->kv.v, tile->kv_head, rest.from, any.to});
        part.variant->score[run.format](run.at, (int)(run.range.to - run.range.from),
                                        (struct rows){s->q, stride, n_rows}, (int)stride,
                                        s->p + (rest.from - any.from), P_STRIDE);
    }
    for (int j = 0; j < n_rows; j++) {
        struct range keys = s->keys[j];
        if (keys.from == keys.to) continue;
        part.variant->softmax(s->p + (size_t)j * P_STRIDE + (keys.from - any.from),
                              (int)(keys.to - keys.from), op->scale, &s->max[j], &s->sum[j]);
    }

    memset(s->mixed, 0, (size_t)n_rows * stride * sizeof *s->mixed);
    rest = any;
    for (struct run run; rest.from < any.to; rest.from = run.range.to) {
        size_t later = next * SPAN + (rest.from - any.from);
        run = run_at(op, part, op->kv.v, sequence, tile->kv_head, rest,
                     (struct ahead){op->kv.k, next_kv_head, later, last.to});
        mix_run(op, part, tile, &run, any.from);
    }
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
    int head_size = op->kv.head_size, n_rows = tile->n_tokens * tile->n_heads;
    size_t stride = padded_size(op);
    struct range first = keys_of(op, tile->token);
    struct range last = keys_of(op, tile->token + tile->n_tokens - 1);
    load_queries(op, tile, s->q);
    for (int j = 0; j < n_rows; j++)
        begin(s->y + (size_t)j * stride, &s->y_max[j], &s->y_sum[j], head_size);
    for (size_t span = first.from / SPAN; span * SPAN < last.to; span++) {
        attend(op, part, tile, span, tile->kv_head, span + 1);
        for (int j = 0; j < n_rows; j++)
            if (s->keys[j].from < s->keys[j].to)
                merge(s->y + (size_t)j * stride, &s->y_max[j], &s->y_sum[j],
                      s->mixed + (size_t)j * stride, s->max[j], s->sum[j], head_size);
    }
    for (int j = 0; j < n_rows; j++)
        finish(op, tile->token + j / tile->n_heads, tile->head + j % tile->n_heads,
               s->y + (size_t)j * stride, s->y_sum[j]);
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

static struct tile tile_at(const struct op_attention *op, const struct plan *plan, int kv_head,
                           int head_tile) {
    int group = op->heads / op->kv.n_kv_heads, skipped = head_tile * plan->heads_at_once;
    return (struct tile){.kv_head = kv_head,
                         .head = kv_head * group + skipped,
                         .n_heads = smaller(plan->heads_at_once, group - skipped)};
}

static void attention_whole(const struct op_attention *op, struct part part,
                            const struct plan *plan) {
    size_t n_per_tokens = (size_t)op->kv.n_kv_heads * (size_t)plan->n_head_tiles;
    size_t n_items = n_per_tokens * (size_t)plan->n_token_tiles;
    for (size_t item; (item = part_take(part, 1)) < n_items;) {
        size_t rest = item % n_per_tokens;
        struct tile tile = tile_at(op, plan, (int)(rest / (size_t)plan->n_head_tiles),
                                   (int)(rest % (size_t)plan->n_head_tiles));
        /* late tokens see the most keys: first, so that threads end together */
        int token = (plan->n_token_tiles - 1 - (int)(item / n_per_tokens)) * plan->tokens_at_once;
        int end = smaller(token + plan->tokens_at_once, op->batch->n_rows);
        for (; token < end; token += tile.n_tokens) {
            tile.token = token;
            tile.n_tokens = 1;
            if (is_padding(op, token)) {
                put_zeros(op, token, tile.head, tile.n_heads);
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
    for (int j = 0; j < tile->n_heads; j++) {
        float *to = partial(op, part, plan, tile->token, tile->head + j, span);
        memcpy(to, s->mixed + (size_t)j * stride, head_size * sizeof *to);
        to[head_size] = s->max[j];
        to[head_size + 1] = s->sum[j];
    }
}

static void attention_split(const struct op_attention *op, struct part part,
                            const struct plan *plan) {
    struct attention_scratch *s = part.scratch;
    size_t n_tiles = (size_t)op->kv.n_kv_heads * (size_t)plan->n_head_tiles;
    for (int token = 0; token < op->batch->n_rows; token++) {
        if (is_padding(op, token)) continue;
        struct range keys = keys_of(op, token);
        size_t first = keys.from / SPAN, n_spans = (keys.to + SPAN - 1) / SPAN - first;
        /* a run of spans, each with all heads, which are neighbours in a block */
        struct range run = part_range(part, n_tiles * n_spans, 1);
        for (size_t item = run.from; item < run.to; item++) {
            int i = (int)(item % n_tiles), after = (int)((item + 1) % n_tiles);
            size_t span = first + item / n_tiles;
            struct tile tile = tile_at(op, plan, i / plan->n_head_tiles, i % plan->n_head_tiles);
            tile.token = token;
            tile.n_tokens = 1;
            load_queries(op, &tile, s->q);
            attend(op, part, &tile, span, after / plan->n_head_tiles, first + (item + 1) / n_tiles);
            store_partials(op, part, plan, &tile, span);
        }
    }
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
