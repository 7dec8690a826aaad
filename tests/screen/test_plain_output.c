/* What the line mode prints: answers, reasoning, statistics, questions; and what it never prints.
 */
#include "tests/screen/session.h"

#include "engine/base/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

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

static void test_answer_and_stats(void **state) {
    (void)state;
    static const char *const answers[] = {"\n\n你好！\n\nSecond paragraph.\n\n\n", NULL};
    fake_worker.answers = answers;
    s.args[0] = "--seed=7";
    session_start(&s);
    session_type(&s, "hello\r");
    session_expect(&s, "> hello\n你好！\n\nSecond paragraph.\n[");
    session_expect(&s, "tokens, ");
    session_expect(&s, "seed 7]\n\n>");
    session_leave(&s);
}

static void test_reasoning(void **state) {
    (void)state;
    static const char *const answers[] = {"The answer.", NULL};
    static const char *const reasoning[] = {"Let me\nthink.", NULL};
    fake_worker.answers = answers;
    fake_worker.reasoning = reasoning;
    s.args[0] = "--no-show-stats";
    session_start(&s);
    session_type(&s, "one\r");
    session_expect(&s, "> one\n[thinking]\nLet me\nthink.\n[/thinking]\n\nThe answer.\n\n>");
    session_type(&s, "/set show_thinking off\r/set show_thinking false\rtwo\r");
    session_expect(&s, "> two\n[thinking …]\n\nThe answer.\n\n>");
    session_leave(&s);
}

static void test_answer_fails(void **state) {
    (void)state;
    static const char *const answers[] = {"some text", NULL};
    fake_worker.answers = answers;
    fake_worker.error_after = 4;
    err_set(&fake_worker.answer_error, ERR_MEMORY, "the device is lost");
    session_start(&s);
    session_type(&s, "x\r");
    session_expect(&s, "some\nthe device is lost\n\n>");
    session_leave(&s);
}

static void test_left_out_turns(void **state) {
    (void)state;
    fake_worker.left_out_turns = 3;
    session_start(&s);
    session_type(&s, "x\r");
    session_expect(&s, "The 3 oldest turns were left out");
    session_leave(&s);
}

static void test_edit(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "first try\r");
    session_expect(&s, "answer");
    session_type(&s, "/edit\r");
    session_expect_last(&s, "edit> first try");
    session_type(&s, "\x17more\r");
    session_expect(&s, "edit> first more");
    session_expect_last(&s, ">");
    session_type(&s, "/edit\r");
    session_expect_last(&s, "edit> first more");
    session_type(&s, "\x03"); /* clears it */
    session_expect_last(&s, "edit>");
    session_type(&s, "\x03"); /* gives up */
    session_leave(&s);
    assert_int_equal(session_count_on_disk(&s, "first more"), 1);
}

static void test_commands_and_tables(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "/help\r");
    session_expect(&s, "/history");
    session_type(&s, "/nonsense\r");
    session_expect(&s, "nonsense");
    session_type(&s, "/exit\r");
    session_expect_exit(&s, 0);
}

static bool has_byte(const struct pty *p, char c) {
    return memchr(p->bytes.data, c, p->bytes.n) != NULL;
}

/* A dumb terminal gets no escape sequence and no carriage return but those of line ends. */
static void test_dumb(void **state) {
    (void)state;
    s.term = "dumb";
    fake_worker.loading_ms = 100;
    session_start(&s);
    session_type(&s, "你好 there\r");
    session_expect(&s, "answer");
    session_expect_last(&s, ">");
    session_type(&s, "two \\\rlines\r");
    session_expect(&s, "> two \\\nlines\nanswer");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
    assert_false(has_byte(&s.pty, '\033'));
    assert_false(has_byte(&s.pty, '\b'));
    for (size_t i = 0; i + 1 < s.pty.bytes.n; i++)
        if (s.pty.bytes.data[i] == '\r') assert_int_equal(s.pty.bytes.data[i + 1], '\n');
    assert_int_equal(session_count_on_disk(&s, "two \\nlines"), 1);
}

