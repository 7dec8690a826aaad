/* One table of magic numbers and one of sentences. */
#include "engine/weights/file_kind.h"

#include <stdint.h>
#include <string.h>

static const struct {
    enum file_kind kind;
    const char *magic;
    size_t n;
} magics[] = {
    {FILE_GGUF, "GGUF", 4},       {FILE_LFS_POINTER, "version https://git-lfs", 23},
    {FILE_HTML, "<!DOCTYPE", 9},  {FILE_HTML, "<!doctype", 9},
    {FILE_HTML, "<html", 5},      {FILE_HTML, "<HTML", 5},
    {FILE_ZIP, "PK\003\004", 4},  {FILE_PICKLE, "\x80\x02", 2},
    {FILE_PICKLE, "\x80\x04", 2}, {FILE_GZIP, "\x1f\x8b", 2},
    {FILE_HDF5, "\x89HDF", 4},
};

static const char *const texts[] = {
    [FILE_UNKNOWN] = "not a file of weights",
    [FILE_EMPTY] = "an empty file; fetch it again",
    [FILE_GGUF] = "a GGUF file; its name must end in .gguf",
    [FILE_SAFETENSORS] =
        "a safetensors file; its name must end in .safetensors, beside a config.json",
    [FILE_LFS_POINTER] = "a Git LFS pointer, not the weights themselves; run 'git lfs pull' there",
    [FILE_HTML] = "a web page, not the weights themselves; fetch the file again",
    [FILE_ZIP] =
        "a zip archive or a PyTorch checkpoint, which is never unpacked; fetch the safetensors "
        "or GGUF files of the model",
    [FILE_PICKLE] =
        "a Python pickle, which could run code and is never read; fetch the safetensors or "
        "GGUF files of the model",
    [FILE_GZIP] = "a gzip archive; unpack it first",
    [FILE_HDF5] = "an HDF5 file (TensorFlow); fetch the safetensors or GGUF files of the model",
};

/* 8 bytes of header length, then JSON (safetensors' own definition). */
static bool looks_like_safetensors(const unsigned char *data, size_t n) {
    uint64_t header = 0;
    if (n < 10) return false;
    for (int i = 7; i >= 0; i--) header = header << 8 | data[i];
    return header <= n - 8 && (data[8] == '{' || data[8] == ' ');
}

enum file_kind file_kind_of(const unsigned char *data, size_t n) {
    if (n == 0) return FILE_EMPTY;
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
        if (n >= magics[i].n && memcmp(data, magics[i].magic, magics[i].n) == 0)
            return looks_like_safetensors(data, n) ? FILE_SAFETENSORS : magics[i].kind;
    return looks_like_safetensors(data, n) ? FILE_SAFETENSORS : FILE_UNKNOWN;
}

const char *file_kind_text(enum file_kind kind) {
    return texts[kind];
}

bool file_name_is_pickle(const char *name) {
    static const char *const ends[] = {".bin", ".pt", ".pth", ".pkl", ".ckpt"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        size_t m = strlen(ends[i]);
        if (n > m && strcmp(name + n - m, ends[i]) == 0) return true;
    }
    return false;
}
