/*
 * Byte pair encoding of one piece of text. Most pieces are one token and found at once; a short
 * one is merged in arrays on the stack, a long one in bpe_long.c.
 */
#include "engine/text/bpe.h"

#include "engine/base/mem.h"

#include <string.h>

#define FREE_SLOT UINT64_MAX

enum { RANK_BITS = 22, ID_BITS = 21 };

enum bpe_whole { WHOLE_UNKNOWN, WHOLE_YES, WHOLE_NO };

void bpe_release(struct bpe *b) {
    mem_free(b->byte_ranks);
    mem_free(b->pairs);
    mem_free(b->lefts);
    mem_free(b->rights);
    mem_free(b->merged);
    mem_free(b->whole);
    *b = (struct bpe){0};
}

int bpe_open(struct bpe *b, const struct vocabulary *vocabulary, size_t n_merges,
             bool is_whole_first, struct err *err) {
    size_t n_byte_pairs = (size_t)256 * 256, n_words = vocabulary->n_ids / 64 + 1, n_slots = 1024;
    if (n_merges > BPE_MAX_MERGES)
        return err_set(err, ERR_MODEL, "%zu merges, more than the %d allowed", n_merges,
                       BPE_MAX_MERGES);
    while (n_slots < n_merges + n_merges / 2) n_slots *= 2;
    *b = (struct bpe){.vocabulary = vocabulary,
                      .byte_ranks = mem_resize(NULL, n_byte_pairs, sizeof *b->byte_ranks),
                      .pairs = mem_resize(NULL, n_slots, sizeof *b->pairs),
                      .n_slots = n_slots,
                      .lefts = mem_zalloc(n_words, sizeof *b->lefts),
                      .rights = mem_zalloc(n_words, sizeof *b->rights),
                      .merged = mem_resize(NULL, n_merges, sizeof *b->merged),
                      .capacity = n_merges,
                      .is_whole_first = is_whole_first,
                      .whole = mem_zalloc(vocabulary->n_ids, sizeof *b->whole)};
    if (!b->byte_ranks || !b->pairs || !b->lefts || !b->rights || !b->merged || !b->whole)
        return err_memory(err, n_slots * sizeof *b->pairs, "merges");
    memset(b->byte_ranks, 0xFF, n_byte_pairs * sizeof *b->byte_ranks);
    memset(b->pairs, 0xFF, n_slots * sizeof *b->pairs);
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        b->byte_ids[i] = vocabulary_find(vocabulary, &byte, 1);
    }
    return 0;
}

static void add_to_set(uint64_t *set, int32_t id) {
    set[id / 64] |= (uint64_t)1 << id % 64;
}

static bool is_in_set(const uint64_t *set, int32_t id) {
    return set[id / 64] >> id % 64 & 1;
}

/* The slot of a pair, or the free one where it belongs. */
static inline uint64_t *pair_slot(const struct bpe *b, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)left << ID_BITS | (uint64_t)right;
    uint64_t hash = key * 0x9E3779B97F4A7C15u;
    size_t mask = b->n_slots - 1;
    for (size_t i = hash >> 32 & mask;; i = (i + 1) & mask) {
        uint64_t *slot = &b->pairs[i];
        if (*slot >> RANK_BITS == key || *slot == FREE_SLOT) return slot;
    }
}

static uint32_t slot_rank(uint64_t slot) {
    return slot == FREE_SLOT ? BPE_NO_RANK : slot & ((1u << RANK_BITS) - 1);
}

int bpe_add_merge(struct bpe *b, int32_t left, int32_t right, int32_t merged, struct err *err) {
    if (b->n_merges == b->capacity) bug("more merges than announced");
    uint64_t *slot = pair_slot(b, left, right);
    if (*slot != FREE_SLOT)
        return err_set(err, ERR_MODEL, "merges %u and %zu are the same", slot_rank(*slot),
                       b->n_merges);
    *slot = ((uint64_t)left << ID_BITS | (uint64_t)right) << RANK_BITS | b->n_merges;
    add_to_set(b->lefts, left);
    add_to_set(b->rights, right);
    size_t n = 0;
    const unsigned char *bytes = (const unsigned char *)vocabulary_bytes(b->vocabulary, merged, &n);
    if (n == 2) b->byte_ranks[(size_t)bytes[0] << 8 | bytes[1]] = (uint32_t)b->n_merges;
    b->merged[b->n_merges++] = merged;
    return 0;
}

uint32_t bpe_rank(const struct bpe *b, int32_t left, int32_t right) {
    if (!is_in_set(b->lefts, left) || !is_in_set(b->rights, right)) return BPE_NO_RANK;
    return slot_rank(*pair_slot(b, left, right));
}

