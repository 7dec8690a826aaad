/* The editor without a terminal: bytes as a terminal sends them in, the text and its cursor out. */
#include "engine/base/mem.h"
#include "ui/editor.h"

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct input_history history;
static struct editor *editor;
static enum editor_event last; /* of the last key */
static char entered[64][128];
static int n_entered, n_bells;

static const char *const words[] = {"/help", "/history", "/temperature", "文件", "文章"};

static void complete(void *ud, const char *text, size_t cursor, struct editor_words *out) {
    (void)ud;
    size_t begin = cursor;
    while (begin > 0 && text[begin - 1] != ' ') begin--;
    *out = (struct editor_words){.begin = begin, .words = mem_zalloc(5, sizeof(char *))};
    for (int i = 0; i < 5; i++)
        if (strncmp(words[i], text + begin, cursor - begin) == 0)
            out->words[out->n++] = mem_strdup(words[i]);
}

static void start(bool is_vi, const char *rc) {
    static const char *const entries[] = {"oldest", "秋天的叶子\n第二行", "write a haiku",
                                          "newest"};
    struct err err = {0};
    char path[] = "/tmp/qwen-editrc-XXXXXX";
    const char *files[] = {path};
    if (rc) {
        int fd = mkstemp(path);
        assert_int_equal(write(fd, rc, strlen(rc)), (ssize_t)strlen(rc));
        close(fd);
    }
    input_history_open(&history, NULL, 100, NULL);
    for (int i = 0; i < 4; i++) input_history_add(&history, entries[i], NULL);
    struct editor_options options = {.is_vi = is_vi,
                                     .rc_files = files,
                                     .n_rc_files = rc ? 1 : 0,
                                     .term = "xterm",
                                     .history = &history,
                                     .complete = complete};
    if (editor_open(&editor, &options, &err) != 0) fail_msg("%s", err.text);
    assert_string_equal(getenv("TERM"), "xterm");
    if (rc) unlink(path);
    n_entered = n_bells = 0;
}

static void stop(void) {
    editor_close(editor);
    input_history_release(&history);
}

static void type(const char *bytes) {
    struct keys keys = {0};
    struct key key;
    keys_feed(&keys, bytes, strlen(bytes));
    for (int flushed = 0; flushed < 2; flushed++) {
        while (keys_next(&keys, &key)) {
            last = editor_key(editor, &key);
            n_bells += last == EDITOR_BELL;
            if (last == EDITOR_ENTERED)
                snprintf(entered[n_entered++ % 64], sizeof *entered, "%s", editor_entry(editor));
        }
        keys_flush(&keys);
    }
    keys_release(&keys);
}

/* The text with | at the cursor. */
static void expect(const char *shown) {
    size_t cursor;
    const char *text = editor_text(editor, &cursor);
    struct buf with_cursor = {0};
    buf_add(&with_cursor, text, cursor);
    buf_puts(&with_cursor, "|");
    buf_puts(&with_cursor, text + cursor);
    assert_string_equal(with_cursor.data, shown);
    buf_release(&with_cursor);
}

struct example {
    const char *keys, *shown;
};

static void run(const struct example *examples, size_t n) {
    for (size_t i = 0; i < n; i++) {
        editor_set(editor, "");
        type(examples[i].keys);
        expect(examples[i].shown);
    }
}
#define RUN(examples) run(examples, sizeof(examples) / sizeof *(examples))

#define LEFT        "\033[D"
#define RIGHT       "\033[C"
#define UP          "\033[A"
#define DOWN        "\033[B"
#define HOME        "\033[H"
#define END         "\033[F"
#define DELETE      "\033[3~"
#define PASTE(text) "\033[200~" text "\033[201~"

