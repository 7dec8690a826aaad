/*
 * A cursor over untrusted bytes: every read is bounded, every count is compared with the bytes that
 * are left before anything of its size is taken.
 */
#include "engine/weights/gguf.h"

#include "engine/base/checked.h"
#include "engine/base/mem.h"
#include "engine/weights/file_kind.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_ENTRIES = 1 << 16,
    MAX_TENSORS = 1 << 20,
    MAX_KEY_BYTES = 65535,
    MAX_NAME_BYTES = 1024,
    MAX_ALIGNMENT = 1 << 20,
    MAX_DIMS = 4,
    DEFAULT_ALIGNMENT = 32,
};

struct cursor {
    const unsigned char *data;
    uint64_t at, n;
    const char *name;
    struct err *err;
};

static uint64_t left(const struct cursor *c) {
    return c->n - c->at;
}

static int fail_short(const struct cursor *c, const char *what) {
    return err_set(c->err, ERR_MODEL, "%.160s: ends at byte %llu, within %s", c->name,
                   (unsigned long long)c->n, what);
}

/* A little-endian whole number of `bytes` bytes. */
static uint64_t load(const unsigned char *p, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;) value = value << 8 | p[i];
    return value;
}

static int read_number(struct cursor *c, size_t bytes, uint64_t *out, const char *what) {
    *out = 0;
    if (left(c) < bytes) return fail_short(c, what);
    *out = load(c->data + c->at, bytes);
    c->at += bytes;
    return 0;
}

static int read_string(struct cursor *c, uint64_t max, struct gguf_string *out, const char *what) {
    uint64_t n;
    if (read_number(c, 8, &n, what) != 0) return -1;
    if (n > max)
        return err_set(c->err, ERR_MODEL, "%.160s: %s is %llu bytes long, at most %llu are read",
                       c->name, what, (unsigned long long)n, (unsigned long long)max);
    if (n > left(c)) return fail_short(c, what);
    *out = (struct gguf_string){(const char *)c->data + c->at, (size_t)n};
    c->at += n;
    return 0;
}

/* --- the dictionary -------------------------------------------------------------------------- */

