/*
 * One value of an option: from text, checked against its row of the table, and back to text.
 * Numbers are plain decimals: what strtod() would take beyond that (hexadecimal, "inf", a tail) is
 * refused here first. LC_NUMERIC is never set, so the decimal point is a point.
 */
#include "app/config.h"

#include "app/language.h"

#include "engine/base/checked.h"
#include "engine/base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct option_info option_table[N_OPTIONS] = {
#define RANGE(least, most)          .has_range = true, .min = (least), .max = (most)
#define CHOICES(words)              .choices = words
#define ANY                         .has_range = false
#define FLAG(letter, long_name, of) .flag = letter, .flag_name = long_name, .argument = of
#define NO_FLAG                     .flag = 0
#define OPTION(id, path, kind, standard, limits, measure, flags, when, text)                       \
    [OPTION_##id] = {.field = #id,                                                                 \
                     .name = path,                                                                 \
                     .type = TYPE_##kind,                                                          \
                     .fallback = standard,                                                         \
                     limits,                                                                       \
                     .unit = measure,                                                              \
                     flags,                                                                        \
                     .applies = APPLIES_##when,                                                    \
                     .help = text,                                                                 \
                     .offset = offsetof(struct config, id)},
#include "app/config.def"
#undef OPTION
#undef NO_FLAG
#undef FLAG
#undef ANY
#undef CHOICES
#undef RANGE
};

static void *field_of(struct config *c, enum option_id id) {
    return (char *)c + option_table[id].offset;
}

static const void *const_field_of(const struct config *c, enum option_id id) {
    return (const char *)c + option_table[id].offset;
}

/* --- text to value ---------------------------------------------------------------------------- */

static int refuse(enum option_id id, const char *text, const char *expected, struct err *err) {
    const struct option_info *o = &option_table[id];
    return err_set(err, ERR_USAGE, "%s: %s is needed, found \"%.200s\"", o->name, _(expected),
                   text);
}

static int refuse_range(enum option_id id, const char *text, struct err *err) {
    const struct option_info *o = &option_table[id];
    return err_set(err, ERR_USAGE, "%s: must be from %.16g to %.16g, found \"%.200s\"", o->name,
                   o->min, o->max, text);
}

static size_t count_digits(const char *text) {
    return strspn(text, "0123456789");
}

/* -? (0 | [1-9][0-9]*) ("." [0-9]+)? ([eE] [+-]? [0-9]+)?, also ".5" and "5." */
static bool is_decimal(const char *text, bool whole) {
    if (*text == '-') text++;
    size_t n = count_digits(text);
    if (n > 1 && text[0] == '0') return false;
    text += n;
    if (whole) return n > 0 && *text == '\0';
    if (*text == '.') {
        size_t behind = count_digits(++text);
        text += behind;
        n += behind;
    }
    if (n == 0) return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        if (*text == '+' || *text == '-') text++;
        n = count_digits(text);
        if (n == 0) return false;
        text += n;
    }
    return *text == '\0';
}

static int set_int(int64_t *out, enum option_id id, const char *text, struct err *err) {
    if (!is_decimal(text, true)) return refuse(id, text, "a whole number", err);
    errno = 0;
    long long value = strtoll(text, NULL, 10);
    if (errno == ERANGE || (double)value < option_table[id].min ||
        (double)value > option_table[id].max)
        return refuse_range(id, text, err);
    *out = value;
    return 0;
}

static int set_float(double *out, enum option_id id, const char *text, struct err *err) {
    if (!is_decimal(text, false)) return refuse(id, text, "a number", err);
    double value = strtod(text, NULL);
    if (!isfinite(value) || value < option_table[id].min || value > option_table[id].max)
        return refuse_range(id, text, err);
    *out = value;
    return 0;
}

/* "6G": digits and one of K, M, G, T (powers of 1024). */
static int set_size(uint64_t *out, enum option_id id, const char *text, struct err *err) {
    static const char suffixes[] = "KMGT";
    const char *expected = N_("a size such as 512M or 6G");
    size_t n = count_digits(text);
    if (n == 0 || n > 18 || (n > 1 && text[0] == '0')) return refuse(id, text, expected, err);
    uint64_t value = strtoull(text, NULL, 10);
    if (text[n]) {
        const char *suffix = strchr(suffixes, text[n]);
        if (!suffix || text[n + 1]) return refuse(id, text, expected, err);
        if (!checked_mul(value, 1ull << (10 * (suffix - suffixes + 1)), &value))
            return refuse_range(id, text, err);
    }
    if ((double)value > option_table[id].max) return refuse_range(id, text, err);
    *out = value;
    return 0;
}

