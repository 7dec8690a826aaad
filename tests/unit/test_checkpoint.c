/*
 * Checkpoints on disk: every container and family, the ways to name one, caches of the hubs, chat
 * templates, hand-made bad folders, files that change under us, calls that fail.
 */
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/weights/checkpoint.h"
#include "engine/weights/shard_index.h"
#include "tests/support/is_sanitized.h"
#include "tests/support/make_checkpoint.h"
#include "tests/support/sentence.h"
#include "tests/support/slowness.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[256]; /* fresh for each test */

static int make_folder(void **state) {
    (void)state;
    make_temporary_folder(folder);
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    remove_folder(folder);
    return 0;
}

/* "<folder>/<name>", valid until the fourth call from here. */
static const char *in(const char *name) {
    static char paths[4][512];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static struct checkpoint *open_checkpoint(const char *where) {
    struct checkpoint *c;
    struct err err = {0};
    if (checkpoint_open(&c, where, &err) != 0) fail_msg("%s: %s", where, err.text);
    return c;
}

static void refuse(const char *where, const char *part) {
    struct checkpoint *c;
    struct err err = {0};
    if (checkpoint_open(&c, where, &err) == 0) fail_msg("accepted %s (%s)", where, part);
    assert_null(c);
    assert_sentence(where, &err, part);
}

static void put(const char *name, const char *text) {
    write_file(folder, name, text, strlen(text));
}

static struct buf get(const char *name) {
    struct buf text = {0};
    struct err err = {0};
    if (io_read_file(in(name), 1 << 24, &text, &err) != 0) fail_msg("%s", err.text);
    return text;
}

/* --- what opens ------------------------------------------------------------------------------ */

static void check_tiny(const struct checkpoint *c, enum tiny_family family, bool is_gguf) {
    static const char *const types[] = {"qwen2", "qwen3", "llama", "qwen"};
    const struct model_config *m = checkpoint_config(c);
    const struct generation_defaults *g = checkpoint_generation(c);
    assert_string_equal(m->model_type, types[family]);
    assert_int_equal(m->n_layers, 2);
    assert_int_equal(m->hidden, 64);
    assert_int_equal(m->ffn, 96);
    assert_int_equal(m->n_heads, 4);
    assert_int_equal(m->n_kv_heads, family == TINY_QWEN ? 4 : 2);
    assert_int_equal(m->head_size, 16);
    assert_int_equal(m->max_tokens, 512);
    assert_true(m->has_qkv_bias == (family == TINY_QWEN2 || family == TINY_QWEN));
    assert_true(m->has_qk_norm == (family == TINY_QWEN3));
    assert_true(m->rope_interleaved == (family == TINY_LLAMA && is_gguf));
    assert_int_equal(checkpoint_is_gguf(c), is_gguf);
    assert_int_equal(g->n_stop_ids, 2);
    assert_int_equal(g->stop_ids[0], TINY_IM_END);
    assert_int_equal(g->stop_ids[1], TINY_END_OF_TEXT);
    uint64_t bytes = 0;
    for (size_t i = 0; i < checkpoint_n_tensors(c); i++) {
        const struct checkpoint_tensor *t = checkpoint_tensor_at(c, i);
        assert_ptr_equal(checkpoint_find(c, t->name), t);
        bytes += t->bytes;
    }
    assert_int_equal(bytes, checkpoint_bytes(c));
    assert_null(checkpoint_find(c, "no such tensor"));
}

static void check_tokenizer(const struct checkpoint *c) {
    struct tokenizer *t;
    struct tokens tokens = {0};
    struct err err = {0};
    if (checkpoint_open_tokenizer(c, NULL, &t, &err) != 0) fail_msg("%s", err.text);
    assert_int_equal(tokenizer_find_added(t, "<|im_end|>"), TINY_IM_END);
    assert_int_equal(tokenizer_encode(t, "hello", 5, &tokens, &err), 0);
    assert_int_equal(tokens.n, 1);
    assert_int_equal(tokens.ids[0], 259);
    tokens_release(&tokens);
    tokenizer_close(t);
}

static void test_families(void **state) {
    (void)state;
    for (int family = TINY_QWEN2; family <= TINY_QWEN; family++) {
        struct tiny_spec spec = {.family = (enum tiny_family)family};
        assert_int_equal(make_tiny_folder(in("model"), &spec), 0);
        struct checkpoint *c = open_checkpoint(in("model"));
        check_tiny(c, spec.family, false);
        check_tokenizer(c);
        assert_string_equal(checkpoint_config(c)->name, "model");
        assert_string_equal(checkpoint_path(c), in("model"));
        assert_true((checkpoint_chat_template(c) != NULL) == (family != TINY_QWEN));
        checkpoint_close(c);
        remove_folder(in("model"));
    }
}

static void test_gguf_families(void **state) {
    (void)state;
    static const enum format mix[] = {FORMAT_Q8_0, FORMAT_Q4_0, FORMAT_F16, FORMAT_Q5_1,
                                      FORMAT_BF16};
    for (int family = TINY_QWEN2; family <= TINY_QWEN; family++) {
        struct tiny_spec spec = {
            .family = (enum tiny_family)family, .formats = mix, .n_formats = 5};
        assert_int_equal(make_tiny_gguf(in("tiny.gguf"), &spec), 0);
        struct checkpoint *c = open_checkpoint(in("tiny.gguf"));
        check_tiny(c, spec.family, true);
        check_tokenizer(c);
        assert_non_null(strstr(checkpoint_chat_template(c), "<|im_start|>"));
        checkpoint_close(c);
    }
}

static void test_shards(void **state) {
    (void)state;
    struct tiny_spec spec = {.shards = 3};
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    struct checkpoint *c = open_checkpoint(folder);
    check_tiny(c, TINY_QWEN2, false);
    assert_int_equal(checkpoint_find(c, "lm_head.weight")->file, 2);
    checkpoint_close(c);
    /* one of the shards as a file names the whole */
    c = open_checkpoint(in("model-00002-of-00003.safetensors"));
    check_tiny(c, TINY_QWEN2, false);
    checkpoint_close(c);
}

static void test_split_gguf(void **state) {
    (void)state;
    struct tiny_spec spec = {.shards = 3};
    assert_int_equal(make_tiny_gguf(in("tiny.gguf"), &spec), 0);
    static const char *const parts[] = {"tiny-00001-of-00003.gguf", "tiny-00003-of-00003.gguf", ""};
    for (size_t i = 0; i < 3; i++) {
        struct checkpoint *c = open_checkpoint(in(parts[i])); /* the last: the folder */
        check_tiny(c, TINY_QWEN2, true);
        check_tokenizer(c);
        assert_non_null(strstr(checkpoint_path(c), "tiny-00001-of-00003.gguf"));
        checkpoint_close(c);
    }
    struct buf first = get("tiny-00001-of-00003.gguf");
    write_file(folder, "tiny-00002-of-00003.gguf", first.data, first.n);
    refuse(in(parts[0]), "part 1 of 3 by its metadata");
    write_file(folder, "other.gguf", first.data, first.n);
    refuse(in("other.gguf"), "part 1 of 3 by its metadata");
    buf_release(&first);
    assert_int_equal(unlink(in("tiny-00002-of-00003.gguf")), 0);
    refuse(in(parts[0]), "tiny-00002-of-00003.gguf: is missing");
}

static void test_ways_to_name(void **state) {
    (void)state;
    struct tiny_spec spec = {0};
    assert_int_equal(make_tiny_gguf(in("a.gguf"), &spec), 0);
    checkpoint_close(open_checkpoint(folder)); /* the only GGUF in it */
    put("mmproj-a.gguf", "GGUF");
    checkpoint_close(open_checkpoint(folder));
    assert_int_equal(make_tiny_gguf(in("b.gguf"), &spec), 0);
    refuse(folder, "2 GGUF models; name one of them, as in a.gguf");
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    struct checkpoint *c = open_checkpoint(folder); /* config.json goes first */
    assert_false(checkpoint_is_gguf(c));
    checkpoint_close(c);
    c = open_checkpoint(in("model.safetensors"));
    check_tiny(c, TINY_QWEN2, false);
    checkpoint_close(c);
    /* a single file of another name */
    assert_int_equal(rename(in("model.safetensors"), in("weights.safetensors")), 0);
    checkpoint_close(open_checkpoint(folder));
    assert_int_equal(chdir(folder), 0);
    checkpoint_close(open_checkpoint("weights.safetensors"));
    checkpoint_close(open_checkpoint("."));
}

static void test_no_such_place(void **state) {
    (void)state;
    refuse("", "empty");
    refuse(in("nothing"), "no file or folder");
    refuse("a/b/c", "no file or folder");
    refuse("../x", "no file or folder");
    refuse(folder, "neither config.json nor a GGUF file");
    put("notes.txt", "hello");
    refuse(in("notes.txt"), "not a file of weights");
    put("x.pt", "PK\3\4");
    refuse(in("x.pt"), "pickled");
    put("weights", "PK\3\4....");
    refuse(in("weights"), "zip");
    assert_int_equal(mkfifo(in("pipe.gguf"), 0600), 0);
    refuse(in("pipe.gguf"), "regular file");
    assert_int_equal(mkdir(in("x.gguf"), 0755), 0);
    refuse(in("x.gguf"), "no model");
    put("model.safetensors", "x");
    refuse(in("model.safetensors"), "config.json");
}

/* --- the hubs' caches ------------------------------------------------------------------------ */

static void set_caches(const char *hf_cache, const char *home) {
    static const char *const others[] = {"HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME",
                                         "MODELSCOPE_CACHE"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) unsetenv(others[i]);
    if (hf_cache)
        setenv("HF_HUB_CACHE", hf_cache, 1);
    else
        unsetenv("HF_HUB_CACHE");
    setenv("HOME", home, 1);
}

static void test_hugging_face_cache(void **state) {
    (void)state;
    static const char *const roots[][2] = {
        {"HF_HUB_CACHE", "hub"}, {"HF_HOME", ""}, {"XDG_CACHE_HOME", "c"}, {"HOME", "home"}};
    static const char *const hubs[] = {"hub", "hub", "c/huggingface/hub",
                                       "home/.cache/huggingface/hub"};
    struct tiny_spec spec = {0};
    struct err err;
    for (size_t i = 0; i < 4; i++) {
        char name[300];
        snprintf(name, sizeof name, "%s/models--org--tiny-1.5/snapshots/abc123", hubs[i]);
        assert_int_equal(make_tiny_folder(in(name), &spec), 0);
        snprintf(name, sizeof name, "%s/models--org--tiny-1.5/refs", hubs[i]);
        assert_int_equal(io_make_folders(in(name), 0755, &err), 0);
        write_file(in(name), "main", "abc123\n", 7);
        set_caches(NULL, "/nonexistent");
        setenv(roots[i][0], in(roots[i][1]), 1);
        struct checkpoint *c = open_checkpoint("org/tiny-1.5");
        assert_string_equal(checkpoint_config(c)->name, "org/tiny-1.5");
        checkpoint_close(c);
        refuse("org/other", "holds a model of that name");
        remove_folder(in(hubs[i]));
    }
}

/* The cache's files are links to ../../blobs; links to anywhere else are not followed. */
static void test_cache_links(void **state) {
    (void)state;
    struct tiny_spec spec = {0};
    struct err err;
    assert_int_equal(make_tiny_folder(in("models--a--b/blobs"), &spec), 0);
    assert_int_equal(io_make_folders(in("models--a--b/snapshots/r1"), 0755, &err), 0);
    assert_int_equal(io_make_folders(in("models--a--b/refs"), 0755, &err), 0);
    put("models--a--b/refs/main", "r1");
    static const char *const files[] = {"config.json", "generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json", "model.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char target[100], name[100];
        snprintf(target, sizeof target, "../../blobs/%s", files[i]);
        snprintf(name, sizeof name, "models--a--b/snapshots/r1/%s", files[i]);
        assert_int_equal(symlink(target, in(name)), 0);
    }
    set_caches(folder, "/nonexistent");
    struct checkpoint *c = open_checkpoint("a/b");
    check_tiny(c, TINY_QWEN2, false);
    checkpoint_close(c);
    /* a blob that is itself a link to elsewhere */
    assert_int_equal(rename(in("models--a--b/blobs/config.json"), in("config.json")), 0);
    assert_int_equal(symlink(in("config.json"), in("models--a--b/blobs/config.json")), 0);
    refuse("a/b", "outside of its folder");
}

static void test_modelscope_cache(void **state) {
    (void)state;
    static const char *const places[] = {
        ".cache/modelscope/hub/Qwen/Qwen2___5-0___5B",
        ".cache/modelscope/hub/models/Qwen/Qwen2___5-0___5B",
        ".cache/modelscope/hub/models/Qwen/Qwen2.5-0.5B",
    };
    struct tiny_spec spec = {0};
    set_caches(NULL, folder);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        assert_int_equal(make_tiny_folder(in(places[i]), &spec), 0);
        checkpoint_close(open_checkpoint("Qwen/Qwen2.5-0.5B"));
        remove_folder(in(places[i]));
        refuse("Qwen/Qwen2.5-0.5B", "holds a model of that name");
    }
}

