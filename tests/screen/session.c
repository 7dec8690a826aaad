/* The child sets its environment, reads its options as main() does and runs the skin. */
#include "tests/screen/session.h"

#include "app/config.h"
#include "app/language.h"
#include "engine/base/io.h"
#include "tests/support/environment.h"
#include "ui/skins.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#define ON       " and on and on and on and on and on and on and on and on and on and on and on and on"
#define ON_ON_ON ON ON ON ON ON ON ON ON ON ON ON ON ON ON ON ON ON ON ON ON
const char *const slow_answer[] = {"streaming 你好 and on and on, for a long time" ON_ON_ON, NULL};

static void set_environment(const struct session *s) {
    setenv("HOME", s->folder, 1);
    setenv("TERM", s->term ? s->term : "xterm-256color", 1);
    if (s->no_color) setenv("NO_COLOR", "1", 1);
}

static int run(void *ud) {
    const struct session *s = ud;
    char *argv[20] = {(char[]){"qwen-chat"}, (char[]){"-m"}, (char[]){"fake-model"}};
    int argc = 3;
    for (int i = 0; s->args[i]; i++) argv[argc++] = (char *)(uintptr_t)s->args[i];
    struct config config;
    struct err err = {0};
    set_environment(s);
    for (int number = 1; number < 32; number++) signal(number, SIG_DFL); /* cmocka's go */
    if (s->output) {
        int fd = open(s->output, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, STDOUT_FILENO);
        close(fd);
    }
    if (config_open(&config, argc, argv, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        return (int)err.kind;
    }
    language_open(&config);
    int code = s->skin ? s->skin(&config) : plain_run(&config);
    config_release(&config);
    return code;
}

/* AddressSanitizer remarks once in a process that it has seen a coroutine: here, in the parent, and
 * not on the children's screens. */
static void switch_once(void) {
    static volatile bool has_switched;
    static ucontext_t from, to;
    getcontext(&to);
    if (has_switched) return;
    has_switched = true;
    swapcontext(&from, &to);
}

void session_make(struct session *s, const char *const *answers) {
    switch_once();
    environment_clear();
    *s = (struct session){.folder = "/tmp/qwen-screen-XXXXXX"};
    assert_non_null(mkdtemp(s->folder));
    fake_worker_reset();
    fake_worker.answers = answers;
    fake_worker.template_name = "chatml";
}

void session_start_unready(struct session *s) {
    pty_start(&s->pty, s->rows ? s->rows : 24, s->columns ? s->columns : 80, run, s);
}

void session_start(struct session *s) {
    session_start_unready(s);
    session_expect_last(s, ">");
}

void session_type(struct session *s, const char *bytes) {
    pty_type(&s->pty, bytes);
}

void session_expect(struct session *s, const char *text) {
    assert_true(pty_wait(&s->pty, text));
}

void session_expect_gone(struct session *s, const char *text) {
    assert_true(pty_wait_gone(&s->pty, text));
}

static bool has_last(struct pty *p, void *ud) {
    struct buf text = {0};
    pty_text(p, false, &text);
    if (text.n > 0) text.data[text.n - 1] = '\0'; /* the last newline */
    const char *newline = strrchr(text.data, '\n');
    bool is_equal = strcmp(newline ? newline + 1 : text.data, ud) == 0;
    buf_release(&text);
    return is_equal;
}

void session_expect_last(struct session *s, const char *row) {
    if (pty_wait_until(&s->pty, has_last, (void *)(uintptr_t)row)) return;
    fail_msg("the last row is not: %s", row);
}

void session_expect_exit(struct session *s, int code) {
    int is = pty_wait_exit(&s->pty);
    if (is != code) {
        struct buf text = {0};
        pty_text(&s->pty, true, &text);
        fail_msg("exit code %d, expected %d; the screen is:\n%s", is, code, text.data);
    }
    assert_true(pty_has_modes_of_before(&s->pty));
    pty_end(&s->pty);
}

void session_leave(struct session *s) {
    session_expect_last(s, ">");
    session_type(s, "\x04");
    session_expect_exit(s, 0);
}

void session_remove(struct session *s) {
    char command[128];
    pty_release(&s->pty);
    snprintf(command, sizeof command, "rm -rf '%s'", s->folder);
    assert_int_equal(system(command), 0);
    fake_worker_reset();
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) n++;
    return n;
}

int session_count_on_disk(const struct session *s, const char *text) {
    char folder[160], path[512];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/.local/share/qwen-chat/conversations", s->folder);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct buf file = {0};
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (strstr(entry->d_name, ".jsonl") && io_read_file(path, 1 << 24, &file, NULL) == 0)
            n += count(file.data, text);
        buf_release(&file);
    }
    if (dir) closedir(dir);
    return n;
}