/* Where nothing is to be redrawn, progress comes in lines and no bell rings. */
static void test_accessible(void **state) {
    (void)state;
    s.args[0] = "--plain";
    fake_hold_loading();
    session_start(&s);
    session_type(&s, "\x7fhello\r");
    session_expect(&s, "> hello\nloading …\n");
    fake_let_load();
    session_expect(&s, "> hello\nloading …\nanswer\n");
    session_leave(&s);
    assert_int_equal(s.pty.n_bells, 0);
}

static void test_no_color(void **state) {
    (void)state;
    static const char *const answers[] = {"text", NULL};
    static const char *const reasoning[] = {"hm", NULL};
    fake_worker.answers = answers;
    fake_worker.reasoning = reasoning;
    s.no_color = true;
    session_start(&s);
    session_type(&s, "x\r");
    session_expect(&s, "text\n[");
    session_leave(&s);
    for (size_t i = 0; i + 1 < s.pty.bytes.n; i++) /* no SGR: ESC [ digits m */
        if (s.pty.bytes.data[i] == '\033') {
            size_t k = i + 2;
            while (strchr("0123456789;", s.pty.bytes.data[k])) k++;
            assert_int_not_equal(s.pty.bytes.data[k], 'm');
        }
}

/* stdin is a terminal, stdout a file: the dialogue on the terminal, the answers in the file. */
static void test_output_to_file(void **state) {
    (void)state;
    static const char *const answers[] = {"raw \033[31mbytes", NULL};
    char path[128];
    struct buf text = {0};
    snprintf(path, sizeof path, "%s/answers", s.folder);
    fake_worker.answers = answers;
    s.output = path;
    session_start(&s);
    session_type(&s, "one\r");
    session_expect(&s, "> one\n[");
    session_type(&s, "two\r");
    session_expect(&s, "> two\n[");
    session_leave(&s);
    assert_int_equal(io_read_file(path, 1 << 20, &text, NULL), 0);
    assert_string_equal(text.data, "raw \033[31mbytes\nraw \033[31mbytes\n");
    buf_release(&text);
}

/* --- hostile text ---------------------------------------------------------------------------- */

/* Beginnings, middles and ends of sequences that a terminal would obey: all combinations, and a few
 * for themselves. */
static const char *const introducers[] = {
    "\033[", "\033]",    "\033P",    "\033_",    "\033^",
    "\033X", "\xc2\x9b", "\xc2\x9d", "\xc2\x90", "\033#",
};
static const char *const bodies[] = {
    "2J",
    "31mred",
    "0;owned\a",
    "2;owned\033\\",
    "52;c;cHduZWQ=\a",
    "?1049h",
    "8;;http://x\a",
    "6n",
    "c",
    "1;1H@@@@",
    "20t",
    "?2004l",
    "$q m\033\\",
    "1337;File=:\a",
    "38;5;1mx\xc2\x9c",
    "?1000h",
    "3 q",
    "999B",
};
static const char *const others[] = {
    "\033c",
    "\0337\0338",
    "\a\a\a",
    "a\b\b\bb",
    "over\rprint",
    "\v\f\x0e\x0f",
    "\x7f",
    "\x05",
    "\x18\x1a",
    "\xe2\x80\xae"
    "reversed",
    "\xe2\x81\xa6iso\xe2\x81\xa9",
    "\xf3\xa0\x81\x81tag",
    "\xef\xbb\xbf"
    "bom",
    "a\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81"
    "\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81",
    "\xff\xfe\xc0\x80",
    "\xed\xa0\x80",
    "\xe2\x80\xa8line\xe2\x80\xa9",
    "\033",
    "\033[",
    "\xc2",
};
enum {
    N_INTRODUCERS = sizeof introducers / sizeof *introducers,
    N_BODIES = sizeof bodies / sizeof *bodies,
    N_OTHERS = sizeof others / sizeof *others,
    N_HOSTILE = N_INTRODUCERS * N_BODIES + N_OTHERS,
};

static char hostile[N_HOSTILE][128];
static const char *hostile_answers[N_HOSTILE + 1];

