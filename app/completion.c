/*
 * Completion of what is entered: the command's name, or its argument by the kinds that commands.def
 * gives. A word is replaced as a whole; for file names it is all behind the command, so that names
 * with blanks work.
 */
#include "app/chat_internal.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 1000 };

/* What is collected, and what the words must begin with. */
struct finder {
    const struct chat *chat;
    struct chat_completion *out;
    const char *typed;
    size_t n_typed;
    bool failed;
};

static void offer(struct finder *f, const char *prefix, const char *word, size_t n_word) {
    struct buf text = {0};
    struct chat_completion *out = f->out;
    if (f->failed || out->n_words >= MOST_WORDS) return;
    buf_puts(&text, prefix);
    buf_add(&text, word, n_word);
    bool fits =
        !text.failed && text.n >= f->n_typed && memcmp(text.data, f->typed, f->n_typed) == 0;
    char **words = fits ? mem_resize(out->words, out->n_words + 1, sizeof *words) : NULL;
    f->failed = text.failed || (fits && !words);
    if (words) {
        out->words = words;
        out->words[out->n_words++] = text.data;
    } else {
        buf_release(&text);
    }
}

static void offer_word(struct finder *f, const char *word) {
    offer(f, "", word, strlen(word));
}

/* "a|b" */
static void offer_choices(struct finder *f, const char *choices) {
    while (choices && *choices) {
        size_t n = strcspn(choices, "| ");
        offer(f, "", choices, n);
        if (choices[n] != '|') break;
        choices += n + 1;
    }
}

/* --- the kinds -------------------------------------------------------------------------------- */

static void find_commands(struct finder *f, const char *before) {
    (void)before;
    for (int i = 0; i < N_COMMANDS; i++) offer_word(f, command_table[i].name);
}

static void find_options(struct finder *f, const char *before) {
    (void)before;
    for (int id = 0; id < N_OPTIONS; id++) {
        const struct option_info *o = &option_table[id];
        if (!option_is_in_file(o)) continue;
        if (f->n_typed && memchr(f->typed, '.', f->n_typed))
            offer_word(f, o->name);
        else
            offer_word(f, o->field);
    }
}

static void offer_colors(struct finder *f) {
    for (int i = 0; i < 16; i++) offer_word(f, config_color_names[i]);
    offer_word(f, "none");
}

/* `before` is the option's name. */
static void find_values(struct finder *f, const char *before) {
    int id = config_find(before, NULL);
    if (id < 0) return;
    if (option_table[id].type == TYPE_BOOL)
        offer_choices(f, "true|false");
    else if (option_table[id].type == TYPE_COLOR)
        offer_colors(f);
    else if (option_table[id].choices)
        offer_choices(f, option_table[id].choices);
    if (option_table[id].type != TYPE_ENUM) offer_word(f, "default");
}

static void find_conversations(struct finder *f, const char *before) {
    struct conversation_entry *entries;
    const char *folder = f->chat->config->conversations_folder;
    size_t n;
    (void)before;
    offer_word(f, "last");
    if (!folder || conversation_list(folder, &entries, &n, NULL) != 0) return;
    for (size_t i = 0; i < n; i++) offer_word(f, entries[i].id);
    conversation_list_free(entries, n);
}

