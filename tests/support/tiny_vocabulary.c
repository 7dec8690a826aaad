/* A byte-level vocabulary of 267 tokens in the three spellings that checkpoints use. */
#include "tests/support/tiny_parts.h"

#include <string.h>

const char tiny_template[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' "
    "}}{% endif %}";

static const struct {
    int left, right;
    const char *text;
} merges[TINY_MERGES] = {
    {'h', 'e', "he"}, {'l', 'l', "ll"},  {256, 257, "hell"}, {258, 'o', "hello"},
    {'t', 'h', "th"}, {'t', 256, "the"}, {'i', 'n', "in"},   {' ', 'a', " a"},
};

static const char *const controls[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

bool tiny_token_is_control(int id) {
    return id >= TINY_END_OF_TEXT;
}

size_t tiny_token_bytes(int id, char out[16]) {
    if (id < 256) {
        out[0] = (char)id;
        return 1;
    }
    const char *text =
        tiny_token_is_control(id) ? controls[id - TINY_END_OF_TEXT] : merges[id - 256].text;
    memcpy(out, text, strlen(text));
    return strlen(text);
}

void tiny_merge(int i, int *left, int *right) {
    *left = merges[i].left;
    *right = merges[i].right;
}

/* GPT-2's table: visible Latin-1 letters stand for themselves, the rest from U+0100 on in order. */
static uint32_t byte_letter(int byte) {
    uint32_t next = 256;
    for (int b = 0; b < 256; b++) {
        bool is_visible = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) return is_visible ? (uint32_t)b : next;
        next += !is_visible;
    }
    return next;
}

void tiny_spell(struct buf *out, int id) {
    char bytes[16];
    size_t n = tiny_token_bytes(id, bytes);
    for (size_t i = 0; i < n; i++)
        buf_put_utf8(out, tiny_token_is_control(id) ? (uint32_t)bytes[i]
                                                    : byte_letter((unsigned char)bytes[i]));
}

static void put_spelled(struct buf *out, int id) {
    struct buf text = {0};
    tiny_spell(&text, id);
    buf_put_json(out, text.data, text.n);
    buf_release(&text);
}

static void put_model(struct buf *out) {
    buf_puts(out, "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
                  "\"continuing_subword_prefix\": \"\", \"end_of_word_suffix\": \"\", "
                  "\"fuse_unk\": false, \"byte_fallback\": false, \"vocab\": {");
    for (int id = 0; id < TINY_END_OF_TEXT; id++) {
        if (id) buf_puts(out, ", ");
        put_spelled(out, id);
        buf_printf(out, ": %d", id);
    }
    buf_puts(out, "}, \"merges\": [");
    for (int i = 0; i < TINY_MERGES; i++) {
        struct buf pair = {0};
        tiny_spell(&pair, merges[i].left);
        buf_putc(&pair, ' ');
        tiny_spell(&pair, merges[i].right);
        if (i) buf_puts(out, ", ");
        buf_put_json(out, pair.data, pair.n);
        buf_release(&pair);
    }
    buf_puts(out, "]}");
}

/* The pre-tokenizers as Qwen2's and SmolLM2's files have them. */
static const char qwen2_rules[] =
    "\"normalizer\": {\"type\": \"NFC\"}, \"pre_tokenizer\": {\"type\": \"Sequence\", "
    "\"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": "
    "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
    "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, "
    "\"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", "
    "\"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false}]}, ";
static const char smollm_rules[] = "\"normalizer\": null, \"pre_tokenizer\": {\"type\": "
                                   "\"Sequence\", \"pretokenizers\": [{\"type\": "
                                   "\"Digits\", \"individual_digits\": true}, {\"type\": "
                                   "\"ByteLevel\", \"add_prefix_space\": false, "
                                   "\"trim_offsets\": true, \"use_regex\": true}]}, ";

void tiny_put_tokenizer_json(struct buf *out, enum tiny_family family) {
    buf_puts(out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, "
                  "\"added_tokens\": [");
    for (int id = TINY_END_OF_TEXT; id < TINY_TOKENS; id++)
        buf_printf(out,
                   "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
                   "\"rstrip\": false, \"normalized\": false, \"special\": true}",
                   id > TINY_END_OF_TEXT ? ", " : "", id, controls[id - TINY_END_OF_TEXT]);
    buf_puts(out, "], ");
    buf_puts(out, family == TINY_LLAMA ? smollm_rules : qwen2_rules);
    buf_puts(out, "\"post_processor\": null, \"decoder\": {\"type\": \"ByteLevel\", "
                  "\"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": false}, ");
    put_model(out);
    buf_puts(out, "}\n");
}

/* Lines of base64 and rank (RFC 4648); control tokens are not in the file. */
void tiny_put_tiktoken(struct buf *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int id = 0; id < TINY_END_OF_TEXT; id++) {
        char bytes[18] = {0};
        size_t n = tiny_token_bytes(id, bytes);
        for (size_t i = 0; i < n; i += 3) {
            uint32_t group = (uint32_t)(unsigned char)bytes[i] << 16 |
                             (i + 1 < n ? (uint32_t)(unsigned char)bytes[i + 1] << 8 : 0) |
                             (i + 2 < n ? (uint32_t)(unsigned char)bytes[i + 2] : 0);
            for (size_t k = 0; k < 4; k++)
                buf_putc(out, i + k > n ? '=' : digits[group >> (18 - 6 * k) & 63]);
        }
        buf_printf(out, " %d\n", id);
    }
}
