/* See external_editor.h. The file is private, and gone afterwards. */
#include "ui/external_editor.h"

#include "engine/base/io.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_BYTES = 1 << 20 };

extern char **environ;

/* Signals are as a program expects them at its start; ours are caught, which ends with exec. */
static int run(const char *command, const char *path, struct err *err) {
    struct buf line = {0};
    pid_t pid;
    int status = 0;
    buf_printf(&line, "%s \"$1\"", command);
    char *const arguments[] = {(char[]){"sh"}, (char[]){"-c"},          line.data,
                               (char[]){"sh"}, (char *)(uintptr_t)path, NULL};
    int code = line.failed ? ENOMEM : posix_spawn(&pid, "/bin/sh", NULL, NULL, arguments, environ);
    buf_release(&line);
    if (code != 0) return err_set(err, ERR_OTHER, "%s: %s", command, strerror(code));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    return err_set(err, ERR_OTHER, "%s did not end well; the text stays as it was", command);
}

int external_editor(const char *command, const char *folder, const char *text, struct buf *out,
                    struct err *err) {
    struct buf path = {0};
    buf_printf(&path, "%s/qwen-chat-XXXXXX", folder);
    int fd = path.failed ? -1 : mkstemp(path.data);
    if (fd < 0) {
        buf_release(&path);
        return err_set(err, ERR_IO, "%s: a file cannot be made: %s", folder, strerror(errno));
    }
    io_close(fd);
    int result = io_write_atomic(path.data, 0600, text, strlen(text), err);
    if (result == 0) result = run(command, path.data, err);
    if (result == 0) result = io_read_file(path.data, MOST_BYTES, out, err);
    while (result == 0 && out->n > 0 && out->data[out->n - 1] == '\n') out->data[--out->n] = '\0';
    io_unlink(path.data);
    buf_release(&path);
    return result;
}
