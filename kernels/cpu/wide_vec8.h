/* The widest vector of the variant (attend.h's `wide`) where that is vec8. */
#pragma once

#define WIDE       8 /* floats */
#define SCORE_ROWS VEC8_SCORE_ROWS
#define MIX_ROWS   VEC8_MIX_ROWS

typedef vec8 wide;

#define wide_zero          vec8_zero
#define wide_set           vec8_set
#define wide_load          vec8_load
#define wide_store         vec8_store
#define wide_load_partial  vec8_load_partial
#define wide_store_partial vec8_store_partial
#define wide_add           vec8_add
#define wide_sub           vec8_sub
#define wide_mul           vec8_mul
#define wide_div           vec8_div
#define wide_fma           vec8_fma
#define wide_min           vec8_min
#define wide_max           vec8_max
#define wide_zero_below    vec8_zero_below
#define wide_round         vec8_round
#define wide_pow2          vec8_pow2
#define wide_sum4          vec8_sum4
#define wide_largest       vec8_largest
#define wide_load_F32      vec8_load_F32
#define wide_load_F16      vec8_load_F16
#define wide_load_BF16     vec8_load_BF16
