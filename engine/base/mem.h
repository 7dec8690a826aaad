/*
 * The malloc family, through which tests make the n-th allocation fail. NULL means out of memory:
 * say so with err_memory(). Sizes are bytes; n * size is checked for overflow.
 * Everything is freed with mem_free(); mem_free(NULL) is fine.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t bytes);
void *mem_zalloc(size_t n, size_t bytes);                /* zeroed */
void *mem_resize(void *old, size_t n, size_t bytes);     /* on NULL `old` is untouched */
void *mem_aligned(size_t alignment, size_t bytes);       /* alignment: a power of two */
char *mem_strdup(const char *text);
char *mem_strndup(const char *text, size_t n);
void *mem_copy(const void *data, size_t bytes);
void mem_free(void *p);

/* Grows *array (elements of `bytes`) so that it holds at least `need`; doubles. 0 or -1. */
int mem_grow(void **array, size_t *capacity, size_t need, size_t bytes);

/* Tests: the n-th allocation from now (1 = the next) fails, once or from then on; 0 = never. */
void mem_fail_at(unsigned long n, bool from_then_on);
unsigned long mem_count(void); /* allocations so far, to know how far a sweep must go */
