/* From the options of the program to what the engine is opened with: the one place for all who open
 * one. */
#pragma once

#include "app/config.h"
#include "engine/engine.h"

/* One sequence in the context that the options say; strings are those of `config` and `model`. */
struct engine_options engine_setup(const struct config *config, const char *model);
