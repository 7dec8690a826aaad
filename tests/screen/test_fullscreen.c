/*
 * The full screen in a real terminal: what is entered, waits and is asked; scrolling and finding;
 * Ctrl-C, Ctrl-D, Ctrl-Z and every signal at every stage: the program ends (or goes on) as it
 * should, the terminal is as it was, and what was said is on disk and on the normal screen.
 */
#include "tests/screen/session.h"

#include "engine/base/io.h"
#include "ui/skins.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct session s;

static int make(void **state) {
    (void)state;
    session_make(&s, NULL);
    s.skin = fullscreen_run;
    return 0;
}

static int unmake(void **state) {
    (void)state;
    session_remove(&s);
    return 0;
}

/* --- entering --------------------------------------------------------------------------------- */

/* The alternate screen is left, and what was said stands on the normal one with the way back. */
static void test_life(void **state) {
    (void)state;
    session_start(&s);
    assert_true(s.pty.is_alternate);
    session_type(&s, "hello\r");
    session_expect(&s, "seed");
    session_type(&s, "\x04");
    assert_int_equal(pty_wait_exit(&s.pty), 0);
    struct buf text = {0};
    pty_text(&s.pty, false, &text);
    assert_non_null(strstr(text.data, "> hello\n\nanswer\n["));
    assert_non_null(strstr(text.data, "Resume with: qwen-chat --resume="));
    assert_null(strstr(text.data, "ready"));
    buf_release(&text);
    assert_true(pty_has_modes_of_before(&s.pty));
    pty_end(&s.pty);
    s.args[0] = "--resume";
    session_start(&s);
    session_expect(&s, "> hello\n\nanswer");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"content\":\"hello\""), 1);
}

static void test_queue(void **state) {
    (void)state;
    static const char *const answers[] = {"first answer", "second answer", "third answer", NULL};
    fake_worker.answers = answers;
    fake_hold_answers();
    session_start(&s);
    session_type(&s, "one\r");
    fake_let(3);
    session_expect(&s, "fir");
    session_type(&s, "二\rthree\r");
    session_expect(&s, "+2");
    session_type(&s, "typed on"); /* the input stays alive */
    session_expect_last(&s, "> typed on");
    fake_let(9 + 13 + 3);
    session_expect(&s, "> 二\n\nsecond answer");
    session_expect(&s, "> three\n\nthi");
    session_expect_last(&s, "> typed on");
    session_type(&s, "\x15/seed 5\r"); /* a command that does not wait */
    session_expect(&s, "sampling.seed  5");
    session_type(&s, "four\r");
    session_expect(&s, "+1");
    session_type(&s, "\x03"); /* the answer stops; what waits is not sent */
    session_expect(&s, "interrupted");
    session_expect_last(&s, "> four");
    session_type(&s, "\x15");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"role\":\"user\""), 3);
}

/* The colour of the first cell whose text is `c`; -1: the terminal's own. */
static int color_of(uint32_t c) {
    pty_update(&s.pty);
    for (int row = 0; row < s.pty.rows; row++)
        for (int column = 0; column < s.pty.columns; column++) {
            VTermScreenCell cell;
            vterm_screen_get_cell(s.pty.screen, (VTermPos){.row = row, .col = column}, &cell);
            if (cell.chars[0] == c)
                return VTERM_COLOR_IS_INDEXED(&cell.fg) ? cell.fg.indexed.idx : -1;
        }
    fail_msg("U+%04X is not on the screen", c);
    return -1;
}