static void test_bad_cache(void **state) {
    (void)state;
    struct tiny_spec spec = {0};
    struct err err;
    assert_int_equal(make_tiny_folder(in("models--a--b/snapshots/r1"), &spec), 0);
    set_caches(folder, "/nonexistent");
    refuse("a/b", "of that name"); /* no refs/main */
    assert_int_equal(io_make_folders(in("models--a--b/refs"), 0755, &err), 0);
    static const char *const revisions[] = {"", "../../..", "/etc", "..", ".", "r2", "\xff", " r1"};
    for (size_t i = 0; i < sizeof revisions / sizeof *revisions; i++) {
        put("models--a--b/refs/main", revisions[i]);
        refuse("a/b", "of that name");
    }
    put("models--a--b/refs/main", "r1");
    checkpoint_close(open_checkpoint("a/b"));
}

/* --- chat templates and tokenizers ----------------------------------------------------------- */

static void expect_template(const char *text) {
    struct checkpoint *c = open_checkpoint(folder);
    if (text)
        assert_string_equal(checkpoint_chat_template(c), text);
    else
        assert_null(checkpoint_chat_template(c));
    checkpoint_close(c);
}

static void test_templates(void **state) {
    (void)state;
    struct tiny_spec spec = {.no_template = true};
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    expect_template(NULL);
    put("chat_template.json", "{\"chat_template\": \"from json\"}");
    expect_template("from json");
    put("tokenizer_config.json", "{\"chat_template\": \"from config\"}");
    expect_template("from config");
    put("tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"a\"}, "
        "{\"name\": \"default\", \"template\": \"b\"}]}");
    expect_template("b");
    put("chat_template.jinja", "from jinja");
    expect_template("from jinja");
    assert_int_equal(unlink(in("chat_template.jinja")), 0);
    assert_int_equal(unlink(in("chat_template.json")), 0);
    put("tokenizer_config.json",
        "{\"chat_template\": [7, {\"name\": 1}, {\"name\": \"default\"}]}");
    expect_template(NULL);
}

