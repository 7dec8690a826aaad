/*
 * The chat and its commands over a worker without an engine (tests/support/fake_worker.h) and a
 * front end that writes down what it is told.
 */
#include "app/chat.h"
#include "app/commands.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "tests/support/environment.h"
#include "tests/support/fake_worker.h"
#include "tests/support/make_checkpoint.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- a front end that writes down ------------------------------------------------------------- */

/* One line per call: "out …", "note …", "error …", "row a|b", "think …", "text …", "end …". */
static struct buf said;
static const char *edited; /* what edit() gives back, NULL: given up */
static bool confirmed;
static struct engine_usage last_usage;
static uint64_t last_seed;

static void on_say(void *ui, enum tone tone, const char *text) {
    static const char *const names[] = {"out", "note", "error"};
    (void)ui;
    buf_printf(&said, "%s %s\n", names[tone], text);
}

static void on_row(void *ui, const char *const *cells, size_t n, bool is_head) {
    (void)ui;
    buf_puts(&said, is_head ? "head " : "row ");
    for (size_t i = 0; i < n; i++) buf_printf(&said, "%s%s", i ? "|" : "", cells[i]);
    buf_putc(&said, '\n');
}

static void on_progress(void *ui, const char *what, double share, double left, bool done) {
    (void)ui;
    (void)share;
    (void)left;
    if (!done) buf_printf(&said, "progress %s\n", what);
}

static void on_answer_text(void *ui, enum answer_part part, const char *text, size_t n) {
    (void)ui;
    buf_printf(&said, "%s %.*s\n", part == PART_ANSWER ? "text" : "think", (int)n, text);
}

static void on_answer_end(void *ui, const struct answer *answer) {
    (void)ui;
    last_usage = answer->usage;
    last_seed = answer->seed;
    buf_printf(&said, "end %d [%s] [%s]%s%s\n", answer->stop, answer->reasoning, answer->text,
               answer->err ? " " : "", answer->err ? answer->err->text : "");
}

static bool on_confirm(void *ui, const char *question) {
    (void)ui;
    buf_printf(&said, "confirm %s\n", question);
    return confirmed;
}

static char *on_edit(void *ui, const char *text) {
    (void)ui;
    buf_printf(&said, "edit %s\n", text);
    return edited ? mem_strdup(edited) : NULL;
}

static void on_clear(void *ui) {
    (void)ui;
    buf_puts(&said, "clear\n");
}

static struct frontend front = {.is_terminal = true,
                                .is_interactive = true,
                                .say = on_say,
                                .row = on_row,
                                .progress = on_progress,
                                .answer_text = on_answer_text,
                                .answer_end = on_answer_end,
                                .confirm = on_confirm,
                                .edit = on_edit,
                                .clear = on_clear};

/* --- a chat ----------------------------------------------------------------------------------- */

static char root[256];
static struct config config;
static struct chat chat;

static int set_up(void **state) {
    char path[300];
    (void)state;
    make_temporary_folder(root);
    environment_clear();
    setenv("HOME", root, 1);
    snprintf(path, sizeof path, "%s/etc", root);
    setenv("XDG_CONFIG_DIRS", path, 1);
    fake_worker_reset();
    fake_worker.template_name = "qwen2.5";
    front.is_terminal = front.is_interactive = true;
    edited = NULL;
    confirmed = false;
    buf_clear(&said);
    buf_puts(&said, "");
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    chat_close(&chat);
    config_release(&config);
    fake_worker_reset();
    buf_release(&said);
    remove_folder(root);
    return 0;
}

static void open_chat(const char *const *flags) {
    char *argv[16] = {(char *)(uintptr_t) "qwen-chat", (char *)(uintptr_t) "-m",
                      (char *)(uintptr_t) "a-model"};
    struct err err = {0};
    int argc = 3;
    for (; flags && *flags; flags++) argv[argc++] = (char *)(uintptr_t)*flags;
    if (config_open(&config, argc, argv, &err) != 0) fail_msg("%s", err.text);
    if (chat_open(&chat, &config, &front, &err) != 0) fail_msg("%s", err.text);
}

