/*
 * The gate in front of cJSON: one pass over the text with an explicit stack (RFC 8259, nothing
 * more), which also keeps the keys of all objects in one hash set, so that a 150,000-key object
 * costs what its bytes cost. Only text that passed reaches cJSON.
 */
#include "engine/base/json.h"

#include "engine/base/buf.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    MAX_DEPTH = 64,
    MAX_NUMBER_BYTES = 63, /* what cJSON's number buffer holds; it would cut a longer one */
};
/* Offsets of keys are 31-bit. */
static const size_t max_text_bytes = 0x7FFFFFFF;
/* Above this a double no longer holds every whole number. */
static const double max_exact_whole = 9007199254740991.0;

/* A key of the object `object`, as unescaped bytes in the text or (escaped ones) in `unescaped`. */
struct key {
    uint32_t hash;
    uint32_t object; /* 0: the slot is free */
    uint32_t begin;
    uint32_t n : 31, is_unescaped : 1;
};

/* Open addressing, linear probing, at most 3/4 full. */
struct key_set {
    struct key *slots;
    size_t n, capacity; /* capacity: 0 or a power of two */
    uint64_t seed;      /* random, so that no file can be made to collide */
};

enum state { WANT_VALUE, WANT_VALUE_OR_END, WANT_KEY, WANT_KEY_OR_END, WANT_COMMA_OR_END, DONE };

struct checker {
    const char *text;
    size_t n, at;
    struct json_limits limits;
    size_t n_nodes;
    uint32_t n_objects;
    uint32_t stack[MAX_DEPTH]; /* number of the open object, 0 for an array */
    int depth;
    enum state state;
    struct key_set keys;
    struct buf unescaped;
    struct err *err;
};

/* -- errors -------------------------------------------------------------------------------- */

/* Line and column (in characters, from 1) of a byte offset; only errors pay for counting. */
static void locate(const char *text, size_t at, size_t *line, size_t *column) {
    *line = *column = 1;
    for (size_t i = 0; i < at; i++) {
        if (text[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)text[i] & 0xC0) != 0x80) {
            ++*column;
        }
    }
}

__attribute__((format(printf, 3, 4))) static int fail_at(struct checker *c, size_t at,
                                                         const char *format, ...) {
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    size_t line, column;
    locate(c->text, at, &line, &column);
    return err_set(c->err, ERR_MODEL, "JSON line %zu, column %zu: %s", line, column, what);
}

/* "expected <what>, found <the character there>" */
static int fail_expected(struct checker *c, const char *expected) {
    if (c->at >= c->n) return fail_at(c, c->at, "expected %s, found the end of the text", expected);
    unsigned char found = (unsigned char)c->text[c->at];
    if (found > 0x20 && found < 0x7F)
        return fail_at(c, c->at, "expected %s, found '%c'", expected, found);
    uint32_t code_point;
    utf8_decode(c->text + c->at, c->n - c->at, &code_point);
    return fail_at(c, c->at, "expected %s, found U+%04" PRIX32, expected, code_point);
}

/* -- keys ---------------------------------------------------------------------------------- */

static const char *key_bytes(const struct checker *c, const struct key *key) {
    return (key->is_unescaped ? c->unescaped.data : c->text) + key->begin;
}

/* The first table is sized for a key every 48 bytes: a vocabulary's then never moves. */
static int key_set_grow(struct key_set *set, size_t text_bytes, struct err *err) {
    size_t capacity = set->capacity ? set->capacity * 2 : 64;
    while (!set->capacity && capacity < text_bytes / 48) capacity *= 2;
    struct key *slots = mem_zalloc(capacity, sizeof *slots);
    if (!slots) return err_memory(err, capacity * sizeof *slots, "the keys of a JSON text");
    for (size_t i = 0; i < set->capacity; i++) {
        if (set->slots[i].object == 0) continue;
        size_t slot = set->slots[i].hash & (capacity - 1);
        while (slots[slot].object != 0) slot = (slot + 1) & (capacity - 1);
        slots[slot] = set->slots[i];
    }
    mem_free(set->slots);
    set->slots = slots;
    set->capacity = capacity;
    return 0;
}

/* 1 when the object has the key already, 0 when it was new, -1 on error. */
static int key_set_add(struct checker *c, struct key key) {
    struct key_set *set = &c->keys;
    if (set->n >= set->capacity / 4 * 3 && key_set_grow(set, c->n, c->err) != 0) return -1;
    const char *bytes = key_bytes(c, &key);
    key.hash = (uint32_t)XXH3_64bits_withSeed(bytes, key.n, set->seed + key.object);
    size_t mask = set->capacity - 1, slot = key.hash & mask;
    for (; set->slots[slot].object != 0; slot = (slot + 1) & mask) {
        const struct key *other = &set->slots[slot];
        if (other->hash == key.hash && other->object == key.object && other->n == key.n &&
            memcmp(key_bytes(c, other), bytes, key.n) == 0)
            return 1;
    }
    set->slots[slot] = key;
    set->n++;
    return 0;
}

