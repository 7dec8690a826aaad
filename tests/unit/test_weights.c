/*
 * Binding: the names each family's files use, every container giving the same model, fused and
 * permuted rows, devices that map and devices that copy, and what must be refused by name.
 */
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/weights/inspect.h"
#include "engine/weights/weights.h"
#include "tests/support/make_checkpoint.h"
#include "tests/support/sentence.h"

#include <math.h>
#include <stdlib.h>

static char folder[256];

static int make_folder(void **state) {
    (void)state;
    make_temporary_folder(folder);
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

static const char *in(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* --- a device that counts -------------------------------------------------------------------- */

static int n_allocated;   /* not given back yet */
static int fail_alloc_at; /* the n-th alloc from now fails; 0: none */
static enum op_status upload_status;

static void *fake_alloc(struct device *d, size_t bytes) {
    (void)d;
    if (fail_alloc_at > 0 && --fail_alloc_at == 0) return NULL;
    n_allocated++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
}

static void fake_release(struct device *d, void *p) {
    (void)d;
    n_allocated--;
    free(p);
}

static enum op_status fake_upload(struct device *d, void *to, const void *from, size_t bytes) {
    (void)d;
    memcpy(to, from, bytes);
    return upload_status;
}

static enum format fake_weight_format(struct device *d, enum format stored) {
    (void)d;
    return stored;
}

static enum op_status fake_load(struct device *d, void *to, const void *from, enum format stored,
                                size_t n) {
    return fake_upload(d, to, from, format_row_bytes(stored, n));
}

static enum op_status fake_download(struct device *d, void *to, const void *from, size_t bytes) {
    (void)d;
    memcpy(to, from, bytes);
    return OP_OK;
}

/* In F32, which is what these checkpoints are stored in. */
static enum op_status fake_find_not_finite(struct device *d, const struct matrix *m,
                                           size_t *where) {
    const float *values = m->data;
    const size_t n = (size_t)m->rows * (size_t)m->cols;
    (void)d;
    *where = SIZE_MAX;
    for (size_t i = n; m->format == FORMAT_F32 && i-- > 0;)
        if (!isfinite(values[i])) *where = i;
    return OP_OK;
}

static enum op_status fake_sync(struct device *d) {
    (void)d;
    return OP_OK;
}

static enum matrix_layout stored_layout(const struct device *d, enum format format) {
    (void)d, (void)format;
    return LAYOUT_STORED;
}

static enum op_status pack_status;

static enum matrix_layout strips_layout(const struct device *d, enum format format) {
    (void)d;
    return layout_has(LAYOUT_STRIPS16, format) ? LAYOUT_STRIPS16 : LAYOUT_STORED;
}

static enum op_status fake_pack(struct device *d, void *to, const struct matrix *from) {
    (void)d;
    size_t row_bytes = format_row_bytes(from->format, (size_t)from->cols);
    bool is_finite = true;
    for (int row = 0; row < from->rows; row += STRIP_ROWS) {
        int n = from->rows - row < STRIP_ROWS ? from->rows - row : STRIP_ROWS;
        size_t skipped = (size_t)row * row_bytes;
        is_finite &= strip_pack(from->format, (const char *)from->data + skipped, n,
                                (size_t)from->cols, (char *)to + skipped);
    }
    return is_finite ? pack_status : OP_NOT_FINITE;
}

static struct device make_device(bool reads_host_memory) {
    fail_alloc_at = 0;
    upload_status = pack_status = OP_OK;
    return (struct device){.activation = FORMAT_F32,
                           .reads_host_memory = reads_host_memory,
                           .alloc = fake_alloc,
                           .release = fake_release,
                           .upload = fake_upload,
                           .download = fake_download,
                           .weight_format = fake_weight_format,
                           .load = fake_load,
                           .find_not_finite = fake_find_not_finite,
                           .sync = fake_sync,
                           .layout = stored_layout,
                           .pack = fake_pack};
}

/* --- an open, bound model -------------------------------------------------------------------- */

struct model {
    struct checkpoint *checkpoint;
    struct device device;
    struct weights weights;
};

static void open_on(struct model *m, const char *where, struct device device) {
    struct err err = {0};
    m->device = device;
    if (checkpoint_open(&m->checkpoint, where, &err) != 0 ||
        weights_bind(&m->weights, m->checkpoint, &m->device, NULL, &err) != 0)
        fail_msg("%s: %s", where, err.text);
}

static void open_model(struct model *m, const char *where, bool reads_host_memory) {
    open_on(m, where, make_device(reads_host_memory));
}

static void close_model(struct model *m) {
    weights_release(&m->weights);
    checkpoint_close(m->checkpoint);
    assert_int_equal(n_allocated, 0);
}

/* Row r of a matrix. */
static const float *row_of(const struct matrix *m, int r, float *out) {
    size_t bytes = format_row_bytes(m->format, (size_t)m->cols);
    const char *row = (const char *)m->data + (size_t)r * bytes;
    char stored[4096];
    if (m->layout == LAYOUT_STRIPS16) {
        int in_strip = r % STRIP_ROWS;
        assert_true(bytes <= sizeof stored);
        strip_unpack_row(m->format, row - (size_t)in_strip * bytes, in_strip, (size_t)m->cols,
                         stored);
        row = stored;
    }
    format_decode(m->format, row, out, (size_t)m->cols);
    return out;
}

static void assert_same_matrix(const char *name, const struct matrix *a, const struct matrix *b) {
    float x[1024], y[1024];
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->cols, b->cols);
    for (int r = 0; r < a->rows; r++)
        if (memcmp(row_of(a, r, x), row_of(b, r, y), (size_t)a->cols * sizeof(float)) != 0)
            fail_msg("%s: row %d differs", name, r);
}

static void assert_same_vector(const char *name, const float *a, const float *b, int n) {
    if (!a && !b) return;
    if (!a || !b || memcmp(a, b, (size_t)n * sizeof(float)) != 0) fail_msg("%s differs", name);
}

static void assert_same_model(const struct model *a, const struct model *b) {
    const struct model_config *c = checkpoint_config(a->checkpoint);
    const int hk = c->n_heads * c->head_size, gk = c->n_kv_heads * c->head_size;
    assert_same_matrix("embed", &a->weights.embed, &b->weights.embed);
    assert_same_matrix("head", &a->weights.head, &b->weights.head);
    assert_same_vector("final_norm", a->weights.final_norm, b->weights.final_norm, c->hidden);
    for (int i = 0; i < c->n_layers; i++) {
        const struct layer_weights *x = &a->weights.layers[i], *y = &b->weights.layers[i];
        assert_same_vector("attn_norm", x->attn_norm, y->attn_norm, c->hidden);
        assert_same_vector("ffn_norm", x->ffn_norm, y->ffn_norm, c->hidden);
        assert_same_vector("q_norm", x->q_norm, y->q_norm, c->head_size);
        assert_same_vector("k_norm", x->k_norm, y->k_norm, c->head_size);
        assert_same_vector("q_bias", x->q_bias, y->q_bias, hk);
        assert_same_vector("k_bias", x->k_bias, y->k_bias, gk);
        assert_same_vector("v_bias", x->v_bias, y->v_bias, gk);
        assert_same_vector("o_bias", x->o_bias, y->o_bias, c->hidden);
        assert_same_matrix("q", &x->q, &y->q);
        assert_same_matrix("k", &x->k, &y->k);
        assert_same_matrix("v", &x->v, &y->v);
        assert_same_matrix("o", &x->o, &y->o);
        assert_same_matrix("gate", &x->gate, &y->gate);
        assert_same_matrix("up", &x->up, &y->up);
        assert_same_matrix("down", &x->down, &y->down);
    }
}

/* --- good models ----------------------------------------------------------------------------- */

static void check_shape(const struct matrix *m, int rows, int cols) {
    assert_non_null(m->data);
    assert_int_equal(m->rows, rows);
    assert_int_equal(m->cols, cols);
}

static void test_fields(void **state) {
    (void)state;
    for (int family = TINY_QWEN2; family <= TINY_QWEN; family++) {
        struct tiny_spec spec = {.family = (enum tiny_family)family, .head_size = 24};
        struct model m;
        assert_int_equal(make_tiny_folder(in("m"), &spec), 0);
        open_model(&m, in("m"), true);
        const int gk = family == TINY_QWEN ? 96 : 48;
        bool has_bias = family == TINY_QWEN2 || family == TINY_QWEN;
        check_shape(&m.weights.embed, family == TINY_QWEN ? 512 : 288, 64);
        check_shape(&m.weights.head, family == TINY_QWEN ? 512 : 288, 64);
        assert_ptr_not_equal(m.weights.embed.data, m.weights.head.data);
        for (int i = 0; i < 2; i++) {
            const struct layer_weights *l = &m.weights.layers[i];
            check_shape(&l->q, 96, 64);
            check_shape(&l->k, gk, 64);
            check_shape(&l->v, gk, 64);
            check_shape(&l->o, 64, 96);
            check_shape(&l->gate, 96, 64);
            check_shape(&l->up, 96, 64);
            check_shape(&l->down, 64, 96);
            assert_true(l->attn_norm && l->ffn_norm && (uintptr_t)l->attn_norm % 64 == 0);
            assert_true((l->q_bias != NULL) == has_bias && (l->v_bias != NULL) == has_bias);
            assert_true((l->q_norm != NULL) == (family == TINY_QWEN3));
            assert_null(l->o_bias);
        }
        assert_int_equal(n_allocated, 1); /* the vectors; matrices stay mapped */
        close_model(&m);
        remove_folder(in("m"));
    }
}

/* The names that published files have, written down here and not taken from the table. */
static void test_names(void **state) {
    (void)state;
    static const struct {
        enum tiny_family family;
        bool is_gguf;
        const char *names[16];
    } cases[] = {
        {TINY_QWEN2,
         false,
         {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
          "model.layers.1.input_layernorm.weight", "model.layers.1.post_attention_layernorm.weight",
          "model.layers.1.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.bias",
          "model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.k_proj.bias",
          "model.layers.1.self_attn.v_proj.weight", "model.layers.1.self_attn.v_proj.bias",
          "model.layers.1.self_attn.o_proj.weight", "model.layers.1.mlp.gate_proj.weight",
          "model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"}},
        {TINY_QWEN3,
         false,
         {"model.layers.0.self_attn.q_norm.weight", "model.layers.0.self_attn.k_norm.weight"}},
        {TINY_QWEN,
         false,
         {"transformer.wte.weight", "transformer.ln_f.weight", "lm_head.weight",
          "transformer.h.1.ln_1.weight", "transformer.h.1.ln_2.weight",
          "transformer.h.1.attn.c_attn.weight", "transformer.h.1.attn.c_attn.bias",
          "transformer.h.1.attn.c_proj.weight", "transformer.h.1.mlp.w1.weight",
          "transformer.h.1.mlp.w2.weight", "transformer.h.1.mlp.c_proj.weight"}},
        {TINY_QWEN3,
         true,
         {"token_embd.weight", "output_norm.weight", "output.weight", "blk.1.attn_norm.weight",
          "blk.1.ffn_norm.weight", "blk.1.attn_q.weight", "blk.1.attn_k.weight",
          "blk.1.attn_v.weight", "blk.1.attn_output.weight", "blk.1.attn_q_norm.weight",
          "blk.1.attn_k_norm.weight", "blk.1.ffn_gate.weight", "blk.1.ffn_up.weight",
          "blk.1.ffn_down.weight"}},
        {TINY_QWEN2, true, {"blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias"}},
        {TINY_QWEN, true, {"blk.0.attn_qkv.weight", "blk.0.attn_qkv.bias"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny_spec spec = {.family = cases[i].family};
        struct checkpoint *c;
        struct err err = {0};
        const char *where = in(cases[i].is_gguf ? "x.gguf" : "m");
        assert_int_equal((cases[i].is_gguf ? make_tiny_gguf : make_tiny_folder)(where, &spec), 0);
        assert_int_equal(checkpoint_open(&c, where, &err), 0);
        assert_int_equal(weights_check(c, &err), 0);
        for (size_t k = 0; k < 16 && cases[i].names[k]; k++)
            if (!checkpoint_find(c, cases[i].names[k])) fail_msg("no %s", cases[i].names[k]);
        checkpoint_close(c);
        remove_folder(in("m"));
    }
}

/* A folder and a GGUF of the same spec are the same model, v1's fused rows included. */
static void test_same_in_both_containers(void **state) {
    (void)state;
    static const enum tiny_family families[] = {TINY_QWEN2, TINY_QWEN3, TINY_QWEN};
    static const enum format formats[] = {FORMAT_F32, FORMAT_BF16, FORMAT_F16};
    for (size_t i = 0; i < 3; i++) {
        struct tiny_spec spec = {.family = families[i], .formats = &formats[i], .n_formats = 1};
        struct model a, b;
        assert_int_equal(make_tiny_folder(in("m"), &spec), 0);
        assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
        open_model(&a, in("m"), true);
        open_model(&b, in("x.gguf"), true);
        assert_same_model(&a, &b);
        weights_release(&a.weights);
        checkpoint_close(a.checkpoint);
        close_model(&b);
        remove_folder(in("m"));
    }
}

/* The fused tensor's thirds go to q, k and v in this order; w2 is the gate, w1 is up. */
static void test_v1_parts(void **state) {
    (void)state;
    struct tiny_spec spec = {.family = TINY_QWEN};
    struct model m;
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    open_model(&m, folder, true);
    const struct layer_weights *l = &m.weights.layers[1];
    const float *fused = checkpoint_find(m.checkpoint, "transformer.h.1.attn.c_attn.weight")->data;
    const float *bias = checkpoint_find(m.checkpoint, "transformer.h.1.attn.c_attn.bias")->data;
    assert_ptr_equal(l->q.data, fused);
    assert_ptr_equal(l->k.data, fused + 64 * 64);
    assert_ptr_equal(l->v.data, fused + 2 * 64 * 64);
    assert_memory_equal(l->q_bias, bias, 64 * sizeof(float));
    assert_memory_equal(l->k_bias, bias + 64, 64 * sizeof(float));
    assert_memory_equal(l->v_bias, bias + 128, 64 * sizeof(float));
    assert_ptr_equal(l->gate.data,
                     checkpoint_find(m.checkpoint, "transformer.h.1.mlp.w2.weight")->data);
    assert_ptr_equal(l->up.data,
                     checkpoint_find(m.checkpoint, "transformer.h.1.mlp.w1.weight")->data);
    close_model(&m);
}

/* GGUF `llama`: rows 2i and 2i + 1 of a head are rows i and i + K/2 of the folder's. */
static void test_llama_rows(void **state) {
    (void)state;
    struct tiny_spec spec = {.family = TINY_LLAMA};
    struct model a, b;
    float x[64], y[64];
    assert_int_equal(make_tiny_folder(in("m"), &spec), 0);
    assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
    open_model(&a, in("m"), true);
    open_model(&b, in("x.gguf"), true);
    const struct layer_weights *l = &a.weights.layers[0], *g = &b.weights.layers[0];
    for (int head = 0; head < 2; head++) {
        for (int i = 0; i < 8; i++) {
            int at = head * 16;
            assert_memory_equal(row_of(&g->q, at + 2 * i, x), row_of(&l->q, at + i, y), sizeof x);
            assert_memory_equal(row_of(&g->q, at + 2 * i + 1, x), row_of(&l->q, at + i + 8, y),
                                sizeof x);
            assert_memory_equal(row_of(&g->k, at + 2 * i + 1, x), row_of(&l->k, at + i + 8, y),
                                sizeof x);
        }
    }
    assert_same_matrix("v", &g->v, &l->v);
    weights_release(&a.weights);
    checkpoint_close(a.checkpoint);
    close_model(&b);
}

static void test_tied_head(void **state) {
    (void)state;
    struct tiny_spec spec = {.is_tied = true}, untied = {0};
    struct model m;
    assert_int_equal(make_tiny_folder(in("tied"), &spec), 0);
    assert_int_equal(make_tiny_folder(in("untied"), &untied), 0);
    open_model(&m, in("untied"), true);
    const uint64_t both = m.weights.matrix_bytes;
    close_model(&m);
    open_model(&m, in("tied"), true);
    assert_ptr_equal(m.weights.head.data, m.weights.embed.data);
    assert_int_equal(both - m.weights.matrix_bytes, 288 * 64 * 4);
    assert_int_equal(m.weights.matrix_bytes,
                     weights_matrix_bytes(checkpoint_config(m.checkpoint), FORMAT_F32));
    close_model(&m);
}

/* In device memory, where each matrix begins at a multiple of 256 bytes. */
static void assert_owns(const struct model *m, uint64_t bytes) {
    enum { N_MATRICES = 2 * 7 + 1 };
    assert_in_range(m->weights.owned_bytes, bytes, bytes + N_MATRICES * 255);
}

/* A device that cannot read the map gets copies of everything. */
static void test_uploads(void **state) {
    (void)state;
    static const enum format mix[] = {FORMAT_Q8_0, FORMAT_F32, FORMAT_Q4_1};
    struct tiny_spec spec = {.formats = mix, .n_formats = 3, .is_tied = true};
    struct model a, b;
    assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
    open_model(&a, in("x.gguf"), true);
    open_model(&b, in("x.gguf"), false);
    assert_int_equal(n_allocated, 1 + 2); /* the vectors of both, a block of matrices */
    assert_ptr_not_equal(a.weights.embed.data, b.weights.embed.data);
    assert_ptr_equal(b.weights.head.data, b.weights.embed.data);
    assert_int_equal(a.weights.matrix_bytes, b.weights.matrix_bytes);
    assert_owns(&b, a.weights.owned_bytes + b.weights.matrix_bytes);
    assert_same_model(&a, &b);
    weights_release(&b.weights);
    checkpoint_close(b.checkpoint);
    close_model(&a);
}

/* A device that packs: what has such a layout lies in one block, the rest stays mapped; so does an
 * embedding that is no head. */
static void test_packs(void **state) {
    (void)state;
    static const enum format mix[] = {FORMAT_Q8_0, FORMAT_Q4_1, FORMAT_Q5_0, FORMAT_F32};
    for (int is_tied = 0; is_tied < 2; is_tied++) {
        struct tiny_spec spec = {.formats = mix, .n_formats = 4, .is_tied = is_tied, .vocab = 300};
        struct model a, b;
        struct device device = make_device(true);
        device.layout = strips_layout;
        assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
        open_model(&a, in("x.gguf"), true);
        open_on(&b, in("x.gguf"), device);
        assert_int_equal(n_allocated, 1 + 2);
        assert_same_model(&a, &b);
        bool is_packed = is_tied && layout_has(LAYOUT_STRIPS16, b.weights.embed.format);
        assert_int_equal(b.weights.embed.layout, is_packed ? LAYOUT_STRIPS16 : LAYOUT_STORED);
        assert_int_equal(b.weights.matrix_bytes, a.weights.matrix_bytes);
        uint64_t packed_bytes = 0;
        for (int i = 0; i < 2; i++) {
            const struct layer_weights *l = &b.weights.layers[i];
            const struct matrix *all[] = {&l->q, &l->k, &l->v, &l->o, &l->gate, &l->up, &l->down};
            for (int k = 0; k < 7; k++) {
                bool has = layout_has(LAYOUT_STRIPS16, all[k]->format);
                assert_int_equal(all[k]->layout, has ? LAYOUT_STRIPS16 : LAYOUT_STORED);
                if (has)
                    packed_bytes += layout_bytes(LAYOUT_STRIPS16, all[k]->format,
                                                 (size_t)all[k]->rows, (size_t)all[k]->cols);
            }
        }
        const struct matrix *head = &b.weights.head;
        if (head->layout == LAYOUT_STRIPS16)
            packed_bytes +=
                layout_bytes(LAYOUT_STRIPS16, head->format, (size_t)head->rows, (size_t)head->cols);
        assert_owns(&b, a.weights.owned_bytes + packed_bytes);
        weights_release(&b.weights);
        checkpoint_close(b.checkpoint);
        close_model(&a);
    }
}

static void test_packing_fails(void **state) {
    (void)state;
    static const enum format formats[] = {FORMAT_Q8_0};
    struct tiny_spec spec = {.formats = formats, .n_formats = 1};
    struct checkpoint *c;
    struct weights w;
    struct err err = {0};
    assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
    assert_int_equal(checkpoint_open(&c, in("x.gguf"), &err), 0);
    for (int at = 0; at <= 2; at++) { /* 0: packing itself */
        struct device device = make_device(true);
        device.layout = strips_layout;
        fail_alloc_at = at;
        pack_status = at == 0 ? OP_FAULT : OP_OK;
        assert_int_equal(weights_bind(&w, c, &device, NULL, &err), -1);
        assert_int_equal(err.kind, ERR_MEMORY);
        assert_int_equal(n_allocated, 0);
    }
    checkpoint_close(c);
}

static void test_counts(void **state) {
    (void)state;
    struct tiny_spec spec = {0};
    struct checkpoint *c;
    struct err err;
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    assert_int_equal(checkpoint_open(&c, folder, &err), 0);
    const struct model_config *m = checkpoint_config(c);
    assert_int_equal(weights_parameters(m) * 4, checkpoint_bytes(c));
    assert_int_equal(weights_matrix_bytes(m, FORMAT_F32) + weights_vector_bytes(m),
                     checkpoint_bytes(c));
    assert_int_equal(weights_matrix_bytes(m, FORMAT_BF16), weights_matrix_bytes(m, FORMAT_F32) / 2);
    /* rows of 64 and 96 values are no multiples of 256: they stay in 16 bit */
    assert_int_equal(weights_matrix_bytes(m, FORMAT_Q4_K), weights_matrix_bytes(m, FORMAT_F16));
    assert_int_equal(weights_matrix_bytes(m, FORMAT_Q8_0),
                     weights_matrix_bytes(m, FORMAT_F16) / 64 * 34);
    checkpoint_close(c);
}

static void test_inspect(void **state) {
    (void)state;
    static const enum format mix[] = {FORMAT_Q8_0, FORMAT_Q4_0};
    struct tiny_spec spec = {.formats = mix, .n_formats = 2};
    struct checkpoint *c;
    struct inspect_row rows[48];
    struct inspect_size sizes[N_FORMATS];
    struct err err;
    char text[96];
    assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
    assert_int_equal(checkpoint_open(&c, in("x.gguf"), &err), 0);
    size_t n = inspect_facts(c, rows, 48);
    assert_true(n >= 14 && n <= 24);
    assert_string_equal(rows[1].name, "architecture");
    assert_string_equal(rows[1].value, "qwen2");
    assert_int_equal(inspect_facts(c, rows, 3), 3);
    assert_int_equal(inspect_types(c, rows, 48), 3);
    assert_string_equal(rows[0].name, "Q8_0");
    assert_string_equal(rows[0].value, "8 tensors, 52.2 kB");
    assert_int_equal(inspect_sizes(c, sizes), N_FORMATS);
    assert_int_equal(sizes[FORMAT_F32].bytes, weights_parameters(checkpoint_config(c)) * 4);
    inspect_shape(checkpoint_find(c, "token_embd.weight"), text);
    assert_string_equal(text, "[288, 64]");
    inspect_bytes(999, text);
    assert_string_equal(text, "999 B");
    inspect_bytes(96600000, text);
    assert_string_equal(text, "96.6 MB");
    inspect_bytes(UINT64_MAX, text);
    assert_string_equal(text, "18.4 EB");
    checkpoint_close(c);
}

/* --- what is refused ------------------------------------------------------------------------- */

static struct buf get(const char *name) {
    struct buf text = {0};
    struct err err = {0};
    if (io_read_file(in(name), 1 << 24, &text, &err) != 0) fail_msg("%s", err.text);
    return text;
}

/* Every occurrence of `from` in the file becomes `to`, which is as long. */
static void patch(const char *name, const char *from, const char *to) {
    struct buf file = get(name);
    int n = 0;
    assert_int_equal(strlen(from), strlen(to));
    for (char *at = file.data;
         (at = memmem(at, file.n - (size_t)(at - file.data), from, strlen(from))); n++)
        memcpy(at, to, strlen(to));
    assert_true(n > 0);
    write_file(folder, name, file.data, file.n);
    buf_release(&file);
}

static void refuse_on(const char *where, struct device device, const char *part) {
    struct checkpoint *c;
    struct err err = {0};
    struct weights w;
    if (checkpoint_open(&c, where, &err) != 0) fail_msg("%s", err.text);
    if (weights_bind(&w, c, &device, NULL, &err) == 0) fail_msg("bound: %s", part);
    assert_sentence(part, &err, part);
    assert_null(w.layers);
    assert_int_equal(n_allocated, 0);
    checkpoint_close(c);
}

static void refuse(const char *where, bool reads_host_memory, const char *part) {
    refuse_on(where, make_device(reads_host_memory), part);
}

static void test_bad_tensors(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *part;
    } cases[] = {
        {"model.norm.weight", "model.xxxx.weight", "model.norm.weight is missing"},
        {"layers.1.mlp.up_proj", "layers.7.mlp.up_proj",
         "model.layers.1.mlp.up_proj.weight is missing"},
        {"self_attn.k_proj.bias", "self_attn.k_proj.xxxx", "2 of the model's tensors"},
        {"self_attn", "self_xxxx", "and"},
        {"\"shape\": [288, 64]", "\"shape\": [144,128]",
         "model.embed_tokens.weight is [144, 128], not [288, 64]"},
        {"\"shape\": [96, 64]", "\"shape\": [64, 96]",
         "gate_proj.weight is [64, 96], not [96, 64]"},
        {"\"shape\": [64, 96]", "\"shape\": [6144]  ", "down_proj.weight is [6144], not [64, 96]"},
        {"\"shape\": [64], ", "\"shape\":[8,8], ", "is [8, 8], not [64]"},
        {"\"F32\", \"shape\": [288, 64]", "\"I32\", \"shape\": [288, 64]", "stored as I32"},
        {"\"F32\", \"shape\": [64],", "\"I32\", \"shape\": [64],", "stored as I32"},
        {"0.mlp.gate_proj.weight\": ", "0.mlp.gate_proj.qweight\":", "quantized parts (.qweight)"},
        {"1.self_attn.o_proj.weight\": ", "1.self_attn.o_proj.qzeros\": ",
         "quantized parts (.qzeros)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny_spec spec = {0};
        assert_int_equal(make_tiny_folder(folder, &spec), 0);
        patch("model.safetensors", cases[i].from, cases[i].to);
        refuse(folder, true, cases[i].part);
    }
}

/* Each type that no kernel reads is refused by its name, with the list of those that are read. */
static void test_unsupported_types(void **state) {
    (void)state;
    static const struct {
        int number; /* of a type with as many bytes for 32 values as Q4_0 has */
        const char *part;
    } cases[] = {{20, "stored as IQ4_NL"}, {2, NULL}};
    static const enum format q4_0 = FORMAT_Q4_0;
    struct tiny_spec spec = {.formats = &q4_0, .n_formats = 1};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
        struct buf file = get("x.gguf");
        char *name = memmem(file.data, file.n, "blk.1.ffn_up.weight", 19);
        assert_non_null(name);
        name[19 + 4 + 16] = (char)cases[i].number; /* behind the name: dimensions, then the type */
        write_file(folder, "x.gguf", file.data, file.n);
        buf_release(&file);
        if (cases[i].part) {
            refuse(in("x.gguf"), true, cases[i].part);
            refuse(in("x.gguf"), true, "f32, f16, bf16, q8_0");
        } else {
            struct model m;
            open_model(&m, in("x.gguf"), true);
            close_model(&m);
        }
    }
}

/* Puts a float into the middle of a tensor of the file. */
static void put_value(const char *file_name, const char *tensor, float value) {
    struct checkpoint *c;
    struct err err;
    assert_int_equal(checkpoint_open(&c, folder, &err), 0);
    const struct checkpoint_tensor *t = checkpoint_find(c, tensor);
    struct buf file = get(file_name);
    char *at = memmem(file.data, file.n, t->data, 256);
    assert_non_null(at);
    memcpy(at + t->bytes / 8 * 4, &value, sizeof value);
    checkpoint_close(c);
    write_file(folder, file_name, file.data, file.n);
    buf_release(&file);
}

static void test_values_that_are_not_finite(void **state) {
    (void)state;
    static const struct {
        const char *tensor;
        float value;
        bool reads_host_memory;
        const char *part;
    } cases[] = {
        {"model.norm.weight", NAN, true, "'model.norm.weight' holds NaN at value 32"},
        {"model.layers.1.self_attn.q_proj.bias", INFINITY, true, "holds an infinity"},
        {"model.layers.0.input_layernorm.weight", -INFINITY, true, "holds an infinity at value 32"},
        {"model.layers.0.mlp.up_proj.weight", NAN, false,
         "up_proj.weight' holds NaN at value 3072"},
        {"model.embed_tokens.weight", -INFINITY, false, "embed_tokens.weight' holds an infinity"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny_spec spec = {0};
        assert_int_equal(make_tiny_folder(folder, &spec), 0);
        put_value("model.safetensors", cases[i].tensor, cases[i].value);
        refuse(folder, cases[i].reads_host_memory, cases[i].part);
    }
}

/* A scale of packed weights: of each format, and where the block has it a minimum. */
static void test_scales_that_are_not_finite(void **state) {
    (void)state;
    static const struct {
        enum format format;
        int offset; /* of the half in its block */
        uint16_t half;
        const char *part;
    } cases[] = {
        {FORMAT_Q8_0, 0, 0x7e00, "'blk.1.ffn_up.weight' holds NaN at value "},
        {FORMAT_Q4_0, 0, 0x7c00, "'blk.1.ffn_up.weight' holds "}, /* 0 times infinity is NaN */
        {FORMAT_Q4_1, 2, 0xfc00, "'blk.1.ffn_up.weight' holds an infinity at value "},
        {FORMAT_Q5_0, 0, 0xffff, "'blk.1.ffn_up.weight' holds NaN at value "},
        {FORMAT_Q5_1, 2, 0x7c01, "'blk.1.ffn_up.weight' holds NaN at value "},
        {FORMAT_Q4_K, 2, 0x7e00, "'blk.1.ffn_up.weight' holds NaN at value "},
        {FORMAT_Q5_K, 0, 0x7e00, "'blk.1.ffn_up.weight' holds NaN at value "},
        {FORMAT_Q6_K, 208, 0x7e00, "'blk.1.ffn_up.weight' holds NaN at value "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tiny_spec spec = {
            .hidden = 256, .ffn = 512, .formats = &cases[i].format, .n_formats = 1};
        struct checkpoint *c;
        struct err err;
        char part[96];
        const struct format_info *info = &format_table[cases[i].format];
        size_t block = 37, at = block * (size_t)info->block_bytes + (size_t)cases[i].offset;
        assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
        assert_int_equal(checkpoint_open(&c, in("x.gguf"), &err), 0);
        const struct checkpoint_tensor *t = checkpoint_find(c, "blk.1.ffn_up.weight");
        struct buf file = get("x.gguf");
        char *data = memmem(file.data, file.n, t->data, 256);
        assert_non_null(data);
        memcpy(data + at, &cases[i].half, 2);
        checkpoint_close(c);
        write_file(folder, "x.gguf", file.data, file.n);
        buf_release(&file);
        struct device device = make_device(true);
        device.layout = strips_layout;
        snprintf(part, sizeof part, "%s", cases[i].part);
        if (strstr(part, "value "))
            snprintf(part + strlen(part), sizeof part - strlen(part), "%zu;",
                     block * (size_t)info->block_values);
        refuse_on(in("x.gguf"), device, part);
    }
}

/* A header of odd length puts all floats at odd addresses: they are copied to where they may lie.
 */
static void test_unaligned(void **state) {
    (void)state;
    struct tiny_spec spec = {0};
    struct model a, b;
    assert_int_equal(make_tiny_folder(in("a"), &spec), 0);
    assert_int_equal(make_tiny_folder(in("b"), &spec), 0);
    struct buf file = get("b/model.safetensors"), odd = {0};
    uint64_t n;
    memcpy(&n, file.data, 8);
    n++;
    buf_add(&odd, &n, 8);
    buf_add(&odd, file.data + 8, n - 1);
    buf_putc(&odd, ' ');
    buf_add(&odd, file.data + 8 + n - 1, file.n - 8 - (n - 1));
    write_file(in("b"), "model.safetensors", odd.data, odd.n);
    open_model(&a, in("a"), true);
    open_model(&b, in("b"), true);
    assert_true((uintptr_t)b.weights.embed.data % 64 == 0);
    assert_same_model(&a, &b);
    weights_release(&a.weights);
    checkpoint_close(a.checkpoint);
    close_model(&b);
    buf_release(&file);
    buf_release(&odd);
}

/* Every allocation of host and device fails once; nothing is kept. */
static void test_failing_allocations(void **state) {
    (void)state;
    struct tiny_spec spec = {0};
    struct checkpoint *c;
    struct err err = {0};
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    assert_int_equal(checkpoint_open(&c, folder, &err), 0);
    for (int at = 1; at <= 3 + 3; at++) {
        struct weights w;
        struct device device = make_device(false);
        bool of_host = at > 3;
        fail_alloc_at = of_host ? 0 : at;
        if (of_host) mem_fail_at((unsigned long)at - 3, false);
        int result = weights_bind(&w, c, &device, NULL, &err);
        mem_fail_at(0, false);
        bool was_needed = (of_host && at < 6) || at <= 2; /* vectors, matrices; of host: two */
        assert_int_equal(result, was_needed ? -1 : 0);
        if (result == 0) weights_release(&w);
        if (was_needed) assert_int_equal(err.kind, ERR_MEMORY);
        assert_int_equal(n_allocated, 0);
    }
    struct weights w;
    struct device device = make_device(true);
    upload_status = OP_FAULT;
    assert_int_equal(weights_bind(&w, c, &device, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_MEMORY);
    assert_int_equal(n_allocated, 0);
    checkpoint_close(c);
}

int main(void) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        CASE(test_fields),
        CASE(test_names),
        CASE(test_same_in_both_containers),
        CASE(test_v1_parts),
        CASE(test_llama_rows),
        CASE(test_tied_head),
        CASE(test_uploads),
        CASE(test_packs),
        CASE(test_packing_fails),
        CASE(test_counts),
        CASE(test_inspect),
        CASE(test_bad_tensors),
        CASE(test_unsupported_types),
        CASE(test_values_that_are_not_finite),
        CASE(test_scales_that_are_not_finite),
        CASE(test_unaligned),
        CASE(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
