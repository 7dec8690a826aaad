/*
 * Files, and the guard of mapped ones: a page of a map that cannot be read raises SIGBUS; the
 * handler puts a zero page in its place and marks the map as failed, so the computation goes on to
 * a point where it can say so. A SIGBUS anywhere else takes its normal course.
 */
#include "engine/base/io.h"

#include "engine/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- faults on demand ------------------------------------------------------------------------ */

static atomic_ulong n_calls;
static atomic_ulong fail_at;
static atomic_int fail_code;
static atomic_bool fail_on;

static bool must_fail(void) {
    unsigned long call = atomic_fetch_add(&n_calls, 1) + 1;
    unsigned long at = atomic_load(&fail_at);
    if (!at || call < at || (call > at && !atomic_load(&fail_on))) return false;
    errno = atomic_load(&fail_code);
    return true;
}

void io_fail_at(unsigned long n, int code, bool from_then_on) {
    atomic_store(&fail_code, code);
    atomic_store(&fail_on, from_then_on);
    atomic_store(&fail_at, n ? atomic_load(&n_calls) + n : 0);
}

unsigned long io_count(void) {
    return atomic_load(&n_calls);
}

/* --- the thin layer -------------------------------------------------------------------------- */

int io_open(const char *path, int flags, mode_t mode) {
    return must_fail() ? -1 : open(path, flags | O_CLOEXEC, mode);
}

ssize_t io_read(int fd, void *data, size_t n) {
    if (must_fail()) return -1;
    ssize_t got;
    do got = read(fd, data, n);
    while (got < 0 && errno == EINTR);
    return got;
}

ssize_t io_write(int fd, const void *data, size_t n) {
    if (must_fail()) return -1;
    ssize_t put;
    do put = write(fd, data, n);
    while (put < 0 && errno == EINTR);
    return put;
}

int io_sync(int fd) {
    return must_fail() ? -1 : fdatasync(fd);
}

int io_close(int fd) {
    bool fails = must_fail();
    int code = errno;
    int result = close(fd);
    if (!fails) return result;
    errno = code;
    return -1;
}

int io_rename(const char *from, const char *to) {
    return must_fail() ? -1 : rename(from, to);
}

int io_unlink(const char *path) {
    return must_fail() ? -1 : unlink(path);
}

/* --- whole files ----------------------------------------------------------------------------- */

/* O_NONBLOCK: opening a FIFO must not hang; it is refused by its kind afterwards. */
static int open_regular(const char *path, size_t *size, struct err *err) {
    struct stat st;
    int fd = io_open(path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) return err_set(err, ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        io_close(fd);
        return err_set(err, ERR_IO, "%s: is %s, a regular file is needed", path,
                       S_ISDIR(st.st_mode) ? "a folder" : "a device, pipe or socket");
    }
    *size = (size_t)st.st_size;
    return fd;
}

static int read_all(int fd, const char *path, size_t size, struct buf *out, struct err *err) {
    char chunk[65536];
    size_t left = size;
    while (left > 0) {
        ssize_t got = io_read(fd, chunk, left < sizeof chunk ? left : sizeof chunk);
        if (got < 0) return err_set(err, ERR_IO, "%s: cannot read: %s", path, strerror(errno));
        if (got == 0) return err_set(err, ERR_IO, "%s: ended %zu bytes early", path, left);
        buf_add(out, chunk, (size_t)got);
        left -= (size_t)got;
    }
    buf_add(out, "", 0); /* an empty file gives "" */
    return out->failed ? err_memory(err, size, path) : 0;
}

int io_read_file(const char *path, size_t max_bytes, struct buf *out, struct err *err) {
    size_t size = 0;
    int fd = open_regular(path, &size, err);
    if (fd < 0) return -1;
    int result = size > max_bytes ? err_set(err, ERR_IO, "%s: has %zu bytes, at most %zu are read",
                                            path, size, max_bytes)
                                  : read_all(fd, path, size, out, err);
    io_close(fd);
    return result;
}

/* Everything, over as many writes as it takes. */
static int write_all(int fd, const void *data, size_t n) {
    const char *at = data;
    while (n > 0) {
        ssize_t put = io_write(fd, at, n);
        if (put < 0) return -1;
        at += put;
        n -= (size_t)put;
    }
    return 0;
}

/* A rename is kept over a power cut once its folder is synced. */
static void sync_folder_of(const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (n >= sizeof folder) return;
    memcpy(folder, path, n);
    folder[n] = '\0';
    int fd = io_open(slash ? (n ? folder : "/") : ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return;
    io_sync(fd);
    io_close(fd);
}

int io_write_atomic(const char *path, mode_t mode, const void *data, size_t n, struct err *err) {
    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid()) >=
        (int)sizeof temporary)
        return err_set(err, ERR_IO, "%s: the path is too long", path);
    io_unlink(temporary); /* left over from a process with this number that was killed */
    int fd = io_open(temporary, O_WRONLY | O_CREAT | O_EXCL, mode);
    if (fd < 0) return err_set(err, ERR_IO, "%s: cannot create: %s", temporary, strerror(errno));
    bool written = write_all(fd, data, n) == 0 && io_sync(fd) == 0;
    int code = errno;
    if (io_close(fd) != 0 && written) {
        written = false;
        code = errno;
    }
    if (written && io_rename(temporary, path) == 0) {
        sync_folder_of(path);
        return 0;
    }
    if (written) code = errno;
    unlink(temporary);
    return err_set(err, ERR_IO, "%s: cannot write: %s", path, strerror(code));
}

