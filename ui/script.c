/*
 * No terminal: messages from -p, -f and standard input, answers on standard output and nothing else
 * there. What there is to know goes to standard error. The first failure ends it with its code.
 */
#include "app/chat.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/base/sanitize.h"
#include "ui/answer_stream.h"
#include "ui/input_text.h"
#include "ui/signals.h"
#include "ui/skins.h"
#include "ui/table.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const int watched[] = {SIGINT, SIGTERM, SIGHUP};

struct script {
    struct config *config;
    struct frontend front;
    struct chat chat;
    struct answer_stream stream;
    struct table table;
    struct input_text input;
    struct err failure; /* the first one, which has been said */
    int write_error;    /* errno of standard output, or 0 */
    bool has_text;      /* the answer in flight has put something out */
    int signal;         /* that ends the program, or 0 */
};

/* --- output ----------------------------------------------------------------------------------- */

static void print_error(struct script *s, const struct err *err) {
    if (s->failure.kind != ERR_NONE) return; /* one sentence says why it ended */
    s->failure = *err;
    fprintf(stderr, "qwen-chat: error: %s\n", err->text);
}

static void write_out(void *ud, const char *text, size_t n) {
    struct script *s = ud;
    s->has_text = true;
    while (n > 0 && s->write_error == 0) {
        ssize_t put = io_write(STDOUT_FILENO, text, n);
        if (put < 0) {
            s->write_error = errno;
        } else {
            text += put;
            n -= (size_t)put;
        }
    }
}

static void say(void *ui, enum tone tone, const char *text) {
    static const char *const before[] = {
        [TONE_OUTPUT] = "", [TONE_NOTICE] = "qwen-chat: ", [TONE_ERROR] = "qwen-chat: error: "};
    (void)ui;
    char *line = mem_strdup(text);
    if (line) sanitize_line(line); /* standard error may be a terminal */
    fprintf(stderr, "%s%s\n", before[tone], line ? line : "");
    mem_free(line);
}

static void print_row(void *ud, const char *text) {
    (void)ud;
    fprintf(stderr, "%s\n", text);
}

static void row(void *ui, const char *const *cells, size_t n, bool is_head) {
    struct script *s = ui;
    if (n > 0) {
        table_row(&s->table, cells, n, is_head);
    } else {
        table_print(&s->table, false, print_row, NULL);
    }
}

static void progress(void *ui, const char *what, double share, double seconds_left, bool done) {
    (void)ui, (void)what, (void)share, (void)seconds_left, (void)done;
}

static void answer_text(void *ui, enum answer_part part, const char *text, size_t n) {
    struct script *s = ui;
    if (s->config->json || s->write_error != 0) return;
    answer_stream_text(&s->stream, part, text, n);
}

static void put_member(struct buf *json, const char *name, const char *text) {
    buf_printf(json, "\"%s\": ", name);
    buf_put_json(json, text, strlen(text));
    buf_puts(json, ", ");
}

static void write_json(struct script *s, const struct answer *answer) {
    const struct model_info *info = worker_info(s->chat.worker);
    const struct engine_usage *u = &answer->usage;
    struct buf json = {0};
    buf_putc(&json, '{');
    put_member(&json, "answer", answer->text);
    put_member(&json, "reasoning", answer->reasoning);
    put_member(&json, "stop", engine_stop_name(answer->stop));
    buf_printf(&json,
               "\"usage\": {\"prompt_tokens\": %d, \"cached_tokens\": %d, \"answer_tokens\": %d, "
               "\"prompt_seconds\": %.6f, \"answer_seconds\": %.6f}, \"seed\": %llu, ",
               u->prompt_tokens, u->cached_tokens, u->answer_tokens, u->prompt_seconds,
               u->answer_seconds, (unsigned long long)answer->seed);
    put_member(&json, "model", info ? info->config->name : "");
    if (!json.failed) {
        json.n -= 2; /* the last comma */
        buf_puts(&json, "}\n");
    }
    if (json.failed) {
        struct err err;
        err_memory(&err, json.n, "an answer as JSON");
        print_error(s, &err);
    } else {
        write_out(s, json.data, json.n);
    }
    buf_release(&json);
}

static void answer_end(void *ui, const struct answer *answer) {
    struct script *s = ui;
    bool is_whole = answer->stop != STOP_ERROR && answer->stop != STOP_CANCELLED;
    if (s->config->json) {
        if (is_whole || *answer->text || *answer->reasoning) write_json(s, answer);
    } else {
        answer_stream_end(&s->stream);
        if (is_whole && !s->has_text) write_out(s, "\n", 1); /* an empty answer is one too */
    }
    s->has_text = false;
    if (answer->left_out_turns > 0)
        fprintf(stderr, "qwen-chat: the %d oldest turns were left out: the context is full\n",
                answer->left_out_turns);
    if (answer->err) print_error(s, answer->err);
}

static bool confirm(void *ui, const char *question) {
    (void)ui, (void)question;
    return false;
}

static char *edit(void *ui, const char *text) {
    (void)ui, (void)text;
    return NULL;
}

