/*
 * Golden screens: scripts of keys, each at several sizes, compared cell by cell with what was saved
 * by this program. A step is typed as it is; "?text" waits for text on the screen, "." until
 * nothing more comes, "=5x20" resizes.
 */
#include "tests/screen/session.h"

#include "engine/base/io.h"
#include "ui/skins.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ESC "\033"

static const char prose[] =
    "# Tea\n\nTea is made from **leaves** of `Camellia sinensis`; see "
    "[the article](https://example.org/tea).\n\n- green\n- black, *fermented*\n\n> A quote.";
static const char code[] =
    "Here it is:\n\n```python\ndef tea(n):  # cups\n    return \"tea\" * n\n```\n\n"
    "Done.";
static const char table[] =
    "| kind | minutes | note |\n|---|--:|---|\n| green | 2 | not boiling |\n"
    "| black | 4 | boiling |\n";
static const char chinese[] =
    "茶是一种**饮料**，起源于中国。\n\n1. 绿茶：不发酵\n2. 红茶：全发酵\n\n“茶”字的读音有两种。";
static const char emoji[] =
    "Tea ☕ 👍🏽 family 👨‍👩‍👧 flag 🇨🇳 heart ❤️ and e\xcc\x81.";
static const char hostile[] = "\033[2J\033]0;evil\aa\xe2\x80\xae"
                              "b\xc2\x9b"
                              "31mc\033[?1049l &#27;[5m d";

struct script {
    const char *name;
    bool is_small; /* small screens only: a large one has all of a table that often grows */
    const char *answers[3];
    const char *reasoning[3];
    const char *args[3];
    const char *steps[12];
    int bench_stall;
};

static const struct script scripts[] = {
    {.name = "start"},
    {.name = "typed", .steps = {"hello, this is a line that is being typed and not yet sent"}},
    {.name = "lines", .steps = {"one\ntwo\nthree", ESC "[A"}},
    {.name = "prose", .answers = {prose}, .steps = {"What is tea?\r", "?7]"}},
    {.name = "code", .answers = {code}, .steps = {"Show code\r", "?7]"}},
    {.name = "table", .answers = {table}, .steps = {"A table\r", "?7]"}},
    {.name = "chinese", .answers = {chinese}, .steps = {"茶是什么？\r", "?7]", "绿茶呢"}},
    {.name = "emoji", .answers = {emoji}, .steps = {"Emoji\r", "?7]"}},
    {.name = "hostile", .answers = {hostile}, .steps = {"Be evil\r", "?7]"}},
    {.name = "thinking",
     .answers = {"Four."},
     .reasoning = {"Two and two is\nfour, I am sure of it."},
     .steps = {"2+2?\r", "?7]"}},
    {.name = "unfolded",
     .answers = {"Four."},
     .reasoning = {"Two and two is\nfour, I am sure of it."},
     .steps = {"2+2?\r", "?7]", "\x0f"}},
    {.name = "scrolled",
     .answers = {prose, code},
     .steps = {"One\r", "?7]", "Two\r", ".", ESC "[5~"}},
    {.name = "error", .steps = {"/sett temperature 1\r", "?did you"}},
    {.name = "set", .steps = {"/set temperature 0.5\r", "?0.5"}},
    {.name = "menu", .steps = {"/s\t", "?/seed"}},
    {.name = "menu-walked", .steps = {"/s\t", "?/seed", "\t\t", ESC "[Z", ESC "[B", "."}},
    {.name = "menu-taken", .steps = {"/s\t", "?/seed", "\t\t\r", "."}},
    {.name = "search",
     .steps = {"first words\r", "?7]",
               "\x12"
               "fir",
               "?(search)"}},
    {.name = "mono",
     .answers = {prose},
     .args = {"--theme", "mono"},
     .steps = {"What is tea?\r", "?7]"}},
    {.name = "undo",
     .answers = {"Yes.", "No."},
     .steps = {"One?\r", "?7]", "Two?\r", ".", "/undo\r", "?taken"}},
    {.name = "help", .is_small = true, .steps = {"/help\r", "."}},
    {.name = "help-typed",
     .is_small = true,
     .steps = {"/help\r", ".", ESC "[B" ESC "[B" ESC "[B", "\r"}},
    {.name = "settings", .is_small = true, .steps = {"/set\r", "."}},
    {.name = "settings-changed",
     .is_small = true,
     .steps = {"/set\r", ".", ESC "[6~", "\r", ".",
               "\x15"
               "3\r"}},
    {.name = "find",
     .answers = {prose},
     .steps = {"What is tea?\r", "?7]", "/find TEA\r", ".", "n"}},
    {.name = "branches",
     .answers = {"Yes.", "No."},
     .steps = {"One?\r", "?7]", "/regen\r", ".", "/branch\r", ".", ESC "[A"}},
    {.name = "bench", .bench_stall = 3, .steps = {"/bench\r", "?pp512", "."}},
    {.name = "bench-done", .steps = {"/bench -p 512 -n 128 -d 0,4096\r", "?tg128", "."}},
    {.name = "bench-left", .steps = {"/bench\r", "?tg128", ".", "\033", "."}},
    {.name = "zh",
     .answers = {"四。"},
     .reasoning = {"二加二\n等于四。"},
     .args = {"--language", "zh"},
     .steps = {"2+2?\r", ".", "/resume\r", "."}},
    {.name = "zh-error",
     .args = {"--language", "zh"},
     .steps = {"/sett temperature 1\r", ".", "/set temperature x\r", "."}},
    {.name = "zh-bench",
     .args = {"--language", "zh"},
     .bench_stall = 3,
     .steps = {"/bench\r", "?pp512", "."}},
    {.name = "zh-help", .is_small = true, .args = {"--language", "zh"}, .steps = {"/help\r", "."}},
    {.name = "resized", .answers = {prose}, .steps = {"What is tea?\r", "?7]", "=7x30", "=12x60"}},
};

