/* A run of a skin on a terminal, with the fake worker and folders of its own. */
#pragma once

#include "tests/support/fake_worker.h"
#include "tests/support/pty.h"

struct config;

/* An answer that is still coming whatever a test does meanwhile: at 20 tokens a second for more
 * than a minute. */
extern const char *const slow_answer[];

struct session {
    int (*skin)(struct config *config); /* NULL: plain_run */
    struct pty pty;
    char folder[64];      /* HOME; kept between runs until session_remove() */
    const char *args[12]; /* beside the model */
    const char *term;     /* NULL: xterm-256color */
    const char *output;   /* stdout goes to this file instead */
    bool no_color;
    int rows, columns; /* 0: 24 and 80 */
};

/* Sets fake_worker to answers[0..]; NULL: "answer". The environment is cleared: set what the
 * program is to see afterwards. */
void session_make(struct session *s, const char *const *answers);
void session_start(struct session *s);         /* until the prompt is there */
void session_start_unready(struct session *s); /* does not wait for anything */
void session_type(struct session *s, const char *bytes);
void session_expect(struct session *s, const char *text);
void session_expect_gone(struct session *s, const char *text);
/* Waits until the last row that has text is `row`. */
void session_expect_last(struct session *s, const char *row);
/* The end: its exit code, and the terminal as it was. */
void session_expect_exit(struct session *s, int code);
/* Ctrl-D at the empty prompt, and session_expect_exit() with 0. */
void session_leave(struct session *s);
void session_remove(struct session *s);

/* How often `text` stands in the conversations on disk. */
int session_count_on_disk(const struct session *s, const char *text);
