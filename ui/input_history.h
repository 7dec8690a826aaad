/*
 * What the user has entered, oldest first, kept in one file that all running programs share. The
 * file is replaced as a whole under a lock, after the entries of others were read from it: a crash
 * at any moment leaves the old or the new file, and nobody's entries are lost.
 *
 * One entry a line, UTF-8; "\n" within an entry is written as \n and a backslash as \\.
 */
#pragma once

#include "engine/base/err.h"

#include <stddef.h>

enum {
    INPUT_HISTORY_ENTRIES = 1000,
    INPUT_HISTORY_BYTES = 4 << 20, /* of the file; the oldest entries go first */
};

struct input_history {
    char *path; /* NULL: kept in memory only */
    char **entries;
    size_t n, capacity;
    size_t limit; /* entries */
};

/* Reads the file if it is there. -1: it cannot be used; the history then works in memory. */
int input_history_open(struct input_history *h, const char *path, size_t limit, struct err *err);
void input_history_release(struct input_history *h);

/* Adds an entry (not an empty one, nor the newest once more) and writes the file; afterwards
 * `entries` also has what other programs have added. -1: it is in memory, but not on disk. */
int input_history_add(struct input_history *h, const char *text, struct err *err);
