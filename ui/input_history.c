/*
 * The file is the truth: an addition locks, reads what is there now, appends, cuts to the limits
 * and replaces the file. The lock is a file of its own, because the history's inode changes.
 */
#include "ui/input_history.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/sanitize.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>

enum { LOCK_TRIES = 100, LOCK_TRY_MS = 10, MAX_FILE_BYTES = 4 * INPUT_HISTORY_BYTES };

static void drop_entries(struct input_history *h) {
    for (size_t i = 0; i < h->n; i++) mem_free(h->entries[i]);
    h->n = 0;
}

/* Takes over `text`. */
static int append(struct input_history *h, char *text, struct err *err) {
    if (!text || mem_grow((void **)&h->entries, &h->capacity, h->n + 1, sizeof *h->entries) != 0) {
        mem_free(text);
        return err_memory(err, sizeof *h->entries, "the input history");
    }
    h->entries[h->n++] = text;
    return 0;
}

static void cut_oldest(struct input_history *h, size_t n) {
    if (n == 0) return;
    for (size_t i = 0; i < n; i++) mem_free(h->entries[i]);
    memmove(h->entries, h->entries + n, (h->n - n) * sizeof *h->entries);
    h->n -= n;
}

static void write_entry(const char *text, struct buf *out) {
    for (; *text; text++) {
        if (*text == '\n') {
            buf_puts(out, "\\n");
        } else if (*text == '\\') {
            buf_puts(out, "\\\\");
        } else {
            buf_putc(out, *text);
        }
    }
    buf_putc(out, '\n');
}

/* A line of the file back to an entry: NULL when it is empty or out of memory. A file may have been
 * edited or damaged, so its text is sanitized like any other. */
static char *read_entry(const char *line, size_t n) {
    struct buf raw = {0}, clean = {0};
    for (size_t i = 0; i < n; i++) {
        char c = line[i];
        if (c == '\\' && i + 1 < n) {
            i++;
            c = line[i] == 'n' ? '\n' : line[i];
        }
        buf_putc(&raw, c);
    }
    if (raw.n > 0) sanitize_text(raw.data, raw.n, &clean);
    char *text = clean.n > 0 && !clean.failed ? mem_strndup(clean.data, clean.n) : NULL;
    buf_release(&raw);
    buf_release(&clean);
    return text;
}

static int parse_file(struct input_history *h, const struct buf *file, struct err *err) {
    const char *at = file->data, *end = file->data + file->n;
    drop_entries(h);
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((newline ? newline : end) - at);
        char *text = read_entry(at, n);
        if (text && append(h, text, err) != 0) return -1;
        at += n + 1;
    }
    return 0;
}

/* Replaces the entries by those on disk; a missing file has none to give. */
static int read_file(struct input_history *h, struct err *err) {
    struct buf file = {0};
    if (!io_exists(h->path)) return 0;
    int result = io_read_file(h->path, MAX_FILE_BYTES, &file, err);
    if (result == 0 && file.data) result = parse_file(h, &file, err);
    buf_release(&file);
    return result;
}

/* How many of the oldest entries must go. */
static size_t count_superfluous(const struct input_history *h) {
    size_t bytes = 0, kept = 0;
    while (kept < h->n && kept < h->limit) {
        bytes += strlen(h->entries[h->n - 1 - kept]) + 1;
        if (bytes > INPUT_HISTORY_BYTES && kept > 0) break;
        kept++;
    }
    return h->n - kept;
}

static int write_file(struct input_history *h, struct err *err) {
    struct buf file = {0};
    for (size_t i = 0; i < h->n; i++) write_entry(h->entries[i], &file);
    int result = file.failed ? err_memory(err, file.n, "the input history")
                             : io_write_atomic(h->path, 0600, file.data, file.n, err);
    buf_release(&file);
    return result;
}

/* An exclusive lock, or -1 when it cannot be had within a second: then the file is written without
 * it, for a program that was stopped while it held the lock must not stop the others. */
static int lock(const char *path) {
    struct buf name = {0};
    buf_printf(&name, "%s.lock", path);
    int fd = name.failed ? -1 : io_open(name.data, O_RDWR | O_CREAT, 0600);
    buf_release(&name);
    for (int i = 0; fd >= 0 && i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
        if (errno != EWOULDBLOCK && errno != EINTR) break;
        nanosleep(&(struct timespec){.tv_nsec = LOCK_TRY_MS * 1000000}, NULL);
    }
    if (fd >= 0) io_close(fd);
    return -1;
}

static int make_folder_of(const char *path, struct err *err) {
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return 0;
    char *folder = mem_strndup(path, (size_t)(slash - path));
    if (!folder) return err_memory(err, (size_t)(slash - path), "a path");
    int result = io_make_folders(folder, 0700, err);
    mem_free(folder);
    return result;
}

int input_history_open(struct input_history *h, const char *path, size_t limit, struct err *err) {
    *h = (struct input_history){.limit = limit};
    if (!path || limit == 0) return 0;
    h->path = mem_strdup(path);
    if (!h->path) return err_memory(err, strlen(path), "a path");
    if (read_file(h, err) == 0) {
        cut_oldest(h, count_superfluous(h));
        return 0;
    }
    mem_free(h->path); /* what cannot be read must not be replaced either */
    h->path = NULL;
    return -1;
}

void input_history_release(struct input_history *h) {
    drop_entries(h);
    mem_free(h->entries);
    mem_free(h->path);
    *h = (struct input_history){0};
}

int input_history_add(struct input_history *h, const char *text, struct err *err) {
    if (!*text || h->limit == 0) return 0;
    if (h->n > 0 && strcmp(h->entries[h->n - 1], text) == 0) return 0;
    if (!h->path) {
        if (append(h, mem_strdup(text), err) != 0) return -1;
        cut_oldest(h, count_superfluous(h));
        return 0;
    }
    int result = make_folder_of(h->path, err);
    int fd = result == 0 ? lock(h->path) : -1;
    if (result == 0) result = read_file(h, err);
    if (append(h, mem_strdup(text), result == 0 ? err : NULL) != 0) result = -1;
    cut_oldest(h, count_superfluous(h));
    if (result == 0) result = write_file(h, err);
    if (fd >= 0) io_close(fd);
    return result;
}
