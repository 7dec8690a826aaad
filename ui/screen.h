/*
 * The terminal as a full screen: ncurses paints it, and nobody else writes there. Keys do not come
 * from ncurses but from ui/keys, as in line mode. A frame is drawn whole into ncurses' memory and
 * only what has changed goes out, between the marks of a synchronized update (DECSET 2026).
 */
#pragma once

#include "app/config.h"
#include "ui/lines.h"
#include "ui/terminal.h"

/* Which colours the inks have. */
struct screen_colors {
    enum theme theme;
    bool is_own[N_INKS]; /* of these the colour is given, as config.yaml has it; else the theme's */
    int own[N_INKS];
};

struct screen {
    struct terminal terminal; /* modes and size */
    bool is_up;               /* the alternate screen is shown */
    bool can_color;           /* the terminal does */
    struct screen_colors colors;
    int inks[N_INKS];       /* attributes, and the colour pair in the low byte */
    unsigned long n_frames; /* painted so far */
};

struct screen_options {
    int in, out;
    const char *term;
    struct screen_colors colors;
    bool has_colors;
};

/* -1: this terminal cannot; it is as it was. */
int screen_open(struct screen *s, const struct screen_options *options, struct err *err);
void screen_close(struct screen *s);

/* Around a stop, or another program on the terminal. */
void screen_leave(struct screen *s);
void screen_return(struct screen *s);

/* The terminal has, or may have, another size. */
void screen_resized(struct screen *s);
/* Paints everything anew with the next frame. */
void screen_redraw(struct screen *s);

/* Other colours from the next frame on; nothing where they are the same. */
void screen_set_colors(struct screen *s, const struct screen_colors *colors);

/* A frame: begin, put, show. */
void screen_begin(struct screen *s);
/* Text at a place, at most to `end` (a column); returns the column behind it. */
int screen_put(struct screen *s, int row, int column, int end, const char *text, size_t n,
               text_style style);
/* A row of laid out text. */
int screen_put_row(struct screen *s, int row, int column, int end, const struct lines *lines,
                   size_t index);
/* Blanks up to `end`. */
void screen_fill(struct screen *s, int row, int column, int end, text_style style);
/* The real cursor goes to row, column. */
void screen_show(struct screen *s, int row, int column);

void screen_bell(struct screen *s);
/* A sequence that shows nothing (the clipboard's), between two frames. */
void screen_send(struct screen *s, const char *bytes, size_t n);
