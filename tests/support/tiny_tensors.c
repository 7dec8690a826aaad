/* Random weights: the same deviates for a tensor's field and layer whatever container they go to.
 */
#include "tests/support/tiny_parts.h"

#include "engine/base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *model_type;
    bool has_qkv_bias, has_qk_norm;
} families[] = {
    [TINY_QWEN2] = {"qwen2", true, false},
    [TINY_QWEN3] = {"qwen3", false, true},
    [TINY_LLAMA] = {"llama", false, false},
    [TINY_QWEN] = {"qwen", true, false},
};

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

/* About a normal deviate: the sum of 12 uniform ones (exact in every libm). */
static float next_normal(uint64_t *state) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += (double)(next_random(state) >> 11) * 0x1p-53;
    return (float)sum;
}

static uint64_t stream_of(const struct tiny_spec *spec, const struct weight_row *row, int layer) {
    uint64_t state =
        spec->seed * 1000003 + (uint64_t)(row - weight_table) * 1009 + (uint64_t)(layer + 1);
    next_random(&state);
    return state;
}

struct model_config tiny_config(const struct tiny_spec *spec) {
    struct model_config c = {
        .n_layers = spec->layers,
        .hidden = spec->hidden,
        .ffn = spec->ffn,
        .n_heads = spec->heads,
        .n_kv_heads = spec->kv_heads,
        .head_size = spec->head_size,
        .vocab = spec->vocab,
        .has_qkv_bias = families[spec->family].has_qkv_bias,
        .has_qk_norm = families[spec->family].has_qk_norm,
        .has_tied_head = spec->is_tied,
    };
    snprintf(c.model_type, sizeof c.model_type, "%s", families[spec->family].model_type);
    return c;
}

/* Where a block keeps its scale and its minimum (two halves), and what random codes then average:
 * value = scale * code - minimum. Layouts: kernels/decode.h. */
static const struct {
    enum format format;
    int scale_at, min_at; /* min_at -1: none */
    float code_deviation, min_per_scale;
} blocks[] = {
    {FORMAT_Q8_0, 0, -1, 74, 0},       {FORMAT_Q4_0, 0, -1, 4.6f, 0},
    {FORMAT_Q4_1, 0, 2, 4.6f, -7.5f},  {FORMAT_Q5_0, 0, -1, 9.2f, 0},
    {FORMAT_Q5_1, 0, 2, 9.2f, -15.5f}, {FORMAT_Q4_K, 0, 2, 220, 7.5f},
    {FORMAT_Q5_K, 0, 2, 440, 15.5f},   {FORMAT_Q6_K, 208, -1, 1370, 0},
};

static void put_half(unsigned char *at, float value) {
    format_encode(FORMAT_F16, &value, at, 1);
}

/* n values of `deviation` as random blocks. */
static int put_blocks(struct buf *out, enum format format, size_t n, float deviation,
                      uint64_t *state) {
    size_t row = 0;
    while (row < sizeof blocks / sizeof *blocks && blocks[row].format != format) row++;
    if (row == sizeof blocks / sizeof *blocks) return -1;
    unsigned char block[256];
    const size_t bytes = (size_t)format_table[format].block_bytes;
    const float scale = deviation / blocks[row].code_deviation;
    for (size_t i = 0; i < n / (size_t)format_table[format].block_values; i++) {
        for (size_t k = 0; k < bytes; k++) block[k] = (unsigned char)(next_random(state) >> 56);
        put_half(block + blocks[row].scale_at, scale);
        if (blocks[row].min_at >= 0)
            put_half(block + blocks[row].min_at, scale * blocks[row].min_per_scale);
        buf_add(out, block, bytes);
    }
    return 0;
}

static float mean_of(const struct weight_row *row) {
    return strstr(row->field, "norm") ? 1 : 0;
}

static float deviation_of(const struct weight_row *row, int cols) {
    return row->kind == KIND_VECTOR ? 0.1f : 1 / sqrtf((float)cols);
}

/*
 * The place of row r of a head's K in a GGUF `llama` file: its converter puts the two halves of a
 * rotated pair side by side.
 */
