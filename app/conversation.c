/*
 * The tree and its file. A change is made in memory first, then its record goes into `unsaved` and
 * from there to the file in one write: what could not be written stays there and is tried again.
 */
#include "app/conversation.h"

#include "app/journal.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/utf8.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TITLE_CHARACTERS = 60 };
static const char ending[] = ".jsonl";

/* --- turns ------------------------------------------------------------------------------------ */

void turn_release(struct turn *turn) {
    mem_free(turn->content);
    mem_free(turn->reasoning);
    mem_free(turn->model);
    mem_free(turn->tokenizer);
    tokens_release(&turn->tokens);
    *turn = (struct turn){0};
}

int conversation_put(struct conversation *c, struct turn *turn, struct err *err) {
    if (mem_grow((void **)&c->turns, &c->capacity, c->n_turns + 1, sizeof *c->turns) != 0)
        return err_memory(err, (c->n_turns + 1) * sizeof *c->turns, "the conversation");
    c->turns[c->n_turns++] = *turn;
    c->leaf = turn->id;
    return 0;
}

const struct turn *conversation_turn(const struct conversation *c, uint64_t id) {
    size_t low = 0, high = c->n_turns; /* ids rise */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c->turns[middle].id == id) return &c->turns[middle];
        if (c->turns[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

int conversation_branch(const struct conversation *c, const struct turn ***out, size_t *n,
                        struct err *err) {
    size_t depth = 0;
    for (const struct turn *t = conversation_turn(c, c->leaf); t; depth++)
        t = conversation_turn(c, t->parent);
    const struct turn **branch = mem_zalloc(depth + 1, sizeof *branch);
    if (!branch) return err_memory(err, depth * sizeof *branch, "the branch");
    size_t at = depth;
    for (const struct turn *t = conversation_turn(c, c->leaf); t;
         t = conversation_turn(c, t->parent))
        branch[--at] = t;
    *out = branch;
    *n = depth;
    return 0;
}

/* A copy that is UTF-8 in any case: what is not would make its record unreadable. */
static int copy_text(char **out, const char *text, struct err *err) {
    struct buf clean = {0};
    size_t n = text ? strlen(text) : 0;
    *out = NULL;
    if (!text) return 0;
    if (utf8_valid(text, n)) {
        *out = mem_strdup(text);
        return *out ? 0 : err_memory(err, n, "a message");
    }
    for (size_t i = 0; i < n;) {
        uint32_t code_point;
        i += utf8_decode(text + i, n - i, &code_point);
        buf_put_utf8(&clean, code_point == UTF8_BAD ? 0xFFFD : code_point);
    }
    if (clean.failed) {
        buf_release(&clean);
        return err_memory(err, n, "a message");
    }
    *out = clean.data;
    return 0;
}

static int copy_turn(struct turn *out, const struct turn *turn, struct err *err) {
    *out =
        (struct turn){.role = turn->role, .unix_ms = turn->unix_ms, .is_partial = turn->is_partial};
    int result = copy_text(&out->content, turn->content ? turn->content : "", err) != 0 ||
                         copy_text(&out->reasoning, turn->reasoning, err) != 0 ||
                         copy_text(&out->model, turn->model, err) != 0 ||
                         copy_text(&out->tokenizer, turn->tokenizer, err) != 0
                     ? -1
                     : 0;
    for (size_t i = 0; i < turn->tokens.n && result == 0; i++)
        result = tokens_add(&out->tokens, turn->tokens.ids[i], err);
    if (result != 0) turn_release(out);
    return result;
}

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- the file --------------------------------------------------------------------------------- */

static void print_path(const struct conversation *c, const char *id, struct buf *out) {
    buf_printf(out, "%s/%s%s", c->folder, id, ending);
}

static void make_id(struct conversation *c) {
    unsigned short random = 0;
    time_t now = time(NULL);
    struct tm local;
    char stamp[20];
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0) random = (unsigned short)getpid();
    localtime_r(&now, &local);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &local);
    snprintf(c->id, sizeof c->id, "%s-%04x", stamp, random);
}

/* The file of a conversation that has none yet. */
static int create_file(struct conversation *c, struct err *err) {
    struct buf path = {0};
    if (io_make_folders(c->folder, 0700, err) != 0) return -1;
    for (int tries = 0; tries < 100; tries++) { /* an id that is taken is not used again */
        buf_clear(&path);
        print_path(c, c->id, &path);
        if (path.failed || !io_exists(path.data)) break;
        make_id(c);
    }
    int result = path.failed ? err_memory(err, strlen(c->folder), "a path")
                             : io_append_open(path.data, 0600, &c->fd, err);
    if (result == 0) flock(c->fd, LOCK_EX | LOCK_NB);
    buf_release(&path);
    return result;
}

