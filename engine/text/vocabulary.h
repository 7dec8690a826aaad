/*
 * Token ids and their byte strings, both ways. All bytes lie in one arena; the way back is an
 * open-addressing table. Filled once, then only read.
 */
#pragma once

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOCABULARY_MAX_IDS         (1 << 21)
#define VOCABULARY_MAX_TOKEN_BYTES 4096

struct vocabulary_entry {
    uint32_t at; /* into the arena; VOCABULARY_HOLE: no such token */
    uint32_t n : 31, is_listed : 1;
};

#define VOCABULARY_HOLE UINT32_MAX

struct vocabulary {
    char *arena;
    size_t arena_bytes, arena_capacity;
    struct vocabulary_entry *entries; /* [n_ids] */
    size_t n_ids, ids_capacity;
    uint64_t *slots; /* [n_slots], a power of two: upper half of the hash, then id + 1; 0: free */
    size_t n_slots, n_listed;
};

/* Room for n_ids tokens of arena_bytes in all, so that filling need not grow. */
int vocabulary_reserve(struct vocabulary *v, size_t n_ids, size_t arena_bytes, struct err *err);
void vocabulary_release(struct vocabulary *v);

/* Gives `id` its bytes. Refuses an id out of range or given twice, and an empty token. */
int vocabulary_add(struct vocabulary *v, int64_t id, const char *bytes, size_t n, struct err *err);

/* Makes the bytes of `id` findable. Refuses bytes that another id is found by. */
int vocabulary_list(struct vocabulary *v, int32_t id, struct err *err);

/* The listed id with exactly these bytes, or -1. */
int32_t vocabulary_find(const struct vocabulary *v, const char *bytes, size_t n);

/* NULL for a hole or out of range. */
static inline const char *vocabulary_bytes(const struct vocabulary *v, int32_t id, size_t *n) {
    if (id < 0 || (size_t)id >= v->n_ids || v->entries[id].at == VOCABULARY_HOLE) return NULL;
    *n = v->entries[id].n;
    return v->arena + v->entries[id].at;
}

static inline bool vocabulary_is_listed(const struct vocabulary *v, int32_t id) {
    return id >= 0 && (size_t)id < v->n_ids && v->entries[id].is_listed;
}
