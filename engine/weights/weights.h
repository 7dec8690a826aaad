/*
 * Tensors bound to the fields that forward() uses. Binding is validation: weight_names.def lists
 * field, names (safetensors, v1, GGUF), shape in letters and when it is there; what is missing,
 * misshaped or of a format that cannot be used is refused by name.
 *
 * Matrices are packed as the device wants them; where it takes them as they are stored they stay
 * mapped if it reads host memory, else (and where they are random) they are uploaded. Norms and
 * biases are always converted to float and checked to be finite.
 */
#pragma once

#include "engine/weights/checkpoint.h"
#include "kernels/device.h"

struct layer_weights {
    const float *attn_norm;                /* [D] */
    struct matrix q, k, v;                 /* [H K, D], [G K, D], [G K, D] */
    const float *q_bias, *k_bias, *v_bias; /* [H K], [G K], [G K], or NULL */
    const float *q_norm, *k_norm;          /* [K] or NULL */
    struct matrix o;                       /* [D, H K] */
    const float *o_bias;                   /* [D] or NULL */
    const float *ffn_norm;                 /* [D] */
    struct matrix gate, up;                /* [F, D] */
    struct matrix down;                    /* [D, F] */
};

struct weights {
    struct matrix embed;          /* [V, D] */
    struct matrix head;           /* [V, D]; the embedding again where tied */
    const float *final_norm;      /* [D] */
    struct layer_weights *layers; /* [L] */
    uint64_t matrix_bytes;        /* bytes of all matrices, a tied head once */
    uint64_t owned_bytes;         /* device memory taken (floats, uploads) */
    struct device *device;
    void *owned[2]; /* device allocations, n_owned: the floats, the matrices */
    size_t n_owned;
};

/* What binding would refuse, without a device: names, shapes, formats; reads no tensor's bytes. */
int weights_check(const struct checkpoint *c, struct err *err);

/* Bytes that the matrices of such a model take in one format (rows that its blocks do not divide
 * in F16), and values of norms and biases, which are float. A tied head counts once. */
uint64_t weights_matrix_bytes(const struct model_config *c, enum format format);
uint64_t weights_vector_bytes(const struct model_config *c);
uint64_t weights_parameters(const struct model_config *c);

/* How far binding is, 0 to 1; false cancels. */
struct weights_progress {
    bool (*told)(void *ud, float share);
    void *ud;
};

/* `progress` may be NULL. */
int weights_bind(struct weights *w, const struct checkpoint *c, struct device *device,
                 const struct weights_progress *progress, struct err *err);
void weights_release(struct weights *w);