/* One colour of one's own, on terminals with 256, 8 and no colours; changed while it runs. */
static void test_colors(void **state) {
    (void)state;
    static const char *const answers[] = {"> §\n\n`¶`", NULL};
    static const struct {
        const char *term;
        int own, theme, changed;
    } cases[] = {{"xterm-256color", 171, 6, 196}, {"xterm", 5, 6, 1}, {"vt220", -1, -1, -1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        unmake(NULL);
        make(NULL);
        fake_worker.answers = answers;
        s.term = cases[i].term;
        setenv("QWEN_CHAT_COLOR_CODE", "#d75fff", 1);
        session_start(&s);
        session_type(&s, "go\r");
        session_expect(&s, "seed");
        pty_settle(&s.pty);
        assert_int_equal(color_of(0xB6), cases[i].own);   /* code */
        assert_int_equal(color_of(0xA7), cases[i].theme); /* a quote has the theme's */
        session_type(&s, "/set colors.code #ff0000\r");
        session_expect(&s, "\"#ff0000\"");
        pty_settle(&s.pty);
        assert_int_equal(color_of(0xB6), cases[i].changed);
        session_type(&s, "/set theme mono\r");
        session_expect(&s, "interface.theme  mono");
        pty_settle(&s.pty);
        assert_int_equal(color_of(0xB6), -1);
        session_leave(&s);
    }
    unsetenv("QWEN_CHAT_COLOR_CODE");
}

/* The menu of completions: Tab, Shift-Tab and the arrows walk it, Enter takes, Escape and Ctrl-C
 * leave, any other key does what it always does. */
static void test_menu(void **state) {
    (void)state;
    session_start(&s);
    session_expect(&s, "ready");
    session_type(&s, "/s\t");
    session_expect(&s, "Tab walks");
    session_expect(&s, "/search");
    session_type(&s, "\t\t\r"); /* the second one */
    session_expect_last(&s, "> /set");
    session_expect_gone(&s, "Tab walks");
    session_type(&s, "temperature 0.5\r"); /* a blank is there already */
    session_expect(&s, "sampling.temperature  0.5");
    session_type(&s, "/s\t\033[Z\r"); /* backwards: the last one */
    session_expect_last(&s, "> /stats");
    session_type(&s, "\x15/s\t");
    session_expect(&s, "Tab walks");
    session_type(&s, "\033[B\033[C\033[D\r"); /* the first one, there and back */
    session_expect_last(&s, "> /system");
    session_type(&s, "\x15/s\t");
    session_expect(&s, "Tab walks");
    session_type(&s, "\t\033");
    session_expect_gone(&s, "Tab walks");
    session_expect_last(&s, "> /s");
    session_type(&s, "\t\t");
    session_expect(&s, "Tab walks");
    session_type(&s, "\x03");
    session_expect_gone(&s, "Tab walks");
    session_expect_last(&s, "> /s");
    session_type(&s, "\t\t\taved\r"); /* typed on: nothing was taken */
    session_expect(&s, "unknown command /saved");
    session_type(&s, "a /s\x01\x04\x04\x05\t\t\r"); /* in the middle of what stands there */
    session_expect_last(&s, "> /system");
    session_type(&s, "\x15");
    session_leave(&s);
}

/* Files: the folder is not said again and again; a folder that is taken gets no blank. */
static void test_menu_of_files(void **state) {
    (void)state;
    char path[160], line[200];
    session_start(&s);
    session_expect(&s, "ready");
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/note %d.txt", s.folder, i);
        assert_int_equal(io_write_atomic(path, 0600, "x", 1, NULL), 0);
    }
    snprintf(path, sizeof path, "%s/note more", s.folder);
    assert_int_equal(io_make_folders(path, 0700, NULL), 0);
    snprintf(line, sizeof line, "/attach %s/no\t\t", s.folder);
    session_type(&s, line);
    session_expect(&s, "\nnote 0.txt  note 1.txt  note 2.txt  note more/");
    session_type(&s, "\033[Z\r");
    snprintf(line, sizeof line, "> /attach %s/note more/", s.folder);
    session_expect_last(&s, line);
    session_type(&s, "\x15");
    session_leave(&s);
}

/* Three quotation marks take three columns or six: where the cursor stands behind them shows what
 * ncurses counts. */
