/* The line mode in a real terminal: typing, pasting, history, search, completion, wrapping. */
#include "tests/screen/session.h"

#include "engine/base/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define LEFT "\033[D"
#define UP   "\033[A"

static struct session s;

static int make(void **state) {
    (void)state;
    session_make(&s, NULL);
    return 0;
}

static int unmake(void **state) {
    (void)state;
    session_remove(&s);
    return 0;
}

static void expect_cursor(int column) {
    int row, at;
    pty_cursor(&s.pty, &row, &at);
    assert_int_equal(at, column);
}

/* What Ctrl-C does must be seen before more is typed: it overtakes what is in the line. */
static void test_chinese(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "你好世界");
    session_expect_last(&s, "> 你好世界");
    expect_cursor(10);
    session_type(&s, "\x7f\x7f");
    session_expect_last(&s, "> 你好");
    expect_cursor(6);
    session_type(&s, LEFT "很");
    session_expect_last(&s, "> 你很好");
    expect_cursor(6);
    session_type(&s, "\x7f\x7f\x7f\x7f"); /* one more than there are: the prompt stays */
    session_expect_last(&s, "> 好");
    session_type(&s, "\x01\x0b"
                     "e\xcc\x81👩‍👩‍👧");
    session_expect(&s, "> e\xcc\x81");
    session_type(&s, "\x7f");
    session_expect_last(&s, "> e\xcc\x81");
    session_type(&s, "\x7f");
    session_expect_last(&s, ">");
    session_leave(&s);
}

static void test_wrapping(void **state) {
    (void)state;
    s.columns = 20;
    s.rows = 10;
    session_start(&s);
    session_type(&s, "一二三四五六七八九十甲乙");
    session_expect(&s, "> 一二三四五六七八九\n十甲乙");
    expect_cursor(6);
    session_type(&s, "\x7f\x7f\x7f");
    session_expect_last(&s, "> 一二三四五六七八九");
    session_type(&s, "x\x01");
    session_expect_last(&s, "x");
    session_type(&s, "y");
    session_expect(&s, "> y一二三四五六七八\n九x"); /* the last column stays empty */
    pty_resize(&s.pty, 10, 40);
    session_expect(&s, "> y一二三四五六七八九x");
    session_type(&s, "\x05z\r");
    session_expect(&s, "answer");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"content\":\"y一二三四五六七八九xz"), 1);
}

static void test_several_lines(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "one\\\rtwo\nthree\033\rfour");
    session_expect(&s, "> one\ntwo\nthree\nfour");
    session_type(&s, UP UP "!");
    session_expect(&s, "two!"); /* at the column of the end of "four" */
    session_type(&s, "\r");
    session_expect(&s, "answer");
    session_type(&s, UP);
    session_expect_last(&s, "four");
    session_type(&s, "\x03");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"content\":\"one\\ntwo!\\nthree\\nfour"), 1);
}

static void paste(int n_lines, const char *first, const char *last) {
    struct buf text = {0};
    buf_puts(&text, "\033[200~");
    for (int i = 1; i <= n_lines; i++) buf_printf(&text, "%s第%d行", i > 1 ? "\r" : "", i);
    buf_puts(&text, "\033[201~");
    session_type(&s, text.data);
    session_expect(&s, last);
    session_type(&s, "!");
    session_expect_gone(&s, "answer"); /* a paste sends nothing */
    session_type(&s, "\r");
    session_expect(&s, "answer");
    session_type(&s, "/clear\r");
    session_expect_gone(&s, first);
    buf_release(&text);
}

static void test_paste(void **state) {
    (void)state;
    session_start(&s);
    paste(1, "> 第1行", "> 第1行");
    paste(3, "> 第1行", "第3行");
    paste(1500, "第1490行", "第1500行");
    session_type(&s, UP UP); /* /clear, the paste */
    session_expect_last(&s, "第1500行!");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "\"role\":\"user\""), 3);
    assert_int_equal(session_count_on_disk(&s, "\"content\":\"第1行\\n第2行\\n第3行!"), 1);
    assert_int_equal(session_count_on_disk(&s, "第1499行\\n第1500行!"), 1);
}

/* A paste of a megabyte, and one with escapes in it. */
static void test_hostile_paste(void **state) {
    (void)state;
    struct buf text = {0};
    buf_puts(&text, "\033[200~");
    for (int i = 0; i < 19000; i++)
        buf_puts(&text, "0123456789 abcdefghijklmnopqrstuvwxyz 你好世界\r");
    buf_puts(&text, "end\033[201~");
    session_start(&s);
    session_type(&s, text.data);
    session_expect_last(&s, "end");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_type(&s, "\033[200~a\033[31mb\033]0;owned\007c\033[2J\033[201~");
    session_expect_last(&s, "> a␛[31mb␛]0;owned␇c␛[2J");
    assert_string_equal(s.pty.title, "");
    session_type(&s, "\x15");
    session_leave(&s);
    buf_release(&text);
}

static void test_history(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "秋天的叶子\r");
    session_expect(&s, "answer");
    session_type(&s, "two\nlines\r");
    session_expect_last(&s, ">");
    session_leave(&s);
    session_start(&s); /* another run has them */
    session_type(&s, UP);
    session_expect(&s, "> two\nlines");
    session_type(&s, "\033[A\033[A");
    session_expect_last(&s, "> 秋天的叶子");
    session_type(&s, "\033[B\033[B\033[B");
    session_expect_last(&s, ">");
    session_leave(&s);
}

