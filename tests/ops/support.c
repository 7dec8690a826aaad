/* Guarded memory, random data and comparisons of the op tests. */
#include "tests/ops/ops_test.h"

#include "kernels/decode.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- memory ---- */

enum { WATCHED = 256, PATTERN = 0x5a };

static struct guarded {
    unsigned char *map;
    size_t map_bytes;
    unsigned char *data;
} * all;
static size_t n_all, n_room;

void *test_alloc(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t readable = (bytes + WATCHED + page - 1) / page * page;
    unsigned char *map =
        mmap(NULL, readable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_equal(mprotect(map + readable, page, PROT_NONE), 0);
    unsigned char *data = map + readable - bytes;
    memset(data - WATCHED, PATTERN, WATCHED);
    memset(data, 0xff, bytes); /* NaN as float, F16 and BF16 */
    if (n_all == n_room) {
        n_room = n_room ? n_room * 2 : 64;
        all = realloc(all, n_room * sizeof *all);
        assert_non_null(all);
    }
    all[n_all++] = (struct guarded){map, readable + page, data};
    return data;
}

void test_free_all(void) {
    for (size_t i = 0; i < n_all; i++) {
        for (int k = 1; k <= WATCHED; k++) assert_int_equal(all[i].data[-k], PATTERN);
        munmap(all[i].map, all[i].map_bytes);
    }
    free(all);
    all = NULL;
    n_all = n_room = 0;
}

float *test_floats(size_t n) {
    return test_alloc(n * sizeof(float));
}

float *test_copy(const float *from, size_t n) {
    float *copy = test_floats(n);
    memcpy(copy, from, n * sizeof *copy);
    return copy;
}

/* ---- random data ---- */

static uint64_t random_state = 1;

void test_seed(uint64_t seed) {
    random_state = seed;
}

uint64_t test_random(void) { /* splitmix64 */
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

int test_random_int(int from, int to) {
    return from + (int)(test_random() % (uint64_t)(to - from + 1));
}

static double random_unit(void) {
    return ((double)(test_random() >> 11) + 0.5) * 0x1p-53;
}

static float random_normal(void) {
    return (float)(sqrt(-2 * log(random_unit())) * cos(6.283185307179586 * random_unit()));
}

float *test_random_floats(size_t n, float scale) {
    float *x = test_floats(n);
    for (size_t i = 0; i < n; i++) {
        x[i] = random_normal() * scale;
        if (test_random() % 97 == 0) x[i] *= 30;
    }
    return x;
}

/* From a random place of the pool on, whose length is a prime: rows of a matrix differ. */
float *test_pooled_floats(size_t n, float scale) {
    enum { POOL = 2000003, LARGE = 100000 };
    static float pool[POOL];
    static bool is_filled;
    if (n < LARGE) return test_random_floats(n, scale);
    for (size_t i = 0; i < POOL && !is_filled; i++) {
        pool[i] = random_normal();
        if (test_random() % 97 == 0) pool[i] *= 30;
    }
    is_filled = true;
    float *x = test_floats(n);
    for (size_t i = 0, at = (size_t)(test_random() % POOL); i < n; i++) {
        x[i] = pool[at] * scale;
        if (++at == POOL) at = 0;
    }
    return x;
}

static void random_scale(uint8_t bytes[2], float scale) {
    uint16_t half = f16_of_float(random_normal() * scale);
    bytes[0] = (uint8_t)half;
    bytes[1] = (uint8_t)(half >> 8);
}

/* One block of any bits, but scales that make values of about one. */
static void random_block(enum format format, uint8_t *block) {
    const struct format_info *info = &format_table[format];
    float value = random_normal();
    for (int i = 0; i < info->block_bytes; i++) block[i] = (uint8_t)test_random();
    switch (format) {
    case FORMAT_F32:
    case FORMAT_F16:
    case FORMAT_BF16:
        format_encode(format, &value, block, 1);
        break;
    case FORMAT_Q8_0:
        random_scale(block, 0.02f);
        break;
    case FORMAT_Q4_0:
    case FORMAT_Q5_0:
        random_scale(block, 0.1f);
        break;
    case FORMAT_Q4_1:
    case FORMAT_Q5_1:
        random_scale(block, 0.1f);
        random_scale(block + 2, 0.5f);
        break;
    case FORMAT_Q4_K:
    case FORMAT_Q5_K:
        random_scale(block, 0.004f);
        random_scale(block + 2, 0.01f);
        break;
    case FORMAT_Q6_K:
        random_scale(block + 208, 0.001f);
        break;
    case N_FORMATS:
        break;
    }
}

struct test_matrix test_random_matrix(enum format format, int rows, int cols) {
    const struct format_info *info = &format_table[format];
    size_t n = (size_t)rows * (size_t)cols, bytes = format_row_bytes(format, n);
    uint8_t *data = test_alloc(bytes); /* ends at a page: most lie at odd addresses */
    float aligned[256];
    double *values = test_alloc(n * sizeof *values);
    for (size_t i = 0; i < n / (size_t)info->block_values; i++) {
        uint8_t block[256];
        random_block(format, block);
        memcpy(data + i * (size_t)info->block_bytes, block, (size_t)info->block_bytes);
        format_decode(format, block, aligned, (size_t)info->block_values);
        for (int k = 0; k < info->block_values; k++)
            values[i * (size_t)info->block_values + (size_t)k] = (double)aligned[k];
    }
    return (struct test_matrix){{data, format, rows, cols, LAYOUT_STORED}, values};
}

struct matrix test_pack_for(struct device *device, const struct matrix *stored) {
    struct matrix packed = *stored;
    packed.layout = device->layout(device, stored->format);
    if (!layout_is_packed(packed.layout)) return packed;
    void *data = test_alloc(
        layout_bytes(packed.layout, stored->format, (size_t)stored->rows, (size_t)stored->cols));
    CHECK_OK(device->pack(device, data, stored));
    packed.data = data;
    return packed;
}

/* ---- batches ---- */

static int32_t *ints(size_t n) {
    int32_t *p = test_alloc(n * sizeof *p);
    memset(p, 0, n * sizeof *p);
    return p;
}

struct test_batch test_batch_new(int n_rows, int n_seqs, int n_outputs, int max_blocks,
                                 int head_size) {
    struct test_batch b = {
        .tokens = ints((size_t)n_rows),
        .positions = ints((size_t)n_rows),
        .seq_of = ints((size_t)n_rows),
        .slots = ints((size_t)n_rows),
        .starts = ints((size_t)n_seqs + 1),
        .block_table = ints((size_t)n_seqs * (size_t)max_blocks),
        .outputs = ints((size_t)n_outputs),
        .inv_freq = test_floats((size_t)(n_seqs * (head_size / 2))),
        .rope_scale = test_floats((size_t)n_seqs),
    };
    b.batch = (struct op_batch){.n_rows = n_rows,
                                .n_seqs = n_seqs,
                                .n_outputs = n_outputs,
                                .max_blocks = max_blocks,
                                .tokens = b.tokens,
                                .positions = b.positions,
                                .seq_of = b.seq_of,
                                .slots = b.slots,
                                .starts = b.starts,
                                .block_table = b.block_table,
                                .inv_freq = b.inv_freq,
                                .rope_scale = b.rope_scale,
                                .outputs = b.outputs};
    for (int s = 0; s < n_seqs; s++) {
        b.rope_scale[s] = 1;
        for (int i = 0; i < head_size / 2; i++)
            b.inv_freq[s * (head_size / 2) + i] =
                (float)pow(10000.0 * (s + 1), -2.0 * i / head_size);
    }
    return b;
}

/* ---- comparisons ---- */

static size_t n_compared;

size_t test_n_compared(void) {
    return n_compared;
}

void test_close(const float *got, const double *expected, size_t n, double tolerance,
                const char *file, int line) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += expected[i] * expected[i];
    double scale = sqrt(squares / (double)n);
    for (size_t i = 0; i < n; i++) {
        double bound = tolerance * fmax(scale, fabs(expected[i]));
        if (fabs((double)got[i] - expected[i]) <= bound) continue;
        print_error("%s:%d: value %zu of %zu is %.9g, expected %.9g, error %.3g of %.3g\n", file,
                    line, i, n, (double)got[i], expected[i], fabs((double)got[i] - expected[i]),
                    bound);
        fail();
    }
    n_compared += n;
}

void test_same_bits(const float *got, const float *expected, size_t n, const char *file, int line) {
    for (size_t i = 0; i < n; i++) {
        if (bits_of_float(got[i]) == bits_of_float(expected[i])) continue;
        print_error("%s:%d: value %zu of %zu is %a, expected %a\n", file, line, i, n,
                    (double)got[i], (double)expected[i]);
        fail();
    }
    n_compared += n;
}

float *test_on_devices(enum op_status (*call)(struct device *device, void *y, void *ud), void *ud,
                       size_t n, const float *initial, const double *expected, double tolerance) {
    float *first = NULL;
    for (int d = 0; d < N_TEST_DEVICES; d++) {
        float *y = initial ? test_copy(initial, n) : test_floats(n);
        CHECK_OK(call(test_devices[d], y, ud));
        if (d <= DEVICE_AVX2) CHECK_CLOSE(y, expected, n, tolerance);
        if (d == DEVICE_ONE) first = y;
        if (d > DEVICE_AVX2) CHECK_SAME_BITS(y, first, n);
    }
    return first;
}
