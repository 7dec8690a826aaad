/*
 * A chunk of markdown to rows: md4c calls back for each block, span and text. Text gathers in one
 * styled text and is wrapped when its block ends; quotes and list items around it become prefixes.
 */
#include "ui/markdown_internal.h"

#include "engine/base/mem.h"
#include "engine/base/sanitize.h"
#include "engine/base/utf8.h"
#include "ui/grid.h"
#include "ui/wrap.h"

#include <md4c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One quote or list item around the text. */
struct level {
    char marker[24]; /* "│ ", "• ", "12. " */
    bool is_quote, is_marked;
};

struct list {
    unsigned next; /* 0: bullets */
    bool is_tight, has_items;
    char delimiter;
};

struct blocks {
    struct markdown *m;
    struct lines *out;
    int columns;
    struct styled text;
    struct buf code;
    struct grid table;
    struct level levels[MARKDOWN_NESTING];
    struct list lists[MARKDOWN_NESTING];
    int n_levels, n_lists;
    int n_strong, n_emphasis, n_deleted, n_links, n_code_spans, n_headings, n_heads;
    size_t link_begin; /* of the link's text */
    bool wants_gap;    /* a blank row before the next one */
    bool is_code, is_table, has_item;
};

/* --- rows ------------------------------------------------------------------------------------- */

/* What stands before a row: at most half of the columns. */
static void make_prefix(struct blocks *b, bool is_first, struct styled *out) {
    int n = b->n_levels < MARKDOWN_NESTING ? b->n_levels : MARKDOWN_NESTING;
    for (int i = 0; i < n; i++) {
        const struct level *level = &b->levels[i];
        struct styled one = {0};
        bool is_shown = level->is_quote || (is_first && !level->is_marked);
        styled_puts(&one, level->marker, level->is_quote ? INK_quote : INK_text);
        int width = styled_width(&one);
        bool fits = styled_width(out) + width <= b->columns / 2;
        if (fits && is_shown) styled_add_all(out, &one);
        if (fits && !is_shown)
            for (int k = 0; k < width; k++) styled_add(out, " ", 1, INK_text);
        styled_release(&one);
    }
    if (!is_first) return;
    for (int i = 0; i < n; i++) b->levels[i].is_marked = true;
}

static void put_gap(struct blocks *b) {
    struct styled prefix = {0};
    if (b->wants_gap && b->out->n > 0) {
        bool is_quoted = false;
        for (int i = 0; i < b->n_levels && i < MARKDOWN_NESTING; i++)
            is_quoted |= b->levels[i].is_quote;
        if (is_quoted) make_prefix(b, false, &prefix);
        while (prefix.text.n > 0 && prefix.text.data[prefix.text.n - 1] == ' ')
            styled_cut(&prefix, prefix.text.n - 1);
        lines_begin_row(b->out, false);
        styled_add_all(&b->out->content, &prefix);
        lines_end_row(b->out, styled_width(&prefix));
        styled_release(&prefix);
    }
    b->wants_gap = false;
}

/* The text that has gathered, as a block of its own. */
static void put_text(struct blocks *b) {
    struct styled first = {0}, rest = {0};
    if (b->text.text.n == 0 && !b->has_item) return;
    put_gap(b);
    make_prefix(b, true, &first);
    make_prefix(b, false, &rest);
    const struct wrap how = {.columns = b->columns, .first = &first, .rest = &rest};
    wrap_text(b->out, &how, &b->text, 0, b->text.text.n);
    styled_clear(&b->text);
    b->has_item = false;
    styled_release(&first);
    styled_release(&rest);
}

static void put_rule(struct blocks *b) {
    struct styled line = {0};
    put_gap(b);
    make_prefix(b, true, &line);
    int width = styled_width(&line);
    for (; width < b->columns; width++) styled_puts(&line, one_column("─", "-"), INK_dim);
    lines_begin_row(b->out, false);
    styled_add_all(&b->out->content, &line);
    lines_end_row(b->out, width);
    styled_release(&line);
}

/* --- code blocks ------------------------------------------------------------------------------ */

static void put_code_line(struct highlight *h, const char *line, size_t n, struct styled *prefix,
                          int columns, struct lines *out) {
    struct styled text = {0};
    const struct wrap how = {
        .columns = columns, .first = prefix, .rest = prefix, .is_verbatim = true};
    highlight_line(h, line, n, &text);
    wrap_text(out, &how, &text, 0, text.text.n);
    styled_release(&text);
}

