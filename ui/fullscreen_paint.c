/*
 * A frame, from top to bottom: transcript, menu, status line, input. All of it is drawn each time;
 * the screen sends what has changed.
 */
#include "ui/fullscreen_internal.h"

#include "app/language.h"
#include "engine/base/sanitize.h"
#include "engine/base/utf8.h"
#include "ui/skin.h"
#include "ui/status_line.h"

#include <stdio.h>
#include <string.h>

enum { MENU_ROWS = 6, LEAST_HINT = 40 }; /* columns */

/* --- input ------------------------------------------------------------------------------------ */

static void lay_out_input(struct fullscreen *f, int columns, size_t most_rows) {
    const struct search *search = f->editor ? editor_search(f->editor) : NULL;
    size_t cursor = 0;
    const char *text = f->editor ? editor_text(f->editor, &cursor) : "";
    struct buf prompt = {0};
    if (search) {
        buf_puts(&prompt, search->is_failing ? _("(no match) ") : _("(search) "));
        if (search->query.n > 0) buf_puts(&prompt, search->query.data);
        buf_puts(&prompt, ": ");
    } else {
        buf_puts(&prompt, f->question == QUESTION_OPEN ? f->question_text : "> ");
    }
    input_area_lay_out(&f->input, prompt.data ? prompt.data : "", INK_user, text, cursor, columns,
                       most_rows);
    buf_release(&prompt);
}

/* --- status ----------------------------------------------------------------------------------- */

static void describe_find(const struct fullscreen *f, char *out, size_t room) {
    if (f->find.n == 0)
        snprintf(out, room, _("not found: %s"), f->find.text);
    else
        snprintf(out, room, _("%zu/%zu  n next  N previous  Esc"), f->find.at + 1, f->find.n);
}

static void describe_state(const struct fullscreen *f, char *out, size_t room) {
    if (f->find.text) {
        describe_find(f, out, room);
    } else if (*f->hint) {
        snprintf(out, room, "%s", f->hint);
    } else if (f->menu.words && f->screen.terminal.columns >= LEAST_HINT) {
        snprintf(out, room, "%s", _("Tab walks  Enter takes  Esc"));
    } else if (f->is_cancelling) {
        snprintf(out, room, "%s", _("stopping"));
    } else if (f->view.is_running) {
        snprintf(out, room, "%s", _("working"));
    } else if (f->progress.is_up) {
        char far[60];
        progress_describe(&f->progress, far, sizeof far);
        snprintf(out, room, "%s %s", *f->progress.what ? _(f->progress.what) : _("working"), far);
    } else {
        bool is_ready = f->is_chat_open && f->chat.is_ready;
        bool is_busy = f->is_chat_open && chat_is_busy(&f->chat);
        snprintf(out, room, "%s", is_busy ? _("answering") : is_ready ? _("ready") : _("starting"));
    }
}

static void make_status(const struct fullscreen *f, struct styled *out) {
    char name[80] = "", state[240];
    struct status status = {
        .state = state, .share = -1, .roof_share = -1, .n_queued = (int)f->n_queue};
    describe_state(f, state, sizeof state);
    if (f->is_chat_open) {
        struct chat_state chat = chat_state(&f->chat);
        if (chat.model) {
            snprintf(name, sizeof name, "%s", chat.model->config->name);
            sanitize_line(name);
            status.model = name;
            status.format = chat.model->format;
            status.context_tokens = chat.model->context_tokens;
            status.context_used = chat.context_used;
            status.is_gpu = strcmp(chat.model->backend, "CPU") != 0;
            status.memory_all = chat.model->device_bytes;
            status.memory_used = chat.memory_bytes;
        }
        status.speed = chat.speed;
        status.roof_share = chat.roof_share;
    }
    bool is_bar = f->progress.is_up && !f->view.is_running && !f->find.text && !*f->hint;
    if (is_bar) status.share = f->progress.share;
    if (f->transcript.n_rows > f->top + f->height)
        status.rows_below = f->transcript.n_rows - f->top - f->height;
    status_line(&status, f->screen.terminal.columns, out);
}

static void put_status(struct fullscreen *f, int row) {
    struct styled line = {0};
    int column = 0, end = f->screen.terminal.columns;
    size_t begin = 0;
    make_status(f, &line);
    for (size_t i = 0; i < line.n_runs; i++) {
        column = screen_put(&f->screen, row, column, end, line.text.data + begin,
                            line.runs[i].end - begin, line.runs[i].style);
        begin = line.runs[i].end;
    }
    screen_fill(&f->screen, row, column, end, INK_status);
    styled_release(&line);
}

