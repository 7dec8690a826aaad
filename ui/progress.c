/* See progress.h. */
#include "ui/progress.h"

#include "app/language.h"
#include "engine/base/sanitize.h"

#include <stdio.h>
#include <string.h>

void progress_set(struct progress *p, const char *what, double share, double seconds_left,
                  bool is_up) {
    *p = (struct progress){.is_up = is_up, .share = share, .seconds_left = seconds_left};
    snprintf(p->what, sizeof p->what, "%s", what);
    sanitize_line(p->what);
}

/* Two places that matter: "12 s left", "3 min left", "2 h 5 min left". */
static int describe_time(double seconds, char *out, size_t room) {
    int s = (int)(seconds + 0.5), minutes = (s + 30) / 60;
    if (s < 90) return snprintf(out, room, _("%d s left"), s);
    if (minutes < 90) return snprintf(out, room, _("%d min left"), minutes);
    return snprintf(out, room, _("%d h %d min left"), minutes / 60, minutes % 60);
}

void progress_describe(const struct progress *p, char *out, size_t room) {
    int n = 0;
    *out = '\0';
    if (p->share >= 0) n = snprintf(out, room, "%d %%", (int)(p->share * 100));
    if (p->seconds_left < 0 || p->seconds_left > 3.6e6) return;
    if (n > 0) n += snprintf(out + n, room - (size_t)n, ", ");
    describe_time(p->seconds_left, out + n, room - (size_t)n);
}

void bar_add(struct styled *out, double share, int columns, text_style full, text_style empty) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int n = share > 0 ? (int)((share < 1 ? share : 1) * columns * 8 + 0.5) : 0;
    for (int i = 0; i < columns; i++, n -= 8) {
        if (n > 0)
            styled_puts(out, one_column(n >= 8 ? "█" : eighths[n], n >= 4 ? "#" : "."), full);
        else
            styled_puts(out, one_column("·", "."), empty);
    }
}
