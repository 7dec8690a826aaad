/*
 * Items and their rows. transcript_lay_out() works from the first item that is not sound; only the
 * last one ever becomes unsound while an answer streams.
 */
#include "ui/transcript.h"

#include "app/language.h"
#include "engine/base/mem.h"
#include "ui/wrap.h"

#include <stdio.h>
#include <string.h>

enum { GLIMPSE_ROWS = 3, GLIMPSE_BYTES = 2000, MOST_MATCHES = 10000 };

/* --- items ------------------------------------------------------------------------------------ */

static void item_free(struct item *item) {
    if (!item) return;
    buf_release(&item->text);
    buf_release(&item->reasoning);
    grid_release(&item->grid);
    lines_release(&item->thinking);
    lines_release(&item->lines);
    mem_free(item);
}

void transcript_clear(struct transcript *t) {
    for (size_t i = 0; i < t->n; i++) item_free(t->items[i]);
    t->n = t->n_sound = t->n_rows = 0;
}

void transcript_release(struct transcript *t) {
    transcript_clear(t);
    mem_free(t->items);
    *t = (struct transcript){0};
}

struct item *transcript_add(struct transcript *t, enum item_kind kind, const char *text) {
    struct item *item = mem_zalloc(1, sizeof *item);
    if (!item || mem_grow((void **)&t->items, &t->capacity, t->n + 1, sizeof *t->items) != 0) {
        mem_free(item);
        t->failed = true;
        return NULL;
    }
    item->kind = kind;
    buf_puts(&item->text, text);
    t->items[t->n++] = item;
    return item;
}

void transcript_say(struct transcript *t, enum tone tone, const char *text) {
    const struct item *before = t->n > 0 ? t->items[t->n - 1] : NULL;
    struct item *item = transcript_add(t, ITEM_SAYING, text);
    if (!item) return;
    item->tone = tone;
    item->is_attached = before && before->kind == ITEM_SAYING && before->tone == tone;
}

void transcript_note(struct transcript *t, const struct item *below, enum tone tone,
                     const char *text) {
    struct item *item = transcript_add(t, ITEM_SAYING, text);
    if (!item) return;
    size_t at = t->n - 1;
    item->tone = tone;
    item->is_attached = t->n > 1;
    while (below && at > 0 && t->items[at - 1] != below) at--;
    while (at > 0 && at + 1 < t->n && t->items[at]->is_attached) at++; /* notes in their order */
    if (at == 0) return;
    memmove(t->items + at + 1, t->items + at, (t->n - 1 - at) * sizeof(struct item *));
    t->items[at] = item;
    if (t->n_sound > at) t->n_sound = at;
}

struct item *transcript_answer(struct transcript *t) {
    for (size_t i = t->n; i > 0; i--)
        if (t->items[i - 1]->kind == ITEM_ANSWER && t->items[i - 1]->is_open)
            return t->items[i - 1];
    return NULL;
}

static void make_unsound(struct transcript *t, const struct item *item) {
    for (size_t i = t->n_sound; i > 0; i--)
        if (t->items[i - 1] == item) t->n_sound = i - 1;
}

void transcript_answer_text(struct transcript *t, enum answer_part part, const char *text,
                            size_t n) {
    struct item *item = transcript_answer(t);
    if (!item) {
        item = transcript_add(t, ITEM_ANSWER, "");
        if (!item) return;
        item->is_open = true;
    }
    buf_add(part == PART_REASONING ? &item->reasoning : &item->text, text, n);
    make_unsound(t, item);
}

void transcript_answer_end(struct transcript *t) {
    struct item *item = transcript_answer(t);
    if (!item) return;
    item->is_open = false;
    make_unsound(t, item);
}

void transcript_show_thinking(struct transcript *t, bool shows) {
    t->shows_thinking = shows;
    for (size_t i = 0; i < t->n; i++)
        if (t->items[i]->reasoning.n > 0 && i < t->n_sound) t->n_sound = i;
}

/* --- layout ----------------------------------------------------------------------------------- */

static const char *text_of(const struct buf *text) {
    return text->data ? text->data : "";
}

/* Newlines around a text are not shown. */
static void trim(const char **text, size_t *n) {
    while (*n > 0 && (*text)[*n - 1] == '\n') (*n)--;
    while (*n > 0 && **text == '\n') {
        (*text)++;
        (*n)--;
    }
}

