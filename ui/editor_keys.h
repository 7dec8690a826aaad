/*
 * Which key does what: the bindings over libedit's own, and the user's editrc files. Private to
 * ui/editor.
 */
#pragma once

#include "ui/keys.h"

#include <histedit.h>

/*
 * Named keys and requests of editor.c reach libedit as C1 codes, which no keyboard sends: escape
 * sequences would leave vi's insert mode. 0x88, 0x8C and 0x9F have a meaning in emacs mode
 * (Alt with a control character).
 */
enum editor_code {
    CODE_UP = 0x80,
    CODE_DOWN,
    CODE_LEFT,
    CODE_RIGHT,
    CODE_WORD_LEFT,
    CODE_WORD_RIGHT,
    CODE_HOME,
    CODE_END,
    CODE_PAGE_UP = 0x89,
    CODE_PAGE_DOWN,
    CODE_DELETE,
    CODE_REPLACE = 0x8D, /* the whole text by what waits in struct editor */
    CODE_INSERT,         /* what waits, at the cursor */
    CODE_RESTART,        /* an empty entry */
    CODE_FRESH,          /* vi's insert mode: what is typed from here on is what '.' repeats */
    CODE_REDO,           /* libedit's vi-redo */
};

/* The code of a named key, 0 for K_CHAR and K_PASTE. */
enum editor_code editor_code_of(enum key_name name);

/* Emacs or vi keys from the beginning, ours over them. */
void editor_bind(EditLine *el, bool is_vi);

/* Runs an editrc file's `bind` lines; a missing file is none. Functions that only work with
 * libedit's own history or screen are replaced by ours. */
void editor_read_rc(EditLine *el, const char *path);