static void test_ambiguous_width(void **state) {
    (void)state;
    static const char *const widths[] = {"auto", "narrow", "wide"};
    for (int i = 0; i < 3; i++) {
        int row, column;
        unmake(NULL);
        make(NULL);
        s.args[0] = "--ambiguous-width";
        s.args[1] = widths[i];
        session_start(&s);
        session_type(&s, "“““");
        pty_settle(&s.pty);
        session_type(&s, "\x01"); /* away, and back by a movement of the cursor */
        pty_settle(&s.pty);
        session_type(&s, "\x05");
        pty_settle(&s.pty);
        pty_cursor(&s.pty, &row, &column);
        assert_int_equal(column, i == 2 ? 2 + 6 : 2 + 3);
        kill(s.pty.pid, SIGTERM);
        session_expect_exit(&s, 128 + SIGTERM);
    }
}

/* The status line says how fast the answer comes, and how near to the memory's limit that is. */
static void test_speed(void **state) {
    (void)state;
    fake_worker.answers = slow_answer;
    fake_worker.tokens_per_second = 20;
    fake_worker.read_speed = 100e6 * 20; /* 20 times the weights a second, a little less */
    s.columns = 110;
    session_start(&s);
    session_expect(&s, "RAM 200M/8.0G");
    session_type(&s, "go\r");
    session_expect(&s, "tok/s  ");
    session_expect(&s, " % of the roof  RAM 200M/8.0G");
    session_type(&s, "\x03");
    session_expect(&s, "interrupted");
    session_expect_gone(&s, "of the roof");
    session_leave(&s);
}

static void test_questions(void **state) {
    (void)state;
    char path[96], line[128];
    session_start(&s);
    session_type(&s, "hello\r");
    session_expect(&s, "seed");
    snprintf(path, sizeof path, "%s/out.md", s.folder);
    assert_int_equal(io_write_atomic(path, 0600, "old", 3, NULL), 0);
    snprintf(line, sizeof line, "/export %s\r", path);
    session_type(&s, line);
    session_expect(&s, "Replace it? [y/N]");
    session_type(&s, "\x03");
    session_expect(&s, "nothing");
    session_type(&s, line);
    session_expect(&s, "Replace it? [y/N]");
    session_type(&s, "y\r");
    session_expect(&s, "written to");
    session_type(&s, "/edit\r");
    session_expect_last(&s, "edit> hello");
    session_type(&s, " again\r");
    session_expect(&s, "> hello again\n\nanswer");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"content\":\"hello again\""), 1);
}

/* Ctrl-X Ctrl-E: the text goes through another program and comes back; the screen too. */
static void test_external_editor(void **state) {
    (void)state;
    setenv("VISUAL", "sed -i s/draft/final/", 1);
    session_start(&s);
    session_type(&s, "a draft\nof two lines\x18\x05");
    session_expect(&s, "> a final\n  of two lines");
    session_type(&s, "\r");
    session_expect(&s, "seed");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"content\":\"a final\\nof two lines"), 1);
    setenv("VISUAL", "false", 1);
    session_start(&s);
    session_type(&s, "kept\x18\x05");
    session_expect(&s, "did not end well");
    session_expect_last(&s, "> kept");
    session_type(&s, "\x15");
    session_leave(&s);
    unsetenv("VISUAL");
}

static void test_paste(void **state) {
    (void)state;
    struct buf text = {0};
    buf_puts(&text, "\033[200~");
    for (int i = 1; i <= 300; i++)
        buf_printf(&text, "%sline %d of the paste", i > 1 ? "\r" : "", i);
    buf_puts(&text, "\033[201~");
    session_start(&s);
    session_type(&s, text.data);
    session_expect_last(&s, "  line 300 of the paste");
    session_type(&s, "\r");
    session_expect(&s, "seed");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"content\":\"line 1 of the paste\\nline 2"), 1);
    buf_release(&text);
}

/* A paste that comes in pieces, as over a slow line, while an answer is painted again and again: it
 * stays one, and sends nothing. */
