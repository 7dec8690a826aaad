/*
 * Cutting text into pieces, by PCRE2 with its JIT compiler. The patterns are those published with
 * the models (QwenLM/Qwen tokenization_qwen.py, openai/gpt-2 encoder.py, meta-llama tokenizer.py),
 * with \p{L}, \p{N} and \s spelled out where PCRE2 differs from the regex engines that the
 * reference tokenizers use: it knows Unicode 14 only, and counts U+180E as white space.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "engine/text/pretokenize.h"

#include "engine/base/buf.h"
#include "engine/base/mem.h"

#include <pcre2.h>
#include <stdbool.h>
#include <string.h>

struct pretokenize_pattern {
    pcre2_general_context *memory;
    pcre2_match_context *limits;
    pcre2_code *code;
    bool is_jit;
};

/* clang-format off */
static const char *const published[N_PRETOKENIZERS] = {
    [PRETOKENIZER_QWEN2] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}"
        "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    [PRETOKENIZER_LLAMA3] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
        "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    [PRETOKENIZER_GPT2] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    /* GPT-2's pattern on what lies between digits: white space before a digit ends its part. */
    [PRETOKENIZER_SMOLLM] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+(?![^\\s\\p{N}])|\\s+",
};
/* clang-format on */

/* Members of a character class. ASCII stands first: the JIT code then looks it up in a bitmap. */
#define RANGE(first, last) "\\x{" #first "}-\\x{" #last "}"
static const char letters[] = "A-Za-z\\p{L}"
#define UNICODE_LETTER RANGE
#include "engine/text/unicode.def"
    ;
static const char numbers[] = "0-9\\p{N}"
#define UNICODE_NUMBER RANGE
#include "engine/text/unicode.def"
    ;
static const char spaces[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
                             "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";

static const struct {
    const char *shorthand, *members;
    bool is_negated;
} classes[] = {
    {"\\p{L}", letters, false},
    {"\\p{N}", numbers, false},
    {"\\s", spaces, false},
    {"\\S", spaces, true},
};

/* Copies one element of a pattern to `out`, a shorthand spelled out; returns its length. */
static size_t spell_out(const char *element, bool in_brackets, struct buf *out) {
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        size_t n = strlen(classes[i].shorthand);
        if (strncmp(element, classes[i].shorthand, n) != 0) continue;
        if (!in_brackets) buf_puts(out, classes[i].is_negated ? "[^" : "[");
        buf_puts(out, classes[i].members);
        if (!in_brackets) buf_putc(out, ']');
        return n;
    }
    size_t n = element[0] == '\\' ? 2 : 1;
    buf_add(out, element, n);
    return n;
}

static void spell_out_pattern(const char *pattern, struct buf *out) {
    bool in_brackets = false;
    while (*pattern) {
        if (*pattern == '[') in_brackets = true;
        if (*pattern == ']') in_brackets = false;
        pattern += spell_out(pattern, in_brackets, out);
    }
}

static void *pcre_alloc(size_t bytes, void *unused) {
    (void)unused;
    return mem_alloc(bytes);
}

static void pcre_free(void *p, void *unused) {
    (void)unused;
    mem_free(p);
}

static int compile(struct pretokenize_pattern *p, enum pretokenizer rule, struct err *err) {
    int code;
    PCRE2_SIZE at;
    struct buf text = {0};
    spell_out_pattern(published[rule], &text);
    p->memory = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (p->memory) p->limits = pcre2_match_context_create(p->memory);
    pcre2_compile_context *context = p->limits ? pcre2_compile_context_create(p->memory) : NULL;
    if (context && !text.failed)
        p->code = pcre2_compile((PCRE2_SPTR)text.data, text.n,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, context);
    pcre2_compile_context_free(context);
    buf_release(&text);
    if (!p->code) return err_memory(err, sizeof letters, "pre-tokenizer");
    /* The patterns are ours and linear, but the usual limit counts each space of a long run. */
    pcre2_set_match_limit(p->limits, UINT32_MAX);
    p->is_jit = pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE) == 0;
    return 0;
}

int pretokenize_open(struct pretokenize_pattern **out, enum pretokenizer rule, struct err *err) {
    struct pretokenize_pattern *p = mem_zalloc(1, sizeof *p);
    if (!p) return err_memory(err, sizeof *p, "pre-tokenizer");
    if (compile(p, rule, err) != 0) {
        pretokenize_close(p);
        return -1;
    }
    *out = p;
    return 0;
}

void pretokenize_close(struct pretokenize_pattern *p) {
    if (!p) return;
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->memory);
    mem_free(p);
}

const char *pretokenize_published(enum pretokenizer rule) {
    return published[rule];
}

int pretokenize_scan_open(struct pretokenize_scan *scan, const struct pretokenize_pattern *pattern,
                          struct err *err) {
    *scan = (struct pretokenize_scan){.pattern = pattern};
    scan->match = pcre2_match_data_create(1, pattern->memory);
    return scan->match ? 0 : err_memory(err, sizeof(PCRE2_SIZE), "pre-tokenizer");
}

void pretokenize_scan_close(struct pretokenize_scan *scan) {
    pcre2_match_data_free(scan->match);
    scan->match = NULL;
}

void pretokenize_scan_set(struct pretokenize_scan *scan, const char *text, size_t n) {
    scan->text = text;
    scan->n = n;
    scan->at = 0;
}

int pretokenize_next(struct pretokenize_scan *scan, size_t *begin, size_t *end, struct err *err) {
    if (scan->at >= scan->n) return 0;
    const struct pretokenize_pattern *p = scan->pattern;
    PCRE2_SPTR text = (PCRE2_SPTR)scan->text;
    int rc = p->is_jit
                 ? pcre2_jit_match(p->code, text, scan->n, scan->at, 0, scan->match, p->limits)
                 : pcre2_match(p->code, text, scan->n, scan->at, PCRE2_NO_UTF_CHECK, scan->match,
                               p->limits);
    if (rc < 0) return err_set(err, ERR_OTHER, "pre-tokenizer: PCRE2 ends with error %d", rc);
    *begin = scan->at;
    *end = scan->at = pcre2_get_ovector_pointer(scan->match)[1];
    return 1;
}
