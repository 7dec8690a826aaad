/* What a line is, which command is meant, and running it. */
#include "app/commands.h"

#include "app/chat_internal.h"

#include <stdio.h>
#include <string.h>

const struct command command_table[N_COMMANDS] = {
#define COMMAND(id, others, words, kinds, time, text)                                              \
    [COMMAND_##id] = {.name = #id,                                                                 \
                      .aliases = others,                                                           \
                      .arguments = words,                                                          \
                      .completion = kinds,                                                         \
                      .when = WHEN_##time,                                                         \
                      .help = text,                                                                \
                      .run = cmd_##id},
#define SUBCOMMAND(...)
#include "app/commands.def"
#undef SUBCOMMAND
#undef COMMAND
};

/* Is the word of n bytes among the words of a list that blanks separate? */
static bool is_among(const char *list, const char *word, size_t n) {
    while (*list) {
        size_t length = strcspn(list, " ");
        if (length == n && memcmp(list, word, n) == 0) return true;
        list += length + (list[length] == ' ');
    }
    return false;
}

int command_find(const char *name, size_t n) {
    for (int i = 0; i < N_COMMANDS; i++)
        if (is_among(command_table[i].name, name, n) || is_among(command_table[i].aliases, name, n))
            return n ? i : -1;
    return -1;
}

const char *command_nearest(const char *name) {
    const char *names[N_COMMANDS];
    for (int i = 0; i < N_COMMANDS; i++) names[i] = command_table[i].name;
    return name_nearest(name, names, N_COMMANDS);
}

/* "/", ":" or their full-width forms; the length of the prefix, 0: there is none. */
static size_t prefix_length(const char *text, bool *is_colon) {
    static const struct {
        const char *text;
        bool is_colon;
    } prefixes[] = {{"/", false}, {"：", true}, {"／", false}, {":", true}};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++) {
        size_t n = strlen(prefixes[i].text);
        if (strncmp(text, prefixes[i].text, n) != 0) continue;
        *is_colon = prefixes[i].is_colon;
        return n;
    }
    return 0;
}

struct line line_parse(const char *text) {
    struct line message = {.kind = LINE_MESSAGE, .text = text};
    bool is_colon = false;
    size_t n = prefix_length(text, &is_colon);
    if (!n) return message;
    const char *name = text + n;
    if (!is_colon && strncmp(name, text, n) == 0) { /* "//": a slash of the message's own */
        message.text = name;
        return message;
    }
    size_t n_name = strcspn(name, " \t\r\n");
    if (is_colon && command_find(name, n_name) < 0) return message;
    const char *arguments = name + n_name;
    return (struct line){.kind = LINE_COMMAND,
                         .name = name,
                         .n_name = n_name,
                         .arguments = arguments + strspn(arguments, " \t\r\n")};
}

static enum chat_result refuse_unknown(const struct line *line, struct err *err) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(line->n_name < 60 ? line->n_name : 60), line->name);
    const char *nearest = command_nearest(name);
    if (nearest)
        err_set(err, ERR_USAGE, "unknown command /%s; did you mean /%s? (// sends a slash as text)",
                name, nearest);
    else
        err_set(err, ERR_USAGE, "unknown command /%s; /help lists them (// sends a slash as text)",
                name);
    return CHAT_FAILED;
}

enum chat_result command_run(struct chat *chat, const struct line *line, struct err *err) {
    struct buf arguments = {0};
    int found = command_find(line->name, line->n_name);
    if (found < 0) return refuse_unknown(line, err);
    const struct command *command = &command_table[found];
    if (command->when == WHEN_IDLE && chat_is_busy(chat)) {
        err_set(err, ERR_OTHER, "/%s: an answer is running; stop it first (Ctrl-C), or wait",
                command->name);
        return CHAT_FAILED;
    }
    buf_puts(&arguments, line->arguments);
    if (arguments.failed) {
        err_memory(err, strlen(line->arguments), "the command");
        return CHAT_FAILED;
    }
    while (arguments.n && strchr(" \t\r\n", arguments.data[arguments.n - 1])) arguments.n--;
    arguments.data[arguments.n] = '\0';
    enum chat_result result = CHAT_FAILED;
    if (*arguments.data && !*command->arguments)
        err_set(err, ERR_USAGE, "/%s takes nothing, found \"%s\"", command->name, arguments.data);
    else
        result = command->run(chat, arguments.data, err);
    buf_release(&arguments);
    return result;
}
