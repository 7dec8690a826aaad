/*
 * What the files of the full screen share: fullscreen.c (life, loop, what the chat says),
 * fullscreen_keys.c (what keys and signals do) and fullscreen_paint.c (a frame). Nobody else
 * includes it.
 */
#pragma once

#include "app/chat.h"
#include "app/commands.h"
#include "ui/editor.h"
#include "ui/input_area.h"
#include "ui/keys.h"
#include "ui/menu.h"
#include "ui/progress.h"
#include "ui/screen.h"
#include "ui/transcript.h"
#include "ui/view.h"

enum question_state { QUESTION_NONE, QUESTION_OPEN, QUESTION_ANSWERED, QUESTION_GIVEN_UP };

struct fullscreen {
    struct config *config;
    struct frontend front;
    struct chat chat;
    bool is_chat_open;
    struct screen screen;
    struct keys keys;
    int64_t keys_ms; /* when the last bytes of them came */
    struct editor *editor;
    struct input_history history;

    /* what is shown */
    struct transcript transcript;
    struct input_area input;
    struct view view;   /* stands over the transcript while its kind is set */
    struct lines panel; /* the view laid out */
    struct grid table;  /* of a command, until its last row is there */
    struct menu menu;   /* completions that can be chosen from */
    struct lines menu_lines;
    char hint[200];    /* stands for the state until the next key */
    size_t top;        /* the first row of the transcript on the screen */
    size_t height;     /* rows of the transcript on the screen */
    bool is_following; /* the end of the transcript stays in sight */
    struct progress progress;
    struct {
        char *text; /* what is looked for, NULL: nothing */
        struct match *matches;
        size_t n, at;
    } find;

    /* what goes on */
    char **queue; /* entered while an answer runs */
    size_t n_queue, queue_capacity;
    enum question_state question; /* a command waits for an answer */
    const char *question_text;
    struct buf answer;
    bool is_dirty, is_urgent; /* a frame is due: soon, at once */
    int64_t painted_ms;
    bool has_control_x; /* the first key of Ctrl-X Ctrl-E */
    bool is_cancelling; /* Ctrl-C has stopped the answer; it has not ended yet */
    bool was_stopped;   /* a SIGCONT of our own stop is due */
    bool is_over;
    int quit_signal;
    int64_t interrupt_ms; /* of the last Ctrl-C that had nothing to stop */
    struct err err;       /* why it is over */
};

/* --- fullscreen.c --- */

/* Something has changed: it shows with the next frame; at once for what the user did. */
void fullscreen_touch(struct fullscreen *f, bool is_urgent);
/* A command as it was entered, into the transcript. */
void fullscreen_echo(struct fullscreen *f, const char *text);
/* A table of a command, row by row; n 0 ends it. */
void fullscreen_row(struct fullscreen *f, const char *const *cells, size_t n, bool is_head);
/* As the options have them now. */
struct screen_colors fullscreen_colors(const struct config *config);
/* What the user entered, now or when the answer has ended. */
void fullscreen_enter(struct fullscreen *f, const char *text);
void fullscreen_hint(struct fullscreen *f, const char *text);
/* A prompt of its own, with a text to be changed; f->answer has what was entered. false: given up.
 * What was being typed comes back behind it. */
bool fullscreen_ask(struct fullscreen *f, const char *prompt, const char *text);

/* --- fullscreen_views.c --- */

/* false: what was entered opens no view. */
bool fullscreen_open_view(struct fullscreen *f, const char *text);
/* What a view of work has shown goes to the transcript. */
void fullscreen_close_view(struct fullscreen *f);
/* The work of the open view has ended, if it has. */
void fullscreen_check_work(struct fullscreen *f);
/* Asks the engine to stop what it does; it ends within a pass. */
void fullscreen_stop_work(struct fullscreen *f);
/* false: there is no view to take the key. */
bool fullscreen_view_key(struct fullscreen *f, const struct key *key);

/* --- fullscreen_keys.c --- */

void fullscreen_key(struct fullscreen *f, const struct key *key);
void fullscreen_signals(struct fullscreen *f);
/* What stands in the input goes to the history. */
void fullscreen_keep_text(struct fullscreen *f);

void fullscreen_find(struct fullscreen *f, const char *text);
void fullscreen_stop_finding(struct fullscreen *f);
/* Finds again, after the rows have changed. */
void fullscreen_find_again(struct fullscreen *f);

/* --- fullscreen_paint.c --- */

void fullscreen_paint(struct fullscreen *f);