/* -- scalars ------------------------------------------------------------------------------- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The four digits behind "\u"; `at` stands on the first. */
static int scan_hex4(struct checker *c, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < 4; i++, c->at++) {
        int digit = c->at < c->n ? hex_digit(c->text[c->at]) : -1;
        if (digit < 0) return fail_expected(c, "four hex digits after \\u");
        *out = *out << 4 | (uint32_t)digit;
    }
    return 0;
}

static int scan_unicode_escape(struct checker *c, uint32_t *out) {
    size_t start = c->at - 2;
    if (scan_hex4(c, out) != 0) return -1;
    if (*out == 0) return fail_at(c, start, "\\u0000 (a zero byte) is not allowed in a string");
    if (*out < 0xD800 || *out > 0xDFFF) return 0;
    uint32_t low = 0;
    bool has_second = c->n - c->at >= 2 && c->text[c->at] == '\\' && c->text[c->at + 1] == 'u';
    if (*out <= 0xDBFF && has_second) {
        c->at += 2;
        if (scan_hex4(c, &low) != 0) return -1;
    }
    if (low < 0xDC00 || low > 0xDFFF) return fail_at(c, start, "lone surrogate in a \\u escape");
    *out = 0x10000 + ((*out - 0xD800) << 10) + (low - 0xDC00);
    return 0;
}

/* `at` stands behind the backslash. */
static int scan_escape(struct checker *c, uint32_t *out) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *found = c->at < c->n ? memchr(names, c->text[c->at], sizeof names - 1) : NULL;
    if (found) {
        *out = (unsigned char)values[found - names];
        c->at++;
        return 0;
    }
    if (c->at == c->n || c->text[c->at] != 'u') return fail_expected(c, "an escape after '\\'");
    c->at++;
    return scan_unicode_escape(c, out);
}

/* Moves `at` to the next quote, backslash or control character. */
static void skip_plain(struct checker *c) {
    const unsigned char *t = (const unsigned char *)c->text;
    size_t i = c->at, n = c->n;
    while (i < n && t[i] != '"' && t[i] != '\\' && t[i] >= 0x20) i++;
    c->at = i;
}

/*
 * `at` stands on the quote. The string's bytes are text[*begin, at - 1) unless it has escapes;
 * with `unescaped` not NULL those with escapes are appended there.
 */
static int scan_string(struct checker *c, struct buf *unescaped, bool *has_escape) {
    size_t quote = c->at++, plain = c->at;
    *has_escape = false;
    for (;;) {
        skip_plain(c);
        if (c->at == c->n) return fail_at(c, quote, "a string without its closing quote");
        if (c->text[c->at] == '"') break;
        if (c->text[c->at] != '\\') return fail_expected(c, "an escape for a control character");
        if (unescaped) buf_add(unescaped, c->text + plain, c->at - plain);
        *has_escape = true;
        c->at++;
        uint32_t code_point;
        if (scan_escape(c, &code_point) != 0) return -1;
        if (unescaped) buf_put_utf8(unescaped, code_point);
        plain = c->at;
    }
    if (unescaped && *has_escape) buf_add(unescaped, c->text + plain, c->at - plain);
    c->at++;
    return 0;
}

static bool is_digit_at(const struct checker *c) {
    return c->at < c->n && c->text[c->at] >= '0' && c->text[c->at] <= '9';
}

static int scan_digits(struct checker *c, const char *expected) {
    if (!is_digit_at(c)) return fail_expected(c, expected);
    while (is_digit_at(c)) c->at++;
    return 0;
}

static int scan_number(struct checker *c) {
    size_t start = c->at;
    if (c->text[c->at] == '-') c->at++;
    if (c->at < c->n && c->text[c->at] == '0') {
        c->at++;
        if (is_digit_at(c)) return fail_at(c, start, "a number with a leading zero");
    } else if (scan_digits(c, "a digit after '-'") != 0) {
        return -1;
    }
    if (c->at < c->n && c->text[c->at] == '.') {
        c->at++;
        if (scan_digits(c, "a digit after '.'") != 0) return -1;
    }
    if (c->at < c->n && (c->text[c->at] == 'e' || c->text[c->at] == 'E')) {
        c->at++;
        if (c->at < c->n && (c->text[c->at] == '+' || c->text[c->at] == '-')) c->at++;
        if (scan_digits(c, "a digit in the exponent") != 0) return -1;
    }
    if (c->at - start > MAX_NUMBER_BYTES)
        return fail_at(c, start, "a number of more than %d characters", MAX_NUMBER_BYTES);
    return 0;
}

