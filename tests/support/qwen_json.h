/* A tokenizer.json as Qwen2.5 publishes it, written from the vocabulary of qwen.tiktoken. */
#pragma once

#include "engine/base/buf.h"
#include "engine/text/tokenizer.h"

/* `t` was opened by tokenizer_open_tiktoken(); merges as pairs or as "left right". */
void qwen_json_write(const struct tokenizer *t, bool as_pairs, struct buf *out);

/* The same vocabulary as vocab.json, and its merges as merges.txt. */
void qwen_json_write_vocab(const struct tokenizer *t, struct buf *vocab, struct buf *merges);
