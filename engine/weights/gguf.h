/*
 * One GGUF file, versions 2 and 3, little endian: a dictionary of typed values, a list of tensors,
 * and their bytes. Nothing is copied but names: values point into data.
 * Source: the GGUF specification in ggml's documentation.
 */
#pragma once

#include "engine/weights/tensor_list.h"

/* The numbers are the file's. */
enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    N_GGUF_TYPES
};

struct gguf_entry {
    struct gguf_string key;
    enum gguf_type type;
    enum gguf_type item_type;  /* of an array */
    uint64_t n_items;          /* of an array; else 1 */
    const unsigned char *data; /* the value, an array's first item; strings: after no length */
    uint64_t bytes;
};

struct gguf {
    const char *name; /* for messages; not owned */
    uint32_t version;
    struct gguf_entry *entries; /* sorted by key */
    size_t n_entries;
};

/* Adds the tensors to `tensors`. The file's bytes and `name` must outlive *g. */
int gguf_parse(struct gguf *g, const unsigned char *data, size_t n, const char *name, int file,
               struct tensor_list *tensors, struct err *err);
void gguf_release(struct gguf *g);

const struct gguf_entry *gguf_find(const struct gguf *g, const char *key);

/*
 * Values by key. An absent key gives `fallback`; the `_need_` form refuses it. Numbers of any
 * whole type are read alike; a wrong type or range is a sentence with key, range and finding.
 */
int gguf_u64(const struct gguf *g, const char *key, uint64_t min, uint64_t max, uint64_t fallback,
             uint64_t *out, struct err *err);
int gguf_need_u64(const struct gguf *g, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                  struct err *err);
int gguf_f64(const struct gguf *g, const char *key, double min, double max, double fallback,
             double *out, struct err *err);
int gguf_text(const struct gguf *g, const char *key, struct gguf_string *out, struct err *err);

/* An array of strings as slices into the file; *out is the caller's to mem_free(). Absent: NULL, 0.
 */
int gguf_strings(const struct gguf *g, const char *key, struct gguf_string **out, size_t *n,
                 struct err *err);
/* An array of 32-bit integers, copied. */
int gguf_int32s(const struct gguf *g, const char *key, int32_t **out, size_t *n, struct err *err);

bool gguf_string_is(const struct gguf_string *s, const char *text);
