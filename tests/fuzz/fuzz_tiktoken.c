/*
 * Any bytes as a qwen.tiktoken, up to the first NUL: once alone, and once behind the 256 lines of
 * single bytes, so that vocabularies are accepted. What follows is text, which must come back.
 */
#include "engine/base/buf.h"
#include "engine/text/tokenizer_build.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void require(bool holds, const char *what) {
    if (!holds) bug("%s", what);
}

static void encode(struct tokenizer *t, const char *text, size_t n) {
    struct tokens ids = {0};
    struct buf again = {0};
    t->is_nfc = false; /* which may change the text */
    require(tokenizer_encode(t, text, n, &ids, NULL) == 0, "encoding failed");
    for (size_t i = 0; i < ids.n; i++)
        require(!tokenizer_is_added(t, ids.ids[i]), "an added token came from plain text");
    tokenizer_decode(t, ids.ids, ids.n, false, &again);
    require(again.n == n && (n == 0 || memcmp(again.data, text, n) == 0), "another text");
    t->is_nfc = true;
    require(tokenizer_encode_with_added(t, text, n, &ids, NULL) == 0, "encoding failed");
    tokens_release(&ids);
    buf_release(&again);
}

static void open_and_encode(const char *ranks, size_t n_ranks, const char *text, size_t n) {
    struct err err = {0};
    struct tokenizer *t = NULL;
    if (tokenizer_open_tiktoken(&t, ranks, n_ranks, "fuzz", &err) != 0) {
        require(err.kind == ERR_MODEL && err.text[0] != '\0', "an error without its sentence");
        return;
    }
    encode(t, text, n);
    tokenizer_close(t);
}

/* The 256 lines of single bytes; made once. */
static const struct buf *byte_lines(void) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static struct buf lines;
    if (lines.n) return &lines;
    for (int b = 0; b < 256; b++)
        buf_printf(&lines, "%c%c== %d\n", digits[b >> 2], digits[(b & 3) << 4], b);
    return &lines;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const char *ranks = (const char *)data, *end = n ? memchr(ranks, '\0', n) : NULL;
    size_t n_ranks = end ? (size_t)(end - ranks) : n;
    const char *text = end ? end + 1 : ranks;
    size_t n_text = end ? n - n_ranks - 1 : n;
    struct buf whole = {0};
    open_and_encode(ranks, n_ranks, text, n_text);
    buf_add(&whole, byte_lines()->data, byte_lines()->n);
    buf_add(&whole, ranks, n_ranks);
    open_and_encode(whole.data, whole.n, text, n_text);
    buf_release(&whole);
    return 0;
}
