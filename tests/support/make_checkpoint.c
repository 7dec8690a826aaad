/* Containers: config.json and safetensors in a folder, or GGUF, around the same tensors. */
#include "tests/support/make_checkpoint.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/weights/gguf.h"
#include "tests/support/tiny_parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tiny_spec tiny_spec_whole(const struct tiny_spec *spec) {
    struct tiny_spec s = *spec;
    bool is_v1 = s.family == TINY_QWEN;
    if (!s.layers) s.layers = 2;
    if (!s.hidden) s.hidden = 64;
    if (!s.ffn) s.ffn = 96;
    if (!s.heads) s.heads = 4;
    if (!s.kv_heads) s.kv_heads = is_v1 ? s.heads : 2;
    if (!s.head_size) s.head_size = s.hidden / s.heads;
    if (!s.vocab) s.vocab = is_v1 ? 512 : 288;
    if (!s.context) s.context = 512;
    if (!s.seq_length) s.seq_length = s.context;
    if (!s.shards) s.shards = 1;
    return s;
}

/* Without io_write_atomic()'s sync, which would be most of a test's time. A new file, so that a map
 * of an old one stays as it is. */
static int write_whole(const char *path, const void *data, size_t n) {
    const char *at = data;
    io_unlink(path);
    int fd = io_open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    while (fd >= 0 && n > 0) {
        ssize_t put = io_write(fd, at, n);
        if (put < 0) break;
        at += put;
        n -= (size_t)put;
    }
    if (fd >= 0 && io_close(fd) == 0 && n == 0) return 0;
    fprintf(stderr, "%s: %s\n", path, strerror(errno));
    return -1;
}

void write_file(const char *folder, const char *name, const void *data, size_t n) {
    struct buf path = {0};
    buf_printf(&path, "%s/%s", folder, name);
    if (write_whole(path.data, data, n) != 0) abort();
    buf_release(&path);
}

void make_temporary_folder(char path[256]) {
    const char *base = getenv("TMPDIR");
    snprintf(path, 256, "%s/qwen-test-XXXXXX", base ? base : "/tmp");
    if (mkdtemp(path)) return;
    perror(path);
    abort();
}

void remove_folder(const char *path) {
    DIR *dir = opendir(path);
    const struct dirent *entry;
    while (dir && (entry = readdir(dir))) {
        struct buf name = {0};
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        buf_printf(&name, "%s/%s", path, entry->d_name);
        if (unlink(name.data) != 0) remove_folder(name.data);
        buf_release(&name);
    }
    if (dir) closedir(dir);
    rmdir(path);
}

/* --- a folder -------------------------------------------------------------------------------- */

static void write_buf(const char *folder, const char *name, struct buf *text) {
    write_file(folder, name, text->data, text->n);
    buf_release(text);
}

static void put_v1_config(struct buf *out, const struct tiny_spec *s) {
    buf_printf(out,
               "{\"model_type\": \"qwen\", \"architectures\": [\"QWenLMHeadModel\"], "
               "\"hidden_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": %d, "
               "\"kv_channels\": %d, \"intermediate_size\": %d, \"layer_norm_epsilon\": 1e-06, "
               "\"max_position_embeddings\": %d, \"seq_length\": %d, \"rotary_emb_base\": 10000, "
               "\"rotary_pct\": 1.0, \"use_dynamic_ntk\": true, \"use_logn_attn\": true, "
               "\"no_bias\": true, \"vocab_size\": %d, \"tie_word_embeddings\": %s",
               s->hidden, s->layers, s->heads, s->head_size, 2 * s->ffn, s->context, s->seq_length,
               s->vocab, s->is_tied ? "true" : "false");
}

