/*
 * The chat: one state machine between what the user enters and what the worker sends. At most one
 * answer is in flight; a message that comes before the model is loaded waits for it.
 */
#include "app/chat.h"

#include "app/chat_internal.h"
#include "app/engine_setup.h"
#include "app/language.h"
#include "engine/base/clock.h"
#include "engine/base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

/* --- saying ----------------------------------------------------------------------------------- */

void chat_say(const struct chat *chat, enum tone tone, const char *format, ...) {
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (chat->front->is_terminal) sanitize_line(text);
    chat->front->say(chat->front->ui, tone, text);
}

enum chat_result chat_refuse(struct err *err, const char *text) {
    err_set(err, ERR_USAGE, "%s", _(text));
    return CHAT_FAILED;
}

void chat_print(const struct chat *chat, const char *text) {
    struct buf clean = {0};
    if (chat->front->is_terminal)
        sanitize_text(text, strlen(text), &clean);
    else
        buf_puts(&clean, text);
    for (char *line = clean.failed ? NULL : clean.data; line;) {
        char *newline = strchr(line, '\n');
        if (newline) *newline = '\0';
        chat->front->say(chat->front->ui, TONE_OUTPUT, line);
        line = newline && newline[1] ? newline + 1 : NULL;
    }
    buf_release(&clean);
}

void chat_row(const struct chat *chat, bool is_head, size_t n, const char *const *cells) {
    enum { MOST = 8 };
    char *copies[MOST] = {0};
    const char *shown[MOST] = {0};
    if (n > MOST) bug("%zu columns", n);
    for (size_t i = 0; i < n; i++) {
        copies[i] = mem_strdup(is_head ? _(cells[i]) : cells[i]);
        if (copies[i]) sanitize_line(copies[i]);
        shown[i] = copies[i] ? copies[i] : "?";
    }
    chat->front->row(chat->front->ui, shown, n, is_head);
    for (size_t i = 0; i < n; i++) mem_free(copies[i]);
}

/* A share that falls is that of other work. */
void chat_progress(struct chat *chat, const char *what, double share) {
    const double least_seconds = 1, least_share = 0.02;
    struct chat_answer *a = chat->answer;
    double time = clock_seconds(), seconds_left = -1;
    if (!a->pace.is_up || share < a->pace.share) {
        a->pace.is_up = true;
        a->pace.begin = time;
        a->pace.from = share;
    }
    a->pace.share = share;
    if (time - a->pace.begin >= least_seconds && share - a->pace.from >= least_share)
        seconds_left = (1 - share) * (time - a->pace.begin) / (share - a->pace.from);
    chat->front->progress(chat->front->ui, what, share, seconds_left, false);
}

void chat_progress_end(struct chat *chat) {
    chat->answer->pace.is_up = false;
    chat->front->progress(chat->front->ui, "", 1, -1, true);
}

void chat_check_saved(const struct chat *chat, int result, const struct err *err) {
    if (result != 0) chat_say(chat, TONE_ERROR, _("not saved: %s"), err->text);
}

/* --- the answer ------------------------------------------------------------------------------- */

/* What the front end is given at the end: the whole text, sanitized for a terminal. */
static const char *shown_text(const struct chat *chat, enum answer_part part, struct buf *clean) {
    const struct buf *text = &chat->answer->parts[part];
    if (!text->n) return "";
    if (!chat->front->is_terminal) return text->data;
    sanitize_text(text->data, text->n, clean);
    return clean->n && !clean->failed ? clean->data : "";
}

static void show_end(const struct chat *chat, struct answer *answer) {
    struct buf reasoning = {0}, text = {0};
    answer->reasoning = shown_text(chat, PART_REASONING, &reasoning);
    answer->text = shown_text(chat, PART_ANSWER, &text);
    chat->front->answer_end(chat->front->ui, answer);
    buf_release(&reasoning);
    buf_release(&text);
}

