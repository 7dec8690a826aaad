/* Colours of config.yaml on the terminal that is there. */
#pragma once

#include "app/config.h"

/* The colour of a terminal with n_colors of them (8, 16, 88, 256) that is nearest to one of
 * config.yaml; -1: the terminal's own. */
int color_on_terminal(int color, int n_colors);
