/* bench_fields.def written four ways. */
#include "app/bench_output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

void bench_about_model(struct bench_about *about, const struct model_info *info,
                       const char *format) {
    about->info = info;
    snprintf(about->model_type, sizeof about->model_type, "%s %.2f B %s", info->config->model_type,
             (double)info->parameters * 1e-9, format ? format : info->format);
}

static void write_time(int64_t when, char out[32]) {
    time_t seconds = (time_t)when;
    struct tm utc;
    if (!gmtime_r(&seconds, &utc) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &utc)) out[0] = '\0';
}

/* --- fields ----------------------------------------------------------------------------------- */

enum kind { KIND_TEXT, KIND_WHOLE, KIND_REAL, KIND_SAMPLES };

/* The value of a field, by its kind. */
struct value {
    enum kind kind;
    const char *text;
    long long whole;
    double real;
};

#define VALUE_TEXT(x)                                                                              \
    { KIND_TEXT, x, 0, 0 }
#define VALUE_WHOLE(x)                                                                             \
    { KIND_WHOLE, NULL, x, 0 }
#define VALUE_REAL(x)                                                                              \
    { KIND_REAL, NULL, 0, x }
#define VALUE_SAMPLES(x)                                                                           \
    { KIND_SAMPLES, NULL, 0, x }

static const char *const names[] = {
#define BENCH_FIELD(name, kind, value) #name,
#include "app/bench_fields.def"
#undef BENCH_FIELD
};
enum { N_FIELDS = sizeof names / sizeof *names };

/* `i`: which sample, where the field has several. */
static void values_of(const struct bench_about *a, const struct bench_row *r, int i,
                      const char *time_text, struct value out[N_FIELDS]) {
    const struct value all[] = {
#define BENCH_FIELD(name, kind, value) VALUE_##kind(value),
#include "app/bench_fields.def"
#undef BENCH_FIELD
    };
    memcpy(out, all, sizeof all);
}

static void put_value(const struct value *v, struct buf *out) {
    if (v->kind == KIND_TEXT)
        buf_put_json(out, v->text, strlen(v->text));
    else if (v->kind == KIND_WHOLE)
        buf_printf(out, "%lld", v->whole);
    else if (v->real < 0)
        buf_puts(out, "null");
    else
        buf_printf(out, "%.6f", v->real);
}

static void put_samples(const struct bench_about *a, const struct bench_row *r, int field,
                        struct buf *out) {
    struct value values[N_FIELDS];
    buf_puts(out, "[");
    for (int i = 0; i < r->n_samples; i++) {
        values_of(a, r, i, "", values);
        buf_printf(out, "%s%.6g", i ? ", " : " ", values[field].real);
    }
    buf_puts(out, " ]");
}

/* `separator` stands between fields, `before` before each. */
static void put_object(const struct bench_about *a, const struct bench_row *r, const char *before,
                       const char *separator, struct buf *out) {
    struct value values[N_FIELDS];
    char time_text[32];
    write_time(r->time, time_text);
    values_of(a, r, 0, time_text, values);
    for (int f = 0; f < N_FIELDS; f++) {
        buf_printf(out, "%s%s\"%s\": ", f ? separator : "", before, names[f]);
        if (values[f].kind == KIND_SAMPLES)
            put_samples(a, r, f, out);
        else
            put_value(&values[f], out);
    }
}

/* --- CSV: every value in quotes, as llama-bench has it ---------------------------------------- */

static void put_quoted(const char *text, struct buf *out) {
    buf_putc(out, '"');
    for (; *text; text++) {
        if (*text == '"') buf_putc(out, '"');
        buf_putc(out, *text);
    }
    buf_putc(out, '"');
}

static void put_csv(const struct bench_about *a, const struct bench_row *r, struct buf *out) {
    struct value values[N_FIELDS];
    char time_text[32], number[48];
    write_time(r->time, time_text);
    values_of(a, r, 0, time_text, values);
    for (int f = 0; f < N_FIELDS; f++) {
        const struct value *v = &values[f];
        if (v->kind == KIND_SAMPLES) continue;
        if (f) buf_putc(out, ',');
        if (v->kind == KIND_WHOLE)
            snprintf(number, sizeof number, "%lld", v->whole);
        else if (v->kind == KIND_REAL && v->real >= 0)
            snprintf(number, sizeof number, "%.6f", v->real);
        else
            number[0] = '\0';
        put_quoted(v->kind == KIND_TEXT ? v->text : number, out);
    }
    buf_putc(out, '\n');
}

