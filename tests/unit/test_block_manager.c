/*
 * The block manager against a shadow of the cache: for every block the shadow knows which prefix
 * was written into it, so a match that gave the wrong text would be seen.
 */
#include "engine/schedule/block_manager.h"

#include "engine/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCK = 4 };

static struct block_manager make(int n_blocks) {
    struct block_manager m;
    assert_int_equal(block_manager_init(&m, n_blocks, BLOCK, NULL), 0);
    return m;
}

/* Takes blocks for n tokens, registers the full ones. Returns how many were taken. */
static int compute(struct block_manager *m, int variant, const int32_t *tokens, int n,
                   int32_t *blocks) {
    int n_found = block_manager_match(m, variant, tokens, n, blocks);
    int n_blocks = (n + BLOCK - 1) / BLOCK;
    for (int i = n_found; i < n_blocks; i++) {
        blocks[i] = block_manager_take(m);
        assert_true(blocks[i] >= 0);
    }
    for (int i = n_found; i < n / BLOCK; i++) block_manager_register(m, variant, tokens, blocks, i);
    return n_blocks - n_found;
}

static void takes_fresh_ones_in_order_and_then_what_was_returned(void **state) {
    (void)state;
    struct block_manager m = make(3);
    assert_int_equal(block_manager_take(&m), 0);
    assert_int_equal(block_manager_take(&m), 1);
    assert_int_equal(m.n_taken, 2);
    int32_t first = 0;
    block_manager_return(&m, &first, 1);
    assert_int_equal(block_manager_take(&m), 0); /* memory that was touched already */
    assert_int_equal(m.n_taken, 2);
    assert_int_equal(block_manager_take(&m), 2);
    assert_int_equal(block_manager_take(&m), -1);
    assert_int_equal(block_manager_available(&m), 0);
    block_manager_release(&m);
}

static void finds_the_longest_prefix_in_whole_blocks(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    const int32_t branch[] = {1, 2, 3, 4, 5, 6, 7, 80, 9, 10};
    struct block_manager m = make(8);
    int32_t a[3], b[3];
    assert_int_equal(compute(&m, 0, tokens, 10, a), 3);
    block_manager_return(&m, a, 3);
    assert_int_equal(m.n_cached, 2); /* the half block is free */
    assert_int_equal(m.n_used, 0);
    assert_int_equal(block_manager_match(&m, 0, tokens, 10, b), 2);
    assert_memory_equal(a, b, 2 * sizeof *a);
    block_manager_return(&m, b, 2);
    assert_int_equal(block_manager_match(&m, 0, tokens, 7, b), 1);
    block_manager_return(&m, b, 1);
    assert_int_equal(block_manager_match(&m, 0, branch, 10, b), 1);
    block_manager_return(&m, b, 1);
    assert_int_equal(block_manager_match(&m, 0, tokens + 4, 6, b), 0); /* not at the beginning */
    block_manager_release(&m);
}

static void variants_do_not_share(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 2, 3, 4};
    struct block_manager m = make(4);
    int32_t a[1], b[1];
    compute(&m, 1, tokens, 4, a);
    assert_int_equal(block_manager_match(&m, 0, tokens, 4, b), 0);
    assert_int_equal(block_manager_match(&m, 2, tokens, 4, b), 0);
    assert_int_equal(block_manager_match(&m, 1, tokens, 4, b), 1);
    block_manager_release(&m);
}

static void equal_blocks_computed_side_by_side_become_one(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct block_manager m = make(8);
    int32_t a[2] = {block_manager_take(&m), block_manager_take(&m)};
    int32_t b[2] = {block_manager_take(&m), block_manager_take(&m)};
    block_manager_register(&m, 0, tokens, a, 0);
    block_manager_register(&m, 0, tokens, b, 0);
    assert_int_equal(a[0], b[0]);
    block_manager_register(&m, 0, tokens, b, 1);
    block_manager_register(&m, 0, tokens, a, 1);
    assert_int_equal(a[1], b[1]);
    assert_int_equal(m.n_used, 2);
    block_manager_return(&m, a, 2);
    assert_int_equal(m.n_used, 2);
    block_manager_return(&m, b, 2);
    assert_int_equal(m.n_used, 0);
    assert_int_equal(m.n_cached, 2);
    block_manager_release(&m);
}

static void evicts_the_least_recently_used_leaf(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8}, other[] = {9, 9, 9, 9};
    struct block_manager m = make(3);
    int32_t a[2], b[1], c[2];
    compute(&m, 0, tokens, 8, a);
    block_manager_return(&m, a, 2);
    compute(&m, 0, other, 4, b);
    block_manager_return(&m, b, 1);
    assert_int_equal(block_manager_take(&m), a[1]); /* the leaf, not the root that is as old */
    assert_int_equal(block_manager_match(&m, 0, tokens, 8, c), 1);
    assert_int_equal(c[0], a[0]);
    assert_int_equal(block_manager_take(&m), b[0]);
    assert_int_equal(block_manager_match(&m, 0, other, 4, c), 0);
    block_manager_release(&m);
}

static void forgets_what_is_not_in_use(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct block_manager m = make(4);
    int32_t a[2], b[2];
    compute(&m, 0, tokens, 8, a);
    block_manager_return(&m, a + 1, 1);
    block_manager_forget(&m);
    assert_int_equal(block_manager_match(&m, 0, tokens, 8, b), 1);
    block_manager_return(&m, b, 1);
    block_manager_return(&m, a, 1);
    block_manager_forget(&m);
    assert_int_equal(block_manager_match(&m, 0, tokens, 8, b), 0);
    assert_int_equal(m.n_cached, 0);
    assert_int_equal(block_manager_available(&m), 4);
    block_manager_release(&m);
}

