/* The pipe and its handler. The pipe does not block: what no longer fits says nothing new. */
#include "ui/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SIGNALS = 16 };

static int ends[2] = {-1, -1};
static struct {
    int number;
    struct sigaction before;
} taken[MAX_SIGNALS];
static size_t n_taken;

static void handle(int number) {
    int saved = errno;
    unsigned char byte = (unsigned char)number;
    ssize_t put = write(ends[1], &byte, 1);
    (void)put;
    errno = saved;
}

int signals_open(const int *numbers, size_t n, struct err *err) {
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return err_set(err, ERR_OTHER, "cannot make a pipe: %s", strerror(errno));
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (n_taken = 0; n_taken < n && n_taken < MAX_SIGNALS; n_taken++) {
        taken[n_taken].number = numbers[n_taken];
        sigaction(numbers[n_taken], &action, &taken[n_taken].before);
        /* ignored since before the program began (nohup, a job in the background): stays so */
        if (taken[n_taken].before.sa_handler == SIG_IGN)
            sigaction(numbers[n_taken], &taken[n_taken].before, NULL);
    }
    return 0;
}

void signals_close(void) {
    for (size_t i = 0; i < n_taken; i++) sigaction(taken[i].number, &taken[i].before, NULL);
    n_taken = 0;
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) close(ends[i]);
        ends[i] = -1;
    }
}

int signals_fd(void) {
    return ends[0];
}

int signals_take(void) {
    unsigned char byte;
    return ends[0] >= 0 && read(ends[0], &byte, 1) == 1 ? byte : 0;
}

void signals_default(int number) {
    struct sigaction action = {.sa_handler = SIG_DFL}, before;
    sigset_t only, mask;
    sigemptyset(&action.sa_mask);
    sigemptyset(&only);
    sigaddset(&only, number);
    sigaction(number, &action, &before);
    pthread_sigmask(SIG_UNBLOCK, &only, &mask);
    raise(number);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    sigaction(number, &before, NULL);
}
