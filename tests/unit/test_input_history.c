/* The input history: several lines, Chinese, limits, sharing, faults, and search over it. */
#include "engine/base/clock.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "ui/input_history.h"
#include "ui/search.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], path[128];

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/qwen-history-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/state/qwen-chat/history", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static void add(struct input_history *h, const char *text) {
    struct err err = {0};
    if (input_history_add(h, text, &err) != 0) fail_msg("%s", err.text);
}

static void open_at(struct input_history *h, size_t limit) {
    struct err err = {0};
    if (input_history_open(h, path, limit, &err) != 0) fail_msg("%s", err.text);
}

static void expect(const struct input_history *h, const char *const *entries, size_t n) {
    assert_int_equal(h->n, n);
    for (size_t i = 0; i < n; i++) assert_string_equal(h->entries[i], entries[i]);
}

static void test_entries_survive(void **state) {
    (void)state;
    static const char *const entries[] = {"hello", "你好，世界", "one\ntwo\n\nthree",
                                          "back\\slash \\n not a newline",
                                          "\ttab 👩‍👩‍👧 end"};
    struct input_history h;
    struct stat st;
    open_at(&h, 100);
    expect(&h, NULL, 0);
    for (int i = 0; i < 5; i++) add(&h, entries[i]);
    add(&h, entries[4]); /* the newest again, and nothing */
    add(&h, "");
    input_history_release(&h);
    open_at(&h, 100);
    expect(&h, entries, 5);
    input_history_release(&h);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    *strrchr(path, '/') = '\0';
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_limits(void **state) {
    (void)state;
    struct input_history h;
    char text[32];
    open_at(&h, 3);
    for (int i = 0; i < 10; i++) {
        snprintf(text, sizeof text, "entry %d", i);
        add(&h, text);
    }
    expect(&h, (const char *const[]){"entry 7", "entry 8", "entry 9"}, 3);
    input_history_release(&h);
    open_at(&h, 2); /* a smaller limit applies to what is on disk */
    expect(&h, (const char *const[]){"entry 8", "entry 9"}, 2);
    input_history_release(&h);
    open_at(&h, 0); /* no history */
    add(&h, "nothing");
    expect(&h, NULL, 0);
    input_history_release(&h);
}

static void test_size_is_limited(void **state) {
    (void)state;
    struct input_history h;
    char *large = mem_zalloc(1, (1 << 20) + 2);
    open_at(&h, 100);
    for (int i = 0; i < 6; i++) {
        memset(large, 'a' + i, 1 << 20);
        add(&h, large);
    }
    assert_int_equal(h.n, 3); /* 4 MiB with their newlines do not hold four */
    assert_int_equal(h.entries[2][0], 'f');
    mem_free(large);
    input_history_release(&h);
}

static void test_instances_share(void **state) {
    (void)state;
    struct input_history a, b;
    open_at(&a, 100);
    open_at(&b, 100);
    add(&a, "a1");
    add(&b, "b1");
    add(&a, "a2");
    expect(&a, (const char *const[]){"a1", "b1", "a2"}, 3);
    input_history_release(&a);
    input_history_release(&b);
}

/* Writes all its entries; the longest that one of them took, in seconds, or -1 for a failure. */
static double write_all(int writer, int n) {
    struct input_history h;
    struct err err;
    char text[32];
    double longest = 0;
    if (input_history_open(&h, path, 1000, &err) != 0) return -1;
    for (int i = 0; i < n && longest >= 0; i++) {
        snprintf(text, sizeof text, "%d/%d", writer, i);
        double begin = clock_seconds();
        bool is_added = input_history_add(&h, text, &err) == 0;
        double seconds = clock_seconds() - begin;
        if (seconds > longest) longest = seconds;
        if (!is_added) longest = -1;
    }
    input_history_release(&h);
    return longest;
}

/* Every entry of each is there at the end: true. A writer that has waited for a second writes
 * without the lock, so that one which was stopped holds up no other: where that may have been the
 * case (a slow disk, a processor that was away) a missing entry is no fault, and the answer false.
 */
static bool writers_keep_all(void) {
    enum { WRITERS = 4, ENTRIES = 25, WAITED = 2 };
    bool has_waited = false;
    for (int w = 0; w < WRITERS; w++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child != 0) continue;
        double longest = write_all(w, ENTRIES);
        _exit(longest < 0 ? 1 : longest >= 0.99 ? WAITED : 0);
    }
    for (int w = 0, status; w < WRITERS; w++) {
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == WAITED) has_waited = true;
        if (WEXITSTATUS(status) != WAITED) assert_int_equal(status, 0);
    }
    struct input_history h;
    open_at(&h, 1000);
    size_t n = h.n;
    input_history_release(&h);
    if (!has_waited) assert_int_equal(n, WRITERS * ENTRIES);
    return n == WRITERS * ENTRIES;
}

static void test_writers_at_once(void **state) {
    bool is_whole = false;
    for (int i = 0; i < 10 && !is_whole; i++) {
        remove_folder(state);
        make_folder(state);
        is_whole = writers_keep_all();
    }
    if (!is_whole) print_message("writers waited for a second each time: nothing can be said\n");
}

/* Every call of io fails once, in turn: the file is then the old or the new one. */
static void test_every_fault(void **state) {
    (void)state;
    static const int codes[] = {ENOSPC, EIO, EROFS};
    struct input_history h;
    open_at(&h, 100);
    add(&h, "kept");
    input_history_release(&h);
    for (int c = 0; c < 3; c++) {
        for (unsigned long n = 1; n < 40; n++) {
            struct err err = {0};
            io_fail_at(n, codes[c], false);
            if (input_history_open(&h, path, 100, &err) == 0) input_history_add(&h, "new", &err);
            input_history_release(&h);
            io_fail_at(0, 0, false);
            open_at(&h, 100);
            assert_true(h.n >= 1);
            assert_string_equal(h.entries[0], "kept");
            for (size_t i = 1; i < h.n; i++) assert_string_equal(h.entries[i], "new");
            input_history_release(&h);
        }
    }
}

