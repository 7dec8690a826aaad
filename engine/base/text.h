/* What <string.h> lacks. */
#pragma once

#include <stdbool.h>
#include <string.h>

static inline bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}
