/* The splitter of reasoning and answer: every text in every cutting gives the same two parts. */
#include "app/reasoning.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct sample {
    bool thinks, is_open;
    const char *text, *reasoning, *answer;
};

static const struct sample samples[] = {
    {true, false, "<think>\na\nb\n</think>\n\nanswer", "a\nb", "answer"},
    {true, false, "<think>a</think>answer", "a", "answer"},
    {true, false, "\n <think>\n\n</think>\n\nanswer", "", "answer"},
    {true, false, "<think></think>", "", ""},
    {true, false, "answer", "", "answer"},
    {true, false, "  answer", "", "  answer"},
    {true, false, "<thin air>", "", "<thin air>"},
    {true, false, "<think", "", "<think"},
    {true, false, "a <think>b</think>", "", "a <think>b</think>"},
    {true, false, "<think>\nnever closed\n", "never closed\n", ""},
    {true, false, "<think>a</thin</think>b</think>c", "a</thin", "b</think>c"},
    {true, false, "<think>a < b </ c\n\n</think>\nd\n", "a < b </ c", "d\n"},
    {true, false, "<think>\r\na\r\n</think>\r\n\r\nb", "a", "b"},
    {true, false, "", "", ""},
    {true, true, "a\n</think>\n\nb", "a", "b"},
    {true, true, "\na</think>b", "a", "b"},
    {true, true, "</think>b", "", "b"},
    {true, true, "<think>a</think>b", "<think>a", "b"},
    {true, true, "a", "a", ""},
    {true, true, "思考中…</think>\n\n答案😀", "思考中…", "答案😀"},
    {false, false, "<think>a</think>b", "", "<think>a</think>b"},
    {false, true, "a</think>b", "", "a</think>b"},
};

static const char *text_of(const struct buf *buf) {
    return buf->data ? buf->data : "";
}

/* Pieces of `first` bytes, then of `rest` bytes each. */
static void split(const struct sample *s, size_t first, size_t rest) {
    struct reasoning r;
    struct buf reasoning = {0}, answer = {0};
    size_t n = strlen(s->text);
    reasoning_begin(&r, s->thinks, s->is_open);
    for (size_t i = 0, piece = first; i < n; i += piece, piece = rest) {
        if (piece > n - i) piece = n - i;
        reasoning_feed(&r, s->text + i, piece, &reasoning, &answer);
    }
    reasoning_finish(&r, &reasoning, &answer);
    if (strcmp(text_of(&reasoning), s->reasoning) != 0 || strcmp(text_of(&answer), s->answer) != 0)
        fail_msg("\"%s\" cut %zu, %zu gave \"%s\" and \"%s\"", s->text, first, rest,
                 text_of(&reasoning), text_of(&answer));
    reasoning_release(&r);
    buf_release(&reasoning);
    buf_release(&answer);
}

static void test_every_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        for (size_t first = 1; first <= 12; first++)
            for (size_t rest = 1; rest <= 12; rest++) split(&samples[i], first, rest);
}

/* What cannot become a marker any more is given out at once: a stream must not lag. */
static void test_no_lag(void **state) {
    (void)state;
    struct reasoning r;
    struct buf reasoning = {0}, answer = {0};
    reasoning_begin(&r, true, false);
    reasoning_feed(&r, "<think>abc", 10, &reasoning, &answer);
    assert_string_equal(text_of(&reasoning), "abc");
    reasoning_feed(&r, "</th", 4, &reasoning, &answer);
    assert_string_equal(text_of(&reasoning), "abc");
    reasoning_feed(&r, "ings", 4, &reasoning, &answer);
    assert_string_equal(text_of(&reasoning), "abc</things");
    reasoning_feed(&r, "</think>x", 9, &reasoning, &answer);
    assert_string_equal(text_of(&answer), "x");
    reasoning_feed(&r, "</", 2, &reasoning, &answer);
    assert_string_equal(text_of(&answer), "x</");
    reasoning_release(&r);
    buf_release(&reasoning);
    buf_release(&answer);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_cut),
                                       cmocka_unit_test(test_no_lag)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