static void put_hf_config(struct buf *out, const struct tiny_spec *s) {
    static const char *const names[][2] = {
        [TINY_QWEN2] = {"qwen2", "Qwen2ForCausalLM"},
        [TINY_QWEN3] = {"qwen3", "Qwen3ForCausalLM"},
        [TINY_LLAMA] = {"llama", "LlamaForCausalLM"},
    };
    buf_printf(
        out,
        "{\"model_type\": \"%s\", \"architectures\": [\"%s\"], \"hidden_size\": %d, "
        "\"num_hidden_layers\": %d, \"num_attention_heads\": %d, \"num_key_value_heads\": %d, "
        "\"head_dim\": %d, \"intermediate_size\": %d, \"hidden_act\": \"silu\", "
        "\"rms_norm_eps\": 1e-06, \"max_position_embeddings\": %d, \"rope_theta\": 10000.0, "
        "\"vocab_size\": %d, \"tie_word_embeddings\": %s",
        names[s->family][0], names[s->family][1], s->hidden, s->layers, s->heads, s->kv_heads,
        s->head_size, s->ffn, s->context, s->vocab, s->is_tied ? "true" : "false");
}

static void write_config(const char *folder, const struct tiny_spec *s) {
    struct buf out = {0};
    if (s->family == TINY_QWEN)
        put_v1_config(&out, s);
    else
        put_hf_config(&out, s);
    buf_printf(&out, "%s%s}\n", s->extra ? ", " : "", s->extra ? s->extra : "");
    write_buf(folder, "config.json", &out);
    if (s->no_generation) return;
    buf_printf(&out,
               "{\"do_sample\": true, \"temperature\": 0.7, \"top_k\": 20, \"top_p\": 0.8, "
               "\"repetition_penalty\": 1.05, \"eos_token_id\": [%d, %d]",
               TINY_IM_END, TINY_END_OF_TEXT);
    if (s->family == TINY_QWEN)
        buf_printf(&out, ", \"chat_format\": \"%s\"", s->no_template ? "raw" : "chatml");
    buf_puts(&out, "}\n");
    write_buf(folder, "generation_config.json", &out);
}

static void write_tokenizer(const char *folder, const struct tiny_spec *s) {
    struct buf out = {0};
    if (s->family == TINY_QWEN) {
        tiny_put_tiktoken(&out);
        write_buf(folder, "qwen.tiktoken", &out);
        return;
    }
    tiny_put_tokenizer_json(&out, s->family);
    write_buf(folder, "tokenizer.json", &out);
    buf_puts(&out, "{\"tokenizer_class\": \"Qwen2Tokenizer\"");
    if (!s->no_template) {
        buf_puts(&out, ", \"chat_template\": ");
        buf_put_json(&out, tiny_template, strlen(tiny_template));
    }
    buf_puts(&out, "}\n");
    write_buf(folder, "tokenizer_config.json", &out);
}

static void put_le(struct buf *out, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) buf_putc(out, (char)(value >> 8 * i & 0xFF));
}