void markdown_code_line(struct highlight *h, const char *line, size_t n, int columns,
                        struct lines *out) {
    struct styled prefix = {0};
    styled_puts(&prefix, "  ", INK_text);
    put_code_line(h, line, n, &prefix, columns, out);
    styled_release(&prefix);
}

static void begin_code(struct blocks *b, const MD_BLOCK_CODE_DETAIL *detail) {
    b->is_code = true;
    buf_clear(&b->code);
    struct styled label = {0}, prefix = {0};
    char number[24];
    snprintf(number, sizeof number, "[%d] ", ++b->m->n_codes);
    highlight_begin(&b->m->highlight, detail->lang.text, detail->lang.size);
    put_gap(b);
    make_prefix(b, true, &prefix);
    styled_puts(&prefix, "  ", INK_text);
    styled_puts(&label, number, INK_dim);
    if (detail->lang.size > 0) styled_add(&label, detail->lang.text, detail->lang.size, INK_dim);
    const struct wrap how = {.columns = b->columns, .first = &prefix, .rest = &prefix};
    wrap_text(b->out, &how, &label, 0, label.text.n);
    styled_release(&label);
    styled_release(&prefix);
}

static void end_code(struct blocks *b) {
    struct styled prefix = {0};
    b->is_code = false;
    make_prefix(b, false, &prefix);
    styled_puts(&prefix, "  ", INK_text);
    const char *line = b->code.data;
    for (size_t left = b->code.n; left > 0;) {
        const char *newline = memchr(line, '\n', left);
        size_t n = newline ? (size_t)(newline - line) : left;
        put_code_line(&b->m->highlight, line, n, &prefix, b->columns, b->out);
        line += n + (newline != NULL);
        left -= n + (newline != NULL);
    }
    styled_release(&prefix);
}

/* --- blocks ----------------------------------------------------------------------------------- */

static struct list *innermost_list(struct blocks *b) {
    return b->n_lists > 0 && b->n_lists <= MARKDOWN_NESTING ? &b->lists[b->n_lists - 1] : NULL;
}

static void push_level(struct blocks *b, const struct level *level) {
    if (b->n_levels++ < MARKDOWN_NESTING) b->levels[b->n_levels - 1] = *level;
}

static void begin_list(struct blocks *b, unsigned next, bool is_tight, char delimiter) {
    const struct list *outer = innermost_list(b);
    if (outer && outer->is_tight) b->wants_gap = false;
    if (b->n_lists++ < MARKDOWN_NESTING)
        b->lists[b->n_lists - 1] =
            (struct list){.next = next, .is_tight = is_tight, .delimiter = delimiter};
}

static void end_list(struct blocks *b) {
    b->n_lists--;
    const struct list *outer = innermost_list(b);
    b->wants_gap = !(outer && outer->is_tight);
}

static void begin_item(struct blocks *b, const MD_BLOCK_LI_DETAIL *detail) {
    struct list *list = innermost_list(b);
    struct level level = {0};
    const char *task = !detail->is_task ? "" : detail->task_mark == ' ' ? "[ ] " : "[x] ";
    if (list && list->is_tight && list->has_items) b->wants_gap = false;
    if (list && list->delimiter)
        snprintf(level.marker, sizeof level.marker, "%u%c %s", list->next++, list->delimiter, task);
    else
        snprintf(level.marker, sizeof level.marker, "• %s", task);
    if (list) list->has_items = true;
    push_level(b, &level);
    b->has_item = true;
}

