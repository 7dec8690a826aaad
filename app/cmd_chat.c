/* Commands of the conversation itself: what was said, and saying it again. */
#include "app/chat_internal.h"
#include "app/language.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <stdio.h>
#include <string.h>

enum { MAX_SYSTEM_BYTES = 1 << 20 };

static enum chat_result done(struct chat *chat, int result, const struct err *err) {
    chat_check_saved(chat, result, err);
    return CHAT_DONE;
}

enum chat_result cmd_help(struct chat *chat, const char *arguments, struct err *err) {
    const char *name = arguments + (*arguments == '/' || *arguments == ':');
    int only = *name ? command_find(name, strlen(name)) : -1;
    if (*name && only < 0) {
        const char *nearest = command_nearest(name);
        err_set(err, ERR_USAGE, "unknown command /%s%s%s", name,
                nearest ? "; the nearest is /" : "", nearest ? nearest : "");
        return CHAT_FAILED;
    }
    for (int i = 0; i < N_COMMANDS; i++) {
        const struct command *c = &command_table[i];
        struct buf head = {0};
        if (only >= 0 && i != only) continue;
        buf_printf(&head, "/%s%s%s", c->name, *c->arguments ? " " : "", c->arguments);
        const char *const cells[] = {head.failed ? c->name : head.data, _(c->help)};
        chat_row(chat, false, 2, cells);
        buf_release(&head);
    }
    chat_row(chat, false, 0, NULL);
    if (only >= 0 && *command_table[only].aliases)
        chat_say(chat, TONE_OUTPUT, _("also: %s"), command_table[only].aliases);
    if (only < 0)
        chat_say(chat, TONE_OUTPUT,
                 _("a line that begins with // is sent as text, without one slash"));
    return CHAT_DONE;
}

enum chat_result cmd_exit(struct chat *chat, const char *arguments, struct err *err) {
    (void)chat;
    (void)arguments;
    (void)err;
    return CHAT_QUIT;
}

enum chat_result cmd_clear(struct chat *chat, const char *arguments, struct err *err) {
    struct conversation next;
    (void)arguments;
    if (chat_begin(chat, &next, err) != 0) return CHAT_FAILED;
    chat_switch(chat, &next);
    chat->front->clear(chat->front->ui);
    return CHAT_DONE;
}

enum chat_result cmd_history(struct chat *chat, const char *arguments, struct err *err) {
    const struct turn **turns;
    size_t n;
    (void)arguments;
    if (chat->front->turns) {
        chat_show_turns(chat);
        return CHAT_DONE;
    }
    if (conversation_branch(&chat->conversation, &turns, &n, err) != 0) return CHAT_FAILED;
    if (chat->conversation.title)
        chat_say(chat, TONE_OUTPUT, "%s: %s", chat->conversation.id, chat->conversation.title);
    if (chat->conversation.system)
        chat_say(chat, TONE_OUTPUT, _("system: %s"), chat->conversation.system);
    for (size_t i = 0; i < n; i++) {
        struct buf text = {0};
        buf_printf(&text, "%s: %s%s", role_name(turns[i]->role), turns[i]->content,
                   turns[i]->is_partial ? " (interrupted)" : "");
        if (!text.failed) chat_print(chat, text.data);
        buf_release(&text);
    }
    if (!n) chat_say(chat, TONE_OUTPUT, _("nothing has been said yet"));
    mem_free(turns);
    return CHAT_DONE;
}

/* A row with the message's number and the words around the place. */
static void list_match(struct chat *chat, const struct turn *turn, const char *at) {
    enum { AROUND = 60 };
    const char *begin = at - turn->content > AROUND ? at - AROUND : turn->content;
    while (begin < at && ((unsigned char)*begin & 0xC0) == 0x80) begin++;
    char number[24], text[256];
    snprintf(number, sizeof number, "%llu", (unsigned long long)turn->id);
    snprintf(text, sizeof text, "%.200s", begin);
    const char *const cells[] = {number, role_name(turn->role), text};
    chat_row(chat, false, 3, cells);
}