static int scan_literal(struct checker *c) {
    static const char *const literals[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof literals / sizeof *literals; i++) {
        size_t n = strlen(literals[i]);
        if (c->n - c->at >= n && memcmp(c->text + c->at, literals[i], n) == 0) {
            c->at += n;
            return 0;
        }
    }
    return fail_expected(c, "a value");
}

/* -- structure ----------------------------------------------------------------------------- */

static int open_container(struct checker *c, bool is_object) {
    if (c->depth >= c->limits.max_depth)
        return fail_at(c, c->at, "nested deeper than %d levels", c->limits.max_depth);
    c->at++;
    c->stack[c->depth++] = is_object ? ++c->n_objects : 0;
    c->state = is_object ? WANT_KEY_OR_END : WANT_VALUE_OR_END;
    return 0;
}

static void close_container(struct checker *c) {
    c->at++;
    c->depth--;
    c->state = c->depth ? WANT_COMMA_OR_END : DONE;
}

static int check_value(struct checker *c) {
    if (c->n_nodes++ >= c->limits.max_nodes)
        return fail_at(c, c->at, "more than %zu values", c->limits.max_nodes);
    char first = c->at < c->n ? c->text[c->at] : '\0';
    if (first == '{' || first == '[') return open_container(c, first == '{');
    c->state = c->depth ? WANT_COMMA_OR_END : DONE;
    bool has_escape;
    if (first == '"') return scan_string(c, NULL, &has_escape);
    if (first == '-' || is_digit_at(c)) return scan_number(c);
    return scan_literal(c);
}

static void skip_space(struct checker *c) {
    while (c->at < c->n) {
        char t = c->text[c->at];
        if (t != ' ' && t != '\n' && t != '\r' && t != '\t') return;
        c->at++;
    }
}

static int check_key(struct checker *c) {
    size_t quote = c->at, pool = c->unescaped.n;
    bool has_escape;
    if (c->at == c->n || c->text[c->at] != '"') return fail_expected(c, "a key in quotes");
    if (scan_string(c, &c->unescaped, &has_escape) != 0) return -1;
    if (c->unescaped.failed) return err_memory(c->err, c->at - quote, "a JSON key");
    struct key key = {.object = c->stack[c->depth - 1], .is_unescaped = has_escape};
    key.begin = (uint32_t)(has_escape ? pool : quote + 1);
    key.n = (uint32_t)(has_escape ? c->unescaped.n - pool : c->at - quote - 2) & 0x7FFFFFFF;
    int known = key_set_add(c, key);
    if (known < 0) return -1;
    if (known)
        return fail_at(c, quote, "the key \"%.*s\" appears twice in one object",
                       key.n < 100 ? (int)key.n : 100, key_bytes(c, &key));
    skip_space(c);
    if (c->at == c->n || c->text[c->at] != ':') return fail_expected(c, "':' after a key");
    c->at++;
    c->state = WANT_VALUE;
    return 0;
}

/* In an open container, behind one of its values. */
static int check_comma_or_end(struct checker *c) {
    bool is_object = c->stack[c->depth - 1] != 0;
    char here = c->at < c->n ? c->text[c->at] : '\0';
    if (here == (is_object ? '}' : ']')) {
        close_container(c);
    } else if (here == ',') {
        c->at++;
        c->state = is_object ? WANT_KEY : WANT_VALUE;
    } else {
        return fail_expected(c, is_object ? "',' or '}'" : "',' or ']'");
    }
    return 0;
}

static int check_next(struct checker *c) {
    char here = c->at < c->n ? c->text[c->at] : '\0';
    switch (c->state) {
    case WANT_VALUE_OR_END:
        if (here != ']') return check_value(c);
        close_container(c);
        return 0;
    case WANT_VALUE:
        return check_value(c);
    case WANT_KEY_OR_END:
        if (here != '}') return check_key(c);
        close_container(c);
        return 0;
    case WANT_KEY:
        return check_key(c);
    case WANT_COMMA_OR_END:
        return check_comma_or_end(c);
    case DONE:
        break;
    }
    bug("state %d of a JSON text", (int)c->state);
}

static int check_utf8(struct checker *c) {
    if (utf8_valid(c->text, c->n)) return 0;
    uint32_t code_point = 0;
    size_t at = 0, bytes = 0;
    while (code_point != UTF8_BAD) {
        at += bytes;
        bytes = utf8_decode(c->text + at, c->n - at, &code_point);
    }
    return fail_at(c, at, "bytes that are not UTF-8");
}

