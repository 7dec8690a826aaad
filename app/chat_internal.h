/* What chat.c and the commands share; nobody else includes it. */
#pragma once

#include "app/chat.h"
#include "app/commands.h"
#include "engine/base/sanitize.h"

/* The answer in flight, and what stays of the ones before. */
struct chat_answer {
    struct buf parts[2]; /* by enum answer_part: the text so far, as the model gave it */
    struct sanitizer sanitizers[2];
    struct buf attached; /* files that go with the next message */
    uint64_t seed;
    bool is_waiting;      /* for the model to be loaded */
    bool is_prompt_shown; /* a bar for the prompt is up */
    bool is_bench;        /* what runs is no answer */
    bool has_bench_rows;
    struct {
        bool is_up;
        double begin, from, share; /* seconds of the monotonic clock; of the work */
    } pace;
    int n_pieces;         /* of text that the answer in flight has sent */
    double first_piece;   /* when the first of them came, seconds of the monotonic clock */
    uint64_t first_drawn; /* engine_load.n_drawn then */
    char *former_model;   /* what /model goes back to when the new one cannot be loaded */
    /* for /stats */
    struct engine_usage last;
    uint64_t n_answers, n_prompt_tokens, n_cached_tokens, n_answer_tokens;
};

/* A sentence, sanitized where the skin is a terminal. */
void chat_say(const struct chat *chat, enum tone tone, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* What was entered is wrong: `text` becomes the error of a command. */
enum chat_result chat_refuse(struct err *err, const char *text);
/* Any text, line by line. */
void chat_print(const struct chat *chat, const char *text);
/* A row of a table; n 0 ends it. */
void chat_row(const struct chat *chat, bool is_head, size_t n, const char *const *cells);

/* Work that takes time: `share` of it is done. The skin also gets the time that is left, where
 * enough of it was seen. */
void chat_progress(struct chat *chat, const char *what, double share);
void chat_progress_end(struct chat *chat);

/* Rows of lists of conversations. */
void chat_row_conversations_head(const struct chat *chat);
void chat_row_conversation(const struct chat *chat, const struct conversation_entry *entry);

/* The result of a change of the conversation: what could not be saved is said, not fatal. */
void chat_check_saved(const struct chat *chat, int result, const struct err *err);

/* What the worker says of a bench in flight. */
void chat_bench_event(struct chat *chat, const struct worker_event *event);

/* Asks for an answer to the current branch, whose last turn is the user's. */
enum chat_result chat_ask(struct chat *chat, struct err *err);

/* Has the skin show the current branch, if it is one that keeps the conversation on its screen. */
void chat_show_turns(const struct chat *chat);

/* Another conversation in place of the current one, which is released. Takes `next` over. */
void chat_switch(struct chat *chat, struct conversation *next);
/* A new conversation with the system prompt of the options. */
int chat_begin(struct chat *chat, struct conversation *out, struct err *err);

/* Stops the worker and loads `path`; the one before comes back if that fails. */
int chat_load(struct chat *chat, const char *path, struct err *err);

/* The last user turn of the current branch, or NULL. */
const struct turn *chat_last_message(const struct chat *chat);

/* The sampling that the next answer gets, without its seed. */
struct sampling chat_sampling(const struct chat *chat);
