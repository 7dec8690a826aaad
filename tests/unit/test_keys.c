/* The key decoder: every known sequence, split anywhere; what is no key leaves no trace. */
#include "ui/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Keys as text: named ones as <up>, controls as ^A, Alt as M-, pastes in brackets. */
static void describe(const struct key *key, struct buf *out) {
    static const char *const names[] = {
        [K_UP] = "<up>",          [K_DOWN] = "<down>",     [K_LEFT] = "<left>",
        [K_RIGHT] = "<right>",    [K_WORD_LEFT] = "<wl>",  [K_WORD_RIGHT] = "<wr>",
        [K_HOME] = "<home>",      [K_END] = "<end>",       [K_PAGE_UP] = "<pgup>",
        [K_PAGE_DOWN] = "<pgdn>", [K_DELETE] = "<delete>", [K_BACKTAB] = "<backtab>",
    };
    if (key->name == K_PASTE) {
        buf_puts(out, "[");
        buf_add(out, key->text, key->n_text);
        buf_puts(out, key->is_cut ? "…]" : "]");
    } else if (key->name != K_CHAR) {
        buf_puts(out, names[key->name]);
    } else {
        if (key->is_alt) buf_puts(out, "M-");
        if (key->c < 0x20 || key->c == 0x7F)
            buf_printf(out, "^%c", key->c ^ 0x40);
        else
            buf_put_utf8(out, key->c);
    }
}

static void take_all(struct keys *k, struct buf *out) {
    struct key key;
    while (keys_next(k, &key)) describe(&key, out);
}

static const struct {
    const char *bytes, *keys;
} cases[] = {
    {"abc", "abc"},
    {"你好é👍", "你好é👍"},
    {"\r\n\t\x01\x7f\b", "^M^J^I^A^?^H"},
    {"\033[A\033[B\033[C\033[D", "<up><down><right><left>"},
    {"\033OA\033OB\033OC\033OD\033OH\033OF\033OM", "<up><down><right><left><home><end>^M"},
    {"\033[1;5C\033[1;5D\033[1;3C\033[1;2C\033[1;5A", "<wr><wl><wr><right><up>"},
    {"\033[H\033[F\033[1~\033[4~\033[7~\033[8~", "<home><end><home><end><home><end>"},
    {"\033[Z\033[9;2u\033[27;2;9~\033[9u", "<backtab><backtab><backtab>^I"},
    {"\033[3~\033[5~\033[6~\033[2~\033[3;5~", "<delete><pgup><pgdn><delete>"},
    {"\033b\033é\033\x7f", "M-bM-éM-^?"},
    {"\033\r\033\n", "^J^J"},
    {"\033[13;2u\033[27;2;13~\033[13u\033[97;5u\033[98;3u\033[20320u", "^J^J^M^AM-b你"},
    {"\033[15~\033[[Aa\033[999~b\033[?1;2cc\033[24;80Rd\033[200m", "abcd"},
    {"\033[<0;3;4Ma\033[<0;3;4mb\033[M !!c\033[Id\033[Oe", "abcde"},
    {"\033]11;rgb:0000/0000/0000\aa\033]0;title\033\\b\033P1$r0m\033\\c\033_x\033\\d", "abcd"},
    {"\xc2\x9b"
     "a\xff\xfe"
     "b\xc0\x80"
     "c\xed\xa0\x80"
     "d",
     "abcd"},
    {"a\xe2\x80\xae"
     "b\xf3\xa0\x80\x81"
     "c",
     "abc"},                      /* an override, a tag character */
    {"e\xcc\x81x", "e\xcc\x81x"}, /* a combining mark */
    {"\xcc\x81", "\xcc\x81"},     /* one without a base */
    {"\033[200~one\033[201~two", "[one]two"},
    {"\033[200~a\r\nb\rc\nd\033[201~\r", "[a\nb\nc\nd]^M"},
    {"\033[200~\033[31mred\a\x9b\033[201~", "[␛[31mred␇\xEF\xBF\xBD]"},
    {"\033[200~\033[201~x", "[]x"},
    {"\033[200~你\033[200~好\033[201~", "[你␛[200~好]"},
    {"\033\033[A", "^[<up>"},
    {"\033[1\033[A", "<up>"}, /* broken off */
};

