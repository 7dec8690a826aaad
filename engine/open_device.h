/*
 * From what the user asked for ("auto", "cpu", "cuda", "cuda:1") to a device. The CUDA backend is a
 * module that is looked for beside the program, in its library folder, or where the options say;
 * it stays loaded until the process ends.
 */
#pragma once

#include "engine/engine.h"
#include "kernels/device.h"

enum { DEVICE_NOTICE_BYTES = 256 };

/*
 * `stored`: the format of most of the weights; a GPU computes in the format of F32, F16 and BF16
 * models, others in BF16.
 * Where `auto` finds a GPU that cannot be used, the CPU is opened and `notice` says why; else it is
 * empty. A GPU that was asked for by name and is not there is an error (ERR_MEMORY).
 */
int open_device(struct device **out, const struct engine_options *options, enum format stored,
                char notice[DEVICE_NOTICE_BYTES], struct err *err);
