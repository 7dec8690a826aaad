/* forkpty() and libvterm; see pty.h. */
#include "tests/support/pty.h"

#include "engine/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int64_t now_ms(void) {
    return (int64_t)(clock_seconds() * 1e3);
}

static int on_property(VTermProp property, VTermValue *value, void *ud) {
    struct pty *p = ud;
    if (property == VTERM_PROP_TITLE)
        snprintf(p->title, sizeof p->title, "%s", value->string ? value->string : "");
    if (property == VTERM_PROP_ALTSCREEN) p->is_alternate |= value->boolean;
    return 1;
}

static int on_bell(void *ud) {
    struct pty *p = ud;
    p->n_bells++;
    return 1;
}

static void put_cells(const VTermScreenCell *cells, int n, struct buf *out) {
    size_t end = out->n;
    for (int i = 0; i < n; i++) {
        const uint32_t *chars = cells[i].chars;
        if (chars[0] == (uint32_t)-1) continue; /* the right half of a wide character */
        if (chars[0] == 0) {
            buf_putc(out, ' ');
            continue;
        }
        for (int k = 0; k < VTERM_MAX_CHARS_PER_CELL && chars[k]; k++) buf_put_utf8(out, chars[k]);
        if (chars[0] != ' ') end = out->n;
    }
    out->n = end;
    buf_putc(out, '\n');
}

static int on_scroll(int n, const VTermScreenCell *cells, void *ud) {
    struct pty *p = ud;
    put_cells(cells, n, &p->history);
    return 1;
}

static const VTermScreenCallbacks callbacks = {
    .settermprop = on_property, .bell = on_bell, .sb_pushline = on_scroll};

/* A group without a parent in its session cannot be stopped, so there is a leader between. */
static void lead(int news, int (*run)(void *ud), void *ud) {
    signal(SIGHUP, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        tcsetpgrp(STDIN_FILENO, getpid());
        signal(SIGHUP, SIG_DFL);
        signal(SIGTTOU, SIG_DFL);
        close(news);
        exit(run(ud));
    }
    setpgid(pid, pid);
    ssize_t put = write(news, &pid, sizeof pid);
    int status;
    while (put > 0 && waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status))
        put = write(news, "", 1);
    _exit(WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

static struct termios usual_modes(void) {
    struct termios modes = {.c_iflag = ICRNL | IXON | IUTF8,
                            .c_oflag = OPOST | ONLCR,
                            .c_cflag = CREAD | CS8 | B38400,
                            .c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | IEXTEN};
    modes.c_cc[VINTR] = 3;
    modes.c_cc[VQUIT] = 28;
    modes.c_cc[VERASE] = 127;
    modes.c_cc[VKILL] = 21;
    modes.c_cc[VEOF] = 4;
    modes.c_cc[VSUSP] = 26;
    modes.c_cc[VMIN] = 1;
    return modes;
}

/* A wide character has no place on a screen of one column, and libvterm writes behind it: such a
 * screen has two, of which the program knows one. */
static int screen_columns(int columns) {
    return columns < 2 ? 2 : columns;
}

static void open_screen(struct pty *p) {
    p->vt = vterm_new(p->rows, screen_columns(p->columns));
    vterm_set_utf8(p->vt, 1);
    p->screen = vterm_obtain_screen(p->vt);
    vterm_screen_set_callbacks(p->screen, &callbacks, p);
    vterm_screen_enable_altscreen(p->screen, 1);
    vterm_screen_reset(p->screen, 1);
}

void pty_start(struct pty *p, int rows, int columns, int (*run)(void *ud), void *ud) {
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    struct termios modes = usual_modes();
    int ends[2];
    pty_release(p);
    *p = (struct pty){.rows = rows, .columns = columns};
    fflush(NULL);
    if (pipe2(ends, O_CLOEXEC) != 0 || (p->leader = forkpty(&p->fd, NULL, &modes, &size)) < 0) {
        perror("forkpty");
        exit(1);
    }
    if (p->leader == 0) lead(ends[1], run, ud);
    close(ends[1]);
    p->news = ends[0];
    if (read(p->news, &p->pid, sizeof p->pid) != sizeof p->pid) exit(1);
    fcntl(p->fd, F_SETFD, FD_CLOEXEC);
    fcntl(p->fd, F_SETFL, O_NONBLOCK);
    p->before = modes;
    open_screen(p);
}

void pty_end(struct pty *p) {
    if (!p->vt) return;
    if (p->leader > 0) {
        kill(p->pid, SIGKILL);
        waitpid(p->leader, NULL, 0);
    }
    close(p->news);
    if (p->fd >= 0) close(p->fd);
    vterm_free(p->vt);
    p->vt = NULL;
    p->leader = 0;
}

void pty_release(struct pty *p) {
    pty_end(p);
    buf_release(&p->bytes);
    buf_release(&p->history);
}

/* What the terminal answers to the child's questions goes back, as from a real one. */
static void send_answers(struct pty *p) {
    char bytes[256];
    size_t n;
    while ((n = vterm_output_read(p->vt, bytes, sizeof bytes)) > 0) {
        ssize_t put = write(p->fd, bytes, n);
        (void)put;
    }
}

void pty_update(struct pty *p) {
    char bytes[4096];
    ssize_t n;
    while ((n = read(p->fd, bytes, sizeof bytes)) > 0) {
        buf_add(&p->bytes, bytes, (size_t)n);
        vterm_input_write(p->vt, bytes, (size_t)n);
        send_answers(p);
    }
}

/* Waits for something to do, as far as /proc tells. One that is ready to run and does not get its
 * turn, on a machine with other work, is not at rest. */
static bool is_at_rest(pid_t pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) return true;
    const char *name_end = fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;
    fclose(file);
    return !name_end || !strchr("RD", name_end[2]);
}

