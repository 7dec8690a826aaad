/*
 * config.yaml: libyaml's nodes walked by the table. A first pass over the events refuses what a
 * configuration has no need of and an attacker has (aliases, tags, depth, several documents); the
 * second reads scope by scope, so that every message carries the place it is about.
 *
 * The other way round, the table is printed as the config.yaml that is shipped.
 */
#include "app/config.h"

#include "app/language.h"

#include <string.h>
#include <yaml.h>

/* The file that is read and the place in it, for messages; marks count from 0. */
struct reader {
    struct config *config;
    const char *file;
    yaml_document_t *document;
    struct err *err;
};

static int refuse(const struct reader *r, yaml_mark_t at, const char *what) {
    return err_set(r->err, ERR_USAGE, "%s:%zu:%zu: %s", r->file, at.line + 1, at.column + 1,
                   _(what));
}

static int add_place(const struct reader *r, yaml_mark_t at) {
    return err_within(r->err, "%s:%zu:%zu", r->file, at.line + 1, at.column + 1);
}

/* libyaml gives errors of encoding no mark but an offset in bytes. */
static int refuse_syntax(const struct reader *r, const yaml_parser_t *parser, const char *text) {
    yaml_mark_t at = parser->problem_mark;
    if (parser->error == YAML_MEMORY_ERROR) return err_memory(r->err, 0, r->file);
    if (parser->error == YAML_READER_ERROR) {
        at = (yaml_mark_t){0};
        for (size_t i = 0; i < parser->problem_offset; i++) {
            at.column = text[i] == '\n' ? 0 : at.column + 1;
            at.line += text[i] == '\n';
        }
    }
    return refuse(r, at, parser->problem ? parser->problem : N_("cannot be read"));
}

/* --- first pass: what is refused whatever it says --------------------------------------------- */

static const char *objection(const yaml_event_t *event, int *depth, int *n_documents) {
    const char *anchor = N_("anchors and aliases are not used here");
    const char *tag = N_("tags are not used here");
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        return ++*n_documents > 1 ? N_("one document is expected, here begins another") : NULL;
    case YAML_ALIAS_EVENT:
        return anchor;
    case YAML_SCALAR_EVENT:
        if (event->data.scalar.anchor) return anchor;
        return event->data.scalar.tag ? tag : NULL;
    case YAML_SEQUENCE_START_EVENT:
        if (event->data.sequence_start.anchor) return anchor;
        if (event->data.sequence_start.tag) return tag;
        return ++*depth > 3 ? N_("nested too deep") : NULL;
    case YAML_MAPPING_START_EVENT:
        if (event->data.mapping_start.anchor) return anchor;
        if (event->data.mapping_start.tag) return tag;
        return ++*depth > 3 ? N_("nested too deep") : NULL;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        --*depth;
        return NULL;
    default:
        return NULL;
    }
}

static void parser_start(yaml_parser_t *parser, const char *text, size_t n) {
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, (const unsigned char *)text, n);
}

static int check_events(const struct reader *r, const char *text, size_t n) {
    yaml_parser_t parser;
    int depth = 0, n_documents = 0, result = 0;
    if (!yaml_parser_initialize(&parser)) return err_memory(r->err, 0, r->file);
    parser_start(&parser, text, n);
    for (bool is_over = false; result == 0 && !is_over;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            result = refuse_syntax(r, &parser, text);
            break;
        }
        const char *why = objection(&event, &depth, &n_documents);
        if (why) result = refuse(r, event.start_mark, why);
        is_over = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return result;
}

/* --- second pass: scopes, keys, values -------------------------------------------------------- */

static const yaml_node_t *node_at(const struct reader *r, int index) {
    return yaml_document_get_node(r->document, index);
}

/* The text of a scalar, or NULL where it is none or holds a NUL. */
static const char *scalar_text(const yaml_node_t *node) {
    if (node->type != YAML_SCALAR_NODE) return NULL;
    const char *text = (const char *)node->data.scalar.value;
    return strlen(text) == node->data.scalar.length ? text : NULL;
}

