/*
 * What the screen shows of the conversation: messages, sentences and tables, each laid out once and
 * again only when the width or its text changes. While an answer streams only the open tail of the
 * last item is done anew (ui/markdown.h). Pure layout: no terminal here.
 */
#pragma once

#include "app/frontend.h"
#include "ui/grid.h"
#include "ui/lines.h"
#include "ui/markdown.h"

enum item_kind { ITEM_USER, ITEM_ANSWER, ITEM_SAYING, ITEM_TABLE };

struct item {
    enum item_kind kind;
    enum tone tone;             /* ITEM_SAYING */
    uint64_t turn;              /* of the conversation, 0: none (yet) */
    bool is_attached;           /* no blank row before it */
    bool is_open;               /* an answer that streams */
    struct buf text, reasoning; /* sanitized */
    struct grid grid;
    /* the layout */
    int columns; /* 0: to be done */
    bool is_unfolded;
    struct markdown markdown;
    size_t reasoning_at, reasoning_rows; /* reasoning that is laid out for good */
    struct lines thinking, lines;
    size_t first_row; /* in the transcript, behind the blank row */
};

struct transcript {
    struct item **items;
    size_t n, capacity;
    size_t n_rows;
    int columns;
    bool shows_thinking; /* all of it, else folded */
    bool hides_thinking; /* not even its last rows while it streams */
    size_t n_sound;      /* items up to here are laid out and have their first_row */
    bool failed;         /* out of memory: something is missing */
};

void transcript_release(struct transcript *t);
void transcript_clear(struct transcript *t);

struct item *transcript_add(struct transcript *t, enum item_kind kind, const char *text);
void transcript_say(struct transcript *t, enum tone tone, const char *text);
/* A sentence below an item, without a blank row between, whatever was said since. */
void transcript_note(struct transcript *t, const struct item *below, enum tone tone,
                     const char *text);
/* The answer that streams; begun by its first text. */
struct item *transcript_answer(struct transcript *t);
void transcript_answer_text(struct transcript *t, enum answer_part part, const char *text,
                            size_t n);
void transcript_answer_end(struct transcript *t);

void transcript_show_thinking(struct transcript *t, bool shows);

/* Brings all rows up to date. */
void transcript_lay_out(struct transcript *t, int columns);

/* A row of it: lines->rows[row]; lines NULL: a blank one. */
struct transcript_row {
    const struct lines *lines;
    size_t row;
};
struct transcript_row transcript_row(const struct transcript *t, size_t row);
/* The item that row is in or stands before; n where there is none. */
size_t transcript_item_at(const struct transcript *t, size_t row);

/* A place that stays the same text when the layout changes. */
struct transcript_place {
    size_t item, row_of_item, rows_of_item;
};
struct transcript_place transcript_place(const struct transcript *t, size_t row);
size_t transcript_row_of(const struct transcript *t, const struct transcript_place *place);

/* Where a text stands, in the order of the rows; ASCII letters match in either case. */
struct match {
    const struct lines *lines;
    size_t begin, end; /* bytes of lines->content */
    size_t row;        /* of the transcript */
};
/* All matches, mem_free(); NULL where there are none. */
struct match *transcript_find(const struct transcript *t, const char *text, size_t *n);
