/* The table of storage formats and its lookups; decoding and encoding of whole rows. */
#include "kernels/format.h"

#include "kernels/decode.h"

#include <strings.h>

const struct format_info format_table[N_FORMATS] = {
#define FORMAT(id, name, values, bytes, gguf, safetensors, uses, label)                            \
    [FORMAT_##id] = {name, values, bytes, gguf, safetensors, uses, label},
#include "kernels/formats.def"
#undef FORMAT
};

int format_by_name(const char *name) {
    for (int f = 0; f < N_FORMATS; f++)
        if (strcasecmp(format_table[f].name, name) == 0) return f;
    return -1;
}

int format_by_gguf_type(uint32_t type) {
    for (int f = 0; f < N_FORMATS; f++)
        if (format_table[f].gguf_type >= 0 && (uint32_t)format_table[f].gguf_type == type) return f;
    return -1;
}

int format_by_safetensors(const char *dtype) {
    for (int f = 0; f < N_FORMATS; f++)
        if (format_table[f].safetensors && strcmp(format_table[f].safetensors, dtype) == 0)
            return f;
    return -1;
}

void format_decode(enum format f, const void *row, float *out, size_t n) {
    switch (f) {
#define FORMAT(id, name, values, ...)                                                              \
    case FORMAT_##id: {                                                                            \
        const struct block_##id *block = row;                                                      \
        for (size_t i = 0; i < n; i += (values)) decode_##id(block++, out + i);                    \
        break;                                                                                     \
    }
#include "kernels/formats.def"
#undef FORMAT
    case N_FORMATS:
        break;
    }
}

void format_encode(enum format f, const float *in, void *out, size_t n) {
    uint16_t *halves = out;
    if (f == FORMAT_F32) {
        memcpy(out, in, n * sizeof *in);
    } else if (f == FORMAT_F16) {
        for (size_t i = 0; i < n; i++) halves[i] = f16_of_float(in[i]);
    } else if (f == FORMAT_BF16) {
        for (size_t i = 0; i < n; i++) halves[i] = bf16_of_float(in[i]);
    }
}