static void test_tokenizer_elsewhere(void **state) {
    (void)state;
    struct tiny_spec spec = {0}, small = {.vocab = 200};
    struct err err = {0};
    struct tokenizer *t;
    assert_int_equal(make_tiny_folder(in("other"), &spec), 0);
    assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
    struct checkpoint *c = open_checkpoint(in("x.gguf"));
    assert_int_equal(checkpoint_open_tokenizer(c, in("other"), &t, &err), 0);
    tokenizer_close(t);
    assert_int_equal(checkpoint_open_tokenizer(c, in("nothing"), &t, &err), -1);
    assert_null(t);
    checkpoint_close(c);
    /* ids that the embedding has no row for */
    small.no_generation = true;
    assert_int_equal(make_tiny_folder(in("small"), &small), 0);
    c = open_checkpoint(in("small"));
    assert_int_equal(checkpoint_open_tokenizer(c, NULL, &t, &err), -1);
    assert_null(t);
    assert_sentence("small", &err, "only 200 rows");
    checkpoint_close(c);
}

/* --- bad folders ----------------------------------------------------------------------------- */

enum act { WRITE, EDIT, REMOVE, LINK, FOLDER, COPY, GROW };

#define INDEX  "model.safetensors.index.json"
#define SHARD1 "model-00001-of-00002.safetensors"
#define SHARD2 "model-00002-of-00002.safetensors"
#define LFS    "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n"

