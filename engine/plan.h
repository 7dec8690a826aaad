/* How much memory a model will take, before it is taken. */
#pragma once

#include "engine/engine.h"
#include "engine/schedule/batch.h"
#include "engine/weights/checkpoint.h"
#include "kernels/device.h"

/* What the plan decides besides the figures. */
struct plan {
    bool is_gpu;
    struct memory_plan memory;
    int max_sequences, max_rows; /* that the scheduler may put into a pass */
    struct batch_size batch;     /* the largest pass, padding included */
    enum format activation;      /* the device's */
    uint64_t work_bytes;         /* device->work_bytes() */
    int n_blocks;                /* of the KV cache: context_tokens, shared by all sequences */
    double seconds_per_row;      /* guess of a pass's speed; 0: max_rows is as the options say */
};

/* The one that the options name, with its weights or with random ones. */
int plan_open_checkpoint(struct checkpoint **out, const struct engine_options *options,
                         struct err *err);

/* The figures for the options' context or, where they leave it open, for the smaller of the
 * model's and what fits. Refuses only sizes that make no sense. */
int plan_make(struct plan *plan, const struct engine_options *options,
              const struct checkpoint *checkpoint, const struct device_facts *facts,
              struct err *err);

/* Before anything of a model is taken. */
struct device_facts plan_facts(struct device *device);

/* What the process has in memory now. */
uint64_t plan_resident_bytes(void);

/* The format of most bytes of a checkpoint's matrices. */
enum format most_stored(const struct checkpoint *checkpoint);

/* Does it fit? If not, one sentence: what is missing, and which context would fit. */
int plan_check(const struct plan *plan, const struct model_config *config, struct err *err);