/* Looks are counted and not the time: while a machine stands still the time goes on, and all of it
 * would be quiet. */
void pty_settle(struct pty *p) {
    enum { LOOKS = 40, LOOK_MS = 10, LONGEST_MS = 10000 };
    int64_t end = now_ms() + LONGEST_MS;
    for (int n_quiet = 0; n_quiet < LOOKS && now_ms() < end;) {
        bool is_quiet = poll(&(struct pollfd){.fd = p->fd, .events = POLLIN}, 1, LOOK_MS) == 0 &&
                        is_at_rest(p->pid);
        n_quiet = is_quiet ? n_quiet + 1 : 0;
        pty_update(p);
    }
}

void pty_type(struct pty *p, const char *bytes) {
    size_t n = strlen(bytes);
    int64_t end = now_ms() + PTY_DEADLINE_MS;
    while (n > 0 && now_ms() < end) {
        ssize_t put = write(p->fd, bytes, n < 1024 ? n : 1024);
        if (put > 0) {
            bytes += put;
            n -= (size_t)put;
        } else {
            poll(&(struct pollfd){.fd = p->fd, .events = POLLOUT}, 1, 10);
        }
        pty_update(p); /* both sides at once: neither buffer may fill up */
    }
}

void pty_resize(struct pty *p, int rows, int columns) {
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns};
    pty_update(p);
    vterm_set_size(p->vt, rows, screen_columns(columns));
    p->rows = rows;
    p->columns = columns;
    ioctl(p->fd, TIOCSWINSZ, &size);
}

void pty_text(struct pty *p, bool with_history, struct buf *out) {
    VTermScreenCell cells[512];
    if (with_history && p->history.n) buf_add(out, p->history.data, p->history.n);
    size_t end = out->n;
    for (int row = 0; row < p->rows; row++) {
        size_t begin = out->n;
        for (int column = 0; column < p->columns && column < 512; column++)
            vterm_screen_get_cell(p->screen, (VTermPos){.row = row, .col = column}, &cells[column]);
        put_cells(cells, p->columns, out);
        if (out->n > begin + 1) end = out->n;
    }
    out->n = end;
    if (!out->data) buf_puts(out, "");
    out->data[end] = '\0';
}

static bool has_text(struct pty *p, void *ud) {
    struct buf text = {0};
    pty_text(p, true, &text);
    bool found = strstr(text.data, ud) != NULL;
    buf_release(&text);
    return found;
}

static bool lacks_text(struct pty *p, void *ud) {
    struct buf text = {0};
    pty_text(p, false, &text);
    bool found = strstr(text.data, ud) != NULL;
    buf_release(&text);
    return !found;
}

bool pty_wait_until(struct pty *p, bool (*condition)(struct pty *p, void *ud), void *ud) {
    int64_t end = now_ms() + PTY_DEADLINE_MS;
    for (;;) {
        pty_update(p);
        if (condition(p, ud)) return true;
        if (now_ms() >= end) break;
        poll(&(struct pollfd){.fd = p->fd, .events = POLLIN}, 1, 20);
    }
    struct buf text = {0};
    pty_text(p, true, &text);
    fprintf(stderr, "the screen is:\n%s", text.data);
    buf_release(&text);
    return false;
}

bool pty_wait(struct pty *p, const char *text) {
    if (pty_wait_until(p, has_text, (void *)(uintptr_t)text)) return true;
    fprintf(stderr, "expected: %s\n", text);
    return false;
}

bool pty_wait_gone(struct pty *p, const char *text) {
    return pty_wait_until(p, lacks_text, (void *)(uintptr_t)text);
}

int pty_wait_exit(struct pty *p) {
    int64_t end = now_ms() + PTY_DEADLINE_MS;
    int status;
    while (now_ms() < end) {
        pty_update(p);
        if (waitpid(p->leader, &status, WNOHANG) == p->leader) {
            p->leader = 0;
            pty_update(p);
            return WEXITSTATUS(status);
        }
        poll(&(struct pollfd){.fd = p->fd, .events = POLLIN}, 1, 5);
    }
    return -1;
}

bool pty_wait_stopped(struct pty *p) {
    int64_t end = now_ms() + PTY_DEADLINE_MS;
    char byte;
    while (now_ms() < end) {
        pty_update(p);
        if (poll(&(struct pollfd){.fd = p->news, .events = POLLIN}, 1, 20) > 0)
            return read(p->news, &byte, 1) == 1;
    }
    return false;
}

bool pty_has_modes_of_before(const struct pty *p) {
    struct termios now;
    return tcgetattr(p->fd, &now) == 0 && now.c_iflag == p->before.c_iflag &&
           now.c_oflag == p->before.c_oflag && now.c_cflag == p->before.c_cflag &&
           now.c_lflag == p->before.c_lflag &&
           memcmp(now.c_cc, p->before.c_cc, sizeof now.c_cc) == 0;
}

void pty_cursor(const struct pty *p, int *row, int *column) {
    VTermPos at;
    vterm_state_get_cursorpos(vterm_obtain_state(p->vt), &at);
    *row = at.row;
    *column = at.col;
}
