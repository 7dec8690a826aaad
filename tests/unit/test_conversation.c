/* The tree, its journal with every kind of damage, copies, lists and exports. */
#include "app/conversation.h"
#include "app/journal.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64], folder[128];

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/qwen-conversation-XXXXXX");
    if (!mkdtemp(root)) return -1;
    snprintf(folder, sizeof folder, "%s/data/conversations", root);
    return 0;
}

static int drop_root(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static int add(struct conversation *c, enum role role, const char *text, struct err *err) {
    const struct turn turn = {.role = role, .content = (char *)(uintptr_t)text};
    return conversation_add(c, &turn, err);
}

static void add_well(struct conversation *c, enum role role, const char *text) {
    struct err err = {0};
    if (add(c, role, text, &err) != 0) fail_msg("%s", err.text);
}

static void path_of(const struct conversation *c, char path[256]) {
    snprintf(path, 256, "%s/%s.jsonl", folder, c->id);
}

static void read_file(const char *path, struct buf *out) {
    struct err err;
    buf_clear(out);
    if (io_read_file(path, 1 << 24, out, &err) != 0) fail_msg("%s", err.text);
}

static void write_file(const char *path, const char *text, size_t n) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* The branch as "user text|assistant text|…". */
static void print_branch(const struct conversation *c, struct buf *out) {
    const struct turn **turns;
    struct err err;
    size_t n;
    buf_clear(out);
    assert_int_equal(conversation_branch(c, &turns, &n, &err), 0);
    for (size_t i = 0; i < n; i++) buf_printf(out, "%s%s", i ? "|" : "", turns[i]->content);
    mem_free(turns);
}

static void assert_branch(const struct conversation *c, const char *expected) {
    struct buf text = {0};
    print_branch(c, &text);
    assert_string_equal(text.data ? text.data : "", expected);
    buf_release(&text);
}

/* A conversation of two exchanges, closed; its path. */
static void make_two(char path[256]) {
    struct conversation c;
    struct err err;
    assert_int_equal(conversation_new(&c, folder, &err), 0);
    add_well(&c, ROLE_USER, "one");
    add_well(&c, ROLE_ASSISTANT, "eins");
    add_well(&c, ROLE_USER, "two");
    add_well(&c, ROLE_ASSISTANT, "zwei");
    path_of(&c, path);
    conversation_release(&c);
}

static void test_tree(void **state) {
    (void)state;
    struct conversation c;
    struct err err;
    assert_int_equal(conversation_new(&c, NULL, &err), 0);
    assert_branch(&c, "");
    add_well(&c, ROLE_USER, "q");
    add_well(&c, ROLE_ASSISTANT, "a1");
    assert_int_equal(conversation_move(&c, 1, &err), 0);
    add_well(&c, ROLE_ASSISTANT, "a2");
    assert_branch(&c, "q|a2");
    assert_int_equal(conversation_move(&c, 2, &err), 0);
    assert_branch(&c, "q|a1");
    assert_int_equal(conversation_move(&c, 0, &err), 0);
    assert_branch(&c, "");
    add_well(&c, ROLE_USER, "other");
    assert_branch(&c, "other");
    assert_int_equal(c.n_turns, 4);
    assert_null(conversation_turn(&c, 0));
    assert_null(conversation_turn(&c, 5));
    assert_int_equal(conversation_turn(&c, 3)->parent, 1);
    assert_string_equal(c.title, "q");
    assert_int_equal(c.unsaved.n, 0); /* nothing piles up where nothing is kept */
    conversation_release(&c);
}

static void test_round_trip(void **state) {
    (void)state;
    struct conversation c, d;
    struct err err = {0};
    int32_t ids[] = {0, 7, 151644};
    char path[256];
    struct stat st;
    assert_int_equal(conversation_new(&c, folder, &err), 0);
    assert_int_equal(conversation_set_system(&c, "Be \"brief\"\n", &err), 0);
    path_of(&c, path);
    assert_false(io_exists(path)); /* the file appears with the first turn */
    add_well(&c, ROLE_USER, "你好 \x01 \\ \"\n");
    struct turn turn = {.role = ROLE_ASSISTANT,
                        .content = (char *)(uintptr_t) "Hello 😀",
                        .reasoning = (char *)(uintptr_t) "hm",
                        .model = (char *)(uintptr_t) "Qwen",
                        .tokenizer = (char *)(uintptr_t) "151936-00ff",
                        .tokens = {.ids = ids, .n = 3},
                        .unix_ms = 1764000000123,
                        .is_partial = true};
    assert_int_equal(conversation_add(&c, &turn, &err), 0);
    assert_int_equal(conversation_set_title(&c, "a title", &err), 0);
    assert_int_equal(conversation_move(&c, 1, &err), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    char id[32];
    snprintf(id, sizeof id, "%s", c.id);
    conversation_release(&c);

    assert_int_equal(conversation_open(&d, folder, id, &err), 0);
    assert_string_equal(d.notice, "");
    assert_int_equal(d.n_damaged, 0);
    assert_string_equal(d.title, "a title");
    assert_string_equal(d.system, "Be \"brief\"\n");
    assert_int_equal(d.leaf, 1);
    assert_string_equal(d.turns[0].content, "你好 \x01 \\ \"\n");
    const struct turn *t = &d.turns[1];
    assert_string_equal(t->content, "Hello 😀");
    assert_string_equal(t->reasoning, "hm");
    assert_string_equal(t->model, "Qwen");
    assert_string_equal(t->tokenizer, "151936-00ff");
    assert_int_equal(t->tokens.n, 3);
    assert_int_equal(t->tokens.ids[2], 151644);
    assert_int_equal(t->unix_ms, 1764000000123);
    assert_true(t->is_partial);
    assert_int_equal(conversation_set_system(&d, NULL, &err), 0);
    conversation_release(&d);
    assert_int_equal(conversation_open(&d, folder, "", &err), 0);
    assert_null(d.system);
    conversation_release(&d);
}

/* What is not UTF-8 would make the record unreadable. */
static void test_bad_utf8(void **state) {
    (void)state;
    struct conversation c;
    struct err err;
    assert_int_equal(conversation_new(&c, folder, &err), 0);
    add_well(&c, ROLE_USER, "a\xff\xc3z");
    conversation_release(&c);
    assert_int_equal(conversation_open(&c, folder, "", &err), 0);
    assert_int_equal(c.n_damaged, 0);
    assert_branch(&c, "a\uFFFD\uFFFDz");
    conversation_release(&c);
}

/* Cut anywhere: every record before the cut is there, none is damaged, and it can be gone on with.
 */
static void test_torn(void **state) {
    (void)state;
    struct buf whole = {0}, text = {0};
    struct err err;
    char path[256];
    make_two(path);
    read_file(path, &whole);
    for (size_t cut = 0; cut <= whole.n; cut++) {
        struct conversation c;
        size_t n_lines = 0;
        for (size_t i = 0; i < cut; i++) n_lines += whole.data[i] == '\n';
        write_file(path, whole.data, cut);
        assert_int_equal(conversation_open(&c, folder, "", &err), 0);
        assert_int_equal(c.n_damaged, 0);
        assert_int_equal(c.n_turns, n_lines ? n_lines - 1 : 0); /* one line is the title */
        add_well(&c, ROLE_USER, "next");
        print_branch(&c, &text);
        conversation_release(&c);
        assert_int_equal(conversation_open(&c, folder, "", &err), 0);
        assert_int_equal(c.n_damaged, 0);
        assert_branch(&c, text.data);
        conversation_release(&c);
    }
    buf_release(&whole);
    buf_release(&text);
}

/* One byte changed anywhere: one record at most is lost, and what hung on it hangs on. */
static void test_damaged_byte(void **state) {
    (void)state;
    struct buf whole = {0};
    struct err err;
    char path[256];
    make_two(path);
    read_file(path, &whole);
    for (size_t at = 0; at < whole.n; at++) {
        static const char bytes[] = {0, '\n', '"', '{', (char)0xff, '9'};
        for (size_t b = 0; b < sizeof bytes; b++) {
            struct conversation c;
            char before = whole.data[at];
            if (before == bytes[b]) continue;
            whole.data[at] = bytes[b];
            write_file(path, whole.data, whole.n);
            whole.data[at] = before;
            assert_int_equal(conversation_open(&c, folder, "", &err), 0);
            if (before == '\n' && at + 1 < whole.n)
                assert_true(c.n_turns >= 2);
            else
                assert_true(c.n_turns >= 3);
            bool is_newer = strstr(c.notice, "newer") != NULL; /* the version was hit */
            if (at + 1 < whole.n && !c.n_damaged && !is_newer) fail_msg("byte %zu", at);
            for (size_t i = 1; i < c.n_turns; i++)
                assert_int_equal(c.turns[i].parent, c.turns[i - 1].id);
            conversation_release(&c);
        }
    }
    buf_release(&whole);
}

static void test_middle_is_kept(void **state) {
    (void)state;
    struct conversation c;
    struct buf whole = {0}, after = {0};
    struct err err;
    char path[256];
    make_two(path);
    read_file(path, &whole);
    char *third = strstr(whole.data, "\"id\":3");
    assert_non_null(third);
    third[5] = '4';
    write_file(path, whole.data, whole.n);
    assert_int_equal(conversation_open(&c, folder, "", &err), 0);
    assert_int_equal(c.n_damaged, 1);
    assert_non_null(strstr(c.notice, "1 damaged"));
    assert_branch(&c, "one|eins|zwei");
    add_well(&c, ROLE_USER, "three");
    conversation_release(&c);
    read_file(path, &after);
    assert_true(after.n > whole.n && memcmp(after.data, whole.data, whole.n) == 0);
    buf_release(&whole);
    buf_release(&after);
}

/* Files that are no journals at all. */
static void test_rubbish(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "\n\n\n",
        "{}\n",
        "[1,2]\n",
        "null\n",
        "{\"v\":1}\n",
        "{\"v\":1,\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\",\"content\":\"x\"}\n",
        "{\"v\":0,\"kind\":\"leaf\",\"id\":0,\"sum\":\"0000000000000000\"}\n",
        "\xff\xfe\x00\x01\n",
    };
    struct err err;
    char path[256];
    make_two(path);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct conversation c;
        write_file(path, texts[i], strlen(texts[i]));
        assert_int_equal(conversation_open(&c, folder, "", &err), 0);
        assert_int_equal(c.n_turns, 0);
        conversation_release(&c);
    }
}

