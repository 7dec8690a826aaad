/*
 * Finding the chunks (a scanner of lines) and laying them out one after the other; what is in a
 * chunk is markdown_blocks.c's business.
 */
#include "ui/markdown_internal.h"

#include <string.h>

/* --- where the text may be cut ---------------------------------------------------------------- */

/* One line of text[at..n), its newline included in `next`. */
struct line_of_text {
    const char *text;
    size_t n, indent, next;
    bool is_whole, is_blank;
};

static struct line_of_text line_at(const char *text, size_t n, size_t at) {
    const char *newline = memchr(text + at, '\n', n - at);
    size_t end = newline ? (size_t)(newline - text) : n;
    struct line_of_text line = {.text = text + at, .n = end - at, .is_whole = newline != NULL};
    line.next = newline ? end + 1 : end;
    while (line.indent < line.n &&
           (line.text[line.indent] == ' ' || line.text[line.indent] == '\t'))
        line.indent++;
    line.is_blank = line.indent == line.n;
    return line;
}

/* Characters of the fence that the line opens, 0: none. */
static size_t fence_of(const struct line_of_text *line) {
    const char *text = line->text + line->indent;
    size_t n = line->n - line->indent, length = 0;
    if (n == 0 || (*text != '`' && *text != '~')) return 0;
    while (length < n && text[length] == *text) length++;
    bool is_inline = *text == '`' && memchr(text + length, '`', n - length);
    return length >= 3 && !is_inline ? length : 0;
}

static bool closes_fence(const struct line_of_text *line, char fence, size_t n_fence) {
    const char *text = line->text + line->indent;
    size_t n = line->n - line->indent, length = 0;
    while (length < n && text[length] == fence) length++;
    if (length < n_fence) return false;
    while (length < n && (text[length] == ' ' || text[length] == '\t')) length++;
    return length == n;
}

/* Does the line begin, at its margin, a block that is no list's and continues none? */
static bool begins_block(const struct line_of_text *line) {
    const char *t = line->text;
    if (line->is_blank || line->indent > 0 || !line->is_whole) return false;
    if (strchr("-*+", *t) && (line->n == 1 || t[1] == ' ' || t[1] == '\t')) return false;
    size_t digits = 0;
    while (digits < line->n && t[digits] >= '0' && t[digits] <= '9') digits++;
    return digits == 0 || digits >= line->n || (t[digits] != '.' && t[digits] != ')');
}

/* The end of the chunk at m->at that is closed for good, 0: it is not. *fence as it is there. */
static size_t find_cut(const struct markdown *m, const char *text, size_t n, struct fence *fence) {
    bool after_blank = false;
    size_t n_lines = 0;
    *fence =
        (struct fence){.is_open = m->is_code, .is_at_margin = true, .c = m->fence, .n = m->n_fence};
    for (size_t at = m->at; at < n;) {
        struct line_of_text line = line_at(text, n, at);
        if (fence->is_open) {
            if (!line.is_whole) return 0;
            if (closes_fence(&line, fence->c, fence->n)) {
                fence->is_open = false;
                if (m->is_code) return line.next; /* what follows is another kind of chunk */
            } else if (++n_lines >= MARKDOWN_CHUNK_LINES && fence->is_at_margin) {
                return line.next;
            }
            after_blank = false;
        } else if (after_blank && at > m->at && begins_block(&line)) {
            return at;
        } else if (!line.is_whole) {
            return 0;
        } else {
            after_blank = line.is_blank;
            fence->n = fence_of(&line);
            fence->is_open = fence->n > 0;
            fence->is_at_margin = line.indent == 0;
            fence->c = line.text[line.indent < line.n ? line.indent : 0];
            n_lines = 0;
        }
        at = line.next;
    }
    return 0;
}

/* --- laying out ------------------------------------------------------------------------------- */

/* Lines of a code block whose opening fence was in an earlier chunk. */
static void lay_out_code(struct markdown *m, const char *text, size_t n, int columns,
                         struct lines *out) {
    for (size_t at = 0; at < n;) {
        struct line_of_text line = line_at(text, n, at);
        if (closes_fence(&line, m->fence, m->n_fence)) return;
        markdown_code_line(&m->highlight, line.text, line.n, columns, out);
        at = line.next;
    }
}

static void lay_out_chunk(struct markdown *m, const char *text, size_t n, int columns,
                          struct lines *out) {
    if (m->is_code) {
        lay_out_code(m, text, n, columns, out);
    } else {
        markdown_blocks(m, text, n, columns, out);
    }
}

void markdown_lay_out(struct markdown *m, const char *text, size_t n, int columns,
                      struct lines *out) {
    struct fence fence;
    size_t cut;
    lines_cut(out, m->n_rows);
    while ((cut = find_cut(m, text, n, &fence)) > 0) {
        lay_out_chunk(m, text + m->at, cut - m->at, columns, out);
        m->at = cut;
        m->n_rows = out->n;
        m->is_code = fence.is_open;
        m->fence = fence.c;
        m->n_fence = fence.n;
    }
    struct markdown tail = *m; /* what it changes does not count yet */
    if (n > m->at) lay_out_chunk(&tail, text + m->at, n - m->at, columns, out);
}

bool markdown_code(const char *text, size_t n, int number, struct buf *out) {
    struct fence fence = {0};
    int count = 0;
    for (size_t at = 0; at < n;) {
        struct line_of_text line = line_at(text, n, at);
        at = line.next;
        if (!fence.is_open) {
            fence.n = fence_of(&line);
            fence.is_open = fence.n > 0;
            fence.c = line.text[line.indent < line.n ? line.indent : 0];
            fence.indent = line.indent;
            count += fence.is_open;
        } else if (closes_fence(&line, fence.c, fence.n)) {
            fence.is_open = false;
            if (count == number) return true;
        } else if (count == number) {
            size_t skip = line.indent < fence.indent ? line.indent : fence.indent;
            buf_add(out, line.text + skip, line.n - skip);
            buf_putc(out, '\n');
        }
    }
    return fence.is_open && count == number;
}