static int pump_once(struct err *err) {
    struct pollfd fd = {.fd = chat_fd(&chat), .events = POLLIN};
    if (poll(&fd, 1, 60000) != 1) fail_msg("nothing came for a minute after:\n%s", said.data);
    return chat_pump(&chat, err);
}

static void wait_until_ready(void) {
    struct err err = {0};
    while (!chat.is_ready) assert_int_equal(pump_once(&err), 0);
}

static void wait_for_answer(void) {
    struct err err = {0};
    while (chat_is_busy(&chat))
        if (pump_once(&err) != 0) fail_msg("%s", err.text);
}

/* Enters a line, waits for the answer if there is one, and gives what was said since. */
static const char *enter(const char *line) {
    struct err err = {0};
    buf_clear(&said);
    buf_puts(&said, "");
    if (chat_enter(&chat, line, &err) == CHAT_SENT) wait_for_answer();
    return said.data;
}

static void assert_says(const char *line, const char *expected) {
    const char *text = enter(line);
    if (!strstr(text, expected)) fail_msg("\"%s\" gave\n%s\nwithout\n%s", line, text, expected);
}

#define FLAGS(...)   ((const char *const[]){__VA_ARGS__, NULL})
#define ANSWERS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* --- talking ---------------------------------------------------------------------------------- */

static void test_answer(void **state) {
    (void)state;
    fake_worker.answers = ANSWERS("Hi 你好");
    fake_worker.reasoning = ANSWERS("hm");
    fake_worker.notice = "a notice of the model";
    open_chat(FLAGS("--seed", "5", "-n", "7", "--stop", "x", "--top-k", "3", "--think", "off"));
    wait_until_ready();
    assert_non_null(strstr(said.data, "progress loading\n"));
    assert_non_null(strstr(said.data, "note a notice of the model\n"));
    assert_string_equal(enter("hello"), "think h\nthink m\ntext H\ntext i\ntext  \ntext 你\n"
                                        "text 好\nend 1 [hm] [Hi 你好]\n");
    assert_string_equal(fake_request.messages, "user:hello\n");
    assert_int_equal(last_seed, 5);
    assert_int_equal(fake_request.sampling.seed, 5);
    assert_int_equal(fake_request.sampling.top_k, 3);        /* given */
    assert_true(fake_request.sampling.temperature == 0.75f); /* the model's */
    assert_int_equal(fake_request.max_tokens, 7);
    assert_int_equal(fake_request.n_stops, 1);
    assert_int_equal(fake_request.thinking, THINKING_OFF);
    enter("more");
    assert_string_equal(fake_request.messages, "user:hello\nassistant:Hi 你好\nuser:more\n");
    assert_int_equal(fake_request.n_reused, 1);
    assert_string_equal(chat.conversation.turns[1].reasoning, "hm");
    assert_string_equal(chat.conversation.turns[1].model, "fake");
}

static void test_seed_is_random(void **state) {
    (void)state;
    open_chat(NULL);
    uint64_t seeds[4];
    for (int i = 0; i < 4; i++) {
        enter("x");
        seeds[i] = last_seed;
    }
    assert_false(seeds[0] == seeds[1] && seeds[1] == seeds[2] && seeds[2] == seeds[3]);
}

/* A message before the model is loaded waits for it. */
static void test_type_ahead(void **state) {
    (void)state;
    struct err err = {0};
    fake_hold_loading();
    open_chat(NULL);
    assert_int_equal(pump_once(&err), 0);
    assert_false(chat.is_ready);
    fake_let_load();
    assert_says("early", "end 1 [] [answer]\n");
    assert_string_equal(fake_request.messages, "user:early\n");
}

