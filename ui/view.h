/*
 * Views over the transcript: the table that a command gives, with a row that is chosen and keys
 * that do something with it. A view shows what the command shows in line mode and acts by entering
 * commands, so it knows nothing that the line mode could not do. Each kind is one file, and a line
 * of views.def.
 */
#pragma once

#include "app/commands.h"
#include "app/language.h"
#include "ui/keys.h"
#include "ui/lines.h"

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
    enum command_id command; /* without arguments it opens the view */
    const char *title;
    const char *keys; /* what they do, beside those of every view */
    void (*key)(const struct view *v, const struct key *key, struct view_request *request);
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
};

void view_release(struct view *v);
void view_clear(struct view *v); /* before the command runs again; the choice stays */
void view_row(struct view *v, const char *const *cells, size_t n, bool is_head);
void view_say(struct view *v, const char *text);

/* A cell of the chosen row, "" where there is none. */
const char *view_cell(const struct view *v, size_t column);
bool view_is_char(const struct key *key, uint32_t c);

/* Moves the choice; false: the key does not. */
bool view_move(struct view *v, const struct key *key, size_t height);

/* The whole view as `height` rows. */
void view_lay_out(struct view *v, int columns, size_t height, struct lines *out);