static int enter_block(MD_BLOCKTYPE type, void *detail, void *ud) {
    struct blocks *b = ud;
    if (type != MD_BLOCK_DOC && type != MD_BLOCK_P && type != MD_BLOCK_LI && !b->is_table &&
        b->text.text.n > 0)
        put_text(b); /* of a tight item, before what it holds further */
    switch (type) {
    case MD_BLOCK_QUOTE:
        put_gap(b);
        push_level(b, &(struct level){.marker = "│ ", .is_quote = true});
        break;
    case MD_BLOCK_UL:
        begin_list(b, 0, ((MD_BLOCK_UL_DETAIL *)detail)->is_tight, 0);
        break;
    case MD_BLOCK_OL: {
        const MD_BLOCK_OL_DETAIL *d = detail;
        begin_list(b, d->start, d->is_tight, d->mark_delimiter);
        break;
    }
    case MD_BLOCK_LI:
        begin_item(b, detail);
        break;
    case MD_BLOCK_H:
        b->n_headings++;
        break;
    case MD_BLOCK_TH:
        b->n_heads++;
        break;
    case MD_BLOCK_CODE:
        begin_code(b, detail);
        b->has_item = false;
        break;
    case MD_BLOCK_TABLE:
        b->is_table = true;
        grid_begin(&b->table, ((MD_BLOCK_TABLE_DETAIL *)detail)->col_count, true, true);
        break;
    default:
        break;
    }
    return 0;
}

static void end_table(struct blocks *b) {
    struct styled first = {0}, rest = {0};
    b->is_table = false;
    put_gap(b);
    make_prefix(b, true, &first);
    make_prefix(b, false, &rest);
    grid_put(&b->table, &first, &rest, b->columns, b->out);
    b->has_item = false;
    styled_release(&first);
    styled_release(&rest);
}

static int leave_block(MD_BLOCKTYPE type, void *detail, void *ud) {
    struct blocks *b = ud;
    switch (type) {
    case MD_BLOCK_P:
    case MD_BLOCK_H:
        put_text(b);
        b->n_headings = 0;
        b->wants_gap = true;
        break;
    case MD_BLOCK_LI:
        put_text(b);
        b->n_levels--;
        break;
    case MD_BLOCK_QUOTE:
        b->n_levels--;
        b->wants_gap = true;
        break;
    case MD_BLOCK_UL:
    case MD_BLOCK_OL:
        end_list(b);
        break;
    case MD_BLOCK_HR:
        put_rule(b);
        b->has_item = false;
        b->wants_gap = true;
        break;
    case MD_BLOCK_CODE:
        end_code(b);
        b->wants_gap = true;
        break;
    case MD_BLOCK_TH:
    case MD_BLOCK_TD: {
        MD_ALIGN align = ((MD_BLOCK_TD_DETAIL *)detail)->align;
        int side = align == MD_ALIGN_RIGHT ? 2 : align == MD_ALIGN_CENTER ? 1 : 0;
        int result = grid_cell(&b->table, &b->text, side);
        b->n_heads = 0;
        styled_clear(&b->text);
        return result; /* not 0: too large a table; the chunk is shown as it is */
    }
    case MD_BLOCK_TABLE:
        end_table(b);
        b->wants_gap = true;
        break;
    default:
        break;
    }
    return 0;
}

/* --- spans and text --------------------------------------------------------------------------- */

static text_style style_now(const struct blocks *b) {
    text_style s = INK_text;
    for (int i = 0; i < b->n_levels && i < MARKDOWN_NESTING; i++)
        if (b->levels[i].is_quote) s = INK_quote;
    if (b->n_headings) s = INK_heading | STYLE_BOLD;
    if (b->n_links) s = INK_link;
    if (b->n_code_spans) s = INK_code;
    if (b->n_strong || b->n_heads) s |= STYLE_BOLD;
    if (b->n_emphasis) s |= STYLE_ITALIC;
    if (b->n_deleted) s |= STYLE_STRIKE;
    return s;
}

static void count_span(struct blocks *b, MD_SPANTYPE type, int by) {
    if (type == MD_SPAN_EM) b->n_emphasis += by;
    if (type == MD_SPAN_STRONG) b->n_strong += by;
    if (type == MD_SPAN_DEL) b->n_deleted += by;
    if (type == MD_SPAN_CODE) b->n_code_spans += by;
    if (type == MD_SPAN_A) b->n_links += by;
}

static int enter_span(MD_SPANTYPE type, void *detail, void *ud) {
    struct blocks *b = ud;
    (void)detail;
    count_span(b, type, 1);
    if (type == MD_SPAN_IMG) styled_puts(&b->text, "[image: ", INK_dim);
    b->link_begin = type == MD_SPAN_A ? b->text.text.n : b->link_begin;
    return 0;
}

