/* Parts of tokenizer.json that vocab.json and tokenizer_config.json have too. */
#pragma once

#include "engine/base/json.h"
#include "engine/text/tokenizer_build.h"

cJSON *tokenizer_json_parse(const char *text, size_t n, struct err *err);

/* An object with `content`, `special` …; refuses flags that change what is recognised. */
int tokenizer_json_put_added(struct tokenizer *t, int64_t id, const cJSON *token, struct err *err);

/* An object of token: id. */
int tokenizer_json_put_vocabulary(struct tokenizer *t, const cJSON *vocabulary, struct err *err);