static void test_sequences(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct keys keys = {0};
        struct buf out = {0};
        keys_feed(&keys, cases[i].bytes, strlen(cases[i].bytes));
        take_all(&keys, &out);
        assert_string_equal(out.data ? out.data : "", cases[i].keys);
        assert_int_equal(keys_timeout_ms(&keys), -1);
        keys_release(&keys);
        buf_release(&out);
    }
}

static void test_split_at_every_byte(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = strlen(cases[i].bytes);
        for (size_t step = 1; step <= 3; step++) {
            struct keys keys = {0};
            struct buf out = {0};
            for (size_t at = 0; at < n; at += step) {
                keys_feed(&keys, cases[i].bytes + at, at + step < n ? step : n - at);
                take_all(&keys, &out);
            }
            assert_string_equal(out.data ? out.data : "", cases[i].keys);
            keys_release(&keys);
            buf_release(&out);
        }
    }
}

/* What has begun and goes no further: a lone Escape, Alt-[, a paste without its end. */
static void test_flush(void **state) {
    (void)state;
    static const struct {
        const char *bytes, *before, *after;
    } partial[] = {
        {"a\033", "a", "a^["},
        {"\033[", "", "^[["},
        {"\033[1;", "", "^[[1;"},
        {"\033O", "", "^[O"},
        {"\033]", "", "^[]"},
        {"\xe4\xbd", "", ""},
        {"\033[200~half", "", "[half]"},
        {"\033[200~half\033[20", "", "[half␛[20]"},
    };
    for (size_t i = 0; i < sizeof partial / sizeof *partial; i++) {
        struct keys keys = {0};
        struct buf out = {0};
        keys_feed(&keys, partial[i].bytes, strlen(partial[i].bytes));
        take_all(&keys, &out);
        assert_string_equal(out.data ? out.data : "", partial[i].before);
        assert_true(keys_timeout_ms(&keys) > 0);
        keys_flush(&keys);
        take_all(&keys, &out);
        assert_string_equal(out.data ? out.data : "", partial[i].after);
        assert_int_equal(keys_timeout_ms(&keys), -1);
        keys_release(&keys);
        buf_release(&out);
    }
}

static void test_drop_partial(void **state) {
    (void)state;
    struct keys keys = {0};
    struct key key;
    keys_feed(&keys, "\033[200~half", 10);
    assert_false(keys_next(&keys, &key));
    keys_drop_partial(&keys);
    keys_feed(&keys, "the rest\033[201~x", 15);
    assert_true(keys_next(&keys, &key));
    assert_int_equal(key.c, 'x');
    keys_feed(&keys, "\033[200~never ends", 16);
    assert_false(keys_next(&keys, &key));
    keys_drop_partial(&keys);
    keys_flush(&keys); /* nothing has come for a while */
    assert_false(keys_next(&keys, &key));
    keys_feed(&keys, "\033[1;", 4);
    assert_false(keys_next(&keys, &key));
    keys_drop_partial(&keys);
    keys_feed(&keys, "y", 1);
    assert_true(keys_next(&keys, &key));
    assert_int_equal(key.c, 'y');
    keys_release(&keys);
}

/* A paste beyond the limit is cut at a character, and what follows it is keys again. */
static void test_large_paste(void **state) {
    (void)state;
    struct keys keys = {0};
    struct key key = {0};
    struct buf text = {0};
    for (int i = 0; i < 500000; i++) buf_puts(&text, "你");
    keys_feed(&keys, "\033[200~", 6);
    for (size_t at = 0; at < text.n; at += 1000) {
        assert_false(keys_next(&keys, &key));
        keys_feed(&keys, text.data + at, 1000);
    }
    keys_feed(&keys, "\033[201~x", 7);
    assert_true(keys_next(&keys, &key));
    assert_int_equal(key.name, K_PASTE);
    assert_true(key.is_cut);
    assert_int_equal(key.n_text, KEYS_PASTE_BYTES / 3 * 3);
    assert_memory_equal(key.text, text.data, key.n_text);
    assert_true(keys_next(&keys, &key));
    assert_int_equal(key.c, 'x');
    buf_release(&text);
    keys_release(&keys);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequences),   cmocka_unit_test(test_split_at_every_byte),
        cmocka_unit_test(test_flush),       cmocka_unit_test(test_drop_partial),
        cmocka_unit_test(test_large_paste),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