static int by_name(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Names in the folder that is typed so far; "~/" stays as it was typed. */
static void find_files(struct finder *f, const char *before) {
    struct dirent **entries = NULL;
    char *typed = mem_strndup(f->typed, f->n_typed);
    char *slash = typed ? strrchr(typed, '/') : NULL;
    (void)before;
    if (slash) slash[1] = '\0';
    char *folder = typed ? config_expand_path(f->chat->config, slash ? typed : ".") : NULL;
    int n = folder ? scandir(folder, &entries, NULL, by_name) : 0;
    for (int i = 0; i < n; i++) {
        struct buf name = {0}, path = {0};
        const char *entry = entries[i]->d_name;
        bool is_hidden = entry[0] == '.' && (!slash || f->typed[strlen(typed)] != '.');
        buf_puts(&name, entry);
        buf_printf(&path, "%s/%s", folder, entry);
        if (!path.failed && io_is_folder(path.data)) buf_putc(&name, '/');
        if (!is_hidden && !name.failed && strcmp(entry, ".") != 0 && strcmp(entry, "..") != 0)
            offer(f, slash ? typed : "", name.data, name.n);
        buf_release(&name);
        buf_release(&path);
        free(entries[i]);
    }
    free(entries);
    mem_free(folder);
    mem_free(typed);
}

static void find_system_file(struct finder *f, const char *before) {
    if (f->n_typed && f->typed[0] == '@') {
        f->typed++;
        f->n_typed--;
        f->out->begin++;
        find_files(f, before);
    } else {
        offer_word(f, "off");
    }
}

static const struct {
    const char *name;
    void (*find)(struct finder *f, const char *before);
    bool is_rest; /* the argument is all that follows, blanks included */
} kinds[] = {
    {"command", find_commands, false}, {"option", find_options, false},
    {"value", find_values, false},     {"conversation", find_conversations, false},
    {"file", find_files, true},        {"system", find_system_file, true},
};

/* --- the line --------------------------------------------------------------------------------- */

/* The k-th of words that blanks separate; NULL: there is none. */
static const char *nth_word(const char *words, size_t k) {
    while (k-- > 0) {
        words = strchr(words, ' ');
        if (!words) return NULL;
        words++;
    }
    return *words ? words : NULL;
}

static bool is_word(const char *words, const char *word) {
    size_t n = strlen(word);
    return strncmp(words, word, n) == 0 && (words[n] == '\0' || words[n] == ' ');
}

/* `arguments` is the part of the line behind the command, up to the cursor. */
static void complete_argument(struct finder *f, const struct command *command,
                              const char *arguments, size_t offset) {
    size_t index = 0, begin = 0, end = strlen(arguments), former = 0;
    for (size_t i = 0; i < end; i++) {
        if (arguments[i] != ' ') continue;
        former = begin;
        begin = i + 1;
        index++;
    }
    const char *kind = nth_word(command->completion, 0);
    bool is_rest = false;
    for (size_t k = 0; kind && k < sizeof kinds / sizeof *kinds; k++)
        is_rest |= is_word(kind, kinds[k].name) && kinds[k].is_rest;
    if (is_rest) begin = index = 0;
    kind = nth_word(command->completion, index);
    if (!kind) return;
    f->out->begin = offset + begin;
    f->typed = arguments + begin;
    f->n_typed = end - begin;
    char *before = mem_strndup(arguments + former, begin > former ? begin - former - 1 : 0);
    bool is_known = false;
    for (size_t k = 0; before && k < sizeof kinds / sizeof *kinds && !is_known; k++) {
        is_known = is_word(kind, kinds[k].name);
        if (is_known) kinds[k].find(f, before);
    }
    if (!is_known) offer_choices(f, kind);
    mem_free(before);
}

static void complete_name(struct finder *f, const struct line *line, const char *text) {
    f->out->begin = 0;
    f->typed = text;
    f->n_typed = strlen(text);
    struct buf prefix = {0};
    buf_add(&prefix, text, (size_t)(line->name - text));
    for (int i = 0; i < N_COMMANDS && !prefix.failed; i++)
        offer(f, prefix.data, command_table[i].name, strlen(command_table[i].name));
    buf_release(&prefix);
}

int chat_complete(const struct chat *chat, const char *line, size_t cursor,
                  struct chat_completion *out) {
    *out = (struct chat_completion){.begin = cursor};
    struct finder finder = {.chat = chat, .out = out};
    char *text = mem_strndup(line, cursor);
    if (!text) return -1;
    struct line parsed = line_parse(text);
    bool is_in_name = parsed.kind == LINE_COMMAND && !parsed.name[parsed.n_name];
    if (is_in_name) {
        complete_name(&finder, &parsed, text);
    } else if (parsed.kind == LINE_COMMAND) {
        int found = command_find(parsed.name, parsed.n_name);
        if (found >= 0)
            complete_argument(&finder, &command_table[found], parsed.arguments,
                              (size_t)(parsed.arguments - text));
    }
    mem_free(text);
    if (!finder.failed) return 0;
    chat_completion_release(out);
    return -1;
}

void chat_completion_release(struct chat_completion *completion) {
    for (size_t i = 0; i < completion->n_words; i++) mem_free(completion->words[i]);
    mem_free(completion->words);
    *completion = (struct chat_completion){0};
}
