/* The gated activation of the feed-forward layer (SwiGLU, arXiv 2002.05202). */
#include "kernels/cpu/cpu.h"

enum { PIECE = 64 }; /* values; whole cache lines, so that threads do not share one */

void cpu_silu_mul(const struct op_silu_mul *op, struct part part) {
    struct range range = part_range(part, op->n, PIECE);
    part.variant->silu_mul((float *)op->y + range.from, (const float *)op->gate + range.from,
                           (const float *)op->up + range.from, range.to - range.from);
}
