/*
 * Any bytes as a tokenizer.json, up to the first NUL; what follows is text for a tokenizer that
 * was accepted: it may fail at nothing, and gives no added token.
 */
#include "engine/base/buf.h"
#include "engine/text/tokenizer_build.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool holds, const char *what) {
    if (!holds) bug("%s", what);
}

static void encode(const struct tokenizer *t, const char *text, size_t n) {
    struct tokens ids = {0};
    struct buf again = {0};
    require(tokenizer_encode(t, text, n, &ids, NULL) == 0, "encoding failed");
    for (size_t i = 0; i < ids.n; i++)
        require(!tokenizer_is_added(t, ids.ids[i]), "an added token came from plain text");
    tokenizer_decode(t, ids.ids, ids.n, false, &again);
    bool has_all_bytes = true;
    for (int i = 0; i < 256; i++) has_all_bytes = has_all_bytes && t->bpe.byte_ids[i] >= 0;
    if (has_all_bytes && !t->is_nfc)
        require(again.n == n && (n == 0 || memcmp(again.data, text, n) == 0), "another text");
    ids.n = 0;
    require(tokenizer_encode_with_added(t, text, n, &ids, NULL) == 0, "encoding failed");
    tokens_release(&ids);
    buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct err err = {0};
    struct tokenizer *t = NULL;
    const char *json = (const char *)data, *end = n ? memchr(json, '\0', n) : NULL;
    size_t n_json = end ? (size_t)(end - json) : n;
    if (tokenizer_open_json(&t, json, n_json, "fuzz", &err) != 0) {
        require(err.kind == ERR_MODEL && err.text[0] != '\0', "an error without its sentence");
        return 0;
    }
    encode(t, json, n_json);
    if (end) encode(t, end + 1, n - n_json - 1);
    tokenizer_close(t);
    return 0;
}