/* Records with a right checksum and wrong contents. */
static void test_hostile_records(void **state) {
    (void)state;
    static const char *const heads[] = {
        "\"kind\":\"turn\",\"id\":0,\"parent\":0,\"role\":\"user\",\"content\":\"x\"",
        "\"kind\":\"turn\",\"id\":1,\"parent\":1,\"role\":\"user\",\"content\":\"x\"",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"king\",\"content\":\"x\"",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\"",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\",\"content\":7",
        "\"kind\":\"turn\",\"id\":1.5,\"parent\":0,\"role\":\"user\",\"content\":\"x\"",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\",\"content\":\"x\",\"tokens\":7",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\",\"content\":\"x\",\"tokens\":[-"
        "1]",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\",\"content\":\"x\",\"tokens\":[1."
        "5]",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\",\"content\":\"x\",\"tokens\":["
        "1e12]",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\",\"content\":\"x\",\"tokens\":["
        "\"1\"]",
        "\"kind\":\"turn\",\"id\":1,\"id\":2,\"parent\":0,\"role\":\"user\",\"content\":\"x\"",
        "\"kind\":\"leaf\",\"id\":9",
        "\"kind\":\"leaf\"",
        "\"kind\":\"title\",\"text\":5",
        "\"kind\":\"what\"",
        "\"kind\":5",
        "\"kind\":\"turn\",\"id\":1,\"parent\":0,\"role\":\"user\",\"content\":[[[[[[[[]]]]]]]]",
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        struct conversation c = {.fd = -1};
        struct journal_result result;
        struct err err;
        struct buf line = {0};
        buf_printf(&line, "{\"v\":1,%s", heads[i]);
        journal_print_sum(0, &line);
        assert_int_equal(journal_read(&c, line.data, line.n, &result, &err), 0);
        if (c.n_damaged != 1 || c.n_turns) fail_msg("accepted: %s", line.data);
        assert_int_equal(result.whole_bytes, line.n);
        buf_release(&line);
        conversation_release(&c);
    }
}

