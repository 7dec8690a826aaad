/*
 * What the application may ask of a skin (ui/script, ui/plain, ui/fullscreen). The skin fills one
 * struct of functions; commands and answers come out through it and through nothing else.
 *
 * All calls happen on the skin's own thread, inside chat_pump(), chat_enter() and command handlers.
 * Strings are valid during the call. Where `is_terminal` is set all text has passed the sanitizer;
 * else (a pipe) it is the model's bytes as they are, whole UTF-8 characters.
 */
#pragma once

#include "engine/engine.h"

enum tone {
    TONE_OUTPUT, /* what a command was asked for */
    TONE_NOTICE, /* something to know: turns were left out, a template is unknown */
    TONE_ERROR,
};

enum answer_part { PART_REASONING, PART_ANSWER };

/* An answer that has ended, whole or cut short. */
struct answer {
    const char *text;      /* without reasoning */
    const char *reasoning; /* "" where there is none */
    enum engine_stop stop;
    struct engine_usage usage;
    uint64_t seed;         /* the one that was used: shown, so that it can be given again */
    int left_out_turns;    /* turns of the history that did not fit the context */
    const struct err *err; /* STOP_ERROR */
};

/* A turn of the conversation as it stands. */
struct shown_turn {
    uint64_t id;
    bool is_user;
    bool is_partial;              /* an answer that was interrupted */
    const char *text, *reasoning; /* "" where there is none */
};

struct frontend {
    void *ui;
    bool is_terminal;
    bool is_interactive; /* a person can answer confirm() and edit() */

    /* One line for the user; no newline at its end. */
    void (*say)(void *ui, enum tone tone, const char *text);

    /* A row of a table; the first call of a table has is_head. Columns are aligned by the skin.
     * n = 0 ends the table. */
    void (*row)(void *ui, const char *const *cells, size_t n, bool is_head);

    /* Work that takes time: share 0 to 1, below 0 when unknown; seconds_left below 0 when unknown.
     * done: it is over, take the bar away. */
    void (*progress)(void *ui, const char *what, double share, double seconds_left, bool done);

    /* A piece of the running answer. */
    void (*answer_text)(void *ui, enum answer_part part, const char *text, size_t n);
    void (*answer_end)(void *ui, const struct answer *answer);

    /* A yes/no question; the answer that is safe is false. */
    bool (*confirm)(void *ui, const char *question);

    /* Lets the user change a text; the new one (mem_free) or NULL when given up. */
    char *(*edit)(void *ui, const char *text);

    void (*clear)(void *ui); /* /clear: an empty screen; may do nothing */

    /* The conversation is another one, or goes on from another place (/resume, /undo, /regen):
     * these turns stand in place of what was shown. NULL: what was shown scrolls by, and /history
     * says what there is. */
    void (*turns)(void *ui, const struct shown_turn *turns, size_t n);

    /* /find: shows where the text stands. NULL: the messages that have it are listed. */
    void (*find)(void *ui, const char *text);

    /* /copy: an answer, or its n-th code block (from 1), to the clipboard. false: it has none.
     * NULL: there is no terminal. */
    bool (*copy)(void *ui, const char *answer, int code);
};
