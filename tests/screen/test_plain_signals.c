/*
 * Ctrl-C, Ctrl-D, Ctrl-Z and every signal at every stage: the program ends (or goes on) as it
 * should, the terminal is as it was, and what was said is on disk.
 */
#include "tests/screen/session.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

/* --- the ladder of Ctrl-C -------------------------------------------------------------------- */

static void test_interrupt_typing(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "half a thought");
    session_expect_last(&s, "> half a thought");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_type(&s, "\033[A"); /* it is in the history */
    session_expect_last(&s, "> half a thought");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
}

static void test_interrupt_twice_leaves(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "\x03");
    session_expect(&s, "Ctrl-C again or Ctrl-D to leave");
    session_type(&s, "x\x7f");
    session_expect_last(&s, ">");
    session_type(&s, "\x03"); /* the first one still counts: nothing was entered since */
    session_expect_exit(&s, 128 + SIGINT);
}

static void test_interrupt_is_forgotten(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "\x03");
    session_expect(&s, "Ctrl-C again");
    session_type(&s, "hi\r");
    session_expect(&s, "answer");
    session_expect_last(&s, ">");
    session_type(&s, "\x03");
    session_expect(&s, "]\n\nCtrl-C again");
    session_type(&s, "alive");
    session_expect_last(&s, "> alive");
    session_type(&s, "\x15\x04");
    session_expect_exit(&s, 0);
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
    session_expect_last(&s, ">");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
    assert_int_equal(session_count_on_disk(&s, "\"partial\":true"), 1);
    assert_int_equal(session_count_on_disk(&s, "streaming 你"), 1);
}

/* Before the first token, and while the model loads. */
static void test_interrupt_waiting(void **state) {
    (void)state;
    fake_worker.answers = slow_answer;
    fake_worker.loading_ms = 600000;
    fake_hold_answers();
    session_start(&s);
    session_type(&s, "too early\r");
    session_expect(&s, "loading … 50%");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_expect_gone(&s, "loading");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);

    fake_worker.loading_ms = 0;
    session_start(&s);
    session_type(&s, "prompt\r");
    session_expect_last(&s, "> prompt");
    session_type(&s, "\x03");
    session_expect(&s, "interrupted");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
}

/* What was typed while an answer came is kept; Ctrl-C keeps it from being sent. */
static void test_typed_ahead(void **state) {
    (void)state;
    static const char *const answers[] = {"first answer", "second answer", "third answer", NULL};
    fake_worker.answers = answers;
    fake_hold_answers();
    session_start(&s);
    session_type(&s, "one\r");
    fake_let(3);
    session_expect(&s, "fir");
    session_type(&s, "二\rthree");
    fake_let(9 + 13);
    session_expect(&s, "second answer");
    fake_let(1); /* its end */
    session_expect_last(&s, "> three");
    session_expect(&s, "> 二\n");
    session_type(&s, "\025four\r");
    fake_let(2);
    session_expect(&s, "thi");
    session_type(&s, "five\r");
    pty_settle(&s.pty); /* it is read: Ctrl-C makes the kernel drop what is not */
    session_type(&s, "\x03");
    session_expect(&s, "interrupted");
    session_expect(&s, "> five\n");
    session_type(&s, "six");
    session_expect_last(&s, "six");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
    assert_int_equal(session_count_on_disk(&s, "\"role\":\"user\""), 3);
}

static void test_message_before_the_model(void **state) {
    (void)state;
    fake_hold_loading();
    session_start(&s);
    session_type(&s, "early\r");
    session_expect(&s, "loading … 50%");
    fake_let_load();
    session_expect(&s, "answer");
    session_expect_last(&s, ">");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
}

static void test_model_fails(void **state) {
    (void)state;
    err_set(&fake_worker.load_error, ERR_MODEL, "no such model");
    fake_worker.loading_ms = 100;
    session_start_unready(&s);
    session_expect(&s, "no such model");
    session_expect_exit(&s, 3);
}

/* --- signals at every stage ------------------------------------------------------------------ */

enum stage { IDLE, TYPING, SEARCHING, PASTING, LOADING, WAITING, STREAMING, N_STAGES };

static void go_to(enum stage stage) {
    fake_worker.answers = slow_answer;
    fake_worker.tokens_per_second = 20;
    fake_worker.loading_ms = stage == LOADING ? 600000 : 0;
    if (stage == WAITING)
        fake_hold_answers();
    else
        fake_let_all();
    session_start(&s);
    switch (stage) {
    case IDLE:
        break;
    case TYPING:
        session_type(&s, "half\ntyped");
        session_expect_last(&s, "typed");
        break;
    case SEARCHING:
        session_type(&s, "\x12zz");
        session_expect(&s, "(no match) zz");
        break;
    case PASTING:
        session_type(&s, "a\033[200~half");
        session_expect_last(&s, "> a");
        break;
    case LOADING:
        session_type(&s, "early\r");
        session_expect(&s, "loading");
        break;
    case WAITING:
        session_type(&s, "prompt\r");
        session_expect_last(&s, "> prompt");
        break;
    case STREAMING:
        session_type(&s, "go\r");
        session_expect(&s, "streaming");
        break;
    case N_STAGES:
        break;
    }
}

