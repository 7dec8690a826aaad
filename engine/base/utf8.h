/* UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing above U+10FFFF. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UTF8_BAD 0xFFFFFFFFu

/*
 * Decodes one code point of text[0..n). Returns the bytes it took (n > 0 gives at least 1).
 * A byte that cannot be decoded takes 1 and gives UTF8_BAD.
 */
size_t utf8_decode(const char *text, size_t n, uint32_t *code_point);

/* Writes 1 to 4 bytes; returns how many. Surrogates and too large values become U+FFFD. */
size_t utf8_encode(uint32_t code_point, char out[4]);

bool utf8_valid(const char *text, size_t n);

/*
 * How many of the last bytes of text[0..n) begin a character that is not whole yet (0 to 3).
 * What a stream must hold back until more comes.
 */
size_t utf8_incomplete_tail(const char *text, size_t n);

/* Columns of one code point on a terminal: 0, 1 or 2 (-1: a control character). All that is laid
 * out, ncurses' cells included, is counted by it. */
int utf8_width(uint32_t code_point);

/* How many columns the terminal gives to characters of ambiguous width (East Asian fonts draw them
 * wide: “”, …, ①, Greek letters): 1, as it is in the beginning, or 2. For the whole process, before
 * anything is laid out. */
void utf8_set_ambiguous_width(int columns);

/*
 * The next grapheme cluster (what a user calls a character) of text[0..n), n > 0: its bytes, and
 * its columns in *width (a ZWJ emoji, a flag or a letter with marks counts once). A control
 * character is a cluster of 0 columns, a byte that is not UTF-8 one of 1.
 */
size_t utf8_cluster(const char *text, size_t n, int *width);
