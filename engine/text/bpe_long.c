/*
 * Byte pair encoding of long pieces in about linear time. The pairs that may merge are kept in
 * one bucket per rank, each a doubly linked list in the order of the text; a heap holds the ranks
 * whose bucket may have something. So merging 10 MB of one letter walks through memory in order.
 *
 * While the bucket of a rank is being emptied nothing is put into it: a pair of that rank has a
 * certain length, and every pair made meanwhile is longer, as it holds a token of that length
 * and more. So sorting a bucket once, when its turn comes, is enough.
 */
#include "engine/text/bpe.h"

#include "engine/base/mem.h"

#define NONE UINT32_MAX

/* A token of the piece. */
struct bpe_symbol {
    int32_t id;
    uint32_t before, after;    /* its neighbours */
    uint32_t rank;             /* of it and the one after */
    uint32_t in_front, behind; /* in the bucket of that rank */
};

struct bpe_bucket {
    uint32_t first, last;
    bool is_unsorted, is_in_heap;
};

/* One piece being merged. */
struct work {
    const struct bpe *bpe;
    const char *piece;
    size_t n;
    struct bpe_symbol *symbols;
    struct bpe_bucket *buckets;
    uint32_t *heap;
    size_t n_heap;
};

void bpe_scratch_release(struct bpe_scratch *scratch) {
    mem_free(scratch->symbols);
    mem_free(scratch->buckets);
    mem_free(scratch->heap);
    *scratch = (struct bpe_scratch){0};
}

static int reserve(struct bpe_scratch *s, size_t n, size_t n_ranks, struct err *err) {
    if (n >= NONE) return err_set(err, ERR_OTHER, "a word of more than 4 GiB");
    if (n > s->n_symbols) {
        mem_free(s->symbols);
        s->symbols = mem_resize(NULL, n, sizeof *s->symbols);
        s->n_symbols = s->symbols ? n : 0;
        if (!s->symbols) return err_memory(err, n * sizeof *s->symbols, "a long word");
    }
    if (s->heap) return 0;
    if (!s->buckets) {
        s->buckets = mem_resize(NULL, n_ranks, sizeof *s->buckets);
        for (size_t i = 0; s->buckets && i < n_ranks; i++)
            s->buckets[i] = (struct bpe_bucket){NONE, NONE, false, false};
    }
    s->heap = s->buckets ? mem_resize(NULL, n_ranks, sizeof *s->heap) : NULL;
    return s->heap ? 0 : err_memory(err, n_ranks * sizeof *s->buckets, "a long word");
}

static void heap_push(struct work *w, uint32_t rank) {
    size_t i = w->n_heap++;
    for (; i > 0 && w->heap[(i - 1) / 2] > rank; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = rank;
}

static void heap_pop(struct work *w) {
    uint32_t last = w->heap[--w->n_heap];
    size_t i = 0;
    for (size_t child = 1; child < w->n_heap; child = 2 * i + 1) {
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child]) child++;
        if (w->heap[child] >= last) break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
}

static void bucket_add(struct work *w, uint32_t i, uint32_t rank) {
    struct bpe_bucket *bucket = &w->buckets[rank];
    struct bpe_symbol *symbol = &w->symbols[i];
    symbol->rank = rank;
    symbol->in_front = bucket->last;
    symbol->behind = NONE;
    if (bucket->last == NONE) {
        bucket->first = i;
    } else {
        w->symbols[bucket->last].behind = i;
        if (i < bucket->last) bucket->is_unsorted = true;
    }
    bucket->last = i;
    if (bucket->is_in_heap) return;
    bucket->is_in_heap = true;
    heap_push(w, rank);
}

static void bucket_remove(struct work *w, uint32_t i) {
    struct bpe_symbol *symbol = &w->symbols[i];
    if (symbol->rank == BPE_NO_RANK) return;
    struct bpe_bucket *bucket = &w->buckets[symbol->rank];
    if (symbol->in_front == NONE) {
        bucket->first = symbol->behind;
    } else {
        w->symbols[symbol->in_front].behind = symbol->behind;
    }
    if (symbol->behind == NONE) {
        bucket->last = symbol->in_front;
    } else {
        w->symbols[symbol->behind].in_front = symbol->in_front;
    }
    symbol->rank = BPE_NO_RANK;
}