static void test_interrupt(void **state) {
    (void)state;
    struct err err = {0};
    fake_worker.answers = ANSWERS("a long answer");
    fake_hold_answers();
    fake_let(1);
    open_chat(NULL);
    assert_int_equal(chat_enter(&chat, "go", &err), CHAT_SENT);
    while (!strstr(said.data, "text a")) assert_int_equal(pump_once(&err), 0);
    assert_int_equal(chat_enter(&chat, "again", &err), CHAT_FAILED);
    assert_non_null(strstr(said.data, "error an answer is running"));
    assert_int_equal(chat_enter(&chat, "/clear", &err), CHAT_FAILED);
    assert_int_equal(chat_enter(&chat, "/stats", &err), CHAT_DONE);
    chat_interrupt(&chat);
    wait_for_answer();
    assert_non_null(strstr(said.data, "end 5 [] [a"));
    assert_int_equal(chat.conversation.n_turns, 2);
    assert_true(chat.conversation.turns[1].is_partial);
    assert_int_equal(strncmp(chat.conversation.turns[1].content, "a", 1), 0);
}

static void test_interrupt_while_loading(void **state) {
    (void)state;
    struct err err = {0};
    fake_worker.loading_ms = 60000;
    open_chat(NULL);
    assert_int_equal(chat_enter(&chat, "go", &err), CHAT_SENT);
    assert_true(chat_is_busy(&chat));
    chat_interrupt(&chat);
    assert_false(chat_is_busy(&chat));
    assert_non_null(strstr(said.data, "end 5 [] []\n"));
}

static void test_errors(void **state) {
    (void)state;
    err_set(&fake_worker.answer_error, ERR_CONTEXT, "too long");
    open_chat(NULL);
    assert_says("hello", "end 6 [] [] too long\n");
    assert_int_equal(chat.conversation.leaf, 0); /* the question is taken back */
    fake_worker.error_after = 3;
    assert_says("hello", "end 6 [] [ans] too long\n");
    assert_true(chat.conversation.turns[2].is_partial);
    assert_int_equal(chat.conversation.leaf, 3);
}

static void test_broken_engine(void **state) {
    (void)state;
    struct err err = {0};
    err_set(&fake_worker.answer_error, ERR_MEMORY, "the device is gone");
    fake_worker.error_after = 2;
    fake_worker.breaks = true;
    open_chat(NULL);
    wait_until_ready();
    assert_int_equal(chat_enter(&chat, "hello", &err), CHAT_SENT);
    while (pump_once(&err) == 0) {
    }
    assert_int_equal(err.kind, ERR_MEMORY);
    assert_non_null(strstr(said.data, "end 6 [] [an] the device is gone"));
    assert_int_equal(chat.conversation.n_turns, 2); /* and the partial answer is kept */
}

static void test_load_error(void **state) {
    (void)state;
    struct err err = {0};
    err_set(&fake_worker.load_error, ERR_MODEL, "no such model");
    open_chat(NULL);
    assert_int_equal(chat_enter(&chat, "hello", &err), CHAT_SENT);
    while (pump_once(&err) == 0) {
    }
    assert_int_equal(err.kind, ERR_MODEL);
    assert_non_null(strstr(said.data, "end 6 [] [] no such model"));
}

/* Model text cannot act on a terminal; in a pipe it is as it is. */
static void test_sanitized(void **state) {
    (void)state;
    fake_worker.answers = ANSWERS("a\x1b[2Jb");
    open_chat(NULL);
    const char *text = enter("x");
    assert_null(strchr(text, '\x1b'));
    assert_non_null(strstr(text, "[a␛[2Jb]"));
    assert_string_equal(chat.conversation.turns[1].content, "a\x1b[2Jb");
    assert_null(strchr(enter("/history"), '\x1b'));
    front.is_terminal = false;
    assert_non_null(strstr(enter("x"), "[a\x1b[2Jb]"));
}

/* --- what a line is --------------------------------------------------------------------------- */

