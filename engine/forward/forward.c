/*
 * A pre-norm transformer decoder with rotary positions, grouped-query attention and a SwiGLU
 * feed-forward: Qwen v1 to 3 and their kin. What differs between them is a fact of model_config
 * or a weight that is NULL.
 */
#include "engine/forward/forward.h"

#include <math.h>

/* Calls an op with the named arguments; leaves forward() when it fails. */
#define RUN(op, ...)                                                                               \
    do {                                                                                           \
        enum op_status status = ops->op(device, &(struct op_##op){__VA_ARGS__});                   \
        if (status != OP_OK) return status;                                                        \
    } while (0)

enum op_status forward(const struct model *model, const struct op_batch *batch) {
    struct device *device = model->device;
    const struct ops *ops = device->ops;
    const struct model_config *c = model->config;
    const struct weights *w = model->weights;
    const struct activations *a = model->activations;
    const int rows = batch->n_rows;
    const float eps = c->norm_eps, attention_scale = 1 / sqrtf((float)c->head_size);
    const struct rope_params rope = {c->head_size, c->rope_interleaved, c->logn_tokens};

    RUN(embed, .y = a->x, .table = &w->embed, .drawn = a->drawn, .seen = model->kv->seen,
        .batch = batch);

    for (int l = 0; l < c->n_layers; l++) {
        const struct layer_weights *layer = &w->layers[l];
        const struct kv_view kv = kv_cache_layer(model->kv, l);
        const bool is_windowed = c->sliding_window > 0 && l >= c->sliding_from_layer;

        /* x += o(attention(qkv(norm(x)))) */
        RUN(qkv, .q = a->q, .x = a->x, .norm = layer->attn_norm, .eps = eps, .wq = &layer->q,
            .wk = &layer->k, .wv = &layer->v, .bq = layer->q_bias, .bk = layer->k_bias,
            .bv = layer->v_bias, .q_norm = layer->q_norm, .k_norm = layer->k_norm, .rope = rope,
            .kv = kv, .heads = c->n_heads, .batch = batch, .scratch = a->scratch);
        RUN(attention, .y = a->y, .q = a->q, .kv = kv, .heads = c->n_heads,
            .window = is_windowed ? c->sliding_window : 0, .scale = attention_scale,
            .batch = batch);
        RUN(linear, .y = a->x, .x = a->y, .w = &layer->o, .bias = layer->o_bias, .rows = rows,
            .accumulate = true);

        /* x += down(silu(gate(norm(x))) * up(norm(x))) */
        RUN(gate_up, .y = a->ffn, .x = a->x, .norm = layer->ffn_norm, .eps = eps,
            .gate = &layer->gate, .up = &layer->up, .rows = rows, .scratch = a->scratch);
        RUN(linear, .y = a->x, .x = a->ffn, .w = &layer->down, .rows = rows, .accumulate = true);
    }

    if (batch->n_outputs == 0) return OP_OK; /* a chunk within a prompt */
    RUN(head, .logits = a->logits, .x = a->x, .norm = w->final_norm, .eps = eps, .w = &w->head,
        .batch = batch, .scratch = a->scratch);
    RUN(sample, .drawn = a->drawn, .logits = a->logits, .vocab = c->vocab,
        .is_token = model->is_token, .seen = model->kv->seen,
        .block_tokens = model->kv->layout.block_tokens, .batch = batch);
    return OP_OK;
}
