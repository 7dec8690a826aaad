/*
 * From what the user asked for ("auto", "cpu", "cuda", "cuda:1") to a device. The CUDA backend is a
 * module that is looked for beside the program, in its library folder, or where the options say;
 * it stays loaded until the process ends.
 */
#pragma once

#include "engine/engine.h"
#include "kernels/device.h"

enum { DEVICE_NOTICE_BYTES = 256 };

/* What a GPU computes in, and keeps weights in, where most of them are stored as `stored`: as F32,
 * F16 and BF16 models are, others in BF16; F16 instead where the card has no BF16. */
enum format gpu_activation(const struct engine_options *options, enum format stored, bool has_bf16);

/*
 * `stored`: the format of most of the weights.
 * Where `auto` finds the module but no GPU that it can use, the CPU is opened and `notice` says
 * why; else it is empty. A GPU that was asked for by name and is not there is an error
 * (ERR_MEMORY).
 */
int open_device(struct device **out, const struct engine_options *options, enum format stored,
                char notice[DEVICE_NOTICE_BYTES], struct err *err);