/* Where a link goes, unless its text says it already. */
static void put_target(struct blocks *b, const MD_ATTRIBUTE *href) {
    size_t n = b->text.text.n - b->link_begin;
    bool is_said = href->size == 0 ||
                   (n > 0 && n <= href->size &&
                    memcmp(b->text.text.data + b->link_begin, href->text + href->size - n, n) == 0);
    if (is_said) return;
    styled_puts(&b->text, " (", INK_dim);
    styled_add(&b->text, href->text, href->size, INK_dim);
    styled_puts(&b->text, ")", INK_dim);
}

static int leave_span(MD_SPANTYPE type, void *detail, void *ud) {
    struct blocks *b = ud;
    count_span(b, type, -1);
    if (type == MD_SPAN_IMG) styled_puts(&b->text, "]", INK_dim);
    if (type == MD_SPAN_A) put_target(b, &((MD_SPAN_A_DETAIL *)detail)->href);
    return 0;
}

/* "&amp;" and its like; others stay as they are. What a number stands for passes the sanitizer,
 * which has only seen the number. */
static void put_entity(struct blocks *b, const char *text, size_t n) {
    static const struct {
        const char *name, *text;
    } known[] = {{"&amp;", "&"},   {"&lt;", "<"},    {"&gt;", ">"},   {"&quot;", "\""},
                 {"&apos;", "'"},  {"&nbsp;", " "},  {"&copy;", "©"}, {"&hellip;", "…"},
                 {"&mdash;", "—"}, {"&ndash;", "–"}, {"&times;", "×"}};
    struct buf raw = {0}, clean = {0};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == n && memcmp(known[i].name, text, n) == 0)
            buf_puts(&raw, known[i].text);
    if (!raw.n && n > 3 && text[1] == '#') {
        bool is_hex = text[2] == 'x' || text[2] == 'X';
        unsigned long c = strtoul(text + (is_hex ? 3 : 2), NULL, is_hex ? 16 : 10);
        buf_put_utf8(&raw, c < 0x110000 ? (uint32_t)c : 0xFFFD);
    }
    if (!raw.n) buf_add(&raw, text, n);
    sanitize_text(raw.data, raw.n, &clean);
    if (clean.n) styled_add(&b->text, clean.data, clean.n, style_now(b));
    buf_release(&raw);
    buf_release(&clean);
}

static int take_text(MD_TEXTTYPE type, const MD_CHAR *text, MD_SIZE n, void *ud) {
    struct blocks *b = ud;
    if (b->is_code) {
        buf_add(&b->code, text, n);
        return 0;
    }
    switch (type) {
    case MD_TEXT_NULLCHAR:
        styled_puts(&b->text, "\xEF\xBF\xBD", style_now(b));
        break;
    case MD_TEXT_BR:
    case MD_TEXT_SOFTBR:
        styled_puts(&b->text, b->is_table ? " " : "\n", style_now(b));
        break;
    case MD_TEXT_ENTITY:
        put_entity(b, text, n);
        break;
    default:
        styled_add(&b->text, text, n, style_now(b));
    }
    return b->text.failed ? 1 : 0;
}

/* --- a chunk ---------------------------------------------------------------------------------- */

static void put_plain(const char *text, size_t n, int columns, struct lines *out) {
    struct styled plain = {0};
    const struct wrap how = {.columns = columns};
    while (n > 0 && text[n - 1] == '\n') n--;
    styled_add(&plain, text, n, INK_text);
    wrap_text(out, &how, &plain, 0, plain.text.n);
    styled_release(&plain);
}

void markdown_blocks(struct markdown *m, const char *text, size_t n, int columns,
                     struct lines *out) {
    static const MD_PARSER parser = {
        .flags = MD_FLAG_TABLES | MD_FLAG_STRIKETHROUGH | MD_FLAG_TASKLISTS | MD_FLAG_NOHTML |
                 MD_FLAG_NOINDENTEDCODEBLOCKS | MD_FLAG_PERMISSIVEURLAUTOLINKS,
        .enter_block = enter_block,
        .leave_block = leave_block,
        .enter_span = enter_span,
        .leave_span = leave_span,
        .text = take_text};
    size_t n_rows = out->n;
    struct blocks b = {.m = m, .out = out, .columns = columns, .wants_gap = true};
    if (md_parse(text, (MD_SIZE)n, &parser, &b) != 0) {
        lines_cut(out, n_rows);
        put_plain(text, n, columns, out);
    }
    styled_release(&b.text);
    buf_release(&b.code);
    grid_release(&b.table);
}