/* The last bytes that a sanitizer held back. */
static void flush_text(struct chat *chat, enum answer_part part) {
    struct buf clean = {0};
    if (!chat->front->is_terminal) return;
    sanitize_finish(&chat->answer->sanitizers[part], &clean);
    if (clean.n && !clean.failed)
        chat->front->answer_text(chat->front->ui, part, clean.data, clean.n);
    buf_release(&clean);
}

static void count_usage(struct chat_answer *a, const struct engine_usage *usage) {
    a->last = *usage;
    a->n_answers++;
    a->n_prompt_tokens += (uint64_t)usage->prompt_tokens;
    a->n_cached_tokens += (uint64_t)usage->cached_tokens;
    a->n_answer_tokens += (uint64_t)usage->answer_tokens;
}

static const char *text_or_null(const struct buf *text) {
    return text->n ? text->data : NULL;
}

/* Keeps the answer as a turn; where there is none to keep, the question is taken back. */
static void keep_answer(struct chat *chat, const struct worker_event *event) {
    struct chat_answer *a = chat->answer;
    const struct model_info *info = worker_info(chat->worker);
    bool has_text = a->parts[PART_ANSWER].n || a->parts[PART_REASONING].n;
    struct err err = {0};
    int result;
    if (event->stop == STOP_ERROR && !has_text) {
        const struct turn *question = chat_last_message(chat);
        result = question ? conversation_move(&chat->conversation, question->parent, &err) : 0;
    } else {
        struct turn turn = {.role = ROLE_ASSISTANT,
                            .content = (char *)(uintptr_t)text_or_null(&a->parts[PART_ANSWER]),
                            .reasoning = (char *)(uintptr_t)text_or_null(&a->parts[PART_REASONING]),
                            .model = info ? (char *)(uintptr_t)info->config->name : NULL,
                            .tokens = {.ids = event->tokens, .n = event->n_tokens},
                            .tokenizer = (char *)(uintptr_t)worker_tokenizer_id(chat->worker),
                            .is_partial =
                                event->stop == STOP_CANCELLED || event->stop == STOP_ERROR};
        result = conversation_add(&chat->conversation, &turn, &err);
    }
    chat_check_saved(chat, result, &err);
}

static void end_prompt_bar(struct chat *chat) {
    if (!chat->answer->is_prompt_shown) return;
    chat->answer->is_prompt_shown = false;
    chat_progress_end(chat);
}

static void finish_answer(struct chat *chat, const struct worker_event *event) {
    struct chat_answer *a = chat->answer;
    struct err err = event->err;
    struct answer answer = {.stop = event->stop,
                            .usage = event->usage,
                            .seed = a->seed,
                            .left_out_turns = event->left_out_turns,
                            .err = event->stop == STOP_ERROR ? &err : NULL};
    if (chat->front->is_terminal) sanitize_line(err.text); /* err_set() has done it: once more */
    end_prompt_bar(chat);
    flush_text(chat, PART_REASONING);
    flush_text(chat, PART_ANSWER);
    chat->running = 0;
    a->is_waiting = false;
    count_usage(a, &event->usage);
    keep_answer(chat, event);
    show_end(chat, &answer);
}

/* The question could not even be asked: it ends as an answer does. */
static void finish_unasked(struct chat *chat, enum engine_stop stop, const struct err *err) {
    struct worker_event event = {.kind = WORKER_END, .stop = stop};
    if (err) event.err = *err;
    finish_answer(chat, &event);
}

/* Strings end at NUL: where a token holds one, U+FFFD stands for it. */
static void keep_text(struct buf *text, const struct worker_event *event) {
    for (size_t i = 0; i < event->n_text;) {
        size_t n = strnlen(event->text + i, event->n_text - i);
        buf_add(text, event->text + i, n);
        i += n;
        if (i == event->n_text) break;
        buf_put_utf8(text, 0xFFFD);
        i++;
    }
}

