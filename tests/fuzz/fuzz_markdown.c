/*
 * Markdown to rows: the first byte is the width, the second one where the text is cut in two. The
 * text is sanitized first, as it is in the program; no row may be too wide, hold a control
 * character, or depend on the pieces that the text came in.
 */
#include "engine/base/sanitize.h"
#include "engine/base/utf8.h"
#include "ui/markdown.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check(const struct lines *lines, int columns) {
    for (size_t i = 0; i < lines->n; i++) {
        const struct row *row = &lines->rows[i];
        int total = 0, width;
        size_t bytes;
        for (size_t at = row->begin; at < row->end; at += bytes) {
            bytes = utf8_cluster(lines->content.text.data + at, row->end - at, &width);
            if ((unsigned char)lines->content.text.data[at] < 0x20) abort();
            total += width;
        }
        if (total > columns) abort();
    }
}

static void expect_same(const struct lines *a, const struct lines *b) {
    if (a->n != b->n || a->content.text.n != b->content.text.n) abort();
    if (a->content.text.n > 0 &&
        memcmp(a->content.text.data, b->content.text.data, a->content.text.n) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct markdown whole_state = {0}, state = {0};
    struct lines whole = {0}, pieces = {0};
    struct buf text = {0};
    if (n < 2 || n > 20000) return 0;
    int columns = 1 + data[0] % 120;
    sanitize_text((const char *)data + 2, n - 2, &text);
    if (!text.data) buf_puts(&text, "");
    size_t cut = text.n * data[1] / 256;
    while (cut > 0 && ((unsigned char)text.data[cut] & 0xC0) == 0x80) cut--;

    markdown_lay_out(&whole_state, text.data, text.n, columns, &whole);
    check(&whole, columns);
    char after = text.data[cut];
    text.data[cut] = '\0';
    markdown_lay_out(&state, text.data, cut, columns, &pieces);
    text.data[cut] = after;
    check(&pieces, columns);
    markdown_lay_out(&state, text.data, text.n, columns, &pieces);
    expect_same(&whole, &pieces);

    struct buf code = {0};
    markdown_code(text.data, text.n, 1, &code);
    buf_release(&code);
    buf_release(&text);
    lines_release(&whole);
    lines_release(&pieces);
    return 0;
}