static void test_newer_version(void **state) {
    (void)state;
    struct conversation c;
    struct buf whole = {0}, after = {0};
    struct err err;
    char path[256], id[32];
    make_two(path);
    read_file(path, &whole);
    buf_puts(&whole, "{\"v\":2,\"kind\":\"turn\",\"new\":1}\n");
    write_file(path, whole.data, whole.n);
    assert_int_equal(conversation_open(&c, folder, "", &err), 0);
    assert_non_null(strstr(c.notice, "newer"));
    assert_non_null(strstr(c.notice, "copy"));
    assert_int_equal(c.n_damaged, 0);
    add_well(&c, ROLE_USER, "three");
    snprintf(id, sizeof id, "%s", c.id);
    conversation_release(&c);
    read_file(path, &after);
    assert_int_equal(after.n, whole.n); /* the newer file is as it was */
    assert_int_equal(conversation_open(&c, folder, id, &err), 0);
    assert_string_equal(c.notice, "");
    assert_branch(&c, "one|eins|two|zwei|three");
    conversation_release(&c);
    buf_release(&whole);
    buf_release(&after);
}

/* A second process gets a copy. flock() knows open files, so one process will do for two. */
static void test_second_instance(void **state) {
    (void)state;
    struct conversation a, b, d;
    struct err err;
    char path[256], id[32];
    make_two(path);
    assert_int_equal(conversation_open(&a, folder, "", &err), 0);
    assert_int_equal(conversation_open(&b, folder, "", &err), 0);
    assert_string_equal(a.notice, "");
    assert_non_null(strstr(b.notice, "in use"));
    assert_string_not_equal(a.id, b.id);
    add_well(&a, ROLE_USER, "mine");
    add_well(&b, ROLE_USER, "theirs");
    assert_branch(&a, "one|eins|two|zwei|mine");
    snprintf(id, sizeof id, "%s", b.id);
    conversation_release(&a);
    conversation_release(&b);
    assert_int_equal(conversation_open(&d, folder, id, &err), 0);
    assert_branch(&d, "one|eins|two|zwei|theirs");
    assert_string_equal(d.title, "one");
    conversation_release(&d);
}

