/*
 * Keys of any kind through decoder, editor and view. The first byte picks the key map and the width
 * of the screen; a byte 0xF8 (never in UTF-8) stands for a pause, as after a lone Escape.
 */
#include "engine/base/utf8.h"
#include "ui/editor.h"
#include "ui/line_view.h"

#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct input_history history;
static struct editor *editors[2];
static struct terminal terminal;

static void complete(void *ud, const char *text, size_t cursor, struct editor_words *out) {
    (void)ud, (void)text, (void)cursor;
    *out = (struct editor_words){0};
}

static void open_editor(int is_vi) {
    struct editor_options options = {
        .is_vi = is_vi, .term = "xterm", .history = &history, .complete = complete};
    editor_close(editors[is_vi]);
    if (editor_open(&editors[is_vi], &options, NULL) != 0) abort();
}

static void open_once(void) {
    static const char *const entries[] = {"one", "two 的\nlines", "a (regular* expression["};
    if (editors[0]) return;
    setlocale(LC_CTYPE, "C.UTF-8");
    input_history_open(&history, NULL, 10, NULL);
    for (int i = 0; i < 3; i++) input_history_add(&history, entries[i], NULL);
    for (int i = 0; i < 2; i++) open_editor(i);
    terminal = (struct terminal){.out = open("/dev/null", O_WRONLY), .rows = 5};
}

static void check(const struct editor *e) {
    size_t cursor;
    const char *text = editor_text(e, &cursor);
    if (cursor > strlen(text)) abort();
}

static void show(struct line_view *view, const struct editor *e) {
    size_t cursor;
    const char *text = editor_text(e, &cursor);
    line_view_show(view, "> ", "\033[1m", text, cursor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct keys keys = {0};
    struct key key;
    open_once();
    if (n == 0 || n > 4096) return 0;
    int is_vi = data[0] & 1;
    struct editor *e = editors[is_vi];
    struct line_view view = {.terminal = &terminal};
    terminal.columns = 1 + (data[0] >> 1) % 40;
    editor_set(e, "");
    for (size_t i = 1; i < n; i++) {
        if (data[i] == 0xF8)
            keys_flush(&keys);
        else
            keys_feed(&keys, (const char *)data + i, 1);
        while (keys_next(&keys, &key)) {
            editor_key(e, &key);
            check(e);
            if (strlen(editor_text(e, NULL)) > 10000) { /* a count; its kill buffer goes too */
                open_editor(is_vi);
                e = editors[is_vi];
            }
        }
        if (i % 8 == 0) show(&view, e);
    }
    show(&view, e);
    line_view_finish(&view);
    line_view_release(&view);
    keys_release(&keys);
    return 0;
}
