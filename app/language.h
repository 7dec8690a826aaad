/*
 * The language of the interface: gettext, chosen by interface.language or the locale. Names of
 * commands and options, what scripts read, and errors are never translated. Without a catalogue
 * everything is English.
 */
#pragma once

#include "app/config.h"

/* Opens the catalogue; before it, or where there is none, texts stay as they are. */
void language_open(const struct config *config);

/* The text in the user's language; valid for ever. */
const char *language_text(const char *text) __attribute__((format_arg(1)));

#define _(text)  language_text(text)
#define N_(text) text /* to be translated where it is shown */
