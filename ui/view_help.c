/* /help: the commands; Enter puts one into the input. */
#include "ui/view.h"

#include <string.h>

static void key(const struct view *v, const struct key *key, struct view_request *request) {
    const char *head = view_cell(v, 0);
    size_t n = strcspn(head, " ");
    if (!view_is_char(key, '\r') || n == 0) return;
    request->act = VIEW_TYPE;
    buf_add(&request->line, head, n);
    if (head[n]) buf_putc(&request->line, ' ');
}

const struct view_kind view_help = {
    .command = COMMAND_help, .title = N_("Commands"), .keys = N_("Enter types it"), .key = key};
