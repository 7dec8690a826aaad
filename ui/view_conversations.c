/* /resume: the conversations on disk; open, rename, delete, search. */
#include "ui/view.h"

static void key(const struct view *v, const struct key *key, struct view_request *request) {
    const char *id = view_cell(v, 0);
    if (!*id) return;
    if (view_is_char(key, '\r')) {
        request->act = VIEW_LEAVE_RUN;
        buf_printf(&request->line, "/resume %s", id);
    } else if (view_is_char(key, 'r')) {
        request->act = VIEW_ASK;
        request->prompt = "title";
        buf_printf(&request->line, "/rename %s ", id);
        buf_puts(&request->value, view_cell(v, 3));
    } else if (view_is_char(key, 'd')) {
        request->act = VIEW_RUN;
        buf_printf(&request->line, "/delete %s", id);
    } else if (view_is_char(key, '/')) {
        request->act = VIEW_TYPE;
        buf_puts(&request->line, "/search ");
    }
}

const struct view_kind view_conversations = {
    .command = COMMAND_resume,
    .title = N_("Conversations"),
    .keys = N_("Enter opens  r renames  d deletes  / searches"),
    .spare = "12",
    .key = key};
