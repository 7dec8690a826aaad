/*
 * Byte pair encoding of one piece of text: of all adjacent pairs that may merge, the one of the
 * lowest rank does, the leftmost first, until none is left (Sennrich et al., arXiv 1508.07909).
 * A pair's rank is its place in the list of merges.
 */
#pragma once

#include "engine/base/err.h"
#include "engine/text/tokenizer.h"
#include "engine/text/vocabulary.h"

#include <stdatomic.h>

#define BPE_NO_RANK    UINT32_MAX
#define BPE_MAX_MERGES ((1 << 22) - 1)

struct bpe {
    const struct vocabulary *vocabulary; /* not owned */
    int32_t byte_ids[256];               /* -1: no token, the byte is left out */
    uint32_t *byte_ranks;                /* [256 left][256 right]: ranks of pairs of bytes */
    uint64_t *pairs; /* [n_slots], a power of two: left << 43 | right << 22 | rank; or all ones */
    size_t n_slots;
    uint64_t *lefts, *rights; /* bit sets of ids: those that are some pair's left or right side;
                                 most are not, and need no search */
    int32_t *merged;          /* [n_merges]: what the pair of a rank becomes */
    size_t n_merges, capacity;
    bool is_whole_first; /* a piece that is a token needs no merging */
    /* [vocabulary->n_ids] enum bpe_whole: found out at a token's first use, the same by whichever
     * thread, so a relaxed store is enough. */
    _Atomic uint8_t *whole;
};

/* Working memory of one caller; starts as zeros. */
struct bpe_scratch {
    struct bpe_symbol *symbols;
    size_t n_symbols; /* capacity */
    struct bpe_bucket *buckets;
    uint32_t *heap;
};
void bpe_scratch_release(struct bpe_scratch *scratch);

/* `vocabulary` must be filled and stay where it is. */
int bpe_open(struct bpe *b, const struct vocabulary *vocabulary, size_t n_merges,
             bool is_whole_first, struct err *err);
void bpe_release(struct bpe *b);

/* The next merge in rank order, at most n_merges of them; refuses a pair given twice. */
int bpe_add_merge(struct bpe *b, int32_t left, int32_t right, int32_t merged, struct err *err);

/* Appends the ids of one piece. */
int bpe_encode(const struct bpe *b, struct bpe_scratch *scratch, const char *piece, size_t n,
               struct tokens *out, struct err *err);

/* The same by merging alone, without looking whether the piece is a token. */
int bpe_merge(const struct bpe *b, struct bpe_scratch *scratch, const char *piece, size_t n,
              struct tokens *out, struct err *err);

/* Private to bpe.c and bpe_long.c. */

/* The rank of two adjacent tokens. */
uint32_t bpe_rank(const struct bpe *b, int32_t left, int32_t right);

/* Merges a piece of any length, in about linear time. */
int bpe_merge_long(const struct bpe *b, struct bpe_scratch *scratch, const char *piece, size_t n,
                   struct tokens *out, struct err *err);