static void test_emacs(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"hello", "hello|"},
        {"你好，世界" LEFT LEFT, "你好，|世界"},
        {"你好\x7f吗", "你吗|"},
        {"你好\b\b\b", "|"},
        {"abc" LEFT LEFT DELETE, "a|c"},
        {"one two" HOME "x" END "y", "xone twoy|"},
        {"one two\033[1;5D", "one |two"},
        {"one two\x01\033[1;5C", "one| two"},
        {"one two\x17", "one |"},
        {"one two\x01\x0b\x19\x19", "one twoone two|"},
        {"abc\x02\x02\x04", "a|c"},
        {"one two\033b\033bx", "x|one two"},
        {"家庭👨‍👩‍👧" LEFT "x", "家庭x|👨‍👩‍👧"},
        {"家庭👨‍👩‍👧\x7f", "家庭|"},
        {"e\xcc\x81\xcc\x82x" LEFT "\x7f", "|x"},
        {"🇩🇪🇫🇷\x7f", "🇩🇪|"},
        {"a👍🏽b" HOME RIGHT DELETE, "a|b"},
        {"één 1½ ÿ\xc2\xa0ß", "één 1½ ÿ\xc2\xa0ß|"}, /* below U+0100 libedit has a key map */
        {"\xf0\x9f\xab\xa8\x7f"
         "x",
         "x|"}, /* newer than the C library's tables */
        {"a\x16"
         "b",
         "ab|"},
        {"a\033[15~\033[1;5Pb", "ab|"},
    };
    start(false, NULL);
    RUN(examples);
    stop();
}

static void test_lines(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"one\ntwo", "one\ntwo|"},
        {"one\033\rtwo", "one\ntwo|"},
        {"one\\\rtwo", "one\ntwo|"},
        {"one\\\\\r", "|"}, /* two backslashes are text: entered */
        {"first\nsecond" UP, "first|\nsecond"},
        {"first\n2" UP, "f|irst\n2"},
        {"ab\n你好" UP, "ab|\n你好"},
        {"abcd\n你" UP DOWN, "abcd\n你|"},
        {"a\n\nb" UP, "a\n|\nb"},
        {"a\n\nb" UP UP DOWN DOWN, "a\n\n|b"},
        {"one\ntwo" HOME "x", "one\nx|two"},
        {"one\ntwo" UP END "x", "onex|\ntwo"},
        {"one\ntwo" UP HOME "\x7f", "|one\ntwo"},
        {"one\ntwo" HOME "\x7f", "one|two"},
        {PASTE("a\r\nb\rc"), "a\nb\nc|"},
        {"x" LEFT PASTE("1\n2"), "1\n2|x"},
        {PASTE("你好\033]0;t\a"), "你好␛]0;t␇|"},
    };
    start(false, NULL);
    RUN(examples);
    assert_int_equal(n_entered, 1);
    assert_string_equal(entered[0], "one\\\\");
    editor_set(editor, "");
    type("two\nlines\r");
    assert_string_equal(entered[1], "two\nlines");
    expect("|");
    stop();
}

static void test_history(void **state) {
    (void)state;
    static const struct example examples[] = {
        {UP, "newest|"},
        {UP UP, "write a haiku|"},
        {UP UP UP, "秋天的叶子\n第二行|"},
        {UP UP UP UP, "秋天的|叶子\n第二行"}, /* by columns */
        {UP UP UP UP UP, "oldest|"},
        {UP UP UP UP UP UP UP, "oldest|"},
        {"draft" UP UP DOWN DOWN, "draft|"},
        {"draft" UP "!" UP DOWN, "newest!|"}, /* a changed entry is there again */
        {"wr\033p", "wr|ite a haiku"},
        {"wr\033[5~", "wr|ite a haiku"},
        {"wr\033[5~\033[6~", "wr|"},
        {"(((((\033p", "(((((|"}, /* text, no pattern */
        {"\x10\x10\x0e", "newest|"},
    };
    start(false, NULL);
    RUN(examples);
    type("\r");
    assert_string_equal(history.entries[3], "newest"); /* looking does not change it */
    stop();
}

/* libedit keeps 1,024 characters of what was being typed; ours is kept whole. */
static void test_long_draft(void **state) {
    (void)state;
    static char text[5001];
    memset(text, 'x', 5000);
    start(false, NULL);
    type(text);
    type(UP DOWN);
    assert_string_equal(editor_text(editor, NULL), text);
    stop();
}