static void put_plain(struct lines *out, const char *first, const char *rest, const char *text,
                      size_t n, text_style prefix_style, text_style style, int columns) {
    struct styled whole = {0}, before_first = {0}, before_rest = {0};
    const struct wrap how = {.columns = columns, .first = &before_first, .rest = &before_rest};
    styled_add(&whole, text, n, style);
    styled_puts(&before_first, first, prefix_style);
    styled_puts(&before_rest, rest, prefix_style);
    wrap_text(out, &how, &whole, 0, whole.text.n);
    styled_release(&whole);
    styled_release(&before_first);
    styled_release(&before_rest);
}

static size_t count_words(const char *text, size_t n) {
    size_t words = 0;
    bool is_in_word = false;
    for (size_t i = 0; i < n; i++) {
        if (((unsigned char)text[i] & 0xC0) == 0x80) continue;
        bool is_blank = text[i] == ' ' || text[i] == '\n' || text[i] == '\t';
        bool is_wide = (unsigned char)text[i] >= 0xE3; /* each CJK character counts */
        words += (!is_blank && !is_in_word) || is_wide;
        is_in_word = !is_blank && !is_wide;
    }
    return words;
}

/* Complete lines are wrapped once, what follows them again each time. */
static void lay_out_all_thinking(struct item *item, int columns) {
    const char *text = text_of(&item->reasoning);
    size_t n = item->reasoning.n, whole = n;
    while (whole > item->reasoning_at && text[whole - 1] != '\n') whole--;
    if (item->reasoning_rows == 0) {
        lines_clear(&item->thinking);
        lines_put(&item->thinking, _("▾ thinking"), INK_dim);
        item->reasoning_rows = 1;
        item->reasoning_at = 0;
    }
    lines_cut(&item->thinking, item->reasoning_rows);
    if (whole > item->reasoning_at) {
        put_plain(&item->thinking, "│ ", "│ ", text + item->reasoning_at,
                  whole - item->reasoning_at - 1, INK_dim, INK_dim, columns);
        item->reasoning_at = whole;
        item->reasoning_rows = item->thinking.n;
    }
    if (n > whole)
        put_plain(&item->thinking, "│ ", "│ ", text + whole, n - whole, INK_dim, INK_dim, columns);
}

/* Its last rows, while it streams. */
static void lay_out_glimpse(struct item *item, int columns) {
    struct lines all = {0};
    const char *text = text_of(&item->reasoning);
    size_t n = item->reasoning.n;
    if (n > GLIMPSE_BYTES) {
        text += n - GLIMPSE_BYTES;
        n = GLIMPSE_BYTES;
        while (n > 0 && ((unsigned char)*text & 0xC0) == 0x80) {
            text++;
            n--;
        }
    }
    trim(&text, &n);
    put_plain(&all, "", "", text, n, INK_dim, INK_dim, columns > 2 ? columns - 2 : 1);
    for (size_t i = all.n > GLIMPSE_ROWS ? all.n - GLIMPSE_ROWS : 0; i < all.n; i++)
        put_plain(&item->thinking, "│ ", "│ ", all.content.text.data + all.rows[i].begin,
                  all.rows[i].end - all.rows[i].begin, INK_dim, INK_dim, columns);
    lines_release(&all);
}

static void lay_out_thinking(const struct transcript *t, struct item *item, int columns) {
    bool is_streaming = item->is_open && item->text.n == 0;
    if (item->reasoning.n == 0) return;
    if (t->shows_thinking) {
        lay_out_all_thinking(item, columns);
    } else {
        char label[80];
        item->reasoning_rows = 0;
        lines_clear(&item->thinking);
        if (is_streaming) {
            snprintf(label, sizeof label, _("▸ thinking …"));
        } else {
            snprintf(label, sizeof label, _("▸ thought in %zu words (Ctrl-O)"),
                     count_words(item->reasoning.data, item->reasoning.n));
        }
        put_plain(&item->thinking, "", "  ", label, strlen(label), INK_dim, INK_dim, columns);
        if (is_streaming && !t->hides_thinking) lay_out_glimpse(item, columns);
    }
    if (item->text.n > 0) lines_put(&item->thinking, "", INK_text);
}

static void lay_out_answer(const struct transcript *t, struct item *item, int columns) {
    const char *text = text_of(&item->text);
    size_t skip = strspn(text, "\n");
    if (item->columns != columns) {
        item->markdown = (struct markdown){0};
        item->reasoning_rows = item->reasoning_at = 0;
        lines_clear(&item->lines);
        lines_clear(&item->thinking);
    }
    lay_out_thinking(t, item, columns);
    markdown_lay_out(&item->markdown, text + skip, item->text.n - skip, columns, &item->lines);
}

static text_style style_of_tone(enum tone tone) {
    return tone == TONE_ERROR ? INK_error : tone == TONE_NOTICE ? INK_notice : INK_text;
}