static int append(struct tokens *out, const int32_t *ids, size_t n, struct err *err) {
    if (mem_grow((void **)&out->ids, &out->capacity, out->n + n, sizeof *ids) != 0)
        return err_memory(err, (out->n + n) * sizeof *ids, "tokens");
    if (n) memcpy(out->ids + out->n, ids, n * sizeof *ids);
    out->n += n;
    return 0;
}

enum {
    SHORT_BYTES = 96, /* above, looking for the lowest rank costs more than buckets */
    PLACE_BITS = 7,
    LANES = 4 /* minima found side by side */
};
#define NOTHING UINT32_MAX

/*
 * A short piece: token i begins at its i-th byte that has a token. ranks[i] is the rank of the
 * pair that begins there, with i itself in the lower bits: the least is the leftmost of the
 * lowest rank. Tokens that were merged away leave NOTHING.
 */
struct row {
    const struct bpe *bpe;
    size_t n;
    int32_t ids[SHORT_BYTES];
    uint32_t ranks[SHORT_BYTES + LANES];
    uint8_t before[SHORT_BYTES + 1], after[SHORT_BYTES + 1]; /* n: the end */
};

static inline uint32_t at_place(uint32_t rank, size_t i) {
    return rank == BPE_NO_RANK ? NOTHING : rank << PLACE_BITS | (uint32_t)i;
}

static void rank_at(struct row *row, size_t i) {
    size_t right = row->after[i];
    uint32_t rank =
        right == row->n ? BPE_NO_RANK : bpe_rank(row->bpe, row->ids[i], row->ids[right]);
    row->ranks[i] = at_place(rank, i);
}

static void fill_row(struct row *row, const struct bpe *b, const char *piece, size_t n) {
    row->bpe = b;
    row->n = 0;
    size_t last = 0;
    for (size_t i = 0; i < n; i++) {
        size_t byte = (unsigned char)piece[i], at = row->n;
        int32_t id = b->byte_ids[byte];
        if (id < 0) continue;
        row->ids[at] = id;
        row->before[at] = (uint8_t)(at - 1);
        row->after[at] = (uint8_t)(at + 1);
        if (at > 0) row->ranks[at - 1] = at_place(b->byte_ranks[last << 8 | byte], at - 1);
        last = byte;
        row->n++;
    }
    for (size_t i = row->n ? row->n - 1 : 0; i < row->n + LANES; i++) row->ranks[i] = NOTHING;
}

static uint32_t lowest(const struct row *row) {
    uint32_t least[LANES] = {NOTHING, NOTHING, NOTHING, NOTHING};
    for (size_t i = 0; i < row->n; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) {
            uint32_t rank = row->ranks[i + lane];
            least[lane] = rank < least[lane] ? rank : least[lane];
        }
    }
    uint32_t a = least[0] < least[1] ? least[0] : least[1];
    uint32_t b = least[2] < least[3] ? least[2] : least[3];
    return a < b ? a : b;
}

static void merge_row(struct row *row) {
    uint32_t found;
    while ((found = lowest(row)) != NOTHING) {
        size_t i = found & ((1u << PLACE_BITS) - 1);
        size_t gone = row->after[i];
        row->ids[i] = row->bpe->merged[found >> PLACE_BITS];
        row->ranks[gone] = NOTHING;
        row->after[i] = row->after[gone];
        row->before[row->after[i]] = (uint8_t)i;
        rank_at(row, i);
        if (i > 0) rank_at(row, row->before[i]);
    }
}

int bpe_merge(const struct bpe *b, struct bpe_scratch *scratch, const char *piece, size_t n,
              struct tokens *out, struct err *err) {
    struct row row;
    if (n > SHORT_BYTES) return bpe_merge_long(b, scratch, piece, n, out, err);
    fill_row(&row, b, piece, n);
    merge_row(&row);
    size_t n_ids = 0;
    for (size_t i = 0; i < row.n; i = row.after[i]) row.ids[n_ids++] = row.ids[i];
    return append(out, row.ids, n_ids, err);
}

int bpe_encode(const struct bpe *b, struct bpe_scratch *scratch, const char *piece, size_t n,
               struct tokens *out, struct err *err) {
    int32_t id = n <= VOCABULARY_MAX_TOKEN_BYTES ? vocabulary_find(b->vocabulary, piece, n) : -1;
    if (id < 0) return bpe_merge(b, scratch, piece, n, out, err);
    uint8_t whole =
        b->is_whole_first ? WHOLE_YES : atomic_load_explicit(&b->whole[id], memory_order_relaxed);
    if (whole == WHOLE_YES) return append(out, &id, 1, err);
    size_t before = out->n;
    if (bpe_merge(b, scratch, piece, n, out, err) != 0) return -1;
    whole = out->n == before + 1 && out->ids[before] == id ? WHOLE_YES : WHOLE_NO;
    atomic_store_explicit(&b->whole[id], whole, memory_order_relaxed);
    return 0;
}
