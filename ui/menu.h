/*
 * The words that fit, below the text that is being typed: shown by a second Tab, then walked with
 * Tab, Shift-Tab and the arrows. Enter takes the chosen one, Escape leaves, any other key leaves
 * and does what it always does. Pure layout and state; the words stay the editor's.
 */
#pragma once

#include "ui/editor.h"
#include "ui/keys.h"
#include "ui/lines.h"

enum menu_act {
    MENU_IGNORED, /* the menu is closed, and the key not its own */
    MENU_MOVED,
    MENU_TAKEN, /* words[chosen] is to be put into the text; the menu is closed */
    MENU_LEFT,  /* closed, and the key is used up */
};

struct menu {
    const struct editor_words *words; /* NULL: none is open */
    size_t skipped;                   /* bytes of a folder that all of them begin with: not shown */
    size_t chosen;                    /* words->n: none yet */
    size_t per_row, first_row;        /* as it was laid out last */
};

void menu_open(struct menu *m, const struct editor_words *words);
void menu_close(struct menu *m);
enum menu_act menu_key(struct menu *m, const struct key *key);

/* At most `height` rows, the chosen word among them; none where it is closed. */
void menu_lay_out(struct menu *m, int columns, size_t height, struct lines *out);