/* Done to a folder with two shards and an index; then it must not open. */
static const struct bad_folder {
    enum act act;
    const char *file, *from, *to; /* EDIT: the first `from` becomes `to`; others use `to` */
    const char *part;
} bad_folders[] = {
    /* names in the index */
    {EDIT, INDEX, SHARD1, "../" SHARD1, "plain file name"},
    {EDIT, INDEX, SHARD1, "..", "plain file name"},
    {EDIT, INDEX, SHARD1, ".", "plain file name"},
    {EDIT, INDEX, SHARD1, "", "plain file name"},
    {EDIT, INDEX, SHARD1, "/etc/passwd", "plain file name"},
    {EDIT, INDEX, SHARD1, "/tmp/x.safetensors", "plain file name"},
    {EDIT, INDEX, SHARD1, "a/b.safetensors", "plain file name"},
    {EDIT, INDEX, SHARD1, "a\\\\b.safetensors", "plain file name"},
    {EDIT, INDEX, SHARD1, ".hidden.safetensors", "plain file name"},
    {EDIT, INDEX, SHARD1, ".safetensors", "plain file name"},
    {EDIT, INDEX, SHARD1, "model.bin", "plain file name"},
    {EDIT, INDEX, SHARD1, "x.safetensors\\n", "plain file name"},
    {EDIT, INDEX, SHARD1, "\\u001b[2J.safetensors", "plain file name"},
    {EDIT, INDEX, SHARD1, "\\u4f60.safetensors", "plain file name"},
    {EDIT, INDEX, SHARD1, "x.safetensors\\u0000", INDEX},
    {EDIT, INDEX, "\"" SHARD1 "\"", "7", "plain file name"},
    {EDIT, INDEX, "\"" SHARD1 "\"", "null", "plain file name"},
    {EDIT, INDEX, "\"" SHARD1 "\"", "[\"" SHARD1 "\"]", "plain file name"},
    /* what the index says */
    {EDIT, INDEX, SHARD1, "model-00003-of-00003.safetensors", "is missing"},
    {EDIT, INDEX, SHARD1, SHARD2, "where it is not"},
    {EDIT, INDEX, "model.embed_tokens.weight", "model.embed_tokens.other",
     "model.embed_tokens.other"},
    {EDIT, INDEX, "weight_map", "weights_map", "weight_map"},
    {WRITE, INDEX, NULL, "{}", "weight_map"},
    {WRITE, INDEX, NULL, "{\"weight_map\": {}}", "weight_map"},
    {WRITE, INDEX, NULL, "{\"weight_map\": []}", "weight_map"},
    {WRITE, INDEX, NULL, "{\"weight_map\": \"" SHARD1 "\"}", "weight_map"},
    {WRITE, INDEX, NULL, "[]", "weight_map"},
    {WRITE, INDEX, NULL, "", INDEX},
    {WRITE, INDEX, NULL, "{\"weight_map\": {", INDEX},
    {WRITE, INDEX, NULL, "{\"weight_map\": {\"a\": \"a.safetensors\", \"a\": \"b.safetensors\"}}",
     INDEX},
    {WRITE, INDEX, NULL, LFS, INDEX},
    {FOLDER, INDEX, NULL, NULL, "folder"},
    {LINK, INDEX, NULL, "/etc/passwd", "outside of its folder"},
    /* the shards */
    {REMOVE, SHARD2, NULL, NULL, "is missing"},
    {COPY, SHARD2, NULL, SHARD1, "twice"},
    {WRITE, SHARD2, NULL, "", "empty"},
    {WRITE, SHARD2, NULL, LFS, "Git LFS pointer"},
    {WRITE, SHARD2, NULL, "<!DOCTYPE html>", "web page"},
    {WRITE, SHARD2, NULL, "GGUF....", "GGUF"},
    {WRITE, SHARD2, NULL, "PK\3\4 not weights", "zip"},
    {GROW, SHARD2, NULL, "x", "listed in the header"},
    {FOLDER, SHARD2, NULL, NULL, "folder"},
    {LINK, SHARD2, NULL, "/etc/passwd", "outside of its folder"},
    {LINK, SHARD2, NULL, "../../../../../etc/passwd", "outside of its folder"},
    {LINK, SHARD2, NULL, "nothing.safetensors", "is missing"},
    {LINK, SHARD2, NULL, SHARD2, "is missing"},
    /* config.json and its company */
    {REMOVE, "config.json", NULL, NULL, "config.json"},
    {WRITE, "config.json", NULL, "", "config.json"},
    {WRITE, "config.json", NULL, "{}", "model_type"},
    {WRITE, "config.json", NULL, "{\"model_type\": \"qwen2\"", "config.json"},
    {WRITE, "config.json", NULL, LFS, "Git LFS pointer"},
    {WRITE, "config.json", NULL, "<html>", "web page"},
    {EDIT, "config.json", "\"qwen2\"", "\"qwen2_vl\"", "vision"},
    {EDIT, "config.json", "\"hidden_size\": 64", "\"hidden_size\": 64, \"hidden_size\": 65",
     "config.json"},
    {FOLDER, "config.json", NULL, NULL, "folder"},
    {LINK, "config.json", NULL, "/etc/passwd", "outside of its folder"},
    {WRITE, "generation_config.json", NULL, "{\"top_p\": 7}", "generation_config.json"},
    {WRITE, "generation_config.json", NULL, "{", "generation_config.json"},
    {WRITE, "generation_config.json", NULL, "{\"eos_token_id\": 1000}", "1000"},
    {LINK, "generation_config.json", NULL, "/etc/passwd", "outside of its folder"},
    {WRITE, "tokenizer_config.json", NULL, "{,}", "tokenizer_config.json"},
    {LINK, "tokenizer_config.json", NULL, "/etc/passwd", "outside of its folder"},
    {FOLDER, "chat_template.jinja", NULL, NULL, "folder"},
    {LINK, "chat_template.jinja", NULL, "/etc/passwd", "outside of its folder"},
    {WRITE, "model.safetensors", NULL, "", "empty"},
};