static bool is_plain(const yaml_node_t *node) {
    return node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static bool is_null(const yaml_node_t *node) {
    const char *text = scalar_text(node);
    return text && is_plain(node) &&
           (!*text || strcmp(text, "null") == 0 || strcmp(text, "~") == 0);
}

static int read_list(const struct reader *r, enum option_id id, const yaml_node_t *value,
                     const char *from) {
    if (value->type != YAML_SEQUENCE_NODE)
        return refuse(r, value->start_mark, "a list is needed, such as [\"one\", \"two\"]");
    if (config_unset(r->config, id, from, r->err) != 0) return -1;
    for (const yaml_node_item_t *item = value->data.sequence.items.start;
         item < value->data.sequence.items.top; item++) {
        const yaml_node_t *node = node_at(r, *item);
        const char *text = scalar_text(node);
        if (!text || is_null(node)) return refuse(r, node->start_mark, "a text is needed");
        if (config_add(r->config, id, text, from, r->err) != 0)
            return add_place(r, node->start_mark);
    }
    return 0;
}

static int read_value(const struct reader *r, enum option_id id, const yaml_node_t *value) {
    const struct option_info *o = &option_table[id];
    struct buf from = {0};
    buf_printf(&from, "%s:%zu", r->file, value->start_mark.line + 1);
    if (from.failed) return err_memory(r->err, 64, "an option's origin");
    const char *text = scalar_text(value);
    int result;
    if (o->type == TYPE_COLOR && is_plain(value) && text && !*text) { /* heading: #87d7af */
        result = refuse(r, value->start_mark,
                        "a colour is needed; one with a # stands in quotes: \"#87d7af\"");
    } else if (is_null(value)) {
        result = config_unset(r->config, id, from.data, r->err);
    } else if (o->type == TYPE_LIST) {
        result = read_list(r, id, value, from.data);
    } else if (!text) {
        result = refuse(r, value->start_mark, "one value is needed, without NUL");
    } else if (!is_plain(value) && o->type != TYPE_STRING && o->type != TYPE_PATH &&
               o->type != TYPE_COLOR) {
        result = err_set(r->err, ERR_USAGE, "%s: the value is written without quotes", o->name);
        add_place(r, value->start_mark);
    } else {
        result = config_set(r->config, id, text, from.data, r->err);
        if (result != 0) add_place(r, value->start_mark);
    }
    buf_release(&from);
    return result;
}

/* "sampling" and "top_k" -> its option, or -1. */
static int find_in_scope(const char *scope, const char *key) {
    size_t n = strlen(scope);
    for (int id = 0; id < N_OPTIONS; id++) {
        const char *name = option_table[id].name;
        if (strncmp(name, scope, n) == 0 && name[n] == '.' && strcmp(name + n + 1, key) == 0)
            return id;
    }
    return -1;
}

/* The scopes are what stands before the dots; how many there are. */
static size_t list_scopes(char scopes[][16], size_t most) {
    size_t n_scopes = 0;
    for (int id = 0; id < N_OPTIONS; id++) {
        const char *name = option_table[id].name;
        size_t n = strcspn(name, "."), i = 0;
        if (!name[n]) continue;
        while (i < n_scopes && (strncmp(scopes[i], name, n) != 0 || scopes[i][n])) i++;
        if (i < n_scopes) continue;
        if (n_scopes == most || n >= sizeof *scopes) bug("no room for the scope of %s", name);
        memcpy(scopes[n_scopes], name, n);
        scopes[n_scopes++][n] = '\0';
    }
    return n_scopes;
}

enum { MOST_SCOPES = 8 };

static int find_scope(const char *text) {
    char scopes[MOST_SCOPES][16];
    size_t n = list_scopes(scopes, MOST_SCOPES);
    for (size_t i = 0; i < n; i++)
        if (strcmp(scopes[i], text) == 0) return (int)i;
    return -1;
}

static int refuse_key(const struct reader *r, yaml_mark_t at, const char *scope, const char *key) {
    char scopes[MOST_SCOPES][16];
    const char *names[MOST_SCOPES], *nearest = NULL, *near_scope = NULL;
    size_t n = list_scopes(scopes, MOST_SCOPES);
    for (size_t i = 0; i < n; i++) names[i] = scopes[i];
    int id = config_find(key, &nearest);
    if (id < 0 && !scope) near_scope = name_nearest(key, names, n);
    if (id < 0 && nearest) id = config_find(nearest, NULL);
    const char *meant = near_scope ? near_scope : id >= 0 ? option_table[id].name : NULL;
    struct buf text = {0};
    buf_printf(&text, "unknown key \"%.100s%s%.100s\"", scope ? scope : "", scope ? "." : "", key);
    if (meant) buf_printf(&text, "; did you mean %s?", meant);
    int result = text.failed ? err_memory(r->err, 64, "a message") : refuse(r, at, text.data);
    buf_release(&text);
    return result;
}

static int read_scope(const struct reader *r, const char *scope, const yaml_node_t *map,
                      bool seen[N_OPTIONS]) {
    if (is_null(map)) return 0; /* "model:" with all its keys commented out */
    if (map->type != YAML_MAPPING_NODE)
        return refuse(r, map->start_mark, "options are needed here, one \"name: value\" a line");
    for (const yaml_node_pair_t *pair = map->data.mapping.pairs.start;
         pair < map->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = node_at(r, pair->key);
        const char *name = scalar_text(key);
        if (!name) return refuse(r, key->start_mark, "the name of an option is needed");
        int id = find_in_scope(scope, name);
        if (id < 0) return refuse_key(r, key->start_mark, scope, name);
        if (seen[id]) return refuse(r, key->start_mark, "this option was given before");
        seen[id] = true;
        if (read_value(r, (enum option_id)id, node_at(r, pair->value)) != 0) return -1;
    }
    return 0;
}

static int read_root(const struct reader *r, const yaml_node_t *root) {
    bool seen[N_OPTIONS] = {false}, seen_scopes[MOST_SCOPES] = {false};
    if (!root || is_null(root)) return 0;
    if (root->type != YAML_MAPPING_NODE)
        return refuse(r, root->start_mark, "\"model:\", \"sampling:\" … are needed here");
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start;
         pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = node_at(r, pair->key);
        const char *name = scalar_text(key);
        if (!name) return refuse(r, key->start_mark, "the name of a group is needed");
        int scope = find_scope(name);
        if (scope < 0) return refuse_key(r, key->start_mark, NULL, name);
        if (seen_scopes[scope]) return refuse(r, key->start_mark, "this group was given before");
        seen_scopes[scope] = true;
        if (read_scope(r, name, node_at(r, pair->value), seen) != 0) return -1;
    }
    return 0;
}

