/* /stats: tokens, speed, cache and memory; r counts anew. */
#include "ui/view.h"

static void key(const struct view *v, const struct key *key, struct view_request *request) {
    (void)v;
    if (view_is_char(key, 'r')) request->act = VIEW_RUN;
}

const struct view_kind view_stats = {
    .command = COMMAND_stats, .title = N_("Statistics"), .keys = N_("r again"), .key = key};