static void edit(const char *file, const char *from, const char *to) {
    struct buf text = get(file), edited = {0};
    const char *at = memmem(text.data, text.n, from, strlen(from));
    assert_non_null(at);
    buf_add(&edited, text.data, (size_t)(at - text.data));
    buf_puts(&edited, to);
    at += strlen(from);
    buf_add(&edited, at, text.n - (size_t)(at - text.data));
    write_file(folder, file, edited.data, edited.n);
    buf_release(&text);
    buf_release(&edited);
}

static void append(const char *file, const char *more) {
    struct buf text = get(file);
    buf_puts(&text, more);
    write_file(folder, file, text.data, text.n);
    buf_release(&text);
}

static void act(const struct bad_folder *b) {
    struct buf copy;
    switch (b->act) {
    case WRITE:
        put(b->file, b->to);
        break;
    case EDIT:
        edit(b->file, b->from, b->to);
        break;
    case REMOVE:
        assert_int_equal(unlink(in(b->file)), 0);
        break;
    case LINK:
        unlink(in(b->file));
        assert_int_equal(symlink(b->to, in(b->file)), 0);
        break;
    case FOLDER:
        unlink(in(b->file));
        assert_int_equal(mkdir(in(b->file), 0755), 0);
        break;
    case COPY:
        copy = get(b->to);
        write_file(folder, b->file, copy.data, copy.n);
        buf_release(&copy);
        break;
    case GROW:
        append(b->file, b->to);
        break;
    }
}

