/* /set: every option with its value and where that came from; changed live, kept in config.yaml. */
#include "ui/view.h"

#include <string.h>

static void key(const struct view *v, const struct key *key, struct view_request *request) {
    const char *name = view_cell(v, 0), *value = view_cell(v, 1);
    if (!*name) return;
    if (view_is_char(key, '\r')) {
        size_t n = strlen(value);
        bool is_quoted = n > 1 && value[0] == '"' && value[n - 1] == '"';
        request->act = VIEW_ASK;
        request->prompt = name;
        buf_printf(&request->line, "/set %s ", name);
        if (is_quoted)
            buf_add(&request->value, value + 1, n - 2);
        else if (strcmp(value, "null") != 0)
            buf_puts(&request->value, value);
    } else if (view_is_char(key, 'd')) {
        request->act = VIEW_RUN;
        buf_printf(&request->line, "/set %s default", name);
    } else if (view_is_char(key, 'w')) {
        request->act = VIEW_RUN;
        buf_printf(&request->line, "/keep %s", name);
    }
}

const struct view_kind view_settings = {.command = COMMAND_set,
                                        .title = N_("Options"),
                                        .keys =
                                            N_("Enter changes  d default  w writes config.yaml"),
                                        .spare = "2",
                                        .key = key};
