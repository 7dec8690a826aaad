/*
 * The full screen under 10,000 random keys, pastes, signals and sizes while answers stream: it goes
 * on, and leaves in order. And 200 hostile answers: nothing of them reaches the terminal as a
 * control function.
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
#include <sys/wait.h>

#include <cmocka.h>

static struct session s;

static unsigned random_state;
static unsigned next_random(unsigned n) {
    random_state = random_state * 1664525u + 1013904223u;
    return (random_state >> 8) % n;
}

/* --- random keys ------------------------------------------------------------------------------ */

static const char *const keys[] = {"a",
                                   "hello ",
                                   "你好",
                                   "👨‍👩‍👧",
                                   "e\xcc\x81",
                                   "\r",
                                   "\r",
                                   "\n",
                                   "\t",
                                   "\x01",
                                   "\x05",
                                   "\x02",
                                   "\x06",
                                   "\x0b",
                                   "\x15",
                                   "\x17",
                                   "\x19",
                                   "\x7f",
                                   "\x08",
                                   "\x12",
                                   "\x13",
                                   "\x07",
                                   "\x0f",
                                   "\x0c",
                                   "\x18",
                                   "\033",
                                   "\033b",
                                   "\033f",
                                   "\033d",
                                   "\033[A",
                                   "\033[B",
                                   "\033[C",
                                   "\033[D",
                                   "\033[H",
                                   "\033[F",
                                   "\033[5~",
                                   "\033[6~",
                                   "\033[3~",
                                   "\033[1;3A",
                                   "\033[1;3B",
                                   "\033[1;5C",
                                   "\033[200~one\rtwo\tthree\033[201~",
                                   "/help\r",
                                   "/set \t",
                                   "/find e\r",
                                   "n",
                                   "N",
                                   "/regen\r",
                                   "/undo\r",
                                   "/edit\r",
                                   "/stats\r",
                                   "/history\r",
                                   "/clear\r",
                                   "/sys\t",
                                   "/set temperature 0.5\r",
                                   "/nonsense\r",
                                   "\033[200~",
                                   "\033[201~",
                                   "\xff",
                                   "\033[<0;3;4M",
                                   "\033]0;x\a",
                                   "// slash\r",
                                   "/save a title\r",
                                   "\\\r",
                                   "/resume\r",
                                   "/think on\r",
                                   "/export /nonexistent/x.md\r",
                                   "/seed 3\r",
                                   "/raw on\r",
                                   "/raw off\r",
                                   "/bench -p 16 -n 4\r",
                                   "/models\r",
                                   "/branch\r",
                                   "/s\t\t",
                                   "\033[Z",
                                   "\t\033[B\r",
                                   "/set colors.code 5\r",
                                   "/set theme light\r"};

static const char *const answers[] = {
    "# One\n\nA **bold** word, `code`, [link](https://example.org).\n\n```c\nint x; /* y */\n```\n",
    "| a | b |\n|---|---|\n| 1 | 中文 |\n\n- x\n  - y\n\n> q",
    "一二三四五六七八九十，。！？（）“”👨‍👩‍👧👍🏽❤️🇨🇳"
    " "
    "e\xcc\x81\xcc\x82\xcc\x83",
    "",
    "\033[31mred\033[0m \xe2\x80\xae evil",
    NULL};
static const char *const thoughts[] = {"", "Hm.\nSo it is.", "", "only thinking", "", NULL};

/* A signal overtakes what was typed: two in a row would leave. */
static void interrupt(void) {
    session_type(&s, "x");
    pty_settle(&s.pty);
    session_type(&s, "\x03");
    pty_settle(&s.pty);
}