static void lay_out_item(const struct transcript *t, struct item *item, int columns) {
    const char *text = text_of(&item->text);
    size_t n = item->text.n;
    struct styled nothing = {0};
    if (item->kind == ITEM_ANSWER) {
        lay_out_answer(t, item, columns);
    } else if (item->columns != columns) {
        lines_clear(&item->lines);
        if (item->kind == ITEM_TABLE) {
            grid_put(&item->grid, &nothing, &nothing, columns, &item->lines);
        } else {
            bool is_user = item->kind == ITEM_USER;
            text_style style = is_user ? INK_user : style_of_tone(item->tone);
            trim(&text, &n);
            put_plain(&item->lines, is_user ? "> " : "", is_user ? "  " : "", text, n, style, style,
                      columns);
        }
    }
    item->columns = columns;
}

void transcript_lay_out(struct transcript *t, int columns) {
    if (columns < 1) columns = 1;
    if (t->columns != columns) t->n_sound = 0;
    t->columns = columns;
    for (size_t i = t->n_sound; i < t->n; i++) {
        struct item *item = t->items[i];
        const struct item *before = i > 0 ? t->items[i - 1] : NULL;
        size_t end = before ? before->first_row + before->thinking.n + before->lines.n : 0;
        lay_out_item(t, item, columns);
        bool has_gap = before && !item->is_attached && end > 0;
        item->first_row = end + has_gap;
    }
    t->n_sound = t->n;
    const struct item *last = t->n > 0 ? t->items[t->n - 1] : NULL;
    t->n_rows = last ? last->first_row + last->thinking.n + last->lines.n : 0;
}

/* --- rows ------------------------------------------------------------------------------------- */

size_t transcript_item_at(const struct transcript *t, size_t row) {
    size_t low = 0, high = t->n;
    while (low < high) { /* the first item that ends behind the row */
        size_t middle = (low + high) / 2;
        const struct item *item = t->items[middle];
        if (item->first_row + item->thinking.n + item->lines.n <= row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct transcript_row transcript_row(const struct transcript *t, size_t row) {
    size_t i = transcript_item_at(t, row);
    if (i == t->n || row < t->items[i]->first_row) return (struct transcript_row){0};
    const struct item *item = t->items[i];
    size_t at = row - item->first_row;
    if (at < item->thinking.n) return (struct transcript_row){.lines = &item->thinking, .row = at};
    return (struct transcript_row){.lines = &item->lines, .row = at - item->thinking.n};
}

struct transcript_place transcript_place(const struct transcript *t, size_t row) {
    size_t i = transcript_item_at(t, row);
    if (i == t->n) return (struct transcript_place){.item = i};
    const struct item *item = t->items[i];
    return (struct transcript_place){.item = i,
                                     .row_of_item =
                                         row > item->first_row ? row - item->first_row : 0,
                                     .rows_of_item = item->thinking.n + item->lines.n};
}

size_t transcript_row_of(const struct transcript *t, const struct transcript_place *place) {
    if (place->item >= t->n) return t->n_rows;
    const struct item *item = t->items[place->item];
    size_t rows = item->thinking.n + item->lines.n, row = place->row_of_item;
    if (place->rows_of_item > 0 && rows != place->rows_of_item)
        row = row * rows / place->rows_of_item;
    return item->first_row + row;
}

/* --- finding ---------------------------------------------------------------------------------- */

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool is_at(const char *text, const char *what, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (lower(text[i]) != lower(what[i])) return false;
    return true;
}

struct finding {
    struct match *matches;
    size_t n, capacity;
};

static void find_in(struct finding *f, const struct lines *lines, size_t first_row,
                    const char *what) {
    size_t n = strlen(what), row = 0;
    const struct buf *text = &lines->content.text;
    for (size_t at = 0; at + n <= text->n && f->n < MOST_MATCHES; at++) {
        if (!is_at(text->data + at, what, n)) continue;
        while (row + 1 < lines->n && lines->rows[row + 1].begin <= at) row++;
        if (mem_grow((void **)&f->matches, &f->capacity, f->n + 1, sizeof *f->matches) != 0) return;
        f->matches[f->n++] =
            (struct match){.lines = lines, .begin = at, .end = at + n, .row = first_row + row};
        at += n - 1;
    }
}

struct match *transcript_find(const struct transcript *t, const char *text, size_t *n) {
    struct finding f = {0};
    *n = 0;
    if (!*text) return NULL;
    for (size_t i = 0; i < t->n; i++) {
        const struct item *item = t->items[i];
        find_in(&f, &item->thinking, item->first_row, text);
        find_in(&f, &item->lines, item->first_row + item->thinking.n, text);
    }
    *n = f.n;
    return f.matches;
}
