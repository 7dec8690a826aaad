/* Commands over all conversations that are kept, and over the branches of the open one. */
#include "app/chat_internal.h"
#include "app/language.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_JOURNAL_BYTES = 64 << 20, MOST_FOUND = 200 };

static const char *folder_of(const struct chat *chat) {
    return chat->config->conversations_folder;
}

void chat_row_conversation(const struct chat *chat, const struct conversation_entry *entry) {
    char when[32], turns[24];
    time_t seconds = (time_t)(entry->unix_ms / 1000);
    struct tm local;
    localtime_r(&seconds, &local);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
    snprintf(turns, sizeof turns, "%zu", entry->n_turns);
    const char *const cells[] = {entry->id, when, turns, entry->title ? entry->title : ""};
    chat_row(chat, false, 4, cells);
}

void chat_row_conversations_head(const struct chat *chat) {
    static const char *const head[] = {N_("id"), N_("changed"), N_("turns"), N_("title")};
    chat_row(chat, true, 4, head);
}

/* The journal as text: what was said stands there as it was typed, but for \" and \n. */
static bool has_text(const char *folder, const char *id, const char *text) {
    struct buf path = {0}, journal = {0};
    buf_printf(&path, "%s/%s.jsonl", folder, id);
    bool found = !path.failed && io_read_file(path.data, MOST_JOURNAL_BYTES, &journal, NULL) == 0 &&
                 journal.data && strcasestr(journal.data, text);
    buf_release(&path);
    buf_release(&journal);
    return found;
}

enum chat_result cmd_search(struct chat *chat, const char *arguments, struct err *err) {
    struct conversation_entry *entries = NULL;
    size_t n = 0, found = 0;
    if (!*arguments) return chat_refuse(err, "/search: the text to look for is needed");
    if (folder_of(chat) && conversation_list(folder_of(chat), &entries, &n, err) != 0)
        return CHAT_FAILED;
    for (size_t i = 0; i < n && found < MOST_FOUND; i++) {
        if (!has_text(folder_of(chat), entries[i].id, arguments)) continue;
        if (found++ == 0) chat_row_conversations_head(chat);
        chat_row_conversation(chat, &entries[i]);
    }
    if (found)
        chat_row(chat, false, 0, NULL);
    else
        chat_say(chat, TONE_OUTPUT, _("no conversation has that"));
    conversation_list_free(entries, n);
    return CHAT_DONE;
}

/* The one whose id is, or begins with, `id`. */
static int find_entry(struct chat *chat, const char *id, struct conversation_entry *out,
                      struct err *err) {
    struct conversation_entry *entries = NULL;
    size_t n = 0, found = 0;
    *out = (struct conversation_entry){0};
    if (folder_of(chat) && conversation_list(folder_of(chat), &entries, &n, err) != 0) return -1;
    for (size_t i = 0; i < n && *id; i++) {
        if (strncmp(entries[i].id, id, strlen(id)) != 0) continue;
        if (found++ == 0) *out = entries[i];
    }
    out->title = out->title ? mem_strdup(out->title) : NULL;
    conversation_list_free(entries, n);
    if (found == 1) return 0;
    mem_free(out->title);
    out->title = NULL;
    return err_set(err, ERR_USAGE,
                   found ? "%s: several conversations begin so; give more of the id"
                         : "%s: no conversation begins so",
                   id);
}

enum chat_result cmd_delete(struct chat *chat, const char *arguments, struct err *err) {
    const struct frontend *front = chat->front;
    struct conversation_entry entry;
    struct buf question = {0}, path = {0};
    if (!*arguments)
        return chat_refuse(err, "/delete: the id of a conversation is needed; /resume lists them");
    if (find_entry(chat, arguments, &entry, err) != 0) return CHAT_FAILED;
    if (strcmp(entry.id, chat->conversation.id) == 0) {
        mem_free(entry.title);
        return chat_refuse(err, "/delete: that is the one that is open; /clear begins another one");
    }
    buf_printf(&question, "Delete \"%.60s\" for good?", entry.title ? entry.title : entry.id);
    if (!question.failed) sanitize_line(question.data);
    bool is_sure =
        !question.failed && front->is_interactive && front->confirm(front->ui, question.data);
    buf_printf(&path, "%s/%s.jsonl", folder_of(chat), entry.id);
    int result = is_sure && !path.failed ? io_unlink(path.data) : 0;
    if (!is_sure)
        chat_say(chat, TONE_NOTICE, _("nothing was deleted"));
    else if (result == 0)
        chat_say(chat, TONE_NOTICE, _("deleted: %s"), entry.title ? entry.title : entry.id);
    else
        err_set(err, ERR_IO, "%s could not be deleted", path.data);
    mem_free(entry.title);
    buf_release(&question);
    buf_release(&path);
    return result == 0 ? CHAT_DONE : CHAT_FAILED;
}