static void test_bad_folders(void **state) {
    (void)state;
    struct tiny_spec spec = {.layers = 1, .shards = 2};
    char base[256];
    snprintf(base, sizeof base, "%s", folder);
    for (size_t i = 0; i < sizeof bad_folders / sizeof *bad_folders; i++) {
        snprintf(folder, sizeof folder, "%.240s/%zu", base, i);
        assert_int_equal(make_tiny_folder(folder, &spec), 0);
        act(&bad_folders[i]);
        refuse(folder, bad_folders[i].part);
        remove_folder(folder);
    }
    snprintf(folder, sizeof folder, "%s", base);
}

/* Weights that are not there, and what is there instead. */
static void test_other_weights(void **state) {
    (void)state;
    struct tiny_spec spec = {.layers = 1};
    struct buf big = {0};
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    assert_int_equal(rename(in("model.safetensors"), in("kept")), 0);
    refuse(folder, "no model.safetensors");
    put("pytorch_model-00001-of-00002.bin", "PK\3\4");
    refuse(folder, "pickled (pytorch_model-00001-of-00002.bin)");
    refuse(in("pytorch_model-00001-of-00002.bin"), "pickled");
    put("a.safetensors", "");
    put("b.safetensors", "");
    refuse(folder, "2 safetensors files");
    for (int i = 0; i < (1 << 20) + 1; i++) buf_putc(&big, ' ');
    write_file(folder, "config.json", big.data, big.n);
    refuse(folder, "1048577 bytes");
    buf_release(&big);
    assert_int_equal(unlink(in("config.json")), 0);
    put("adapter_config.json", "{}");
    refuse(folder, "LoRA adapter");
    /* code in the folder is neither run nor read */
    put("modeling_qwen.py", "raise SystemExit(1)");
    refuse(folder, "LoRA adapter");
}

