/*
 * Files. All of the program's disk access passes here, so that a test can make the n-th call fail.
 * Paths are UTF-8 bytes as given. Functions follow the err.h convention (kind ERR_IO unless said).
 */
#pragma once

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The whole file; an error when it is no regular file or is larger than max_bytes. */
int io_read_file(const char *path, size_t max_bytes, struct buf *out, struct err *err);

/*
 * A file mapped for reading. When a page cannot be read any more (the file shrank, the disk
 * failed) the page reads as zeros and io_map_failed() turns true, instead of SIGBUS: whoever
 * computes from a map asks before it believes the result.
 */
struct io_map {
    const unsigned char *data; /* NULL for an empty file */
    size_t size;
    int slot; /* private */
};

int io_map_open(struct io_map *map, const char *path, struct err *err);
void io_map_close(struct io_map *map);
bool io_map_failed(const struct io_map *map);

/* memcpy() of bytes that may lie in a map: those are read from the file, which takes neither page
 * faults nor this process's memory. Several threads may call it. */
void io_map_copy(void *to, const void *from, size_t bytes);

/* Bytes of a map that will not be read soon: their whole pages leave this process's memory (and are
 * read from the file again if they are wanted after all). */
void io_map_drop(const void *at, size_t bytes);

/* Replaces `path` as a whole: temporary file beside it, sync, rename, sync of the folder. */
int io_write_atomic(const char *path, mode_t mode, const void *data, size_t n, struct err *err);

/* Append-only file for a journal. io_append() writes all of it in one write and syncs. */
int io_append_open(const char *path, mode_t mode, int *fd, struct err *err);
int io_append(int fd, const void *data, size_t n, struct err *err);

int io_make_folders(const char *path, mode_t mode, struct err *err); /* like mkdir -p */
bool io_exists(const char *path);
bool io_is_folder(const char *path);

/* The thin layer below, same results as the system calls (-1 and errno). */
int io_open(const char *path, int flags, mode_t mode);
ssize_t io_read(int fd, void *data, size_t n);
ssize_t io_write(int fd, const void *data, size_t n);
int io_sync(int fd);
int io_close(int fd);
int io_rename(const char *from, const char *to);
int io_unlink(const char *path);

/* Tests: the n-th call from now fails with `code`, once or from then on; n = 0: never. */
void io_fail_at(unsigned long n, int code, bool from_then_on);
unsigned long io_count(void);
