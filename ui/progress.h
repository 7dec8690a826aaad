/* Work that takes time, as the skins show it: what it is, how far, and how long it will take. */
#pragma once

#include "ui/lines.h"

struct progress {
    bool is_up;
    char what[80];              /* "" where that is not known */
    double share, seconds_left; /* below 0: unknown */
};

/* A new state; `what` is sanitized. */
void progress_set(struct progress *p, const char *what, double share, double seconds_left,
                  bool is_up);

/* "45 %, 12 s left", or what of it is known. */
void progress_describe(const struct progress *p, char *out, size_t room);

/* A bar of exactly `columns` columns, in eighths of a column; share is taken as 0 to 1. */
void bar_add(struct styled *out, double share, int columns, text_style full, text_style empty);
