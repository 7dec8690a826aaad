/*
 * The device memory of one pass: the arrays of its batch and the values between ops, in one arena
 * at fixed addresses. Shapes in the letters of kernels/ops.h, "act" in the device's format; T and
 * R are the largest that the batch may have.
 */
#pragma once

#include "engine/schedule/batch.h"
#include "engine/weights/model_config.h"
#include "kernels/device.h"

struct activations {
    struct device *device;
    unsigned char *arena;
    void *batch;    /* copy of struct batch's memory */
    void *x;        /* act [T, D] the residual stream */
    void *q;        /* act [T, H, K] */
    void *y;        /* act [T, H, K] what attention gives */
    void *ffn;      /* act [T, F]; lies over q and y, which are done with by then */
    void *scratch;  /* of the fused ops: the largest that one asks for */
    float *logits;  /* float [R, V] */
    int32_t *drawn; /* [R] the token drawn from each row of logits */
};

uint64_t activations_bytes(const struct model_config *config, enum format act,
                           const struct batch_size *size);

int activations_init(struct activations *a, struct device *device,
                     const struct model_config *config, const struct batch_size *size,
                     struct err *err);
void activations_release(struct activations *a);

/* Brings the arrays of a batch to the device. */
enum op_status activations_upload(const struct activations *a, const struct batch *batch);