static void take_text(struct chat *chat, const struct worker_event *event) {
    struct chat_answer *a = chat->answer;
    struct buf clean = {0};
    end_prompt_bar(chat);
    if (a->n_pieces++ == 0) {
        a->first_piece = clock_seconds();
        a->first_drawn = worker_load(chat->worker).n_drawn;
    }
    keep_text(&a->parts[event->part], event);
    if (!chat->front->is_terminal) {
        chat->front->answer_text(chat->front->ui, event->part, event->text, event->n_text);
        return;
    }
    sanitize_feed(&a->sanitizers[event->part], event->text, event->n_text, &clean);
    if (clean.n && !clean.failed)
        chat->front->answer_text(chat->front->ui, event->part, clean.data, clean.n);
    buf_release(&clean);
}

/* --- asking ----------------------------------------------------------------------------------- */

static uint64_t pick_seed(const struct config *config) {
    uint32_t random = 0;
    if (config_is_set(config, OPTION_seed)) return (uint64_t)config->seed;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0) random = (uint32_t)time(NULL);
    return random;
}

struct sampling chat_sampling(const struct chat *chat) {
    const struct config *c = chat->config;
    struct sampling s = worker_default_sampling(chat->worker);
    if (config_is_set(c, OPTION_temperature)) s.temperature = (float)c->temperature;
    if (config_is_set(c, OPTION_top_k)) s.top_k = (int)c->top_k;
    if (config_is_set(c, OPTION_top_p)) s.top_p = (float)c->top_p;
    if (config_is_set(c, OPTION_min_p)) s.min_p = (float)c->min_p;
    if (config_is_set(c, OPTION_repeat_penalty)) s.repetition_penalty = (float)c->repeat_penalty;
    if (config_is_set(c, OPTION_presence_penalty)) s.presence_penalty = (float)c->presence_penalty;
    if (config_is_set(c, OPTION_frequency_penalty))
        s.frequency_penalty = (float)c->frequency_penalty;
    return s;
}

/* Posts the branch as messages; their strings are the conversation's. */
static int post_messages(struct chat *chat, struct worker_request *request,
                         const struct turn *const *turns, size_t n, struct err *err) {
    struct message *messages = mem_zalloc(n + 1, sizeof *messages);
    struct tokens *tokens = mem_zalloc(n + 1, sizeof *tokens);
    const char *tokenizer = worker_tokenizer_id(chat->worker);
    size_t k = 0;
    if (messages && tokens) {
        if (chat->conversation.system)
            messages[k++] =
                (struct message){.role = ROLE_SYSTEM, .content = chat->conversation.system};
        for (size_t i = 0; i < n; i++, k++) {
            messages[k] = (struct message){.role = turns[i]->role,
                                           .content = turns[i]->content,
                                           .reasoning = turns[i]->reasoning};
            bool is_same =
                tokenizer && turns[i]->tokenizer && strcmp(tokenizer, turns[i]->tokenizer) == 0;
            if (is_same) tokens[k] = turns[i]->tokens;
        }
        request->messages = messages;
        request->message_tokens = tokens;
        request->n_messages = k;
        chat->running = worker_ask(chat->worker, request);
    }
    mem_free(messages);
    mem_free(tokens);
    return chat->running ? 0 : err_memory(err, n * sizeof *messages, "the request");
}

static int post_raw(struct chat *chat, struct worker_request *request, const char *text,
                    struct err *err) {
    request->raw = text;
    request->raw_has_added = true;
    chat->running = worker_ask(chat->worker, request);
    return chat->running ? 0 : err_memory(err, strlen(text), "the request");
}

static int post(struct chat *chat, struct err *err) {
    const struct config *c = chat->config;
    const struct turn **turns;
    size_t n;
    struct worker_request request = {
        .chat = {.thinking = (enum thinking)c->think, .generation_prompt = true},
        .sampling = chat_sampling(chat),
        .max_tokens = c->max_tokens > 0 ? (int)c->max_tokens : 0,
        .stops = (const char *const *)c->stop.items,
        .n_stops = c->stop.n,
        .is_strict = c->strict};
    request.sampling.seed = chat->answer->seed;
    if (conversation_branch(&chat->conversation, &turns, &n, err) != 0) return -1;
    int result = chat->is_raw ? post_raw(chat, &request, turns[n - 1]->content, err)
                              : post_messages(chat, &request, turns, n, err);
    mem_free(turns);
    return result;
}

