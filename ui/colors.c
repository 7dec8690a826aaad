/*
 * xterm's palette of 256: 16 colours that users set as they like, a cube of 6 x 6 x 6, 24 greys.
 * Among the 256 the nearest is taken, green counting most, as the eye has it; among the first 16,
 * of which nobody knows what they really are, the one of the same hue.
 */
#include "ui/colors.h"

struct rgb {
    int r, g, b;
};

static struct rgb of_hex(int hex) {
    return (struct rgb){hex >> 16 & 0xFF, hex >> 8 & 0xFF, hex & 0xFF};
}

/* From 16 on. */
static struct rgb of_palette(int index) {
    static const int steps[6] = {0, 95, 135, 175, 215, 255};
    if (index >= 232) return of_hex(0x010101 * (8 + 10 * (index - 232)));
    index -= 16;
    return (struct rgb){steps[index / 36], steps[index / 6 % 6], steps[index % 6]};
}

static int distance(struct rgb a, struct rgb b) {
    int r = a.r - b.r, g = a.g - b.g, blue = a.b - b.b;
    return 3 * r * r + 6 * g * g + blue * blue;
}

static int nearest_of_256(struct rgb color) {
    int best = 16;
    for (int i = 17; i < 256; i++)
        if (distance(color, of_palette(i)) < distance(color, of_palette(best))) best = i;
    return best;
}

/* Bits of an index: 1 red, 2 green, 4 blue, 8 bright. */
static int same_hue(struct rgb c, bool has_bright) {
    enum { LEAST_CHROMA = 48, BRIGHT = 0xF0, DARK = 0x40, MIDDLE = 0x60, LIGHT = 0xA0 };
    int most = c.r > c.g ? c.r : c.g, least = c.r < c.g ? c.r : c.g;
    if (c.b > most) most = c.b;
    if (c.b < least) least = c.b;
    if (most - least < LEAST_CHROMA) {
        if (!has_bright) return most < MIDDLE ? 0 : 7;
        return most < DARK ? 0 : most < LIGHT ? 8 : most < BRIGHT ? 7 : 15;
    }
    int middle = (most + least) / 2;
    int hue = (c.r > middle) | (c.g > middle) << 1 | (c.b > middle) << 2;
    return has_bright && most >= BRIGHT ? hue + 8 : hue;
}

int color_on_terminal(int color, int n_colors) {
    if (color == COLOR_NONE || n_colors < 8) return -1;
    bool is_rgb = color & COLOR_RGB;
    if (!is_rgb && color < n_colors) return color;
    if (!is_rgb && color < 16) return color - 8; /* a bright one where there are 8 */
    struct rgb rgb = is_rgb ? of_hex(color) : of_palette(color);
    return n_colors >= 256 ? nearest_of_256(rgb) : same_hue(rgb, n_colors >= 16);
}
