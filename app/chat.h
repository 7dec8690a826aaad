/*
 * The chat without a terminal: settings, conversation and worker behind one object. A skin feeds it
 * what the user entered and calls chat_pump() when chat_fd() is readable; everything to show comes
 * back through its struct frontend.
 */
#pragma once

#include "app/config.h"
#include "app/conversation.h"
#include "app/frontend.h"
#include "app/worker.h"

struct chat {
    struct config *config;        /* not owned */
    const struct frontend *front; /* not owned */
    struct worker *worker;
    struct conversation conversation;
    uint64_t running; /* the request in flight, 0: none */
    bool is_ready;    /* the model is loaded */
    bool is_raw;      /* complete raw text (base models, /raw) */
    /* what chat.c keeps of the answer in flight is private to it */
    struct chat_answer *answer;
};

/* Starts loading config->model and opens or begins a conversation. */
int chat_open(struct chat *chat, struct config *config, const struct frontend *front,
              struct err *err);
void chat_close(struct chat *chat);

int chat_fd(const struct chat *chat); /* another one after /model: ask each time */

/* Handles what the worker has sent. -1: the model could not be loaded or the engine broke; `err`
 * says why and chat must be closed. */
int chat_pump(struct chat *chat, struct err *err);

enum chat_result {
    CHAT_DONE,   /* a command ran, or there was nothing to do */
    CHAT_SENT,   /* the engine works until chat_is_busy() is false: at a message, which ends with
                    answer_end(), or at /bench */
    CHAT_QUIT,   /* /exit */
    CHAT_FAILED, /* said through the front end; *err has it too */
};

/* What the user entered: a slash command (also ":name" and full-width "／name"; "//" escapes), or a
 * message. While an answer runs, messages are refused with a notice. */
enum chat_result chat_enter(struct chat *chat, const char *text, struct err *err);

/* A message as it is, never a command: script input. */
enum chat_result chat_send(struct chat *chat, const char *text, struct err *err);

/* Stops the answer in flight; what came so far is kept as a partial turn. */
void chat_interrupt(struct chat *chat);
bool chat_is_busy(const struct chat *chat);

/* What a status line shows. */
struct chat_state {
    const struct model_info *model; /* NULL: not loaded */
    int context_used;               /* tokens, as of the last answer and the one in flight */
    double speed;                   /* of the answer in flight, tokens/s; 0: not known yet */
    double roof_share;              /* what is read for it, of the roof; below 0: not known */
    uint64_t memory_bytes;          /* taken, of model->device_bytes; 0: not known */
};
struct chat_state chat_state(const struct chat *chat);

/* Has the roof measured when nothing is asked for a while, where that has not been done. */
void chat_want_roof(const struct chat *chat);

/*
 * Completion of the word before `cursor` (bytes) in `line`: command names, their arguments, option
 * names and values, file names. Candidates are whole words to stand in place of
 * line[begin..cursor). Freed with chat_completion_release().
 */
struct chat_completion {
    size_t begin;
    char **words;
    size_t n_words;
};
int chat_complete(const struct chat *chat, const char *line, size_t cursor,
                  struct chat_completion *out);
void chat_completion_release(struct chat_completion *completion);