enum chat_result chat_ask(struct chat *chat, struct err *err) {
    struct chat_answer *a = chat->answer;
    for (int part = 0; part < 2; part++) {
        buf_clear(&a->parts[part]);
        a->sanitizers[part] = (struct sanitizer){0};
    }
    a->n_pieces = 0;
    a->seed = pick_seed(chat->config);
    a->is_waiting = !chat->is_ready;
    if (chat->is_ready && post(chat, err) != 0) return CHAT_FAILED;
    return CHAT_SENT;
}

const struct turn *chat_last_message(const struct chat *chat) {
    const struct turn *t = conversation_turn(&chat->conversation, chat->conversation.leaf);
    while (t && t->role != ROLE_USER) t = conversation_turn(&chat->conversation, t->parent);
    return t;
}

/* --- models and conversations ----------------------------------------------------------------- */

static int start_worker(struct chat *chat, const char *path, struct err *err) {
    struct engine_options options = engine_setup(chat->config, path);
    chat->is_ready = false;
    return worker_start(&chat->worker, &options, err);
}

int chat_load(struct chat *chat, const char *path, struct err *err) {
    const struct model_info *info = worker_info(chat->worker);
    char *former = info ? mem_strdup(info->path) : NULL;
    worker_stop(chat->worker);
    chat->worker = NULL;
    mem_free(chat->answer->former_model);
    chat->answer->former_model = former;
    return start_worker(chat, path, err);
}

int chat_begin(struct chat *chat, struct conversation *out, struct err *err) {
    const struct config *c = chat->config;
    bool is_kept = c->history && (chat->front->is_interactive || c->resume);
    if (conversation_new(out, is_kept ? c->conversations_folder : NULL, err) != 0) return -1;
    if (!c->system || conversation_set_system(out, c->system, err) == 0) return 0;
    conversation_release(out);
    return -1;
}

/* Texts that the skin may show, freed together. */
static char *clean_copy(const struct chat *chat, const char *text) {
    struct buf clean = {0};
    if (!text) return mem_strdup("");
    if (!chat->front->is_terminal) return mem_strdup(text);
    sanitize_text(text, strlen(text), &clean);
    return clean.data ? clean.data : mem_strdup("");
}

static void show_branch(const struct chat *chat, const struct turn *const *turns, size_t n,
                        struct shown_turn *shown, char **texts) {
    bool failed = false;
    for (size_t i = 0; i < n; i++) {
        texts[2 * i] = clean_copy(chat, turns[i]->content);
        texts[2 * i + 1] = clean_copy(chat, turns[i]->reasoning);
        failed |= !texts[2 * i] || !texts[2 * i + 1];
        shown[i] = (struct shown_turn){.id = turns[i]->id,
                                       .is_user = turns[i]->role == ROLE_USER,
                                       .is_partial = turns[i]->is_partial,
                                       .text = texts[2 * i],
                                       .reasoning = texts[2 * i + 1]};
    }
    if (!failed) chat->front->turns(chat->front->ui, shown, n);
    for (size_t i = 0; i < 2 * n; i++) mem_free(texts[i]);
}

void chat_show_turns(const struct chat *chat) {
    const struct turn **turns;
    size_t n;
    if (!chat->front->turns || conversation_branch(&chat->conversation, &turns, &n, NULL) != 0)
        return;
    struct shown_turn *shown = mem_zalloc(n + 1, sizeof *shown);
    char **texts = mem_zalloc(2 * n + 1, sizeof *texts);
    if (shown && texts) show_branch(chat, turns, n, shown, texts);
    mem_free(shown);
    mem_free(texts);
    mem_free(turns);
}

void chat_switch(struct chat *chat, struct conversation *next) {
    conversation_release(&chat->conversation);
    chat->conversation = *next;
    chat_show_turns(chat);
    if (*chat->conversation.notice) chat_say(chat, TONE_NOTICE, "%s", chat->conversation.notice);
}

