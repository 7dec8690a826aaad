/* See skin.h. */
#include "ui/skin.h"

#include "app/language.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"
#include "ui/markdown.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>

enum { LAST_ANSWER_MS = 1500 }; /* for the answer in flight to be kept when the program must end */

int64_t skin_now_ms(void) {
    return (int64_t)(clock_seconds() * 1e3);
}

void skin_describe_answer(const struct answer *answer, char *out, size_t room) {
    const struct engine_usage *u = &answer->usage;
    int n = snprintf(out, room, _("[%d tokens"), u->answer_tokens);
    if (u->answer_tokens > 1 && u->answer_seconds > 0)
        n += snprintf(out + n, room - (size_t)n, ", %.1f tok/s",
                      (u->answer_tokens - 1) / u->answer_seconds);
    snprintf(out + n, room - (size_t)n, _("; prompt %d, %d cached; %s; seed %llu]"),
             u->prompt_tokens, u->cached_tokens,
             answer->stop == STOP_CANCELLED ? _("interrupted") : engine_stop_name(answer->stop),
             (unsigned long long)answer->seed);
}

void skin_stop_answer(struct chat *chat) {
    struct err err;
    int64_t end = skin_now_ms() + LAST_ANSWER_MS, left;
    if (!chat_is_busy(chat)) return;
    chat_interrupt(chat);
    while (chat_is_busy(chat) && (left = end - skin_now_ms()) > 0) {
        poll(&(struct pollfd){.fd = chat_fd(chat), .events = POLLIN}, 1, (int)left);
        if (chat_pump(chat, &err) != 0) return;
    }
}

bool skin_describe_resume(const struct chat *chat, char *out, size_t room) {
    const struct conversation *c = &chat->conversation;
    if (c->fd < 0 || c->n_turns == 0) return false;
    snprintf(out, room, _("Resume with: qwen-chat --resume=%s"), c->id);
    return true;
}

static void put_base64(const char *text, size_t n, struct buf *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (i + k < n ? (unsigned char)text[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            buf_putc(out, i + k <= n ? digits[bits >> (18 - 6 * k) & 63] : '=');
    }
}

bool skin_copy(struct terminal *terminal, const char *answer, int code) {
    struct buf text = {0}, out = {0};
    if (code == 0) buf_puts(&text, answer);
    bool is_there = code == 0 || markdown_code(answer, strlen(answer), code, &text);
    buf_puts(&out, "\033]52;c;");
    if (text.n > 0) put_base64(text.data, text.n, &out);
    buf_puts(&out, "\a");
    if (is_there && !out.failed) terminal_write(terminal, out.data, out.n);
    buf_release(&text);
    buf_release(&out);
    return is_there;
}

/* "folder/name" in mem_alloc()ed memory, NULL where there is no folder. */
static char *path_in(const char *folder, const char *name) {
    struct buf path = {0};
    if (folder) buf_printf(&path, "%s/%s", folder, name);
    return path.data;
}

void skin_files_find(struct skin_files *files, const struct config *c,
                     struct editor_options *options) {
    *files = (struct skin_files){
        .history = c->history ? path_in(c->state_folder, "history") : NULL,
        .rc_files = {path_in(c->home, ".editrc"), path_in(c->config_folder, "editrc")}};
    options->n_rc_files = 0;
    for (int k = 0; k < 2; k++)
        if (files->rc_files[k]) files->present[options->n_rc_files++] = files->rc_files[k];
    options->rc_files = files->present;
    options->is_vi = c->keys == KEYS_VI;
}

void skin_files_release(struct skin_files *files) {
    mem_free(files->history);
    for (int k = 0; k < 2; k++) mem_free(files->rc_files[k]);
    *files = (struct skin_files){0};
}

void skin_complete(void *ud, const char *text, size_t cursor, struct editor_words *out) {
    struct chat_completion found = {0};
    if (chat_complete(ud, text, cursor, &found) != 0) return;
    /* the words change hands */
    *out = (struct editor_words){.begin = found.begin, .words = found.words, .n = found.n_words};
}
