/* Each fused op as plain ops of the same device: the default, and what its test compares with. */
#include "kernels/device.h"

#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum op_status status_ = (call);                                                           \
        if (status_ != OP_OK) return status_;                                                      \
    } while (0)

/* n activations further */
static void *skip(const struct device *device, void *act, size_t n) {
    return (char *)act + format_row_bytes(device->activation, n);
}

static enum op_status norm_and_rope(struct device *device, const struct op_qkv *op, void *x,
                                    int heads, const float *norm, bool is_query) {
    if (norm)
        TRY(device->ops->rms_norm(device, &(struct op_rms_norm){.y = x,
                                                                .x = x,
                                                                .weight = norm,
                                                                .rows = op->batch->n_rows * heads,
                                                                .n = op->kv.head_size,
                                                                .eps = op->eps}));
    return device->ops->rope(
        device,
        &(struct op_rope){
            .x = x, .heads = heads, .is_query = is_query, .rope = op->rope, .batch = op->batch});
}

enum op_status fused_qkv(struct device *device, const struct op_qkv *op) {
    TRY(op_check_qkv(op));
    const struct ops *ops = device->ops;
    int rows = op->batch->n_rows;
    size_t n_k = (size_t)rows * (size_t)op->wk->rows;
    void *h = op->scratch;
    void *k = skip(device, h, (size_t)rows * (size_t)op->wq->cols), *v = skip(device, k, n_k);

    TRY(ops->rms_norm(device, &(struct op_rms_norm){.y = h,
                                                    .x = op->x,
                                                    .weight = op->norm,
                                                    .rows = rows,
                                                    .n = op->wq->cols,
                                                    .eps = op->eps}));
    TRY(ops->linear(device, &(struct op_linear){
                                .y = op->q, .x = h, .w = op->wq, .bias = op->bq, .rows = rows}));
    TRY(ops->linear(
        device, &(struct op_linear){.y = k, .x = h, .w = op->wk, .bias = op->bk, .rows = rows}));
    TRY(ops->linear(
        device, &(struct op_linear){.y = v, .x = h, .w = op->wv, .bias = op->bv, .rows = rows}));
    TRY(norm_and_rope(device, op, op->q, op->heads, op->q_norm, true));
    TRY(norm_and_rope(device, op, k, op->kv.n_kv_heads, op->k_norm, false));
    return ops->kv_write(device,
                         &(struct op_kv_write){.k = k, .v = v, .kv = op->kv, .batch = op->batch});
}

enum op_status fused_gate_up(struct device *device, const struct op_gate_up *op) {
    TRY(op_check_gate_up(op));
    const struct ops *ops = device->ops;
    size_t rows = (size_t)op->rows;
    void *h = op->scratch, *up = skip(device, h, rows * (size_t)op->gate->cols);

    TRY(ops->rms_norm(device, &(struct op_rms_norm){.y = h,
                                                    .x = op->x,
                                                    .weight = op->norm,
                                                    .rows = op->rows,
                                                    .n = op->gate->cols,
                                                    .eps = op->eps}));
    TRY(ops->linear(device,
                    &(struct op_linear){.y = op->y, .x = h, .w = op->gate, .rows = op->rows}));
    TRY(ops->linear(device, &(struct op_linear){.y = up, .x = h, .w = op->up, .rows = op->rows}));
    return ops->silu_mul(
        device, &(struct op_silu_mul){
                    .y = op->y, .gate = op->y, .up = up, .n = rows * (size_t)op->gate->rows});
}

enum op_status fused_head(struct device *device, const struct op_head *op) {
    TRY(op_check_head(op));
    const struct ops *ops = device->ops;
    int rows = op->batch->n_outputs;
    void *h = op->scratch;

    TRY(ops->gather(device,
                    &(struct op_gather){.y = h, .x = op->x, .n = op->w->cols, .batch = op->batch}));
    TRY(ops->rms_norm(
        device,
        &(struct op_rms_norm){
            .y = h, .x = h, .weight = op->norm, .rows = rows, .n = op->w->cols, .eps = op->eps}));
    return ops->linear(
        device,
        &(struct op_linear){.y = op->logits, .x = h, .w = op->w, .rows = rows, .y_is_float = true});
}
