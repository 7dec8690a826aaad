/* THE model: from the tokens of a batch to logits, and from these to the next tokens. */
#pragma once

#include "engine/forward/activations.h"
#include "engine/forward/kv_cache.h"
#include "engine/weights/weights.h"

/* What a pass works with; nothing here is owned. */
struct model {
    struct device *device;
    const struct model_config *config;
    const struct weights *weights;
    const struct kv_cache *kv;
    const struct activations *activations;
    const uint8_t *is_token; /* device [V] ids that may be drawn; NULL: all */
};

/*
 * Computes every row of the batch, writes its keys and values, and leaves the logits of the output
 * rows in activations->logits and what was drawn from them in activations->drawn. It only calls
 * ops: nothing is allocated, waited for or read back, so it can be recorded; `batch` and all that
 * it points to must then stay where they are.
 */
enum op_status forward(const struct model *model, const struct op_batch *batch);