static void test_ids(void **state) {
    (void)state;
    struct conversation c;
    struct err err = {0};
    char path[256], other[256];
    assert_int_equal(conversation_open(&c, folder, "", &err), -1);
    assert_int_equal(err.kind, ERR_IO);
    assert_int_equal(conversation_open(&c, NULL, "", &err), -1);
    make_two(path);
    snprintf(other, sizeof other, "%s/20010101-000000-0000.jsonl", folder);
    assert_int_equal(rename(path, other), 0);
    snprintf(other, sizeof other, "%s/20010102-000000-0000.jsonl", folder);
    write_file(other, "", 0);
    assert_int_equal(conversation_open(&c, folder, "20010101", &err), 0);
    assert_string_equal(c.id, "20010101-000000-0000");
    conversation_release(&c);
    assert_int_equal(conversation_open(&c, folder, "2001", &err), -1);
    assert_non_null(strstr(err.text, "2 conversations"));
    assert_int_equal(conversation_open(&c, folder, "../../etc", &err), -1);
}

static void test_list(void **state) {
    (void)state;
    struct conversation_entry *entries;
    struct conversation c;
    struct err err;
    size_t n;
    char path[256];
    assert_int_equal(conversation_list(folder, &entries, &n, &err), 0);
    assert_int_equal(n, 0);
    conversation_list_free(entries, n);
    make_two(path);
    /* an hour ago: the file system's times may be as coarse as they like */
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - 3600}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_int_equal(conversation_new(&c, folder, &err), 0);
    add_well(&c, ROLE_USER,
             "  a\nlong message that goes on and on, and then on and on, until the end of it");
    snprintf(path, sizeof path, "%s/notes.txt", folder);
    write_file(path, "x", 1);
    assert_int_equal(conversation_list(folder, &entries, &n, &err), 0);
    assert_int_equal(n, 2);
    assert_string_equal(entries[0].id, c.id); /* the newest first */
    assert_string_equal(entries[0].title,
                        "a long message that goes on and on, and then on and on, unti…");
    assert_int_equal(entries[1].n_turns, 4);
    assert_string_equal(entries[1].title, "one");
    conversation_list_free(entries, n);
    conversation_release(&c);
}

/* The disk is full, then not: nothing is lost, and the file has no half record. */
static void test_write_fails(void **state) {
    (void)state;
    for (int n_calls = 1; n_calls < 12; n_calls++) {
        struct conversation c;
        struct err err = {0};
        assert_int_equal(conversation_new(&c, folder, &err), 0);
        add_well(&c, ROLE_USER, "one");
        io_fail_at((unsigned long)n_calls, ENOSPC, true);
        int failed = add(&c, ROLE_ASSISTANT, "eins", &err);
        if (failed == 0) failed = add(&c, ROLE_USER, "two", &err);
        io_fail_at(0, 0, false);
        if (failed) {
            assert_int_equal(err.kind, ERR_IO);
            assert_non_null(strstr(err.text, "No space left"));
        }
        add_well(&c, ROLE_ASSISTANT, "last");
        struct buf text = {0};
        print_branch(&c, &text);
        char id[32];
        snprintf(id, sizeof id, "%s", c.id);
        conversation_release(&c);
        assert_int_equal(conversation_open(&c, folder, id, &err), 0);
        assert_int_equal(c.n_damaged, 0);
        assert_branch(&c, text.data);
        buf_release(&text);
        conversation_release(&c);
    }
}