int io_append_open(const char *path, mode_t mode, int *fd, struct err *err) {
    *fd = io_open(path, O_RDWR | O_CREAT | O_APPEND, mode);
    if (*fd < 0) return err_set(err, ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    return 0;
}

int io_append(int fd, const void *data, size_t n, struct err *err) {
    if (write_all(fd, data, n) == 0 && io_sync(fd) == 0) return 0;
    return err_set(err, ERR_IO, "cannot write: %s", strerror(errno));
}

int io_make_folders(const char *path, mode_t mode, struct err *err) {
    char part[4096];
    size_t n = strlen(path);
    if (n >= sizeof part) return err_set(err, ERR_IO, "%s: the path is too long", path);
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (must_fail() || (mkdir(part, mode) != 0 && errno != EEXIST && !io_is_folder(part)))
            return err_set(err, ERR_IO, "%s: cannot create the folder: %s", part, strerror(errno));
    }
    return 0;
}

bool io_exists(const char *path) {
    struct stat st;
    return stat(path, &st) == 0;
}

bool io_is_folder(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* --- maps ------------------------------------------------------------------------------------ */

/* Of so many maps the file stays open: others are copied from as memory. */
enum { MAX_MAPS = 4096, MAX_OPEN_MAPS = 256 };

/* Read by the signal handler, so plain atomics; `base` is 0 while a slot is free. */
static struct {
    atomic_uintptr_t base;
    atomic_size_t size;
    atomic_bool failed;
    atomic_int fd; /* or -1 */
} maps[MAX_MAPS];
static pthread_mutex_t maps_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction former_action;

static void on_sigbus(int signal, siginfo_t *info, void *context) {
    (void)context;
    uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t page = (uintptr_t)info->si_addr & ~(page_bytes - 1);
    for (int i = 0; i < MAX_MAPS; i++) {
        uintptr_t base = atomic_load(&maps[i].base);
        if (!base || page < base || page - base >= atomic_load(&maps[i].size)) continue;
        atomic_store(&maps[i].failed, true);
        /* mmap is not on POSIX's list for handlers, but on Linux it is a bare system call */
        void *zeros = mmap((void *)page, page_bytes, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (zeros != MAP_FAILED) return;
    }
    sigaction(signal, &former_action, NULL);
}

/* The slot of a new map, or -1; it takes the file. */
static int guard(const void *base, size_t size, int fd) {
    static bool is_installed;
    int slot = -1;
    pthread_mutex_lock(&maps_lock);
    if (!is_installed) {
        struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};
        is_installed = sigaction(SIGBUS, &action, &former_action) == 0;
    }
    for (int i = 0; is_installed && i < MAX_MAPS && slot < 0; i++) {
        if (atomic_load(&maps[i].base)) continue;
        atomic_store(&maps[i].failed, false);
        atomic_store(&maps[i].size, size);
        atomic_store(&maps[i].fd, i < MAX_OPEN_MAPS ? fd : -1);
        atomic_store(&maps[i].base, (uintptr_t)base);
        slot = i;
    }
    pthread_mutex_unlock(&maps_lock);
    if (slot < 0 || slot >= MAX_OPEN_MAPS) io_close(fd);
    return slot;
}

int io_map_open(struct io_map *map, const char *path, struct err *err) {
    *map = (struct io_map){.slot = -1};
    int fd = open_regular(path, &map->size, err);
    if (fd < 0) return -1;
    if (map->size == 0) {
        io_close(fd);
        return 0;
    }
    void *base = must_fail() ? MAP_FAILED : mmap(NULL, map->size, PROT_READ, MAP_SHARED, fd, 0);
    int code = errno;
    if (base == MAP_FAILED) {
        io_close(fd);
        return err_set(err, ERR_IO, "%s: cannot map: %s", path, strerror(code));
    }
    map->slot = guard(base, map->size, fd);
    if (map->slot < 0) {
        munmap(base, map->size);
        return err_set(err, ERR_IO, "%s: too many files are mapped", path);
    }
    map->data = base;
    return 0;
}

void io_map_close(struct io_map *map) {
    if (map->data) {
        if (maps[map->slot].fd >= 0) io_close(maps[map->slot].fd);
        atomic_store(&maps[map->slot].base, 0);
        munmap((void *)(uintptr_t)map->data, map->size);
    }
    *map = (struct io_map){.slot = -1};
}

bool io_map_failed(const struct io_map *map) {
    return map->data && atomic_load(&maps[map->slot].failed);
}

/* What cannot be read is copied as memory after all: then the guard above tells of it. */
void io_map_copy(void *to, const void *from, size_t bytes) {
    const uintptr_t at = (uintptr_t)from;
    size_t done = 0;
    for (int i = 0; i < MAX_OPEN_MAPS; i++) {
        const uintptr_t base = atomic_load(&maps[i].base);
        if (!base || at < base || at - base >= atomic_load(&maps[i].size)) continue;
        const int fd = atomic_load(&maps[i].fd);
        for (ssize_t n = 1; n > 0 && done<bytes; done += n> 0 ? (size_t)n : 0)
            n = pread(fd, (char *)to + done, bytes - done, (off_t)(at - base + done));
        break;
    }
    if (done < bytes) memcpy((char *)to + done, (const char *)from + done, bytes - done);
}

void io_map_drop(const void *at, size_t bytes) {
    uintptr_t page_bytes = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)at + page_bytes - 1) & ~(page_bytes - 1);
    uintptr_t to = ((uintptr_t)at + bytes) & ~(page_bytes - 1);
    if (from < to) madvise((void *)from, to - from, MADV_DONTNEED);
}
