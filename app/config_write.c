/*
 * An option's value into a config.yaml that a person wrote: libyaml's events say where the scalar
 * stands, its bytes are replaced, and every other byte stays as it is.
 */
#include "app/config.h"

#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <string.h>
#include <yaml.h>

enum { MOST_BYTES = 1 << 20 };

/* What replaces text[begin..end). */
struct edit {
    size_t begin, end; /* characters, as libyaml counts */
    bool is_found;
    const char *before, *after; /* put around the value */
    int indent;                 /* blanks behind `after` */
    bool has_key;               /* the key stands there already */
};

struct walk {
    const char *section, *key;
    size_t n_section;
    int depth;
    bool is_value;      /* the next event at this depth is a value */
    bool is_in_section; /* depth 2, of our section */
    bool is_wanted;     /* the value that comes is the one */
    bool is_section;    /* the value that comes is our section */
    bool wants_first;   /* the next key is the section's first */
    bool is_flow;
    bool is_list; /* our value is one */
    struct edit edit;
};

static bool is_text(const yaml_event_t *event, const char *text, size_t n) {
    return event->data.scalar.length == n && memcmp(event->data.scalar.value, text, n) == 0;
}

/* A place for a key that is not there: before the section's first one. */
static void note_first_key(struct walk *w, const yaml_event_t *event) {
    w->wants_first = false;
    if (w->edit.is_found) return;
    w->edit = (struct edit){.is_found = true,
                            .begin = event->start_mark.index,
                            .end = event->start_mark.index,
                            .before = "",
                            .after = w->is_flow ? ", " : "\n",
                            .indent = w->is_flow ? 0 : (int)event->start_mark.column};
}

static void take_value(struct walk *w, const yaml_event_t *event) {
    bool is_empty = event->start_mark.index == event->end_mark.index;
    bool is_block = event->data.scalar.style == YAML_LITERAL_SCALAR_STYLE ||
                    event->data.scalar.style == YAML_FOLDED_SCALAR_STYLE;
    if (!w->is_wanted && !w->is_section) return;
    w->edit = (struct edit){.is_found = true,
                            .begin = event->start_mark.index,
                            .end = event->end_mark.index,
                            .before = w->is_section ? "\n  "
                                      : is_empty    ? " "
                                                    : "",
                            .after = is_block ? "\n" : "",
                            .has_key = w->is_wanted};
    if (w->is_section) w->edit.end = w->edit.begin = event->end_mark.index;
}

static void take_scalar(struct walk *w, const yaml_event_t *event) {
    bool is_key = !w->is_value && w->depth > 0;
    if (is_key && w->depth == 1) w->is_section = is_text(event, w->section, w->n_section);
    if (is_key && w->depth == 2 && w->is_in_section) {
        if (w->wants_first) note_first_key(w, event);
        w->is_wanted = is_text(event, w->key, strlen(w->key));
    }
    if (!is_key) {
        take_value(w, event);
        w->is_wanted = w->is_section = false;
    }
    w->is_value = is_key;
}

static void take_event(struct walk *w, const yaml_event_t *event) {
    switch (event->type) {
    case YAML_MAPPING_START_EVENT:
        w->depth++;
        if (w->depth == 2) w->is_in_section = w->wants_first = w->is_section;
        w->is_flow = event->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE;
        w->is_section = w->is_value = false;
        break;
    case YAML_MAPPING_END_EVENT:
        if (w->depth-- == 2) w->is_in_section = false;
        w->is_value = false;
        break;
    case YAML_SEQUENCE_START_EVENT:
        w->depth++;
        w->is_list |= w->is_wanted;
        w->is_wanted = w->is_section = false;
        break;
    case YAML_SEQUENCE_END_EVENT:
        w->depth--;
        w->is_value = w->is_wanted = false;
        break;
    case YAML_SCALAR_EVENT:
        take_scalar(w, event);
        break;
    default:
        break;
    }
}

