/* The rows of formats.def as C: an enum, a table, and the sizes that follow. Plain data. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum format {
#define FORMAT(id, ...) FORMAT_##id,
#include "kernels/formats.def"
#undef FORMAT
    N_FORMATS
};

enum format_use { USE_WEIGHT = 1, USE_KV = 2, USE_ACTIVATION = 4 };

struct format_info {
    const char *name;        /* "q4_k": what users type and read */
    int block_values;        /* values in one block */
    int block_bytes;         /* bytes of one block */
    int gguf_type;           /* number in a GGUF file, or -1 */
    const char *safetensors; /* dtype in a safetensors header, or NULL */
    unsigned uses;           /* enum format_use */
    const char *label;       /* one phrase for people */
};

extern const struct format_info format_table[N_FORMATS];

/* The row with that name, GGUF number or safetensors dtype; -1 when there is none. */
int format_by_name(const char *name);
int format_by_gguf_type(uint32_t type);
int format_by_safetensors(const char *dtype);

/* Bytes of a row of n values; n must be a multiple of block_values. */
static inline size_t format_row_bytes(enum format f, size_t n) {
    return n / (size_t)format_table[f].block_values * (size_t)format_table[f].block_bytes;
}

/* The reference decoder: n values (a multiple of block_values) as float. */
void format_decode(enum format f, const void *row, float *out, size_t n);

/* Round to nearest even into F32, F16 or BF16 (what a KV cache or activations are stored in). */
void format_encode(enum format f, const float *in, void *out, size_t n);

#ifdef __cplusplus
}
#endif