/* A piece of a record stands in the file while the conversation is open: it is cut off first. */
static void test_half_written(void **state) {
    (void)state;
    char command[512], path[256];
    make_two(path);
    struct conversation c;
    struct err err = {0};
    assert_int_equal(conversation_open(&c, folder, "", &err), 0);
    /* what a torn append leaves behind, while the conversation is open */
    snprintf(command, sizeof command, "printf '{\"v\":1,\"kind\":\"tu' >> '%s'", path);
    assert_int_equal(system(command), 0);
    add_well(&c, ROLE_USER, "three");
    conversation_release(&c);
    assert_int_equal(conversation_open(&c, folder, "", &err), 0);
    assert_int_equal(c.n_damaged, 0);
    assert_branch(&c, "one|eins|two|zwei|three");
    conversation_release(&c);
}

static void test_export(void **state) {
    (void)state;
    static const struct {
        const char *format, *expected;
    } cases[] = {
        {"md", "# hi\n\n## System\n\nBe brief\n\n## User\n\nhi\n\n## Assistant (Qwen), "
               "interrupted\n\n> a\n> b\n\nhello \"you\"\n\n"},
        {"txt", "System: Be brief\n\nUser: hi\n\nAssistant: hello \"you\"\n\n"},
        {"json", "{\n  \"messages\": [\n    {\"role\": \"system\", \"content\": \"Be brief\"},\n"
                 "    {\"role\": \"user\", \"content\": \"hi\"},\n"
                 "    {\"role\": \"assistant\", \"content\": \"hello \\\"you\\\"\", "
                 "\"reasoning_content\": \"a\\nb\"}\n  ]\n}\n"},
    };
    struct conversation c;
    struct err err;
    struct buf out = {0};
    assert_int_equal(conversation_new(&c, NULL, &err), 0);
    assert_int_equal(conversation_set_system(&c, "Be brief", &err), 0);
    add_well(&c, ROLE_USER, "hi");
    struct turn turn = {.role = ROLE_ASSISTANT,
                        .content = (char *)(uintptr_t) "hello \"you\"",
                        .reasoning = (char *)(uintptr_t) "a\nb",
                        .model = (char *)(uintptr_t) "Qwen",
                        .is_partial = true};
    assert_int_equal(conversation_add(&c, &turn, &err), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf_clear(&out);
        assert_int_equal(conversation_export(&c, cases[i].format, &out, &err), 0);
        assert_string_equal(out.data, cases[i].expected);
    }
    assert_int_equal(conversation_export(&c, "pdf", &out, &err), -1);
    assert_int_equal(err.kind, ERR_USAGE);
    buf_release(&out);
    conversation_release(&c);
}

/* Without memory a change fails as a whole or is made; the file is right in any case. */
static void test_without_memory(void **state) {
    (void)state;
    for (unsigned long at = 1; at < 40; at++) {
        struct conversation c;
        struct err err = {0};
        assert_int_equal(conversation_new(&c, folder, &err), 0);
        add_well(&c, ROLE_USER, "one");
        mem_fail_at(at, false);
        add(&c, ROLE_ASSISTANT, "eins", &err);
        mem_fail_at(0, false);
        char id[32];
        snprintf(id, sizeof id, "%s", c.id);
        conversation_release(&c);
        mem_fail_at(at, false);
        int result = conversation_open(&c, folder, id, &err);
        mem_fail_at(0, false);
        if (result != 0) {
            assert_true(err.kind == ERR_MEMORY || err.kind == ERR_IO);
            assert_int_equal(conversation_open(&c, folder, id, &err), 0);
        }
        assert_true(c.n_turns >= 1);
        assert_int_equal(c.n_damaged, 0);
        conversation_release(&c);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, drop_root)
    const struct CMUnitTest tests[] = {
        TEST(test_tree),          TEST(test_round_trip),
        TEST(test_bad_utf8),      TEST(test_torn),
        TEST(test_damaged_byte),  TEST(test_middle_is_kept),
        TEST(test_rubbish),       TEST(test_hostile_records),
        TEST(test_newer_version), TEST(test_second_instance),
        TEST(test_ids),           TEST(test_list),
        TEST(test_write_fails),   TEST(test_half_written),
        TEST(test_export),        TEST(test_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
