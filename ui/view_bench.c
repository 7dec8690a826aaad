/* /bench: rows as they are measured, each speed drawn against the memory's. */
#include "ui/view.h"

const struct view_kind view_bench = {.command = COMMAND_bench,
                                     .title = N_("Speed"),
                                     .is_work = true,
                                     .spare = "54326",
                                     .share = 2,
                                     .share_head = N_("of the roof")};