enum chat_result cmd_find(struct chat *chat, const char *arguments, struct err *err) {
    const struct turn **turns;
    size_t n, found = 0;
    if (!*arguments) return chat_refuse(err, "/find: the text to look for is needed");
    if (chat->front->find) {
        chat->front->find(chat->front->ui, arguments);
        return CHAT_DONE;
    }
    if (conversation_branch(&chat->conversation, &turns, &n, err) != 0) return CHAT_FAILED;
    for (size_t i = 0; i < n; i++) {
        const char *at = strcasestr(turns[i]->content, arguments);
        if (at) list_match(chat, turns[i], at);
        found += at != NULL;
    }
    if (found)
        chat_row(chat, false, 0, NULL);
    else
        chat_say(chat, TONE_OUTPUT, _("not found"));
    mem_free(turns);
    return CHAT_DONE;
}

static enum chat_result show_system(struct chat *chat) {
    const struct chat_template *t = worker_chat(chat->worker);
    const char *own = t ? chat_template_default_system(t) : NULL;
    if (chat->conversation.system)
        chat_print(chat, chat->conversation.system);
    else if (own)
        chat_say(chat, TONE_OUTPUT, _("the model's own: %s"), own);
    else
        chat_say(chat, TONE_OUTPUT, _("none"));
    return CHAT_DONE;
}

enum chat_result cmd_system(struct chat *chat, const char *arguments, struct err *err) {
    struct conversation *c = &chat->conversation;
    struct buf text = {0};
    int result;
    if (!*arguments) return show_system(chat);
    if (strcmp(arguments, "off") == 0) {
        result = conversation_set_system(c, NULL, err);
    } else if (*arguments == '@') {
        char *path = config_expand_path(chat->config, arguments + 1);
        result = path ? io_read_file(path, MAX_SYSTEM_BYTES, &text, err)
                      : err_memory(err, strlen(arguments), "a path");
        mem_free(path);
        if (result != 0) {
            buf_release(&text);
            return CHAT_FAILED;
        }
        result = conversation_set_system(c, text.data, err);
        buf_release(&text);
    } else {
        result = conversation_set_system(c, arguments, err);
    }
    chat_say(chat, TONE_NOTICE, _("the system prompt holds from the next message on"));
    return done(chat, result, err);
}

enum chat_result cmd_regen(struct chat *chat, const char *arguments, struct err *err) {
    const struct turn *message = chat_last_message(chat);
    (void)arguments;
    if (!message) return chat_refuse(err, "there is no message to answer again");
    if (!(chat_sampling(chat).temperature > 0))
        chat_say(
            chat, TONE_NOTICE,
            _("at temperature 0 the answer comes out the same; /set temperature 0.7 varies it"));
    if (message->id != chat->conversation.leaf)
        chat_check_saved(chat, conversation_move(&chat->conversation, message->id, err), err);
    chat_show_turns(chat);
    return chat_ask(chat, err);
}

enum chat_result cmd_undo(struct chat *chat, const char *arguments, struct err *err) {
    const struct turn *message = chat_last_message(chat);
    (void)arguments;
    if (!message) return chat_refuse(err, "there is nothing to take back");
    int result = conversation_move(&chat->conversation, message->parent, err);
    chat_show_turns(chat);
    chat_say(chat, TONE_NOTICE, _("taken back: %.200s"), message->content);
    return done(chat, result, err);
}

enum chat_result cmd_edit(struct chat *chat, const char *arguments, struct err *err) {
    const struct turn *message = chat_last_message(chat);
    const struct frontend *front = chat->front;
    if (!message) return chat_refuse(err, "there is no message to change");
    if (!*arguments && !front->is_interactive)
        return chat_refuse(err, "/edit: the new text is needed: /edit TEXT");
    uint64_t parent = message->parent;
    char *text = *arguments ? mem_strdup(arguments) : front->edit(front->ui, message->content);
    if (!text || !text[strspn(text, " \t\r\n")]) {
        mem_free(text);
        chat_say(chat, TONE_NOTICE, _("the message stays as it was"));
        return CHAT_DONE;
    }
    chat_check_saved(chat, conversation_move(&chat->conversation, parent, err), err);
    struct turn turn = {.role = ROLE_USER, .content = text};
    int result = conversation_add(&chat->conversation, &turn, err);
    mem_free(text);
    if (result != 0 && err->kind == ERR_MEMORY) return CHAT_FAILED;
    chat_check_saved(chat, result, err);
    chat_show_turns(chat);
    return chat_ask(chat, err);
}
