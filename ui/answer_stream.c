/* Newlines wait in a count: whether they stand inside the text is known when more text comes. */
#include "ui/answer_stream.h"

#include <string.h>

static void put(struct answer_stream *s, const char *text) {
    s->write(s->ud, text, strlen(text));
    s->has_begun = true;
}

static void put_style(struct answer_stream *s, const char *style) {
    if (s->has_color) put(s, style);
}

static void put_text(struct answer_stream *s, const char *text, size_t n) {
    while (n > 0) {
        const char *newline = memchr(text, '\n', n);
        size_t length = newline ? (size_t)(newline - text) : n;
        if (length > 0) {
            for (; s->n_newlines > 0 && s->has_text; s->n_newlines--) put(s, "\n");
            s->n_newlines = 0;
            s->write(s->ud, text, length);
            s->has_text = s->has_begun = true;
        }
        if (newline) {
            s->n_newlines++;
            length++;
        }
        text += length;
        n -= length;
    }
}

/* The mark stands in words too: colour alone must not carry it. */
static void begin_reasoning(struct answer_stream *s) {
    put_style(s, "\033[2m");
    put(s, s->view == REASONING_SHOWN ? "[thinking]\n" : "[thinking …]");
    s->is_reasoning = true;
    s->has_text = false;
    s->n_newlines = 0;
}

static void end_reasoning(struct answer_stream *s) {
    if (s->view == REASONING_SHOWN) put(s, s->has_text ? "\n[/thinking]" : "[/thinking]");
    put_style(s, "\033[0m");
    put(s, "\n\n");
    s->is_reasoning = s->has_text = false;
    s->n_newlines = 0;
}

void answer_stream_text(struct answer_stream *s, enum answer_part part, const char *text,
                        size_t n) {
    if (n == 0) return;
    if (part == PART_REASONING) {
        if (s->view == REASONING_NONE) return;
        if (!s->is_reasoning) begin_reasoning(s);
        if (s->view == REASONING_SHOWN) put_text(s, text, n);
    } else {
        if (s->is_reasoning) end_reasoning(s);
        put_text(s, text, n);
    }
}

void answer_stream_end(struct answer_stream *s) {
    if (s->is_reasoning) put_style(s, "\033[0m");
    if (s->has_begun) put(s, "\n");
    s->n_newlines = 0;
    s->is_reasoning = s->has_text = s->has_begun = false;
}