static void test_paste_while_streaming(void **state) {
    (void)state;
    fake_worker.answers = slow_answer;
    fake_worker.tokens_per_second = 60;
    fake_hold_answers();
    session_start(&s);
    session_type(&s, "go\r");
    fake_let(9);
    session_expect(&s, "streaming");
    session_type(&s, "\033[200~one\rtwo");
    fake_let(36); /* half a second of frames between the pieces */
    session_expect(&s, "a long time");
    session_type(&s, " and\rthree\033[201~");
    session_expect(&s, "> one\n  two and\n  three");
    session_type(&s, "!"); /* a key behind it */
    session_expect_last(&s, "  three!");
    kill(s.pty.pid, SIGTERM);
    session_expect_exit(&s, 128 + SIGTERM);
    assert_int_equal(session_count_on_disk(&s, "\"role\":\"user\""), 1);
}

/* --- scrolling and finding -------------------------------------------------------------------- */

static void test_scrolling(void **state) {
    (void)state;
    static const char *const answers[] = {
        "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n13\n14\n15 needle\n16\n17\n18\n19\n20", NULL};
    fake_worker.answers = answers;
    fake_let_all(); /* it may be held later on */
    s.rows = 12;
    session_start(&s);
    session_type(&s, "one\r");
    session_expect(&s, "20\n[");
    fake_hold_answers();
    session_type(&s, "two\r");
    session_expect(&s, "> two");
    fake_let_all();
    session_expect_gone(&s, "> two");
    session_expect(&s, "20\n[");
    pty_settle(&s.pty);
    session_type(&s, "\033[H"); /* to the top: the input is empty */
    session_expect(&s, "> one\n\n1\n2");
    session_expect(&s, "↓ ");
    session_type(&s, "\033[6~");
    session_expect(&s, "\n9\n");
    session_type(&s, "\033[1;3B"); /* the next message */
    session_expect(&s, "> two\n\n1\n");
    session_type(&s, "\033[1;3A");
    session_expect(&s, "> one\n\n1\n");
    session_type(&s, "\033[F");
    session_expect(&s, "20\n[");
    session_expect_gone(&s, "↓ ");
    session_type(&s, "/find NEEDLE\r");
    session_expect(&s, "2/2");
    session_expect(&s, "15 needle");
    session_type(&s, "n");
    session_expect(&s, "1/2");
    session_type(&s, "N");
    session_expect(&s, "2/2");
    session_type(&s, "x"); /* any other key is typed */
    session_expect_last(&s, "> x");
    session_expect_gone(&s, "2/2");
    session_type(&s, "\x15");
    session_leave(&s);
}

/* --- conversations and views ------------------------------------------------------------------ */

/* So that what is written next is newer: a file's time is the kernel's of its last tick, and the
 * program is faster than that. */
static void wait_for_tick(void) {
    nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static bool is_fruit_first(struct pty *p, void *ud) {
    struct buf text = {0};
    (void)ud;
    pty_text(p, false, &text);
    const char *fruit = strstr(text.data, "old fruit"), *pears = strstr(text.data, "about pears");
    bool is_first = fruit && pears && fruit < pears;
    buf_release(&text);
    return is_first;
}

static void test_conversations(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "about apples\r");
    session_expect(&s, "seed");
    session_type(&s, "/clear\r");
    session_expect_gone(&s, "apples");
    wait_for_tick();
    session_type(&s, "about pears\r");
    session_expect(&s, "seed");
    session_type(&s, "/search APPLES\r");
    session_expect(&s, "2      about apples");
    session_type(&s, "/resume\r");
    session_expect(&s, "Conversations");
    session_expect(&s, "about pears");
    session_type(&s, "d"); /* the open one stays */
    session_expect(&s, "the one that is open");
    session_type(&s, "\033[Br");
    session_expect(&s, "title: about apples");
    wait_for_tick();
    session_type(&s, "\x15old fruit\r");
    session_expect(&s, "is now: old fruit");
    assert_true(pty_wait_until(&s.pty, is_fruit_first, NULL));
    session_type(&s, "\033[H\r"); /* the one that was changed last; opens it */
    session_expect(&s, "> about apples\n\nanswer");
    session_type(&s, "/resume\r");
    session_expect(&s, "about pears");
    pty_settle(&s.pty);
    session_type(&s, "\033[B\033[Ad");
    pty_settle(&s.pty);
    session_type(&s, "\033[Bd");
    session_expect(&s, "for good? [y/N]");
    session_type(&s, "y\r");
    session_expect(&s, "deleted: ");
    session_type(&s, "\033");
    session_expect_gone(&s, "Conversations");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "about pears"), 0);
    assert_int_equal(session_count_on_disk(&s, "\"kind\":\"title\",\"text\":\"old fruit\""), 1);
}