static int walk_events(struct walk *w, const char *text, size_t n, struct err *err) {
    yaml_parser_t parser;
    yaml_event_t event;
    bool is_end = false;
    if (!yaml_parser_initialize(&parser)) return err_memory(err, n, "the YAML parser");
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, n);
    while (!is_end) {
        if (!yaml_parser_parse(&parser, &event)) {
            yaml_parser_delete(&parser);
            return err_set(err, ERR_USAGE, "config.yaml is not valid YAML; it was left as it is");
        }
        take_event(w, &event);
        is_end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return 0;
}

/* Bytes before the character `index`. */
static size_t byte_of(const char *text, size_t n, size_t index) {
    size_t at = 0;
    if (n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) at = 3; /* a mark that is not counted */
    for (; at < n && index > 0; index--) {
        at++;
        while (at < n && ((unsigned char)text[at] & 0xC0) == 0x80) at++;
    }
    return at;
}

int config_edit_yaml(const char *text, size_t n, const char *name, const char *value,
                     struct buf *out, struct err *err) {
    const char *dot = strchr(name, '.');
    struct walk w = {.section = name, .key = dot + 1, .n_section = (size_t)(dot - name)};
    if (n > 0 && walk_events(&w, text, n, err) != 0) return -1;
    if (w.is_list) return err_set(err, ERR_USAGE, "%s is a list: edit config.yaml", name);
    if (!w.edit.is_found) {
        if (n > 0) buf_add(out, text, n);
        if (n > 0 && text[n - 1] != '\n') buf_putc(out, '\n');
        buf_printf(out, "%.*s:\n  %s: %s\n", (int)w.n_section, name, w.key, value);
    } else {
        size_t begin = byte_of(text, n, w.edit.begin), end = byte_of(text, n, w.edit.end);
        buf_add(out, text, begin);
        buf_puts(out, w.edit.before);
        if (!w.edit.has_key) buf_printf(out, "%s: ", w.key);
        buf_printf(out, "%s%s%*s", value, w.edit.after, w.edit.indent, "");
        buf_add(out, text + end, n - end);
    }
    return out->failed ? err_memory(err, n, "config.yaml") : 0;
}

/* Does the file that came out say what it should? */
static int check(const struct config *c, enum option_id id, const struct buf *file,
                 struct err *err) {
    struct config read = {0};
    struct buf was = {0}, is = {0};
    int result = config_defaults(&read, err);
    if (result == 0) result = config_read_yaml(&read, file->data, file->n, "config.yaml", err);
    config_print_value(c, id, &was);
    config_print_value(&read, id, &is);
    if (result == 0 && (was.failed || is.failed || strcmp(was.data, is.data) != 0))
        result = err_set(err, ERR_OTHER, "config.yaml could not be changed; it was left as it is");
    buf_release(&was);
    buf_release(&is);
    config_release(&read);
    return result;
}

int config_write(const struct config *c, enum option_id id, struct buf *path, struct err *err) {
    struct buf text = {0}, value = {0}, out = {0};
    int result = 0;
    if (c->config_file) buf_puts(path, c->config_file);
    if (!c->config_file && c->config_folder) buf_printf(path, "%s/config.yaml", c->config_folder);
    if (!path->n) return err_set(err, ERR_IO, "there is no folder for a config.yaml");
    if (io_exists(path->data)) result = io_read_file(path->data, MOST_BYTES, &text, err);
    if (result == 0 && !c->config_file) result = io_make_folders(c->config_folder, 0700, err);
    config_print_value(c, id, &value);
    if (result == 0)
        result = config_edit_yaml(text.data ? text.data : "", text.n, option_table[id].name,
                                  value.data, &out, err);
    if (result == 0) result = check(c, id, &out, err);
    if (result == 0) result = io_write_atomic(path->data, 0600, out.data, out.n, err);
    buf_release(&text);
    buf_release(&value);
    buf_release(&out);
    return result;
}