static void test_lines(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *message; /* NULL: a command */
        const char *name, *arguments;
    } cases[] = {
        {"hello", "hello", NULL, NULL},
        {"", "", NULL, NULL},
        {" /help", " /help", NULL, NULL},
        {"/help", NULL, "help", ""},
        {"/help  set", NULL, "help", "set"},
        {"/nonsense x", NULL, "nonsense", "x"},
        {"/", NULL, "", ""},
        {"//etc/passwd", "/etc/passwd", NULL, NULL},
        {"／help", NULL, "help", ""},
        {"／／help", "／help", NULL, NULL},
        {"：help", NULL, "help", ""},
        {":q", NULL, "q", ""},
        {":clear-his", NULL, "clear-his", ""},
        {":conf top_k=1", NULL, "conf", "top_k=1"},
        {":reset-conf", NULL, "reset-conf", ""},
        {":-)", ":-)", NULL, NULL},
        {":D", ":D", NULL, NULL},
        {":", ":", NULL, NULL},
        {"::help", "::help", NULL, NULL},
        {"/system a\nb", NULL, "system", "a\nb"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct line line = line_parse(cases[i].text);
        assert_int_equal(line.kind, cases[i].message ? LINE_MESSAGE : LINE_COMMAND);
        if (cases[i].message) {
            assert_string_equal(line.text, cases[i].message);
            continue;
        }
        assert_int_equal(line.n_name, strlen(cases[i].name));
        assert_memory_equal(line.name, cases[i].name, line.n_name);
        assert_string_equal(line.arguments, cases[i].arguments);
    }
}

static void test_table(void **state) {
    (void)state;
    static const char *const demo[] = {
        "help",      "h",   "exit",    "quit", "q",    "clear", "cl",         "clear-history",
        "clear-his", "clh", "history", "his",  "seed", "conf",  "reset-conf", "bye"};
    for (size_t i = 0; i < sizeof demo / sizeof *demo; i++)
        if (command_find(demo[i], strlen(demo[i])) < 0) fail_msg("no command %s", demo[i]);
    for (int a = 0; a < N_COMMANDS; a++) {
        assert_int_equal(command_find(command_table[a].name, strlen(command_table[a].name)), a);
        assert_true(strlen(command_table[a].help) > 5);
    }
    assert_int_equal(command_find("", 0), -1);
    assert_string_equal(command_nearest("regne"), "regen");
    assert_null(command_nearest("xylophone"));
}

/* --- commands --------------------------------------------------------------------------------- */

static void test_unknown(void **state) {
    (void)state;
    open_chat(NULL);
    assert_says("/hlep", "error unknown command /hlep; did you mean /help?");
    assert_says("/etc/passwd is what?", "error unknown command /etc/passwd; /help lists them");
    assert_int_equal(chat.conversation.n_turns, 0);
    assert_says("//etc", "end 1");
    assert_string_equal(fake_request.messages, "user:/etc\n");
    assert_says("/regen now", "error /regen takes nothing, found \"now\"");
}

static void test_help(void **state) {
    (void)state;
    open_chat(NULL);
    enter("/help");
    for (int i = 0; i < N_COMMANDS; i++) {
        char row[64];
        snprintf(row, sizeof row, "row /%s", command_table[i].name);
        if (!strstr(said.data, row)) fail_msg("/help lacks %s", row);
        if (!strstr(said.data, command_table[i].help)) fail_msg("/help lacks %s's help", row);
    }
    assert_says("/help quit", "row /exit|");
    assert_says("/help /set", "also: conf");
    assert_says("/help nothing-at-all", "error unknown command /nothing-at-all");
}

static void test_exit(void **state) {
    (void)state;
    struct err err;
    open_chat(NULL);
    assert_int_equal(chat_enter(&chat, "/exit", &err), CHAT_QUIT);
    assert_int_equal(chat_enter(&chat, ":q", &err), CHAT_QUIT);
    assert_int_equal(chat_enter(&chat, "/bye", &err), CHAT_QUIT);
}

