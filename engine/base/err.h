/*
 * Errors that are somebody else's: a file, a flag, a full disk. A function that can fail takes a
 * `struct err *` last, returns 0 or -1, and on -1 has written one sentence: the thing, what was
 * expected, what was found. Mistakes of our own end in bug().
 *
 * err_set() makes the sentence safe for a terminal (sanitize_line), so a name quoted from a
 * hostile file cannot act. `err` may be NULL where the caller does not want the sentence.
 */
#pragma once

#include <stddef.h>

/* The values are the exit codes of the program. */
enum err_kind {
    ERR_NONE = 0,
    ERR_OTHER = 1,
    ERR_USAGE = 2,   /* command line or config.yaml */
    ERR_MODEL = 3,   /* checkpoint, tokenizer, template */
    ERR_MEMORY = 4,  /* host or device memory; no usable GPU; a GPU fault */
    ERR_IO = 5,      /* reading, writing, disk full, cache, journal */
    ERR_CONTEXT = 6, /* the prompt does not fit the context */
};

struct err {
    enum err_kind kind;
    char text[1024]; /* one line of UTF-8, no newline */
};

/* Sentences are written in the user's language where there is a translator (app/language sets one);
 * their formats are looked up by err_set() and err_within() themselves. */
void err_set_translator(const char *(*translate)(const char *text));
/* Any other text of the engine that a user reads; it stays as it is without a translator. */
const char *err_text(const char *text) __attribute__((format_arg(1)));
#define ERR_TEXT(text) text /* goes through err_text() where it is used */

/* Writes the sentence; always returns -1, so that `return err_set(…)` is the idiom. */
int err_set(struct err *err, enum err_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "<formatted>: " before the sentence that is there; returns -1. */
int err_within(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "out of memory: <what> needs <bytes>"; returns -1. */
int err_memory(struct err *err, size_t bytes, const char *what);

/* What cannot happen has happened: prints file:line and aborts. Never reachable from input. */
#define bug(...) bug_at(__FILE__, __LINE__, __VA_ARGS__)
_Noreturn void bug_at(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Runs before bug() prints: the screen restores the terminal here. NULL = nothing. */
void bug_set_handler(void (*handler)(void));