int config_read_yaml(struct config *c, const char *text, size_t n, const char *file,
                     struct err *err) {
    yaml_parser_t parser;
    yaml_document_t document;
    struct reader r = {.config = c, .file = file, .document = &document, .err = err};
    if (check_events(&r, text, n) != 0) return -1;
    if (!yaml_parser_initialize(&parser)) return err_memory(err, 0, file);
    parser_start(&parser, text, n);
    int result;
    if (yaml_parser_load(&parser, &document)) {
        result = read_root(&r, yaml_document_get_root_node(&document));
        yaml_document_delete(&document);
    } else {
        result = refuse_syntax(&r, &parser, text);
    }
    yaml_parser_delete(&parser);
    return result;
}

/* --- the shipped file ------------------------------------------------------------------------- */

enum { COMMENT_COLUMNS = 96 };

static void print_wrapped(const char *text, struct buf *out) {
    static const char margin[] = "  #";
    size_t column = sizeof margin - 1;
    buf_puts(out, margin);
    for (const char *word = text; *word;) {
        size_t n = strcspn(word, " ");
        if (column + 1 + n > COMMENT_COLUMNS) {
            buf_printf(out, "\n%s", margin);
            column = sizeof margin - 1;
        }
        buf_putc(out, ' ');
        buf_add(out, word, n);
        column += 1 + n;
        word += n + (word[n] == ' ');
    }
    buf_putc(out, '\n');
}

static void print_comment(const struct option_info *o, struct buf *out) {
    struct buf text = {0};
    buf_printf(&text, "%s.", o->help);
    if (o->choices) buf_printf(&text, " One of %s.", o->choices);
    if (o->has_range)
        buf_printf(&text, " From %.16g to %.16g%s%s.", o->min, o->max, *o->unit ? " " : "",
                   o->unit);
    if (text.failed)
        out->failed = true;
    else
        print_wrapped(text.data, out);
    buf_release(&text);
}

void config_print_yaml(struct buf *out) {
    const char *scope = "";
    size_t n_scope = 0;
    buf_puts(out,
             "# The options of qwen-chat with their defaults; null: unset. The user's own file is\n"
             "# ~/.config/qwen-chat/config.yaml and needs to name only what differs.\n"
             "# See qwen-chat.yaml(5).\n");
    for (int id = 0; id < N_OPTIONS; id++) {
        const struct option_info *o = &option_table[id];
        if (!option_is_in_file(o)) continue;
        size_t n = strcspn(o->name, ".");
        if (n != n_scope || strncmp(scope, o->name, n) != 0) {
            scope = o->name;
            n_scope = n;
            buf_printf(out, "\n%.*s:", (int)n, scope);
        }
        buf_putc(out, '\n');
        print_comment(o, out);
        buf_printf(out, "  %s: %s\n", o->name + n + 1, o->fallback ? o->fallback : "null");
    }
}