static void test_regen_undo_edit(void **state) {
    (void)state;
    fake_worker.answers = ANSWERS("a1", "a2", "a3", "a4");
    open_chat(NULL);
    assert_says("/regen", "error there is no message");
    assert_says("/undo", "error there is nothing");
    assert_says("/edit x", "error there is no message");
    enter("q1");
    assert_says("/regen", "[a2]");
    assert_false(strstr(said.data, "note at temperature 0"));
    assert_string_equal(fake_request.messages, "user:q1\n");
    enter("q2");
    assert_string_equal(fake_request.messages, "user:q1\nassistant:a2\nuser:q2\n");
    edited = "q2, better";
    assert_says("/edit", "edit q2\n");
    assert_string_equal(fake_request.messages, "user:q1\nassistant:a2\nuser:q2, better\n");
    assert_says("/undo", "note taken back: q2, better");
    assert_int_equal(chat.conversation.leaf, 3);
    edited = NULL;
    assert_says("/edit", "note the message stays as it was");
    assert_int_equal(chat.conversation.leaf, 3);
    assert_says("/edit q1, better", "end 1");
    assert_string_equal(fake_request.messages, "user:q1, better\n");
    assert_int_equal(chat.conversation.n_turns, 9); /* nothing said was thrown away */
    enter("/set temperature 0");
    assert_says("/regen", "note at temperature 0");
    front.is_interactive = false;
    assert_says("/edit", "error /edit: the new text is needed");
}

static void test_system(void **state) {
    (void)state;
    char path[300];
    open_chat(FLAGS("--system", "of the flag"));
    wait_until_ready();
    assert_says("/system", "out of the flag");
    enter("q");
    assert_string_equal(fake_request.messages, "system:of the flag\nuser:q\n");
    enter("/system Be brief");
    enter("/undo");
    enter("q");
    assert_string_equal(fake_request.messages, "system:Be brief\nuser:q\n");
    write_file(root, "system.txt", "From a file", 11);
    snprintf(path, sizeof path, "/system @~/system.txt");
    enter(path);
    assert_says("/system", "out From a file");
    assert_says("/system @/nonexistent", "error /nonexistent: cannot open");
    enter("/system off");
    assert_says("/system", "out the model's own: You are Qwen");
    enter("/clear"); /* a new conversation begins as the first one did */
    assert_says("/system", "out of the flag");
}

static void test_set(void **state) {
    (void)state;
    open_chat(FLAGS("--top-p", "0.5"));
    assert_says("/set", "row sampling.top_p|0.5|--top-p");
    assert_says("/set temp 0.3", "row sampling.temperature|0.3|/set");
    enter("q");
    assert_true(fake_request.sampling.temperature == 0.3f);
    assert_says("/set temp=0", "row sampling.temperature|0|");
    assert_says("/set temperature = 0.25", "row sampling.temperature|0.25|");
    assert_says(":conf top_k=7", "row sampling.top_k|7|");
    assert_says("/set temp", "out Temperature;");
    assert_says("/set temp 0.7x", "error sampling.temperature: a number is needed");
    assert_says("/set temp", "row sampling.temperature|0.25|");
    assert_says("/set tmep 1", "error unknown option tmep; did you mean temp");
    assert_says("/set history false", "error chat.history is read at the start");
    assert_says("/set threads 2", "note it holds from the next /model PATH on");
    assert_says("/set temp default", "row sampling.temperature|null|");
    assert_says("/reset", "note what /set changed");
    assert_says("/set top_k", "row sampling.top_k|null|default");
    assert_says("/set top_p", "row sampling.top_p|0.5|--top-p");
    assert_says("/seed 42", "row sampling.seed|42|");
    assert_says("/seed", "out 42");
    assert_says("/seed random", "row sampling.seed|null|");
    assert_says("/seed", "out a new one for each answer");
    assert_says("/seed x", "error sampling.seed: a whole number");
    assert_says("/think on", "row chat.think|on|");
    assert_says("/think on", "note this model does not reason");
    assert_says("/think maybe", "error chat.think: one of");
}

