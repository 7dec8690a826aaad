/* The rows of bench.def as C, and the tests that they ask for. */
#pragma once

#include "app/bench.h"

#include "engine/base/buf.h"

enum { BENCH_MOST_VALUES = 64, BENCH_MOST_TESTS = 1024 };

struct bench_list {
    int items[BENCH_MOST_VALUES]; /* PAIRS: two numbers each */
    int n;
};

enum bench_output { BENCH_MD, BENCH_CSV, BENCH_JSON, BENCH_JSONL };

#define BENCH_LIST   struct bench_list
#define BENCH_PAIRS  struct bench_list
#define BENCH_INT    int
#define BENCH_CHOICE int
#define BENCH_TEXT   const char *
#define BENCH_MIX    const char *
#define BENCH_SWITCH bool

/* Texts point into the words that were read; NULL: not given. random_weights without a format: "".
 */
struct bench_options {
#define BENCH_OPTION(field, type, ...) BENCH_##type field;
#include "app/bench.def"
#undef BENCH_OPTION
};

enum bench_where { BENCH_IN_CHAT, BENCH_IN_PROGRAM };

/* Reads words over the defaults: "-p", "512,1024" or "--n-prompt=512". Lists may hold ranges as
 * llama-bench has them: 128-512, 128-512+128, 128-512*2. ERR_USAGE names what is wrong. */
int bench_options_read(struct bench_options *out, char *const *words, size_t n,
                       enum bench_where where, struct err *err);

void bench_options_help(struct buf *out);

/* All combinations but for threads, in the order of the table that is printed. ERR_USAGE where
 * there are none or more than BENCH_MOST_TESTS. mem_free(). */
int bench_options_tests(const struct bench_options *o, struct bench_test **tests, size_t *n,
                        struct err *err);

/* For the check of the manual: flags of row i; false behind the last one. */
struct bench_option_info {
    const char *short_name, *long_name, *argument, *fallback, *help;
};
bool bench_option_at(size_t i, struct bench_option_info *out);
