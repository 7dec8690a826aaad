/* Words to options, and options to tests. */
#include "app/bench_options.h"

#include "engine/base/mem.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum type { TYPE_LIST, TYPE_PAIRS, TYPE_INT, TYPE_CHOICE, TYPE_TEXT, TYPE_MIX, TYPE_SWITCH };
enum place { PLACE_CHAT, PLACE_PROGRAM };

struct row {
    struct bench_option_info info;
    enum type type;
    enum place place;
    long least, most;
    size_t offset; /* of the field in struct bench_options */
};

static const struct row table[] = {
#define BENCH_OPTION(field, type, short, long, argument, fallback, least, most, place, help)       \
    {{short, long, argument, fallback, help}, TYPE_##type, PLACE_##place, least, most,             \
     offsetof(struct bench_options, field)},
#include "app/bench.def"
#undef BENCH_OPTION
};
enum { N_ROWS = sizeof table / sizeof *table };

static const char *const outputs[] = {
    [BENCH_MD] = "md", [BENCH_CSV] = "csv", [BENCH_JSON] = "json", [BENCH_JSONL] = "jsonl"};

/* --- values ----------------------------------------------------------------------------------- */

/* A whole number without sign at *text, which then points behind it. */
static int read_number(const struct row *row, const char **text, long *out, struct err *err) {
    char *end;
    const char *name = row->info.short_name ? row->info.short_name : row->info.long_name;
    bool is_digit = **text >= '0' && **text <= '9';
    *out = is_digit ? strtol(*text, &end, 10) : -1;
    if (!is_digit)
        return err_set(err, ERR_USAGE, "%s: a number is needed, found \"%.40s\"", name, *text);
    if (*out < row->least || *out > row->most)
        return err_set(err, ERR_USAGE, "%s: %.20s is not in %ld to %ld", name, *text, row->least,
                       row->most);
    *text = end;
    return 0;
}

static int add(const struct row *row, struct bench_list *list, long value, struct err *err) {
    if (list->n == BENCH_MOST_VALUES)
        return err_set(err, ERR_USAGE, "%s: more than %d values", row->info.short_name,
                       (int)BENCH_MOST_VALUES);
    list->items[list->n++] = (int)value;
    return 0;
}

/* "512", "128-512", "128-512+128", "128-512*2" */
static int read_range(const struct row *row, const char **text, struct bench_list *list,
                      struct err *err) {
    struct row any = *row;
    long first, last, amount = 1;
    if (read_number(row, text, &first, err) != 0) return -1;
    last = first;
    if (**text == '-') {
        ++*text;
        if (read_number(row, text, &last, err) != 0) return -1;
    }
    char kind = last == first ? '+' : **text;
    any.least = kind == '*' ? 2 : 1;
    if (last != first && (kind == '+' || kind == '*')) {
        ++*text;
        if (read_number(&any, text, &amount, err) != 0) return -1;
    }
    if (last < first || (kind == '*' && first == 0))
        return err_set(err, ERR_USAGE, "%s: a range from %ld to %ld", row->info.short_name, first,
                       last);
    for (long value = first; value <= last; value = kind == '*' ? value * amount : value + amount)
        if (add(row, list, value, err) != 0) return -1;
    return 0;
}

static int read_list(const struct row *row, const char *text, struct bench_list *list,
                     struct err *err) {
    for (;;) {
        if (read_range(row, &text, list, err) != 0) return -1;
        if (*text == '\0') return 0;
        if (*text++ != ',')
            return err_set(err, ERR_USAGE,
                           "%s: numbers with commas between are needed, found \"%.40s\"",
                           row->info.short_name, text - 1);
    }
}

