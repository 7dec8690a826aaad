/* A script's input: how its parts are joined, lines cut, and what is refused where. */
#include "ui/input_text.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The writer's side of the pipe: a piece is written each time that the reader waits. */
struct writer {
    const char *bytes;
    size_t n, at, piece;
    int fd;
};

static bool wait(void *ud, int fd) {
    struct writer *w = ud;
    size_t left = w->n - w->at, n = left < w->piece ? left : w->piece;
    (void)fd;
    if (w->fd < 0) return true;
    if (n > 0) assert_int_equal(write(w->fd, w->bytes + w->at, n), (ssize_t)n);
    w->at += n;
    if (n == 0) {
        close(w->fd);
        w->fd = -1;
    }
    return true;
}

static void open_pipe(struct input_text *in, struct writer *w, const char *bytes, size_t piece) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    *w = (struct writer){.bytes = bytes, .n = strlen(bytes), .piece = piece, .fd = ends[1]};
    *in = (struct input_text){.fd = ends[0], .name = "input", .wait = wait, .ud = w};
}

static void close_pipe(struct input_text *in, struct writer *w) {
    close(in->fd);
    if (w->fd >= 0) close(w->fd);
    input_text_release(in);
}

static void put(struct input_text *in, const char *text) {
    assert_int_equal(input_text_put(in, "text", text, strlen(text), NULL), 0);
}

static void test_parts(void **state) {
    (void)state;
    static const struct {
        const char *prompt, *file, *input, *whole;
    } cases[] = {
        {"Summarize:", NULL, "one\ntwo\n", "Summarize:\n\none\ntwo"},
        {"Summarize:\n\n", NULL, "one\r\n\r\ntwo\r\n", "Summarize:\n\none\n\ntwo"},
        {"a", "b\n", "c", "a\n\nb\n\nc"},
        {"a", NULL, "", "a"},
        {"a", NULL, "\n \n", "a"},
        {NULL, NULL, "  indented\n", "  indented"},
        {NULL, NULL, "", ""},
        {"", NULL, "c", "c"},
        {"你", NULL, "\xEF\xBB\xBF好\rx", "你\n\n好\rx"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (size_t piece = 1; piece < 8; piece += 3) {
            struct input_text in;
            struct writer w;
            const char *text;
            open_pipe(&in, &w, cases[i].input, piece);
            if (cases[i].prompt) put(&in, cases[i].prompt);
            if (cases[i].file) put(&in, cases[i].file);
            assert_int_equal(input_text_all(&in, &text, NULL), 0);
            assert_string_equal(text, cases[i].whole);
            close_pipe(&in, &w);
        }
    }
}

static void test_lines(void **state) {
    (void)state;
    static const char bytes[] = "\xEF\xBB\xBFone\r\n\n  \n你好\nlast without newline";
    static const char *const lines[] = {"first", "second", "one", "你好", "last without newline"};
    for (size_t piece = 1; piece < 60; piece++) {
        struct input_text in;
        struct writer w;
        const char *line;
        open_pipe(&in, &w, bytes, piece);
        put(&in, "first\nsecond");
        for (int i = 0; i < 5; i++) {
            assert_int_equal(input_text_line(&in, &line, NULL), 0);
            assert_string_equal(line, lines[i]);
        }
        assert_int_equal(input_text_line(&in, &line, NULL), 0);
        assert_null(line);
        close_pipe(&in, &w);
    }
}

/* A line is handed out before the next one has come. */
static void test_lines_come_at_once(void **state) {
    (void)state;
    struct input_text in;
    struct writer w;
    const char *line;
    open_pipe(&in, &w, "one\ntwo\n", 4);
    assert_int_equal(input_text_line(&in, &line, NULL), 0);
    assert_string_equal(line, "one");
    assert_int_equal(w.at, 4);
    close_pipe(&in, &w);
}

static void test_place_of_a_fault(void **state) {
    (void)state;
    for (size_t piece = 1; piece < 20; piece++) {
        struct input_text in;
        struct writer w;
        struct err err = {0};
        const char *line;
        open_pipe(&in, &w, "one\n\ntwo\nbad \xff\n", piece);
        while (input_text_line(&in, &line, &err) == 0) assert_non_null(line);
        assert_int_equal(err.kind, ERR_IO);
        assert_non_null(strstr(err.text, "input: line 4: not UTF-8"));
        close_pipe(&in, &w);
    }
    struct input_text in = {.fd = -1};
    struct err err = {0};
    assert_int_equal(input_text_put(&in, "file", "a\nb\0", 4, &err), -1);
    assert_non_null(strstr(err.text, "file: line 2: a NUL byte"));
    input_text_release(&in);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_lines_come_at_once),
        cmocka_unit_test(test_place_of_a_fault),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
