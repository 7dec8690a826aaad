/* The colours of config.yaml on terminals with fewer of them. */
#include "ui/colors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_palette(void **state) {
    (void)state;
    for (int i = 0; i < 256; i++) assert_int_equal(color_on_terminal(i, 256), i);
    for (int i = 0; i < 16; i++) assert_int_equal(color_on_terminal(i, 16), i);
    for (int i = 0; i < 16; i++) assert_int_equal(color_on_terminal(i, 8), i % 8);
    assert_int_equal(color_on_terminal(COLOR_NONE, 256), -1);
    assert_int_equal(color_on_terminal(3, 0), -1);
    assert_int_equal(color_on_terminal(COLOR_RGB | 0xFF0000, 2), -1);
}

/* Those of the cube and the greys are met exactly, the others nearly. */
static void test_rgb(void **state) {
    (void)state;
    static const struct {
        int rgb, of_256, of_16, of_8;
    } cases[] = {{0x87D7AF, 115, 2, 2}, {0xFF0000, 196, 9, 1},  {0x0000D7, 20, 4, 4},
                 {0x000000, 16, 0, 0},  {0xFFFFFF, 231, 15, 7}, {0x808080, 244, 8, 7},
                 {0xD0D0D0, 252, 7, 7}, {0xD75FFF, 171, 13, 5}, {0x86D6AE, 115, 2, 2},
                 {0x00FF00, 46, 10, 2}, {0x1C1C1C, 234, 0, 0},  {0xCC8800, 172, 3, 3}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(color_on_terminal(COLOR_RGB | cases[i].rgb, 256), cases[i].of_256);
        assert_int_equal(color_on_terminal(COLOR_RGB | cases[i].rgb, 16), cases[i].of_16);
        assert_int_equal(color_on_terminal(COLOR_RGB | cases[i].rgb, 8), cases[i].of_8);
    }
    assert_int_equal(color_on_terminal(171, 8), 5); /* of the palette, but not of this one */
    assert_int_equal(color_on_terminal(115, 16), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_palette), cmocka_unit_test(test_rgb)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