static const struct { int rows, columns; } sizes[] = {{24, 80}, {12, 40}, {5, 20}, {40, 132}};

static char attribute_of(const VTermScreenCell *cell, const VTermScreenCell *plain) {
    if (cell->attrs.reverse) return 'r';
    if (cell->attrs.bold) return 'b';
    if (cell->attrs.italic) return 'i';
    if (cell->attrs.underline) return 'u';
    if (VTERM_COLOR_IS_INDEXED(&cell->fg)) return (char)('0' + cell->fg.indexed.idx % 10);
    (void)plain;
    return ' ';
}

static void save_screen(struct pty *p, struct buf *out) {
    VTermScreenCell plain = {0};
    struct buf text = {0};
    int row, column;
    pty_update(p);
    pty_text(p, false, &text);
    const char *line = text.data ? text.data : "";
    for (int r = 0; r < p->rows; r++) {
        size_t n = strcspn(line, "\n"), begin = out->n, end;
        buf_putc(out, '|');
        buf_add(out, line, n);
        buf_puts(out, "\n~");
        end = begin + n + 2;
        for (int c = 0; c < p->columns; c++) {
            VTermScreenCell cell;
            vterm_screen_get_cell(p->screen, (VTermPos){.row = r, .col = c}, &cell);
            char letter = attribute_of(&cell, &plain);
            buf_putc(out, letter);
            if (letter != ' ') end = out->n;
        }
        out->n = end;
        if (end > begin + n + 2) buf_putc(out, '\n');
        line += n + (line[n] == '\n');
    }
    pty_cursor(p, &row, &column);
    buf_printf(out, "cursor %d %d\n", row, column);
    buf_release(&text);
}

static bool is_saved(struct pty *p, void *ud) {
    struct buf now = {0};
    save_screen(p, &now);
    bool is_equal = strcmp(now.data, ud) == 0;
    buf_release(&now);
    return is_equal;
}

static void compare(struct session *s, const char *path) {
    struct buf now = {0}, saved = {0};
    if (getenv("QWEN_GOLDEN_WRITE")) {
        pty_settle(&s->pty);
        save_screen(&s->pty, &now);
        assert_int_equal(io_write_atomic(path, 0644, now.data, now.n, NULL), 0);
    } else {
        if (io_read_file(path, 1 << 20, &saved, NULL) != 0) fail_msg("%s is missing", path);
        if (!pty_wait_until(&s->pty, is_saved, saved.data)) {
            save_screen(&s->pty, &now);
            fail_msg("%s is:\n%sexpected:\n%s", path, now.data, saved.data);
        }
    }
    buf_release(&now);
    buf_release(&saved);
}

static void play(const struct script *script, int rows, int columns) {
    struct session s;
    char path[128];
    session_make(&s, script->answers[0] ? script->answers : NULL);
    fake_worker.bench_stall = script->bench_stall;
    fake_worker.reasoning = script->reasoning[0] ? script->reasoning : NULL;
    s.skin = fullscreen_run;
    s.rows = rows;
    s.columns = columns;
    const char *args[] = {"--no-history", "--seed", "7", script->args[0], script->args[1]};
    memcpy(s.args, args, sizeof args);
    session_start(&s);
    if (!script->args[0] || strcmp(script->args[0], "--language") != 0) session_expect(&s, "ready");
    for (const char *const *step = script->steps; *step; step++) {
        int r, c;
        if (strcmp(*step, ".") == 0)
            pty_settle(&s.pty);
        else if (**step == '?')
            session_expect(&s, *step + 1);
        else if (sscanf(*step, "=%dx%d", &r, &c) == 2)
            pty_resize(&s.pty, r, c);
        else
            session_type(&s, *step);
    }
    snprintf(path, sizeof path, "tests/screen/golden/%s-%dx%d", script->name, rows, columns);
    compare(&s, path);
    session_remove(&s);
}

static void test_screens(void **state) {
    int n = 0;
    (void)state;
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            if (scripts[i].is_small && sizes[k].rows > 12) continue;
            play(&scripts[i], sizes[k].rows, sizes[k].columns);
            n++;
        }
    print_message("%d screens\n", n);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_screens)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