static void test_branches(void **state) {
    (void)state;
    static const char *const answers[] = {"first answer", "second answer", NULL};
    fake_worker.answers = answers;
    session_start(&s);
    session_type(&s, "one\r");
    session_expect(&s, "first answer\n[");
    session_type(&s, "/regen\r");
    session_expect(&s, "second answer\n[");
    session_expect_gone(&s, "first answer");
    session_type(&s, "/branch\r");
    session_expect(&s, "Branches");
    session_type(&s, "\033[H\r");
    session_expect(&s, "> one\n\nfirst answer");
    session_leave(&s);
}

/* The clipboard gets the source text; a file goes with the next message. */
static void test_copy_and_attach(void **state) {
    (void)state;
    char path[96], line[128];
    static const char *const answers[] = {"Hi:\n```c\nint x;\n```", NULL};
    fake_worker.answers = answers;
    snprintf(path, sizeof path, "%s/notes.txt", s.folder);
    assert_int_equal(io_write_atomic(path, 0600, "secret notes", 12, NULL), 0);
    session_start(&s);
    snprintf(line, sizeof line, "/attach %s\r", path);
    session_type(&s, line);
    session_expect(&s, "goes with the next message");
    session_type(&s, "read it\r");
    session_expect(&s, "seed");
    session_type(&s, "/copy\r");
    session_expect(&s, "the answer is in the clipboard");
    assert_non_null(strstr(s.pty.bytes.data, "\033]52;c;SGk6CmBgYGMKaW50IHg7CmBgYA==\a"));
    session_type(&s, "/copy 1\r");
    session_expect(&s, "code block 1 is in");
    assert_non_null(strstr(s.pty.bytes.data, "\033]52;c;aW50IHg7Cg==\a"));
    session_type(&s, "/copy 2\r");
    session_expect(&s, "no code block 2");
    session_leave(&s);
    assert_int_equal(
        session_count_on_disk(&s, "notes.txt:\\n```\\nsecret notes\\n```\\n\\nread it"), 1);
}

/* A value that is changed live and written back leaves every other byte of the file. */
static void test_settings(void **state) {
    (void)state;
    static const char before[] =
        "# mine\nsampling:\n    top_k: 40   # few\ninterface: {keys: emacs}\n";
    char path[128];
    struct buf file = {0};
    snprintf(path, sizeof path, "%s/.config/qwen-chat", s.folder);
    assert_int_equal(io_make_folders(path, 0700, NULL), 0);
    snprintf(path, sizeof path, "%s/.config/qwen-chat/config.yaml", s.folder);
    assert_int_equal(io_write_atomic(path, 0600, before, strlen(before), NULL), 0);
    s.rows = 50;
    session_start(&s);
    session_type(&s, "/set top_k 7\r/set temperature 0.25\r/keep\r");
    session_expect(&s, "sampling.top_k is in");
    session_type(&s, "/set\r");
    session_expect(&s, "Options");
    session_expect(&s, "sampling.top_k              7");
    session_type(&s, "\033");
    session_expect_gone(&s, "Options");
    session_leave(&s);
    assert_int_equal(io_read_file(path, 1 << 16, &file, NULL), 0);
    assert_string_equal(file.data,
                        "# mine\nsampling:\n    temperature: 0.25\n    top_k: 7   # few\n"
                        "interface: {keys: emacs}\n");
    buf_release(&file);
}

/* --- the ladder of Ctrl-C --------------------------------------------------------------------- */

static void test_interrupts(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "half a thought");
    session_expect_last(&s, "> half a thought");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_type(&s, "\033[A"); /* it is in the history */
    session_expect_last(&s, "> half a thought");
    session_type(&s, "\x12thought");
    session_expect(&s, "(search) thought: half");
    session_type(&s, "\x03");
    session_expect_last(&s, "> half a thought");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_type(&s, "\x03");
    session_expect(&s, "Ctrl-C again or Ctrl-D to leave");
    session_type(&s, "\x03");
    session_expect_exit(&s, 128 + SIGINT);
}

