/* tokenizer.json from the insides of a tokenizer. */
#include "tests/support/qwen_json.h"

#include "engine/text/tokenizer_build.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *text;
    bool is_special;
} added[] = {
    {"<|endoftext|>", true},        {"<|im_start|>", true},       {"<|im_end|>", true},
    {"<|object_ref_start|>", true}, {"<|object_ref_end|>", true}, {"<|box_start|>", true},
    {"<|box_end|>", true},          {"<|quad_start|>", true},     {"<|quad_end|>", true},
    {"<|vision_start|>", true},     {"<|vision_end|>", true},     {"<|vision_pad|>", true},
    {"<|image_pad|>", true},        {"<|video_pad|>", true},      {"<tool_call>", false},
    {"</tool_call>", false},        {"<|fim_prefix|>", false},    {"<|fim_middle|>", false},
    {"<|fim_suffix|>", false},      {"<|fim_pad|>", false},       {"<|repo_name|>", false},
    {"<|file_sep|>", false},
};

static const char head[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"normalizer\":{\"type\":\"NFC\"},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
    "{\"Regex\":";
static const char middle[] =
    "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":"
    "false,\"trim_offsets\":false,\"use_regex\":false}]},\"post_processor\":null,\"decoder\":"
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":"
    "false},\"added_tokens\":[";

/* GPT-2's character for a byte. */
static uint32_t coded(unsigned char byte) {
    uint32_t n = 256;
    for (unsigned b = 0; b < 256; b++) {
        bool is_itself = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) return is_itself ? b : n;
        n += !is_itself;
    }
    return 0;
}

static void put_coded(const struct tokenizer *t, int32_t id, struct buf *out) {
    size_t n = 0;
    const char *bytes = tokenizer_bytes(t, id, &n);
    for (size_t i = 0; i < n; i++) buf_put_utf8(out, coded((unsigned char)bytes[i]));
}

static void put_quoted(const struct tokenizer *t, int32_t id, struct buf *out) {
    struct buf text = {0};
    put_coded(t, id, &text);
    buf_put_json(out, text.data, text.n);
    buf_release(&text);
}

static void put_vocab(const struct tokenizer *t, struct buf *out) {
    buf_putc(out, '{');
    for (int32_t id = 0; vocabulary_is_listed(&t->vocabulary, id); id++) {
        if (id) buf_putc(out, ',');
        put_quoted(t, id, out);
        buf_printf(out, ":%d", id);
    }
    buf_putc(out, '}');
}

struct merge {
    int32_t left, right;
};

/* The merges in rank order; the caller frees. */
static struct merge *list_merges(const struct bpe *b) {
    struct merge *merges = calloc(b->n_merges, sizeof *merges);
    for (size_t i = 0; merges && i < b->n_slots; i++) {
        uint64_t slot = b->pairs[i];
        if (slot == UINT64_MAX) continue;
        merges[slot & 0x3FFFFF] = (struct merge){(int32_t)(slot >> 43), slot >> 22 & 0x1FFFFF};
    }
    return merges;
}

void qwen_json_write(const struct tokenizer *t, bool as_pairs, struct buf *out) {
    struct merge *merges = list_merges(&t->bpe);
    const char *pattern = pretokenize_published(PRETOKENIZER_QWEN2);
    int32_t id = 0;
    while (vocabulary_is_listed(&t->vocabulary, id)) id++;
    buf_puts(out, head);
    buf_put_json(out, pattern, strlen(pattern));
    buf_puts(out, middle);
    for (size_t i = 0; i < sizeof added / sizeof added[0]; i++)
        buf_printf(out,
                   "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                   "\"rstrip\":false,\"normalized\":false,\"special\":%s}",
                   i ? "," : "", id++, added[i].text, added[i].is_special ? "true" : "false");
    buf_puts(out, "],\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                  "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":"
                  "false,\"byte_fallback\":false,\"vocab\":");
    put_vocab(t, out);
    buf_puts(out, ",\"merges\":[");
    for (size_t i = 0; i < t->bpe.n_merges; i++) {
        struct buf line = {0};
        put_coded(t, merges[i].left, &line);
        buf_putc(&line, ' ');
        put_coded(t, merges[i].right, &line);
        if (i) buf_putc(out, ',');
        if (as_pairs) {
            buf_putc(out, '[');
            put_quoted(t, merges[i].left, out);
            buf_putc(out, ',');
            put_quoted(t, merges[i].right, out);
            buf_putc(out, ']');
        } else {
            buf_put_json(out, line.data, line.n);
        }
        buf_release(&line);
    }
    buf_puts(out, "]}}");
    free(merges);
}

void qwen_json_write_vocab(const struct tokenizer *t, struct buf *vocab, struct buf *lines) {
    struct merge *merges = list_merges(&t->bpe);
    put_vocab(t, vocab);
    buf_puts(lines, "#version: 0.2\n");
    for (size_t i = 0; i < t->bpe.n_merges; i++) {
        put_coded(t, merges[i].left, lines);
        buf_putc(lines, ' ');
        put_coded(t, merges[i].right, lines);
        buf_putc(lines, '\n');
    }
    free(merges);
}