static void test_search(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"\022的", "秋天|的叶子\n第二行"},
        {"\022秋天\r", "|秋天的叶子\n第二行"},
        {"\022秋天\r\x05!", "秋天的叶子!|\n第二行"},
        {"\022e", "n|ewest"},
        {"\022e\022", "writ|e a haiku"},
        {"\022e\022\022", "old|est"},
        {"\022e\022\022\022", "old|est"},
        {"\022e\022\x13", "n|ewest"},
        {"\022ha\x7f\x7f", "|"},
        {"draft\022e\x07", "draft|"},
        {"draft" LEFT "\022e\033", "draf|t"},
        {"\022haiku" HOME "x", "x|write a haiku"}, /* any other key takes it and acts */
        {"\022e\022\r" UP, "秋天的叶子\n第二行|"}, /* the history goes on from there */
        {"draft\022e\r\033[B", "draft|"},
        {"\022" PASTE("haiku\nmore"), "write a |haiku"},
    };
    start(false, NULL);
    RUN(examples);
    editor_set(editor, "");
    type("\022zzz");
    assert_non_null(editor_search(editor));
    assert_true(editor_search(editor)->is_failing);
    assert_string_equal(editor_search(editor)->query.data, "zzz");
    editor_stop_search(editor);
    assert_null(editor_search(editor));
    type("\022秋天\r\r");
    assert_string_equal(entered[n_entered - 1], "秋天的叶子\n第二行");
    stop();
}

static void test_completion(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"/he\t", "/help |"},
        {"/t\t0.7", "/temperature 0.7|"},
        {"ask 文\t", "ask 文|"},
        {"/h\t", "/h|"},
        {"/help x" HOME RIGHT RIGHT "\t", "/h|elp x"},
        {"zzz\t", "zzz|"},
    };
    start(false, NULL);
    RUN(examples);
    editor_set(editor, "");
    type("文\t");
    assert_int_equal(last, EDITOR_CHOICES);
    assert_int_equal(editor_choices(editor)->n, 2);
    assert_string_equal(editor_choices(editor)->words[1], "文章");
    stop();
}

static void test_vi(void **state) {
    (void)state;
    static const struct example examples[] = {
        {"hello\033", "hell|o"},
        {"one two\033bdwi1", "one1| "},
        {"你好世界\0330x", "|好世界"},
        {"你好世界\033hhiX", "你X|好世界"},
        {"one two three\0330d2w", "|three"},
        {"one two\0330cwx\033w.", "x |x"},
        {"abc\033u", "|"},
        {"abc\033.", "abab|cc"},
        {"abd\x7f"
         "c\033.",
         "abab|cc"},
        {"one two\033bcwx\x7fy\0330.", "|y y"},
        {"a\\\rb\033.", "a\n|bb"}, /* the Enter in it sends nothing */
        {"x\0333.", "|xx"},
        {UP " more\033.", "newest mor mor|ee"},
        {"ab\007\017\003"
         "c",
         "abc|"},
        {"\033$xX$.", "|"}, /* an empty line has no last character */
        {"abc\033k", "newes|t"},
        {"abc" LEFT "x", "abx|c"}, /* arrows stay in insert mode */
        {"a\nb\033kx", "|\nb"},
        {"one\033/的\r", "秋天|的叶子\n第二行"},
        {"one\033:q", "on|e"},
        {"one\033vx", "o|n"},
        {"abc\033f" PASTE("12"), "ab12|c"}, /* a command begun and not ended */
        {"one two\0330" DELETE, "|ne two"},
    };
    start(true, NULL);
    RUN(examples);
    editor_set(editor, "");
    type("entered\033");
    type("\r"); /* apart: Escape and Enter at once would be Alt-Enter */
    assert_string_equal(entered[0], "entered");
    type(". x"); /* a new entry begins in insert mode */
    expect(". x|");
    type("\033");
    type("."); /* with a '.' in what it repeats */
    expect(". . |xx");
    stop();
}

