/* The program's subcommands (SUBCOMMAND rows of commands.def): run instead of a chat, from main.c.
 */
#pragma once

#include "app/config.h"
#include "app/frontend.h"

/* config->arguments holds the subcommand's name and its operands. */
#define SUBCOMMAND(name, ...)                                                                      \
    int subcommand_##name(const struct config *config, const struct frontend *front,               \
                          struct err *err);
#define COMMAND(...)
#include "app/commands.def"
#undef COMMAND
#undef SUBCOMMAND

/* A row of two cells, the second one formatted. */
void subcommand_row(const struct frontend *front, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