static void test_interrupt_streaming(void **state) {
    (void)state;
    fake_worker.answers = slow_answer;
    fake_worker.tokens_per_second = 20;
    session_start(&s);
    session_type(&s, "go\r");
    session_expect(&s, "streaming 你");
    session_type(&s, "\x03");
    session_expect(&s, "interrupted");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"partial\":true"), 1);
    assert_int_equal(session_count_on_disk(&s, "streaming 你"), 1);
}

/* --- signals ---------------------------------------------------------------------------------- */

static void stage_loading(void) {
    fake_worker.loading_ms = 600000;
    session_start(&s);
    session_expect(&s, "loading 50 %");
}

static void stage_typing(void) {
    session_start(&s);
    session_type(&s, "half a thought");
    session_expect_last(&s, "> half a thought");
}

static void stage_searching(void) {
    session_start(&s);
    session_type(&s, "one\r");
    session_expect(&s, "seed");
    session_type(&s, "\x12on");
    session_expect(&s, "(search) on");
}

static void stage_asking(void) {
    session_start(&s);
    session_type(&s, "one\r");
    session_expect(&s, "seed");
    session_type(&s, "/edit\r");
    session_expect(&s, "edit> one");
}

static void stage_streaming(void) {
    fake_worker.answers = slow_answer;
    fake_worker.tokens_per_second = 20;
    session_start(&s);
    session_type(&s, "go\r");
    session_expect(&s, "streaming 你");
}

static void stage_finding(void) {
    session_start(&s);
    session_type(&s, "one\r");
    session_expect(&s, "seed");
    session_type(&s, "/find one\r");
    session_expect(&s, "n next");
}

static void stage_choosing(void) {
    session_start(&s);
    session_expect(&s, "ready");
    session_type(&s, "/s\t\t");
    session_expect(&s, "Tab walks");
}

static void stage_working(void) {
    fake_worker.bench_stall = 3;
    session_start(&s);
    session_expect(&s, "ready");
    session_type(&s, "/bench\r");
    session_expect(&s, "75 %");
}

static const struct {
    const char *name;
    void (*reach)(void);
} stages[] = {{"loading", stage_loading},     {"typing", stage_typing},
              {"searching", stage_searching}, {"asking", stage_asking},
              {"streaming", stage_streaming}, {"finding", stage_finding},
              {"working", stage_working},     {"choosing", stage_choosing}};

/* Work in a view: stopped by Escape or Ctrl-C, and what it had measured stays. */
static void test_work(void **state) {
    (void)state;
    static const char *const stops[] = {"\033", "\x03", "q"};
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        unmake(NULL);
        make(NULL);
        stage_working();
        session_expect(&s, "pp512  1000.00 ± 0.00");
        session_expect(&s, "working");
        session_type(&s, "x"); /* no key of it */
        session_type(&s, stops[i]);
        session_expect(&s, "the bench was stopped");
        session_expect(&s, "Esc closes");
        session_expect(&s, "ready");
        session_type(&s, stops[i]);
        session_expect_gone(&s, "Esc closes");
        session_expect(&s, "> /bench\n\ntest");
        session_expect(&s, "pp512  1000.00 ± 0.00");
        session_expect(&s, "the bench was stopped");
        session_type(&s, "hello\r");
        session_expect(&s, "answer");
        session_leave(&s);
    }
    stage_working(); /* the end of the program stops it too, and its table is printed */
    kill(s.pty.pid, SIGTERM);
    session_expect(&s, "pp512  1000.00 ± 0.00");
    session_expect_exit(&s, 128 + SIGTERM);
}

/* What is wrong with the flags is said, and no view opens. */
static void test_work_refused(void **state) {
    (void)state;
    session_start(&s);
    session_expect(&s, "ready");
    session_type(&s, "/bench -r 0\r");
    session_expect(&s, "0 is not in 1 to 100");
    session_leave(&s);
}