static void write_safetensors(const char *folder, const char *name, const struct tiny_tensor *t,
                              size_t n) {
    struct buf header = {0}, out = {0};
    size_t at = 0;
    buf_puts(&header, "{\"__metadata__\": {\"format\": \"pt\"}");
    for (size_t i = 0; i < n; i++) {
        buf_printf(&header, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [%d", t[i].name,
                   format_table[t[i].format].safetensors, t[i].dims[0]);
        if (t[i].n_dims == 2) buf_printf(&header, ", %d", t[i].dims[1]);
        buf_printf(&header, "], \"data_offsets\": [%zu, %zu]}", at, at + t[i].data.n);
        at += t[i].data.n;
    }
    buf_putc(&header, '}');
    while (header.n % 8 != 0) buf_putc(&header, ' ');
    put_le(&out, header.n, 8);
    buf_add(&out, header.data, header.n);
    for (size_t i = 0; i < n; i++) buf_add(&out, t[i].data.data, t[i].data.n);
    buf_release(&header);
    write_buf(folder, name, &out);
}

/* The first tensor of part `i` of `parts`. */
static size_t part_begin(const struct tiny_tensors *t, int i, int parts) {
    return t->n * (size_t)i / (size_t)parts;
}

static void write_shards(const char *folder, const struct tiny_tensors *t, int shards) {
    struct buf index = {0};
    buf_puts(&index, "{\"metadata\": {\"total_size\": 0}, \"weight_map\": {");
    for (int i = 0; i < shards; i++) {
        char name[64];
        size_t begin = part_begin(t, i, shards), end = part_begin(t, i + 1, shards);
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", i + 1, shards);
        write_safetensors(folder, name, t->items + begin, end - begin);
        for (size_t k = begin; k < end; k++)
            buf_printf(&index, "%s\"%s\": \"%s\"", k ? ", " : "", t->items[k].name, name);
    }
    buf_puts(&index, "}}\n");
    write_buf(folder, "model.safetensors.index.json", &index);
}

static bool check_formats(const struct tiny_tensors *t) {
    for (size_t i = 0; i < t->n; i++)
        if (!format_table[t->items[i].format].safetensors) return false;
    return true;
}

int make_tiny_folder(const char *folder, const struct tiny_spec *spec) {
    const struct tiny_spec s = tiny_spec_whole(spec);
    struct tiny_tensors tensors;
    struct err err;
    if (io_make_folders(folder, 0755, &err) != 0) return fprintf(stderr, "%s\n", err.text), -1;
    int result = tiny_tensors_make(&tensors, &s, false);
    if (result == 0 && !check_formats(&tensors)) {
        fprintf(stderr, "a folder holds F32, F16 and BF16 only\n");
        result = -1;
    }
    if (result == 0) {
        write_config(folder, &s);
        write_tokenizer(folder, &s);
        if (s.shards > 1)
            write_shards(folder, &tensors, s.shards);
        else
            write_safetensors(folder, "model.safetensors", tensors.items, tensors.n);
    }
    tiny_tensors_release(&tensors);
    return result;
}

/* --- GGUF ------------------------------------------------------------------------------------ */

struct gguf_writer {
    struct buf out;
    uint64_t n_entries;
    const char *architecture;
};

static void put_string(struct buf *out, const char *text, size_t n) {
    put_le(out, n, 8);
    buf_add(out, text, n);
}

static void put_key(struct gguf_writer *w, const char *key, enum gguf_type type) {
    char whole[96];
    snprintf(whole, sizeof whole, "%s%s", key[0] == '.' ? w->architecture : "", key);
    put_string(&w->out, whole, strlen(whole));
    put_le(&w->out, type, 4);
    w->n_entries++;
}

static void put_u32(struct gguf_writer *w, const char *key, int value) {
    put_key(w, key, GGUF_U32);
    put_le(&w->out, (uint64_t)value, 4);
}

static void put_f32(struct gguf_writer *w, const char *key, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_key(w, key, GGUF_F32);
    put_le(&w->out, bits, 4);
}

static void put_text(struct gguf_writer *w, const char *key, const char *text) {
    put_key(w, key, GGUF_STRING);
    put_string(&w->out, text, strlen(text));
}

static void put_array(struct gguf_writer *w, const char *key, enum gguf_type type, int n) {
    put_key(w, key, GGUF_ARRAY);
    put_le(&w->out, type, 4);
    put_le(&w->out, (uint64_t)n, 8);
}

static void put_vocabulary(struct gguf_writer *w, const struct tiny_spec *s) {
    put_text(w, "tokenizer.ggml.model", "gpt2");
    put_text(w, "tokenizer.ggml.pre", s->family == TINY_LLAMA ? "smollm" : "qwen2");
    put_array(w, "tokenizer.ggml.tokens", GGUF_STRING, s->vocab);
    for (int id = 0; id < s->vocab; id++) {
        struct buf text = {0};
        if (id < TINY_TOKENS)
            tiny_spell(&text, id);
        else
            buf_printf(&text, "[PAD%d]", id);
        put_string(&w->out, text.data, text.n);
        buf_release(&text);
    }
    put_array(w, "tokenizer.ggml.token_type", GGUF_I32, s->vocab);
    for (int id = 0; id < s->vocab; id++)
        put_le(&w->out, id >= TINY_TOKENS ? 5 : tiny_token_is_control(id) ? 3 : 1, 4);
    put_array(w, "tokenizer.ggml.merges", GGUF_STRING, TINY_MERGES);
    for (int i = 0; i < TINY_MERGES; i++) {
        struct buf text = {0};
        int left, right;
        tiny_merge(i, &left, &right);
        tiny_spell(&text, left);
        buf_putc(&text, ' ');
        tiny_spell(&text, right);
        put_string(&w->out, text.data, text.n);
        buf_release(&text);
    }
    put_u32(w, "tokenizer.ggml.eos_token_id", TINY_IM_END);
    if (!s->no_template) put_text(w, "tokenizer.chat_template", tiny_template);
}

static void put_metadata(struct gguf_writer *w, const struct tiny_spec *s) {
    put_text(w, "general.architecture", w->architecture);
    put_text(w, "general.name", "tiny");
    put_u32(w, ".block_count", s->layers);
    put_u32(w, ".embedding_length", s->hidden);
    put_u32(w, ".feed_forward_length", s->family == TINY_QWEN ? 2 * s->ffn : s->ffn);
    put_u32(w, ".attention.head_count", s->heads);
    put_u32(w, ".attention.head_count_kv", s->kv_heads);
    put_u32(w, ".attention.key_length", s->head_size);
    put_u32(w, ".context_length", s->context);
    put_f32(w, ".attention.layer_norm_rms_epsilon", 1e-6f);
    put_f32(w, ".rope.freq_base", 10000);
    put_vocabulary(w, s);
}

static void pad_to_32(struct buf *out) {
    while (out->n % 32 != 0) buf_putc(out, '\0');
}

static void put_tensors(struct buf *out, const struct tiny_tensor *t, size_t n) {
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        put_string(out, t[i].name, strlen(t[i].name));
        put_le(out, (uint64_t)t[i].n_dims, 4);
        for (int d = t[i].n_dims; d-- > 0;) put_le(out, (uint64_t)t[i].dims[d], 8);
        put_le(out, (uint64_t)format_table[t[i].format].gguf_type, 4);
        put_le(out, at, 8);
        at += (t[i].data.n + 31) / 32 * 32;
    }
    pad_to_32(out);
    for (size_t i = 0; i < n; i++) {
        buf_add(out, t[i].data.data, t[i].data.n);
        pad_to_32(out);
    }
}

