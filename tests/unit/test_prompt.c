/* Prompts: ids that are reused, exchanges that are left out, and texts that must not be ids. */
#include "app/prompt.h"
#include "engine/base/mem.h"
#include "tests/support/byte_tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { START = BYTE_TOKENIZER_ADDED, END };
static struct tokenizer *tokenizer;
static const struct chat_template *chatml;

static int set_up(void **state) {
    static const char *const added[] = {"<|im_start|>", "<|im_end|>"};
    (void)state;
    tokenizer = byte_tokenizer_open(added, 2);
    chatml = chat_template_by_name("chatml");
    return tokenizer && chatml ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    tokenizer_close(tokenizer);
    return 0;
}

/* The ids as text, control tokens as theirs. */
static void print_ids(const struct prompt *prompt, struct buf *out) {
    buf_clear(out);
    tokenizer_decode(tokenizer, prompt->tokens.ids, prompt->tokens.n, true, out);
}

static size_t count(const struct prompt *prompt, int32_t id) {
    size_t n = 0;
    for (size_t i = 0; i < prompt->tokens.n; i++) n += prompt->tokens.ids[i] == id;
    return n;
}

static void test_plain(void **state) {
    (void)state;
    const struct message messages[] = {{.role = ROLE_SYSTEM, .content = "S"},
                                       {.role = ROLE_USER, .content = "a<|im_end|>b"}};
    const struct worker_request request = {.messages = messages, .n_messages = 2};
    struct prompt prompt;
    struct buf text = {0};
    struct err err;
    assert_int_equal(prompt_build(&request, chatml, tokenizer, 4096, &prompt, &err), 0);
    print_ids(&prompt, &text);
    assert_string_equal(text.data, "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n"
                                   "a<|im_end|>b<|im_end|>\n<|im_start|>assistant\n");
    assert_int_equal(count(&prompt, END), 2); /* what the user typed is no control token */
    assert_int_equal(prompt.left_out_turns, 0);
    prompt_release(&prompt);
    buf_release(&text);
}

/* An answer's own ids stand in the prompt where BPE would have cut its text otherwise. */
static void test_reuse(void **state) {
    (void)state;
    int32_t two_breaks[] = {'x', '\n', '\n', 'y'}; /* BPE would merge the breaks into one id */
    int32_t wrong[] = {'x', 'z'};
    int32_t outside[] = {'x', '\n', '\n', 'y', 99999999};
    int32_t control[] = {'x', '\n', '\n', 'y', END};
    const struct {
        int32_t *ids;
        size_t n;
        size_t n_merged; /* how often the merged id is in the prompt */
    } cases[] = {{two_breaks, 4, 0}, {wrong, 2, 1}, {outside, 5, 1}, {control, 5, 1}, {NULL, 0, 1}};
    const struct message messages[] = {{.role = ROLE_USER, .content = "a"},
                                       {.role = ROLE_ASSISTANT, .content = "x\n\ny"},
                                       {.role = ROLE_USER, .content = "b"}};
    struct buf text = {0}, first = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tokens ids[3] = {{0}, {.ids = cases[i].ids, .n = cases[i].n}, {0}};
        const struct worker_request request = {
            .messages = messages, .message_tokens = ids, .n_messages = 3};
        struct prompt prompt;
        struct err err;
        assert_int_equal(prompt_build(&request, chatml, tokenizer, 4096, &prompt, &err), 0);
        if (count(&prompt, BYTE_TOKENIZER_TWO_NEWLINES) != cases[i].n_merged)
            fail_msg("case %zu: %zu", i, count(&prompt, BYTE_TOKENIZER_TWO_NEWLINES));
        print_ids(&prompt, i ? &text : &first);
        if (i) assert_string_equal(text.data, first.data); /* the text is the same in any case */
        prompt_release(&prompt);
    }
    buf_release(&text);
    buf_release(&first);
}

/* With its ids reused a prompt begins with the whole prompt and answer of the turn before. */
static void test_prefix(void **state) {
    (void)state;
    int32_t answer[] = {'x', '\n', '\n', 'y'};
    const struct message messages[] = {{.role = ROLE_USER, .content = "a"},
                                       {.role = ROLE_ASSISTANT, .content = "x\n\ny"},
                                       {.role = ROLE_USER, .content = "b"}};
    const struct tokens ids[3] = {{0}, {.ids = answer, .n = 4}, {0}};
    struct worker_request request = {.messages = messages, .message_tokens = ids, .n_messages = 1};
    struct prompt first, second;
    struct err err;
    assert_int_equal(prompt_build(&request, chatml, tokenizer, 4096, &first, &err), 0);
    request.n_messages = 3;
    assert_int_equal(prompt_build(&request, chatml, tokenizer, 4096, &second, &err), 0);
    assert_true(second.tokens.n > first.tokens.n + 4);
    assert_memory_equal(second.tokens.ids, first.tokens.ids, first.tokens.n * sizeof(int32_t));
    assert_memory_equal(second.tokens.ids + first.tokens.n, answer, sizeof answer);
    prompt_release(&first);
    prompt_release(&second);
}

/* --- context ---------------------------------------------------------------------------------- */

enum { EXCHANGES = 40 };
static struct message many[1 + 2 * EXCHANGES];
static char texts[2 * EXCHANGES][32];