/* Merges two sorted lists, linked by `behind` alone. */
static uint32_t merge_lists(struct work *w, uint32_t a, uint32_t b) {
    uint32_t first = NONE, *end = &first;
    while (a != NONE && b != NONE) {
        uint32_t *less = a < b ? &a : &b;
        *end = *less;
        end = &w->symbols[*less].behind;
        *less = *end;
    }
    *end = a != NONE ? a : b;
    return first;
}

/* Merge sort from the bottom up: sorted[k] holds 2^k symbols or none. */
static void bucket_sort(struct work *w, struct bpe_bucket *bucket) {
    uint32_t sorted[32];
    for (int k = 0; k < 32; k++) sorted[k] = NONE;
    for (uint32_t i = bucket->first, next; i != NONE; i = next) {
        next = w->symbols[i].behind;
        w->symbols[i].behind = NONE;
        uint32_t list = i;
        int k = 0;
        for (; k < 31 && sorted[k] != NONE; k++) {
            list = merge_lists(w, sorted[k], list);
            sorted[k] = NONE;
        }
        sorted[k] = k == 31 ? merge_lists(w, sorted[k], list) : list;
    }
    uint32_t list = NONE;
    for (int k = 0; k < 32; k++) list = merge_lists(w, sorted[k], list);
    bucket->first = list;
    bucket->last = NONE;
    for (; list != NONE; list = w->symbols[list].behind) {
        w->symbols[list].in_front = bucket->last;
        bucket->last = list;
    }
    bucket->is_unsorted = false;
}

/* Looks whether symbol i and the one after may merge. */
static void look_at(struct work *w, uint32_t i) {
    struct bpe_symbol *symbol = &w->symbols[i];
    symbol->rank = BPE_NO_RANK;
    if (symbol->after == NONE) return;
    uint32_t rank = bpe_rank(w->bpe, symbol->id, w->symbols[symbol->after].id);
    if (rank != BPE_NO_RANK) bucket_add(w, i, rank);
}

static void merge_at(struct work *w, uint32_t i) {
    struct bpe_symbol *symbol = &w->symbols[i];
    uint32_t rank = symbol->rank, gone = symbol->after;
    bucket_remove(w, i);
    bucket_remove(w, gone);
    symbol->id = w->bpe->merged[rank];
    symbol->after = w->symbols[gone].after;
    if (symbol->after != NONE) w->symbols[symbol->after].before = i;
    if (symbol->before != NONE) {
        bucket_remove(w, symbol->before);
        look_at(w, symbol->before);
    }
    look_at(w, i);
}

/* Returns how many symbols there are: bytes without a token are left out. */
static size_t begin(struct work *w) {
    size_t n = 0;
    for (size_t i = 0; i < w->n; i++) {
        int32_t id = w->bpe->byte_ids[(unsigned char)w->piece[i]];
        if (id < 0) continue;
        w->symbols[n].id = id;
        w->symbols[n].before = n ? (uint32_t)n - 1 : NONE;
        w->symbols[n].after = (uint32_t)n + 1;
        n++;
    }
    if (n) w->symbols[n - 1].after = NONE;
    for (size_t i = 0; i < n; i++) look_at(w, (uint32_t)i);
    return n;
}

int bpe_merge_long(const struct bpe *b, struct bpe_scratch *scratch, const char *piece, size_t n,
                   struct tokens *out, struct err *err) {
    if (reserve(scratch, n, b->capacity, err) != 0) return -1;
    struct work w = {b, piece, n, scratch->symbols, scratch->buckets, scratch->heap, 0};
    size_t n_symbols = begin(&w);
    while (w.n_heap > 0) {
        struct bpe_bucket *bucket = &w.buckets[w.heap[0]];
        if (bucket->first == NONE) {
            bucket->is_in_heap = bucket->is_unsorted = false;
            heap_pop(&w);
            continue;
        }
        if (bucket->is_unsorted) bucket_sort(&w, bucket);
        merge_at(&w, bucket->first);
    }
    for (uint32_t i = 0; n_symbols && i != NONE; i = w.symbols[i].after) {
        if (tokens_add(out, w.symbols[i].id, err) != 0) return -1;
    }
    return 0;
}
