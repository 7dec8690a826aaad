/*
 * How many rows a pass may have so that it lasts at most PACE_SECONDS, by the speed of the passes
 * before it. So a key is answered within a quarter of a second while a long prompt is read, on a
 * slow machine as on a fast one. Results do not depend on it.
 */
#pragma once

#include <stdbool.h>

#define PACE_SECONDS 0.2

struct pace {
    int max_rows;
    double seconds_per_row; /* 0: passes always have max_rows */
    bool in_powers;         /* rows are max_rows or a power of two */
};

/* in_powers: where a pass of each size is prepared for (a GPU's products are chosen by shape). */
void pace_init(struct pace *p, int max_rows, double guessed_seconds_per_row, bool in_powers);
int pace_rows(const struct pace *p);

/* What a pass that read a piece of a prompt took. */
void pace_measured(struct pace *p, int rows, double seconds);
