/*
 * The header is parsed as JSON behind the gate of json.h; on top of it stands what JSON allows but
 * the format does not: numbers of other characters than digits.
 */
#include "engine/weights/safetensors.h"

#include "engine/base/checked.h"
#include "engine/base/json.h"
#include "engine/weights/file_kind.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_HEADER_BYTES = 100000000, MAX_NODES = 1 << 20, MAX_DIMS = 4 };

/* All types of the format with their bits; format.h knows which of them can be computed with. */
static const struct dtype {
    const char *name;
    unsigned bits;
} dtypes[] = {
    {"BOOL", 8},    {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"I16", 16}, {"U16", 16}, {"F16", 16},    {"BF16", 16},
    {"I32", 32},    {"U32", 32}, {"F32", 32}, {"F64", 64},    {"I64", 64},
    {"U64", 64},    {"C64", 64}, {"F4", 4},   {"F6_E2M3", 6}, {"F6_E3M2", 6},
};

static const struct dtype *dtype_by_name(const char *name) {
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtypes[i].name, name) == 0) return &dtypes[i];
    return NULL;
}

/* Outside of strings a header has digits and punctuation, nothing else: so no sign, fraction,
 * exponent, true, false or null stands where a size is read. */
static int check_digits(const char *text, size_t n, const char *name, struct err *err) {
    bool in_string = false;
    for (size_t i = 0; i < n; i++) {
        if (in_string) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                in_string = false;
        } else if (text[i] == '"') {
            in_string = true;
        } else if (!strchr("{}[]:,0123456789 \t\r\n", text[i])) {
            return err_set(err, ERR_MODEL,
                           "%.160s: '%c' at byte %zu of the header, where only names, sizes and "
                           "offsets in digits may stand",
                           name, text[i], i);
        }
    }
    return 0;
}

static int check_metadata(const cJSON *metadata, const char *name, struct err *err) {
    if (!cJSON_IsObject(metadata))
        return err_set(err, ERR_MODEL, "%.160s: __metadata__ must be an object of strings", name);
    for (const cJSON *item = metadata->child; item; item = item->next)
        if (!cJSON_IsString(item))
            return err_set(err, ERR_MODEL, "%.160s: __metadata__ '%.60s' must be a string", name,
                           item->string);
    return 0;
}

/* A whole number below 2^53, which a double holds exactly; digits were checked before. */
static bool get_u64(const cJSON *item, uint64_t *out) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble < 0x1p53))
        return false;
    *out = (uint64_t)item->valuedouble;
    return true;
}

static int read_shape(const cJSON *shape, struct checkpoint_tensor *t, struct err *err) {
    if (!cJSON_IsArray(shape)) return err_set(err, ERR_MODEL, "shape must be an array");
    for (const cJSON *dim = shape->child; dim; dim = dim->next) {
        if (t->n_dims == MAX_DIMS)
            return err_set(err, ERR_MODEL, "has more than %d dimensions", MAX_DIMS);
        if (!get_u64(dim, &t->dims[t->n_dims++]))
            return err_set(err, ERR_MODEL, "dimension %d is no whole number below 2^53", t->n_dims);
    }
    return 0;
}

/* data_offsets [begin, end) must be within n_data and as long as type and shape say. */
static int read_place(const cJSON *offsets, const struct dtype *dtype, const unsigned char *data,
                      uint64_t n_data, struct checkpoint_tensor *t, struct err *err) {
    uint64_t begin, end, elements, bits;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !get_u64(offsets->child, &begin) || !get_u64(offsets->child->next, &end))
        return err_set(err, ERR_MODEL, "data_offsets must be two whole numbers");
    if (begin > end || end > n_data)
        return err_set(
            err, ERR_MODEL, "data_offsets [%llu, %llu] are not within the %llu bytes of data",
            (unsigned long long)begin, (unsigned long long)end, (unsigned long long)n_data);
    if (!tensor_elements(t, &elements) || !checked_mul(elements, dtype->bits, &bits))
        return err_set(err, ERR_MODEL, "the product of its shape does not fit 64 bits");
    if (bits % 8 != 0)
        return err_set(err, ERR_MODEL, "%s with this shape does not fill whole bytes", dtype->name);
    if (bits / 8 != end - begin)
        return err_set(err, ERR_MODEL,
                       "%s with this shape takes %llu bytes, data_offsets give %llu", dtype->name,
                       (unsigned long long)(bits / 8), (unsigned long long)(end - begin));
    t->data = data + begin;
    t->bytes = end - begin;
    return 0;
}

