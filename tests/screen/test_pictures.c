/*
 * The pictures of the README: screens of the program itself with a stand-in for the model, drawn by
 * tests/support/picture. They are drawn anew each time and compared with man/screens, so that none
 * shows what the program does not. QWEN_GOLDEN_WRITE=1 writes them.
 */
#include "tests/screen/session.h"
#include "tests/support/picture.h"

#include "engine/base/io.h"
#include "ui/skins.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char steeping[] =
    "Steeping times differ by **how far the leaves are oxidized**:\n\n"
    "| tea | water | minutes |\n|---|--:|--:|\n| green | 75 °C | 2 |\n| oolong | 90 °C | 3 |\n"
    "| black | 98 °C | 4 |\n\n"
    "```python\ndef steep(kind):  # minutes\n    return {\"green\": 2, \"oolong\": 3}.get(kind, "
    "4)\n"
    "```\n\nWarm the pot first; see [the article](https://example.org/tea).";
static const char chinese[] =
    "茶树的叶子经过不同程度的**发酵**，就成了不同的茶：\n\n1. 绿茶：不发酵，水温约 75 °C\n"
    "2. 乌龙茶：半发酵\n3. 红茶：全发酵，用沸水\n\n> 水为茶之母，器为茶之父。";

static const struct picture {
    const char *name;
    bool is_light;
    int rows, columns;
    const char *answers[2], *reasoning[2];
    const char *args[5];
    const char *steps[8]; /* as in test_golden.c: typed, or "?text" that is waited for */
    int bench_stall;
} pictures[] = {
    {.name = "answer",
     .rows = 24,
     .columns = 80,
     .answers = {steeping},
     .reasoning = {"They ask how long to steep tea. Three kinds will do."},
     .args = {"--theme", "dark"},
     .steps = {"How long does tea steep? A table, and a function.\r", "?7]"}},
    {.name = "bench",
     .rows = 12,
     .columns = 92,
     .args = {"--theme", "dark"},
     .bench_stall = 9,
     .steps = {"/bench -p 512 -n 128 -d 0,4096,16384\r", "?75 %"}},
    {.name = "menu",
     .rows = 12,
     .columns = 80,
     .args = {"--theme", "dark"},
     .steps = {"/set theme dark\r", "?interface.theme", "/s\t", "?Tab walks", "\t\t"}},
    {.name = "chinese",
     .is_light = true,
     .rows = 18,
     .columns = 80,
     .answers = {chinese},
     .args = {"--theme", "light", "--language", "zh"},
     .steps = {"绿茶和红茶有什么不同？\r", "?7]", "那么白茶呢"}},
    {.name = "settings",
     .is_light = true,
     .rows = 14,
     .columns = 92,
     .args = {"--theme", "light"},
     .steps = {"/set temperature 0.6\r", "?0.6", "/set\r", "?Enter changes",
               "\033[6~\033[B\033[B\033[B"}},
};

static bool is_saved(struct pty *p, void *ud) {
    const void *const *with = ud;
    struct buf now = {0};
    const struct picture *picture = with[0];
    picture_svg(p, picture->is_light, &now);
    bool is_equal = strcmp(now.data, with[1]) == 0;
    buf_release(&now);
    return is_equal;
}

static void compare(struct session *s, const struct picture *picture) {
    struct buf now = {0}, saved = {0};
    char path[96];
    snprintf(path, sizeof path, "man/screens/%s.svg", picture->name);
    if (getenv("QWEN_GOLDEN_WRITE")) {
        pty_settle(&s->pty);
        picture_svg(&s->pty, picture->is_light, &now);
        assert_int_equal(io_write_atomic(path, 0644, now.data, now.n, NULL), 0);
    } else {
        if (io_read_file(path, 1 << 20, &saved, NULL) != 0) fail_msg("%s is missing", path);
        const void *with[] = {picture, saved.data};
        if (!pty_wait_until(&s->pty, is_saved, with))
            fail_msg("%s is not what the program shows: QWEN_GOLDEN_WRITE=1 draws it anew", path);
    }
    buf_release(&now);
    buf_release(&saved);
}

static void draw(const struct picture *picture) {
    struct session s;
    session_make(&s, picture->answers[0] ? picture->answers : NULL);
    fake_worker.model_name = "Qwen2.5-7B-Instruct";
    fake_worker.bench_stall = picture->bench_stall;
    fake_worker.reasoning = picture->reasoning[0] ? picture->reasoning : NULL;
    s.skin = fullscreen_run;
    s.rows = picture->rows;
    s.columns = picture->columns;
    s.args[0] = "--no-history";
    s.args[1] = "--seed=7";
    for (int i = 0; i < 5; i++) s.args[2 + i] = picture->args[i];
    session_start(&s);
    pty_settle(&s.pty);
    for (const char *const *step = picture->steps; *step; step++) {
        if (**step == '?')
            session_expect(&s, *step + 1);
        else
            session_type(&s, *step);
    }
    compare(&s, picture);
    session_remove(&s);
}

static void test_pictures(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) draw(&pictures[i]);
}

/* Each stands in the README, and it shows no others. */
static void test_readme(void **state) {
    (void)state;
    struct buf readme = {0};
    size_t n = 0;
    assert_int_equal(io_read_file("README.md", 1 << 20, &readme, NULL), 0);
    for (size_t i = 0; i < sizeof pictures / sizeof *pictures; i++) {
        char path[96];
        snprintf(path, sizeof path, "(man/screens/%s.svg)", pictures[i].name);
        if (!strstr(readme.data, path)) fail_msg("README.md lacks %s", path);
    }
    for (const char *at = readme.data; (at = strstr(at, "(man/screens/")); at++) n++;
    assert_int_equal(n, sizeof pictures / sizeof *pictures);
    buf_release(&readme);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pictures),
                                       cmocka_unit_test(test_readme)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
