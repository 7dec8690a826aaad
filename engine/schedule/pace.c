/* A moving average of seconds per row. */
#include "engine/schedule/pace.h"

enum { LEAST_POWER = 64 }; /* fewer rows would leave a GPU idle */

void pace_init(struct pace *p, int max_rows, double guessed_seconds_per_row, bool in_powers) {
    *p = (struct pace){
        .max_rows = max_rows, .seconds_per_row = guessed_seconds_per_row, .in_powers = in_powers};
}

int pace_rows(const struct pace *p) {
    if (p->seconds_per_row <= 0) return p->max_rows;
    double rows = PACE_SECONDS / p->seconds_per_row;
    if (rows > p->max_rows) return p->max_rows;
    if (!p->in_powers) return rows < 1 ? 1 : (int)rows;
    int power = LEAST_POWER;
    while (power * 2 <= rows) power *= 2;
    return power < p->max_rows ? power : p->max_rows;
}

void pace_measured(struct pace *p, int rows, double seconds) {
    if (p->seconds_per_row <= 0) return;
    /* a small pass says little of a large one: the weights are read whole for either */
    if (rows < pace_rows(p) / 2 && seconds < PACE_SECONDS) return;
    p->seconds_per_row = (p->seconds_per_row + seconds / rows) / 2;
}