/* Writes what is not written yet; a file appears with the first turn. */
static int save(struct conversation *c, struct err *err) {
    struct stat st;
    if (!c->folder) buf_clear(&c->unsaved);
    if (!c->folder || !c->n_turns) return 0;
    if (c->unsaved.failed) return err_memory(err, c->unsaved.n, "the journal's records");
    if (!c->unsaved.n) return 0;
    if (c->fd < 0 && create_file(c, err) != 0) return -1;
    /* a write that failed half way has left a piece of a record */
    bool has_rest = fstat(c->fd, &st) == 0 && st.st_size > c->file_bytes;
    if (has_rest && ftruncate(c->fd, c->file_bytes) != 0)
        return err_set(err, ERR_IO, "%s%s: %s", c->id, ending, strerror(errno));
    if (io_append(c->fd, c->unsaved.data, c->unsaved.n, err) != 0)
        return err_within(err, "%s%s", c->id, ending);
    c->file_bytes += (int64_t)c->unsaved.n;
    buf_clear(&c->unsaved);
    return 0;
}

/* From here on another file, which the next turn begins with all that was said. */
static void go_on_in_copy(struct conversation *c, const char *why) {
    snprintf(c->notice, sizeof c->notice, "%s %s: it goes on in a copy", c->id, why);
    if (c->fd >= 0) io_close(c->fd);
    c->fd = -1;
    c->file_bytes = 0;
    buf_clear(&c->unsaved);
    make_id(c);
    journal_print_all(c, &c->unsaved);
}

/* --- opening and closing ---------------------------------------------------------------------- */

int conversation_new(struct conversation *c, const char *folder, struct err *err) {
    *c = (struct conversation){.fd = -1};
    make_id(c);
    if (!folder) return 0;
    c->folder = mem_strdup(folder);
    return c->folder ? 0 : err_memory(err, strlen(folder), "a folder's name");
}

void conversation_release(struct conversation *c) {
    for (size_t i = 0; i < c->n_turns; i++) turn_release(&c->turns[i]);
    mem_free(c->turns);
    mem_free(c->title);
    mem_free(c->system);
    mem_free(c->folder);
    buf_release(&c->unsaved);
    if (c->fd >= 0) io_close(c->fd);
    *c = (struct conversation){.fd = -1};
}

/* The id of the file name, if it is a journal's. */
static bool take_id(const char *name, char id[32]) {
    size_t n = strlen(name), n_ending = sizeof ending - 1;
    if (n <= n_ending || n - n_ending >= 32 || strcmp(name + n - n_ending, ending) != 0)
        return false;
    memcpy(id, name, n - n_ending);
    id[n - n_ending] = '\0';
    return true;
}

static int64_t changed_ns(const struct conversation *c, const char *id) {
    struct buf path = {0};
    struct stat st;
    int64_t when = -1;
    print_path(c, id, &path);
    if (!path.failed && stat(path.data, &st) == 0)
        when = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    buf_release(&path);
    return when;
}

/* The one whose id begins with `wanted` and that was changed last. */
static int find_id(struct conversation *c, const char *wanted, struct err *err) {
    DIR *folder = opendir(c->folder);
    char id[32], best[32] = "";
    int64_t best_ns = -1;
    size_t n_found = 0, n_wanted = strlen(wanted);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        if (!take_id(entry->d_name, id) || strncmp(id, wanted, n_wanted) != 0) continue;
        int64_t ns = changed_ns(c, id);
        n_found++;
        if (ns < best_ns || (ns == best_ns && strcmp(id, best) < 0)) continue;
        best_ns = ns;
        memcpy(best, id, sizeof best);
    }
    if (folder) closedir(folder);
    if (!n_found)
        return *wanted ? err_set(err, ERR_IO, "%s: no conversation begins so", wanted)
                       : err_set(err, ERR_IO, "there is no conversation to go on with");
    if (n_found > 1 && *wanted)
        return err_set(err, ERR_IO, "%s: %zu conversations begin so; give more of the id", wanted,
                       n_found);
    memcpy(c->id, best, sizeof c->id);
    return 0;
}

static int read_journal(struct conversation *c, const char *path, struct journal_result *result,
                        struct err *err) {
    struct buf text = {0};
    int status = io_read_file(path, JOURNAL_MAX_BYTES, &text, err);
    if (status == 0) status = journal_read(c, text.data, text.n, result, err);
    buf_release(&text);
    return status;
}

static int open_journal(struct conversation *c, const char *path, struct err *err) {
    struct journal_result result;
    struct err ignored;
    struct stat st;
    const char *obstacle = NULL;
    /* the lock comes before reading, so that nobody appends in between */
    if (io_append_open(path, 0600, &c->fd, &ignored) != 0)
        obstacle = "cannot be written";
    else if (flock(c->fd, LOCK_EX | LOCK_NB) != 0)
        obstacle = "is in use by another qwen-chat";
    if (read_journal(c, path, &result, err) != 0) return -1;
    if (result.is_newer) obstacle = "was written by a newer qwen-chat";
    if (c->n_damaged)
        snprintf(c->notice, sizeof c->notice,
                 "%s: %zu damaged records were skipped; the file is kept", c->id, c->n_damaged);
    c->file_bytes = (int64_t)result.whole_bytes;
    if (!obstacle && fstat(c->fd, &st) == 0 && st.st_size > c->file_bytes &&
        ftruncate(c->fd, c->file_bytes) != 0)
        obstacle = "cannot be written";
    if (obstacle) go_on_in_copy(c, obstacle);
    return 0;
}

