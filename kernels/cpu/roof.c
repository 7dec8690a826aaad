/*
 * Each thread reads one piece of the memory from its beginning to its end, as the products of a
 * decode step do. Plain loads are enough: on two cores of an EPYC 9004 pieces in one, two, four and
 * eight streams, with prefetches and without, in 128 and in 512 bit loads all came to 30 to 34
 * GB/s.
 */
#include "kernels/cpu/roof.h"

#include "kernels/cpu/machine.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { PASSES = 3, LINE_WORDS = 8 }; /* a cache line has 8 words of 64 bits */

/* Several times the caches, so that next to nothing of a pass is there for the next one; less where
 * memory is short. */
enum { TIMES_CACHE = 8, FREE_DIVISOR = 4 };
static const uint64_t usual_bytes = 256ull << 20, most_bytes = 4ull << 30, least_bytes = 32 << 20;

static uint64_t lesser(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static uint64_t size_to_read(void) {
    uint64_t bytes = machine_cache_bytes() * TIMES_CACHE;
    if (bytes < usual_bytes) bytes = usual_bytes;
    return lesser(lesser(bytes, most_bytes), machine_memory().free_bytes / FREE_DIVISOR);
}

struct roof {
    struct team *team;
    uint64_t *words;
    size_t n_words;
    _Atomic uint64_t sum; /* so that the loads are needed */
};

static void piece(const struct roof *roof, int index, size_t *from, size_t *to) {
    size_t n_lines = roof->n_words / LINE_WORDS, n = (size_t)team_size(roof->team);
    *from = n_lines * (size_t)index / n * LINE_WORDS;
    *to = n_lines * ((size_t)index + 1) / n * LINE_WORDS;
}

/* By the thread that will read it, so that its pages lie near. */
static void write_piece(void *arg, int index) {
    struct roof *roof = arg;
    size_t from, to;
    piece(roof, index, &from, &to);
    memset(roof->words + from, 1, (to - from) * sizeof *roof->words);
}

static void read_piece(void *arg, int index) {
    struct roof *roof = arg;
    uint64_t sums[LINE_WORDS] = {0}, sum = 0;
    size_t from, to;
    piece(roof, index, &from, &to);
    for (size_t i = from; i < to; i += LINE_WORDS)
        for (size_t k = 0; k < LINE_WORDS; k++) sums[k] ^= roof->words[i + k];
    for (size_t k = 0; k < LINE_WORDS; k++) sum ^= sums[k];
    roof->sum ^= sum;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double roof_read_speed(struct team *team) {
    uint64_t bytes = size_to_read();
    if (bytes < least_bytes) return 0;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 0;
    struct roof roof = {.team = team, .words = memory, .n_words = bytes / sizeof(uint64_t)};
    double best = 0;
    team_run(team, write_piece, &roof);
    for (int i = 0; i < PASSES; i++) {
        double begin = seconds();
        team_run(team, read_piece, &roof);
        double speed = (double)bytes / (seconds() - begin);
        if (speed > best) best = speed;
    }
    munmap(memory, bytes);
    return best;
}
