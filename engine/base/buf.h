/*
 * A growing byte string. `data` is always NUL-terminated once anything was appended (NULL before);
 * `n` counts without the NUL. An append that runs out of memory sets `failed` and leaves the rest
 * as it was, so a writer may append many times and look once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data;
    size_t n, capacity;
    bool failed;
};

void buf_release(struct buf *buf); /* frees and zeroes */
void buf_clear(struct buf *buf);   /* keeps the memory */
void buf_add(struct buf *buf, const void *data, size_t n);
void buf_puts(struct buf *buf, const char *text);
void buf_putc(struct buf *buf, char c);
void buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_put_utf8(struct buf *buf, uint32_t code_point);
/* `text` as a JSON string with its quotes; non-ASCII stays as it is (json.dumps, ensure_ascii off). */
void buf_put_json(struct buf *buf, const char *text, size_t n);
