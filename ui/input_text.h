/*
 * Where a script's messages come from: text at hand, then a descriptor. Checked as it is read:
 * UTF-8 without NUL, lines ending with "\n" or CR LF, at most INPUT_TEXT_BYTES in all.
 */
#pragma once

#include "engine/base/buf.h"
#include "engine/base/err.h"

enum { INPUT_TEXT_BYTES = 64 << 20 };

/* Zero it, then set the first group. */
struct input_text {
    int fd;           /* -1: none */
    const char *name; /* of the descriptor, for messages */
    /* Waits until fd is readable; false: the program is to end. */
    bool (*wait)(void *ud, int fd);
    void *ud;

    struct buf text;
    size_t at;        /* behind the line that was handed out */
    size_t n_checked; /* bytes of text that are as they should be */
    size_t n_lines;   /* handed out and dropped */
    size_t n_read;    /* bytes that came from fd */
    bool is_end;
};

void input_text_release(struct input_text *in);

/* Puts text before what is read; between two pieces stands an empty line. */
int input_text_put(struct input_text *in, const char *name, const char *text, size_t n,
                   struct err *err);

/* Everything at once, without blanks and newlines at its end; "" when there is nothing.
 * 0, or -1 with *err (kind ERR_NONE: wait() said that the program is to end). */
int input_text_all(struct input_text *in, const char **out, struct err *err);

/* The next line that is not blank, NULL at the end. */
int input_text_line(struct input_text *in, const char **out, struct err *err);