static int read_pair(const struct row *row, const char *text, struct bench_list *list,
                     struct err *err) {
    long prompt, gen;
    if (read_number(row, &text, &prompt, err) != 0) return -1;
    if (*text++ != ',')
        return err_set(err, ERR_USAGE, "%s: two numbers as in 512,128 are needed",
                       row->info.short_name);
    if (read_number(row, &text, &gen, err) != 0) return -1;
    if (*text || !prompt || !gen)
        return err_set(err, ERR_USAGE, "%s: two numbers above 0 are needed", row->info.short_name);
    return add(row, list, prompt, err) != 0 ? -1 : add(row, list, gen, err);
}

static int read_choice(const char *text, int *out, struct err *err) {
    for (size_t i = 0; i < sizeof outputs / sizeof *outputs; i++) {
        if (strcmp(text, outputs[i]) != 0) continue;
        *out = (int)i;
        return 0;
    }
    return err_set(err, ERR_USAGE, "-o: md, csv, json or jsonl is needed, found \"%.40s\"", text);
}

static int read_value(const struct row *row, const char *text, struct bench_options *o,
                      struct err *err) {
    void *field = (char *)o + row->offset;
    long number;
    switch (row->type) {
    case TYPE_LIST:
        return read_list(row, text, field, err);
    case TYPE_PAIRS:
        return read_pair(row, text, field, err);
    case TYPE_INT:
        if (read_number(row, &text, &number, err) != 0) return -1;
        if (*text) return err_set(err, ERR_USAGE, "%s: one number is needed", row->info.short_name);
        *(int *)field = (int)number;
        return 0;
    case TYPE_CHOICE:
        return read_choice(text, field, err);
    case TYPE_TEXT:
    case TYPE_MIX:
        *(const char **)field = text;
        return 0;
    case TYPE_SWITCH:
        *(bool *)field = true;
        return 0;
    }
    bug("type %d", row->type);
}

/* --- words ------------------------------------------------------------------------------------ */

/* The row of a word, and what stands behind its "=", or NULL. */
static const struct row *find(const char *word, const char **value) {
    size_t n = strcspn(word, "=");
    *value = word[n] && word[0] == '-' && word[1] == '-' ? word + n + 1 : NULL;
    for (size_t i = 0; i < N_ROWS; i++) {
        const struct bench_option_info *info = &table[i].info;
        if (info->short_name && strcmp(info->short_name, word) == 0) return &table[i];
        if (info->long_name && strlen(info->long_name) == n &&
            memcmp(info->long_name, word, n) == 0)
            return &table[i];
    }
    return NULL;
}

/* Of a list the first value given replaces the default. */
static void forget_default(const struct row *row, bool *is_given, struct bench_options *o) {
    bool is_list = row->type == TYPE_LIST || row->type == TYPE_PAIRS;
    if (is_list && !*is_given) ((struct bench_list *)(void *)((char *)o + row->offset))->n = 0;
    *is_given = true;
}

static int refuse(const char *word, enum bench_where where, struct err *err) {
    const char *lists = where == BENCH_IN_CHAT ? "/help bench" : "qwen-chat bench --help";
    if (word[0] != '-')
        return err_set(err, ERR_USAGE, "bench takes flags only, found \"%.60s\"; %s lists them",
                       word, lists);
    return err_set(err, ERR_USAGE, "bench has no flag %.60s; %s lists them", word, lists);
}

int bench_options_read(struct bench_options *out, char *const *words, size_t n,
                       enum bench_where where, struct err *err) {
    bool is_given[N_ROWS] = {false};
    *out = (struct bench_options){.help = false};
    for (size_t i = 0; i < N_ROWS; i++)
        if (table[i].info.fallback && read_value(&table[i], table[i].info.fallback, out, err) != 0)
            return -1;
    for (size_t i = 0; i < n; i++) {
        const char *word = words[i], *value;
        const struct row *row = find(word, &value);
        if (!row) return refuse(word, where, err);
        if (where == BENCH_IN_CHAT && row->place == PLACE_PROGRAM)
            return err_set(err, ERR_USAGE, "%s is for qwen-chat bench: the chat has its model",
                           word);
        if (value && row->type == TYPE_SWITCH)
            return err_set(err, ERR_USAGE, "%.60s: takes no value", word);
        bool needs_value = row->type != TYPE_SWITCH && row->type != TYPE_MIX;
        if (!value && needs_value && i + 1 == n)
            return err_set(err, ERR_USAGE, "%.60s: its value is missing", word);
        if (!value) value = needs_value ? words[++i] : "";
        forget_default(row, &is_given[row - table], out);
        if (read_value(row, value, out, err) != 0) return -1;
    }
    return 0;
}

