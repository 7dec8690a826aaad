/*
 * cJSON behind a gate. cJSON accepts more than RFC 8259, keeps duplicate keys and cuts "\u0000":
 * json_parse() first checks the text (grammar, UTF-8, depth, duplicate keys of one object, no NUL)
 * within a budget, and only then builds the tree. All messages carry line and column.
 */
#pragma once

#include "engine/base/err.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_limits {
    size_t max_bytes; /* of the text */
    size_t max_nodes; /* values of any kind */
    int max_depth;    /* <= 64 */
};

/* NULL on error (kind ERR_MODEL). The caller frees with cJSON_Delete(). */
cJSON *json_parse(const char *text, size_t n, struct json_limits limits, struct err *err);

/*
 * Members of an object. Each returns 0 and sets *out, or -1 with a sentence naming the key, the
 * range and what was found. A missing key (or null) gives `fallback`; the `_need_` forms refuse.
 * json_u64 accepts whole numbers below 2^53 only.
 */
int json_u64(const cJSON *object, const char *key, uint64_t min, uint64_t max, uint64_t fallback,
             uint64_t *out, struct err *err);
int json_need_u64(const cJSON *object, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                  struct err *err);
int json_f64(const cJSON *object, const char *key, double min, double max, double fallback,
             double *out, struct err *err);
int json_bool(const cJSON *object, const char *key, bool fallback, bool *out, struct err *err);
int json_string(const cJSON *object, const char *key, const char *fallback, const char **out,
                struct err *err);
const cJSON *json_get(const cJSON *object, const char *key); /* NULL when absent or null */
