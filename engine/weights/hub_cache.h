/* Where the download tools of the model hubs keep what they fetched. */
#pragma once

#include "engine/base/err.h"

#include <stdbool.h>

/* Has `model` the form org/name? */
bool hub_cache_is_name(const char *model);

/* The folder of org/name in a cache, the caller's to mem_free(); NULL with a sentence when no
 * cache holds it. */
char *hub_cache_find(const char *model, struct err *err);
