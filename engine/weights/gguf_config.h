/* GGUF metadata as facts of a model: what config.json and generation_config.json say elsewhere. */
#pragma once

#include "engine/weights/gguf.h"

/* `tensors` (indexed) decide what metadata leaves open: biases, q/k norms, a tied head, the
 * vocabulary's rows, frequency divisors. */
int model_config_from_gguf(struct model_config *c, const struct gguf *g,
                           const struct tensor_list *tensors, struct err *err);

/* general.sampling.* where there is any, else the family's; end ids from the tokenizer's keys. */
int generation_defaults_from_gguf(struct generation_defaults *out, const struct gguf *g,
                                  const struct model_config *c, struct err *err);

/* The tokenizer that the metadata holds. */
int gguf_open_tokenizer(const struct gguf *g, struct tokenizer **out, struct err *err);
