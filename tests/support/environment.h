/*
 * What a user or a CI has set (colours, a language, folders, options as QWEN_CHAT_…) does not reach
 * the program under test: environment_clear() leaves what the machine and the sanitizers need.
 */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static inline void environment_clear(void) {
    static const char *const kept[] = {"PATH", "LD_LIBRARY_PATH", "TMPDIR"};
    static const char *const prefixes[] = {"ASAN_", "UBSAN_", "LSAN_", "QWEN_TEST_",
                                           "QWEN_GOLDEN_"};
    for (char **e = environ; e && *e;) {
        size_t n = strcspn(*e, "=");
        int is_kept = 0;
        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            is_kept |= strlen(kept[i]) == n && strncmp(*e, kept[i], n) == 0;
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            is_kept |= strncmp(*e, prefixes[i], strlen(prefixes[i])) == 0;
        char name[256] = "";
        if (is_kept || n == 0 || n >= sizeof name) {
            e++;
            continue;
        }
        memcpy(name, *e, n);
        unsetenv(name); /* the next one is in its place */
    }
    setenv("LC_ALL", "C.UTF-8", 1);
}
