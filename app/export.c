/* A conversation's current branch as a document: Markdown, JSON (OpenAI's messages) or plain text.
 */
#include "app/conversation.h"

#include "engine/base/mem.h"

#include <string.h>

static const char *speaker(enum role role) {
    static const char *const names[] = {[ROLE_SYSTEM] = "System",
                                        [ROLE_USER] = "User",
                                        [ROLE_ASSISTANT] = "Assistant",
                                        [ROLE_TOOL] = "Tool"};
    return names[role];
}

static void print_quoted(const char *text, struct buf *out) {
    while (*text) {
        size_t n = strcspn(text, "\n");
        buf_printf(out, "> %.*s\n", (int)n, text);
        text += n + (text[n] == '\n');
    }
    buf_putc(out, '\n');
}

static void print_markdown(const struct conversation *c, const struct turn *const *turns, size_t n,
                           struct buf *out) {
    if (c->title) buf_printf(out, "# %s\n\n", c->title);
    if (c->system) buf_printf(out, "## System\n\n%s\n\n", c->system);
    for (size_t i = 0; i < n; i++) {
        const struct turn *t = turns[i];
        buf_printf(out, "## %s%s%s%s%s\n\n", speaker(t->role), t->model ? " (" : "",
                   t->model ? t->model : "", t->model ? ")" : "",
                   t->is_partial ? ", interrupted" : "");
        if (t->reasoning) print_quoted(t->reasoning, out);
        buf_printf(out, "%s\n\n", t->content);
    }
}

static void print_text(const struct conversation *c, const struct turn *const *turns, size_t n,
                       struct buf *out) {
    if (c->system) buf_printf(out, "System: %s\n\n", c->system);
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s: %s\n\n", speaker(turns[i]->role), turns[i]->content);
}

static void print_message(const char *role, const char *content, const char *reasoning,
                          bool is_first, struct buf *out) {
    buf_printf(out, "%s    {\"role\": \"%s\", \"content\": ", is_first ? "" : ",\n", role);
    buf_put_json(out, content, strlen(content));
    if (reasoning) {
        buf_puts(out, ", \"reasoning_content\": ");
        buf_put_json(out, reasoning, strlen(reasoning));
    }
    buf_putc(out, '}');
}

static void print_json(const struct conversation *c, const struct turn *const *turns, size_t n,
                       struct buf *out) {
    buf_puts(out, "{\n  \"messages\": [\n");
    if (c->system) print_message("system", c->system, NULL, true, out);
    for (size_t i = 0; i < n; i++)
        print_message(role_name(turns[i]->role), turns[i]->content, turns[i]->reasoning,
                      i == 0 && !c->system, out);
    buf_puts(out, "\n  ]\n}\n");
}

int conversation_export(const struct conversation *c, const char *format, struct buf *out,
                        struct err *err) {
    static const struct {
        const char *name;
        void (*print)(const struct conversation *, const struct turn *const *, size_t,
                      struct buf *);
    } formats[] = {{"md", print_markdown}, {"json", print_json}, {"txt", print_text}};
    const struct turn **turns;
    size_t n, i = 0;
    while (i < sizeof formats / sizeof *formats && strcmp(formats[i].name, format) != 0) i++;
    if (i == sizeof formats / sizeof *formats)
        return err_set(err, ERR_USAGE, "%s: unknown format; md, json or txt is needed", format);
    if (conversation_branch(c, &turns, &n, err) != 0) return -1;
    formats[i].print(c, (const struct turn *const *)turns, n, out);
    mem_free(turns);
    return out->failed ? err_memory(err, out->n, "the exported text") : 0;
}
