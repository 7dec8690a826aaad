/*
 * Shows the entry being edited in line mode: a prompt and text of any number of lines, at the
 * bottom of what has scrolled by. Only what changed is written (a typed character is that
 * character), widths go by grapheme clusters, an entry taller than the screen scrolls in a window,
 * and nothing above the prompt is ever touched.
 */
#pragma once

#include "engine/base/buf.h"
#include "ui/terminal.h"

struct line_view_row {
    size_t begin, end; /* in the frame's text */
    int width;
    bool is_loose; /* has clusters whose width terminals disagree on */
};

/* What stands on the screen, or shall. */
struct line_view_frame {
    struct buf text;
    struct line_view_row *rows;
    size_t n_rows, capacity;
    size_t cursor_row;
    int cursor_column;
};

/* Zero it, then set `terminal` (not owned). */
struct line_view {
    struct terminal *terminal;
    struct line_view_frame shown; /* n_rows = 0: nothing is */
    size_t first;                 /* the first row of the window, among all rows of the text */
    int column;                   /* of the real cursor in shown.cursor_row; -1: unknown */
    bool is_resized;
};

void line_view_release(struct line_view *v);

/* prompt and text: sanitized UTF-8. style: an SGR sequence for the prompt, or "". */
void line_view_show(struct line_view *v, const char *prompt, const char *style, const char *text,
                    size_t cursor);
/* Takes it off the screen; the cursor is where it began. Something else can be printed there. */
void line_view_erase(struct line_view *v);
/* Leaves it on the screen and goes to the line below. */
void line_view_finish(struct line_view *v);
/* The terminal has another size: the next show is done from the beginning. */
void line_view_resized(struct line_view *v);