/* A system message and exchanges of 60 tokens each or so. */
static void fill_many(void) {
    many[0] = (struct message){.role = ROLE_SYSTEM, .content = "system"};
    for (int i = 0; i < 2 * EXCHANGES; i++) {
        snprintf(texts[i], sizeof texts[i], "message %03d", i);
        many[1 + i] =
            (struct message){.role = i % 2 ? ROLE_ASSISTANT : ROLE_USER, .content = texts[i]};
    }
}

static int build_many(size_t n_exchanges, int context, int max_tokens, bool is_strict,
                      struct prompt *prompt, struct err *err) {
    const struct worker_request request = {.messages = many,
                                           .n_messages = 2 * n_exchanges, /* the last: a question */
                                           .max_tokens = max_tokens,
                                           .is_strict = is_strict};
    *err = (struct err){0};
    return prompt_build(&request, chatml, tokenizer, context, prompt, err);
}

static void test_left_out(void **state) {
    (void)state;
    struct prompt prompt;
    struct buf text = {0};
    struct err err;
    int changes = 0, before = 0;
    fill_many();
    for (size_t n = 1; n <= EXCHANGES; n++) {
        assert_int_equal(build_many(n, 1000, 0, false, &prompt, &err), 0);
        print_ids(&prompt, &text);
        assert_true(prompt.tokens.n + 250 <= 1000); /* room for an answer */
        assert_int_equal(strncmp(text.data, "<|im_start|>system\nsystem<|im_end|>", 35), 0);
        assert_non_null(strstr(text.data, texts[2 * n - 2])); /* the question itself */
        assert_int_equal(prompt.left_out_turns % 2, 0);       /* whole exchanges */
        assert_true(prompt.left_out_turns >= before);
        if (prompt.left_out_turns) { /* the oldest ones, and no others */
            assert_null(strstr(text.data, texts[prompt.left_out_turns - 1]));
            assert_non_null(strstr(text.data, texts[prompt.left_out_turns]));
        }
        changes += prompt.left_out_turns != before;
        before = prompt.left_out_turns;
        prompt_release(&prompt);
    }
    assert_true(before > 0);
    assert_true(changes <= EXCHANGES / 3); /* the prefix stays for a while each time */
    buf_release(&text);
}

static void test_strict(void **state) {
    (void)state;
    struct prompt prompt;
    struct err err;
    fill_many();
    assert_int_equal(build_many(2, 1000, 0, true, &prompt, &err), 0);
    prompt_release(&prompt);
    assert_int_equal(build_many(EXCHANGES, 1000, 0, true, &prompt, &err), -1);
    assert_int_equal(err.kind, ERR_CONTEXT);
}

/* A short answer needs little room; a question alone may take all but one token. */
static void test_room(void **state) {
    (void)state;
    struct prompt prompt;
    struct err err;
    fill_many();
    assert_int_equal(build_many(8, 1000, 10, false, &prompt, &err), 0);
    size_t n = prompt.tokens.n;
    assert_int_equal(prompt.left_out_turns, 0);
    prompt_release(&prompt);
    assert_int_equal(build_many(8, (int)n + 10, 10, false, &prompt, &err), 0);
    assert_int_equal(prompt.left_out_turns, 0);
    prompt_release(&prompt);
    assert_int_equal(build_many(8, (int)n + 9, 10, false, &prompt, &err), 0);
    assert_true(prompt.left_out_turns > 0);
    prompt_release(&prompt);

    assert_int_equal(build_many(1, 1000, 0, false, &prompt, &err), 0);
    n = prompt.tokens.n;
    prompt_release(&prompt);
    assert_int_equal(build_many(1, (int)n + 1, 0, false, &prompt, &err), 0);
    prompt_release(&prompt);
    assert_int_equal(build_many(1, (int)n, 0, false, &prompt, &err), -1);
    assert_int_equal(err.kind, ERR_CONTEXT);
}

static void test_raw(void **state) {
    (void)state;
    struct worker_request request = {.raw = "a<|im_end|>", .raw_has_added = true};
    struct prompt prompt;
    struct err err;
    assert_int_equal(prompt_build(&request, NULL, tokenizer, 100, &prompt, &err), 0);
    assert_int_equal(prompt.tokens.n, 2);
    prompt_release(&prompt);
    request.raw_has_added = false;
    assert_int_equal(prompt_build(&request, NULL, tokenizer, 100, &prompt, &err), 0);
    assert_int_equal(prompt.tokens.n, 11);
    prompt_release(&prompt);
    assert_int_equal(prompt_build(&request, NULL, tokenizer, 11, &prompt, &err), -1);
    assert_int_equal(err.kind, ERR_CONTEXT);
    request.raw = "";
    assert_int_equal(prompt_build(&request, NULL, tokenizer, 100, &prompt, &err), -1);
    request.raw = NULL;
    assert_int_equal(prompt_build(&request, NULL, tokenizer, 100, &prompt, &err), -1);
    assert_int_equal(err.kind, ERR_MODEL);
}

static void test_without_memory(void **state) {
    (void)state;
    for (unsigned long n = 1;; n++) {
        struct prompt prompt;
        struct err err = {0};
        fill_many();
        mem_fail_at(n, false);
        int result = build_many(EXCHANGES, 2000, 0, false, &prompt, &err);
        mem_fail_at(0, false);
        if (result == 0) {
            prompt_release(&prompt);
            assert_true(n > 10);
            break;
        }
        assert_int_equal(err.kind, ERR_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),  cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_prefix), cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_strict), cmocka_unit_test(test_room),
        cmocka_unit_test(test_raw),    cmocka_unit_test(test_without_memory),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
