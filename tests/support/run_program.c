#include "tests/support/run_program.h"

#include "tests/support/environment.h"
#include "tests/support/make_checkpoint.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST_WORDS = 30 };

static int open_in(const char *home, const char *name, int flags) {
    char path[300];
    snprintf(path, sizeof path, "%s/%s", home, name);
    return open(path, flags, 0600);
}

static void read_all(const char *home, const char *name, struct buf *into) {
    char chunk[4096];
    int fd = open_in(home, name, O_RDONLY);
    assert_true(fd >= 0);
    buf_clear(into);
    buf_puts(into, "");
    for (ssize_t n; (n = read(fd, chunk, sizeof chunk)) > 0;) buf_add(into, chunk, (size_t)n);
    close(fd);
}

/* In the child: standard streams from and to files, and no setting of the user's. */
static _Noreturn void become(const struct program *p, const char *const *words) {
    char *argv[MOST_WORDS + 2] = {(char *)(uintptr_t) "qwen-chat"};
    for (int i = 0; words[i] && i < MOST_WORDS; i++) argv[i + 1] = (char *)(uintptr_t)words[i];
    dup2(open_in(p->home, "in", O_RDONLY), STDIN_FILENO);
    dup2(open_in(p->home, "out", O_WRONLY | O_CREAT | O_TRUNC), STDOUT_FILENO);
    dup2(open_in(p->home, "errors", O_WRONLY | O_CREAT | O_TRUNC), STDERR_FILENO);
    environment_clear();
    setenv("HOME", p->home, 1);
    setenv("QWEN_CHAT_DEVICE", "cpu", 1); /* a GPU rounds otherwise */
    execv(p->path, argv);
    _exit(127);
}

int program_run(struct program *p, const char *input, const char *const *words) {
    int status;
    write_file(p->home, "in", input, strlen(input));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) become(p, words);
    assert_int_equal(waitpid(child, &status, 0), child);
    read_all(p->home, "out", &p->out);
    read_all(p->home, "errors", &p->errors);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void program_release(struct program *p) {
    buf_release(&p->out);
    buf_release(&p->errors);
}
