/* engine/base: errors, memory, byte strings and files, with every injected fault. */
#include "engine/base/buf.h"
#include "engine/base/checked.h"
#include "engine/base/err.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/qwen-chat-base-XXXXXX";
static char path[PATH_MAX];

static const char *in_folder(const char *name) {
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static void test_err_sentence(void **state) {
    (void)state;
    struct err err = {0};
    assert_int_equal(err_set(&err, ERR_MODEL, "tensor \"%s\" has %d", "a\033[31m", 3), -1);
    assert_int_equal(err.kind, ERR_MODEL);
    assert_null(strchr(err.text, '\033'));
    assert_int_equal(err_within(&err, "%s", "file.gguf"), -1);
    assert_memory_equal(err.text, "file.gguf: tensor", 17);
    assert_int_equal(err.kind, ERR_MODEL);
    assert_int_equal(err_set(NULL, ERR_IO, "nobody listens"), -1);
}

static void test_err_long_name_is_cut(void **state) {
    (void)state;
    struct err err = {0};
    char name[5000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    err_set(&err, ERR_IO, "%s", name);
    err_within(&err, "%s", name);
    assert_true(strlen(err.text) < sizeof err.text);
}

static void test_checked(void **state) {
    (void)state;
    uint64_t out;
    assert_true(checked_mul(1ull << 32, 1ull << 31, &out));
    assert_false(checked_mul(1ull << 32, 1ull << 32, &out));
    assert_false(checked_add(UINT64_MAX, 1, &out));
    assert_true(checked_range(10, 0, 10));
    assert_false(checked_range(10, 1, 10));
    assert_false(checked_range(UINT64_MAX, 2, 10));
}

static void test_mem_faults(void **state) {
    (void)state;
    mem_fail_at(2, false);
    void *a = mem_alloc(8), *b = mem_alloc(8), *c = mem_alloc(8);
    assert_non_null(a);
    assert_null(b);
    assert_non_null(c);
    mem_fail_at(1, true);
    assert_null(mem_strdup("x"));
    assert_null(mem_zalloc(1, 1));
    mem_fail_at(0, false);
    assert_null(mem_resize(NULL, SIZE_MAX, 2));
    mem_free(a);
    mem_free(c);
}

static void test_mem_grow(void **state) {
    (void)state;
    int *array = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(mem_grow((void **)&array, &capacity, (size_t)i + 1, sizeof *array), 0);
        array[i] = i;
    }
    assert_int_equal(array[999], 999);
    assert_int_equal(mem_grow((void **)&array, &capacity, SIZE_MAX, sizeof *array), -1);
    mem_free(array);
}

static void test_buf(void **state) {
    (void)state;
    struct buf buf = {0};
    buf_printf(&buf, "%d-%s", 7, "seven");
    buf_put_utf8(&buf, 0x6839);
    assert_string_equal(buf.data, "7-seven根");
    buf_clear(&buf);
    buf_put_json(&buf, "a\"\\\n\x01é", 7);
    assert_string_equal(buf.data, "\"a\\\"\\\\\\n\\u0001é\"");
    mem_fail_at(1, false);
    for (int i = 0; i < 100; i++) buf_puts(&buf, "longer than there is room");
    mem_fail_at(0, false);
    assert_true(buf.failed);
    buf_release(&buf);
    assert_null(buf.data);
}

static void test_read_file(void **state) {
    (void)state;
    struct err err;
    struct buf buf = {0};
    assert_int_equal(io_write_atomic(in_folder("a"), 0600, "hello", 5, &err), 0);
    assert_int_equal(io_read_file(path, 5, &buf, &err), 0);
    assert_string_equal(buf.data, "hello");
    assert_int_equal(io_read_file(path, 4, &buf, &err), -1);
    assert_int_equal(err.kind, ERR_IO);
    assert_int_equal(io_read_file(folder, 100, &buf, &err), -1);
    assert_non_null(strstr(err.text, "is a folder"));
    assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
    assert_int_equal(io_read_file(path, 100, &buf, &err), -1); /* and does not hang */
    assert_int_equal(io_read_file(in_folder("none"), 100, &buf, &err), -1);
    buf_release(&buf);
}

/* After a fault at any call the file is the old one or the new one, and no temporary is left. */
static void test_write_atomic_faults(void **state) {
    (void)state;
    struct err err;
    char target[PATH_MAX];
    snprintf(target, sizeof target, "%s", in_folder("kept"));
    assert_int_equal(io_write_atomic(target, 0600, "old", 3, &err), 0);
    unsigned long before = io_count();
    assert_int_equal(io_write_atomic(target, 0600, "old", 3, &err), 0);
    unsigned long n = io_count() - before;
    assert_true(n >= 5);
    for (unsigned long i = 1; i <= n; i++) {
        io_fail_at(i, ENOSPC, true);
        int result = io_write_atomic(target, 0600, "new", 3, &err);
        io_fail_at(0, 0, false);
        struct buf buf = {0};
        assert_int_equal(io_read_file(target, 100, &buf, &err), 0);
        assert_string_equal(buf.data, result == 0 ? "new" : "old");
        buf_release(&buf);
        char temporary[PATH_MAX + 32];
        snprintf(temporary, sizeof temporary, "%s.%ld.tmp", target, (long)getpid());
        assert_false(io_exists(temporary));
        assert_int_equal(io_write_atomic(target, 0600, "old", 3, &err), 0);
    }
}

static void test_append_and_folders(void **state) {
    (void)state;
    struct err err;
    struct buf buf = {0};
    int fd;
    char deep[PATH_MAX];
    snprintf(deep, sizeof deep, "%s", in_folder("x/y/z"));
    assert_int_equal(io_make_folders(deep, 0700, &err), 0);
    assert_int_equal(io_make_folders(deep, 0700, &err), 0);
    assert_true(io_is_folder(deep));
    assert_int_equal(io_append_open(in_folder("x/y/z/j"), 0600, &fd, &err), 0);
    assert_int_equal(io_append(fd, "one\n", 4, &err), 0);
    assert_int_equal(io_append(fd, "two\n", 4, &err), 0);
    io_fail_at(1, EIO, false);
    assert_int_equal(io_append(fd, "three\n", 6, &err), -1);
    io_fail_at(0, 0, false);
    io_close(fd);
    assert_int_equal(io_read_file(path, 100, &buf, &err), 0);
    assert_string_equal(buf.data, "one\ntwo\n");
    buf_release(&buf);
}

/* A file that shrinks under its map reads as zeros and says so; other maps are not touched. */
static void test_map_survives_truncation(void **state) {
    (void)state;
    struct err err;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *pages = malloc(4 * page);
    memset(pages, 'm', 4 * page);
    assert_int_equal(io_write_atomic(in_folder("map"), 0600, pages, 4 * page, &err), 0);
    free(pages);
    struct io_map map, other;
    assert_int_equal(io_map_open(&map, path, &err), 0);
    assert_int_equal(io_map_open(&other, in_folder("a"), &err), 0);
    assert_int_equal(map.data[3 * page], 'm');
    assert_false(io_map_failed(&map));
    assert_int_equal(truncate(in_folder("map"), (off_t)page), 0);
    volatile const unsigned char *bytes = map.data;
    unsigned char copy[100];
    io_map_copy(copy, map.data + page - 50, sizeof copy);
    for (size_t i = 0; i < sizeof copy; i++) assert_int_equal(copy[i], i < 50 ? 'm' : 0);
    assert_true(io_map_failed(&map));
    assert_int_equal(bytes[2 * page + 5], 0);
    assert_false(io_map_failed(&other));
    io_map_close(&map);
    io_map_close(&other);
}

/* From a map and from memory. */
static void test_map_copy(void **state) {
    (void)state;
    struct err err;
    struct io_map map;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), n = 3 * page;
    unsigned char *bytes = malloc(n), *copy = malloc(n);
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)(i * 7 + i / 251);
    assert_int_equal(io_write_atomic(in_folder("copied"), 0600, bytes, n, &err), 0);
    assert_int_equal(io_map_open(&map, path, &err), 0);
    io_map_copy(copy, map.data + 5, n - 5);
    assert_memory_equal(copy, bytes + 5, n - 5);
    io_map_copy(copy, bytes + 3, 1000);
    assert_memory_equal(copy, bytes + 3, 1000);
    assert_false(io_map_failed(&map));
    io_map_close(&map);
    free(bytes);
    free(copy);
}

static void test_empty_map(void **state) {
    (void)state;
    struct err err;
    struct io_map map;
    assert_int_equal(io_write_atomic(in_folder("empty"), 0600, "", 0, &err), 0);
    assert_int_equal(io_map_open(&map, path, &err), 0);
    assert_null(map.data);
    assert_false(io_map_failed(&map));
    io_map_close(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err_sentence),
        cmocka_unit_test(test_err_long_name_is_cut),
        cmocka_unit_test(test_checked),
        cmocka_unit_test(test_mem_faults),
        cmocka_unit_test(test_mem_grow),
        cmocka_unit_test(test_buf),
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_write_atomic_faults),
        cmocka_unit_test(test_append_and_folders),
        cmocka_unit_test(test_map_survives_truncation),
        cmocka_unit_test(test_map_copy),
        cmocka_unit_test(test_empty_map),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
