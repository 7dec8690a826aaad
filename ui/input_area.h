/*
 * The entry being edited, at the bottom of the full screen: a prompt, text of any number of lines,
 * the caret's place. It grows with the text up to a limit and then scrolls.
 */
#pragma once

#include "ui/lines.h"

/* Zero it before use. */
struct input_area {
    struct lines lines;
    size_t first;  /* the first row that is shown */
    size_t height; /* rows that are shown, at least 1 */
    size_t caret_row;
    int caret_column;
};

void input_area_release(struct input_area *a);

/* prompt and text: sanitized UTF-8; cursor in bytes of text. */
void input_area_lay_out(struct input_area *a, const char *prompt, text_style style,
                        const char *text, size_t cursor, int columns, size_t most_rows);
