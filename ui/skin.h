/* What the skins with a terminal share. */
#pragma once

#include "app/chat.h"
#include "ui/editor.h"
#include "ui/terminal.h"

int64_t skin_now_ms(void); /* of the monotonic clock */

/* "[12 tokens, 50.3 tok/s; prompt 20, 10 cached; stop; seed 7]" */
void skin_describe_answer(const struct answer *answer, char *out, size_t room);

/* The answer in flight is stopped and kept, if that does not take long. */
void skin_stop_answer(struct chat *chat);

/* "Resume with: …"; false: there is nothing to resume. */
bool skin_describe_resume(const struct chat *chat, char *out, size_t room);

/* An answer, or its code block (from 1), into the terminal's clipboard (OSC 52). false: it has none
 * of that number. */
bool skin_copy(struct terminal *terminal, const char *answer, int code);

/* Where the editor's files are; the strings of `options` are theirs. */
struct skin_files {
    char *history; /* NULL: the lines that are entered are not kept */
    char *rc_files[2];
    const char *present[2];
};
void skin_files_find(struct skin_files *files, const struct config *config,
                     struct editor_options *options);
void skin_files_release(struct skin_files *files);

/* For struct editor_options: `ud` is a struct chat. */
void skin_complete(void *ud, const char *text, size_t cursor, struct editor_words *out);
