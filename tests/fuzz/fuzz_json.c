/*
 * Any bytes as JSON. What passes the gate must be UTF-8, must have become a tree (the gate may not
 * let through what cJSON refuses), and the tree printed must pass again.
 */
#include "engine/base/json.h"

#include "engine/base/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool holds, const char *what) {
    if (!holds) bug("%s", what);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const struct json_limits limits = {
        .max_bytes = 1 << 16, .max_nodes = 1 << 12, .max_depth = 64};
    const char *text = (const char *)data;
    struct err err = {0};
    cJSON *tree = json_parse(text, n, limits, &err);
    if (!tree) {
        require(err.kind == ERR_MODEL, "passed the gate, but cJSON refuses it");
        require(err.text[0] != '\0' && !strchr(err.text, '\n'), "an error without its sentence");
        return 0;
    }
    require(utf8_valid(text, n), "a text that is not UTF-8 passed");
    char *printed = cJSON_PrintUnformatted(tree);
    require(printed != NULL, "a tree that cannot be printed");
    cJSON *again = json_parse(printed, strlen(printed), limits, &err);
    require(again != NULL || strlen(printed) > limits.max_bytes, "the printed tree was refused");
    cJSON_Delete(again);
    cJSON_free(printed);
    cJSON_Delete(tree);
    return 0;
}
