/*
 * flash_sm90.cu: attention for passes of many rows, on Hopper's tensor cores (sm_90a), for caches in
 * F16 or in the format of the activations. Measured and tested by tests/gpu/flash_bench.cu as well.
 */
#pragma once

#include "kernels/device.h"

struct cuda_device;

/* Whether it computes this op: head size 64 or 128, 16-bit values, blocks of 16 keys, no window. */
bool flash_can(const struct cuda_device *cuda, const struct op_attention *op);

/*
 * Does it. Rows of a sequence have consecutive positions. `next_item`: an int in device memory that
 * is 0 and that nobody else uses; it is 0 again afterwards.
 */
enum op_status flash_attention(struct cuda_device *cuda, const struct op_attention *op,
                               int *next_item);