/* A system prompt on the command line is for this conversation too; one of a file is not. */
static int resume(struct chat *chat, struct conversation *out, struct err *err) {
    const struct config *c = chat->config;
    struct err why = {0};
    if (conversation_open(out, c->conversations_folder, c->resume, err) != 0) return -1;
    if (c->system && strncmp(c->from[OPTION_system], "--", 2) == 0)
        chat_check_saved(chat, conversation_set_system(out, c->system, &why), &why);
    return 0;
}

static int open_all(struct chat *chat, struct err *err) {
    struct conversation conversation;
    char *path;
    int result = chat->config->resume ? resume(chat, &conversation, err)
                                      : chat_begin(chat, &conversation, err);
    if (result != 0) return -1;
    chat_switch(chat, &conversation);
    if (config_find_model(chat->config, &path, err) != 0) return -1;
    result = start_worker(chat, path, err);
    mem_free(path);
    return result;
}

int chat_open(struct chat *chat, struct config *config, const struct frontend *front,
              struct err *err) {
    *chat = (struct chat){
        .config = config, .front = front, .is_raw = config->raw, .conversation = {.fd = -1}};
    chat->answer = mem_zalloc(1, sizeof *chat->answer);
    if (!chat->answer) return err_memory(err, sizeof *chat->answer, "the chat");
    if (open_all(chat, err) == 0) return 0;
    chat_close(chat);
    return -1;
}

void chat_close(struct chat *chat) {
    worker_stop(chat->worker);
    conversation_release(&chat->conversation);
    if (chat->answer) {
        buf_release(&chat->answer->parts[PART_REASONING]);
        buf_release(&chat->answer->parts[PART_ANSWER]);
        buf_release(&chat->answer->attached);
        mem_free(chat->answer->former_model);
        mem_free(chat->answer);
    }
    *chat = (struct chat){.conversation = {.fd = -1}};
}

/* --- events ----------------------------------------------------------------------------------- */

static void on_ready(struct chat *chat) {
    const struct model_info *info = worker_info(chat->worker);
    struct err err = {0};
    chat_progress_end(chat);
    chat->is_ready = true;
    for (int i = 0; i < info->n_notices; i++) chat_say(chat, TONE_NOTICE, "%s", info->notices[i]);
    chat->is_raw = chat->config->raw || !worker_chat(chat->worker);
    if (chat->is_raw && !chat->config->raw)
        chat_say(chat, TONE_NOTICE, _("%s has no chat template: it completes raw text"),
                 info->config->name);
    if (!chat->answer->is_waiting) return;
    chat->answer->is_waiting = false;
    if (post(chat, &err) != 0) finish_unasked(chat, STOP_ERROR, &err);
}

/* What /model replaced comes back. */
static int load_former(struct chat *chat, struct err *err) {
    char *path = chat->answer->former_model;
    chat->answer->former_model = NULL;
    chat_say(chat, TONE_NOTICE, _("going back to %s"), path);
    worker_stop(chat->worker);
    chat->worker = NULL;
    int result = start_worker(chat, path, err);
    mem_free(path);
    return result;
}

static int on_failed(struct chat *chat, const struct err *why, struct err *err) {
    chat_progress_end(chat);
    if (chat->answer->former_model && !chat->is_ready) {
        chat_say(chat, TONE_ERROR, "%s", why->text);
        return load_former(chat, err);
    }
    if (chat->answer->is_waiting) finish_unasked(chat, STOP_ERROR, why);
    *err = *why;
    return -1;
}

static int handle(struct chat *chat, const struct worker_event *event, struct err *err) {
    bool is_current = event->request == chat->running && chat->running;
    switch (event->kind) {
    case WORKER_LOADING:
        chat_progress(chat, event->what ? event->what : "", (double)event->share);
        return 0;
    case WORKER_READY:
        on_ready(chat);
        return 0;
    case WORKER_FAILED:
        return on_failed(chat, &event->err, err);
    case WORKER_PROMPT:
        if (!is_current || event->total <= 0) return 0;
        chat->answer->is_prompt_shown = true;
        chat_progress(chat, N_("reading the prompt"), (double)event->done / event->total);
        return 0;
    case WORKER_TEXT:
        if (is_current) take_text(chat, event);
        return 0;
    case WORKER_BENCH:
    case WORKER_ROW:
        if (is_current) chat_bench_event(chat, event);
        return 0;
    case WORKER_END:
        if (is_current && chat->answer->is_bench)
            chat_bench_event(chat, event);
        else if (is_current)
            finish_answer(chat, event);
        return 0;
    }
    bug("event %d", event->kind);
}

