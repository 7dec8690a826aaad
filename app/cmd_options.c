/* Commands that show and change options. */
#include "app/chat_internal.h"
#include "app/language.h"

#include <stdio.h>
#include <string.h>

static void show_option(struct chat *chat, enum option_id id) {
    struct buf value = {0};
    config_print_value(chat->config, id, &value);
    const char *const cells[] = {option_table[id].name, value.failed ? "?" : value.data,
                                 chat->config->from[id]};
    chat_row(chat, false, 3, cells);
    buf_release(&value);
}

static enum chat_result show_options(struct chat *chat) {
    static const char *const head[] = {N_("option"), N_("value"), N_("from")};
    chat_row(chat, true, 3, head);
    for (int id = 0; id < N_OPTIONS; id++)
        if (option_is_in_file(&option_table[id])) show_option(chat, (enum option_id)id);
    chat_row(chat, false, 0, NULL);
    return CHAT_DONE;
}

/* Options of the start can still be changed where /model reads them again. */
static int check_time(const struct option_info *o, struct err *err) {
    if (o->applies == APPLIES_NOW || strncmp(o->name, "model.", 6) == 0) return 0;
    return err_set(err, ERR_USAGE, "%s is read at the start: --%s, or config.yaml", o->name,
                   o->flag_name);
}

static enum chat_result change(struct chat *chat, enum option_id id, const char *value,
                               struct err *err) {
    const struct option_info *o = &option_table[id];
    if (check_time(o, err) != 0) return CHAT_FAILED;
    int result = strcmp(value, "default") == 0 && o->type != TYPE_ENUM
                     ? config_unset(chat->config, id, "/set", err)
                     : config_set(chat->config, id, value, "/set", err);
    if (result != 0) return CHAT_FAILED;
    show_option(chat, id);
    chat_row(chat, false, 0, NULL);
    if (o->applies == APPLIES_START)
        chat_say(chat, TONE_NOTICE, _("it holds from the next /model PATH on"));
    return CHAT_DONE;
}

enum chat_result cmd_set(struct chat *chat, const char *arguments, struct err *err) {
    size_t n = strcspn(arguments, " \t=");
    const char *value = arguments + n, *nearest = NULL;
    char name[64];
    if (!n) return show_options(chat);
    value += strspn(value, " \t");
    if (*value == '=') value++;
    value += strspn(value, " \t");
    snprintf(name, sizeof name, "%.*s", (int)(n < sizeof name ? n : sizeof name - 1), arguments);
    int id = config_find(name, &nearest);
    if (id < 0) {
        err_set(err, ERR_USAGE, "unknown option %s%s%s%s", name, nearest ? "; did you mean " : "",
                nearest ? nearest : "", nearest ? "?" : "");
        return CHAT_FAILED;
    }
    if (*value) return change(chat, (enum option_id)id, value, err);
    show_option(chat, (enum option_id)id);
    chat_row(chat, false, 0, NULL);
    chat_say(chat, TONE_OUTPUT, "%s", _(option_table[id].help));
    return CHAT_DONE;
}

static int keep(struct chat *chat, enum option_id id, struct err *err) {
    struct buf path = {0};
    int result = config_write(chat->config, id, &path, err);
    if (result == 0)
        chat_say(chat, TONE_NOTICE, _("%s is in %s"), option_table[id].name, path.data);
    buf_release(&path);
    return result;
}

enum chat_result cmd_keep(struct chat *chat, const char *arguments, struct err *err) {
    const char *nearest = NULL;
    int n = 0, one = *arguments ? config_find(arguments, &nearest) : -1;
    if (*arguments && one < 0) {
        err_set(err, ERR_USAGE, "unknown option %s%s%s", arguments,
                nearest ? "; the nearest is " : "", nearest ? nearest : "");
        return CHAT_FAILED;
    }
    for (int id = 0; id < N_OPTIONS; id++) {
        bool is_changed = strcmp(chat->config->from[id], "/set") == 0;
        if (*arguments ? id != one : !is_changed) continue;
        if (keep(chat, (enum option_id)id, err) != 0) return CHAT_FAILED;
        n++;
    }
    if (!n) chat_say(chat, TONE_NOTICE, _("/set has changed nothing"));
    return CHAT_DONE;
}

enum chat_result cmd_reset(struct chat *chat, const char *arguments, struct err *err) {
    (void)arguments;
    for (int id = 0; id < N_OPTIONS; id++)
        if (strcmp(chat->config->from[id], "/set") == 0 &&
            config_unset(chat->config, (enum option_id)id, "default", err) != 0)
            return CHAT_FAILED;
    chat_say(chat, TONE_NOTICE, _("what /set changed has its default again"));
    return CHAT_DONE;
}

enum chat_result cmd_seed(struct chat *chat, const char *arguments, struct err *err) {
    if (*arguments)
        return change(chat, OPTION_seed, strcmp(arguments, "random") == 0 ? "default" : arguments,
                      err);
    if (config_is_set(chat->config, OPTION_seed))
        chat_say(chat, TONE_OUTPUT, "%lld", (long long)chat->config->seed);
    else
        chat_say(chat, TONE_OUTPUT, _("a new one for each answer; the last was %llu"),
                 (unsigned long long)chat->answer->seed);
    return CHAT_DONE;
}

enum chat_result cmd_think(struct chat *chat, const char *arguments, struct err *err) {
    const struct chat_template *t = worker_chat(chat->worker);
    if (*arguments && change(chat, OPTION_think, arguments, err) != CHAT_DONE) return CHAT_FAILED;
    if (!*arguments) {
        show_option(chat, OPTION_think);
        chat_row(chat, false, 0, NULL);
    }
    if (chat->is_ready && (!t || !chat_template_thinks(t)))
        chat_say(chat, TONE_NOTICE, _("this model does not reason before it answers"));
    return CHAT_DONE;
}

enum chat_result cmd_raw(struct chat *chat, const char *arguments, struct err *err) {
    bool is_on = *arguments ? strcmp(arguments, "on") == 0 : !chat->is_raw;
    if (*arguments && !is_on && strcmp(arguments, "off") != 0) {
        err_set(err, ERR_USAGE, "/raw: on or off is needed, found \"%s\"", arguments);
        return CHAT_FAILED;
    }
    if (!is_on && chat->is_ready && !worker_chat(chat->worker)) {
        err_set(err, ERR_USAGE, "the model has no chat template: it can only complete raw text");
        return CHAT_FAILED;
    }
    if (config_set(chat->config, OPTION_raw, is_on ? "true" : "false", "/raw", err) != 0)
        return CHAT_FAILED;
    chat->is_raw = is_on;
    chat_say(chat, TONE_NOTICE,
             is_on ? _("each text is completed as it is")
                   : _("each text is a message of the conversation"));
    return CHAT_DONE;
}
