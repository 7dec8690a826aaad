/* malloc with a counter in front, so that tests can make any allocation fail. */
#include "engine/base/mem.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static atomic_ulong n_calls;
static atomic_ulong fail_at; /* number of the call that fails, 0: none */
static atomic_bool fail_on;  /* and all after it */

static bool must_fail(void) {
    unsigned long call = atomic_fetch_add(&n_calls, 1) + 1;
    unsigned long at = atomic_load(&fail_at);
    return at && (call == at || (call > at && atomic_load(&fail_on)));
}

void mem_fail_at(unsigned long n, bool from_then_on) {
    atomic_store(&fail_on, from_then_on);
    atomic_store(&fail_at, n ? atomic_load(&n_calls) + n : 0);
}

unsigned long mem_count(void) {
    return atomic_load(&n_calls);
}

void *mem_alloc(size_t bytes) {
    return must_fail() ? NULL : malloc(bytes ? bytes : 1);
}

void *mem_zalloc(size_t n, size_t bytes) {
    return must_fail() ? NULL : calloc(n ? n : 1, bytes ? bytes : 1);
}

void *mem_resize(void *old, size_t n, size_t bytes) {
    size_t total;
    if (must_fail() || __builtin_mul_overflow(n, bytes, &total)) return NULL;
    return realloc(old, total ? total : 1);
}

void *mem_aligned(size_t alignment, size_t bytes) {
    size_t padded;
    if (must_fail() || __builtin_add_overflow(bytes ? bytes : 1, alignment - 1, &padded))
        return NULL;
    return aligned_alloc(alignment, padded & ~(alignment - 1));
}

void *mem_copy(const void *data, size_t bytes) {
    void *copy = mem_alloc(bytes);
    if (copy && bytes) memcpy(copy, data, bytes);
    return copy;
}

char *mem_strndup(const char *text, size_t n) {
    char *copy = n < SIZE_MAX ? mem_alloc(n + 1) : NULL;
    if (!copy) return NULL;
    if (n) memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

char *mem_strdup(const char *text) {
    return mem_strndup(text, strlen(text));
}

void mem_free(void *p) {
    free(p);
}

int mem_grow(void **array, size_t *capacity, size_t need, size_t bytes) {
    if (need <= *capacity) return 0;
    size_t wanted = *capacity < 8 ? 8 : *capacity;
    while (wanted < need) {
        if (__builtin_mul_overflow(wanted, (size_t)2, &wanted)) return -1;
    }
    void *grown = mem_resize(*array, wanted, bytes);
    if (!grown) return -1;
    *array = grown;
    *capacity = wanted;
    return 0;
}