static void test_raw(void **state) {
    (void)state;
    open_chat(NULL);
    wait_until_ready();
    assert_says("/raw on", "note each text is completed as it is");
    enter("Once upon");
    assert_string_equal(fake_request.messages, "raw:Once upon\n");
    assert_says("/raw", "note each text is a message");
    enter("q");
    assert_non_null(strstr(fake_request.messages, "user:q\n"));
    assert_says("/raw maybe", "error /raw: on or off");
}

static void test_base_model(void **state) {
    (void)state;
    fake_worker.template_name = NULL;
    open_chat(NULL);
    wait_until_ready();
    assert_non_null(strstr(said.data, "note fake has no chat template: it completes raw text"));
    enter("Once upon");
    assert_string_equal(fake_request.messages, "raw:Once upon\n");
    assert_says("/raw off", "error the model has no chat template");
}

static void test_keeping(void **state) {
    (void)state;
    char line[128], id[32];
    open_chat(NULL);
    assert_says("/resume", "out no conversation has been kept yet");
    enter("first question");
    snprintf(id, sizeof id, "%s", chat.conversation.id);
    assert_says("/save My title", "out saved as ");
    assert_says("/clear", "clear\n");
    assert_string_not_equal(chat.conversation.id, id);
    assert_says("/history", "out nothing has been said yet");
    assert_says("/resume", "|2|My title\n");
    snprintf(line, sizeof line, "/resume %.15s", id);
    assert_says(line, "out user: first question");
    enter("second");
    assert_string_equal(fake_request.messages,
                        "user:first question\nassistant:answer\nuser:second\n");
    assert_int_equal(fake_request.n_reused, 1);
    snprintf(line, sizeof line, "/resume %s", id);
    assert_says(line, "note that is the one that is open");
    enter("/clear");
    assert_says("/resume last", "out user: first question");
    assert_says("/resume 1999", "error 1999: no conversation begins so");
}

/* --resume goes on; scripts keep nothing unless they resume. */
static void test_resume_flag(void **state) {
    (void)state;
    front.is_interactive = false;
    open_chat(NULL);
    enter("not kept");
    assert_null(chat.conversation.folder);
    chat_close(&chat);
    config_release(&config);

    front.is_interactive = true;
    open_chat(NULL);
    enter("kept");
    chat_close(&chat);
    config_release(&config);

    front.is_interactive = false;
    open_chat(FLAGS("--resume", "--system", "S"));
    enter("more");
    assert_string_equal(fake_request.messages,
                        "system:S\nuser:kept\nassistant:answer\nuser:more\n");
    chat_close(&chat);
    config_release(&config);

    front.is_interactive = true;
    open_chat(FLAGS("--no-history"));
    enter("private");
    assert_null(chat.conversation.folder);
    assert_says("/save", "note this conversation is not kept");
}

static void test_not_saved(void **state) {
    (void)state;
    open_chat(NULL);
    wait_until_ready();
    io_fail_at(1, 28, true);
    const char *text = enter("hello");
    io_fail_at(0, 0, false);
    assert_non_null(strstr(text, "error not saved: "));
    assert_non_null(strstr(text, "No space left"));
    assert_non_null(strstr(text, "end 1 [] [answer]")); /* and the chat goes on */
    assert_null(strstr(enter("again"), "not saved"));
    enter("/clear");
    assert_says("/resume last", "out user: hello");
}

static void test_export(void **state) {
    (void)state;
    struct buf text = {0};
    struct err err;
    char path[300], line[400];
    open_chat(NULL);
    enter("hi");
    snprintf(path, sizeof path, "%s/a file.md", root);
    snprintf(line, sizeof line, "/export %s", path);
    assert_says(line, "note written to ");
    assert_int_equal(io_read_file(path, 1 << 16, &text, &err), 0);
    assert_string_equal(text.data, "# hi\n\n## User\n\nhi\n\n## Assistant (fake)\n\nanswer\n\n");
    assert_says(line, "confirm ");
    assert_says(line, "error ");
    confirmed = true;
    assert_says(line, "note written to ");
    assert_says("/export ~/x json", "note written to ");
    snprintf(path, sizeof path, "%s/x", root);
    assert_true(io_exists(path));
    assert_says("/export", "error /export: the name of a file is needed");
    assert_says("/export ~/x.pdf", "error /export: md, json or txt is needed");
    assert_says("/export /nonexistent/x.md", "error /nonexistent/x.md");
    buf_release(&text);
}

