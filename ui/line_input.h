/*
 * The keyboard side of line mode: terminal, keys, editor, view and signals behind one wait. While a
 * prompt is up, keys edit; while none is (an answer streams), what is typed waits for the next one.
 * On a terminal that cannot move its cursor the kernel edits, and whole lines come.
 */
#pragma once

#include "ui/editor.h"
#include "ui/line_view.h"
#include "ui/terminal.h"

enum input_event {
    INPUT_READABLE,  /* the other descriptor is */
    INPUT_ENTERED,   /* input->entry; the prompt is gone */
    INPUT_END,       /* Ctrl-D on an empty line; the prompt is gone */
    INPUT_INTERRUPT, /* Ctrl-C without a prompt, or at an empty one, which stays */
    INPUT_QUIT,      /* input->quit_signal wants the program to end; the prompt is gone */
};

struct line_input {
    struct terminal terminal;
    struct keys keys;
    struct editor *editor; /* NULL on a dumb terminal */
    struct line_view view;
    struct input_history history;
    bool is_still; /* no bell, and nothing but the entry is ever redrawn */
    bool is_prompting, is_hidden;
    bool was_stopped; /* a SIGCONT of our own stop is due */
    int quit_signal;
    const char *prompt, *style; /* not owned */
    struct buf entry;
    struct buf lines; /* dumb: what has come of a line, or lines ending with a backslash */
};

struct line_input_options {
    int in, out;
    const char *term;
    const char *history_path;     /* NULL: not kept */
    struct editor_options editor; /* term and history are filled in */
    bool is_still;
};

/* notice: a sentence when something minor does not work, else "". */
int line_input_open(struct line_input *i, const struct line_input_options *options,
                    struct err *notice, struct err *err);
void line_input_close(struct line_input *i);

/* Puts a prompt up, with `text` to be edited. style: an SGR sequence or "". */
void line_input_prompt(struct line_input *i, const char *prompt, const char *style,
                       const char *text);

/* Waits for the keyboard, a signal, or `other` (-1: none). */
enum input_event line_input_wait(struct line_input *i, int other);

/* Around printing something: the prompt goes away and comes back below it. */
void line_input_hide(struct line_input *i);
void line_input_show(struct line_input *i);

/* Takes the prompt down; text that stands in it goes to the history. */
void line_input_abandon(struct line_input *i);

/* What was typed ahead stays to be looked at: none of its Enters sends anything by itself. */
void line_input_hold_back(struct line_input *i);