static int check_text(struct checker *c) {
    if (c->n > c->limits.max_bytes || c->n > max_text_bytes)
        return err_set(c->err, ERR_MODEL, "JSON text of %zu bytes: at most %zu are read", c->n,
                       c->limits.max_bytes < max_text_bytes ? c->limits.max_bytes : max_text_bytes);
    if (c->limits.max_depth > MAX_DEPTH) c->limits.max_depth = MAX_DEPTH;
    if (check_utf8(c) != 0) return -1;
    if (getrandom(&c->keys.seed, sizeof c->keys.seed, GRND_NONBLOCK) < 0)
        c->keys.seed = (uintptr_t)c; /* early boot only: the stack's place is random enough */
    do {
        skip_space(c);
        if (check_next(c) != 0) return -1;
    } while (c->state != DONE);
    skip_space(c);
    if (c->at < c->n) return fail_expected(c, "the end after the value");
    return 0;
}

static void use_our_allocator(void) {
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = mem_alloc, .free_fn = mem_free});
}

cJSON *json_parse(const char *text, size_t n, struct json_limits limits, struct err *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, use_our_allocator);
    struct checker c = {.text = text, .n = n, .limits = limits, .err = err};
    int status = check_text(&c);
    mem_free(c.keys.slots);
    buf_release(&c.unescaped);
    if (status != 0) return NULL;
    cJSON *tree = cJSON_ParseWithLength(text, n);
    if (!tree) err_memory(err, n, "a JSON tree");
    return tree;
}

/* -- members ------------------------------------------------------------------------------- */

const cJSON *json_get(const cJSON *object, const char *key) {
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNull(member) ? NULL : member;
}

/* What a value is, for "found …". */
static const char *describe(const cJSON *value, char text[64]) {
    if (cJSON_IsString(value))
        snprintf(text, 64, "\"%.40s\"", value->valuestring);
    else if (cJSON_IsNumber(value))
        snprintf(text, 64, "%.17g", value->valuedouble);
    else if (cJSON_IsBool(value))
        snprintf(text, 64, "%s", cJSON_IsTrue(value) ? "true" : "false");
    else
        snprintf(text, 64, "%s", cJSON_IsObject(value) ? "an object" : "an array");
    return text;
}

static int refuse_u64(const char *key, uint64_t min, uint64_t max, const char *found,
                      struct err *err) {
    return err_set(err, ERR_MODEL,
                   "\"%s\" must be a whole number from %" PRIu64 " to %" PRIu64 ", found %s", key,
                   min, max, found);
}

int json_u64(const cJSON *object, const char *key, uint64_t min, uint64_t max, uint64_t fallback,
             uint64_t *out, struct err *err) {
    const cJSON *value = json_get(object, key);
    if (!value) {
        *out = fallback;
        return 0;
    }
    char found[64];
    double d = value->valuedouble;
    if (!cJSON_IsNumber(value) || !(d >= 0 && d <= max_exact_whole) || d != floor(d) ||
        (uint64_t)d < min || (uint64_t)d > max)
        return refuse_u64(key, min, max, describe(value, found), err);
    *out = (uint64_t)d;
    return 0;
}

int json_need_u64(const cJSON *object, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                  struct err *err) {
    if (!json_get(object, key)) return refuse_u64(key, min, max, "nothing", err);
    return json_u64(object, key, min, max, 0, out, err);
}

int json_f64(const cJSON *object, const char *key, double min, double max, double fallback,
             double *out, struct err *err) {
    const cJSON *value = json_get(object, key);
    if (!value) {
        *out = fallback;
        return 0;
    }
    char found[64];
    if (!cJSON_IsNumber(value) || !(value->valuedouble >= min && value->valuedouble <= max))
        return err_set(err, ERR_MODEL, "\"%s\" must be a number from %g to %g, found %s", key, min,
                       max, describe(value, found));
    *out = value->valuedouble;
    return 0;
}

int json_bool(const cJSON *object, const char *key, bool fallback, bool *out, struct err *err) {
    const cJSON *value = json_get(object, key);
    char found[64];
    if (value && !cJSON_IsBool(value))
        return err_set(err, ERR_MODEL, "\"%s\" must be true or false, found %s", key,
                       describe(value, found));
    *out = value ? cJSON_IsTrue(value) : fallback;
    return 0;
}

int json_string(const cJSON *object, const char *key, const char *fallback, const char **out,
                struct err *err) {
    const cJSON *value = json_get(object, key);
    char found[64];
    if (value && !cJSON_IsString(value))
        return err_set(err, ERR_MODEL, "\"%s\" must be a string, found %s", key,
                       describe(value, found));
    *out = value ? value->valuestring : fallback;
    return 0;
}
