/*
 * The language of the interface: gettext, chosen by interface.language or the locale. Names of
 * commands and options and what scripts read (inspect, doctor, bench, JSON) are never translated.
 * Without a catalogue everything is English.
 *
 * Marked are _() and N_(), the formats of err_set() and its kin, and the help texts of the tables;
 * po/extract.sh collects them.
 */
#pragma once

#include "app/config.h"

/* Opens the catalogue; before it, or where there is none, texts stay as they are. NULL: by the
 * locale, as long as the options are not known. */
void language_open(const struct config *config);

/* The text in the user's language; valid for ever. */
const char *language_text(const char *text) __attribute__((format_arg(1)));

#define _(text)  language_text(text)
#define N_(text) text /* to be translated where it is shown */