static void clear(void *ui) {
    (void)ui;
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* Until `fd` or the chat has something, which is worked off; false: the program is to end. */
static bool wait_for(struct script *s, int fd, bool *is_readable) {
    struct pollfd fds[] = {{.fd = signals_fd(), .events = POLLIN},
                           {.fd = chat_fd(&s->chat), .events = POLLIN},
                           {.fd = fd, .events = POLLIN}};
    struct err err = {0};
    if (poll(fds, 3, -1) < 0) return true;
    int number = signals_take();
    if (number && s->signal) signals_default(number); /* the second one does not wait */
    if (number) {
        s->signal = number;
        chat_interrupt(&s->chat);
    }
    if (chat_pump(&s->chat, &err) != 0) {
        print_error(s, &err);
        return false;
    }
    if (is_readable) *is_readable = fds[2].revents != 0;
    return true;
}

static bool wait_for_input(void *ud, int fd) {
    struct script *s = ud;
    bool is_readable = false;
    while (!is_readable)
        if (!wait_for(s, fd, &is_readable) || s->signal) return false;
    return true;
}

/* The end of the answer in flight. false: nothing more is to be asked. */
static bool wait_for_answer(struct script *s) {
    while (chat_is_busy(&s->chat)) {
        if (!wait_for(s, -1, NULL)) return false;
        if (s->write_error != 0) chat_interrupt(&s->chat);
    }
    return !s->signal && s->write_error == 0 && s->failure.kind == ERR_NONE;
}

/* --- the messages ----------------------------------------------------------------------------- */

/* A pipe, a file or a socket; /dev/null and the like have nothing to add to a -p. */
static bool has_piped_input(void) {
    struct stat st;
    return fstat(STDIN_FILENO, &st) == 0 &&
           (S_ISFIFO(st.st_mode) || S_ISREG(st.st_mode) || S_ISSOCK(st.st_mode));
}

static int add_file(struct script *s, const char *path, struct err *err) {
    struct buf text = {0};
    int result = io_read_file(path, INPUT_TEXT_BYTES, &text, err);
    if (result == 0) result = input_text_put(&s->input, path, text.data, text.n, err);
    buf_release(&text);
    return result;
}

static int open_input(struct script *s, struct err *err) {
    const struct config *c = s->config;
    bool is_file_stdin = c->file && strcmp(c->file, "-") == 0;
    bool needs_stdin = is_file_stdin || (!c->prompt && !c->file);
    s->input =
        (struct input_text){.fd = -1, .name = "standard input", .wait = wait_for_input, .ud = s};
    if (needs_stdin || has_piped_input()) s->input.fd = STDIN_FILENO;
    if (needs_stdin && isatty(STDIN_FILENO))
        say(s, TONE_NOTICE, "reading from the terminal; end the input with Ctrl-D");
    if (c->prompt && input_text_put(&s->input, "--prompt", c->prompt, strlen(c->prompt), err) != 0)
        return -1;
    return c->file && !is_file_stdin ? add_file(s, c->file, err) : 0;
}

static int answer_all(struct script *s, struct err *err) {
    const char *text;
    if (input_text_all(&s->input, &text, err) != 0) return -1;
    if (!*text) {
        say(s, TONE_NOTICE, "the input is empty: there is nothing to answer");
        return 0;
    }
    if (chat_send(&s->chat, text, err) == CHAT_FAILED) s->failure = *err;
    wait_for_answer(s);
    return 0;
}

static int answer_lines(struct script *s, struct err *err) {
    const char *line;
    for (;;) {
        if (input_text_line(&s->input, &line, err) != 0) return -1;
        if (!line) return 0;
        enum chat_result result = chat_enter(&s->chat, line, err);
        if (result == CHAT_FAILED) s->failure = *err; /* has been said */
        if (result == CHAT_QUIT || !wait_for_answer(s)) return 0;
    }
}

static int run(struct script *s, struct err *err) {
    int result = open_input(s, err);
    if (result == 0) result = s->config->lines ? answer_lines(s, err) : answer_all(s, err);
    input_text_release(&s->input);
    return result;
}

static struct frontend front_of(struct script *s) {
    return (struct frontend){.ui = s,
                             .is_terminal = isatty(STDOUT_FILENO),
                             .say = say,
                             .row = row,
                             .progress = progress,
                             .answer_text = answer_text,
                             .answer_end = answer_end,
                             .confirm = confirm,
                             .edit = edit,
                             .clear = clear};
}

/* Dies of what it was stopped by, so that the caller's shell sees it. */
static int finish(struct script *s) {
    int number = s->write_error == EPIPE ? SIGPIPE : s->signal;
    if (s->write_error != 0 && s->write_error != EPIPE) {
        struct err err;
        err_set(&err, ERR_IO, "standard output: %s", strerror(s->write_error));
        print_error(s, &err);
    }
    signals_close();
    if (number) signals_default(number);
    return number ? 128 + number : (int)s->failure.kind;
}

int script_run(struct config *config) {
    struct script s = {.config = config};
    struct err err = {0};
    s.stream = (struct answer_stream){.write = write_out, .ud = &s, .view = REASONING_NONE};
    s.front = front_of(&s);
    signal(SIGPIPE, SIG_IGN); /* EPIPE tells; the conversation is closed first */
    if (signals_open(watched, sizeof watched / sizeof *watched, &err) != 0) {
        print_error(&s, &err);
        return (int)err.kind;
    }
    if (chat_open(&s.chat, config, &s.front, &err) != 0) {
        print_error(&s, &err);
        return finish(&s);
    }
    if (run(&s, &err) != 0 && err.kind != ERR_NONE) print_error(&s, &err);
    chat_close(&s.chat);
    buf_release(&s.table.cells);
    return finish(&s);
}
