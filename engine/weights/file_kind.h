/* What a file is by its first bytes, to name the usual mistakes of a download. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum file_kind {
    FILE_UNKNOWN,
    FILE_EMPTY,
    FILE_GGUF,
    FILE_SAFETENSORS,
    FILE_LFS_POINTER,
    FILE_HTML,
    FILE_ZIP, /* PyTorch's files are zip archives of pickles */
    FILE_PICKLE,
    FILE_GZIP,
    FILE_HDF5,
};

enum file_kind file_kind_of(const unsigned char *data, size_t n);

/* A noun phrase with the way out: "a Git LFS pointer …". FILE_UNKNOWN: "not a file of weights". */
const char *file_kind_text(enum file_kind kind);

/* Does the name end as a pickled checkpoint does (.bin, .pt, .pth, .pkl, .ckpt)? */
bool file_name_is_pickle(const char *name);
