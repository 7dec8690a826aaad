/* What every refusal must be: one sentence of the right kind that names what was wrong. */
#pragma once

#include "engine/base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

static inline void assert_sentence(const char *name, const struct err *err, const char *part) {
    size_t n = strlen(err->text);
    bool is_kind = err->kind == ERR_MODEL || err->kind == ERR_IO;
    if (is_kind && n >= 15 && n < 400 && !strchr(err->text, '\n') && strstr(err->text, part))
        return;
    print_message("%s: kind %d, %zu bytes, without '%s': %s\n", name, (int)err->kind, n, part,
                  err->text);
    fail();
}
