/*
 * From the residual stream to queries and cached keys and values, of strips. The piece of
 * work is a head: its rows of wq, wk or wv, its bias, norm and rotation, and where the result goes.
 */
#include "kernels/cpu/strips.h"

#include <assert.h>
#include <string.h>

enum { TILE_ROWS = 48 }; /* rows of x of a tile; a multiple of what the loops take at once */

struct qkv_scratch {
    float heads[TILE_ROWS * MAX_HEAD_SIZE];
    struct rotation rotations[FEW_ROWS];
};
static_assert(sizeof(struct qkv_scratch) <= STRIPS_SCRATCH, "scratch of qkv");

/* One head of q, k or v. */
struct head {
    const struct matrix *w;
    const float *bias, *norm; /* or NULL */
    int index;
    bool is_query, is_rotated;
    void *cache; /* NULL: a query */
};

bool cpu_fuses_qkv(const struct op_qkv *op, const struct cpu_variant *variant) {
    return are_strips(op->wq, op->wk, variant) && are_strips(op->wq, op->wv, variant) &&
           op->kv.head_size % STRIP_ROWS == 0;
}

/* The rounded rows, then how each is rotated. */
size_t cpu_qkv_shared_bytes(const struct op_qkv *op) {
    size_t bytes = strips_shared_bytes(op->wq, op->batch->n_rows);
    return bytes > 0 ? bytes + (size_t)op->batch->n_rows * sizeof(struct rotation) : 0;
}

/* How each row is rotated, the same for all its heads; behind the next barrier, if rows are many.
 */
static const struct rotation *rotate_rows(const struct op_qkv *op, struct part part) {
    int n = op->batch->n_rows;
    bool are_few = strips_are_few(op->wq, n);
    struct rotation *out =
        are_few ? ((struct qkv_scratch *)part.scratch)->rotations
                : (struct rotation *)(void *)((char *)part.shared + strips_shared_bytes(op->wq, n));
    struct range rows = {0, (size_t)n};
    if (!are_few) rows = part_range(part, rows.to, 1);
    for (size_t t = rows.from; t < rows.to; t++)
        if (op->batch->slots[t] >= 0) cpu_rotation(&out[t], &op->rope, op->batch, t);
    return out;
}

static struct head head_at(const struct op_qkv *op, int i) {
    int n_kv_heads = op->kv.n_kv_heads;
    if (i < op->heads) return (struct head){op->wq, op->bq, op->q_norm, i, true, true, NULL};
    i -= op->heads;
    if (i < n_kv_heads) return (struct head){op->wk, op->bk, op->k_norm, i, false, true, op->kv.k};
    return (struct head){op->wv, op->bv, NULL, i - n_kv_heads, false, false, op->kv.v};
}

/* Row t's product becomes what the plain ops make of it. */
static void finish(const struct op_qkv *op, const struct head *head, float *x, size_t t,
                   const struct rotation *rotation, struct part part) {
    const int head_size = op->kv.head_size, slot = op->batch->slots[t];
    for (int i = 0; head->bias && i < head_size; i++)
        x[i] += head->bias[head->index * head_size + i];
    if (head->norm)
        cpu_norm_scale(x, x, cpu_norm_factor(x, head_size, op->eps), head->norm, head_size);
    if (head->is_rotated && slot >= 0) cpu_rotate(x, rotation, &op->rope, head->is_query);
    if (head->is_query)
        memcpy((float *)op->q + (t * (size_t)op->heads + (size_t)head->index) * (size_t)head_size,
               x, (size_t)head_size * sizeof *x);
    else if (slot >= 0)
        cpu_kv_put(&op->kv, head->cache, head->index, slot, x, part);
}

static void multiply_head(const struct op_qkv *op, const struct head *head, struct strip_rows x,
                          int x_from, const struct rotation *rotations, struct part part) {
    struct qkv_scratch *scratch = part.scratch;
    size_t head_size = (size_t)op->kv.head_size;
    int n_strips = op->kv.head_size / STRIP_ROWS;
    for (int i = 0; i < n_strips; i++)
        strip_multiply(head->w, head->index * n_strips + i, x, scratch->heads + i * STRIP_ROWS,
                       head_size, part);
    for (int j = 0; j < x.n; j++)
        finish(op, head, scratch->heads + (size_t)j * head_size, (size_t)(x_from + j),
               &rotations[x_from + j], part);
}

void cpu_qkv(const struct op_qkv *op, struct part part) {
    struct strip_input input = {op->wq, op->x, NULL, op->batch->n_rows, op->norm, op->eps};
    const struct rotation *rotations = rotate_rows(op, part);
    struct strip_rows x = strips_round(&input, part);
    size_t n_tiles = (size_t)((x.n + TILE_ROWS - 1) / TILE_ROWS);
    size_t n_items = (size_t)(op->heads + 2 * op->kv.n_kv_heads) * n_tiles;
    struct tiles tiles = tiles_begin(n_items, x.n, part);
    for (size_t item; tiles_take(&tiles, &item);) {
        struct head head = head_at(op, (int)(item / n_tiles));
        int x_from = (int)(item % n_tiles) * TILE_ROWS;
        multiply_head(op, &head, strip_rows_some(x, x_from, smaller(TILE_ROWS, x.n - x_from)),
                      x_from, rotations, part);
    }
}
