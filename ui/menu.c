/* Columns of one width, row by row, so that Tab goes to the right and then down. */
#include "ui/menu.h"

#include "engine/base/mem.h"
#include "engine/base/sanitize.h"
#include "engine/base/utf8.h"

#include <string.h>

enum { TAB = 9, ENTER = '\r', ESCAPE = 27, BETWEEN = 2 };

/* --- state ------------------------------------------------------------------------------------ */

/* Bytes up to the last '/' (but for one at the end) that all words share. */
static size_t common_folder(const struct editor_words *words) {
    const char *first = words->words[0];
    size_t n = 0, same = strlen(first);
    for (size_t i = 1; i < words->n; i++) {
        size_t k = 0;
        while (k < same && words->words[i][k] == first[k]) k++;
        same = k;
    }
    for (size_t k = 1; k < same; k++)
        if (first[k] == '/' && first[k + 1]) n = k + 1;
    return n;
}

void menu_open(struct menu *m, const struct editor_words *words) {
    *m = (struct menu){.words = words->n > 0 ? words : NULL, .chosen = words->n, .per_row = 1};
    if (m->words) m->skipped = common_folder(words);
}

void menu_close(struct menu *m) {
    *m = (struct menu){0};
}

static void walk(struct menu *m, size_t by, bool is_back) {
    size_t n = m->words->n;
    if (m->chosen == n)
        m->chosen = is_back ? n - 1 : 0;
    else
        m->chosen = (m->chosen + (is_back ? n - by % n : by)) % n;
}

/* To the word above or below; at the edge it stays. */
static void walk_row(struct menu *m, bool is_back) {
    size_t n = m->words->n;
    if (m->chosen == n)
        m->chosen = is_back ? n - 1 : 0;
    else if (is_back && m->chosen >= m->per_row)
        m->chosen -= m->per_row;
    else if (!is_back && m->chosen + m->per_row < n)
        m->chosen += m->per_row;
}

enum menu_act menu_key(struct menu *m, const struct key *key) {
    if (!m->words) return MENU_IGNORED;
    bool is_plain = key->name == K_CHAR && !key->is_alt;
    bool has_choice = m->chosen < m->words->n;
    if ((is_plain && key->c == TAB) || key->name == K_BACKTAB) {
        walk(m, 1, key->name == K_BACKTAB);
        return MENU_MOVED;
    }
    /* the other arrows belong to the text until something is chosen */
    bool is_arrow = key->name == K_LEFT || key->name == K_RIGHT || key->name == K_UP;
    if (key->name == K_DOWN || (is_arrow && has_choice)) {
        if (key->name == K_LEFT || key->name == K_RIGHT)
            walk(m, 1, key->name == K_LEFT);
        else
            walk_row(m, key->name == K_UP);
        return MENU_MOVED;
    }
    if (is_plain && key->c == ENTER && has_choice) return MENU_TAKEN;
    menu_close(m);
    return is_plain && key->c == ESCAPE ? MENU_LEFT : MENU_IGNORED;
}

/* --- looks ------------------------------------------------------------------------------------ */

static int width_of(const char *text) {
    struct styled one = {0};
    styled_puts(&one, text, INK_link);
    int width = styled_width(&one);
    styled_release(&one);
    return width;
}

/* As it is shown: mem_free(). */
static char *shown_word(const struct menu *m, size_t i) {
    const char *word = m->words->words[i];
    char *copy = mem_strdup(strlen(word) > m->skipped ? word + m->skipped : word);
    if (copy) sanitize_line(copy);
    return copy;
}

static int widest(const struct menu *m) {
    int most = 1;
    for (size_t i = 0; i < m->words->n; i++) {
        char *word = shown_word(m, i);
        int width = word ? width_of(word) : 0;
        if (width > most) most = width;
        mem_free(word);
    }
    return most;
}

/* `width` columns of it, blanks behind. */
static void put_word(const char *word, int width, text_style style, struct styled *out) {
    size_t n = strlen(word);
    int column = 0, own;
    for (size_t at = 0; at < n;) {
        size_t bytes = utf8_cluster(word + at, n - at, &own);
        if (column + own > width) break;
        styled_add(out, word + at, bytes, style);
        column += own;
        at += bytes;
    }
    for (; column < width; column++) styled_add(out, " ", 1, INK_text);
}

static void put_row(const struct menu *m, size_t row, int width, int columns, struct lines *out) {
    struct styled line = {0};
    for (size_t i = row * m->per_row; i < (row + 1) * m->per_row && i < m->words->n; i++) {
        char *word = shown_word(m, i);
        int room = columns - styled_width(&line);
        if (i % m->per_row > 0) styled_puts(&line, "  ", INK_text);
        put_word(word ? word : "?", width < room ? width : room,
                 i == m->chosen ? INK_chosen : INK_link & STYLE_INK, &line);
        mem_free(word);
    }
    lines_begin_row(out, false);
    styled_add_all(&out->content, &line);
    lines_end_row(out, styled_width(&line));
    styled_release(&line);
}

void menu_lay_out(struct menu *m, int columns, size_t height, struct lines *out) {
    lines_clear(out);
    if (!m->words || height == 0) return;
    int width = widest(m);
    m->per_row = columns > width ? (size_t)((columns + BETWEEN) / (width + BETWEEN)) : 1;
    size_t n_rows = (m->words->n + m->per_row - 1) / m->per_row;
    size_t at = m->chosen < m->words->n ? m->chosen / m->per_row : 0;
    size_t most_first = n_rows > height ? n_rows - height : 0;
    if (at < m->first_row) m->first_row = at;
    if (at >= m->first_row + height) m->first_row = at - height + 1;
    if (m->first_row > most_first) m->first_row = most_first;
    for (size_t i = 0; i < height && m->first_row + i < n_rows; i++)
        put_row(m, m->first_row + i, width, columns, out);
}
