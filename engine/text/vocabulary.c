/* Token ids and their byte strings, both ways. */
#include "engine/text/vocabulary.h"

#include "engine/base/mem.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

void vocabulary_release(struct vocabulary *v) {
    mem_free(v->arena);
    mem_free(v->entries);
    mem_free(v->slots);
    *v = (struct vocabulary){0};
}

static int reserve_ids(struct vocabulary *v, size_t n_ids, struct err *err) {
    if (mem_grow((void **)&v->entries, &v->ids_capacity, n_ids, sizeof *v->entries) != 0)
        return err_memory(err, n_ids * sizeof *v->entries, "vocabulary");
    return 0;
}

static int reserve_arena(struct vocabulary *v, size_t bytes, struct err *err) {
    if (bytes >= VOCABULARY_HOLE)
        return err_set(err, ERR_MODEL, "vocabulary: all tokens together have more than 4 GiB");
    if (mem_grow((void **)&v->arena, &v->arena_capacity, bytes, 1) != 0)
        return err_memory(err, bytes, "vocabulary");
    return 0;
}

int vocabulary_add(struct vocabulary *v, int64_t id, const char *bytes, size_t n, struct err *err) {
    if (id < 0 || id >= VOCABULARY_MAX_IDS)
        return err_set(err, ERR_MODEL, "token \"%.*s\" has id %lld; ids go from 0 to %d",
                       n < 64 ? (int)n : 64, bytes, (long long)id, VOCABULARY_MAX_IDS - 1);
    if (n == 0) return err_set(err, ERR_MODEL, "token %lld is empty", (long long)id);
    if (n > VOCABULARY_MAX_TOKEN_BYTES)
        return err_set(err, ERR_MODEL, "token %lld has %zu bytes, more than the %d allowed",
                       (long long)id, n, VOCABULARY_MAX_TOKEN_BYTES);
    if (reserve_ids(v, (size_t)id + 1, err) != 0 || reserve_arena(v, v->arena_bytes + n, err) != 0)
        return -1;
    while (v->n_ids <= (size_t)id)
        v->entries[v->n_ids++] = (struct vocabulary_entry){VOCABULARY_HOLE, 0, 0};
    struct vocabulary_entry *entry = &v->entries[id];
    if (entry->at != VOCABULARY_HOLE)
        return err_set(err, ERR_MODEL, "id %lld is given to two tokens", (long long)id);
    memcpy(v->arena + v->arena_bytes, bytes, n);
    *entry = (struct vocabulary_entry){(uint32_t)v->arena_bytes, (uint32_t)n, 0};
    v->arena_bytes += n;
    return 0;
}

/* The slot that holds these bytes, or the free one where they belong. */
static uint64_t *slot_of(const struct vocabulary *v, const char *bytes, size_t n, uint64_t hash) {
    size_t mask = v->n_slots - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
        uint64_t slot = v->slots[i];
        if (slot == 0) return &v->slots[i];
        if ((slot ^ hash) >> 32) continue;
        struct vocabulary_entry entry = v->entries[(uint32_t)slot - 1];
        if (entry.n == n && memcmp(v->arena + entry.at, bytes, n) == 0) return &v->slots[i];
    }
}

/* At most half full, so that a search ends soon. */
static int reserve_slots(struct vocabulary *v, size_t n_tokens, struct err *err) {
    size_t n = 1024;
    if (2 * n_tokens <= v->n_slots) return 0;
    while (n < 2 * n_tokens) n *= 2;
    uint64_t *old = v->slots;
    size_t n_old = v->n_slots;
    uint64_t *slots = mem_zalloc(n, sizeof *slots);
    if (!slots) return err_memory(err, n * sizeof *slots, "vocabulary");
    v->slots = slots;
    v->n_slots = n;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i] == 0) continue;
        struct vocabulary_entry entry = v->entries[(uint32_t)old[i] - 1];
        const char *bytes = v->arena + entry.at;
        *slot_of(v, bytes, entry.n, XXH3_64bits(bytes, entry.n)) = old[i];
    }
    mem_free(old);
    return 0;
}

int vocabulary_reserve(struct vocabulary *v, size_t n_ids, size_t arena_bytes, struct err *err) {
    if (n_ids > VOCABULARY_MAX_IDS)
        return err_set(err, ERR_MODEL, "vocabulary: %zu tokens, more than the %d allowed", n_ids,
                       VOCABULARY_MAX_IDS);
    if (reserve_ids(v, n_ids, err) != 0 || reserve_arena(v, arena_bytes, err) != 0) return -1;
    return reserve_slots(v, n_ids, err);
}

int vocabulary_list(struct vocabulary *v, int32_t id, struct err *err) {
    if (reserve_slots(v, v->n_listed + 1, err) != 0) return -1;
    struct vocabulary_entry entry = v->entries[id];
    const char *bytes = v->arena + entry.at;
    uint64_t hash = XXH3_64bits(bytes, entry.n);
    uint64_t *slot = slot_of(v, bytes, entry.n, hash);
    if (*slot)
        return err_set(err, ERR_MODEL, "tokens %u and %d have the same text \"%.*s\"",
                       (unsigned)((uint32_t)*slot - 1), id, entry.n < 64 ? (int)entry.n : 64,
                       bytes);
    *slot = (hash >> 32) << 32 | (uint32_t)(id + 1);
    v->n_listed++;
    v->entries[id].is_listed = 1;
    return 0;
}

int32_t vocabulary_find(const struct vocabulary *v, const char *bytes, size_t n) {
    if (v->n_slots == 0) return -1;
    return (int32_t)(uint32_t)*slot_of(v, bytes, n, XXH3_64bits(bytes, n)) - 1;
}
