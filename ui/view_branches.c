/* /branch: where the conversation has gone; Enter goes on from one of the ends. */
#include "ui/view.h"

static void key(const struct view *v, const struct key *key, struct view_request *request) {
    if (!view_is_char(key, '\r') || !*view_cell(v, 0)) return;
    request->act = VIEW_LEAVE_RUN;
    buf_printf(&request->line, "/branch %s", view_cell(v, 0));
}

const struct view_kind view_branches = {.command = COMMAND_branch,
                                        .title = N_("Branches"),
                                        .keys = N_("Enter goes on from it"),
                                        .key = key};