/* Part `i` of `parts`: the metadata stand in the first. */
static int write_gguf(const char *path, const struct tiny_spec *s, const struct tiny_tensors *t,
                      int i) {
    const struct model_config c = tiny_config(s);
    struct gguf_writer w = {.architecture = c.model_type};
    struct buf file = {0};
    size_t begin = part_begin(t, i, s->shards), end = part_begin(t, i + 1, s->shards);
    if (i == 0) put_metadata(&w, s);
    if (s->shards > 1) {
        put_u32(&w, "split.no", i);
        put_u32(&w, "split.count", s->shards);
        put_u32(&w, "split.tensors.count", (int)t->n);
    }
    buf_puts(&file, "GGUF");
    put_le(&file, 3, 4);
    put_le(&file, end - begin, 8);
    put_le(&file, w.n_entries, 8);
    buf_add(&file, w.out.data ? w.out.data : "", w.out.n);
    put_tensors(&file, t->items + begin, end - begin);
    int result = write_whole(path, file.data, file.n);
    buf_release(&w.out);
    buf_release(&file);
    return result;
}

int make_tiny_gguf(const char *path, const struct tiny_spec *spec) {
    const struct tiny_spec s = tiny_spec_whole(spec);
    struct tiny_tensors tensors;
    const int stem = (int)strlen(path) - 5; /* ".gguf" */
    int result = tiny_tensors_make(&tensors, &s, true);
    for (int i = 0; i < s.shards && result == 0; i++) {
        struct buf part = {0};
        buf_printf(&part, "%.*s", stem, path);
        if (s.shards > 1) buf_printf(&part, "-%05d-of-%05d", i + 1, s.shards);
        buf_puts(&part, ".gguf");
        result = write_gguf(part.data, &s, &tensors, i);
        buf_release(&part);
    }
    tiny_tensors_release(&tensors);
    return result;
}
