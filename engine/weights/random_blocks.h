/*
 * Blocks of a storage format that hold normal deviates: for measuring a model's speed without its
 * weights, where what counts is that the bytes are valid and of the right number.
 */
#pragma once

#include "kernels/format.h"

/*
 * Fills n blocks with values of N(0, deviation^2), rounded to the format's steps; all blocks have
 * the same scale. The same seed gives the same bytes. False: out of memory.
 */
bool random_blocks(enum format format, double deviation, uint64_t seed, void *out, size_t n);