/* 0: no fixed size. */
static size_t type_bytes(enum gguf_type type) {
    static const unsigned char bytes[N_GGUF_TYPES] = {
        [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2, [GGUF_I16] = 2,
        [GGUF_U32] = 4, [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1,
        [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
    };
    return bytes[type];
}

static int read_type(struct cursor *c, enum gguf_type *out, const struct gguf_string *key) {
    uint64_t type;
    if (read_number(c, 4, &type, "a value's type") != 0) return -1;
    if (type >= N_GGUF_TYPES)
        return err_set(c->err, ERR_MODEL, "%.160s: '%.*s' has value type %llu, known are 0 to %d",
                       c->name, (int)(key->n < 80 ? key->n : 80), key->data,
                       (unsigned long long)type, N_GGUF_TYPES - 1);
    *out = (enum gguf_type)type;
    return 0;
}

static int skip_strings(struct cursor *c, uint64_t n) {
    struct gguf_string ignored;
    if (n > left(c) / 8) return fail_short(c, "an array of strings");
    for (uint64_t i = 0; i < n; i++)
        if (read_string(c, UINT64_MAX, &ignored, "a string of an array") != 0) return -1;
    return 0;
}

/* The n_items values of item_type that begin at the cursor. */
static int skip_items(struct cursor *c, struct gguf_entry *e) {
    uint64_t bytes;
    e->data = c->data + c->at;
    if (e->item_type == GGUF_STRING) return skip_strings(c, e->n_items);
    if (!checked_mul(e->n_items, type_bytes(e->item_type), &bytes) || bytes > left(c))
        return fail_short(c, "an array");
    c->at += bytes;
    return 0;
}

static int read_value(struct cursor *c, struct gguf_entry *e) {
    struct gguf_string text;
    e->n_items = 1;
    if (e->type == GGUF_STRING) {
        if (read_string(c, UINT64_MAX, &text, "a string") != 0) return -1;
        e->data = (const unsigned char *)text.data;
        e->bytes = text.n;
        return 0;
    }
    e->item_type = e->type;
    if (e->type == GGUF_ARRAY) {
        if (read_type(c, &e->item_type, &e->key) != 0 ||
            read_number(c, 8, &e->n_items, "an array's length") != 0)
            return -1;
        if (e->item_type == GGUF_ARRAY)
            return err_set(c->err, ERR_MODEL, "%.160s: '%.*s' is an array of arrays, none is known",
                           c->name, (int)(e->key.n < 80 ? e->key.n : 80), e->key.data);
    }
    uint64_t begin = c->at;
    if (skip_items(c, e) != 0) return -1;
    e->bytes = c->at - begin;
    return 0;
}

static int compare_strings(const struct gguf_string *a, const struct gguf_string *b) {
    size_t n = a->n < b->n ? a->n : b->n;
    int order = n ? memcmp(a->data, b->data, n) : 0;
    return order ? order : a->n < b->n ? -1 : a->n > b->n;
}

static int compare_entries(const void *a, const void *b) {
    const struct gguf_entry *x = a, *y = b;
    return compare_strings(&x->key, &y->key);
}

static int read_entries(struct gguf *g, struct cursor *c, uint64_t n) {
    /* the shortest entry: a key of one byte, a type, a value of one byte */
    if (n > MAX_ENTRIES || n > left(c) / (8 + 1 + 4 + 1))
        return err_set(c->err, ERR_MODEL,
                       "%.160s: %llu metadata entries do not fit the file's %llu bytes (at most %d "
                       "are read)",
                       c->name, (unsigned long long)n, (unsigned long long)c->n, MAX_ENTRIES);
    g->entries = mem_zalloc((size_t)n, sizeof *g->entries);
    if (!g->entries) return err_memory(c->err, (size_t)n * sizeof *g->entries, c->name);
    for (uint64_t i = 0; i < n; i++) {
        struct gguf_entry *e = &g->entries[g->n_entries];
        if (read_string(c, MAX_KEY_BYTES, &e->key, "a key") != 0) return -1;
        if (e->key.n == 0)
            return err_set(c->err, ERR_MODEL, "%.160s: metadata entry %llu has an empty key",
                           c->name, (unsigned long long)i);
        if (read_type(c, &e->type, &e->key) != 0 || read_value(c, e) != 0) return -1;
        g->n_entries++;
    }
    qsort(g->entries, g->n_entries, sizeof *g->entries, compare_entries);
    for (size_t i = 1; i < g->n_entries; i++)
        if (compare_entries(&g->entries[i - 1], &g->entries[i]) == 0)
            return err_set(c->err, ERR_MODEL, "%.160s: key '%.*s' is there twice", c->name,
                           (int)(g->entries[i].key.n < 80 ? g->entries[i].key.n : 80),
                           g->entries[i].key.data);
    return 0;
}

/* --- tensors --------------------------------------------------------------------------------- */

static const struct tensor_type {
    uint32_t number;
    const char *name;
    unsigned block_values, block_bytes;
} tensor_types[] = {
#define GGUF_TYPE(number, name, values, bytes) {number, name, values, bytes},
#include "engine/weights/gguf_types.def"
#undef GGUF_TYPE
};

static const struct tensor_type *tensor_type(uint64_t number) {
    for (size_t i = 0; i < sizeof tensor_types / sizeof *tensor_types; i++)
        if (tensor_types[i].number == number) return &tensor_types[i];
    return NULL;
}

static int read_dims(struct cursor *c, struct checkpoint_tensor *t) {
    uint64_t n_dims;
    if (read_number(c, 4, &n_dims, "a tensor's dimensions") != 0) return -1;
    if (n_dims > MAX_DIMS)
        return err_set(c->err, ERR_MODEL, "%.160s: tensor '%.80s' has %llu dimensions, at most %d",
                       c->name, t->name, (unsigned long long)n_dims, MAX_DIMS);
    t->n_dims = (int)n_dims;
    for (int i = t->n_dims; i-- > 0;) /* the file lists the innermost first */
        if (read_number(c, 8, &t->dims[i], "a tensor's dimensions") != 0) return -1;
    return 0;
}

static int read_tensor_type(struct cursor *c, struct checkpoint_tensor *t) {
    uint64_t number, elements;
    if (read_number(c, 4, &number, "a tensor's type") != 0) return -1;
    const struct tensor_type *type = tensor_type(number);
    if (!type || type->block_bytes == 0)
        return err_set(c->err, ERR_MODEL, "%.160s: tensor '%.80s' is of type %llu (%s)", c->name,
                       t->name, (unsigned long long)number,
                       type ? "withdrawn from GGUF; convert the model again" : "unknown to GGUF");
    int format = format_by_gguf_type((uint32_t)number);
    t->type = type->name;
    t->format = format < 0 ? N_FORMATS : (enum format)format;
    uint64_t row = t->n_dims ? t->dims[t->n_dims - 1] : 1;
    if (!tensor_elements(t, &elements) ||
        !checked_mul(elements / type->block_values, type->block_bytes, &t->bytes))
        return err_set(c->err, ERR_MODEL,
                       "%.160s: tensor '%.80s': the product of its shape does not fit 64 bits",
                       c->name, t->name);
    if (row % type->block_values != 0)
        return err_set(c->err, ERR_MODEL,
                       "%.160s: tensor '%.80s' has rows of %llu values; %s needs multiples of %u",
                       c->name, t->name, (unsigned long long)row, type->name, type->block_values);
    return 0;
}

/* The offset is kept in the data pointer's place until the data's begin is known. */
static int read_tensor(struct cursor *c, int file, struct tensor_list *tensors, uint64_t *offset) {
    struct gguf_string name;
    if (read_string(c, MAX_NAME_BYTES, &name, "a tensor's name") != 0) return -1;
    if (name.n == 0 || memchr(name.data, '\0', name.n))
        return err_set(c->err, ERR_MODEL, "%.160s: a tensor's name is empty or holds a NUL byte",
                       c->name);
    struct checkpoint_tensor *t = tensor_list_add(tensors, name.data, name.n, c->err);
    if (!t) return -1;
    t->file = file;
    if (read_dims(c, t) != 0 || read_tensor_type(c, t) != 0) return -1;
    return read_number(c, 8, offset, "a tensor's offset");
}

static int read_alignment(const struct gguf *g, uint64_t *alignment, struct err *err) {
    if (gguf_u64(g, "general.alignment", 1, MAX_ALIGNMENT, DEFAULT_ALIGNMENT, alignment, err) != 0)
        return -1;
    if ((*alignment & (*alignment - 1)) == 0) return 0;
    return err_set(err, ERR_MODEL, "%.160s: general.alignment is %llu, a power of two is needed",
                   g->name, (unsigned long long)*alignment);
}

static uint64_t aligned(uint64_t at, uint64_t alignment) {
    return (at + alignment - 1) & ~(alignment - 1);
}

/*
 * Each tensor begins at the next aligned place behind the one before it, as all writers of the
 * format do it and its reference reader demands; so none overlap and none are outside.
 */
static int place_tensors(const struct cursor *c, struct checkpoint_tensor *tensors, size_t n,
                         const uint64_t *offsets, uint64_t alignment) {
    uint64_t begin = aligned(c->at, alignment), at = 0;
    for (size_t i = 0; i < n; i++) {
        struct checkpoint_tensor *t = &tensors[i];
        if (offsets[i] != at)
            return err_set(c->err, ERR_MODEL,
                           "%.160s: tensor '%.80s' has offset %llu, the one before it and the "
                           "alignment of %llu give %llu",
                           c->name, t->name, (unsigned long long)offsets[i],
                           (unsigned long long)alignment, (unsigned long long)at);
        if (begin > c->n || !checked_range(at, t->bytes, c->n - begin))
            return err_set(c->err, ERR_MODEL,
                           "%.160s: tensor '%.80s' needs %llu bytes at %llu, the file ends at %llu "
                           "(is its download complete?)",
                           c->name, t->name, (unsigned long long)t->bytes,
                           (unsigned long long)(begin + at), (unsigned long long)c->n);
        t->data = c->data + begin + at;
        at = aligned(at + t->bytes, alignment);
    }
    return 0;
}

static int read_tensors(const struct gguf *g, struct cursor *c, uint64_t n, int file,
                        struct tensor_list *tensors) {
    uint64_t alignment;
    if (read_alignment(g, &alignment, c->err) != 0) return -1;
    /* the shortest: a name of one byte, no dimensions, type, offset */
    if (n > MAX_TENSORS || n > left(c) / (8 + 1 + 4 + 4 + 8))
        return err_set(
            c->err, ERR_MODEL,
            "%.160s: %llu tensors do not fit the file's %llu bytes (at most %d are read)", c->name,
            (unsigned long long)n, (unsigned long long)c->n, MAX_TENSORS);
    size_t first = tensors->n;
    uint64_t *offsets = mem_zalloc((size_t)n, sizeof *offsets);
    if (!offsets) return err_memory(c->err, (size_t)n * sizeof *offsets, c->name);
    int result = 0;
    for (uint64_t i = 0; i < n && result == 0; i++)
        result = read_tensor(c, file, tensors, &offsets[i]);
    if (result == 0)
        result = place_tensors(c, tensor_list_from(tensors, first), (size_t)n, offsets, alignment);
    mem_free(offsets);
    return result;
}

/* --- the file -------------------------------------------------------------------------------- */

static int check_version(const struct cursor *c, uint64_t version) {
    if (version == 2 || version == 3) return 0;
    if (version && (version & 0xFFFF) == 0)
        return err_set(c->err, ERR_MODEL,
                       "%.160s: is a big-endian GGUF file, only little-endian "
                       "ones are read",
                       c->name);
    return err_set(c->err, ERR_MODEL, "%.160s: is GGUF version %llu, versions 2 and 3 are read",
                   c->name, (unsigned long long)version);
}

int gguf_parse(struct gguf *g, const unsigned char *data, size_t n, const char *name, int file,
               struct tensor_list *tensors, struct err *err) {
    struct cursor c = {data, 4, n, name, err};
    uint64_t version, n_tensors, n_entries;
    *g = (struct gguf){.name = name};
    enum file_kind kind = file_kind_of(data, n);
    if (kind != FILE_GGUF)
        return err_set(err, ERR_MODEL, "%.160s: is %s", name,
                       kind == FILE_UNKNOWN ? "not a GGUF file" : file_kind_text(kind));
    if (read_number(&c, 4, &version, "the header") != 0 || check_version(&c, version) != 0 ||
        read_number(&c, 8, &n_tensors, "the header") != 0 ||
        read_number(&c, 8, &n_entries, "the header") != 0)
        return -1;
    g->version = (uint32_t)version;
    if (read_entries(g, &c, n_entries) == 0 && read_tensors(g, &c, n_tensors, file, tensors) == 0)
        return 0;
    gguf_release(g);
    return -1;
}

void gguf_release(struct gguf *g) {
    mem_free(g->entries);
    *g = (struct gguf){0};
}

/* --- values ---------------------------------------------------------------------------------- */

const struct gguf_entry *gguf_find(const struct gguf *g, const char *key) {
    struct gguf_entry wanted = {.key = {key, strlen(key)}};
    if (g->n_entries == 0) return NULL;
    return bsearch(&wanted, g->entries, g->n_entries, sizeof *g->entries, compare_entries);
}

/* False where the entry is no whole number that is at least 0. */
static bool entry_u64(const struct gguf_entry *e, uint64_t *out) {
    size_t bytes = type_bytes(e->type);
    switch (e->type) {
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        *out = load(e->data, bytes);
        return true;
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64:
        *out = load(e->data, bytes);
        return e->data[bytes - 1] < 0x80;
    default:
        return false;
    }
}

int gguf_u64(const struct gguf *g, const char *key, uint64_t min, uint64_t max, uint64_t fallback,
             uint64_t *out, struct err *err) {
    const struct gguf_entry *e = gguf_find(g, key);
    *out = fallback;
    if (!e) return 0;
    if (!entry_u64(e, out))
        return err_set(err, ERR_MODEL, "%.160s: %s must be a whole number from %llu to %llu",
                       g->name, key, (unsigned long long)min, (unsigned long long)max);
    if (*out >= min && *out <= max) return 0;
    return err_set(err, ERR_MODEL, "%.160s: %s is %llu, from %llu to %llu is allowed", g->name, key,
                   (unsigned long long)*out, (unsigned long long)min, (unsigned long long)max);
}

int gguf_need_u64(const struct gguf *g, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                  struct err *err) {
    if (gguf_find(g, key)) return gguf_u64(g, key, min, max, 0, out, err);
    return err_set(err, ERR_MODEL, "%.160s: %s is missing from the metadata", g->name, key);
}

int gguf_f64(const struct gguf *g, const char *key, double min, double max, double fallback,
             double *out, struct err *err) {
    const struct gguf_entry *e = gguf_find(g, key);
    *out = fallback;
    if (!e) return 0;
    if (e->type == GGUF_F32) {
        float value;
        memcpy(&value, e->data, sizeof value);
        *out = (double)value;
    } else if (e->type == GGUF_F64) {
        memcpy(out, e->data, sizeof *out);
    } else {
        return err_set(err, ERR_MODEL, "%.160s: %s must be a float", g->name, key);
    }
    if (*out >= min && *out <= max) return 0; /* false for NaN */
    double found = *out;
    *out = fallback;
    return err_set(err, ERR_MODEL, "%.160s: %s is %g, from %g to %g is allowed", g->name, key,
                   found, min, max);
}

int gguf_text(const struct gguf *g, const char *key, struct gguf_string *out, struct err *err) {
    const struct gguf_entry *e = gguf_find(g, key);
    *out = (struct gguf_string){NULL, 0};
    if (!e) return 0;
    if (e->type != GGUF_STRING)
        return err_set(err, ERR_MODEL, "%.160s: %s must be a string", g->name, key);
    *out = (struct gguf_string){(const char *)e->data, (size_t)e->bytes};
    return 0;
}

/* The array of that key, of item_type; NULL with 0 where it is absent. */
static int find_array(const struct gguf *g, const char *key, enum gguf_type type,
                      const char *type_name, const struct gguf_entry **out, struct err *err) {
    *out = gguf_find(g, key);
    if (!*out || ((*out)->type == GGUF_ARRAY && (*out)->item_type == type)) return 0;
    return err_set(err, ERR_MODEL, "%.160s: %s must be an array of %s", g->name, key, type_name);
}

int gguf_strings(const struct gguf *g, const char *key, struct gguf_string **out, size_t *n,
                 struct err *err) {
    const struct gguf_entry *e;
    *out = NULL;
    *n = 0;
    if (find_array(g, key, GGUF_STRING, "strings", &e, err) != 0) return -1;
    if (!e) return 0;
    *out = mem_zalloc((size_t)e->n_items, sizeof **out);
    if (!*out) return err_memory(err, (size_t)e->n_items * sizeof **out, key);
    struct cursor c = {e->data, 0, e->bytes, g->name, err};
    for (; *n < e->n_items; (*n)++)
        if (read_string(&c, UINT64_MAX, &(*out)[*n], key) != 0) break;
    if (*n == e->n_items) return 0;
    mem_free(*out); /* the file was changed after gguf_parse() had checked it */
    *out = NULL;
    return -1;
}

int gguf_int32s(const struct gguf *g, const char *key, int32_t **out, size_t *n, struct err *err) {
    const struct gguf_entry *e;
    *out = NULL;
    *n = 0;
    if (find_array(g, key, GGUF_I32, "32-bit integers", &e, err) != 0) return -1;
    if (!e) return 0;
    *out = mem_copy(e->data, (size_t)e->bytes);
    if (!*out) return err_memory(err, (size_t)e->bytes, key);
    *n = (size_t)e->n_items;
    return 0;
}

bool gguf_string_is(const struct gguf_string *s, const char *text) {
    return s->data && s->n == strlen(text) && memcmp(s->data, text, s->n) == 0;
}
