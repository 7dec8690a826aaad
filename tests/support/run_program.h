/* A program run to its end in a home of its own: what it printed where, and its exit code. */
#pragma once

#include "engine/base/buf.h"

struct program {
    const char *path;
    const char *home;       /* a folder; its files "in", "out" and "errors" are written */
    struct buf out, errors; /* of the last run; data is never NULL then */
};

/* With `input` as its standard input; the exit code as a shell has it, 128 + n for a signal.
 * `words` are its arguments, at most 30, ended by NULL. */
int program_run(struct program *p, const char *input, const char *const *words);

/* Frees what the last run left. */
void program_release(struct program *p);