static void make_hostile(void) {
    int n = 0;
    for (int i = 0; i < N_INTRODUCERS; i++)
        for (int k = 0; k < N_BODIES; k++)
            snprintf(hostile[n++], sizeof *hostile, "%s%s", introducers[i], bodies[k]);
    for (int i = 0; i < N_OTHERS; i++) snprintf(hostile[n++], sizeof *hostile, "%s", others[i]);
    for (int i = 0; i < n; i++) hostile_answers[i] = hostile[i];
}

/* The sequences that the line mode itself uses: ESC [ numbers and one of m A B C J K H, and the
 * switch of bracketed paste. */
static void expect_own_sequences_only(const struct pty *p) {
    const char *text = p->bytes.data;
    for (size_t i = 0; i < p->bytes.n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != 0x7F) continue;
        if (c == '\r' || c == '\n' || c == '\a') continue;
        assert_int_equal(c, 0x1B);
        assert_int_equal(text[i + 1], '[');
        size_t end = i + 2;
        while (strchr("0123456789;?", text[end])) end++;
        bool is_paste = strncmp(text + i + 2, "?2004", 5) == 0;
        assert_non_null(strchr(is_paste ? "hl" : "mABCJKH", text[end]));
        assert_true(is_paste || !memchr(text + i, '?', end - i));
    }
}

static void ask_all(int n) {
    int row, column, bells = s.pty.n_bells;
    for (int i = 0; i < n; i++) {
        char question[32];
        snprintf(question, sizeof question, "q%d", i);
        session_type(&s, question);
        session_type(&s, "\r");
        session_type(&s, "after");
        session_expect_last(&s, "> after");
        pty_cursor(&s.pty, &row, &column);
        assert_int_equal(column, 7);
        session_type(&s, "\x15");
        session_expect_last(&s, ">");
    }
    assert_int_equal(s.pty.n_bells, bells);
    assert_string_equal(s.pty.title, "");
    assert_false(s.pty.is_alternate);
}

static void test_hostile_answers(void **state) {
    (void)state;
    make_hostile();
    assert_true(N_HOSTILE >= 200);
    fake_worker.answers = hostile_answers;
    session_start(&s);
    ask_all(N_HOSTILE);
    session_expect(&s, "␛]0;owned␇");
    session_leave(&s);
    expect_own_sequences_only(&s.pty);
}

static void test_hostile_reasoning(void **state) {
    (void)state;
    make_hostile();
    fake_worker.reasoning = hostile_answers;
    fake_worker.answers = hostile_answers;
    session_start(&s);
    ask_all(N_HOSTILE / 4);
    session_leave(&s);
    expect_own_sequences_only(&s.pty);
}

/* Names and errors go the same way. */
static void test_hostile_names(void **state) {
    (void)state;
    static const char *const answers[] = {"x", NULL};
    fake_worker.answers = answers;
    fake_worker.model_name = "m\033]0;owned\a\033[2Jodel";
    fake_worker.notice = "n\033]0;owned\a\xe2\x80\xae";
    fake_worker.error_after = 1;
    err_set(&fake_worker.answer_error, ERR_OTHER, "e\033]0;owned\a\033[2J");
    session_start(&s);
    session_type(&s, "q\r/history\r/stats\r/model\r/model \"\033[200~\033]0;x\a\033[201~\r");
    session_type(&s, "/nonsense\033[200~\033]0;owned\a\033[201~\r/resume\r");
    session_type(&s, "after");
    session_expect_last(&s, "> after");
    assert_string_equal(s.pty.title, "");
    session_type(&s, "\x15");
    session_leave(&s);
    expect_own_sequences_only(&s.pty);
}

int main(void) {
#define FRESH(test) cmocka_unit_test_setup_teardown(test, make, unmake)
    const struct CMUnitTest tests[] = {
        FRESH(test_answer_and_stats),
        FRESH(test_reasoning),
        FRESH(test_answer_fails),
        FRESH(test_left_out_turns),
        FRESH(test_edit),
        FRESH(test_commands_and_tables),
        FRESH(test_dumb),
        FRESH(test_accessible),
        FRESH(test_no_color),
        FRESH(test_output_to_file),
        FRESH(test_hostile_answers),
        FRESH(test_hostile_reasoning),
        FRESH(test_hostile_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
