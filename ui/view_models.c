/* /models: what lies in the models folder; Enter loads one, and the conversation goes on. */
#include "ui/view.h"

static void key(const struct view *v, const struct key *key, struct view_request *request) {
    if (!view_is_char(key, '\r') || !*view_cell(v, 0)) return;
    request->act = VIEW_LEAVE_RUN;
    buf_printf(&request->line, "/model %s", view_cell(v, 0));
}

const struct view_kind view_models = {
    .command = COMMAND_models, .title = N_("Models"), .keys = N_("Enter loads it"), .key = key};
