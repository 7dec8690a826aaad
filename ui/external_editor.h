/* A text in the user's own editor ($VISUAL, $EDITOR, else vi), as Ctrl-X Ctrl-E does in shells. */
#pragma once

#include "engine/base/buf.h"
#include "engine/base/err.h"

/* Runs `command` (a shell's words) on a file with the text; the terminal must be free for it. What
 * was saved goes to `out`, without its last line break. */
int external_editor(const char *command, const char *folder, const char *text, struct buf *out,
                    struct err *err);
