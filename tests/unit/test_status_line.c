/* The status line at every width: what it keeps, in which order it lets go, and that it fits. */
#include "ui/status_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct status answering = {.model = "Qwen2.5-7B",
                                        .format = "bf16",
                                        .context_used = 1234,
                                        .context_tokens = 32768,
                                        .speed = 172.84,
                                        .roof_share = 0.818,
                                        .memory_used = 16ull << 30,
                                        .memory_all = 81920ull << 20,
                                        .is_gpu = true,
                                        .state = "answering",
                                        .share = -1,
                                        .n_queued = 2,
                                        .rows_below = 40};

static void assert_line(const struct status *status, int columns, const char *expected) {
    struct styled line = {0};
    status_line(status, columns, &line);
    if (strcmp(line.text.data ? line.text.data : "", expected) != 0)
        fail_msg("%d columns:\n|%s|\nexpected:\n|%s|", columns, line.text.data, expected);
    styled_release(&line);
}

/* The least important part goes first: format, memory, share, speed, context, model. */
static void test_widths(void **state) {
    (void)state;
    assert_line(&answering, 110,
                " Qwen2.5-7B  bf16  1234/32768  172.8 tok/s  82 % of the roof  GPU 16.0G/80.0G             ↓ 40  +2  answering ");
    assert_line(&answering, 100,
                " Qwen2.5-7B  bf16  1234/32768  172.8 tok/s  82 % of the roof  GPU 16.0G/80.0G   ↓ 40  +2  answering ");
    assert_line(&answering, 80,
                " Qwen2.5-7B  1234/32768  172.8 tok/s  82 % of the roof      ↓ 40  +2  answering ");
    assert_line(&answering, 60, " Qwen2.5-7B  1234/32768  172.8 tok/s    ↓ 40  +2  answering ");
    assert_line(&answering, 48, " Qwen2.5-7B  1234/32768     ↓ 40  +2  answering ");
    assert_line(&answering, 36, " Qwen2.5-7B     ↓ 40  +2  answering ");
    assert_line(&answering, 24, "    ↓ 40  +2  answering ");
    assert_line(&answering, 12, "  answering ");
}

static void test_parts(void **state) {
    (void)state;
    struct status status = {.state = "loading 25 %", .share = 0.25, .roof_share = -1};
    assert_line(&status, 40, "                loading 25 % ██▌······· ");
    status = (struct status){.state = "ready", .share = -1, .roof_share = 0.5, .model = "tiny"};
    assert_line(&status, 40, " tiny                             ready "); /* no speed, no share */
    status.memory_used = 212ull << 20;
    status.memory_all = 7936ull << 20;
    assert_line(&status, 40, " tiny  RAM 212M/7.8G              ready ");
    status.memory_all = 2000ull << 30;
    assert_line(&status, 40, " tiny  RAM 212M/2000G             ready ");
}

/* A long name gives way to what changes. */
static void test_long_name(void **state) {
    (void)state;
    struct status status = answering;
    status.model = "Smollm2 135M 8k Lc100K Mix1 Ep2";
    status.n_queued = 0;
    status.rows_below = 0;
    assert_line(&status, 80,
                " Smollm2 135M 8k Lc1…  1234/32768  172.8 tok/s  82 % of the roof      answering ");
    assert_line(&status, 40, " Smollm2 135…  1234/32768     answering ");
    status.model = "通义千问通义千问通义千问";
    assert_line(&status, 40, " 通义千问通…  1234/32768      answering ");
}

/* No width makes it longer than the screen, as long as the state alone fits. */
static void test_fits(void **state) {
    (void)state;
    for (int columns = 12; columns < 200; columns++) {
        struct styled line = {0};
        status_line(&answering, columns, &line);
        assert_int_equal(styled_width(&line), columns);
        styled_release(&line);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_widths),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_long_name),
        cmocka_unit_test(test_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
