/* Parts with a rank; the parts that fit are put in their order. */
#include "ui/status_line.h"

#include "app/language.h"
#include "engine/base/utf8.h"
#include "ui/progress.h"

#include <stdio.h>
#include <string.h>

enum { N_PARTS = 9, PART_BYTES = 200, BAR_COLUMNS = 10, LEAST_RANK = 7, LEAST_NAME = 12 };

struct part {
    char text[PART_BYTES];
    int rank; /* 0 stays longest */
    bool is_right;
};

static void add_bar(char *out, size_t room, double share) {
    struct styled bar = {0};
    bar_add(&bar, share, BAR_COLUMNS, INK_status, INK_status);
    size_t n = strlen(out);
    snprintf(out + n, room - n, " %s", bar.text.data ? bar.text.data : "");
    styled_release(&bar);
}

static int width_of(const char *text) {
    struct styled one = {0};
    styled_puts(&one, text, INK_status);
    int width = styled_width(&one);
    styled_release(&one);
    return width;
}

/* "212M", "15.2G" */
static void write_size(uint64_t bytes, char *out, size_t room) {
    double mib = (double)bytes / (1 << 20);
    if (mib < 1000)
        snprintf(out, room, "%.0fM", mib);
    else
        snprintf(out, room, mib < 102400 ? "%.1fG" : "%.0fG", mib / 1024);
}

/* At most `most` columns of it: names that checkpoints give themselves are long at times. */
static void write_name(const char *name, int most, char *out, size_t room) {
    size_t n = strlen(name), at = 0;
    int column = 0, width, cut = width_of(name) > most ? width_of("…") : 0;
    while (at < n) {
        size_t bytes = utf8_cluster(name + at, n - at, &width);
        if (column + width > most - cut) break;
        column += width;
        at += bytes;
    }
    snprintf(out, room, "%.*s%s", (int)at, name, cut ? "…" : "");
}

static size_t make_parts(const struct status *s, int columns, struct part *parts) {
    size_t n = 0;
    char name[PART_BYTES] = "";
    int most = columns / 4 > LEAST_NAME ? columns / 4 : LEAST_NAME;
    if (s->model) write_name(s->model, most, name, sizeof name);
    char used[16], all[16];
    write_size(s->memory_used, used, sizeof used);
    write_size(s->memory_all, all, sizeof all);
#define PART(rank_, right, ...)                                                                    \
    do {                                                                                           \
        parts[n] = (struct part){.rank = rank_, .is_right = right};                                \
        snprintf(parts[n++].text, PART_BYTES, __VA_ARGS__);                                        \
    } while (0)
    if (s->model) PART(2, false, "%s", name);
    if (s->model && s->format) PART(7, false, "%s", s->format);
    if (s->context_tokens > 0) PART(3, false, "%d/%d", s->context_used, s->context_tokens);
    if (s->speed > 0) PART(4, false, "%.1f tok/s", s->speed);
    if (s->speed > 0 && s->roof_share >= 0)
        PART(5, false, _("%.0f %% of the roof"), s->roof_share * 100);
    if (s->memory_used > 0 && s->memory_all > 0)
        PART(6, false, "%s %s/%s", s->is_gpu ? "GPU" : "RAM", used, all);
    if (s->rows_below > 0) PART(1, true, "↓ %zu", s->rows_below);
    if (s->n_queued > 0) PART(1, true, "+%d", s->n_queued);
    PART(0, true, "%s", s->state);
    if (s->share >= 0) add_bar(parts[n - 1].text, PART_BYTES, s->share);
#undef PART
    return n;
}

void status_line(const struct status *status, int columns, struct styled *out) {
    struct part parts[N_PARTS];
    size_t n = make_parts(status, columns, parts);
    int widths[N_PARTS], total = 0, least = LEAST_RANK, right = 0;
    for (size_t i = 0; i < n; i++) total += widths[i] = width_of(parts[i].text) + 2;
    for (; total > columns && least > 0; least--)
        for (size_t i = 0; i < n; i++)
            if (parts[i].rank == least) total -= widths[i];
    for (size_t i = 0; i < n; i++)
        if (parts[i].is_right && parts[i].rank <= least) right += widths[i];
    int column = 0;
    for (int side = 0; side < 2; side++) {
        for (; side == 1 && column < columns - right; column++) styled_puts(out, " ", INK_status);
        for (size_t i = 0; i < n; i++) {
            if (parts[i].is_right != side || parts[i].rank > least) continue;
            styled_puts(out, " ", INK_status);
            styled_puts(out, parts[i].text, INK_status);
            styled_puts(out, " ", INK_status);
            column += widths[i];
        }
    }
}