static int read_entry(const cJSON *entry, const unsigned char *data, uint64_t n_data,
                      struct checkpoint_tensor *t, struct err *err) {
    const cJSON *type = json_get(entry, "dtype");
    if (!cJSON_IsString(type)) return err_set(err, ERR_MODEL, "dtype must be a string");
    const struct dtype *dtype = dtype_by_name(type->valuestring);
    if (!dtype)
        return err_set(err, ERR_MODEL, "dtype '%.40s' is none of safetensors' types",
                       type->valuestring);
    int format = format_by_safetensors(dtype->name);
    t->type = dtype->name;
    t->format = format < 0 ? N_FORMATS : (enum format)format;
    if (read_shape(json_get(entry, "shape"), t, err) != 0) return -1;
    return read_place(json_get(entry, "data_offsets"), dtype, data, n_data, t, err);
}

static int compare_places(const void *a, const void *b) {
    const struct checkpoint_tensor *left = a, *right = b;
    if (left->data != right->data) return left->data < right->data ? -1 : 1;
    return left->bytes < right->bytes ? -1 : left->bytes > right->bytes;
}

/* Sorted by offset, each tensor must begin where the one before it ends, and the last end the file.
 */
static int check_layout(struct checkpoint_tensor *tensors, size_t n, const unsigned char *data,
                        uint64_t n_data, const char *name, struct err *err) {
    const unsigned char *at = data;
    if (n > 0) qsort(tensors, n, sizeof *tensors, compare_places);
    for (size_t i = 0; i < n; i++) {
        const unsigned char *begin = tensors[i].data;
        if (begin != at)
            return err_set(err, ERR_MODEL,
                           "%.160s: tensor '%.80s' begins at byte %llu of the data, but the one "
                           "before it ends at %llu: %s",
                           name, tensors[i].name, (unsigned long long)(begin - data),
                           (unsigned long long)(at - data),
                           begin < at ? "they overlap" : "there is a hole");
        at += tensors[i].bytes;
    }
    if ((uint64_t)(at - data) != n_data)
        return err_set(err, ERR_MODEL,
                       "%.160s: %llu bytes of data are listed in the header, the file has %llu",
                       name, (unsigned long long)(at - data), (unsigned long long)n_data);
    return 0;
}

static int read_entries(const cJSON *header, const unsigned char *data, uint64_t n_data,
                        const char *name, int file, struct tensor_list *out, struct err *err) {
    if (!cJSON_IsObject(header))
        return err_set(err, ERR_MODEL, "%.160s: the header must be a JSON object", name);
    size_t first = out->n;
    for (const cJSON *entry = header->child; entry; entry = entry->next) {
        if (strcmp(entry->string, "__metadata__") == 0) {
            if (check_metadata(entry, name, err) != 0) return -1;
            continue;
        }
        struct checkpoint_tensor *t =
            tensor_list_add(out, entry->string, strlen(entry->string), err);
        if (!t) return -1;
        t->file = file;
        if (read_entry(entry, data, n_data, t, err) != 0)
            return err_within(err, "%.160s: tensor '%.80s'", name, t->name);
    }
    return check_layout(tensor_list_from(out, first), out->n - first, data, n_data, name, err);
}

static uint64_t read_le64(const unsigned char *p) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | p[i];
    return value;
}

int safetensors_parse(const unsigned char *data, size_t n, const char *name, int file,
                      struct tensor_list *out, struct err *err) {
    enum file_kind kind = file_kind_of(data, n);
    if (kind != FILE_UNKNOWN && kind != FILE_SAFETENSORS)
        return err_set(err, ERR_MODEL, "%.160s: is %s", name, file_kind_text(kind));
    if (n < 8)
        return err_set(err, ERR_MODEL,
                       "%.160s: has %zu bytes, a safetensors file begins with 8 bytes of length",
                       name, n);
    uint64_t n_header = read_le64(data);
    if (n_header > MAX_HEADER_BYTES || n_header > n - 8)
        return err_set(err, ERR_MODEL,
                       "%.160s: the header is said to have %llu bytes, of %zu in the file and %d "
                       "allowed",
                       name, (unsigned long long)n_header, n - 8, MAX_HEADER_BYTES);
    const char *text = (const char *)data + 8;
    struct json_limits limits = {MAX_HEADER_BYTES, MAX_NODES, 8};
    cJSON *header = json_parse(text, (size_t)n_header, limits, err);
    if (!header) return err_within(err, "%.160s: header", name);
    int result = check_digits(text, (size_t)n_header, name, err);
    if (result == 0)
        result = read_entries(header, data + 8 + n_header, n - 8 - n_header, name, file, out, err);
    cJSON_Delete(header);
    return result;
}
