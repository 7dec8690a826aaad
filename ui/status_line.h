/* The one line between transcript and input: model, format, context, speed, share of the roof,
 * memory, state. What does not fit is left out, the least important first. */
#pragma once

#include "ui/lines.h"

struct status {
    const char *model, *format;       /* NULL: not known yet */
    int context_used, context_tokens; /* tokens; 0: not known */
    double speed;                     /* tokens/s, 0: none */
    double roof_share;                /* of the memory's speed, below 0: not known */
    uint64_t memory_used, memory_all; /* bytes; 0: not known */
    bool is_gpu;                      /* whose memory that is */
    const char *state;                /* "ready", "loading 45 %"; at the right */
    double share;                     /* of a bar behind the state, below 0: none */
    int n_queued;                     /* messages that wait */
    size_t rows_below;                /* of the transcript, below the screen */
};

/* As one row of `columns` columns. */
void status_line(const struct status *status, int columns, struct styled *out);