static void test_random(void **state) {
    enum { STEPS = 10000 };
    (void)state;
    const char *seed = getenv("QWEN_TEST_SEED");
    random_state = seed ? (unsigned)strtoul(seed, NULL, 10) : 20261126;
    session_make(&s, answers);
    setenv("VISUAL", "true", 1); /* Ctrl-X Ctrl-E: no editor that would take the keys behind it */
    s.skin = fullscreen_run;
    s.args[0] = "--no-history";
    fake_worker.reasoning = thoughts;
    fake_worker.tokens_per_second = 3000;
    session_start(&s);
    for (int i = 0; i < STEPS; i++) {
        unsigned kind = next_random(100);
        if (kind < 4)
            pty_resize(&s.pty, 1 + (int)next_random(i % 5 ? 40 : 5),
                       1 + (int)next_random(i % 3 ? 140 : 12));
        else if (kind == 4 && next_random(4) == 0)
            interrupt();
        else
            session_type(&s, keys[next_random(sizeof keys / sizeof *keys)]);
        int status;
        if (waitpid(s.pty.leader, &status, WNOHANG) != 0)
            fail_msg("step %d: it ended: %d", i, WEXITSTATUS(status));
        if (s.pty.bytes.n > 1 << 24) buf_clear(&s.pty.bytes);
    }
    pty_resize(&s.pty, 24, 80);
    session_type(&s, "\033[201~");
    for (int i = 0; i < 3; i++) { /* whatever is going on */
        session_type(&s, "\x07\x1b\x15");
        pty_settle(&s.pty);
        session_type(&s, "\x03");
        pty_settle(&s.pty);
        int status = kill(s.pty.pid, 0);
        if (status != 0) break;
    }
    kill(s.pty.pid, SIGTERM);
    int code = pty_wait_exit(&s.pty);
    if (code != 128 + SIGTERM && code != 128 + SIGINT)
        fail_msg("exit code %d\n%s", code,
                 s.pty.bytes.data + (s.pty.bytes.n > 3000 ? s.pty.bytes.n - 3000 : 0));
    assert_true(pty_has_modes_of_before(&s.pty));
    pty_end(&s.pty);
    session_remove(&s);
    unsetenv("VISUAL");
}

/* --- hostile answers -------------------------------------------------------------------------- */

static const char *const poisons[] = {
    "\033[2J",
    "\033[?1049l",
    "\033]0;evil\a",
    "\033]52;c;ZXZpbA==\a",
    "\033]8;;file:///\a",
    "\033P$q\"p\033\\",
    "\033_x\033\\",
    "\033^x\033\\",
    "\033c",
    "\033[6n",
    "\033[?2026h",
    "\xc2\x9b"
    "31m",
    "\xc2\x9d"
    "0;evil\xc2\x9c",
    "\x0e\x0f",
    "\x05",
    "\a\a\a",
    "\b\b\b\b",
    "\r\r",
    "\x7f",
    "\xe2\x80\xae",
    "\xe2\x81\xa6",
    "\xf3\xa0\x81\x81",
    "\xef\xbb\xbf",
    "\xe2\x80\x8b\xe2\x80\x8b",
    "e\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81\xcc\x81",
    "\xff\xfe",
    "\xc0\x9b"
    "31m",
    "\xed\xa0\x80",
    "&#27;[31m",
    "&#x9b;31m",
    "&#x202e;",
    "&#7;",
    "\033[3J",
    "\033[?1003h",
    "\033]4;0;#ff0000\a",
    "\033[18t\033[c",
    "\033[2;4r\033(0",
    "\xe2\x81\xa7",
    "\xf3\xa0\x80\x81",
    "\v\f"};
/* Where a poison stands: what is before it, and behind. */
static const char *const places[][2] = {{"", ""},
                                        {"# ", ""},
                                        {"```\n", "\n```"},
                                        {"[a](http://x/", ")"},
                                        {"| a |\n|---|\n| ", " |"},
                                        {"> - ", " *x*"}};

/* Is the sequence behind an escape one that the screen itself sends? */
static bool is_own(const char *at) {
    static const char *const own[] = {"[?2026h", "[?2026l", "(B", ")0", "[?1007s", "[?1007l"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strncmp(at, own[i], strlen(own[i])) == 0) return true;
    if (*at == 'M') return true; /* scrolling back */
    if (*at != '[') return false;
    size_t n = 1 + strspn(at + 1, "0123456789;");
    return at[n] && strchr("ABCDGHJKLMPSTXdhlmr@bI", at[n]) && !(at[n] == 'J' && at[1] == '2');
}

static void check_bytes(const char *bytes, size_t n, const char *poison) {
    static const char *const forbidden[] = {"\xe2\x80\xae",
                                            "\xe2\x81\xa6",
                                            "\xe2\x81\xa7",
                                            "\xf3\xa0\x81",
                                            "\xf3\xa0\x80",
                                            "\xef\xbb\xbf",
                                            "\xe2\x80\x8b",
                                            "\x7f",
                                            "\x05",
                                            "\v",
                                            "\f"};
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '\033' && !is_own(bytes + i + 1))
            fail_msg("%s: an escape: %.20s", poison, bytes + i + 1);
        if ((unsigned char)bytes[i] == 0xC2 && (unsigned char)bytes[i + 1] < 0xA0)
            fail_msg("%s: a C1", poison);
    }
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        if (strstr(bytes, forbidden[i])) fail_msg("%s: passed", poison);
}

