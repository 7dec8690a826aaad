/*
 * Views over the transcript: the table that a command gives. A view shows what the command shows in
 * line mode and acts by entering commands, so it knows nothing that the line mode could not do.
 * Each kind is one file, and a line of views.def. There are two sorts:
 *
 *   - a list: the command without arguments opens it; a row is chosen, keys do something with it
 *   - work: the command runs until it is done or stopped (Escape, Ctrl-C). Rows come one by one, a
 *     bar shows how far it is and the time left, and what was shown stays in the transcript
 *
 * Both show all that the command says through its struct frontend.
 */
#pragma once

#include "app/commands.h"
#include "app/language.h"
#include "ui/keys.h"
#include "ui/lines.h"
#include "ui/progress.h"

struct view;

/* What a key has come to. */
enum view_act {
    VIEW_IGNORED,   /* the key is not this view's */
    VIEW_RUN,       /* enter `line`, then show the table anew */
    VIEW_LEAVE_RUN, /* close the view, then enter `line` */
    VIEW_TYPE,      /* close the view, `line` stands in the input to be finished */
    VIEW_ASK, /* ask with `prompt` for a value (`value` is offered), then enter `line` and it */
};
struct view_request {
    enum view_act act;
    struct buf line, value;
    const char *prompt;
};

struct view_kind {
    enum command_id command;
    const char *title;
    const char *keys; /* what they do, beside those of every view; NULL: there are no others */
    void (*key)(const struct view *v, const struct key *key, struct view_request *request);
    const char *spare; /* "531": columns that are left out, in this order, where there is no room */
    bool is_work;
    /* of work: the column that has shares ("61 %"), 0: none. They are drawn as bars in place of the
     * last column, below this head. */
    size_t share;
    const char *share_head;
};
#define VIEW(kind) extern const struct view_kind kind;
#include "ui/views.def"
#undef VIEW
/* NULL: the command has no view. */
const struct view_kind *view_of_command(int command);

enum { VIEW_COLUMNS = 8 };

struct view {
    const struct view_kind *kind; /* NULL: none is open */
    struct buf cells;             /* each with its NUL, row by row */
    size_t *rows;                 /* where each begins in `cells` */
    size_t n, capacity, n_columns;
    bool has_head;
    size_t chosen, first; /* rows behind the head */
    struct buf note;      /* what the command said */
    bool is_collecting;   /* rows and sentences go here */
    bool is_running;      /* its work does */
};

void view_release(struct view *v);
void view_clear(struct view *v); /* before the command runs again; the choice stays */
void view_row(struct view *v, const char *const *cells, size_t n, bool is_head);
void view_say(struct view *v, const char *text);

/* A cell of any row, the head's among them, by its number. */
const char *view_cell_at(const struct view *v, size_t row, size_t column);
/* A cell of the chosen row, "" where there is none. */
const char *view_cell(const struct view *v, size_t column);
bool view_is_char(const struct key *key, uint32_t c);

/* Moves the choice; false: the key does not. */
bool view_move(struct view *v, const struct key *key, size_t height);

/* The whole view as `height` rows; `progress` is looked at while work runs. */
void view_lay_out(struct view *v, int columns, size_t height, const struct progress *progress,
                  struct lines *out);
