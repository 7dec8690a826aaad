/* A moving average of seconds per row. */
#include "engine/schedule/pace.h"

void pace_init(struct pace *p, int max_rows, double guessed_seconds_per_row) {
    *p = (struct pace){.max_rows = max_rows, .seconds_per_row = guessed_seconds_per_row};
}

int pace_rows(const struct pace *p) {
    if (p->seconds_per_row <= 0) return p->max_rows;
    double rows = PACE_SECONDS / p->seconds_per_row;
    if (rows > p->max_rows) return p->max_rows;
    return rows < 1 ? 1 : (int)rows;
}

void pace_measured(struct pace *p, int rows, double seconds) {
    if (p->seconds_per_row <= 0) return;
    /* a small pass says little of a large one: the weights are read whole for either */
    if (rows < pace_rows(p) / 2 && seconds < PACE_SECONDS) return;
    p->seconds_per_row = (p->seconds_per_row + seconds / rows) / 2;
}
