/*
 * A model on disk, as published: a Hugging Face folder (config.json, safetensors) or GGUF files.
 * Opening maps the files and checks every header; tensor bytes stay where they are.
 *
 * Owns the maps: tensors and strings live until checkpoint_close(). Never follows a name from a
 * file out of its folder; never executes anything; refuses pickles by name.
 */
#pragma once

#include "engine/base/err.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/model_config.h"
#include "kernels/format.h"

struct checkpoint_tensor {
    const char *name;
    enum format format; /* N_FORMATS: a type that no kernel reads, named by `type` */
    const char *type;   /* as its file calls it: "BF16", "Q4_K", "IQ4_XS", "I64" */
    int n_dims;         /* 0 to 4 */
    uint64_t dims[4];   /* outermost first, as PyTorch: [rows, cols] */
    const void *data;   /* in the map */
    uint64_t bytes;
    int file; /* index of its file */
};

struct checkpoint;

/*
 * `where` is a folder, a .gguf file (any part of a split one), a .safetensors file beside its
 * config.json, or org/name looked up in the hubs' download caches (HF_HUB_CACHE, HF_HOME,
 * ~/.cache/huggingface/hub, ModelScope's). ERR_MODEL with one sentence when it is no such thing.
 */
int checkpoint_open(struct checkpoint **out, const char *where, struct err *err);

/* The same model with random weights (random_weights.h): `where` is a folder that has config.json,
 * or such a file; nothing else of it is read. `mix`: their formats, or NULL. */
int checkpoint_open_random(struct checkpoint **out, const char *where, const char *mix,
                           struct err *err);

/* Is it a folder with config.json, or such a file, and no weights there at all? */
bool checkpoint_is_config_only(const char *where);
void checkpoint_close(struct checkpoint *c);

const struct model_config *checkpoint_config(const struct checkpoint *c);
const struct generation_defaults *checkpoint_generation(const struct checkpoint *c);
const char *checkpoint_chat_template(const struct checkpoint *c); /* Jinja text, or NULL */
const char *checkpoint_path(const struct checkpoint *c);          /* the folder or file found */
bool checkpoint_is_gguf(const struct checkpoint *c);
bool checkpoint_is_random(const struct checkpoint *c); /* then tensors must be copied to be used */

size_t checkpoint_n_tensors(const struct checkpoint *c);
const struct checkpoint_tensor *checkpoint_tensor_at(const struct checkpoint *c, size_t i);
const struct checkpoint_tensor *checkpoint_find(const struct checkpoint *c, const char *name);
uint64_t checkpoint_bytes(const struct checkpoint *c); /* tensor bytes, all files */

/* Everything was copied: pages that stand in memory only for the tensors of a random checkpoint go.
 */
void checkpoint_drop_pages(const struct checkpoint *c);

/* True when a mapped file shrank or failed since (io.h); err then names it. */
bool checkpoint_is_lost(const struct checkpoint *c, struct err *err);

/* Its own tokenizer, or the one in `folder` where that is not NULL. */
int checkpoint_open_tokenizer(const struct checkpoint *c, const char *folder,
                              struct tokenizer **out, struct err *err);
