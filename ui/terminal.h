/*
 * The terminal's modes, size and output for the skins that have one. While it is taken, keys come
 * one by one and unechoed, Ctrl-C and Ctrl-Z still send signals, and a paste is bracketed. It is
 * given back at the end, before a stop, and by handlers of fatal signals and bug().
 */
#pragma once

#include "app/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

struct terminal {
    int in, out;
    struct termios before;
    bool is_dumb; /* TERM says that it cannot move its cursor: lines are edited by the kernel */
    bool is_taken;
    bool is_raw;       /* a screen library writes: "\n" stays what it is */
    char restore[128]; /* what a fatal signal writes first: the way back from a full screen */
    bool is_gone;      /* a write failed: the terminal was closed */
    int columns, rows;
};

/* Character types and widths need a UTF-8 locale: the user's, else C.UTF-8. false: the user's is
 * another encoding than that. */
bool terminal_set_locale(enum ambiguous_width width);

int terminal_open(struct terminal *t, int in, int out, const char *term, struct err *err);
void terminal_close(struct terminal *t);

void terminal_take(struct terminal *t);
void terminal_give_back(struct terminal *t);
void terminal_measure(struct terminal *t);

void terminal_write(struct terminal *t, const char *text, size_t n);
void terminal_puts(struct terminal *t, const char *text);
