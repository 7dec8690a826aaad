/*
 * The journal: any bytes give a conversation, whose branch ends, whose exports can be made, and
 * which printed and read again is the same. Checksums would keep the fuzzer out, so a line that
 * begins with '!' gets the right one.
 */
#include "app/journal.h"
#include "engine/base/mem.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void add_sums(const char *text, size_t n, struct buf *out) {
    for (const char *line = text, *end = text + n; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = newline ? (size_t)(newline - line) : (size_t)(end - line);
        if (length && *line == '!') {
            size_t begin = out->n;
            buf_add(out, line + 1, length - 1);
            journal_print_sum(begin, out);
        } else {
            buf_add(out, line, length);
            if (newline) buf_putc(out, '\n');
        }
        line += length + (newline != NULL);
    }
}

static void read_again(const struct conversation *c) {
    struct conversation d = {.fd = -1};
    struct journal_result result;
    struct buf text = {0};
    struct err err;
    journal_print_all(c, &text);
    if (text.failed || journal_read(&d, text.data ? text.data : "", text.n, &result, &err) != 0)
        abort();
    if (d.n_damaged || d.n_turns != c->n_turns || d.leaf != c->leaf) abort();
    for (size_t i = 0; i < c->n_turns; i++)
        if (strcmp(c->turns[i].content, d.turns[i].content) != 0 ||
            c->turns[i].parent != d.turns[i].parent || c->turns[i].tokens.n != d.turns[i].tokens.n)
            abort();
    buf_release(&text);
    conversation_release(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const formats[] = {"md", "json", "txt"};
    struct conversation c = {.fd = -1};
    struct journal_result result;
    struct buf text = {0};
    struct err err = {0};
    char *title;
    add_sums((const char *)data, n, &text);
    const char *bytes = text.data ? text.data : "";
    if (journal_read(&c, bytes, text.n, &result, &err) != 0) abort();
    if (result.whole_bytes > text.n) abort();
    /* a list counts by the lines' beginnings alone, so it may differ, but not invent */
    if (journal_summary(bytes, text.n, &title) > text.n / 20) abort();
    for (size_t i = 0; i < 3; i++) {
        struct buf out = {0};
        if (conversation_export(&c, formats[i], &out, &err) != 0) abort();
        buf_release(&out);
    }
    read_again(&c);
    mem_free(title);
    buf_release(&text);
    conversation_release(&c);
    return 0;
}