static void put_csv_head(struct buf *out) {
    const struct bench_row row = {.n_samples = 0};
    const struct model_info info = {.backend = ""};
    const struct bench_about about = {.cpu = "", .gpu = "", .model = "", .info = &info};
    struct value values[N_FIELDS];
    values_of(&about, &row, 0, "", values);
    for (int f = 0; f < N_FIELDS; f++)
        if (values[f].kind != KIND_SAMPLES) buf_printf(out, "%s%s", f ? "," : "", names[f]);
    buf_putc(out, '\n');
}

/* --- markdown --------------------------------------------------------------------------------- */

static double mib(uint64_t bytes) {
    return (double)bytes / (1024.0 * 1024.0);
}

static void write_size(uint64_t bytes, char *out, size_t n) {
    if (mib(bytes) < 1024)
        snprintf(out, n, "%.2f MiB", mib(bytes));
    else
        snprintf(out, n, "%.2f GiB", mib(bytes) / 1024);
}

static void write_parameters(uint64_t n, char *out, size_t size) {
    if (n < 1000000000)
        snprintf(out, size, "%.2f M", (double)n * 1e-6);
    else
        snprintf(out, size, "%.2f B", (double)n * 1e-9);
}

static void put_md_row(const struct bench_about *a, const struct bench_row *r, struct buf *out) {
    char size[24], parameters[24], cells[BENCH_COLUMNS][BENCH_CELL];
    write_size(a->info->stored_bytes, size, sizeof size);
    write_parameters(a->info->parameters, parameters, sizeof parameters);
    bench_cells(r, cells);
    /* the sign ± is two bytes in one column */
    buf_printf(out, "| %-26s | %10s | %8s | %-7s | %7d | %18s | %19s | %5s | %9s | %11s | %10s |\n",
               a->model_type, size, parameters, a->info->backend, a->info->threads, cells[0],
               cells[1], cells[2], cells[3], cells[4], cells[5]);
}

static void put_md_head(struct buf *out) {
    buf_printf(out, "| %-26s | %10s | %8s | %-7s | %7s | %18s | %18s | %5s | %9s | %11s | %10s |\n",
               "model", "size", "params", "backend", "threads", bench_columns[0], bench_columns[1],
               bench_columns[2], bench_columns[3], bench_columns[4], bench_columns[5]);
    buf_puts(out, "| -------------------------- | ---------: | -------: | ------- | ------: | "
                  "-----------------: | -----------------: | ----: | --------: | ----------: | "
                  "---------: |\n");
}

/* --- public ----------------------------------------------------------------------------------- */

const char *const bench_columns[BENCH_COLUMNS] = {"test",      "t/s",         "roof",
                                                  "roof GB/s", "bytes/token", "memory"};

void bench_cells(const struct bench_row *r, char cells[BENCH_COLUMNS][BENCH_CELL]) {
    char name[64];
    bench_name(&r->test, name);
    memset(cells, 0, BENCH_COLUMNS * BENCH_CELL);
    snprintf(cells[0], BENCH_CELL, "%s", name);
    snprintf(cells[1], BENCH_CELL, "%.2f ± %.2f", r->avg_ts, r->stddev_ts);
    if (r->roof_share >= 0) snprintf(cells[2], BENCH_CELL, "%.0f %%", r->roof_share * 100);
    if (r->roof > 0) snprintf(cells[3], BENCH_CELL, "%.1f", r->roof * 1e-9);
    if (r->bytes_per_token) write_size(r->bytes_per_token, cells[4], BENCH_CELL);
    write_size(r->memory_bytes, cells[5], BENCH_CELL);
}

void bench_output_begin(enum bench_output output, struct buf *out) {
    if (output == BENCH_MD) put_md_head(out);
    if (output == BENCH_CSV) put_csv_head(out);
    if (output == BENCH_JSON) buf_puts(out, "[\n");
}

void bench_output_row(enum bench_output output, const struct bench_about *about,
                      const struct bench_row *row, bool is_first, struct buf *out) {
    switch (output) {
    case BENCH_MD:
        put_md_row(about, row, out);
        break;
    case BENCH_CSV:
        put_csv(about, row, out);
        break;
    case BENCH_JSON:
        buf_puts(out, is_first ? "  {\n" : ",\n  {\n");
        put_object(about, row, "    ", ",\n", out);
        buf_puts(out, "\n  }");
        break;
    case BENCH_JSONL:
        buf_putc(out, '{');
        put_object(about, row, "", ", ", out);
        buf_puts(out, "}\n");
        break;
    }
}

void bench_output_end(enum bench_output output, struct buf *out) {
    if (output == BENCH_JSON) buf_puts(out, "\n]\n");
}
