/* Records to text and back. Reading never fails on what a file says: bad lines are counted. */
#include "app/journal.h"

#include "engine/base/json.h"
#include "engine/base/mem.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

/* ,"sum":"0123456789abcdef"} */
enum { SUM_BYTES = 8 + 16 + 2 };

/* --- printing --------------------------------------------------------------------------------- */

void journal_print_sum(size_t begin, struct buf *out) {
    if (out->failed) return;
    XXH64_hash_t sum = XXH3_64bits(out->data + begin, out->n - begin);
    buf_printf(out, ",\"sum\":\"%016llx\"}\n", (unsigned long long)sum);
}

static size_t print_head(const char *kind, struct buf *out) {
    size_t begin = out->n;
    buf_printf(out, "{\"v\":%d,\"kind\":\"%s\"", JOURNAL_VERSION, kind);
    return begin;
}

static void print_member(const char *key, const char *text, struct buf *out) {
    if (!text) return;
    buf_printf(out, ",\"%s\":", key);
    buf_put_json(out, text, strlen(text));
}

void journal_print_turn(const struct turn *turn, struct buf *out) {
    size_t begin = print_head("turn", out);
    buf_printf(out, ",\"id\":%llu,\"parent\":%llu,\"role\":\"%s\",\"time\":%lld",
               (unsigned long long)turn->id, (unsigned long long)turn->parent,
               role_name(turn->role), (long long)turn->unix_ms);
    print_member("content", turn->content, out);
    print_member("reasoning", turn->reasoning, out);
    print_member("model", turn->model, out);
    print_member("tokenizer", turn->tokenizer, out);
    if (turn->tokens.n) {
        buf_puts(out, ",\"tokens\":[");
        for (size_t i = 0; i < turn->tokens.n; i++)
            buf_printf(out, i ? ",%d" : "%d", (int)turn->tokens.ids[i]);
        buf_putc(out, ']');
    }
    if (turn->is_partial) buf_puts(out, ",\"partial\":true");
    journal_print_sum(begin, out);
}

void journal_print_leaf(uint64_t leaf, struct buf *out) {
    size_t begin = print_head("leaf", out);
    buf_printf(out, ",\"id\":%llu", (unsigned long long)leaf);
    journal_print_sum(begin, out);
}

void journal_print_text(const char *kind, const char *text, struct buf *out) {
    size_t begin = print_head(kind, out);
    if (text)
        print_member("text", text, out);
    else
        buf_puts(out, ",\"text\":null");
    journal_print_sum(begin, out);
}

void journal_print_all(const struct conversation *c, struct buf *out) {
    if (c->title) journal_print_text("title", c->title, out);
    if (c->system) journal_print_text("system", c->system, out);
    for (size_t i = 0; i < c->n_turns; i++) journal_print_turn(&c->turns[i], out);
    if (c->n_turns && c->turns[c->n_turns - 1].id != c->leaf) journal_print_leaf(c->leaf, out);
}

/* --- reading ---------------------------------------------------------------------------------- */

static bool has_good_sum(const char *line, size_t n) {
    char sum[SUM_BYTES + 1];
    if (n <= SUM_BYTES) return false;
    XXH64_hash_t hash = XXH3_64bits(line, n - SUM_BYTES);
    snprintf(sum, sizeof sum, ",\"sum\":\"%016llx\"}", (unsigned long long)hash);
    return memcmp(line + n - SUM_BYTES, sum, SUM_BYTES) == 0;
}

/* The version that a line begins with; 0: it does not. */
static unsigned version_of(const char *line, size_t n) {
    static const char head[] = "{\"v\":";
    size_t i = sizeof head - 1;
    unsigned version = 0;
    if (n <= i || memcmp(line, head, i) != 0) return 0;
    for (; i < n && line[i] >= '0' && line[i] <= '9' && version < 100000; i++)
        version = version * 10 + (unsigned)(line[i] - '0');
    return i < n && line[i] == ',' ? version : 0;
}

static int copy_member(const cJSON *record, const char *key, char **out, struct err *err) {
    const char *text = NULL;
    if (json_string(record, key, NULL, &text, err) != 0) return -1;
    if (!text) return 0;
    *out = mem_strdup(text);
    return *out ? 0 : err_memory(err, strlen(text), "a message");
}

static int read_role(const cJSON *record, enum role *out, struct err *err) {
    const char *name = NULL;
    if (json_string(record, "role", "", &name, err) != 0) return -1;
    for (int role = ROLE_SYSTEM; role <= ROLE_TOOL; role++) {
        if (strcmp(name, role_name((enum role)role)) != 0) continue;
        *out = (enum role)role;
        return 0;
    }
    return err_set(err, ERR_IO, "unknown role \"%s\"", name);
}

static int read_tokens(const cJSON *record, struct tokens *out, struct err *err) {
    const cJSON *list = json_get(record, "tokens");
    const cJSON *item;
    if (!list) return 0;
    if (!cJSON_IsArray(list)) return err_set(err, ERR_IO, "tokens: a list is needed");
    cJSON_ArrayForEach(item, list) {
        if (!cJSON_IsNumber(item) || item->valuedouble < 0 || item->valuedouble > INT32_MAX ||
            item->valuedouble != (double)item->valueint)
            return err_set(err, ERR_IO, "tokens: not an id");
        if (tokens_add(out, item->valueint, err) != 0) return -1;
    }
    return 0;
}