static void test_stats_and_model(void **state) {
    (void)state;
    open_chat(NULL);
    enter("hi");
    assert_says("/stats", "row last prompt|10 tokens, 0 of them cached");
    assert_says("/stats", "row last answer|6 tokens");
    assert_says("/stats", "|1.00 s, 5.0 tokens/s");
    assert_says("/model", "row model|fake (fake)");
    assert_says("/model", "row template|qwen2.5");
    assert_says("/model /nonexistent", "error ");
    assert_true(chat.is_ready); /* the old one is still there */
    assert_says("again", "end 1");
}

/* Another model goes on with the conversation; one that cannot be loaded gives way to the old. */
static void test_other_model(void **state) {
    (void)state;
    const struct tiny_spec spec = {.layers = 1};
    char path[300], line[320];
    snprintf(path, sizeof path, "%s/tiny.gguf", root);
    assert_int_equal(make_tiny_gguf(path, &spec), 0);
    snprintf(line, sizeof line, "/model %s", path);
    open_chat(NULL);
    enter("hi");
    fake_worker.model_name = "other";
    enter(line);
    wait_until_ready();
    assert_says("/model", "row model|other");
    enter("more");
    assert_string_equal(fake_request.messages, "user:hi\nassistant:answer\nuser:more\n");

    char copy[300];
    struct buf bytes = {0};
    struct err err;
    snprintf(copy, sizeof copy, "%s/bad.gguf", root);
    assert_int_equal(io_read_file(path, 1 << 26, &bytes, &err), 0);
    assert_int_equal(io_write_atomic(copy, 0600, bytes.data, bytes.n, &err), 0);
    buf_release(&bytes);
    err_set(&fake_worker.load_error, ERR_MEMORY, "does not fit");
    fake_worker.bad_model = copy;
    snprintf(line, sizeof line, "/model %s", copy);
    enter(line);
    wait_until_ready();
    assert_non_null(strstr(said.data, "error does not fit"));
    assert_non_null(strstr(said.data, "note going back to "));
    assert_says("/model", "tiny.gguf");
}

/* --- completion ------------------------------------------------------------------------------- */

static void assert_completes(const char *line, size_t begin, const char *expected) {
    struct chat_completion completion;
    struct buf words = {0};
    assert_int_equal(chat_complete(&chat, line, strlen(line), &completion), 0);
    buf_puts(&words, "");
    for (size_t i = 0; i < completion.n_words; i++)
        buf_printf(&words, "%s%s", i ? " " : "", completion.words[i]);
    if (strcmp(words.data, expected) != 0)
        fail_msg("\"%s\" gave \"%s\", expected \"%s\"", line, words.data, expected);
    if (completion.n_words) assert_int_equal(completion.begin, begin);
    buf_release(&words);
    chat_completion_release(&completion);
}

