/* The catalogue is looked for beside the program (a build, an installation) before the place that
 * was given when it was built. */
#include "app/language.h"

#include "engine/base/io.h"

#include <libintl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char domain[] = "qwen-chat";
static bool is_open;

static bool has_catalogue(const char *folder) {
    char path[1100];
    snprintf(path, sizeof path, "%s/zh_CN/LC_MESSAGES/%s.mo", folder, domain);
    return io_exists(path);
}

static void bind_domain(void) {
    static const char *const beside[] = {"locale", "../locale", "../share/locale"};
    char program[512], folder[600];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(program, '/');
    if (slash) *slash = '\0';
    for (size_t i = 0; slash && i < sizeof beside / sizeof *beside; i++) {
        snprintf(folder, sizeof folder, "%s/%s", program, beside[i]);
        if (!has_catalogue(folder)) continue;
        bindtextdomain(domain, folder);
        return;
    }
    bindtextdomain(domain, QWEN_LOCALE_FOLDER);
}

/*
 * A language that is asked for needs no locale of its own on the machine: gettext reads LANGUAGE
 * wherever the locale is not the plain "C".
 */
void language_open(const struct config *config) {
    static const char *const names[] = {
        [LANGUAGE_AUTO] = NULL, [LANGUAGE_EN] = "en", [LANGUAGE_ZH] = "zh_CN"};
    const char *name = config ? names[config->language] : NULL;
    if (name) setenv("LANGUAGE", name, 1);
    const char *locale = setlocale(LC_MESSAGES, "");
    bool is_plain = !locale || strcmp(locale, "C") == 0 || strcmp(locale, "POSIX") == 0;
    if (name && is_plain) setlocale(LC_MESSAGES, "C.UTF-8");
    bind_domain();
    bind_textdomain_codeset(domain, "UTF-8");
    is_open = true;
    err_set_translator(language_text);
}

const char *language_text(const char *text) {
    return is_open && *text ? dgettext(domain, text) : text;
}
