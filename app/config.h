/*
 * Options. config.def is the table; this is its C form: a struct with a field per option, and what
 * fills it: defaults < system config.yaml < the user's < environment < flags. Every value is
 * checked against its row, and a wrong one is named with the place it stands at.
 *
 *   config_open -> fields are read anywhere, config_set() from /set -> config_release
 */
#pragma once

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strings {
    char **items;
    size_t n;
};

/* What the types of config.def are in C. */
#define CONFIG_BOOL   bool
#define CONFIG_INT    int64_t
#define CONFIG_FLOAT  double
#define CONFIG_STRING char * /* NULL: unset */
#define CONFIG_ENUM   int
#define CONFIG_SIZE   uint64_t
#define CONFIG_PATH   char * /* "~/" is replaced; NULL: unset */
#define CONFIG_LIST   struct strings
#define CONFIG_COLOR  int /* of a palette of 256, or COLOR_RGB | 0xRRGGBB, or COLOR_NONE */

/* Values of the ENUM options, in the order of their choices. config->think is enum thinking. */
enum key_mode { KEYS_EMACS, KEYS_VI };
enum color_mode { COLORS_AUTO, COLORS_ALWAYS, COLORS_NEVER };
enum interface_language { LANGUAGE_AUTO, LANGUAGE_EN, LANGUAGE_ZH };
enum ambiguous_width { WIDTH_AUTO, WIDTH_NARROW, WIDTH_WIDE };
enum { COLOR_NONE = -1, COLOR_RGB = 1 << 24 };
enum theme { THEME_AUTO, THEME_DARK, THEME_LIGHT, THEME_MONO };

enum option_id {
#define OPTION(field, ...) OPTION_##field,
#include "app/config.def"
#undef OPTION
    N_OPTIONS
};

struct config {
#define OPTION(field, name, type, ...) CONFIG_##type field;
#include "app/config.def"
#undef OPTION
    bool is_set[N_OPTIONS];   /* false: the field is 0, NULL or empty and means "unset" */
    char *from[N_OPTIONS];    /* "default", "/etc/…/config.yaml:12", "QWEN_CHAT_SEED", "--seed" */
    struct strings arguments; /* what is no flag: a subcommand and its operands */
    struct strings warnings;  /* sentences to show once */
    /* XDG folders of the program, made when first written to; NULL where there is no home. */
    char *config_folder, *data_folder, *state_folder, *cache_folder;
    char *conversations_folder; /* below data_folder */
    char *home;
    char *term;   /* TERM; NULL where it is not set */
    char *editor; /* VISUAL or EDITOR, or NULL */
};

/* Everything in its order; argv as main() has it. ERR_USAGE with file:line:column where a file is
 * wrong. Strings are copied. */
int config_open(struct config *c, int argc, char **argv, struct err *err);
void config_release(struct config *c);

static inline bool config_is_set(const struct config *c, enum option_id id) {
    return c->is_set[id];
}

/* --- the table --- */

enum option_type {
    TYPE_BOOL,
    TYPE_INT,
    TYPE_FLOAT,
    TYPE_STRING,
    TYPE_ENUM,
    TYPE_SIZE,
    TYPE_PATH,
    TYPE_LIST,
    TYPE_COLOR,
};
enum option_applies { APPLIES_NOW, APPLIES_START };

struct option_info {
    const char *field;
    const char *name; /* "sampling.top_k"; no dot: on the command line only */
    enum option_type type;
    const char *fallback; /* NULL: unset */
    bool has_range;
    double min, max;
    const char *choices; /* "a|b" or NULL */
    const char *unit;
    char flag;             /* 'm' or 0 */
    const char *flag_name; /* "model" or NULL */
    const char *argument;  /* "PATH"; NULL: a switch; "[ID]": may be left out */
    enum option_applies applies;
    const char *help;
    size_t offset; /* of the field in struct config */
};
extern const struct option_info option_table[N_OPTIONS];

bool option_is_in_file(const struct option_info *option); /* has a place in config.yaml */
void option_environment(const struct option_info *option, struct buf *out); /* its variable */

/* By path, field or long flag ("sampling.top_k", "top_k", "top-k"); -1: none, then *nearest is the
 * name that is closest, or NULL. Only options of config.yaml are found. */
int config_find(const char *name, const char **nearest);

/* --- one value --- */

/* Reads `text` as the option's type, wholly: "0.7x", "010", "1e400", "yes" are refused (ERR_USAGE;
 * the option is then as it was). A LIST is emptied and gets one item. */
int config_set(struct config *c, enum option_id id, const char *text, const char *from,
               struct err *err);
int config_add(struct config *c, enum option_id id, const char *item, const char *from,
               struct err *err); /* LIST */
void config_print_value(const struct config *c, enum option_id id, struct buf *out);

/* The first 16 colours of the palette: "black" … "white", then the bright ones. */
extern const char *const config_color_names[16];

/* Back to the default of the table. */
int config_unset(struct config *c, enum option_id id, const char *from, struct err *err);

/* --- the layers, one by one (config_open calls them in this order) --- */

int config_defaults(struct config *c, struct err *err);
int config_read_yaml(struct config *c, const char *text, size_t n, const char *file,
                     struct err *err);
int config_read_flags(struct config *c, int argc, char **argv, struct err *err);

/* --- back into config.yaml --- */

/* The file with the option `name` set to `value`, as a YAML scalar; every other byte as it was. */
int config_edit_yaml(const char *text, size_t n, const char *name, const char *value,
                     struct buf *out, struct err *err);
/* Writes the option's value into the user's config.yaml, whose path goes to `path`. */
int config_write(const struct config *c, enum option_id id, struct buf *path, struct err *err);

/* --- texts made from the table --- */

void config_print_help(struct buf *out);                        /* --help: flags */
void config_print_yaml(struct buf *out);                        /* config.yaml as it is shipped */
void config_print_all(const struct config *c, struct buf *out); /* --show-config */

/* "~/x" with the home folder; mem_free(). NULL: out of memory. */
char *config_expand_path(const struct config *c, const char *path);

/* The model to open: config->model, else the first one in the `models` folder below data_folder
 * (where app/start puts the starter). ERR_MODEL when there is none. mem_free(). */
int config_find_model(const struct config *c, char **out, struct err *err);

/* Edit distance (insert, delete, replace, swap) of two short names, for "did you mean". */
int name_distance(const char *a, const char *b);
/* The nearest of n names if it is near enough to be meant, else NULL. */
const char *name_nearest(const char *name, const char *const *names, size_t n);

int strings_add(struct strings *s, const char *text, struct err *err);
void strings_release(struct strings *s);
