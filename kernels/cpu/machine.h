/* Facts about the machine this process may use. Linux; unknown facts have harmless values. */
#pragma once

#include "kernels/device.h"

/* Logical processors that the scheduler may put this process on. */
int machine_processors(void);

/* Threads worth starting: distinct cores of those processors, and no more than the cgroup's CPU
 * quota pays for; at least 1. */
int machine_threads(void);

/* Of the machine or, where smaller, of the cgroups around this process. */
struct device_memory machine_memory(void);

/* Of the third-level caches of those processors; 0 where that is not known. */
uint64_t machine_cache_bytes(void);

/* "AMD EPYC 7763"; "CPU" where the processor does not tell. */
void machine_cpu_name(char *out, size_t n);