/* A file may be a link to another file of its folder. */
static void test_link_inside(void **state) {
    (void)state;
    struct tiny_spec spec = {0};
    assert_int_equal(make_tiny_folder(folder, &spec), 0);
    assert_int_equal(rename(in("model.safetensors"), in("real.safetensors")), 0);
    assert_int_equal(symlink("real.safetensors", in("model.safetensors")), 0);
    checkpoint_close(open_checkpoint(folder));
}

/* --- the index, damaged ---------------------------------------------------------------------- */

static void use_index(const char *text, size_t n) {
    struct shard_index index;
    struct err err = {0};
    char *exact = malloc(n ? n : 1);
    memcpy(exact, text, n);
    if (shard_index_parse(&index, exact, n, "index", &err) != 0) {
        assert_sentence("index", &err, "");
    } else {
        for (size_t i = 0; i < index.n_entries; i++)
            assert_true(index.entries[i].shard < index.n_names);
        for (size_t i = 0; i < index.n_names; i++)
            assert_true(shard_name_is_safe(index.names[i], ".safetensors"));
        shard_index_release(&index);
    }
    free(exact);
}

static void test_index_damage(void **state) {
    (void)state;
    char text[] =
        "{\"metadata\": {\"total_size\": 7}, \"weight_map\": {\"a\": \"x-1.safetensors\", "
        "\"b\": \"x-2.safetensors\", \"c\": \"x-1.safetensors\"}}";
    static const unsigned char bytes[] = {0x00, 0x7F, 0x80, 0xFF, '/', '.', '"'};
    const size_t n = sizeof text - 1;
    for (size_t i = 0; i < n; i++) {
        char kept = text[i];
        use_index(text, i);
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(kept ^ 1 << bit);
            use_index(text, n);
        }
        for (size_t k = 0; k < sizeof bytes; k++) {
            text[i] = (char)bytes[k];
            use_index(text, n);
        }
        text[i] = kept;
    }
    use_index(text, n);
}

static void test_too_many_shards(void **state) {
    (void)state;
    struct buf text = {0};
    struct shard_index index;
    struct err err = {0};
    buf_puts(&text, "{\"weight_map\": {\"t\": \"s.safetensors\"");
    for (int i = 0; i < 1000; i++) buf_printf(&text, ", \"t%d\": \"s%d.safetensors\"", i, i);
    buf_puts(&text, "}}");
    assert_int_equal(shard_index_parse(&index, text.data, text.n, "index", &err), -1);
    assert_sentence("index", &err, "1001 files");
    buf_release(&text);
}

/* --- when things fail ------------------------------------------------------------------------ */