static void end_by(int number, int code) {
    for (enum stage stage = IDLE; stage < N_STAGES; stage++) {
        go_to(stage);
        kill(s.pty.pid, number);
        session_expect_exit(&s, code);
    }
    assert_int_equal(session_count_on_disk(&s, "streaming"), 1); /* the partial answer */
    assert_int_equal(session_count_on_disk(&s, "\"role\":\"user\""), 3);
}

static void test_terminate(void **state) {
    (void)state;
    end_by(SIGTERM, 128 + SIGTERM);
}

static void test_hang_up(void **state) {
    (void)state;
    end_by(SIGHUP, 128 + SIGHUP);
}

/* The terminal itself goes away. */
static void test_terminal_closed(void **state) {
    (void)state;
    go_to(STREAMING);
    close(s.pty.fd);
    s.pty.fd = -1;
    assert_int_equal(pty_wait_exit(&s.pty), 128 + SIGHUP);
    pty_end(&s.pty);
    assert_int_equal(session_count_on_disk(&s, "streaming"), 1);
}

static void test_resize_at_every_stage(void **state) {
    (void)state;
    for (enum stage stage = IDLE; stage < N_STAGES; stage++) {
        go_to(stage);
        for (int i = 0; i < 20; i++) pty_resize(&s.pty, 5 + i % 7, 20 + 3 * i);
        pty_resize(&s.pty, 24, 80);
        kill(s.pty.pid, SIGTERM);
        session_expect_exit(&s, 128 + SIGTERM);
    }
}

static void test_stop_at_every_stage(void **state) {
    (void)state;
    for (enum stage stage = IDLE; stage < N_STAGES; stage++) {
        go_to(stage);
        kill(s.pty.pid, SIGTSTP);
        assert_true(pty_wait_stopped(&s.pty));
        assert_true(pty_has_modes_of_before(&s.pty));
        kill(s.pty.pid, SIGCONT);
        if (stage == STREAMING) session_expect(&s, "a long time");
        if (stage == TYPING) session_expect_last(&s, "typed");
        kill(s.pty.pid, SIGTERM);
        session_expect_exit(&s, 128 + SIGTERM);
    }
}

static bool has_line_modes(struct pty *p, void *ud) {
    struct termios now;
    (void)ud;
    return tcgetattr(p->fd, &now) == 0 && !(now.c_lflag & ICANON);
}

/* Stopped from outside, and another program has left its own modes. */
static void test_continue(void **state) {
    (void)state;
    session_start(&s);
    session_type(&s, "kept");
    session_expect_last(&s, "> kept");
    kill(s.pty.pid, SIGSTOP);
    assert_true(pty_wait_stopped(&s.pty));
    tcsetattr(s.pty.fd, TCSANOW, &s.pty.before);
    kill(s.pty.pid, SIGCONT);
    assert_true(pty_wait_until(&s.pty, has_line_modes, NULL));
    session_type(&s, "!");
    session_expect_last(&s, "> kept!");
    session_type(&s, "\x15\x04");
    session_expect_exit(&s, 0);
}

/* Crashes of our own give the terminal back too. */
static void test_fatal_signals(void **state) {
    (void)state;
    static const int numbers[] = {SIGSEGV, SIGABRT, SIGFPE, SIGILL, SIGQUIT};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        go_to(TYPING);
        kill(s.pty.pid, numbers[i]);
        assert_true(pty_wait_exit(&s.pty) > 0); /* the signal, or a sanitizer's report of it */
        assert_true(pty_has_modes_of_before(&s.pty));
        pty_end(&s.pty);
    }
}

static void test_kill_and_resume(void **state) {
    (void)state;
    fake_worker.answers = (const char *const[]){"whole answer", slow_answer[0], NULL};
    fake_worker.tokens_per_second = 40;
    session_start(&s);
    session_type(&s, "第一个问题\r");
    session_expect(&s, "whole answer\n");
    session_type(&s, "second question\r");
    session_expect(&s, "streaming");
    kill(s.pty.pid, SIGKILL);
    assert_int_equal(pty_wait_exit(&s.pty), 128 + SIGKILL);
    pty_end(&s.pty);

    s.args[0] = "--resume";
    session_start(&s);
    session_type(&s, "/history\r");
    session_expect(&s, "第一个问题");
    session_expect(&s, "whole answer");
    session_expect(&s, "second question");
    session_type(&s, "\033[A\033[A"); /* the input history too */
    session_expect_last(&s, "> second question");
    session_type(&s, "\x03");
    session_expect_last(&s, ">");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
}

int main(void) {
#define FRESH(test) cmocka_unit_test_setup_teardown(test, make, unmake)
    const struct CMUnitTest tests[] = {
        FRESH(test_interrupt_typing),
        FRESH(test_interrupt_twice_leaves),
        FRESH(test_interrupt_is_forgotten),
        FRESH(test_interrupt_streaming),
        FRESH(test_interrupt_waiting),
        FRESH(test_typed_ahead),
        FRESH(test_message_before_the_model),
        FRESH(test_model_fails),
        FRESH(test_terminate),
        FRESH(test_hang_up),
        FRESH(test_terminal_closed),
        FRESH(test_resize_at_every_stage),
        FRESH(test_stop_at_every_stage),
        FRESH(test_continue),
        FRESH(test_fatal_signals),
        FRESH(test_kill_and_resume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
