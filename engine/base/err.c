/* One sentence per failure. */
#include "engine/base/err.h"

#include "engine/base/sanitize.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *(*translator)(const char *text);

void err_set_translator(const char *(*translate)(const char *text)) {
    translator = translate;
}

const char *err_text(const char *text) {
    return translator ? translator(text) : text;
}

int err_set(struct err *err, enum err_kind kind, const char *format, ...) {
    if (!err) return -1;
    va_list args;
    va_start(args, format);
    err->kind = kind;
    vsnprintf(err->text, sizeof err->text, err_text(format), args);
    va_end(args);
    sanitize_line(err->text);
    return -1;
}

int err_within(struct err *err, const char *format, ...) {
    if (!err) return -1;
    char sentence[sizeof err->text];
    memcpy(sentence, err->text, sizeof sentence);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, err_text(format), args);
    va_end(args);
    if (n < 0) n = 0;
    if ((size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", sentence);
    sanitize_line(err->text);
    return -1;
}

int err_memory(struct err *err, size_t bytes, const char *what) {
    return err_set(err, ERR_MEMORY, "out of memory: %s needs %zu bytes", err_text(what), bytes);
}

static void (*bug_handler)(void);

void bug_set_handler(void (*handler)(void)) {
    bug_handler = handler;
}

void bug_at(const char *file, int line, const char *format, ...) {
    if (bug_handler) bug_handler();
    va_list args;
    va_start(args, format);
    fprintf(stderr, "qwen-chat: this is a bug (%s:%d): ", file, line);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    abort();
}
