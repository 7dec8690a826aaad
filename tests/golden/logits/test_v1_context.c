/* Conversations as token ids: Qwen v1's template against the published make_context. */
#include "tests/golden/logits/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_TEXTS = 16, MAX_TEXT_BYTES = 256 };

/* i32 n_bytes, then the bytes padded to a multiple of 4. */
static void take_text(struct golden_bytes *b, char text[MAX_TEXT_BYTES]) {
    int n = golden_take_int(b);
    assert_in_range(n, 0, MAX_TEXT_BYTES - 1);
    memcpy(text, golden_take(b, ((size_t)n + 3) & ~(size_t)3), (size_t)n);
    text[n] = 0;
}

/* System, then user and assistant in turn, the user last. */
static void compare_conversation(struct golden_bytes *b, const struct engine *e, int number) {
    static char texts[MAX_TEXTS][MAX_TEXT_BYTES];
    struct message messages[MAX_TEXTS];
    int n = golden_take_int(b);
    assert_in_range(n, 2, MAX_TEXTS);
    for (int i = 0; i < n; i++) {
        take_text(b, texts[i]);
        enum role role = i == 0 ? ROLE_SYSTEM : i % 2 ? ROLE_USER : ROLE_ASSISTANT;
        messages[i] = (struct message){.role = role, .content = texts[i]};
    }
    int n_ids = golden_take_int(b);
    const int32_t *ids = golden_take(b, (size_t)n_ids * sizeof *ids);

    struct chat_options options = {.generation_prompt = true};
    struct chat_render render = {0};
    struct tokens tokens = {0};
    struct err err = {0};
    if (chat_template_render(engine_chat(e), messages, (size_t)n, &options, &render, &err) != 0 ||
        chat_render_encode(&render, engine_tokenizer(e), &tokens, &err) != 0) {
        fail_msg("conversation %d: %s", number, err.text);
    }
    if (tokens.n != (size_t)n_ids || memcmp(tokens.ids, ids, tokens.n * sizeof *ids) != 0) {
        fail_msg("conversation %d: the ids differ", number);
    }
    chat_render_release(&render);
    tokens_release(&tokens);
}

static void test_ids_are_those_of_make_context(void **state) {
    (void)state;
    struct engine_options options = {.model = "tests/golden/logits/checkpoints/qwen-v1-f32",
                                     .kv_format = FORMAT_F32,
                                     .is_exact = true};
    struct engine *e = NULL;
    struct err err = {0};
    if (engine_open(&e, &options, &err) != 0) fail_msg("%s", err.text);
    assert_non_null(engine_chat(e));
    struct golden_bytes b = golden_open("tests/golden/logits/expected/v1-contexts.bin", "QCONTEXT");
    int n = golden_take_int(&b);
    assert_true(n > 0);
    for (int i = 0; i < n; i++) compare_conversation(&b, e, i);
    golden_close(&b);
    engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ids_are_those_of_make_context)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
