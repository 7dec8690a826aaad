/*
 * Rows as text: the four formats of `qwen-chat bench -o`, and the cells of the chat's table. Each
 * call appends whole lines, so that rows can be shown as they come.
 */
#pragma once

#include "app/bench_options.h"

struct bench_about {
    const char *cpu, *gpu; /* names; gpu "" without one */
    const char *model;     /* as it was given */
    char model_type[64];   /* "qwen2 0.49 B q8_0" */
    const struct model_info *info;
};
/* `format`: what the weights are called; NULL: as most of them are stored. */
void bench_about_model(struct bench_about *about, const struct model_info *info,
                       const char *format);

void bench_output_begin(enum bench_output output, struct buf *out);
void bench_output_row(enum bench_output output, const struct bench_about *about,
                      const struct bench_row *row, bool is_first, struct buf *out);
void bench_output_end(enum bench_output output, struct buf *out);

enum { BENCH_COLUMNS = 6, BENCH_CELL = 48 };
extern const char *const bench_columns[BENCH_COLUMNS];
void bench_cells(const struct bench_row *row, char cells[BENCH_COLUMNS][BENCH_CELL]);
