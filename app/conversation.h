/*
 * A conversation: a tree of messages, because /edit and /regen add leaves and nothing said is ever
 * thrown away. The current branch is the path from the root to `leaf`. Plain data and its journal;
 * no engine, no terminal.
 *
 * The journal is JSON Lines, one record per message or change, appended and synced before the next
 * prompt is shown; kill -9 at any moment loses at most the answer in flight. A torn last line is
 * cut off on open; a damaged one in the middle is skipped and counted, and the file is kept.
 */
#pragma once

#include "engine/base/err.h"
#include "engine/text/chat_template.h"

struct turn {
    uint64_t id;     /* 1, 2, … within the conversation */
    uint64_t parent; /* 0: the root */
    enum role role;
    char *content;
    char *reasoning; /* or NULL */
    char *model;     /* assistant: what answered; or NULL */
    int64_t unix_ms;
    struct tokens tokens; /* assistant: ids of the answer */
    char *tokenizer;      /* identifies the tokenizer of `tokens`, or NULL */
    bool is_partial;      /* interrupted */
};

struct conversation {
    char id[32];        /* "20261123-224500-7f3a": file name without .jsonl */
    char *title;        /* the first user message's beginning, or as renamed */
    char *system;       /* system prompt; NULL: the template's default */
    struct turn *turns; /* in the order of their ids */
    size_t n_turns, capacity;
    uint64_t leaf;    /* the last turn of the current branch, 0: empty */
    size_t n_damaged; /* records skipped on open */
    char notice[256]; /* what conversation_open() has to say to the user, or "" */
    /* the journal */
    char *folder;       /* NULL: not kept */
    int fd;             /* -1: not open (yet) */
    struct buf unsaved; /* records that the file does not have: they go first with the next turn */
    int64_t file_bytes; /* the file up to its last whole record */
};

/* A new one under `folder` (NULL: not kept on disk). The file appears with the first turn. */
int conversation_new(struct conversation *c, const char *folder, struct err *err);
/* An earlier one by id, id's beginning, or "" for the one used last. Where its file is in use by
 * another process, cannot be written or is of a newer version, it goes on in a copy, and `notice`
 * says so. */
int conversation_open(struct conversation *c, const char *folder, const char *id, struct err *err);
void conversation_release(struct conversation *c);

/*
 * Appends a turn under the current leaf, which it becomes. id and parent are given by it, unix_ms
 * where it is 0. Strings are copied; what is not UTF-8 becomes U+FFFD.
 *
 * This and the functions below write to the journal. With ERR_IO the change has been made and only
 * its record could not be written: it is tried again with the next one. With ERR_MEMORY nothing
 * has changed.
 */
int conversation_add(struct conversation *c, const struct turn *turn, struct err *err);
/* Moves the leaf (undo, regen, edit); 0: before the first turn. */
int conversation_move(struct conversation *c, uint64_t leaf, struct err *err);
/* NULL: back to the template's default. */
int conversation_set_system(struct conversation *c, const char *system, struct err *err);
int conversation_set_title(struct conversation *c, const char *title, struct err *err);

const struct turn *conversation_turn(const struct conversation *c, uint64_t id); /* or NULL */

/* The current branch, root first: n pointers into `turns` (mem_free the array). */
int conversation_branch(const struct conversation *c, const struct turn ***out, size_t *n,
                        struct err *err);

/* Whole-file exports: "md", "json" (OpenAI's messages), "txt". */
int conversation_export(const struct conversation *c, const char *format, struct buf *out,
                        struct err *err);

/* For lists: id, title, time and number of turns of each kept conversation, newest first. */
struct conversation_entry {
    char id[32];
    char *title;
    int64_t unix_ms;
    size_t n_turns;
};
int conversation_list(const char *folder, struct conversation_entry **out, size_t *n,
                      struct err *err);
void conversation_list_free(struct conversation_entry *entries, size_t n);
