/* Commands between the conversation and the disk. */
#include "app/chat_internal.h"
#include "app/language.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <stdio.h>
#include <string.h>

enum { MAX_LISTED = 20 };

enum chat_result cmd_save(struct chat *chat, const char *arguments, struct err *err) {
    struct conversation *c = &chat->conversation;
    if (*arguments) chat_check_saved(chat, conversation_set_title(c, arguments, err), err);
    if (!c->folder)
        chat_say(chat, TONE_NOTICE,
                 _("this conversation is not kept on disk; /export writes it to a "
                   "file"));
    else if (!c->n_turns)
        chat_say(chat, TONE_NOTICE, _("it will be saved with the first message"));
    else
        chat_say(chat, TONE_OUTPUT, _("saved as %s: %s"), c->id, c->title ? c->title : "");
    return CHAT_DONE;
}

static enum chat_result list_conversations(struct chat *chat, struct err *err) {
    const char *folder = chat->config->conversations_folder;
    struct conversation_entry *entries = NULL;
    size_t n = 0;
    if (folder && conversation_list(folder, &entries, &n, err) != 0) return CHAT_FAILED;
    size_t most = chat->front->turns ? n : MAX_LISTED; /* a screen that scrolls shows them all */
    if (n) chat_row_conversations_head(chat);
    for (size_t i = 0; i < n && i < most; i++) chat_row_conversation(chat, &entries[i]);
    if (n) chat_row(chat, false, 0, NULL);
    if (n > most) chat_say(chat, TONE_OUTPUT, _("and %zu older ones"), n - most);
    if (!n) chat_say(chat, TONE_OUTPUT, _("no conversation has been kept yet"));
    conversation_list_free(entries, n);
    return CHAT_DONE;
}

enum chat_result cmd_resume(struct chat *chat, const char *arguments, struct err *err) {
    struct conversation next;
    if (!*arguments) return list_conversations(chat, err);
    if (strcmp(arguments, "last") == 0) arguments = "";
    if (*arguments && strcmp(arguments, chat->conversation.id) == 0) {
        chat_say(chat, TONE_NOTICE, _("that is the one that is open"));
        return CHAT_DONE;
    }
    if (conversation_open(&next, chat->config->conversations_folder, arguments, err) != 0)
        return CHAT_FAILED;
    chat_switch(chat, &next);
    return cmd_history(chat, "", err);
}

/* The format that the last word names ("out.txt json"), else the file's ending; the path is what
 * is left. */
static int split_export(char *path, char format[8], struct err *err) {
    static const char *const formats[] = {"md", "json", "txt"};
    char *word = strrchr(path, ' ');
    const char *named = word ? word + 1 : "", *ending = strrchr(path, '.');
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(named, formats[i]) != 0) continue;
        *word = '\0';
        snprintf(format, 8, "%s", formats[i]);
        return 0;
    }
    for (size_t i = 0; i < 3 && ending; i++) {
        if (strcmp(ending + 1, formats[i]) != 0) continue;
        snprintf(format, 8, "%s", formats[i]);
        return 0;
    }
    return err_set(err, ERR_USAGE,
                   "/export: md, json or txt is needed, behind the file's name or as "
                   "its ending");
}

static enum chat_result write_export(struct chat *chat, const char *path, const char *format,
                                     struct err *err) {
    const struct frontend *front = chat->front;
    struct buf text = {0}, question = {0};
    if (io_exists(path)) {
        buf_printf(&question, "%s is there already. Replace it?", path);
        bool replace =
            !question.failed && front->is_interactive && front->confirm(front->ui, question.data);
        buf_release(&question);
        if (!replace) {
            err_set(err, ERR_IO, "%s is there already; nothing was written", path);
            return CHAT_FAILED;
        }
    }
    int result = conversation_export(&chat->conversation, format, &text, err);
    if (result == 0) result = io_write_atomic(path, 0600, text.data, text.n, err);
    buf_release(&text);
    if (result != 0) return CHAT_FAILED;
    chat_say(chat, TONE_NOTICE, _("written to %s"), path);
    return CHAT_DONE;
}

enum chat_result cmd_export(struct chat *chat, const char *arguments, struct err *err) {
    char format[8];
    if (!*arguments) {
        err_set(err, ERR_USAGE, "/export: the name of a file is needed");
        return CHAT_FAILED;
    }
    char *path = config_expand_path(chat->config, arguments);
    if (!path) {
        err_memory(err, strlen(arguments), "a path");
        return CHAT_FAILED;
    }
    enum chat_result result =
        split_export(path, format, err) == 0 ? write_export(chat, path, format, err) : CHAT_FAILED;
    mem_free(path);
    return result;
}