/* ---- random traffic ---- */

enum { N_BLOCKS = 24, N_USERS = 6, MAX_TOKENS = 32, MAX_BLOCKS = MAX_TOKENS / BLOCK };

/* What was written into a block: the whole prefix up to its end. */
struct shadow {
    int variant, n;
    int32_t prefix[MAX_TOKENS];
};

struct user {
    int variant, n_tokens, n_blocks;
    int32_t tokens[MAX_TOKENS], blocks[MAX_BLOCKS];
};

static void assert_lists_are_sound(const struct block_manager *m) {
    int n_cached = 0, n_free = 0, n_used = 0;
    int32_t before = -1;
    for (int32_t at = m->oldest; at >= 0; before = at, at = m->blocks[at].newer) {
        assert_int_equal(m->blocks[at].older, before);
        assert_true(m->blocks[at].is_registered && m->blocks[at].refs == 0);
        n_cached++;
    }
    assert_int_equal(m->newest, before);
    for (int32_t at = m->free; at >= 0; at = m->blocks[at].older) n_free++;
    for (int i = 0; i < m->n_blocks; i++) n_used += m->blocks[i].refs > 0;
    assert_int_equal(n_cached, m->n_cached);
    assert_int_equal(n_used, m->n_used);
    assert_int_equal(n_used + n_cached + n_free, m->n_taken);
    for (int i = 0; i < m->n_blocks; i++) {
        const struct block *b = &m->blocks[i];
        if (!b->is_registered || b->parent < 0) continue;
        assert_true(m->blocks[b->parent].is_registered);
        assert_true(b->refs == 0 || m->blocks[b->parent].refs > 0);
    }
}

/* A new text of few different tokens, so that prefixes are often shared. */
static void begin(struct block_manager *m, struct user *u, struct shadow *shadows) {
    u->variant = rand() % 2;
    u->n_tokens = 1 + rand() % MAX_TOKENS;
    for (int i = 0; i < u->n_tokens; i++) u->tokens[i] = rand() % 16 == 0;
    u->n_blocks = block_manager_match(m, u->variant, u->tokens, u->n_tokens, u->blocks);
    for (int i = 0; i < u->n_blocks; i++) {
        const struct shadow *s = &shadows[u->blocks[i]];
        assert_int_equal(s->variant, u->variant);
        assert_int_equal(s->n, (i + 1) * BLOCK);
        assert_memory_equal(s->prefix, u->tokens, (size_t)s->n * sizeof *u->tokens);
    }
}

static bool advance(struct block_manager *m, struct user *u, struct shadow *shadows) {
    if ((u->n_blocks + 1) * BLOCK > u->n_tokens) return false;
    int32_t block = block_manager_take(m);
    if (block < 0) return false;
    u->blocks[u->n_blocks++] = block;
    struct shadow *s = &shadows[block];
    *s = (struct shadow){.variant = u->variant, .n = u->n_blocks * BLOCK};
    memcpy(s->prefix, u->tokens, (size_t)s->n * sizeof *u->tokens);
    block_manager_register(m, u->variant, u->tokens, u->blocks, u->n_blocks - 1);
    return true;
}

static void random_traffic_never_gives_a_wrong_prefix(void **state) {
    (void)state;
    static struct shadow shadows[N_BLOCKS];
    static struct user users[N_USERS];
    struct block_manager m = make(N_BLOCKS);
    int n_reused = 0;
    srand(1);
    for (int step = 0; step < 60000; step++) {
        struct user *u = &users[rand() % N_USERS];
        if (u->n_tokens == 0) {
            begin(&m, u, shadows);
            n_reused += u->n_blocks;
        } else if (rand() % 20 == 0 || !advance(&m, u, shadows)) {
            block_manager_return(&m, u->blocks, u->n_blocks);
            u->n_tokens = u->n_blocks = 0;
        }
        if (rand() % 5000 == 0) block_manager_forget(&m);
        if (step % 50 == 0) assert_lists_are_sound(&m);
    }
    for (int i = 0; i < N_USERS; i++) block_manager_return(&m, users[i].blocks, users[i].n_blocks);
    assert_int_equal(m.n_used, 0);
    assert_true(n_reused > 1000);
    block_manager_release(&m);
}

static void says_when_there_is_no_memory(void **state) {
    (void)state;
    for (unsigned long n = 1; n <= 3; n++) {
        struct block_manager m;
        struct err err = {0};
        mem_fail_at(n, false);
        assert_int_equal(block_manager_init(&m, 10, BLOCK, &err), -1);
        assert_int_equal(err.kind, ERR_MEMORY);
    }
    mem_fail_at(0, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_fresh_ones_in_order_and_then_what_was_returned),
        cmocka_unit_test(finds_the_longest_prefix_in_whole_blocks),
        cmocka_unit_test(variants_do_not_share),
        cmocka_unit_test(equal_blocks_computed_side_by_side_become_one),
        cmocka_unit_test(evicts_the_least_recently_used_leaf),
        cmocka_unit_test(forgets_what_is_not_in_use),
        cmocka_unit_test(random_traffic_never_gives_a_wrong_prefix),
        cmocka_unit_test(says_when_there_is_no_memory),
    };
    return cmocka_run_group_tests_name("block_manager", tests, NULL, NULL);
}
