/* The growing byte string. */
#include "engine/base/buf.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void buf_release(struct buf *buf) {
    mem_free(buf->data);
    *buf = (struct buf){0};
}

void buf_clear(struct buf *buf) {
    buf->n = 0;
    buf->failed = false;
    if (buf->data) buf->data[0] = '\0';
}

/* Room for n more bytes and the NUL. */
static bool make_room(struct buf *buf, size_t n) {
    size_t need;
    if (buf->failed) return false;
    if (__builtin_add_overflow(buf->n, n, &need) || __builtin_add_overflow(need, 1, &need) ||
        mem_grow((void **)&buf->data, &buf->capacity, need, 1) != 0) {
        buf->failed = true;
        return false;
    }
    return true;
}

void buf_add(struct buf *buf, const void *data, size_t n) {
    if (!make_room(buf, n)) return;
    if (n) memcpy(buf->data + buf->n, data, n);
    buf->n += n;
    buf->data[buf->n] = '\0';
}

void buf_puts(struct buf *buf, const char *text) {
    buf_add(buf, text, strlen(text));
}

void buf_putc(struct buf *buf, char c) {
    buf_add(buf, &c, 1);
}

void buf_printf(struct buf *buf, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        buf->failed = true;
    } else if (make_room(buf, (size_t)n)) {
        vsnprintf(buf->data + buf->n, (size_t)n + 1, format, again);
        buf->n += (size_t)n;
    }
    va_end(again);
}

void buf_put_utf8(struct buf *buf, uint32_t code_point) {
    char bytes[4];
    buf_add(buf, bytes, utf8_encode(code_point, bytes));
}

static const char *json_escape(unsigned char c, char hex[7]) {
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    default:
        break;
    }
    if (c >= 0x20) return NULL;
    snprintf(hex, 7, "\\u%04x", c);
    return hex;
}

void buf_put_json(struct buf *buf, const char *text, size_t n) {
    char hex[7];
    size_t plain = 0; /* start of the run that needs no escape */
    buf_putc(buf, '"');
    for (size_t i = 0; i < n; i++) {
        const char *escape = json_escape((unsigned char)text[i], hex);
        if (!escape) continue;
        buf_add(buf, text + plain, i - plain);
        buf_puts(buf, escape);
        plain = i + 1;
    }
    if (n) buf_add(buf, text + plain, n - plain);
    buf_putc(buf, '"');
}
