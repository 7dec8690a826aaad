/*
 * Signals as input: each becomes a byte in a pipe, to be polled beside the keyboard. One set for
 * the whole process, open between signals_open() and signals_close().
 */
#pragma once

#include "engine/base/err.h"

#include <stddef.h>

int signals_open(const int *numbers, size_t n, struct err *err);
void signals_close(void); /* the handlers from before are back */

int signals_fd(void);   /* readable while one waits */
int signals_take(void); /* its number, 0: none waits */

/* The default action of `number`, now: die of it, or stop. May return for a stop. */
void signals_default(int number);