int conversation_open(struct conversation *c, const char *folder, const char *id, struct err *err) {
    struct buf path = {0};
    if (conversation_new(c, folder, err) != 0) return -1;
    int result = folder ? find_id(c, id, err) : err_set(err, ERR_IO, "no conversations are kept");
    if (result == 0) {
        print_path(c, c->id, &path);
        result = path.failed ? err_memory(err, strlen(folder), "a path")
                             : open_journal(c, path.data, err);
    }
    buf_release(&path);
    if (result != 0) conversation_release(c);
    return result;
}

/* --- changes ---------------------------------------------------------------------------------- */

/* The beginning of the first message, on one line. */
static int title_from(struct conversation *c, const char *text, struct err *err) {
    struct buf title = {0};
    size_t n = strlen(text), i = strspn(text, " \t\r\n");
    for (int shown = 0; i < n && shown < TITLE_CHARACTERS; shown++) {
        uint32_t code_point;
        i += utf8_decode(text + i, n - i, &code_point);
        buf_put_utf8(&title, code_point < ' ' ? ' ' : code_point);
    }
    if (i < n) buf_puts(&title, "…");
    if (!title.n || title.failed) {
        buf_release(&title);
        return n && title.failed ? err_memory(err, TITLE_CHARACTERS, "a title") : 0;
    }
    c->title = title.data;
    journal_print_text("title", c->title, &c->unsaved);
    return 0;
}

int conversation_add(struct conversation *c, const struct turn *turn, struct err *err) {
    struct turn copy;
    if (copy_turn(&copy, turn, err) != 0) return -1;
    copy.id = c->n_turns ? c->turns[c->n_turns - 1].id + 1 : 1;
    copy.parent = c->leaf;
    if (!copy.unix_ms) copy.unix_ms = now_ms();
    bool needs_title = !c->title && copy.role == ROLE_USER;
    if ((needs_title && title_from(c, copy.content, err) != 0) ||
        conversation_put(c, &copy, err) != 0) {
        turn_release(&copy);
        return -1;
    }
    journal_print_turn(&copy, &c->unsaved);
    return save(c, err);
}

int conversation_move(struct conversation *c, uint64_t leaf, struct err *err) {
    if (leaf && !conversation_turn(c, leaf)) bug("no turn %llu", (unsigned long long)leaf);
    c->leaf = leaf;
    journal_print_leaf(leaf, &c->unsaved);
    return save(c, err);
}

static int set_text(struct conversation *c, char **field, const char *kind, const char *text,
                    struct err *err) {
    char *copy;
    if (copy_text(&copy, text, err) != 0) return -1;
    mem_free(*field);
    *field = copy;
    journal_print_text(kind, copy, &c->unsaved);
    return save(c, err);
}

int conversation_set_system(struct conversation *c, const char *system, struct err *err) {
    return set_text(c, &c->system, "system", system, err);
}

int conversation_set_title(struct conversation *c, const char *title, struct err *err) {
    return set_text(c, &c->title, "title", title, err);
}

/* --- lists ------------------------------------------------------------------------------------ */

static int compare_entries(const void *a, const void *b) {
    const struct conversation_entry *x = a, *y = b;
    if (x->unix_ms != y->unix_ms) return x->unix_ms < y->unix_ms ? 1 : -1;
    return strcmp(y->id, x->id);
}

static void fill_entry(const char *folder, struct conversation_entry *entry) {
    struct buf path = {0}, text = {0};
    struct stat st;
    buf_printf(&path, "%s/%s%s", folder, entry->id, ending);
    if (!path.failed && stat(path.data, &st) == 0)
        entry->unix_ms = (int64_t)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000;
    if (!path.failed && io_read_file(path.data, JOURNAL_MAX_BYTES, &text, NULL) == 0)
        entry->n_turns = journal_summary(text.data, text.n, &entry->title);
    buf_release(&text);
    buf_release(&path);
}

int conversation_list(const char *folder, struct conversation_entry **out, size_t *n,
                      struct err *err) {
    struct conversation_entry *entries = NULL;
    size_t capacity = 0;
    DIR *open = opendir(folder);
    *n = 0;
    *out = NULL;
    for (struct dirent *found; open && (found = readdir(open));) {
        struct conversation_entry entry = {0};
        if (!take_id(found->d_name, entry.id)) continue;
        if (mem_grow((void **)&entries, &capacity, *n + 1, sizeof *entries) != 0) {
            closedir(open);
            conversation_list_free(entries, *n);
            return err_memory(err, (*n + 1) * sizeof *entries, "the list of conversations");
        }
        fill_entry(folder, &entry);
        entries[(*n)++] = entry;
    }
    if (open) closedir(open);
    if (*n) qsort(entries, *n, sizeof *entries, compare_entries);
    *out = entries;
    return 0;
}

void conversation_list_free(struct conversation_entry *entries, size_t n) {
    for (size_t i = 0; i < n; i++) mem_free(entries[i].title);
    mem_free(entries);
}
