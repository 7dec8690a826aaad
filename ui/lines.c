/* Styled text and rows; see lines.h. */
#include "ui/lines.h"

#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <string.h>

const char *one_column(const char *drawn, const char *plain) {
    return utf8_width(0x2500) == 1 ? drawn : plain; /* a line that is drawn */
}

void styled_release(struct styled *s) {
    buf_release(&s->text);
    mem_free(s->runs);
    *s = (struct styled){0};
}

void styled_clear(struct styled *s) {
    buf_clear(&s->text);
    s->n_runs = 0;
    s->failed = false;
}

void styled_add(struct styled *s, const char *text, size_t n, text_style style) {
    size_t before = s->text.n;
    if (n == 0) return;
    buf_add(&s->text, text, n);
    if (s->text.failed) {
        s->failed = true;
        return;
    }
    if (s->n_runs > 0 && s->runs[s->n_runs - 1].style == style) {
        s->runs[s->n_runs - 1].end = s->text.n;
        return;
    }
    if (mem_grow((void **)&s->runs, &s->capacity, s->n_runs + 1, sizeof *s->runs) != 0) {
        s->text.n = before;
        s->failed = true;
        return;
    }
    s->runs[s->n_runs++] = (struct style_run){.end = s->text.n, .style = style};
}

void styled_puts(struct styled *s, const char *text, text_style style) {
    styled_add(s, text, strlen(text), style);
}

void styled_add_all(struct styled *s, const struct styled *other) {
    size_t begin = 0;
    for (size_t i = 0; i < other->n_runs; i++) {
        styled_add(s, other->text.data + begin, other->runs[i].end - begin, other->runs[i].style);
        begin = other->runs[i].end;
    }
}

void styled_cut(struct styled *s, size_t n) {
    if (n >= s->text.n) return;
    size_t run = styled_run_at(s, n);
    size_t begin = run > 0 ? s->runs[run - 1].end : 0;
    s->n_runs = begin < n ? run + 1 : run;
    if (begin < n) s->runs[run].end = n;
    s->text.n = n;
    s->text.data[n] = '\0';
}

size_t styled_run_at(const struct styled *s, size_t at) {
    size_t low = 0, high = s->n_runs;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->runs[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int styled_width(const struct styled *s) {
    int total = 0, width;
    for (size_t at = 0; at < s->text.n; total += width)
        at += utf8_cluster(s->text.data + at, s->text.n - at, &width);
    return total;
}

void lines_release(struct lines *l) {
    styled_release(&l->content);
    mem_free(l->rows);
    *l = (struct lines){0};
}

void lines_clear(struct lines *l) {
    styled_clear(&l->content);
    l->n = 0;
}

void lines_cut(struct lines *l, size_t n_rows) {
    if (n_rows >= l->n) return;
    styled_cut(&l->content, n_rows > 0 ? l->rows[n_rows - 1].end : 0);
    l->n = n_rows;
}

void lines_begin_row(struct lines *l, bool is_joined) {
    if (mem_grow((void **)&l->rows, &l->capacity, l->n + 1, sizeof *l->rows) != 0) {
        l->content.failed = true;
        return;
    }
    if (l->n > 0 && !is_joined) styled_puts(&l->content, "\n", INK_text);
    l->rows[l->n++] =
        (struct row){.begin = l->content.text.n, .end = l->content.text.n, .is_joined = is_joined};
}

void lines_end_row(struct lines *l, int width) {
    if (l->n == 0) return;
    struct row *row = &l->rows[l->n - 1];
    row->end = l->content.text.n;
    row->width = width;
    row->run = styled_run_at(&l->content, row->begin);
}

void lines_put(struct lines *l, const char *text, text_style style) {
    struct styled whole = {0};
    lines_begin_row(l, false);
    styled_puts(&whole, text, style);
    styled_add_all(&l->content, &whole);
    lines_end_row(l, styled_width(&whole));
    styled_release(&whole);
}

bool lines_failed(const struct lines *l) {
    return l->content.failed;
}