static int set_bool(bool *out, enum option_id id, const char *text, struct err *err) {
    bool is_true = strcmp(text, "true") == 0;
    if (!is_true && strcmp(text, "false") != 0) return refuse(id, text, "true or false", err);
    *out = is_true;
    return 0;
}

static int set_enum(int *out, enum option_id id, const char *text, struct err *err) {
    const char *choices = option_table[id].choices;
    size_t n = strlen(text);
    int index = 0;
    for (const char *word = choices; word; index++) {
        size_t length = strcspn(word, "|");
        if (length == n && memcmp(word, text, n) == 0) {
            *out = index;
            return 0;
        }
        word = word[length] ? word + length + 1 : NULL;
    }
    return err_set(err, ERR_USAGE, "%s: one of %s is needed, found \"%.200s\"",
                   option_table[id].name, choices, text);
}

const char *const config_color_names[16] = {
    "black",        "red",           "green",       "yellow",         "blue",
    "magenta",      "cyan",          "white",       "bright-black",   "bright-red",
    "bright-green", "bright-yellow", "bright-blue", "bright-magenta", "bright-cyan",
    "bright-white"};

/* A name, a number of the palette, "#rrggbb", or none. */
static int set_color(int *out, enum option_id id, const char *text, struct err *err) {
    if (text[0] == '#' && strlen(text) == 7 && strspn(text + 1, "0123456789abcdefABCDEF") == 6) {
        *out = COLOR_RGB | (int)strtol(text + 1, NULL, 16);
        return 0;
    }
    if (strcmp(text, "none") == 0) {
        *out = COLOR_NONE;
        return 0;
    }
    for (int i = 0; i < 16; i++) {
        if (strcmp(text, config_color_names[i]) != 0) continue;
        *out = i;
        return 0;
    }
    long number = count_digits(text) <= 3 && is_decimal(text, true) ? strtol(text, NULL, 10) : -1;
    if (number >= 0 && number < 256) {
        *out = (int)number;
        return 0;
    }
    return refuse(id, text, "a colour such as cyan, bright-blue, 117, \"#87d7af\" or none", err);
}

static int set_text(struct config *c, char **out, enum option_id id, const char *text,
                    struct err *err) {
    bool is_path = option_table[id].type == TYPE_PATH;
    if (is_path && !*text) return refuse(id, text, "a path", err);
    char *copy = is_path ? config_expand_path(c, text) : mem_strdup(text);
    if (!copy) return err_memory(err, strlen(text), option_table[id].name);
    mem_free(*out);
    *out = copy;
    return 0;
}

static int set_list(struct strings *out, enum option_id id, const char *text, struct err *err) {
    struct strings list = {0};
    if (!*text) return refuse(id, text, "some text", err);
    if (strings_add(&list, text, err) != 0) {
        strings_release(&list);
        return -1;
    }
    strings_release(out);
    *out = list;
    return 0;
}

static int set_field(struct config *c, enum option_id id, const char *text, struct err *err) {
    void *field = field_of(c, id);
    switch (option_table[id].type) {
    case TYPE_BOOL:
        return set_bool(field, id, text, err);
    case TYPE_INT:
        return set_int(field, id, text, err);
    case TYPE_FLOAT:
        return set_float(field, id, text, err);
    case TYPE_SIZE:
        return set_size(field, id, text, err);
    case TYPE_ENUM:
        return set_enum(field, id, text, err);
    case TYPE_STRING:
    case TYPE_PATH:
        return set_text(c, field, id, text, err);
    case TYPE_LIST:
        return set_list(field, id, text, err);
    case TYPE_COLOR:
        return set_color(field, id, text, err);
    }
    bug("option type %d", option_table[id].type);
}

static int note_origin(struct config *c, enum option_id id, const char *from, struct err *err) {
    char *copy = mem_strdup(from);
    if (!copy) return err_memory(err, strlen(from), "an option's origin");
    mem_free(c->from[id]);
    c->from[id] = copy;
    return 0;
}

