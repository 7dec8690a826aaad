/*
 * A terminal for tests: a child runs on a pseudo-terminal, libvterm is its screen. Nothing here
 * sleeps for a fixed time: what is expected is waited for, with a deadline.
 */
#pragma once

#include "engine/base/buf.h"

#include <stdbool.h>
#include <sys/types.h>
#include <termios.h>
#include <vterm.h>

/* Only what never comes waits so long: on a slow machine with other work much comes late. */
enum { PTY_DEADLINE_MS = 60000 };

struct pty {
    int fd;
    pid_t pid;    /* of the process under test */
    pid_t leader; /* of the session: forks it and waits, as a shell does */
    int news;     /* a byte for each time that it has stopped */
    int rows, columns;
    VTerm *vt;
    VTermScreen *screen;
    struct termios before; /* modes at the start */
    struct buf bytes;      /* everything the child has written */
    struct buf history;    /* lines that have scrolled off the top */
    int n_bells;
    char title[64];    /* as the child has set it, else "" */
    bool is_alternate; /* the alternate screen was switched to */
};

/* Forks; the child ends with the result of run(). *p is zero, or was used before. */
void pty_start(struct pty *p, int rows, int columns, int (*run)(void *ud), void *ud);
/* Kills what is still there; may be called twice. What was written stays until pty_release(). */
void pty_end(struct pty *p);
void pty_release(struct pty *p);

void pty_type(struct pty *p, const char *bytes);
void pty_resize(struct pty *p, int rows, int columns);

/* Works off what the child has written, without waiting. */
void pty_update(struct pty *p);
/* Until the program has written nothing for a while and waits for something to do: it has worked
 * off what was typed. Ten seconds at most, where it always has something to write. */
void pty_settle(struct pty *p);

/* The screen's text: rows with their trailing blanks cut, each with a newline; empty rows at the
 * end left out. With `history` also what has scrolled off. */
void pty_text(struct pty *p, bool with_history, struct buf *out);

/* Until the text is (or is no longer) on the screen or in its history; false: not in time. */
bool pty_wait(struct pty *p, const char *text);
bool pty_wait_gone(struct pty *p, const char *text); /* from the screen alone */
/* Until condition(p, ud) holds. */
bool pty_wait_until(struct pty *p, bool (*condition)(struct pty *p, void *ud), void *ud);

/* The child's end: its exit code, 128 + n for signal n; -1: not in time. */
int pty_wait_exit(struct pty *p);
/* Until it has stopped (Ctrl-Z). */
bool pty_wait_stopped(struct pty *p);

/* Are the terminal's modes what they were at the start? */
bool pty_has_modes_of_before(const struct pty *p);
void pty_cursor(const struct pty *p, int *row, int *column);
