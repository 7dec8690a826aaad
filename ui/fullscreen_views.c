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

/* --- work ------------------------------------------------------------------------------------- */

static void open_work(struct fullscreen *f, const struct view_kind *kind, const char *text) {
    struct err err = {0};
    fullscreen_close_view(f);
    fullscreen_echo(f, text);
    if (chat_enter(&f->chat, text, &err) != CHAT_SENT) return; /* why has been said */
    f->view.kind = kind;
    f->view.is_running = f->view.is_collecting = true;
}

void fullscreen_check_work(struct fullscreen *f) {
    if (!f->view.is_running || chat_is_busy(&f->chat)) return;
    f->view.is_running = f->view.is_collecting = false;
    fullscreen_touch(f, true);
}

void fullscreen_stop_work(struct fullscreen *f) {
    f->is_cancelling = true;
    chat_interrupt(&f->chat);
    fullscreen_touch(f, true);
}

static void keep_table(struct fullscreen *f) {
    const struct view *v = &f->view;
    for (size_t row = 0; row < v->n; row++) {
        const char *cells[VIEW_COLUMNS];
        for (size_t c = 0; c < v->n_columns; c++) cells[c] = view_cell_at(v, row, c);
        fullscreen_row(f, cells, v->n_columns, v->has_head && row == 0);
    }
    fullscreen_row(f, NULL, 0, false);
    if (v->note.n > 0) transcript_say(&f->transcript, TONE_NOTICE, v->note.data);
}

/* --- any view --------------------------------------------------------------------------------- */

bool fullscreen_open_view(struct fullscreen *f, const char *text) {
    struct line line = line_parse(text);
    int command = line.kind == LINE_COMMAND ? command_find(line.name, line.n_name) : -1;
    const struct view_kind *kind = command >= 0 ? view_of_command(command) : NULL;
    if (!kind || chat_is_busy(&f->chat)) return false;
    if (kind->is_work) {
        open_work(f, kind, text);
        return true;
    }
    if (*line.arguments) return false;
    fullscreen_close_view(f);
    f->view.kind = kind;
    refresh(f);
    if (f->view.n > 0) return true;
    view_release(&f->view); /* nothing to choose from: the sentence is enough */
    return false;
}

void fullscreen_close_view(struct fullscreen *f) {
    if (f->view.kind && f->view.kind->is_work) keep_table(f);
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
        if (!f->view.is_running)
            fullscreen_close_view(f);
        else if (!f->is_cancelling)
            fullscreen_stop_work(f);
        return true;
    }
    if (!f->view.kind->key || f->view.is_running) return true;
    f->view.kind->key(&f->view, key, &request);
    bool is_taken = request.act != VIEW_IGNORED && !request.line.failed && !request.value.failed;
    if (is_taken) act(f, &request);
    buf_release(&request.line);
    buf_release(&request.value);
    return true; /* what a view does not know does nothing */
}
