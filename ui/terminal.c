/*
 * Fatal signals first give the terminal back, with functions that are safe there, and then take
 * the course they would have taken. SIGBUS is left to engine/base/io, which may survive it.
 */
#include "ui/terminal.h"

#include "engine/base/utf8.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

static const char paste_on[] = "\033[?2004h", paste_off[] = "\033[?2004l";

static const int fatal[] = {SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGQUIT};
enum { N_FATAL = sizeof fatal / sizeof *fatal };
static struct sigaction before_fatal[N_FATAL];
static char fatal_stack[1 << 15];

/* The one that is open, for the handlers. */
static struct terminal *opened;

/* The C library's own answer: wcwidth() is ours (ui/screen.c). */
static bool is_wide_by_locale(void) {
    return wcswidth(L"\u201C", 1) == 2;
}

bool terminal_set_locale(enum ambiguous_width width) {
    const char *name = setlocale(LC_CTYPE, "");
    bool is_other = name && strcmp(name, "C") != 0 && strcmp(name, "POSIX") != 0;
    bool is_utf8 = name && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (!is_utf8) setlocale(LC_CTYPE, "C.UTF-8");
    bool is_wide = width == WIDTH_WIDE || (width == WIDTH_AUTO && is_wide_by_locale());
    utf8_set_ambiguous_width(is_wide ? 2 : 1);
    return is_utf8 || !is_other;
}

static void set_modes(int fd, const struct termios *modes) {
    while (tcsetattr(fd, TCSADRAIN, modes) != 0 && errno == EINTR) continue;
}

static void give_back_at_once(void) {
    struct terminal *t = opened;
    if (!t || !t->is_taken) return;
    t->is_taken = false;
    ssize_t put = write(t->out, t->restore, strlen(t->restore));
    put = write(t->out, paste_off, sizeof paste_off - 1);
    (void)put;
    tcsetattr(t->in, TCSANOW, &t->before);
}

static void handle_fatal(int number) {
    give_back_at_once();
    for (int i = 0; i < N_FATAL; i++)
        if (fatal[i] == number) sigaction(number, &before_fatal[i], NULL);
    raise(number); /* delivered when this handler returns */
}

static void install_fatal(void) {
    struct sigaction action = {.sa_handler = handle_fatal, .sa_flags = SA_ONSTACK};
    stack_t stack = {.ss_sp = fatal_stack, .ss_size = sizeof fatal_stack}, has;
    if (sigaltstack(NULL, &has) == 0 && (has.ss_flags & SS_DISABLE)) sigaltstack(&stack, NULL);
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < N_FATAL; i++) sigaction(fatal[i], &action, &before_fatal[i]);
    bug_set_handler(give_back_at_once);
}

static void remove_fatal(void) {
    for (int i = 0; i < N_FATAL; i++) sigaction(fatal[i], &before_fatal[i], NULL);
    bug_set_handler(NULL);
}

int terminal_open(struct terminal *t, int in, int out, const char *term, struct err *err) {
    *t = (struct terminal){.in = in, .out = out};
    if (tcgetattr(in, &t->before) != 0)
        return err_set(err, ERR_IO, "the terminal does not answer: %s", strerror(errno));
    t->is_dumb = !*term || strcmp(term, "dumb") == 0 || strcmp(term, "unknown") == 0;
    terminal_measure(t);
    opened = t;
    install_fatal();
    return 0;
}

void terminal_close(struct terminal *t) {
    if (opened != t) return;
    terminal_give_back(t);
    remove_fatal();
    opened = NULL;
}

void terminal_take(struct terminal *t) {
    if (t->is_taken || t->is_dumb) return;
    struct termios modes = t->before;
    modes.c_iflag &= ~(tcflag_t)(IXON | ICRNL | INLCR | IGNCR | ISTRIP);
    modes.c_oflag |= OPOST | ONLCR;
    if (t->is_raw) modes.c_oflag &= ~(tcflag_t)OPOST;
    modes.c_lflag &= ~(tcflag_t)(ICANON | ECHO | IEXTEN);
    modes.c_lflag |= ISIG | NOFLSH; /* Ctrl-C must not throw typed text away */
    modes.c_cc[VMIN] = 1;
    modes.c_cc[VTIME] = 0;
    t->is_taken = true;
    set_modes(t->in, &modes); /* from the background: stops here, goes on in the foreground */
    terminal_puts(t, paste_on);
}

void terminal_give_back(struct terminal *t) {
    if (!t->is_taken) return;
    sigset_t ttou, mask; /* must not stop us on the way out */
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &mask);
    terminal_puts(t, paste_off);
    set_modes(t->in, &t->before);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    t->is_taken = false;
}

void terminal_measure(struct terminal *t) {
    struct winsize size = {0};
    bool is_known = ioctl(t->out, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
    t->columns = is_known ? size.ws_col : 80;
    t->rows = is_known ? size.ws_row : 24;
}

void terminal_write(struct terminal *t, const char *text, size_t n) {
    while (n > 0 && !t->is_gone) {
        ssize_t put = write(t->out, text, n);
        if (put > 0) {
            text += put;
            n -= (size_t)put;
        } else if (errno == EAGAIN) {
            poll(&(struct pollfd){.fd = t->out, .events = POLLOUT}, 1, -1);
        } else if (errno != EINTR) {
            t->is_gone = true;
        }
    }
}

void terminal_puts(struct terminal *t, const char *text) {
    terminal_write(t, text, strlen(text));
}