static void test_hostile(void **state) {
    enum {
        N_POISONS = sizeof poisons / sizeof *poisons,
        N_PLACES = sizeof places / sizeof *places
    };
    (void)state;
    static char texts[N_POISONS * N_PLACES][256];
    static const char *list[N_POISONS * N_PLACES + 1];
    for (size_t i = 0; i < N_POISONS * N_PLACES; i++) {
        snprintf(texts[i], sizeof texts[i], "%s%s%s", places[i / N_POISONS][0],
                 poisons[i % N_POISONS], places[i / N_POISONS][1]);
        list[i] = texts[i];
    }
    assert_true(N_POISONS * N_PLACES >= 200);
    session_make(&s, list);
    s.skin = fullscreen_run;
    s.args[0] = "--no-history";
    session_start(&s);
    session_expect(&s, "ready");
    for (size_t i = 0; i < N_POISONS * N_PLACES; i++) {
        char line[32], wait[32];
        pty_update(&s.pty);
        size_t before = s.pty.bytes.n;
        snprintf(line, sizeof line, "/seed %zu\rgo\r", 70000 + i);
        snprintf(wait, sizeof wait, "seed %zu]", 70000 + i);
        session_type(&s, line);
        session_expect(&s, wait);
        check_bytes(s.pty.bytes.data + before, s.pty.bytes.n - before, texts[i]);
        assert_string_equal(s.pty.title, "");
        assert_int_equal(s.pty.n_bells, 0);
    }
    /* the same in a title, a system prompt and an error */
    session_type(&s, "/save \x16\x1b]0;evil\x07\r");
    session_type(&s, "/model /tmp/\x16\x1b[31m\r");
    session_expect(&s, "/tmp/");
    pty_settle(&s.pty);
    assert_string_equal(s.pty.title, "");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
    session_remove(&s);
}

/* The same in all other texts that come from outside: the model's name, notices, reasoning, errors,
 * names of files in the menu and the views, titles, and what is printed on leaving. */
static void test_hostile_elsewhere(void **state) {
    static const char evil[] = "evil\033]0;title\a\033[2J\xe2\x80\xae\xc2\x9b"
                               "31mend";
    static const char *const answers_[] = {"fine", NULL}, *const thoughts_[] = {evil, NULL};
    char path[200], line[200];
    (void)state;
    session_make(&s, answers_);
    s.skin = fullscreen_run;
    fake_worker.reasoning = thoughts_;
    fake_worker.model_name = fake_worker.notice = evil;
    fake_worker.answer_error.kind = ERR_OTHER;
    snprintf(fake_worker.answer_error.text, sizeof fake_worker.answer_error.text, "%s", evil);
    fake_worker.error_after = 30;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/n%d%s.gguf", s.folder, i, evil);
        assert_int_equal(io_write_atomic(path, 0600, "x", 1, NULL), 0);
    }
    snprintf(path, sizeof path, "%s/.local/share/qwen-chat/models", s.folder);
    assert_int_equal(io_make_folders(path, 0700, NULL), 0);
    snprintf(path, sizeof path, "%s/.local/share/qwen-chat/models/%s.gguf", s.folder, evil);
    assert_int_equal(io_write_atomic(path, 0600, "x", 1, NULL), 0);
    session_start(&s);
    session_expect(&s, "ready");
    session_expect(&s, "evil"); /* the notice */
    size_t before = s.pty.bytes.n;
    session_type(&s, "go\r");
    session_expect(&s, "thought in");
    session_type(&s, "\x0f");
    snprintf(line, sizeof line, "/attach %s/n\t\t", s.folder);
    session_type(&s, line);
    session_expect(&s, "Tab walks");
    session_type(&s, "\t\r"); /* it is put into the text */
    pty_settle(&s.pty);
    session_type(&s, "\r");
    pty_settle(&s.pty);
    session_type(&s, "\x15/models\r");
    session_expect(&s, "cannot be read");
    session_type(&s, "\r"); /* an error that names it */
    pty_settle(&s.pty);
    snprintf(line, sizeof line, "/save %s\r", "evil\x16\x1b]0;title\x16\x07");
    session_type(&s, line);
    pty_settle(&s.pty);
    session_type(&s, "/resume\r");
    session_expect(&s, "Conversations");
    session_type(&s, "q");
    session_expect_gone(&s, "Conversations");
    check_bytes(s.pty.bytes.data + before, s.pty.bytes.n - before, "elsewhere");
    session_type(&s, "\x04");
    session_expect_exit(&s, 0);
    assert_string_equal(s.pty.title, "");
    assert_int_equal(s.pty.n_bells, 0);
    session_remove(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hostile),
                                       cmocka_unit_test(test_hostile_elsewhere),
                                       cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