int config_set(struct config *c, enum option_id id, const char *text, const char *from,
               struct err *err) {
    if (set_field(c, id, text, err) != 0) return -1;
    c->is_set[id] = true;
    return note_origin(c, id, from, err);
}

int config_add(struct config *c, enum option_id id, const char *item, const char *from,
               struct err *err) {
    if (!*item) return refuse(id, item, "some text", err);
    if (strings_add(field_of(c, id), item, err) != 0) return -1;
    c->is_set[id] = true;
    return note_origin(c, id, from, err);
}

int config_unset(struct config *c, enum option_id id, const char *from, struct err *err) {
    const char *fallback = option_table[id].fallback;
    if (fallback) return config_set(c, id, fallback, from, err);
    char **text = field_of(c, id);
    switch (option_table[id].type) {
    case TYPE_STRING:
    case TYPE_PATH:
        mem_free(*text);
        *text = NULL;
        break;
    case TYPE_LIST:
        strings_release(field_of(c, id));
        break;
    case TYPE_INT:
        *(int64_t *)field_of(c, id) = 0;
        break;
    case TYPE_FLOAT:
        *(double *)field_of(c, id) = 0;
        break;
    case TYPE_SIZE:
        *(uint64_t *)field_of(c, id) = 0;
        break;
    case TYPE_COLOR:
        *(int *)field_of(c, id) = COLOR_NONE;
        break;
    case TYPE_BOOL:
    case TYPE_ENUM:
        bug("%s has no default", option_table[id].name);
    }
    c->is_set[id] = false;
    return note_origin(c, id, from, err);
}

/* --- value to text ---------------------------------------------------------------------------- */

static void print_size(uint64_t bytes, struct buf *out) {
    static const char suffixes[] = " KMGT";
    int power = 0;
    while (power < 4 && bytes && bytes % 1024 == 0) {
        bytes /= 1024;
        power++;
    }
    buf_printf(out, "%llu", (unsigned long long)bytes);
    if (power) buf_putc(out, suffixes[power]);
}

static void print_choice(const char *choices, int index, struct buf *out) {
    while (index-- > 0) choices += strcspn(choices, "|") + 1;
    buf_add(out, choices, strcspn(choices, "|"));
}

static void print_list(const struct strings *list, struct buf *out) {
    buf_putc(out, '[');
    for (size_t i = 0; i < list->n; i++) {
        if (i) buf_puts(out, ", ");
        buf_put_json(out, list->items[i], strlen(list->items[i]));
    }
    buf_putc(out, ']');
}

/* The shortest decimal that reads back as the same double. */
static void print_float(double value, struct buf *out) {
    char text[32];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    buf_puts(out, text);
}

/* As config.yaml has it: without quotes a "#" begins a comment. */
static void print_color(int color, struct buf *out) {
    if (color == COLOR_NONE)
        buf_puts(out, "none");
    else if (color & COLOR_RGB)
        buf_printf(out, "\"#%06x\"", (unsigned)color & 0xFFFFFF);
    else if (color < 16)
        buf_puts(out, config_color_names[color]);
    else
        buf_printf(out, "%d", color);
}

void config_print_value(const struct config *c, enum option_id id, struct buf *out) {
    const void *field = const_field_of(c, id);
    if (!c->is_set[id]) {
        buf_puts(out, "null");
        return;
    }
    switch (option_table[id].type) {
    case TYPE_BOOL:
        buf_puts(out, *(const bool *)field ? "true" : "false");
        break;
    case TYPE_INT:
        buf_printf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case TYPE_FLOAT:
        print_float(*(const double *)field, out);
        break;
    case TYPE_SIZE:
        print_size(*(const uint64_t *)field, out);
        break;
    case TYPE_ENUM:
        print_choice(option_table[id].choices, *(const int *)field, out);
        break;
    case TYPE_STRING:
    case TYPE_PATH: {
        const char *text = *(char *const *)field;
        buf_put_json(out, text, strlen(text));
        break;
    }
    case TYPE_LIST:
        print_list(field, out);
        break;
    case TYPE_COLOR:
        print_color(*(const int *)field, out);
        break;
    }
}
