/*
 * One growing text: pieces are appended, lines are cut off at its beginning. It is checked and its
 * line ends made uniform up to the last newline; what is behind that waits for the rest of its
 * line.
 */
#include "ui/input_text.h"

#include "engine/base/io.h"
#include "engine/base/utf8.h"

#include <errno.h>
#include <string.h>

static size_t count(const char *text, size_t n, char c) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) found += text[i] == c;
    return found;
}

/* NUL and what is not UTF-8 is refused with its place. */
static int check(const struct input_text *in, const char *name, size_t end, struct err *err) {
    const char *text = in->text.data;
    for (size_t at = in->n_checked; at < end;) {
        uint32_t c;
        size_t bytes = utf8_decode(text + at, end - at, &c);
        if (c == UTF8_BAD || c == 0)
            return err_set(err, ERR_IO, "%s: line %zu: %s, text in UTF-8 is needed", name,
                           in->n_lines + count(text, at, '\n') + 1,
                           c == 0 ? "a NUL byte" : "not UTF-8");
        at += bytes;
    }
    return 0;
}

/* Up to `end`, behind a newline or all there is: CR LF becomes LF, a byte order mark goes. */
static int accept(struct input_text *in, const char *name, size_t end, struct err *err) {
    char *text = in->text.data;
    size_t to = in->n_checked, at = to;
    if (at >= end) return 0;
    if (check(in, name, end, err) != 0) return -1;
    if (end - at >= 3 && memcmp(text + at, "\xEF\xBB\xBF", 3) == 0) at += 3;
    for (; at < end; at++)
        if (text[at] != '\r' || at + 1 == end || text[at + 1] != '\n') text[to++] = text[at];
    memmove(text + to, text + end, in->text.n - end + 1);
    in->text.n -= end - to;
    in->n_checked = to;
    return 0;
}

static void drop_taken(struct input_text *in) {
    if (in->at == 0) return;
    in->n_lines += count(in->text.data, in->at, '\0'); /* once newlines */
    memmove(in->text.data, in->text.data + in->at, in->text.n - in->at + 1);
    in->text.n -= in->at;
    in->n_checked -= in->at;
    in->at = 0;
}

/* Bytes up to the last newline that lies behind what was checked. */
static size_t whole_lines(const struct input_text *in) {
    size_t end = in->text.n;
    while (end > in->n_checked && in->text.data[end - 1] != '\n') end--;
    return end;
}

/* Reads to the end, or until a line more is there. */
static int read_more(struct input_text *in, bool only_line, struct err *err) {
    char bytes[65536];
    drop_taken(in);
    bool has_line = false;
    while (!has_line && !in->is_end) {
        if (!in->wait(in->ud, in->fd)) return err_set(err, ERR_NONE, "stopped");
        ssize_t n = io_read(in->fd, bytes, sizeof bytes);
        if (n < 0) return err_set(err, ERR_IO, "%s: cannot read: %s", in->name, strerror(errno));
        in->is_end = n == 0;
        in->n_read += (size_t)n;
        if (in->n_read > INPUT_TEXT_BYTES)
            return err_set(err, ERR_CONTEXT, "%s: more than %d MiB, which fits no context",
                           in->name, INPUT_TEXT_BYTES >> 20);
        buf_add(&in->text, bytes, (size_t)n);
        if (in->text.failed) return err_memory(err, in->n_read, in->name);
        has_line = only_line && n > 0 && memchr(bytes, '\n', (size_t)n);
    }
    return accept(in, in->name, in->is_end ? in->text.n : whole_lines(in), err);
}

void input_text_release(struct input_text *in) {
    buf_release(&in->text);
}

static void cut_blanks(struct input_text *in) {
    while (in->text.n > 0 && strchr(" \t\n", in->text.data[in->text.n - 1]))
        in->text.data[--in->text.n] = '\0';
}

/* One empty line before the next piece, if there was one before. */
static void add_gap(struct input_text *in) {
    cut_blanks(in);
    if (in->text.n > 0) buf_puts(&in->text, "\n\n");
    in->n_checked = in->text.n;
}

int input_text_put(struct input_text *in, const char *name, const char *text, size_t n,
                   struct err *err) {
    add_gap(in);
    buf_add(&in->text, text, n);
    if (in->text.failed) return err_memory(err, n, name);
    return accept(in, name, in->text.n, err);
}

int input_text_all(struct input_text *in, const char **out, struct err *err) {
    if (in->fd >= 0) {
        add_gap(in);
        if (read_more(in, false, err) != 0) return -1;
    }
    cut_blanks(in);
    *out = in->text.n > 0 ? in->text.data : "";
    return 0;
}

int input_text_line(struct input_text *in, const char **out, struct err *err) {
    if (in->fd < 0) in->is_end = true;
    for (;;) {
        char *line = in->text.data ? in->text.data + in->at : NULL;
        char *newline = line ? memchr(line, '\n', in->text.n - in->at) : NULL;
        if (!newline && !in->is_end) {
            bool has_put = in->n_read == 0 && in->text.n > in->at;
            if (has_put) { /* the line that was put ends before the first one read */
                buf_puts(&in->text, "\n");
                in->n_checked = in->text.n;
            } else if (read_more(in, true, err) != 0) {
                return -1;
            }
            continue;
        }
        *out = NULL;
        if (!line || in->at == in->text.n) return 0;
        if (newline) *newline = '\0';
        in->at = newline ? in->at + (size_t)(newline - line) + 1 : in->text.n;
        if (!line[strspn(line, " \t")]) continue;
        *out = line;
        return 0;
    }
}