/* --- transcript ------------------------------------------------------------------------------- */

/* What is on the screen stays there when the rows change, or the end does. */
static void lay_out_transcript(struct fullscreen *f, int columns) {
    struct transcript *t = &f->transcript;
    size_t former_rows = t->n_rows;
    struct transcript_place place = transcript_place(t, f->top);
    bool is_moved = t->columns != columns || t->n_sound < place.item;
    transcript_lay_out(t, columns);
    if (is_moved && former_rows > 0) f->top = transcript_row_of(t, &place);
    size_t last = t->n_rows > f->height ? t->n_rows - f->height : 0;
    if (f->is_following || f->top > last) f->top = last;
    if (f->top == last) f->is_following = true;
    if (f->find.text) fullscreen_find_again(f);
}

static int width_of(const char *text, size_t n) {
    int total = 0, width;
    for (size_t at = 0; at < n; total += width) at += utf8_cluster(text + at, n - at, &width);
    return total;
}

/* The parts of a row that are matches, over what stands there. */
static void put_matches(struct fullscreen *f, const struct transcript_row *row, int at) {
    const struct row *r = &row->lines->rows[row->row];
    const char *text = row->lines->content.text.data;
    for (size_t i = 0; i < f->find.n; i++) {
        const struct match *match = &f->find.matches[i];
        if (match->lines != row->lines || match->end <= r->begin || match->begin >= r->end)
            continue;
        size_t begin = match->begin > r->begin ? match->begin : r->begin;
        size_t end = match->end < r->end ? match->end : r->end;
        int column = width_of(text + r->begin, begin - r->begin);
        screen_put(&f->screen, at, column, f->screen.terminal.columns, text + begin, end - begin,
                   i == f->find.at ? INK_match | STYLE_BOLD | STYLE_UNDERLINE : INK_match);
    }
}

static void put_transcript(struct fullscreen *f) {
    for (size_t i = 0; i < f->height && f->top + i < f->transcript.n_rows; i++) {
        struct transcript_row row = transcript_row(&f->transcript, f->top + i);
        if (!row.lines) continue;
        screen_put_row(&f->screen, (int)i, 0, f->screen.terminal.columns, row.lines, row.row);
        if (f->find.n > 0) put_matches(f, &row, (int)i);
    }
}

/* --- the frame -------------------------------------------------------------------------------- */

static void put_lines(struct fullscreen *f, int row, const struct lines *lines, size_t first,
                      size_t n) {
    for (size_t i = 0; i < n && first + i < lines->n; i++)
        screen_put_row(&f->screen, row + (int)i, 0, f->screen.terminal.columns, lines, first + i);
}

void fullscreen_paint(struct fullscreen *f) {
    int rows = f->screen.terminal.rows, columns = f->screen.terminal.columns;
    lay_out_input(f, columns, (size_t)(rows / 3 > 1 ? rows / 3 : 1));
    int n_input = (int)f->input.height, n_status = rows > n_input + 1;
    int room = rows - n_input - n_status - 1;
    if (room > MENU_ROWS) room = MENU_ROWS;
    menu_lay_out(&f->menu, columns, room > 0 ? (size_t)room : 0, &f->menu_lines);
    int n_menu = (int)f->menu_lines.n;
    int height = rows - n_input - n_status - n_menu;
    f->height = height > 0 ? (size_t)height : 0;
    lay_out_transcript(f, columns);

    const struct screen_colors colors = fullscreen_colors(f->config);
    screen_set_colors(&f->screen, &colors);
    screen_begin(&f->screen);
    if (f->view.kind) {
        view_lay_out(&f->view, columns, f->height, &f->progress, &f->panel);
        put_lines(f, 0, &f->panel, 0, f->height);
    } else {
        put_transcript(f);
    }
    put_lines(f, height, &f->menu_lines, 0, (size_t)n_menu);
    if (n_status) put_status(f, rows - n_input - 1);
    put_lines(f, rows - n_input, &f->input.lines, f->input.first, f->input.height);
    screen_show(&f->screen, rows - n_input + (int)(f->input.caret_row - f->input.first),
                f->input.caret_column);
    f->is_dirty = f->is_urgent = false;
    f->painted_ms = skin_now_ms();
}