static void test_signals(void **state) {
    (void)state;
    static const int numbers[] = {SIGTERM, SIGHUP, SIGQUIT, SIGSEGV};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++) {
            unmake(NULL);
            make(NULL);
            stages[i].reach();
            kill(s.pty.pid, numbers[k]);
            int code = pty_wait_exit(&s.pty);
            bool is_sanitizer = numbers[k] == SIGSEGV && code == 1; /* ASan reports it itself */
            if (code != 128 + numbers[k] && !is_sanitizer)
                fail_msg("%s, signal %d: exit code %d", stages[i].name, numbers[k], code);
            assert_true(pty_has_modes_of_before(&s.pty));
            const char *bytes = s.pty.bytes.data;
            assert_non_null(strstr(bytes, "\033[?1049l"));
            assert_non_null(strstr(bytes, "\033[?2004l"));
            if (stages[i].reach == stage_streaming && k < 2)
                assert_int_equal(session_count_on_disk(&s, "streaming 你"), 1);
            pty_end(&s.pty);
        }
    }
}

/* Behind the first *ud bytes. */
static bool has_taken_screen(struct pty *p, void *ud) {
    const size_t *before = ud;
    return strstr(p->bytes.data + *before, "\033[?1049h") != NULL;
}

/* A stop gives the terminal back; going on takes it again with everything in its place. */
static void test_stop(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        unmake(NULL);
        make(NULL);
        stages[i].reach();
        session_type(&s, "\x1a");
        if (!pty_wait_stopped(&s.pty)) fail_msg("%s: it does not stop", stages[i].name);
        pty_update(&s.pty);
        assert_true(pty_has_modes_of_before(&s.pty));
        size_t before = s.pty.bytes.n;
        kill(s.pty.pid, SIGCONT);
        assert_true(pty_wait_until(&s.pty, has_taken_screen, &before));
        session_expect(&s, ">");
        kill(s.pty.pid, SIGTERM);
        session_expect_exit(&s, 128 + SIGTERM);
    }
}

/* The terminal goes away: the program ends, and the answer is on disk. */
static void test_hangup(void **state) {
    (void)state;
    stage_streaming();
    close(s.pty.fd);
    s.pty.fd = -1;
    int status = pty_wait_exit(&s.pty);
    assert_int_equal(status, 128 + SIGHUP);
    pty_end(&s.pty);
    assert_int_equal(session_count_on_disk(&s, "streaming 你"), 1);
}

static void test_no_model(void **state) {
    (void)state;
    fake_worker.load_error = (struct err){.kind = ERR_MODEL, .text = "it is no model"};
    session_start_unready(&s);
    assert_int_equal(pty_wait_exit(&s.pty), ERR_MODEL);
    assert_true(pty_wait(&s.pty, "qwen-chat: it is no model"));
    assert_true(pty_has_modes_of_before(&s.pty));
    pty_end(&s.pty);
}

/* An unknown TERM is taken for an xterm; a dumb one gets line mode. */
static void test_terms(void **state) {
    (void)state;
    s.term = "none-such-terminal";
    session_start(&s);
    session_expect(&s, "ready");
    session_leave(&s);
    s.term = "dumb";
    session_start_unready(&s);
    session_expect(&s, ">");
    assert_false(s.pty.is_alternate);
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, make, unmake)
        TEST(life),
        TEST(queue),
        TEST(speed),
        TEST(ambiguous_width),
        TEST(colors),
        TEST(questions),
        TEST(paste),
        TEST(paste_while_streaming),
        TEST(scrolling),
        TEST(interrupts),
        TEST(interrupt_streaming),
        TEST(work),
        TEST(work_refused),
        TEST(signals),
        TEST(stop),
        TEST(hangup),
        TEST(no_model),
        TEST(terms),
        TEST(conversations),
        TEST(branches),
        TEST(copy_and_attach),
        TEST(settings),
        TEST(external_editor),
        TEST(menu),
        TEST(menu_of_files),
#undef TEST
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