static int read_turn_fields(const cJSON *record, struct turn *turn, struct err *err) {
    const uint64_t most = (uint64_t)1 << 53;
    uint64_t time = 0;
    if (json_need_u64(record, "id", 1, most, &turn->id, err) != 0 ||
        json_need_u64(record, "parent", 0, turn->id - 1, &turn->parent, err) != 0 ||
        json_u64(record, "time", 0, most, 0, &time, err) != 0 ||
        read_role(record, &turn->role, err) != 0 ||
        json_bool(record, "partial", false, &turn->is_partial, err) != 0 ||
        copy_member(record, "content", &turn->content, err) != 0 ||
        copy_member(record, "reasoning", &turn->reasoning, err) != 0 ||
        copy_member(record, "model", &turn->model, err) != 0 ||
        copy_member(record, "tokenizer", &turn->tokenizer, err) != 0 ||
        read_tokens(record, &turn->tokens, err) != 0)
        return -1;
    turn->unix_ms = (int64_t)time;
    return turn->content ? 0 : err_set(err, ERR_IO, "content: missing");
}

static int read_turn(struct conversation *c, const cJSON *record, struct err *err) {
    struct turn turn = {0};
    uint64_t last = c->n_turns ? c->turns[c->n_turns - 1].id : 0;
    int result = read_turn_fields(record, &turn, err);
    if (result == 0 && turn.id <= last) result = err_set(err, ERR_IO, "the id is not a new one");
    if (result == 0) {
        /* where the parent's record is lost, the turn hangs on what came before it */
        if (turn.parent && !conversation_turn(c, turn.parent)) turn.parent = last;
        result = conversation_put(c, &turn, err);
    }
    if (result != 0) turn_release(&turn);
    return result;
}

static int read_leaf(struct conversation *c, const cJSON *record, struct err *err) {
    uint64_t leaf = 0;
    if (json_need_u64(record, "id", 0, (uint64_t)1 << 53, &leaf, err) != 0) return -1;
    if (leaf && !conversation_turn(c, leaf)) return err_set(err, ERR_IO, "no such turn");
    c->leaf = leaf;
    return 0;
}

static int read_text(const cJSON *record, char **out, struct err *err) {
    char *text = NULL;
    if (copy_member(record, "text", &text, err) != 0) return -1;
    mem_free(*out);
    *out = text;
    return 0;
}

static int read_record(struct conversation *c, const cJSON *record, struct err *err) {
    const char *kind = NULL;
    if (json_string(record, "kind", "", &kind, err) != 0) return -1;
    if (strcmp(kind, "turn") == 0) return read_turn(c, record, err);
    if (strcmp(kind, "leaf") == 0) return read_leaf(c, record, err);
    if (strcmp(kind, "system") == 0) return read_text(record, &c->system, err);
    if (strcmp(kind, "title") == 0) return read_text(record, &c->title, err);
    return err_set(err, ERR_IO, "unknown kind \"%s\"", kind);
}

static int read_line(struct conversation *c, const char *line, size_t n, struct err *err) {
    const struct json_limits limits = {
        .max_bytes = JOURNAL_MAX_BYTES, .max_nodes = 1 << 22, .max_depth = 4};
    if (version_of(line, n) != JOURNAL_VERSION) return err_set(err, ERR_IO, "no such version");
    if (!has_good_sum(line, n)) return err_set(err, ERR_IO, "the checksum does not match");
    cJSON *record = json_parse(line, n, limits, err);
    if (!record) return -1;
    int result = cJSON_IsObject(record) ? read_record(c, record, err)
                                        : err_set(err, ERR_IO, "an object is needed");
    cJSON_Delete(record);
    return result;
}

int journal_read(struct conversation *c, const char *text, size_t n, struct journal_result *result,
                 struct err *err) {
    *result = (struct journal_result){0};
    for (const char *line = text, *end = text + n; line < end;) {
        struct err why = {0};
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline) break;
        size_t length = (size_t)(newline - line);
        if (version_of(line, length) > JOURNAL_VERSION) {
            result->is_newer = true;
        } else if (read_line(c, line, length, &why) != 0) {
            if (why.kind == ERR_MEMORY) {
                if (err) *err = why;
                return -1;
            }
            c->n_damaged++;
        }
        line = newline + 1;
        result->whole_bytes = (size_t)(line - text);
    }
    return 0;
}

/* --- lists ------------------------------------------------------------------------------------ */

static bool begins_with(const char *line, size_t n, const char *head) {
    size_t length = strlen(head);
    return n >= length && memcmp(line, head, length) == 0;
}

static void take_title(const char *line, size_t n, char **title) {
    const struct json_limits limits = {.max_bytes = 1 << 16, .max_nodes = 16, .max_depth = 2};
    cJSON *record = has_good_sum(line, n) ? json_parse(line, n, limits, NULL) : NULL;
    if (!record) return;
    (void)read_text(record, title, NULL); /* a list without this title is still a list */
    cJSON_Delete(record);
}

size_t journal_summary(const char *text, size_t n, char **title) {
    size_t n_turns = 0;
    *title = NULL;
    for (const char *line = text, *end = text + n; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline) break;
        size_t length = (size_t)(newline - line);
        if (begins_with(line, length, "{\"v\":1,\"kind\":\"turn\"")) n_turns++;
        if (begins_with(line, length, "{\"v\":1,\"kind\":\"title\""))
            take_title(line, length, title);
        line = newline + 1;
    }
    return n_turns;
}