static void test_file_shrinks(void **state) {
    (void)state;
    struct tiny_spec spec = {0};
    struct err err = {0};
    assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
    struct checkpoint *c = open_checkpoint(in("x.gguf"));
    assert_false(checkpoint_is_lost(c, &err));
    assert_int_equal(truncate(in("x.gguf"), 4096), 0);
    const struct checkpoint_tensor *t = checkpoint_tensor_at(c, checkpoint_n_tensors(c) - 1);
    volatile unsigned char last = ((const unsigned char *)t->data)[t->bytes - 1];
    assert_int_equal(last, 0); /* zeros, not SIGBUS */
    assert_true(checkpoint_is_lost(c, &err));
    assert_sentence("x.gguf", &err, "x.gguf");
    assert_int_equal(err.kind, ERR_IO);
    checkpoint_close(c);
}

/* The n-th allocation, then the n-th call of the file layer, fails for every n: an error of the
 * right kind and nothing left behind (the sanitizer counts), or success where it was not needed. */
static void sweep(const char *where) {
    struct checkpoint *c;
    for (unsigned long n = 1;; n++) {
        struct err err = {0};
        unsigned long before = mem_count();
        mem_fail_at(n, false);
        int result = checkpoint_open(&c, where, &err);
        mem_fail_at(0, false);
        if (result == 0) checkpoint_close(c);
        if (result != 0) assert_int_equal(err.kind, ERR_MEMORY);
        if (mem_count() - before < n) break;
    }
    for (unsigned long n = 1;; n++) {
        struct err err = {0};
        unsigned long before = io_count();
        io_fail_at(n, EIO, false);
        int result = checkpoint_open(&c, where, &err);
        io_fail_at(0, 0, false);
        if (result == 0) checkpoint_close(c);
        if (result != 0) assert_sentence(where, &err, "");
        if (io_count() - before < n) break;
    }
}

static void test_failing_calls(void **state) {
    (void)state;
    struct tiny_spec spec = {.layers = 1, .shards = 2};
    assert_int_equal(make_tiny_folder(in("f"), &spec), 0);
    assert_int_equal(make_tiny_gguf(in("x.gguf"), &spec), 0);
    sweep(in("f"));
    sweep(in("x-00001-of-00002.gguf"));
}

/* --- the starter, where the machine has it --------------------------------------------------- */

static const char *starter;

static void test_starter(void **state) {
    (void)state;
    if (!starter) skip();
    const double most = 0.005 * (IS_SANITIZED ? 1000 : machine_slowness());
    double best = 1e9;
    /* in processor time, and as often as it takes: other programs take none from one of the tries
     */
    for (int i = 0; i < 3 || (i < 100 && best > most); i++) {
        double begin = thread_seconds();
        struct checkpoint *c = open_checkpoint(starter);
        double took = thread_seconds() - begin;
        if (took < best) best = took;
        const struct model_config *m = checkpoint_config(c);
        assert_string_equal(m->model_type, "llama");
        assert_int_equal(m->n_layers, 30);
        assert_int_equal(m->n_kv_heads, 3);
        assert_int_equal(m->vocab, 49152);
        assert_true(m->rope_interleaved && m->has_tied_head && m->rope_base == 100000);
        assert_int_equal(checkpoint_generation(c)->stop_ids[0], 2);
        assert_int_equal(checkpoint_n_tensors(c), 272);
        checkpoint_close(c);
    }
    if (best > most) fail_msg("opening took %.1f ms, %.1f are allowed", best * 1e3, most * 1e3);
}

int main(int argc, char **argv) {
    if (argc > 1) starter = argv[1];
#define CASE(test) cmocka_unit_test_setup_teardown(test, make_folder, drop_folder)
    const struct CMUnitTest tests[] = {
        CASE(test_file_shrinks), /* first: each test's start takes SIGBUS from the first map's
                                    handler */
        CASE(test_families),        CASE(test_gguf_families),       CASE(test_shards),
        CASE(test_split_gguf),      CASE(test_no_such_place),       CASE(test_hugging_face_cache),
        CASE(test_cache_links),     CASE(test_modelscope_cache),    CASE(test_bad_cache),
        CASE(test_templates),       CASE(test_tokenizer_elsewhere), CASE(test_bad_folders),
        CASE(test_other_weights),   CASE(test_link_inside),         CASE(test_index_damage),
        CASE(test_too_many_shards), CASE(test_failing_calls),       CASE(test_starter),
        CASE(test_ways_to_name), /* last: it changes the working directory */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
