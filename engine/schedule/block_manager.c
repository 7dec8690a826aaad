/* Paged blocks with prefix reuse; the picture and the invariants stand in the header. */
#include "engine/schedule/block_manager.h"

#include "engine/base/mem.h"

#include <string.h>
#include <xxhash.h>

/* ---- the table of registered blocks ---- */

static const int32_t *tokens_of(const struct block_manager *m, int32_t block) {
    return m->tokens + (size_t)block * (size_t)m->block_tokens;
}

static size_t block_bytes(const struct block_manager *m) {
    return (size_t)m->block_tokens * sizeof(int32_t);
}

static int32_t *bucket_of(struct block_manager *m, int32_t parent, const int32_t *tokens) {
    uint64_t hash = XXH3_64bits_withSeed(tokens, block_bytes(m), (uint64_t)(int64_t)parent);
    return &m->buckets[hash & (m->n_buckets - 1)];
}

static int32_t find(struct block_manager *m, int32_t parent, const int32_t *tokens) {
    int32_t at = *bucket_of(m, parent, tokens);
    while (at >= 0 && (m->blocks[at].parent != parent ||
                       memcmp(tokens_of(m, at), tokens, block_bytes(m)) != 0))
        at = m->blocks[at].next_in_bucket;
    return at;
}

static void insert(struct block_manager *m, int32_t block, int32_t parent, const int32_t *tokens) {
    int32_t *bucket = bucket_of(m, parent, tokens);
    struct block *b = &m->blocks[block];
    memcpy(m->tokens + (size_t)block * (size_t)m->block_tokens, tokens, block_bytes(m));
    b->parent = parent;
    b->is_registered = true;
    b->next_in_bucket = *bucket;
    *bucket = block;
}

static void erase(struct block_manager *m, int32_t block) {
    struct block *b = &m->blocks[block];
    int32_t *link = bucket_of(m, b->parent, tokens_of(m, block));
    while (*link != block) link = &m->blocks[*link].next_in_bucket;
    *link = b->next_in_bucket;
    b->is_registered = false;
}

/* ---- cached blocks, from the least to the most recently used ---- */

static void cached_add(struct block_manager *m, int32_t block) {
    struct block *b = &m->blocks[block];
    b->older = m->newest;
    b->newer = -1;
    if (m->newest >= 0)
        m->blocks[m->newest].newer = block;
    else
        m->oldest = block;
    m->newest = block;
    m->n_cached++;
}

static void cached_remove(struct block_manager *m, int32_t block) {
    struct block *b = &m->blocks[block];
    if (b->older >= 0)
        m->blocks[b->older].newer = b->newer;
    else
        m->oldest = b->newer;
    if (b->newer >= 0)
        m->blocks[b->newer].older = b->older;
    else
        m->newest = b->older;
    m->n_cached--;
}

/* ---- references ---- */

static void hold(struct block_manager *m, int32_t block) {
    struct block *b = &m->blocks[block];
    if (b->refs++ > 0) return;
    m->n_used++;
    if (b->is_registered) cached_remove(m, block);
}

static void make_free(struct block_manager *m, int32_t block) {
    m->blocks[block].older = m->free;
    m->free = block;
}

static void drop(struct block_manager *m, int32_t block) {
    struct block *b = &m->blocks[block];
    if (b->refs < 1) bug("block %d is returned twice", block);
    if (--b->refs > 0) return;
    m->n_used--;
    if (b->is_registered)
        cached_add(m, block);
    else
        make_free(m, block);
}

static int32_t evict(struct block_manager *m) {
    int32_t block = m->oldest;
    cached_remove(m, block);
    erase(m, block);
    return block;
}

/* ---- public ---- */

int block_manager_init(struct block_manager *m, int n_blocks, int block_tokens, struct err *err) {
    *m = (struct block_manager){.n_blocks = n_blocks,
                                .block_tokens = block_tokens,
                                .n_buckets = 1,
                                .free = -1,
                                .oldest = -1,
                                .newest = -1};
    while (m->n_buckets < (uint32_t)n_blocks) m->n_buckets *= 2;
    m->blocks = mem_zalloc((size_t)n_blocks, sizeof *m->blocks);
    m->tokens = mem_zalloc((size_t)n_blocks, block_bytes(m));
    m->buckets = mem_alloc(m->n_buckets * sizeof *m->buckets);
    if (!m->blocks || !m->tokens || !m->buckets) {
        block_manager_release(m);
        return err_memory(err, (size_t)n_blocks * (sizeof *m->blocks + block_bytes(m)),
                          "the table of KV blocks");
    }
    memset(m->buckets, 0xFF, m->n_buckets * sizeof *m->buckets);
    return 0;
}

void block_manager_release(struct block_manager *m) {
    mem_free(m->blocks);
    mem_free(m->tokens);
    mem_free(m->buckets);
    *m = (struct block_manager){0};
}

int block_manager_available(const struct block_manager *m) {
    return m->n_blocks - m->n_used;
}

int32_t block_manager_take(struct block_manager *m) {
    int32_t block;
    if (m->free >= 0) {
        block = m->free;
        m->free = m->blocks[block].older;
    } else if (m->n_taken < m->n_blocks) {
        block = m->n_taken++;
    } else if (m->n_cached > 0) {
        block = evict(m);
    } else {
        return -1;
    }
    hold(m, block);
    return block;
}

int block_manager_match(struct block_manager *m, int variant, const int32_t *tokens, int n,
                        int32_t *blocks) {
    int32_t parent = -1 - variant;
    int n_found = 0;
    for (; (n_found + 1) * m->block_tokens <= n; n_found++) {
        int32_t block = find(m, parent, tokens + n_found * m->block_tokens);
        if (block < 0) break;
        hold(m, block);
        blocks[n_found] = parent = block;
    }
    return n_found;
}

void block_manager_register(struct block_manager *m, int variant, const int32_t *tokens,
                            int32_t *blocks, int i) {
    int32_t parent = i > 0 ? blocks[i - 1] : -1 - variant;
    const int32_t *own = tokens + i * m->block_tokens;
    int32_t known = find(m, parent, own);
    if (known < 0) {
        insert(m, blocks[i], parent, own);
        return;
    }
    hold(m, known);
    drop(m, blocks[i]);
    blocks[i] = known;
}

void block_manager_return(struct block_manager *m, const int32_t *blocks, int n) {
    while (n-- > 0) drop(m, blocks[n]);
}

void block_manager_forget(struct block_manager *m) {
    while (m->n_cached > 0) make_free(m, evict(m));
}
