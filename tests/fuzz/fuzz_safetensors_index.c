/* model.safetensors.index.json: whatever it says, no name leads out of its folder. */
#include "engine/weights/shard_index.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct shard_index index;
    struct err err = {0};
    if (shard_index_parse(&index, (const char *)data, n, "index.json", &err) != 0) {
        if (err.kind != ERR_MODEL || !err.text[0] || strchr(err.text, '\n')) abort();
        return 0;
    }
    for (size_t i = 0; i < index.n_names; i++) {
        const char *name = index.names[i];
        if (strchr(name, '/') || name[0] == '.' || strlen(name) > 200) abort();
        if (i > 0 && strcmp(index.names[i - 1], name) >= 0) abort();
    }
    for (size_t i = 0; i < index.n_entries; i++)
        if (index.entries[i].shard >= index.n_names || !index.entries[i].tensor) abort();
    shard_index_release(&index);
    return 0;
}
