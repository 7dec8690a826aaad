/*
 * Who holds which block of the KV cache. Bookkeeping only: block numbers, no memory of a device.
 *
 *                 take                     register (when full)
 *   fresh, free ---------> used, private ----------------------> used, registered <---+
 *         ^                     |                                       |             |
 *         |       release       |                               release |             | match
 *         |<--------------------+                                       v             |
 *         |<--------------------------------------------------------- cached ---------+
 *                      take, when nothing is fresh or free: the least recently used
 *
 * Registered blocks form a trie. A node is (parent, its block_tokens tokens); the roots stand for
 * the variants of rotation (v1's NTK), as keys rotated otherwise are other keys. Nodes are found
 * by xxHash and then compared whole, so a collision costs time and never gives wrong text.
 *
 * Invariants
 *   - used (refs > 0) + cached + free + fresh = n_blocks.
 *   - Whoever holds a registered block holds its ancestors. A sequence releases its last block
 *     first; so of the cached ones a parent was used later than its children, and the least
 *     recently used has none. Hence no parent's number is given to another block while a child
 *     is registered, and (parent, tokens) says all of the prefix.
 *   - Fresh blocks are handed out in order, so memory behind n_taken blocks was never touched.
 */
#pragma once

#include "engine/base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct block {
    int32_t refs;
    int32_t parent;         /* of a registered block: its number, or -1 - variant */
    int32_t next_in_bucket; /* -1: the last */
    int32_t older, newer;   /* among the cached; `older` also links the free list; -1: none */
    bool is_registered;
};

struct block_manager {
    int n_blocks, block_tokens;
    int n_used, n_cached, n_taken; /* taken: ever handed out */
    struct block *blocks;          /* [n_blocks] */
    int32_t *tokens;               /* [n_blocks, block_tokens] of registered blocks */
    int32_t *buckets;              /* [n_buckets] first block; -1: none */
    uint32_t n_buckets;            /* a power of two */
    int32_t free;                  /* head of the free list; -1: none */
    int32_t oldest, newest;        /* ends of the cached list */
};

int block_manager_init(struct block_manager *m, int n_blocks, int block_tokens, struct err *err);
void block_manager_release(struct block_manager *m);

/* How many block_manager_take() will give. */
int block_manager_available(const struct block_manager *m);

/* A block with refs 1 and contents to be written; -1 when all are used. */
int32_t block_manager_take(struct block_manager *m);

/*
 * The longest registered prefix of tokens[0..n) in whole blocks: fills blocks[] and holds them
 * (refs + 1). Returns how many.
 */
int block_manager_match(struct block_manager *m, int variant, const int32_t *tokens, int n,
                        int32_t *blocks);

/*
 * blocks[i] of a sequence is now full: makes it findable behind blocks[0..i). Where the same
 * prefix is registered already (two sequences computed it side by side) that block is held in its
 * place and the caller's given back, so that a sequence's registered blocks are a path of the trie.
 */
void block_manager_register(struct block_manager *m, int variant, const int32_t *tokens,
                            int32_t *blocks, int i);

/* Gives back blocks[0..n), the last one first. Registered ones stay findable. */
void block_manager_return(struct block_manager *m, const int32_t *blocks, int n);

/* Drops every cached block (those in use stay). */
void block_manager_forget(struct block_manager *m);