bool bench_option_at(size_t i, struct bench_option_info *out) {
    if (i >= N_ROWS) return false;
    *out = table[i].info;
    return true;
}

void bench_options_help(struct buf *out) {
    buf_puts(out, "qwen-chat bench: how fast a model runs here, in the words of llama-bench\n\n"
                  "Usage: qwen-chat [flags] bench [-m PATH] [bench flags]\n\n");
    for (size_t i = 0; i < N_ROWS; i++) {
        const struct bench_option_info *info = &table[i].info;
        char value[48] = "";
        if (info->argument)
            snprintf(value, sizeof value, table[i].type == TYPE_MIX ? "[=%s]" : " %s",
                     info->argument);
        buf_printf(out, "  %s%s%s%s\n        %s", info->short_name ? info->short_name : "",
                   info->short_name && info->long_name ? ", " : "",
                   info->long_name ? info->long_name : "", value, info->help);
        if (info->fallback) buf_printf(out, " (default: %s)", info->fallback);
        buf_putc(out, '\n');
    }
    buf_puts(out,
             "\nLists may hold ranges: 128-512, 128-512+128, 128-512*2. See qwen-chat-bench(1).\n");
}

/* --- tests ------------------------------------------------------------------------------------ */

struct tests {
    struct bench_test *items;
    size_t n, capacity;
};

static int add_test(struct tests *tests, struct bench_test test, struct err *err) {
    void *items = tests->items;
    if (tests->n == BENCH_MOST_TESTS)
        return err_set(err, ERR_USAGE, "more than %d tests are asked for", (int)BENCH_MOST_TESTS);
    if (mem_grow(&items, &tests->capacity, tests->n + 1, sizeof test) != 0)
        return err_memory(err, sizeof test, "the list of tests");
    tests->items = items;
    tests->items[tests->n++] = test;
    return 0;
}

/* pp, then tg, then both. */
static int add_tests(struct tests *tests, const struct bench_options *o, int seqs, int depth,
                     struct err *err) {
    for (int i = 0; i < o->prompt.n; i++) {
        const struct bench_test test = {o->prompt.items[i], 0, depth, seqs};
        if (test.n_prompt && add_test(tests, test, err) != 0) return -1;
    }
    for (int i = 0; i < o->gen.n; i++) {
        const struct bench_test test = {0, o->gen.items[i], depth, seqs};
        if (test.n_gen && add_test(tests, test, err) != 0) return -1;
    }
    for (int i = 0; i + 1 < o->both.n; i += 2) {
        const struct bench_test test = {o->both.items[i], o->both.items[i + 1], depth, seqs};
        if (add_test(tests, test, err) != 0) return -1;
    }
    return 0;
}

int bench_options_tests(const struct bench_options *o, struct bench_test **out, size_t *n,
                        struct err *err) {
    struct tests tests = {0};
    int result = 0;
    for (int s = 0; s < o->seqs.n && result == 0; s++)
        for (int d = 0; d < o->depth.n && result == 0; d++)
            result = add_tests(&tests, o, o->seqs.items[s], o->depth.items[d], err);
    if (result == 0 && !tests.n)
        result = err_set(err, ERR_USAGE, "no test is asked for: -p, -n and -pg are all 0");
    if (result != 0) {
        mem_free(tests.items);
        return -1;
    }
    *out = tests.items;
    *n = tests.n;
    return 0;
}
