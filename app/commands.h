/*
 * Slash commands: the table of commands.def as C, what a line is, and completion. Each command is a
 * function cmd_<name>() in one of the cmd_*.c files.
 */
#pragma once

#include "app/chat.h"

enum command_id {
#define COMMAND(name, ...) COMMAND_##name,
#define SUBCOMMAND(...)
#include "app/commands.def"
#undef SUBCOMMAND
#undef COMMAND
    N_COMMANDS
};

enum command_when { WHEN_ANYTIME, WHEN_IDLE };

struct command {
    const char *name;
    const char *aliases;    /* "h ?" or "" */
    const char *arguments;  /* "[NAME [VALUE]]" or "" */
    const char *completion; /* "option value", "on|off" or "" */
    enum command_when when;
    const char *help;
    /* `arguments`: what stands behind the name, without blanks around it. On CHAT_FAILED *err is
     * set and has not been said yet. */
    enum chat_result (*run)(struct chat *chat, const char *arguments, struct err *err);
};
extern const struct command command_table[N_COMMANDS];

#define COMMAND(name, ...)                                                                         \
    enum chat_result cmd_##name(struct chat *chat, const char *arguments, struct err *err);
#define SUBCOMMAND(...)
#include "app/commands.def"
#undef SUBCOMMAND
#undef COMMAND

/* By name or alias of n bytes; -1: none. */
int command_find(const char *name, size_t n);
/* The name that is nearest to `name`, or NULL. */
const char *command_nearest(const char *name);

/* What a line that was entered is. "/name" is always a command, known or not; ":name" and the
 * full-width forms of both as well, ":" only with a known name, so that ":-)" is a message. */
enum line_kind { LINE_MESSAGE, LINE_COMMAND };
struct line {
    enum line_kind kind;
    const char *text; /* LINE_MESSAGE: to be sent; "//" has lost its first "/" */
    const char *name; /* LINE_COMMAND: n_name bytes */
    size_t n_name;
    const char *arguments; /* blanks before it are skipped */
};
struct line line_parse(const char *text);

/* Runs a LINE_COMMAND. On CHAT_FAILED the error has not been said yet. */
enum chat_result command_run(struct chat *chat, const struct line *line, struct err *err);
