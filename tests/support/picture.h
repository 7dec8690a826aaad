/* A terminal's screen as an SVG picture. */
#pragma once

#include "tests/support/pty.h"

/* What the screen shows now, on a dark or a light background. */
void picture_svg(struct pty *p, bool is_light, struct buf *out);
