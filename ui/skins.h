/* The skins: each runs a chat from its beginning to its end and returns the exit code. */
#pragma once

#include "app/config.h"

/* Line mode on a terminal: libedit edits, answers scroll. Also the accessible mode. */
int plain_run(struct config *config);

/* The whole screen of a terminal (ncurses); line mode where the terminal cannot do that. */
int fullscreen_run(struct config *config);

/* No terminal: prompts from -p, -f or stdin; only answers on stdout. */
int script_run(struct config *config);
