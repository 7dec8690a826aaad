/* The read roof: how fast a team of threads reads memory that no cache holds. */
#pragma once

#include "kernels/cpu/threads.h"

/* Bytes per second, the best of several passes; 0 without memory for it. */
double roof_read_speed(struct team *team);