int chat_fd(const struct chat *chat) {
    return worker_fd(chat->worker);
}

int chat_pump(struct chat *chat, struct err *err) {
    struct worker_event event;
    int result = 0;
    while (result == 0 && worker_take(chat->worker, &event)) {
        result = handle(chat, &event, err);
        worker_event_release(&event);
    }
    return result;
}

/* --- what the user enters --------------------------------------------------------------------- */

bool chat_is_busy(const struct chat *chat) {
    return chat->running || chat->answer->is_waiting;
}

/* Of the answer in flight, from its first piece on. */
static void measure_answer(const struct chat *chat, struct chat_state *state) {
    const struct chat_answer *a = chat->answer;
    uint64_t n_drawn = worker_load(chat->worker).n_drawn - a->first_drawn;
    double seconds = clock_seconds() - a->first_piece, roof = worker_read_speed(chat->worker);
    state->context_used += (int)n_drawn + 1;
    if (n_drawn == 0 || seconds <= 0) return;
    state->speed = (double)n_drawn / seconds;
    if (roof > 0)
        state->roof_share =
            engine_pass_bytes(state->model, 1, state->context_used) * state->speed / roof;
}

struct chat_state chat_state(const struct chat *chat) {
    const struct chat_answer *a = chat->answer;
    struct chat_state state = {.model = worker_info(chat->worker),
                               .context_used = a->last.prompt_tokens + a->last.answer_tokens,
                               .roof_share = -1,
                               .memory_bytes = worker_memory_bytes(chat->worker)};
    if (chat->running && !a->is_bench && a->n_pieces > 0 && state.model)
        measure_answer(chat, &state);
    return state;
}

void chat_want_roof(const struct chat *chat) {
    worker_want_read_speed(chat->worker);
}

void chat_interrupt(struct chat *chat) {
    if (chat->running)
        worker_cancel(chat->worker, chat->running);
    else if (chat->answer->is_waiting)
        finish_unasked(chat, STOP_CANCELLED, NULL);
}

static enum chat_result fail(const struct chat *chat, const struct err *err) {
    chat_say(chat, TONE_ERROR, "%s", err->text);
    return CHAT_FAILED;
}

enum chat_result chat_send(struct chat *chat, const char *text, struct err *err) {
    if (!text[strspn(text, " \t\r\n")]) return CHAT_DONE;
    if (chat_is_busy(chat)) {
        err_set(err, ERR_OTHER, "an answer is running: stop it first (Ctrl-C), or wait");
        return fail(chat, err);
    }
    struct buf *attached = &chat->answer->attached;
    size_t n_attached = attached->n;
    if (n_attached > 0) buf_puts(attached, text);
    if (attached->failed) return fail(chat, (err_memory(err, strlen(text), "the message"), err));
    const struct turn turn = {.role = ROLE_USER,
                              .content = n_attached > 0 ? attached->data : (char *)(uintptr_t)text};
    int result = conversation_add(&chat->conversation, &turn, err);
    if (n_attached > 0) buf_release(attached);
    if (result != 0 && err->kind == ERR_MEMORY) return fail(chat, err);
    chat_check_saved(chat, result, err);
    enum chat_result sent = chat_ask(chat, err);
    return sent == CHAT_FAILED ? fail(chat, err) : sent;
}

enum chat_result chat_enter(struct chat *chat, const char *text, struct err *err) {
    struct line line = line_parse(text);
    if (line.kind == LINE_MESSAGE) return chat_send(chat, line.text, err);
    enum chat_result result = command_run(chat, &line, err);
    return result == CHAT_FAILED ? fail(chat, err) : result;
}
