/* Unicode normalisation form C, which the Qwen tokenizers apply before anything else. */
#pragma once

#include "engine/base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Appends the NFC of text[0..n), valid UTF-8, to `out`; false, and nothing appended, when a
 * look at each character shows that nothing can change. Takes time in proportion to n, whatever the
 * text (UAX #15, with a counting sort for the order of marks).
 */
bool nfc_normalize(const char *text, size_t n, struct buf *out);