static void test_editrc(void **state) {
    (void)state;
    static const char rc[] = "# comment\n"
                             "bind -v\n"
                             "bind \"^[[A\" ed-search-prev-history\n"
                             "bind ^[[3~ ed-move-to-beg\n"
                             "qwen-chat:bind \"^G\" ed-clear-screen\n"
                             "other:bind \"x\" ed-move-to-beg\n"
                             "bind \"^T\" em-inc-search-prev\n"
                             "bind -s \"^O\" \"macro 你\"\n"
                             "settc co 1\n"
                             "bind\nbind -l\nbind x\nbind -a\n\"unclosed\n"
                             "edit off\n";
    start(false, rc);
    type("wr" UP);
    expect("wr|ite a haiku");
    editor_set(editor, "");
    type("ab" DELETE "x");
    expect("x|ab");
    editor_set(editor, "");
    type("\x0f");
    expect("|"); /* no macros */
    type("\x07");
    assert_int_equal(last, EDITOR_CLEAR);
    editor_set(editor, "");
    type("\024haiku\r");
    expect("write a |haiku");
    type("\0330x");
    expect("|rite a haiku"); /* vi keys */
    stop();
}

static void test_hostile_editrc(void **state) {
    (void)state;
    struct buf rc = {0};
    buf_puts(&rc, "bind \"");
    for (int i = 0; i < 5000; i++) buf_puts(&rc, "\\M-\\e");
    buf_puts(&rc, "\" ed-insert\nbind a b c d e f g h i j k l m n o p q r s t u v w x y z\n");
    buf_puts(&rc, "bind \xff\xfe \x80\nbind -s ^ ^\nbind \"\\\" \"\\U+\"\nbind ^[ ^[\n");
    start(false, rc.data);
    type("text");
    expect("text|");
    buf_release(&rc);
    stop();
}

static void test_end_and_bell(void **state) {
    (void)state;
    start(false, NULL);
    type("\x04");
    assert_int_equal(last, EDITOR_END);
    type("a\x04");
    assert_int_equal(last, EDITOR_BELL); /* nothing to delete; it does not leave */
    type("\x0c");
    assert_int_equal(last, EDITOR_CLEAR);
    expect("a|");
    stop();
}

static void test_set_in_the_middle(void **state) {
    (void)state;
    start(false, NULL);
    type("old\033"); /* Escape waits for the other half of a Meta key */
    editor_set(editor, "新的\ntext");
    expect("新的\ntext|");
    type("!");
    expect("新的\ntext!|");
    editor_set(editor, "");
    expect("|");
    stop();
}

static void test_large_text(void **state) {
    (void)state;
    struct buf paste = {0}, lines = {0};
    for (int i = 1; i <= 1500; i++) buf_printf(&lines, "line %d 第%d行\n", i, i);
    buf_printf(&paste, "\033[200~%s\033[201~", lines.data);
    start(false, NULL);
    type(paste.data);
    assert_string_equal(editor_text(editor, NULL), lines.data);
    type(UP HOME "x\r");
    assert_int_equal(last, EDITOR_ENTERED);
    assert_int_equal(strlen(editor_entry(editor)), lines.n + 1);
    input_history_add(&history, editor_entry(editor), NULL);
    type(UP);
    assert_string_equal(editor_text(editor, NULL), history.entries[history.n - 1]);
    buf_release(&paste);
    buf_release(&lines);
    stop();
}

int main(void) {
    setlocale(LC_CTYPE, "C.UTF-8");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_emacs),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_long_draft),
        cmocka_unit_test(test_search),
        cmocka_unit_test(test_completion),
        cmocka_unit_test(test_vi),
        cmocka_unit_test(test_editrc),
        cmocka_unit_test(test_hostile_editrc),
        cmocka_unit_test(test_end_and_bell),
        cmocka_unit_test(test_set_in_the_middle),
        cmocka_unit_test(test_large_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
