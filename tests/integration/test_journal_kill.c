/*
 * kill -9 at every call that touches the disk, and half way through every write. Linked with
 * --wrap=…, so that the calls of the whole program pass here: a child plays a conversation and dies
 * at the n-th of them; the parent opens what is left. No turn that the child saw finished may be
 * missing, and what it wrote half may neither show nor hinder going on.
 */
#include "app/conversation.h"
#include "engine/base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* --- the calls -------------------------------------------------------------------------------- */

static long calls_left = -1; /* until death; -1: never */
static bool dies_half_way;   /* of a write: half of its bytes are written first */

static void tick(void) {
    if (calls_left > 0 && --calls_left == 0) raise(SIGKILL);
}

ssize_t __real_write(int fd, const void *data, size_t n);
ssize_t __wrap_write(int fd, const void *data, size_t n);
ssize_t __wrap_write(int fd, const void *data, size_t n) {
    if (dies_half_way && calls_left == 1 && __real_write(fd, data, n / 2) < 0) abort();
    tick();
    return __real_write(fd, data, n);
}

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd) {
    tick();
    return __real_fdatasync(fd);
}

int __real_ftruncate(int fd, off_t n);
int __wrap_ftruncate(int fd, off_t n);
int __wrap_ftruncate(int fd, off_t n) {
    tick();
    return __real_ftruncate(fd, n);
}

int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode) {
    tick();
    return __real_mkdir(path, mode);
}

int __real_flock(int fd, int how);
int __wrap_flock(int fd, int how);
int __wrap_flock(int fd, int how) {
    tick();
    return __real_flock(fd, how);
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd) {
    tick();
    return __real_close(fd);
}

/* --- the play --------------------------------------------------------------------------------- */

enum { ACTS = 9 };

/* One change; what it makes of the branch is the same in every run. */
static int act(struct conversation *c, int i) {
    char text[64];
    struct err err;
    int32_t ids[] = {i, 2, 3};
    struct turn turn = {.role = i % 2 ? ROLE_ASSISTANT : ROLE_USER, .content = text};
    snprintf(text, sizeof text, "turn %d, 你好\n", i);
    if (i == 4) return conversation_move(c, 2, &err);
    if (i == 5) return conversation_set_title(c, "a title", &err);
    if (turn.role == ROLE_ASSISTANT) turn.tokens = (struct tokens){.ids = ids, .n = 3};
    return conversation_add(c, &turn, &err);
}

/* In the child: plays on from where the file is, telling each finished act by one byte. */
static _Noreturn void play(const char *folder, int tell, long n, bool half_way) {
    struct conversation c;
    struct err err;
    int done = 0;
    int result = conversation_open(&c, folder, "", &err);
    if (result != 0)
        result = conversation_new(&c, folder, &err);
    else
        done = c.leaf == 2 && c.n_turns == 4 ? 5 : (int)c.n_turns + (c.n_turns > 4 ? 2 : 0);
    if (result != 0) _exit(1);
    calls_left = n;
    dies_half_way = half_way;
    for (int i = done; i < ACTS; i++) {
        if (act(&c, i) != 0) _exit(1);
        long left = calls_left;
        calls_left = -1; /* the report is not part of the play */
        if (write(tell, "", 1) != 1) _exit(1);
        calls_left = left;
    }
    conversation_release(&c);
    _exit(0);
}

/* Runs the play; how many acts were finished, and whether it reached its end. */
static int run(const char *folder, long n, bool half_way, bool *ended) {
    int ends[2], status, finished = 0;
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        play(folder, ends[1], n, half_way);
    }
    close(ends[1]);
    while (read(ends[0], &byte, 1) == 1) finished++;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    *ended = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!*ended) assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return finished;
}

/* How many turns there are after so many acts. */
static size_t turns_after(int acts) {
    return (size_t)(acts <= 4 ? acts : acts <= 6 ? 4 : acts - 2);
}

static void check(const char *folder, int finished, long n) {
    struct conversation c;
    struct err err;
    if (conversation_open(&c, folder, "", &err) != 0) {
        if (finished) fail_msg("killed at call %ld: %s", n, err.text);
        return;
    }
    if (c.n_damaged) fail_msg("killed at call %ld: %zu damaged records", n, c.n_damaged);
    if (c.n_turns < turns_after(finished) || c.n_turns > turns_after(finished) + 1)
        fail_msg("killed at call %ld: %zu turns, %d acts were finished", n, c.n_turns, finished);
    for (size_t i = 0; i < c.n_turns; i++) {
        char text[64];
        snprintf(text, sizeof text, "turn %zu, 你好\n", i < 4 ? i : i + 2);
        assert_string_equal(c.turns[i].content, text);
        if (c.turns[i].role == ROLE_ASSISTANT) assert_int_equal(c.turns[i].tokens.n, 3);
    }
    if (finished >= 6) assert_string_equal(c.title, "a title");
    if (c.n_turns > 4) assert_int_equal(c.turns[4].parent, 2);
    /* and it can be gone on with */
    const struct turn next = {.role = ROLE_USER, .content = (char *)(uintptr_t) "next"};
    size_t before = c.n_turns;
    assert_int_equal(conversation_add(&c, &next, &err), 0);
    conversation_release(&c);
    assert_int_equal(conversation_open(&c, folder, "", &err), 0);
    assert_int_equal(c.n_turns, before + 1);
    assert_int_equal(c.n_damaged, 0);
    conversation_release(&c);
}

/* Dies at call 1, 2, … of a play until one is short enough to reach its end. */
static void sweep(bool half_way) {
    bool ended = false;
    long n = 1;
    for (; !ended; n++) {
        char root[] = "/tmp/qwen-kill-XXXXXX", folder[64], command[128];
        assert_non_null(mkdtemp(root));
        snprintf(folder, sizeof folder, "%s/a/b", root);
        int finished = run(folder, n, half_way, &ended);
        check(folder, finished, n);
        snprintf(command, sizeof command, "rm -rf '%s'", root);
        assert_int_equal(system(command), 0);
    }
    print_message("killed at %ld calls\n", n - 2);
    assert_true(n > 20); /* at least a write and a sync for each act */
}

static void test_before_each_call(void **state) {
    (void)state;
    sweep(false);
}

static void test_half_way_through_each_write(void **state) {
    (void)state;
    sweep(true);
}

/* Killed, opened and gone on with, again and again, in one file. */
static void test_again_and_again(void **state) {
    (void)state;
    char root[] = "/tmp/qwen-kill-XXXXXX", folder[64], command[128];
    bool ended = false;
    int runs = 0;
    assert_non_null(mkdtemp(root));
    snprintf(folder, sizeof folder, "%s/a", root);
    for (; !ended && runs < 200; runs++) run(folder, 2 + runs % 7, runs % 2, &ended);
    assert_true(ended && runs > 2);
    check(folder, ACTS, 0);
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_before_each_call),
                                       cmocka_unit_test(test_half_way_through_each_write),
                                       cmocka_unit_test(test_again_and_again)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