enum chat_result cmd_rename(struct chat *chat, const char *arguments, struct err *err) {
    size_t n = strcspn(arguments, " \t");
    const char *title = arguments + n + strspn(arguments + n, " \t");
    struct conversation_entry entry;
    struct conversation other;
    char id[32];
    if (!n || !*title) return chat_refuse(err, "/rename: an id and the new title are needed");
    snprintf(id, sizeof id, "%.*s", (int)(n < sizeof id ? n : sizeof id - 1), arguments);
    if (find_entry(chat, id, &entry, err) != 0) return CHAT_FAILED;
    mem_free(entry.title);
    int result;
    if (strcmp(entry.id, chat->conversation.id) == 0) {
        result = conversation_set_title(&chat->conversation, title, err);
    } else {
        if (conversation_open(&other, folder_of(chat), entry.id, err) != 0) return CHAT_FAILED;
        result = strcmp(other.id, entry.id) == 0
                     ? conversation_set_title(&other, title, err)
                     : err_set(err, ERR_IO, "%s is in use by another program", entry.id);
        conversation_release(&other);
    }
    if (result != 0) return CHAT_FAILED;
    chat_say(chat, TONE_NOTICE, _("%s is now: %s"), entry.id, title);
    return CHAT_DONE;
}

/* --- branches --------------------------------------------------------------------------------- */

static bool has_children(const struct conversation *c, uint64_t id) {
    for (size_t i = 0; i < c->n_turns; i++)
        if (c->turns[i].parent == id) return true;
    return false;
}

static enum chat_result list_branches(struct chat *chat) {
    static const char *const head[] = {N_("end"), "", N_("last words")};
    const struct conversation *c = &chat->conversation;
    chat_row(chat, true, 3, head);
    for (size_t i = 0; i < c->n_turns; i++) {
        const struct turn *turn = &c->turns[i];
        char id[24], text[256];
        if (has_children(c, turn->id)) continue;
        snprintf(id, sizeof id, "%llu", (unsigned long long)turn->id);
        snprintf(text, sizeof text, "%.250s", turn->content ? turn->content : "");
        const char *const cells[] = {id, turn->id == c->leaf ? "here" : "", text};
        chat_row(chat, false, 3, cells);
    }
    chat_row(chat, false, 0, NULL);
    return CHAT_DONE;
}

enum chat_result cmd_branch(struct chat *chat, const char *arguments, struct err *err) {
    struct conversation *c = &chat->conversation;
    char *end;
    unsigned long long id = strtoull(arguments, &end, 10);
    if (!*arguments) return list_branches(chat);
    const struct turn *turn = *end ? NULL : conversation_turn(c, id);
    if (!turn) {
        err_set(err, ERR_USAGE, "/branch: there is no message %.30s", arguments);
        return CHAT_FAILED;
    }
    if (turn->role == ROLE_USER) { /* its newest answer */
        for (size_t i = 0; i < c->n_turns; i++)
            if (c->turns[i].parent == id) turn = &c->turns[i];
        if (turn->id == id) return chat_refuse(err, "/branch: that message has no answer yet");
    }
    chat_check_saved(chat, conversation_move(c, turn->id, err), err);
    chat_show_turns(chat);
    chat_say(chat, TONE_NOTICE, _("the conversation goes on from message %llu"),
             (unsigned long long)turn->id);
    return CHAT_DONE;
}

/* --- out of it and into it -------------------------------------------------------------------- */

static const struct turn *last_answer(const struct chat *chat) {
    const struct turn *t = conversation_turn(&chat->conversation, chat->conversation.leaf);
    while (t && t->role != ROLE_ASSISTANT) t = conversation_turn(&chat->conversation, t->parent);
    return t;
}

enum chat_result cmd_copy(struct chat *chat, const char *arguments, struct err *err) {
    const struct frontend *front = chat->front;
    const struct turn *answer = last_answer(chat);
    char *end;
    long number = strtol(arguments, &end, 10);
    if (*end || number < 0 || number > 100000)
        return chat_refuse(err, "/copy: the number of a code block is needed, or nothing");
    if (!front->copy) return chat_refuse(err, "/copy: there is no terminal to copy with");
    if (!answer || !answer->content) return chat_refuse(err, "there is no answer to copy");
    if (!front->copy(front->ui, answer->content, (int)number)) {
        err_set(err, ERR_USAGE, "the last answer has no code block %ld", number);
        return CHAT_FAILED;
    }
    chat_say(chat, TONE_NOTICE,
             number ? _("code block %ld is in the clipboard of the terminal")
                    : _("the answer is in the clipboard of the terminal"),
             number);
    return CHAT_DONE;
}

enum chat_result cmd_attach(struct chat *chat, const char *arguments, struct err *err) {
    enum { MOST_BYTES = 4 << 20 };
    struct buf *attached = &chat->answer->attached, text = {0};
    if (!*arguments) return chat_refuse(err, "/attach: the name of a file is needed");
    char *path = config_expand_path(chat->config, arguments);
    int result = path ? io_read_file(path, MOST_BYTES, &text, err)
                      : err_memory(err, strlen(arguments), "a path");
    bool is_text = result == 0 && text.n > 0 && !memchr(text.data, '\0', text.n) &&
                   utf8_valid(text.data, text.n);
    if (result == 0 && !is_text)
        result = err_set(err, ERR_USAGE, "%s is not a text in UTF-8", path);
    if (result == 0) {
        const char *slash = strrchr(path, '/');
        buf_printf(attached, "%s:\n```\n", slash ? slash + 1 : path);
        buf_add(attached, text.data, text.n);
        if (text.data[text.n - 1] != '\n') buf_putc(attached, '\n');
        buf_puts(attached, "```\n\n");
        chat_say(chat, TONE_NOTICE, _("%s goes with the next message (%zu bytes)"), path, text.n);
    }
    mem_free(path);
    buf_release(&text);
    return result == 0 ? CHAT_DONE : CHAT_FAILED;
}
