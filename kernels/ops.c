/* What is the same for every backend: status texts and the checks of sizes and formats. */
#include "kernels/ops.h"

const char *op_status_text(enum op_status status) {
    switch (status) {
    case OP_OK:
        return "ok";
    case OP_BAD_SHAPE:
        return "sizes that do not fit together";
    case OP_BAD_FORMAT:
        return "a storage format without a kernel";
    case OP_NO_MEMORY:
        return "out of memory";
    case OP_FAULT:
        return "the device failed";
    case OP_NOT_SUPPORTED:
        return "not supported by this device";
    case OP_NOT_FINITE:
        return "a value that is not finite";
    }
    return "unknown status";
}

#define REQUIRE(condition, status)                                                                 \
    if (!(condition)) return (status)
#define TRY(call)                                                                                  \
    do {                                                                                           \
        enum op_status status_ = (call);                                                           \
        if (status_ != OP_OK) return status_;                                                      \
    } while (0)

static enum op_status check_format(enum format format, unsigned use) {
    REQUIRE((unsigned)format < N_FORMATS && format_table[format].uses & use, OP_BAD_FORMAT);
    return OP_OK;
}

static enum op_status check_matrix(const struct matrix *m) {
    REQUIRE(m && m->data, OP_BAD_SHAPE);
    TRY(check_format(m->format, USE_WEIGHT));
    REQUIRE((unsigned)m->layout < N_LAYOUTS && layout_has(m->layout, m->format), OP_BAD_FORMAT);
    REQUIRE(m->rows > 0 && m->cols > 0, OP_BAD_SHAPE);
    REQUIRE(m->cols % format_table[m->format].block_values == 0, OP_BAD_SHAPE);
    return OP_OK;
}

/* A weight that must be [rows, cols]. */
static enum op_status check_weight(const struct matrix *m, int rows, int cols) {
    TRY(check_matrix(m));
    REQUIRE(m->rows == rows && m->cols == cols, OP_BAD_SHAPE);
    return OP_OK;
}

static enum op_status check_batch(const struct op_batch *batch) {
    REQUIRE(batch && batch->n_rows > 0 && batch->slots, OP_BAD_SHAPE);
    return OP_OK;
}

static enum op_status check_kv(const struct kv_view *kv) {
    TRY(check_format(kv->format, USE_KV));
    REQUIRE(kv->k && kv->v && kv->block_tokens > 0 && kv->n_kv_heads > 0, OP_BAD_SHAPE);
    REQUIRE(kv->head_size > 0 && kv->head_size <= MAX_HEAD_SIZE, OP_BAD_SHAPE);
    return OP_OK;
}

static enum op_status check_rope_params(const struct rope_params *rope) {
    REQUIRE(rope->head_size > 0 && rope->head_size <= MAX_HEAD_SIZE, OP_BAD_SHAPE);
    REQUIRE(rope->head_size % 2 == 0 && rope->logn_tokens >= 0, OP_BAD_SHAPE);
    return OP_OK;
}

/* ---- plain ops ---- */

enum op_status op_check_embed(const struct op_embed *op) {
    TRY(check_batch(op->batch));
    TRY(check_matrix(op->table));
    REQUIRE(op->y && op->batch->tokens, OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_rms_norm(const struct op_rms_norm *op) {
    REQUIRE(op->y && op->x && op->weight && op->rows > 0 && op->n > 0, OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_linear(const struct op_linear *op) {
    TRY(check_matrix(op->w));
    REQUIRE(op->y && op->x && op->rows > 0, OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_rope(const struct op_rope *op) {
    TRY(check_batch(op->batch));
    TRY(check_rope_params(&op->rope));
    const struct op_batch *batch = op->batch;
    REQUIRE(op->x && op->heads > 0, OP_BAD_SHAPE);
    REQUIRE(batch->positions && batch->seq_of && batch->inv_freq && batch->rope_scale,
            OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_kv_write(const struct op_kv_write *op) {
    TRY(check_batch(op->batch));
    TRY(check_kv(&op->kv));
    REQUIRE(op->k && op->v, OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_attention(const struct op_attention *op) {
    TRY(check_batch(op->batch));
    TRY(check_kv(&op->kv));
    const struct op_batch *batch = op->batch;
    REQUIRE(op->y && op->q && op->window >= 0, OP_BAD_SHAPE);
    REQUIRE(op->heads > 0 && op->heads % op->kv.n_kv_heads == 0, OP_BAD_SHAPE);
    REQUIRE(batch->n_seqs > 0 && batch->max_blocks > 0, OP_BAD_SHAPE);
    REQUIRE(batch->positions && batch->seq_of && batch->block_table, OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_silu_mul(const struct op_silu_mul *op) {
    REQUIRE(op->y && op->gate && op->up && op->n > 0, OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_gather(const struct op_gather *op) {
    REQUIRE(op->y && op->x && op->n > 0, OP_BAD_SHAPE);
    REQUIRE(op->batch && op->batch->n_outputs > 0 && op->batch->outputs, OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_sample(const struct op_sample *op) {
    const struct op_batch *batch = op->batch;
    REQUIRE(op->drawn && op->logits && op->seen && op->vocab > 0, OP_BAD_SHAPE);
    REQUIRE(op->block_tokens > 0 && batch && batch->n_outputs > 0, OP_BAD_SHAPE);
    REQUIRE(batch->outputs && batch->draws && batch->seq_of && batch->positions, OP_BAD_SHAPE);
    REQUIRE(batch->block_table && batch->max_blocks > 0, OP_BAD_SHAPE);
    return OP_OK;
}

/* ---- fused ops ---- */

enum op_status op_check_qkv(const struct op_qkv *op) {
    TRY(check_batch(op->batch));
    TRY(check_kv(&op->kv));
    TRY(check_rope_params(&op->rope));
    TRY(check_matrix(op->wq));
    int head_size = op->kv.head_size, hidden = op->wq->cols;
    REQUIRE(op->q && op->x && op->norm && op->scratch && op->heads > 0, OP_BAD_SHAPE);
    REQUIRE(op->rope.head_size == head_size, OP_BAD_SHAPE);
    TRY(check_weight(op->wq, op->heads * head_size, hidden));
    TRY(check_weight(op->wk, op->kv.n_kv_heads * head_size, hidden));
    TRY(check_weight(op->wv, op->kv.n_kv_heads * head_size, hidden));
    return OP_OK;
}

enum op_status op_check_gate_up(const struct op_gate_up *op) {
    TRY(check_matrix(op->gate));
    TRY(check_weight(op->up, op->gate->rows, op->gate->cols));
    REQUIRE(op->y && op->x && op->norm && op->scratch && op->rows > 0, OP_BAD_SHAPE);
    return OP_OK;
}

enum op_status op_check_head(const struct op_head *op) {
    TRY(check_matrix(op->w));
    REQUIRE(op->logits && op->x && op->norm && op->scratch, OP_BAD_SHAPE);
    REQUIRE(op->batch && op->batch->n_outputs > 0 && op->batch->outputs, OP_BAD_SHAPE);
    return OP_OK;
}
