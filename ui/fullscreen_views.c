/* Views on the full screen: opening one, what its keys do, and the commands that it enters. */
#include "ui/fullscreen_internal.h"

#include "engine/base/mem.h"

enum { ESCAPE = 27 };

/* Rows and sentences of the command go to the view. */
static void run_into(struct fullscreen *f, const char *line) {
    struct err err = {0};
    f->view.is_collecting = true;
    chat_enter(&f->chat, line, &err); /* what went wrong has been said */
    f->view.is_collecting = false;
}

/* The table anew; what an action said stays. */
static void refresh(struct fullscreen *f) {
    struct buf note = f->view.note, line = {0};
    f->view.note = (struct buf){0};
    view_clear(&f->view);
    buf_printf(&line, "/%s", command_table[f->view.kind->command].name);
    if (!line.failed) run_into(f, line.data);
    if (note.n > 0) {
        buf_release(&f->view.note);
        f->view.note = note;
    } else {
        buf_release(&note);
    }
    buf_release(&line);
}

bool fullscreen_open_view(struct fullscreen *f, const char *text) {
    struct line line = line_parse(text);
    int command = line.kind == LINE_COMMAND ? command_find(line.name, line.n_name) : -1;
    const struct view_kind *kind = command >= 0 ? view_of_command(command) : NULL;
    if (!kind || *line.arguments || chat_is_busy(&f->chat)) return false;
    view_release(&f->view);
    f->view.kind = kind;
    refresh(f);
    if (f->view.n > 0) return true;
    view_release(&f->view); /* nothing to choose from: the sentence is enough */
    return false;
}

void fullscreen_close_view(struct fullscreen *f) {
    view_release(&f->view);
    fullscreen_touch(f, true);
}

/* A value for the command. */
static void ask_and_run(struct fullscreen *f, struct view_request *request) {
    struct buf prompt = {0};
    buf_printf(&prompt, "%s: ", request->prompt);
    if (!prompt.failed &&
        fullscreen_ask(f, prompt.data, request->value.data ? request->value.data : "") &&
        f->answer.n > 0) {
        buf_add(&request->line, f->answer.data, f->answer.n);
        run_into(f, request->line.data);
    }
    buf_release(&prompt);
}

static void act(struct fullscreen *f, struct view_request *request) {
    buf_clear(&f->view.note);
    switch (request->act) {
    case VIEW_IGNORED:
        break;
    case VIEW_RUN:
        if (request->line.n > 0) run_into(f, request->line.data);
        refresh(f);
        break;
    case VIEW_ASK:
        ask_and_run(f, request);
        if (f->view.kind) refresh(f);
        break;
    case VIEW_TYPE:
        fullscreen_close_view(f);
        editor_set(f->editor, request->line.data);
        break;
    case VIEW_LEAVE_RUN:
        fullscreen_close_view(f);
        fullscreen_enter(f, request->line.data);
        break;
    }
}

bool fullscreen_view_key(struct fullscreen *f, const struct key *key) {
    struct view_request request = {0};
    if (!f->view.kind || f->question == QUESTION_OPEN) return false;
    if (view_move(&f->view, key, f->height)) return true;
    if (view_is_char(key, ESCAPE) || view_is_char(key, 'q')) {
        fullscreen_close_view(f);
        return true;
    }
    f->view.kind->key(&f->view, key, &request);
    bool is_taken = request.act != VIEW_IGNORED && !request.line.failed && !request.value.failed;
    if (is_taken) act(f, &request);
    buf_release(&request.line);
    buf_release(&request.value);
    return true; /* what a view does not know does nothing */
}
