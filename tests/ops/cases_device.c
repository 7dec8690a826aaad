/* The device around the ops: what it refuses, memory, recordings, names, and the thread team. */
#include "tests/ops/ops_test.h"

#include "kernels/cpu/machine.h"
#include "kernels/cpu/threads.h"
#include "kernels/cpu/variants.h"

#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Sanitizers reserve terabytes of addresses, so addresses cannot be limited under them. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SHADOW_MEMORY 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW_MEMORY 1
#endif
#ifndef HAS_SHADOW_MEMORY
#define HAS_SHADOW_MEMORY 0
#endif

/* ---- what ops refuse ---- */

#define REFUSES(status, d, name, ...)                                                              \
    assert_int_equal((d)->ops->name((d), &(struct op_##name){__VA_ARGS__}), status)

static void test_bad_shapes(void **state) {
    (void)state;
    struct device *d = test_devices[DEVICE_TWO];
    float *x = test_random_floats(512, 1), *y = test_floats(512);
    struct test_matrix good = test_random_matrix(FORMAT_Q4_0, 2, 64);
    struct matrix torn = good.matrix, odd = good.matrix, empty = good.matrix;
    struct test_batch b = test_batch_new(1, 1, 1, 1, 4);
    struct op_batch no_rows = b.batch, no_outputs = b.batch;
    struct kv_view kv = {y, y, FORMAT_F32, 4, 2, 4}, wide = kv, quantized = kv;
    torn.cols = 48;
    odd.format = N_FORMATS;
    empty.rows = 0;
    no_rows.n_rows = 0;
    no_outputs.n_outputs = 0;
    wide.head_size = MAX_HEAD_SIZE + 1;
    quantized.format = FORMAT_Q8_0;

    REFUSES(OP_BAD_SHAPE, d, linear, .y = y, .x = x, .w = &torn, .rows = 1);
    REFUSES(OP_BAD_FORMAT, d, linear, .y = y, .x = x, .w = &odd, .rows = 1);
    REFUSES(OP_BAD_SHAPE, d, linear, .y = y, .x = x, .w = &empty, .rows = 1);
    REFUSES(OP_BAD_SHAPE, d, linear, .y = y, .x = x, .w = &good.matrix, .rows = 0);
    REFUSES(OP_BAD_SHAPE, d, linear, .y = y, .x = x, .w = NULL, .rows = 1);
    REFUSES(OP_BAD_SHAPE, d, embed, .y = y, .table = &good.matrix, .batch = &no_rows);
    REFUSES(OP_BAD_SHAPE, d, embed, .y = y, .table = &torn, .batch = &b.batch);
    REFUSES(OP_BAD_SHAPE, d, rms_norm, .y = y, .x = x, .weight = x, .rows = 1, .n = 0);
    REFUSES(OP_BAD_SHAPE, d, rms_norm, .y = y, .x = x, .weight = x, .rows = -1, .n = 4);
    REFUSES(OP_BAD_SHAPE, d, rope, y, 1, false, {3, false, 0}, &b.batch);
    REFUSES(OP_BAD_SHAPE, d, rope, y, 0, false, {4, false, 0}, &b.batch);
    REFUSES(OP_BAD_SHAPE, d, rope, y, 1, false, {MAX_HEAD_SIZE + 2, false, 0}, &b.batch);
    REFUSES(OP_BAD_SHAPE, d, kv_write, x, x, wide, &b.batch);
    REFUSES(OP_BAD_FORMAT, d, kv_write, x, x, quantized, &b.batch);
    REFUSES(OP_BAD_SHAPE, d, attention, y, x, kv, 3, 0, 1, &b.batch);
    REFUSES(OP_BAD_SHAPE, d, attention, y, x, kv, 2, -1, 1, &b.batch);
    REFUSES(OP_BAD_FORMAT, d, attention, y, x, quantized, 2, 0, 1, &b.batch);
    REFUSES(OP_BAD_SHAPE, d, silu_mul, y, x, x, 0);
    REFUSES(OP_BAD_SHAPE, d, gather, y, x, 4, &no_outputs);
    REFUSES(OP_BAD_SHAPE, d, head, y, x, x, &good.matrix, 1, &no_outputs, y);
    REFUSES(OP_BAD_SHAPE, d, gate_up, y, x, x, &good.matrix, &torn, 1, 1, y);
    REFUSES(OP_BAD_SHAPE, d, qkv, .q = y, .x = x, .norm = x, .wq = &good.matrix, .wk = &good.matrix,
            .wv = &good.matrix, .rope = {4, false, 0}, .kv = kv, .heads = 1, .batch = &b.batch,
            .scratch = y);
    for (int i = 0; i < 512; i++) assert_true(isnan(y[i])); /* nothing ran */
}

static void test_status_texts(void **state) {
    (void)state;
    for (int s = OP_OK; s <= OP_NOT_FINITE; s++) {
        assert_string_not_equal(op_status_text((enum op_status)s), "unknown status");
        for (int other = OP_OK; other < s; other++)
            assert_string_not_equal(op_status_text((enum op_status)s),
                                    op_status_text((enum op_status)other));
    }
}

/* ---- device ---- */

static void test_device_facts(void **state) {
    (void)state;
    const char *ends[N_TEST_DEVICES] = {[DEVICE_ONE] = ", 1 thread, ",
                                        [DEVICE_BASELINE] = ", 2 threads, baseline",
                                        [DEVICE_SEVEN] = ", 7 threads, "};
    if (cpu_features() & CPU_AVX2) ends[DEVICE_AVX2] = ", 2 threads, AVX2";
    for (int d = 0; d < N_TEST_DEVICES; d++)
        if (ends[d]) assert_non_null(strstr(test_devices[d]->name, ends[d]));
    struct device_memory memory;
    struct device *device = test_devices[DEVICE_ONE];
    device->memory(device, &memory);
    assert_true(memory.total_bytes >= 64u << 20);
    assert_true(memory.free_bytes > 0 && memory.free_bytes <= memory.total_bytes);
    assert_in_range(machine_threads(), 1, machine_processors());
    if (cpu_features() == (CPU_AVX2 | CPU_FMA | CPU_F16C))
        assert_string_equal(device_cpu_features(), "AVX2 FMA F16C");
    assert_ptr_equal(cpu_variant_pick(0, NULL), &variant_baseline);
    assert_ptr_equal(cpu_variant_pick(CPU_AVX2 | CPU_FMA, NULL), &variant_baseline);
    assert_ptr_equal(cpu_variant_pick(~0u, "baseline"), &variant_baseline);
    assert_ptr_equal(cpu_variant_pick(~0u, "no such"), &variant_baseline);
#if defined(__x86_64__)
    assert_ptr_equal(cpu_variant_pick(~0u, NULL), &variant_avx512_bf16);
    assert_ptr_equal(cpu_variant_pick(~0u & ~(unsigned)CPU_BF16, NULL), &variant_avx512_vnni);
    assert_ptr_equal(cpu_variant_pick(~0u & ~(unsigned)CPU_VNNI, NULL), &variant_avx512);
    assert_ptr_equal(cpu_variant_pick(~0u & ~(unsigned)CPU_AVX512, NULL), &variant_avx2);
    assert_ptr_equal(cpu_variant_pick(~0u, "AVX-512 VNNI"), &variant_avx512_vnni);
    assert_ptr_equal(cpu_variant_pick(~0u, "AVX2"), &variant_avx2);
#endif
}

static void test_device_memory(void **state) {
    (void)state;
    struct device *d = test_devices[DEVICE_TWO];
    for (size_t bytes = 0; bytes < 300; bytes += 7) {
        char text[300] = "to the device and back", back[300];
        char *memory = d->alloc(d, bytes);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        CHECK_OK(d->upload(d, memory, text, bytes));
        CHECK_OK(d->sync(d));
        CHECK_OK(d->download(d, back, memory, bytes));
        assert_memory_equal(back, text, bytes);
        d->release(d, memory);
    }
    assert_null(d->alloc(d, SIZE_MAX));
    struct device *none = d;
    assert_int_equal(device_cpu_open(&none, &(struct device_cpu_options){.threads = 1 << 20}),
                     OP_BAD_SHAPE);
    assert_null(none);
    d->release(d, NULL);
}

static void test_recording_rules(void **state) {
    (void)state;
    struct device *d = test_devices[DEVICE_TWO];
    struct recording *recording;
    float *x = test_random_floats(8, 1), *y = test_floats(8);
    assert_int_equal(d->record_end(d, &recording), OP_NOT_SUPPORTED); /* none begun */

    CHECK_OK(d->record_begin(d));
    assert_int_equal(d->record_begin(d), OP_NOT_SUPPORTED);
    CHECK_OK(d->record_end(d, &recording));
    CHECK_OK(d->replay(d, recording)); /* of nothing */
    d->recording_free(d, recording);
    d->recording_free(d, NULL);

    CHECK_OK(d->record_begin(d)); /* one that lacks an op is none */
    REFUSES(OP_BAD_SHAPE, d, silu_mul, y, x, x, 0);
    REFUSES(OP_OK, d, silu_mul, y, x, x, 8);
    assert_int_equal(d->record_end(d, &recording), OP_BAD_SHAPE);
    assert_null(recording);

    CHECK_OK(d->record_begin(d)); /* longer than the first room, arguments are copied */
    for (int i = 0; i < 200; i++) {
        struct op_silu_mul op = {y, i ? y : x, x, 8};
        CHECK_OK(d->ops->silu_mul(d, &op));
        memset(&op, 0, sizeof op);
    }
    CHECK_OK(d->record_end(d, &recording));
    CHECK_OK(d->replay(d, recording));
    float *expected = test_floats(8);
    for (int i = 0; i < 200; i++) REFUSES(OP_OK, d, silu_mul, expected, i ? expected : x, x, 8);
    CHECK_SAME_BITS(y, expected, 8);
    d->recording_free(d, recording);
}

/* ---- team ---- */

enum { MAX_TEAM = 7, N_ITEMS = 1000 };

struct team_case {
    struct team *team;
    int n_ran[MAX_TEAM], n_wrong;
    atomic_int taken[N_ITEMS], taken_of[MAX_TEAM][N_ITEMS];
    long shared[MAX_TEAM]; /* written before a barrier, read by others after it */
    bool is_slow;
};

/* One's own items, then those of everybody else. */
static void take_of_all(struct team_case *c, int index) {
    int size = team_size(c->team);
    for (int k = 0; k < size; k++) {
        int whose = (index + k) % size;
        for (size_t item; (item = team_take_of(c->team, whose)) < N_ITEMS;)
            atomic_fetch_add(&c->taken_of[whose][item], 1);
    }
}

static void team_work(void *arg, int index) {
    struct team_case *c = arg;
    int size = team_size(c->team);
    c->n_ran[index]++;
    for (int round = 1; round <= 3; round++) {
        c->shared[index] = round * 100 + index;
        for (size_t item; (item = team_take(c->team, 3)) < N_ITEMS;)
            for (size_t i = item; i < item + 3 && i < N_ITEMS; i++)
                atomic_fetch_add(&c->taken[i], 1);
        if (round != 2) take_of_all(c, index); /* counts of a phase that nobody took in are 0 too */
        if (c->is_slow && index == round % size) usleep(2000); /* the others go to sleep */
        team_barrier(c->team);
        if (c->shared[(index + 1) % size] != round * 100 + (index + 1) % size) c->n_wrong++;
        team_barrier(c->team);
    }
}

static void test_team(void **state) {
    (void)state;
    for (int size = 1; size <= MAX_TEAM; size += 2) {
        struct team_case c = {.team = team_create(size)};
        assert_non_null(c.team);
        int n_runs = 0;
        for (; n_runs < 300; n_runs++) {
            c.is_slow = n_runs % 50 == 0;
            if (n_runs % 60 == 0) usleep(2000); /* between runs too */
            team_run(c.team, team_work, &c);
        }
        assert_int_equal(c.n_wrong, 0);
        for (int i = 0; i < size; i++) assert_int_equal(c.n_ran[i], n_runs);
        for (int i = 0; i < N_ITEMS; i++) assert_int_equal(c.taken[i], n_runs * 3);
        for (int i = 0; i < size * N_ITEMS; i++)
            assert_int_equal(c.taken_of[i / N_ITEMS][i % N_ITEMS], n_runs * 2);
        team_free(c.team);
    }
    team_free(NULL);
}

/* Where only some threads can be started there is no team, and those end. A child process, so that
 * the limit on its memory is its own. */
static void test_team_cannot_start(void **state) {
    (void)state;
    if (HAS_SHADOW_MEMORY) skip();
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        struct rlimit limit = {160 << 20, 160 << 20}; /* stacks are 8 MB each */
        alarm(20);
        setrlimit(RLIMIT_AS, &limit);
        bool is_refused = team_create(200) == NULL;
        struct team *small = team_create(2);
        team_free(small);
        _exit(is_refused && small ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void add_device_cases(void) {
    test_add("bad shapes", test_bad_shapes);
    test_add("status texts", test_status_texts);
    test_add("device facts", test_device_facts);
    test_add("device memory", test_device_memory);
    test_add("recording rules", test_recording_rules);
    test_add("thread team", test_team);
    test_add("thread team cannot start", test_team_cannot_start);
}