static void test_completion(void **state) {
    (void)state;
    char line[300], expected[600];
    open_chat(NULL);
    assert_completes("/se", 0, "/set /seed /search");
    assert_completes("／ex", 0, "／exit ／export");
    assert_completes("hello", 0, "");
    assert_completes("hello /se", 0, "");
    assert_completes("/nonsense x", 0, "");
    assert_completes("/help re", 6, "reset regen resume rename");
    assert_completes("/set top", 5, "top_k top_p");
    assert_completes("/set sampling.top_", 5, "sampling.top_k sampling.top_p");
    assert_completes("/set think o", 11, "on off");
    assert_completes("/set raw ", 9, "true false default");
    assert_completes("/set top_k d", 11, "default");
    assert_completes("/think ", 7, "on off default");
    assert_completes("/exit x", 0, "");
    write_file(root, "one.md", "", 0);
    write_file(root, "one more.txt", "", 0);
    write_file(root, ".hidden", "", 0);
    snprintf(line, sizeof line, "/export %s/on", root);
    snprintf(expected, sizeof expected, "%s/one more.txt %s/one.md", root, root);
    assert_completes(line, 8, expected);
    snprintf(line, sizeof line, "/export %s/one m", root);
    snprintf(expected, sizeof expected, "%s/one more.txt", root);
    assert_completes(line, 8, expected);
    assert_completes("/export ~/one.", 8, "~/one.md");
    assert_completes("/export ~/.hid", 8, "~/.hidden");
    assert_completes("/system @~/one.", 9, "~/one.md");
    assert_completes("/system o", 8, "off");
    enter("x");
    snprintf(line, sizeof line, "/resume %.10s", chat.conversation.id);
    assert_completes(line, 8, chat.conversation.id);
    assert_completes("/resume l", 8, "last");
}

/* Rows of one width, in a conversation that stays as it was. */
static void test_bench(void **state) {
    (void)state;
    struct err err = {0};
    open_chat(NULL);
    enter("hi");
    const char *text = enter("/bench -p 0 -n 64 -d 16 -r 2");
    assert_non_null(strstr(text, "progress tg64 @ d16\n"));
    assert_non_null(strstr(text, "head test            |             t/s| roof|"));
    assert_non_null(strstr(text,
                           "row tg64 @ d16      |   100.00 ± 0.00| 50 %|     20.0| 100.00 MiB|"
                           "200.00 MiB|█████░░░░░\n"));
    assert_null(strstr(text, "end "));
    assert_int_equal(fake_request.n_tests, 1);
    assert_int_equal(fake_request.repetitions, 2);
    enter("more");
    assert_string_equal(fake_request.messages, "user:hi\nassistant:answer\nuser:more\n");
    enter("/bench");
    assert_int_equal(fake_request.n_tests, 2);
    assert_int_equal(fake_request.test.n_prompt, 512);

    assert_int_equal(chat_enter(&chat, "/bench", &err), CHAT_SENT);
    assert_true(chat_is_busy(&chat));
    assert_int_equal(chat_enter(&chat, "hello", &err), CHAT_FAILED);
    chat_interrupt(&chat);
    wait_for_answer();
    assert_non_null(strstr(said.data, "note the bench was stopped\n"));
    assert_says("/bench -m x", "error -m is for qwen-chat bench");
    assert_says("/bench 512", "error bench takes flags only");
    assert_says("/bench -r 0", "error -r: 0 is not in 1 to 100");
}

static void test_bench_while_loading(void **state) {
    (void)state;
    struct err err = {0};
    fake_worker.loading_ms = 100;
    open_chat(NULL);
    assert_int_equal(chat_enter(&chat, "/bench", &err), CHAT_FAILED);
    assert_non_null(strstr(err.text, "not loaded yet"));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_answer),
        TEST(test_seed_is_random),
        TEST(test_type_ahead),
        TEST(test_interrupt),
        TEST(test_interrupt_while_loading),
        TEST(test_errors),
        TEST(test_broken_engine),
        TEST(test_load_error),
        TEST(test_sanitized),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_table),
        TEST(test_unknown),
        TEST(test_help),
        TEST(test_exit),
        TEST(test_regen_undo_edit),
        TEST(test_system),
        TEST(test_set),
        TEST(test_raw),
        TEST(test_base_model),
        TEST(test_keeping),
        TEST(test_resume_flag),
        TEST(test_not_saved),
        TEST(test_export),
        TEST(test_stats_and_model),
        TEST(test_other_model),
        TEST(test_bench),
        TEST(test_bench_while_loading),
        TEST(test_completion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