static void test_search(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "写一首的诗\rplain words\r不一样的人\r");
    session_expect(&s, "> 不一样的人");
    session_expect_last(&s, ">");
    session_type(&s, "\x12的");
    session_expect_last(&s, "(search) 的: 不一样的人");
    session_type(&s, "\x12");
    session_expect_last(&s, "(search) 的: 写一首的诗");
    session_type(&s, "\x12");
    session_expect_last(&s, "(no match) 的: 写一首的诗");
    session_type(&s, "\x7f");
    session_expect_last(&s, "(search) :");
    session_type(&s, "plain\r");
    session_expect_last(&s, "> plain words");
    session_type(&s, "\x12的\x07"); /* given up: the text from before is back */
    session_expect_last(&s, "> plain words");
    session_type(&s, "\x12一");
    session_expect_last(&s, "(search) 一: 不一样的人");
    session_type(&s, "\x03"); /* so does Ctrl-C, and once more clears */
    session_expect_last(&s, "> plain words");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_leave(&s);
}

static void test_completion(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "/und\t");
    session_expect_last(&s, "> /undo");
    session_type(&s, "\x15/h\t");
    session_expect(&s, "/help  /history");
    session_expect_last(&s, "> /h");
    session_type(&s, "i\t");
    session_expect_last(&s, "> /history");
    session_type(&s, "\x15");
    session_leave(&s);
}

static void test_vi(void **state) {
    (void)state;
    s.args[0] = "--keys=vi";
    session_start(&s);
    session_type(&s, "你好 世界\033");
    session_expect(&s, "世界");
    session_type(&s, "bDA再见");
    session_expect_last(&s, "> 你好 再见");
    session_type(&s, "\033");
    session_type(&s, "0x");
    session_expect_last(&s, "> 好 再见");
    session_type(&s, "\r");
    session_expect(&s, "answer");
    session_type(&s, "ins\033[Dx");
    session_expect_last(&s, "> inxs");
    session_type(&s, "\x03");
    session_leave(&s);
}

static void test_editrc(void **state) {
    (void)state;
    static const char rc[] = "bind -v\nbind \"^[[A\" ed-move-to-beg\n";
    char path[128];
    snprintf(path, sizeof path, "%s/.editrc", s.folder);
    assert_int_equal(io_write_atomic(path, 0600, rc, sizeof rc - 1, NULL), 0);
    session_start(&s);
    session_type(&s, "text" UP "x");
    session_expect_last(&s, "> xtext");
    session_type(&s, "\033");
    session_type(&s, "D");
    session_expect_last(&s, ">");
    session_leave(&s);
}

static void test_clear_screen(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "first\r");
    session_expect(&s, "answer");
    session_type(&s, "half");
    session_expect_last(&s, "> half");
    session_type(&s, "\x0c");
    session_expect_gone(&s, "answer");
    session_expect_last(&s, "> half");
    session_type(&s, "\x15");
    session_leave(&s);
}

static void test_narrow(void **state) {
    (void)state;
    s.columns = 5;
    s.rows = 3;
    session_start(&s);
    session_type(&s, "你好世界 and more than fits\r");
    session_expect(&s, "answe");
    session_type(&s, "x");
    pty_resize(&s.pty, 1, 1);
    session_type(&s, "yz" LEFT LEFT "\x7f");
    pty_resize(&s.pty, 24, 80);
    session_expect_last(&s, "> yz");
    session_type(&s, "\x03");
    session_leave(&s);
}

/* Keys of every kind at random: nothing breaks, and it can still be left. */
static void test_random_keys(void **state) {
    (void)state;
    static const char *const pieces[] = {"a",
                                         "你",
                                         " ",
                                         "\x01",
                                         "\x05",
                                         "\x0b",
                                         "\x19",
                                         "\x7f",
                                         LEFT,
                                         "\033[C",
                                         UP,
                                         "\033[B",
                                         "\t",
                                         "\x12",
                                         "\033",
                                         "\n",
                                         "\x17",
                                         "\x14",
                                         "\033[200~p\rq\033[201~",
                                         "\033[3~",
                                         "\033b",
                                         "\033d",
                                         "\x18",
                                         "\033[1;5D",
                                         "\xff",
                                         "\xe4",
                                         "\033[M",
                                         "\033]",
                                         "\x15",
                                         "\033p",
                                         "\033[5~",
                                         "\x10"};
    unsigned seed = 7;
    session_start(&s);
    for (int i = 0; i < 1500; i++) {
        seed = seed * 1103515245 + 12345;
        session_type(&s, pieces[seed / 65536 % (sizeof pieces / sizeof *pieces)]);
        if (i % 100 == 50) pty_resize(&s.pty, 4 + (int)(seed % 30), 10 + (int)(seed / 64 % 100));
    }
    pty_resize(&s.pty, 24, 80);
    /* Ctrl-C makes the kernel drop what was typed and not yet read: no byte may be under way */
    pty_settle(&s.pty);
    session_type(&s, "\a\033\\\x03");
    pty_settle(&s.pty);
    session_type(&s, "\x03");
    pty_settle(&s.pty);
    session_type(&s, "finally");
    session_expect(&s, "finally");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_leave(&s);
}

int main(void) {
#define FRESH(test) cmocka_unit_test_setup_teardown(test, make, unmake)
    const struct CMUnitTest tests[] = {
        FRESH(test_chinese),     FRESH(test_wrapping), FRESH(test_several_lines),
        FRESH(test_paste),       FRESH(test_history),  FRESH(test_hostile_paste),
        FRESH(test_search),      FRESH(test_vi),       FRESH(test_completion),
        FRESH(test_editrc),      FRESH(test_narrow),   FRESH(test_clear_screen),
        FRESH(test_random_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
