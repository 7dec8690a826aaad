/*
 * Search goes entry by entry. A query without capital letters ignores the case of ASCII letters.
 */
#include "ui/search.h"

#include "engine/base/utf8.h"

#include <string.h>

static bool has_capitals(const char *text) {
    for (; *text; text++)
        if (*text >= 'A' && *text <= 'Z') return true;
    return false;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool begins_with_any_case(const char *text, const char *query) {
    while (*query && lower(*text) == *query) {
        text++;
        query++;
    }
    return !*query;
}

/* Where `query` first stands in `text`, or NULL. */
static const char *find(const char *text, const char *query) {
    if (has_capitals(query)) return strstr(text, query);
    for (; *text; text++)
        if (begins_with_any_case(text, query)) return text;
    return NULL;
}

/* Does entry i match? Then it is the match. */
static bool try_entry(struct search *s, size_t i) {
    const char *entry = s->history->entries[i];
    const char *found = find(entry, s->query.data);
    if (!found) return false;
    s->at = i;
    s->offset = (size_t)(found - entry);
    s->has_match = true;
    s->is_failing = false;
    return true;
}

/* From entry n - 1 down to the oldest. */
static void look_below(struct search *s, size_t n) {
    while (n > 0)
        if (try_entry(s, --n)) return;
    s->is_failing = true;
}

void search_begin(struct search *s, const struct input_history *history) {
    search_release(s);
    s->history = history;
}

void search_release(struct search *s) {
    buf_release(&s->query);
    *s = (struct search){0};
}

void search_type(struct search *s, const char *text, size_t n) {
    buf_add(&s->query, text, n);
    if (s->query.n > 0) look_below(s, s->has_match ? s->at + 1 : s->history->n);
}

void search_erase(struct search *s) {
    size_t at = 0, last = 0;
    int width;
    while (at < s->query.n) {
        last = at;
        at += utf8_cluster(s->query.data + at, s->query.n - at, &width);
    }
    if (s->query.n > 0) s->query.data[s->query.n = last] = '\0';
    s->has_match = s->is_failing = false;
    if (s->query.n > 0) look_below(s, s->history->n);
}

void search_older(struct search *s) {
    if (s->query.n > 0) look_below(s, s->has_match ? s->at : s->history->n);
}

void search_newer(struct search *s) {
    if (s->query.n == 0 || !s->has_match) return;
    for (size_t i = s->at + 1; i < s->history->n; i++)
        if (try_entry(s, i)) return;
    s->is_failing = true;
}

const char *search_match(const struct search *s) {
    return s->has_match ? s->history->entries[s->at] : NULL;
}
