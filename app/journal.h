/*
 * The records of a conversation's journal: one line of JSON each, with its version first and a
 * checksum last, so that a damaged line is known for what it is.
 *
 *   {"v":1,"kind":"turn","id":2,"parent":1,"role":"assistant","time":…,"content":"…", … ,"sum":"…"}
 *   {"v":1,"kind":"leaf","id":1,"sum":"…"}
 *   {"v":1,"kind":"system","text":"…","sum":"…"}     text null: the template's default
 *   {"v":1,"kind":"title","text":"…","sum":"…"}
 */
#pragma once

#include "app/conversation.h"

enum { JOURNAL_VERSION = 1, JOURNAL_MAX_BYTES = 64 << 20 };

void journal_print_turn(const struct turn *turn, struct buf *out);
void journal_print_leaf(uint64_t leaf, struct buf *out);
void journal_print_text(const char *kind, const char *text, struct buf *out);
/* Ends the record that begins at byte `begin` of `out`: its checksum, "}" and a line break. */
void journal_print_sum(size_t begin, struct buf *out);
/* The whole conversation as a new journal. */
void journal_print_all(const struct conversation *c, struct buf *out);

/* Applies the records of text[0..n) to an empty conversation. */
struct journal_result {
    size_t whole_bytes; /* up to the end of the last whole line; what follows is torn */
    bool is_newer;      /* a record is of a newer version */
};
int journal_read(struct conversation *c, const char *text, size_t n, struct journal_result *result,
                 struct err *err);

/* What a list needs of a journal, without building its turns: the title (mem_free, may be NULL)
 * and how many turns it has. */
size_t journal_summary(const char *text, size_t n, char **title);

/* Puts a turn with its strings (which become the conversation's) behind the others. */
int conversation_put(struct conversation *c, struct turn *turn, struct err *err);
void turn_release(struct turn *turn);
