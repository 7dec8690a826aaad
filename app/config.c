/*
 * The layers of the configuration in their order, the folders of the XDG Base Directory
 * Specification 0.8, and the environment: no other file of the program asks it for options.
 */
#include "app/config.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_CONFIG_BYTES = 1 << 20 };

/* --- lists of strings, names ------------------------------------------------------------------ */

int strings_add(struct strings *s, const char *text, struct err *err) {
    char **items = mem_resize(s->items, s->n + 1, sizeof *items);
    char *copy = mem_strdup(text);
    if (items) s->items = items;
    if (!items || !copy) {
        mem_free(copy);
        return err_memory(err, strlen(text), "a list of texts");
    }
    s->items[s->n++] = copy;
    return 0;
}

void strings_release(struct strings *s) {
    for (size_t i = 0; i < s->n; i++) mem_free(s->items[i]);
    mem_free(s->items);
    *s = (struct strings){0};
}

static int least(int a, int b) {
    return a < b ? a : b;
}

/* Damerau's distance in the restricted form (optimal string alignment), over three rows. */
int name_distance(const char *a, const char *b) {
    enum { LONGEST = 63 };
    int rows[3][LONGEST + 1];
    int n = (int)strnlen(a, LONGEST + 1), m = (int)strnlen(b, LONGEST + 1);
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (int j = 0; j <= m; j++) rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *row = rows[i % 3], *above = rows[(i + 2) % 3], *before = rows[(i + 1) % 3];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            row[j] =
                least(least(above[j] + 1, row[j - 1] + 1), above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

const char *name_nearest(const char *name, const char *const *names, size_t n) {
    const char *nearest = NULL;
    int best = (int)strnlen(name, 64) / 3 + 2; /* further away is not a slip of the fingers */
    for (size_t i = 0; i < n; i++) {
        int distance = name_distance(name, names[i]);
        if (distance >= best) continue;
        best = distance;
        nearest = names[i];
    }
    return nearest;
}

bool option_is_in_file(const struct option_info *option) {
    return strchr(option->name, '.') != NULL;
}

void option_environment(const struct option_info *option, struct buf *out) {
    buf_puts(out, "QWEN_CHAT_");
    for (const char *c = option->field; *c; c++) buf_putc(out, (char)toupper((unsigned char)*c));
}

static bool is_name_of(const struct option_info *o, const char *name) {
    return strcmp(name, o->name) == 0 || strcmp(name, o->field) == 0 ||
           strcmp(name, strchr(o->name, '.') + 1) == 0 ||
           (o->flag_name && strcmp(name, o->flag_name) == 0);
}

int config_find(const char *name, const char **nearest) {
    const char *names[N_OPTIONS * 3];
    size_t n = 0;
    for (int id = 0; id < N_OPTIONS; id++) {
        const struct option_info *o = &option_table[id];
        if (!option_is_in_file(o)) continue;
        if (is_name_of(o, name)) return id;
        names[n++] = o->name;
        names[n++] = o->field;
        if (o->flag_name) names[n++] = o->flag_name;
    }
    if (nearest) *nearest = name_nearest(name, names, n);
    return -1;
}

/* --- folders ---------------------------------------------------------------------------------- */

static char *join(const char *a, const char *b) {
    struct buf path = {0};
    buf_puts(&path, a);
    buf_puts(&path, b);
    if (!path.failed) return path.data;
    buf_release(&path);
    return NULL;
}

char *config_expand_path(const struct config *c, const char *path) {
    if (c->home && path[0] == '~' && (path[1] == '/' || path[1] == '\0'))
        return join(c->home, path + 1);
    return mem_strdup(path);
}

/* "$XDG_…/qwen-chat", else "$HOME/<standard>/qwen-chat"; relative paths count as unset. */
static int find_folder(const struct config *c, const char *variable, const char *standard,
                       char **out, struct err *err) {
    const char *base = getenv(variable);
    char *folder = NULL;
    if (base && base[0] == '/') {
        folder = join(base, "/qwen-chat");
    } else if (c->home) {
        char *parent = join(c->home, standard);
        folder = parent ? join(parent, "/qwen-chat") : NULL;
        mem_free(parent);
    } else {
        return 0;
    }
    *out = folder;
    return folder ? 0 : err_memory(err, 64, "a folder's name");
}

static int find_folders(struct config *c, struct err *err) {
    const char *home = getenv("HOME");
    if (home && home[0] == '/' && !(c->home = mem_strdup(home)))
        return err_memory(err, strlen(home), "the home folder's name");
    const char *term = getenv("TERM");
    if (term && !(c->term = mem_strdup(term))) return err_memory(err, strlen(term), "TERM");
    const char *editor = getenv("VISUAL");
    if (!editor || !*editor) editor = getenv("EDITOR");
    if (editor && *editor && !(c->editor = mem_strdup(editor)))
        return err_memory(err, strlen(editor), "EDITOR");
    if (find_folder(c, "XDG_CONFIG_HOME", "/.config", &c->config_folder, err) != 0 ||
        find_folder(c, "XDG_DATA_HOME", "/.local/share", &c->data_folder, err) != 0 ||
        find_folder(c, "XDG_STATE_HOME", "/.local/state", &c->state_folder, err) != 0 ||
        find_folder(c, "XDG_CACHE_HOME", "/.cache", &c->cache_folder, err) != 0)
        return -1;
    if (!c->data_folder) return 0;
    c->conversations_folder = join(c->data_folder, "/conversations");
    return c->conversations_folder ? 0 : err_memory(err, 64, "a folder's name");
}

static int first_model(const char *folder, char **out, struct err *err) {
    struct dirent **entries = NULL;
    int n = scandir(folder, &entries, NULL, alphasort);
    const char *found = NULL;
    for (int i = 0; i < n && !found; i++) {
        const char *name = entries[i]->d_name;
        size_t length = strlen(name);
        bool is_gguf = length > 5 && strcmp(name + length - 5, ".gguf") == 0;
        if (name[0] != '.' && (is_gguf || entries[i]->d_type == DT_DIR)) found = name;
    }
    struct buf path = {0};
    if (found) buf_printf(&path, "%s/%s", folder, found);
    for (int i = 0; i < n; i++) free(entries[i]);
    free(entries);
    if (path.failed) return err_memory(err, 64, "a path");
    *out = path.data;
    return 0;
}

int config_find_model(const struct config *c, char **out, struct err *err) {
    *out = NULL;
    if (c->model) {
        *out = mem_strdup(c->model);
        return *out ? 0 : err_memory(err, strlen(c->model), "the model's path");
    }
    char *folder = c->data_folder ? join(c->data_folder, "/models") : NULL;
    int result = folder ? first_model(folder, out, err) : 0;
    if (result == 0 && !*out)
        result = err_set(err, ERR_MODEL,
                         "no model: name one with -m PATH, or put one into %s (app/start fetches a "
                         "small one)",
                         folder ? folder : "the folder models of XDG_DATA_HOME/qwen-chat");
    mem_free(folder);
    return result;
}

/* --- layers ----------------------------------------------------------------------------------- */

int config_defaults(struct config *c, struct err *err) {
    for (int id = 0; id < N_OPTIONS; id++)
        if (config_unset(c, (enum option_id)id, "default", err) != 0) return -1;
    return 0;
}

static int warn(struct config *c, const char *file, const char *text, struct err *err) {
    struct buf sentence = {0};
    buf_printf(&sentence, "%s: %s", file, text);
    int result = sentence.failed ? err_memory(err, 64, "a warning")
                                 : strings_add(&c->warnings, sentence.data, err);
    buf_release(&sentence);
    return result;
}

static int read_file(struct config *c, const char *path, struct err *err) {
    struct buf text = {0};
    struct stat st;
    int result = io_read_file(path, MAX_CONFIG_BYTES, &text, err);
    if (result != 0 && err && err->kind == ERR_IO) err->kind = ERR_USAGE;
    if (result == 0) result = config_read_yaml(c, text.data, text.n, path, err);
    buf_release(&text);
    if (result == 0 && stat(path, &st) == 0) {
        if (st.st_mode & S_IWOTH)
            result = warn(c, path, "can be written by every user", err);
        else if (st.st_uid != 0 && st.st_uid != geteuid())
            result = warn(c, path, "belongs to another user", err);
    }
    return result;
}

static int read_if_there(struct config *c, const char *folder, const char *tail, struct err *err) {
    char *path = join(folder, tail);
    if (!path) return err_memory(err, strlen(folder), "a path");
    int result = io_exists(path) ? read_file(c, path, err) : 0;
    mem_free(path);
    return result;
}

/* $XDG_CONFIG_DIRS, the most important folder first, so read from its end. */
static int read_system_files(struct config *c, struct err *err) {
    const char *value = getenv("XDG_CONFIG_DIRS");
    char *folders = mem_strdup(value && *value ? value : "/etc/xdg");
    if (!folders) return err_memory(err, 64, "the folders of the system's configuration");
    int result = 0;
    for (char *folder; result == 0; *folder = '\0') {
        char *colon = strrchr(folders, ':');
        folder = colon ? colon : folders;
        const char *name = colon ? colon + 1 : folders;
        if (name[0] == '/') result = read_if_there(c, name, "/qwen-chat/config.yaml", err);
        if (!colon) break;
    }
    mem_free(folders);
    return result;
}

/* Conventions of other programs that stand for an option of ours. */
static int read_shared_environment(struct config *c, struct err *err) {
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    const char *accessible = getenv("ACCESSIBLE");
    if (no_color && *no_color && config_set(c, OPTION_color, "never", "NO_COLOR", err) != 0)
        return -1;
    if (term && strcmp(term, "dumb") == 0 &&
        (config_set(c, OPTION_plain, "true", "TERM", err) != 0 ||
         config_set(c, OPTION_color, "never", "TERM", err) != 0))
        return -1;
    if (accessible && *accessible && strcmp(accessible, "0") != 0)
        return config_set(c, OPTION_plain, "true", "ACCESSIBLE", err);
    return 0;
}

static bool is_variable(const char *name, size_t n) {
    struct buf variable = {0};
    bool found = false;
    for (int id = 0; id < N_OPTIONS && !found; id++) {
        buf_clear(&variable);
        option_environment(&option_table[id], &variable);
        found = option_is_in_file(&option_table[id]) && !variable.failed && variable.n == n &&
                memcmp(variable.data, name, n) == 0;
    }
    buf_release(&variable);
    return found;
}

/* A misspelt variable would do nothing in silence. */
static int warn_of_unknown(struct config *c, struct err *err) {
    for (char **entry = environ; *entry; entry++) {
        char name[64];
        size_t n = strcspn(*entry, "=");
        if (strncmp(*entry, "QWEN_CHAT_", 10) != 0 || is_variable(*entry, n)) continue;
        snprintf(name, sizeof name, "%.*s", (int)(n < 60 ? n : 60), *entry);
        if (warn(c, name, "is the name of no option", err) != 0) return -1;
    }
    return 0;
}

static int read_environment(struct config *c, struct err *err) {
    struct buf variable = {0};
    int result = read_shared_environment(c, err);
    for (int id = 0; id < N_OPTIONS && result == 0; id++) {
        if (!option_is_in_file(&option_table[id])) continue;
        buf_clear(&variable);
        option_environment(&option_table[id], &variable);
        const char *value = variable.failed ? NULL : getenv(variable.data);
        if (variable.failed) result = err_memory(err, 64, "a variable's name");
        if (!value || !*value) continue;
        result = config_set(c, (enum option_id)id, value, variable.data, err);
        if (result != 0) err_within(err, "%s", variable.data);
    }
    buf_release(&variable);
    return result == 0 ? warn_of_unknown(c, err) : -1;
}

static int read_layers(struct config *c, int argc, char **argv, struct err *err) {
    /* flags are read twice: first to find --config, last to win */
    if (find_folders(c, err) != 0 || config_defaults(c, err) != 0 ||
        config_read_flags(c, argc, argv, err) != 0 || read_system_files(c, err) != 0)
        return -1;
    if (c->config_file) {
        if (read_file(c, c->config_file, err) != 0) return -1;
    } else if (c->config_folder && read_if_there(c, c->config_folder, "/config.yaml", err) != 0) {
        return -1;
    }
    if (read_environment(c, err) != 0) return -1;
    strings_release(&c->arguments);
    return config_read_flags(c, argc, argv, err);
}

int config_open(struct config *c, int argc, char **argv, struct err *err) {
    *c = (struct config){0};
    if (read_layers(c, argc, argv, err) == 0) return 0;
    config_release(c);
    return -1;
}

void config_release(struct config *c) {
    for (int id = 0; id < N_OPTIONS; id++) {
        const struct option_info *o = &option_table[id];
        void *field = (char *)c + o->offset;
        if (o->type == TYPE_STRING || o->type == TYPE_PATH) mem_free(*(char **)field);
        if (o->type == TYPE_LIST) strings_release(field);
        mem_free(c->from[id]);
    }
    strings_release(&c->arguments);
    strings_release(&c->warnings);
    mem_free(c->config_folder);
    mem_free(c->data_folder);
    mem_free(c->state_folder);
    mem_free(c->cache_folder);
    mem_free(c->conversations_folder);
    mem_free(c->home);
    mem_free(c->term);
    mem_free(c->editor);
    *c = (struct config){0};
}