static int interleaved_row(int r, int head_size) {
    int head = r / head_size, at = r % head_size;
    return head * head_size + (at % 2) * (head_size / 2) + at / 2;
}

/* Appends the weight of one table row in one layer. 0 or -1. */
static int put_values(struct buf *out, const struct tiny_spec *spec, const struct weight_row *row,
                      int layer, enum format format, bool interleaves) {
    const struct model_config c = tiny_config(spec);
    const int rows = weight_dim(row->rows, &c), cols = weight_dim(row->cols, &c);
    const size_t n = (size_t)rows * (size_t)cols;
    uint64_t state = stream_of(spec, row, layer);
    if (cols % format_table[format].block_values != 0) {
        fprintf(stderr, "rows of %d values do not fit %s\n", cols, format_table[format].name);
        return -1;
    }
    if (format_table[format].block_values > 1)
        return put_blocks(out, format, n, deviation_of(row, cols), &state);
    float *values = mem_zalloc(n, sizeof *values);
    unsigned char *stored = mem_zalloc((size_t)cols, 4);
    if (!values || !stored) return -1;
    for (size_t i = 0; i < n; i++)
        values[i] = mean_of(row) + deviation_of(row, cols) * next_normal(&state);
    bool permutes = interleaves && (row->part == PART_Q_ROWS || row->part == PART_K_ROWS);
    for (int r = 0; r < rows; r++) {
        int from = permutes ? interleaved_row(r, spec->head_size) : r;
        format_encode(format, values + (size_t)from * (size_t)cols, stored, (size_t)cols);
        buf_add(out, stored, format_row_bytes(format, (size_t)cols));
    }
    mem_free(values);
    mem_free(stored);
    return 0;
}

/* One tensor of a file: a table row, or v1's three fused ones (row is then q's or q_bias's). */
static int make_tensor(struct tiny_tensor *t, const struct tiny_spec *spec,
                       const struct weight_row *row, int layer, enum weight_naming naming,
                       enum format format) {
    const struct model_config c = tiny_config(spec);
    int first, total;
    weight_name(row, naming, layer, t->name);
    weight_rows(row, naming, &c, &first, &total);
    const int parts = total > weight_dim(row->rows, &c) ? 3 : 1;
    t->format = format;
    t->n_dims = row->kind == KIND_MATRIX ? 2 : 1;
    t->dims[0] = total;
    t->dims[1] = weight_dim(row->cols, &c);
    bool interleaves = naming == NAMES_GGUF && spec->family == TINY_LLAMA;
    for (int i = 0; i < parts; i++)
        if (put_values(&t->data, spec, row + i, layer, format, interleaves) != 0) return -1;
    return t->data.failed ? -1 : 0;
}

int tiny_tensors_make(struct tiny_tensors *tensors, const struct tiny_spec *spec, bool is_gguf) {
    const struct model_config c = tiny_config(spec);
    const enum weight_naming naming = weight_naming(&c, is_gguf);
    int n_matrices = 0;
    tensors->n = 0;
    tensors->items =
        mem_zalloc((size_t)N_WEIGHTS * (size_t)(spec->layers + 1), sizeof *tensors->items);
    if (!tensors->items) return -1;
    for (int layer = 0; layer <= spec->layers; layer++) { /* the last round: the model's own */
        for (int i = 0; i < N_WEIGHTS; i++) {
            const struct weight_row *row = &weight_table[i];
            bool is_model = row->scope == SCOPE_MODEL;
            int first, total;
            weight_rows(row, naming, &c, &first, &total);
            if (is_model != (layer == spec->layers) || !weight_is_there(row, &c) || first > 0)
                continue;
            enum format format = FORMAT_F32;
            if (row->kind == KIND_MATRIX && spec->n_formats > 0)
                format = spec->formats[n_matrices++ % spec->n_formats];
            if (make_tensor(&tensors->items[tensors->n++], spec, row, layer, naming, format) != 0)
                return -1;
        }
    }
    return 0;
}

void tiny_tensors_release(struct tiny_tensors *tensors) {
    for (size_t i = 0; i < tensors->n; i++) buf_release(&tensors->items[i].data);
    mem_free(tensors->items);
    *tensors = (struct tiny_tensors){0};
}