static void test_every_allocation_fails(void **state) {
    (void)state;
    for (unsigned long n = 1; n < 60; n++) {
        struct input_history h;
        struct err err;
        mem_fail_at(n, false);
        if (input_history_open(&h, path, 100, &err) == 0) {
            input_history_add(&h, "one\ntwo", &err);
            input_history_add(&h, "three", &err);
        }
        input_history_release(&h);
        mem_fail_at(0, false);
    }
    struct input_history h;
    open_at(&h, 100);
    assert_string_equal(h.entries[h.n - 1], "three");
    input_history_release(&h);
}

static void write_file(const void *data, size_t n) {
    struct err err = {0};
    *strrchr(path, '/') = '\0';
    assert_int_equal(io_make_folders(path, 0700, &err), 0);
    path[strlen(path)] = '/';
    assert_int_equal(io_write_atomic(path, 0600, data, n, &err), 0);
}

static void test_damaged_file(void **state) {
    (void)state;
    static const char damaged[] = "good\n\n\xff\xfe bad\x1b[31m\0nul\n\\\nlast without newline";
    struct input_history h;
    write_file(damaged, sizeof damaged - 1);
    open_at(&h, 100);
    expect(&h,
           (const char *const[]){"good", "\xEF\xBF\xBD\xEF\xBF\xBD bad␛[31m␀nul", "\\",
                                 "last without newline"},
           4);
    input_history_release(&h);
}

/* What cannot be read is neither used nor replaced. */
static void test_unusable_path(void **state) {
    (void)state;
    struct input_history h;
    struct err err = {0};
    assert_int_equal(io_make_folders(path, 0700, &err), 0); /* a folder of that name */
    assert_int_equal(input_history_open(&h, path, 100, &err), -1);
    assert_int_equal(err.kind, ERR_IO);
    add(&h, "in memory");
    expect(&h, (const char *const[]){"in memory"}, 1);
    assert_true(io_is_folder(path));
    input_history_release(&h);
}

/* --- search ---------------------------------------------------------------------------------- */

static struct input_history history_of(const char *const *entries, size_t n) {
    struct input_history h;
    assert_int_equal(input_history_open(&h, NULL, 100, NULL), 0);
    for (size_t i = 0; i < n; i++) add(&h, entries[i]);
    return h;
}

static void type(struct search *s, const char *text) {
    search_type(s, text, strlen(text));
}

static void test_search(void **state) {
    (void)state;
    static const char *const entries[] = {"秋天的叶子", "的确不一", "Write a Haiku", "春天的花",
                                          "write about 秋天"};
    struct input_history h = history_of(entries, 5);
    struct search s = {0};
    search_begin(&s, &h);
    assert_null(search_match(&s));
    type(&s, "的");
    assert_string_equal(search_match(&s), "春天的花");
    assert_int_equal(s.offset, 6);
    search_older(&s);
    assert_string_equal(search_match(&s), "的确不一");
    type(&s, "确");
    assert_string_equal(search_match(&s), "的确不一");
    search_older(&s);
    assert_true(s.is_failing);
    assert_string_equal(search_match(&s), "的确不一"); /* the last match stands */
    search_erase(&s);
    assert_string_equal(search_match(&s), "春天的花");
    search_erase(&s);
    assert_null(search_match(&s));
    type(&s, "write");
    assert_string_equal(search_match(&s), "write about 秋天");
    search_older(&s);
    assert_string_equal(search_match(&s), "Write a Haiku"); /* small letters match both */
    search_newer(&s);
    assert_string_equal(search_match(&s), "write about 秋天");
    search_begin(&s, &h);
    type(&s, "Write");
    assert_string_equal(search_match(&s), "Write a Haiku");
    type(&s, "!");
    assert_true(s.is_failing);
    search_release(&s);
    input_history_release(&h);
}

/* Every common Chinese character is found: the reason for a search of our own. */
static void test_search_every_han(void **state) {
    (void)state;
    struct input_history h;
    assert_int_equal(input_history_open(&h, NULL, 10, NULL), 0);
    add(&h, "older");
    for (uint32_t c = 0x4E00; c < 0xA000; c++) {
        struct search s = {0};
        struct buf text = {0};
        buf_puts(&text, "x");
        buf_put_utf8(&text, c);
        add(&h, text.data);
        search_begin(&s, &h);
        search_type(&s, text.data + 1, text.n - 1);
        assert_non_null(search_match(&s));
        assert_string_equal(search_match(&s), text.data);
        search_release(&s);
        buf_release(&text);
    }
    input_history_release(&h);
}

static void test_search_empty_history(void **state) {
    (void)state;
    struct input_history h = history_of(NULL, 0);
    struct search s = {0};
    search_begin(&s, &h);
    search_older(&s);
    search_newer(&s);
    search_erase(&s);
    type(&s, "a");
    assert_null(search_match(&s));
    assert_true(s.is_failing);
    search_release(&s);
    input_history_release(&h);
}

int main(void) {
#define FRESH(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        FRESH(test_entries_survive),
        FRESH(test_limits),
        FRESH(test_size_is_limited),
        FRESH(test_instances_share),
        FRESH(test_writers_at_once),
        FRESH(test_every_fault),
        FRESH(test_every_allocation_fails),
        FRESH(test_damaged_file),
        FRESH(test_unusable_path),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_search_every_han),
        cmocka_unit_test(test_search_empty_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
