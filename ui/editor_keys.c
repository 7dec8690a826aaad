/*
 * Two tables and the reader of editrc. The reader runs `bind` lines alone: the other commands of an
 * editrc change a terminal or a history that the editor has not got.
 */
#include "ui/editor_internal.h"

#include "engine/base/io.h"

#include <stdio.h>
#include <string.h>

enum { MAX_RC_BYTES = 1 << 20, MAX_RC_LINE = 512 /* libedit copies keys into 1,024 unchecked */ };

enum { EMACS = 1, INSERT = 2, COMMAND = 4, TYPING = EMACS | INSERT, ALL = TYPING | COMMAND };

/* Functions qc-… are ours (editor.c), the rest is libedit's. */
static const struct {
    int maps;
    const char *key; /* in the notation of editrc */
    const char *function;
} bindings[] = {
    {ALL, "\\200", "qc-up"},
    {ALL, "\\201", "qc-down"},
    {ALL, "\\202", "ed-prev-char"},
    {ALL, "\\203", "ed-next-char"},
    {ALL, "\\204", "ed-prev-word"},
    {ALL, "\\205", "em-next-word"},
    {ALL, "\\206", "qc-home"},
    {ALL, "\\207", "qc-end"},
    {ALL, "\\211", "qc-prefix-older"},
    {ALL, "\\212", "qc-prefix-newer"},
    {ALL, "\\213", "qc-delete"},
    {ALL, "\\215", "qc-replace"},
    {ALL, "\\216", "qc-insert"},
    {ALL, "\\217", "qc-restart"},
    {INSERT, "\\220", "vi-insert"},
    {COMMAND, "\\221", "vi-redo"},
    {TYPING, "^A", "qc-home"},
    {TYPING, "^B", "ed-prev-char"},
    {ALL, "^D", "qc-delete-or-end"},
    {TYPING, "^E", "qc-end"},
    {TYPING, "^F", "ed-next-char"},
    {EMACS, "^H", "em-delete-prev-char"},
    {EMACS, "^?", "em-delete-prev-char"},
    {INSERT, "^H", "vi-delete-prev-char"},
    {INSERT, "^?", "vi-delete-prev-char"},
    {TYPING, "^I", "qc-complete"},
    {ALL, "^J", "qc-newline"},
    {ALL, "^L", "qc-clear-screen"},
    {ALL, "^M", "qc-enter"},
    {TYPING, "^N", "qc-down"},
    {TYPING, "^P", "qc-up"},
    {ALL, "^R", "qc-search-older"},
    {ALL, "^S", "qc-search-newer"},
    {INSERT, "^T", "ed-transpose-chars"},
    {TYPING, "^V", "ed-unassigned"},
    /* libedit's vi map inserts these into the text */
    {INSERT, "^C", "ed-unassigned"},
    {INSERT, "^G", "ed-unassigned"},
    {INSERT, "^K", "ed-kill-line"},
    {INSERT, "^O", "ed-unassigned"},
    {INSERT, "^Q", "ed-unassigned"},
    {INSERT, "^X", "ed-unassigned"},
    {INSERT, "^Y", "ed-unassigned"},
    {INSERT, "^Z", "ed-unassigned"},
    {INSERT, "^\\\\", "ed-unassigned"},
    {INSERT, "^]", "ed-unassigned"},
    {INSERT, "^^", "ed-unassigned"},
    {INSERT, "^_", "ed-unassigned"},
    {EMACS, "M-p", "qc-prefix-older"},
    {EMACS, "M-n", "qc-prefix-newer"},
    {EMACS, "M-P", "qc-prefix-older"},
    {EMACS, "M-N", "qc-prefix-newer"},
    {EMACS, "M-x", "ed-unassigned"},
    {EMACS, "M-X", "ed-unassigned"},
    {COMMAND, ".", "qc-redo"},
    {COMMAND, "k", "qc-up"},
    {COMMAND, "j", "qc-down"},
    {COMMAND, "-", "qc-older"},
    {COMMAND, "+", "qc-newer"},
    {COMMAND, "K", "qc-prefix-older"},
    {COMMAND, "J", "qc-prefix-newer"},
    {COMMAND, "/", "qc-search-older"},
    {COMMAND, "?", "qc-search-newer"},
    {COMMAND, "n", "ed-unassigned"},
    {COMMAND, "N", "ed-unassigned"},
    {COMMAND, "v", "ed-unassigned"},
    {COMMAND, ":", "ed-unassigned"},
    {COMMAND, "#", "ed-unassigned"},
    {COMMAND, "G", "ed-unassigned"},
    {COMMAND, "_", "ed-unassigned"},
    {COMMAND, "@", "ed-unassigned"},
};

/*
 * What an editrc names, and what stands in for it. libedit's history keeps 1,024 characters of a
 * draft, its searches take the text as a regular expression or fail on Chinese, and the editor of
 * vi's v would fight for the terminal.
 */
static const struct {
    const char *theirs, *ours;
} substitutes[] = {
    {"ed-prev-history", "qc-older"},
    {"ed-next-history", "qc-newer"},
    {"ed-prev-line", "qc-up"},
    {"ed-next-line", "qc-down"},
    {"ed-search-prev-history", "qc-prefix-older"},
    {"ed-search-next-history", "qc-prefix-newer"},
    {"em-inc-search-prev", "qc-search-older"},
    {"em-inc-search-next", "qc-search-newer"},
    {"vi-search-prev", "qc-search-older"},
    {"vi-search-next", "qc-search-newer"},
    {"vi-repeat-search-prev", "ed-unassigned"},
    {"vi-repeat-search-next", "ed-unassigned"},
    {"vi-to-history-line", "ed-unassigned"},
    {"vi-history-word", "ed-unassigned"},
    {"vi-histedit", "ed-unassigned"},
    {"vi-alias", "ed-unassigned"},
    {"vi-comment-out", "ed-unassigned"},
    {"ed-command", "ed-unassigned"},
    {"ed-quoted-insert", "ed-unassigned"},
    {"ed-newline", "qc-enter"},
    {"ed-clear-screen", "qc-clear-screen"},
    {"ed-redisplay", "qc-clear-screen"},
    {"ed-end-of-file", "qc-delete-or-end"},
    {"em-delete-or-list", "qc-delete-or-end"},
    {"vi-list-or-eof", "qc-delete-or-end"},
    {"vi-redo", "qc-redo"},
};

static const enum editor_code codes[] = {
    [K_UP] = CODE_UP,
    [K_DOWN] = CODE_DOWN,
    [K_LEFT] = CODE_LEFT,
    [K_RIGHT] = CODE_RIGHT,
    [K_WORD_LEFT] = CODE_WORD_LEFT,
    [K_WORD_RIGHT] = CODE_WORD_RIGHT,
    [K_HOME] = CODE_HOME,
    [K_END] = CODE_END,
    [K_PAGE_UP] = CODE_PAGE_UP,
    [K_PAGE_DOWN] = CODE_PAGE_DOWN,
    [K_DELETE] = CODE_DELETE,
    [K_BACKTAB] = 0,
    [K_PASTE] = 0,
};

enum editor_code editor_code_of(enum key_name name) {
    return codes[name];
}

void editor_bind(EditLine *el, bool is_vi) {
    int maps = is_vi ? INSERT | COMMAND : EMACS;
    el_set(el, EL_EDITOR, is_vi ? "vi" : "emacs");
    for (size_t i = 0; i < sizeof bindings / sizeof *bindings; i++) {
        int in = bindings[i].maps & maps;
        if (in & TYPING) el_set(el, EL_BIND, bindings[i].key, bindings[i].function, NULL);
        if (in & COMMAND) el_set(el, EL_BIND, "-a", bindings[i].key, bindings[i].function, NULL);
    }
}

/* "^[", "\e" and "\033" of editrc's notation to bytes; other text as it is. */
static size_t unescape(const char *text, char *out, size_t room) {
    size_t n = 0;
    while (*text && n < room) {
        if (text[0] == '^' && text[1]) {
            out[n++] = text[1] == '?' ? 0x7F : (char)(text[1] & 0x1F);
            text += 2;
        } else if (text[0] == '\\' && (text[1] == 'e' || text[1] == 'E')) {
            out[n++] = 0x1B;
            text += 2;
        } else if (strncmp(text, "\\033", 4) == 0) {
            out[n++] = 0x1B;
            text += 4;
        } else {
            out[n++] = *text++;
        }
    }
    return n;
}

/* An escape sequence never reaches libedit; what stands for the key is the code of its name. */
static const char *key_for_libedit(const char *notation, char code[8]) {
    char bytes[64];
    struct keys keys = {0};
    struct key key;
    size_t n = unescape(notation, bytes, sizeof bytes);
    keys_feed(&keys, bytes, n);
    bool is_named = keys_next(&keys, &key) && key.name != K_CHAR && keys.at == keys.in.n;
    keys_release(&keys);
    if (!is_named) return notation;
    snprintf(code, 8, "\\%03o", (unsigned)editor_code_of(key.name));
    return code;
}

static const char *function_for_libedit(const char *name) {
    for (size_t i = 0; i < sizeof substitutes / sizeof *substitutes; i++)
        if (strcmp(substitutes[i].theirs, name) == 0) return substitutes[i].ours;
    return name;
}

/*
 * bind [-a] [-e] [-r] [-v] key function: argv as tokens. Macros (-s) are left out: libedit runs
 * their keys one after another without a place to look at the cursor between them (see look()).
 */
static void run_bind(EditLine *el, int argc, const char **argv) {
    const char *changed[16] = {"bind"};
    char code[8];
    int n = 1, i = 1;
    if (argc > 8) return;
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        if (argv[i][1] == 'e' || argv[i][1] == 'v') {
            editor_bind(el, argv[i][1] == 'v');
            return;
        }
        if (!strchr("ar", argv[i][1])) return; /* -l prints, -k needs a terminal */
        changed[n++] = argv[i];
    }
    if (i < argc) changed[n++] = key_for_libedit(argv[i++], code);
    if (i < argc) changed[n++] = function_for_libedit(argv[i]);
    changed[n] = NULL;
    if (n > 2) el_parse(el, n, changed);
}

static void run_line(EditLine *el, const char *line) {
    int argc;
    const char **argv;
    Tokenizer *tokenizer = tok_init(NULL);
    if (!tokenizer) return;
    if (tok_str(tokenizer, line, &argc, &argv) == 0 && argc > 0) {
        const char *command = argv[0];
        if (strncmp(command, "qwen-chat:", 10) == 0) command += 10;
        if (strncmp(command, "*:", 2) == 0) command += 2;
        if (strcmp(command, "bind") == 0) run_bind(el, argc, argv);
    }
    tok_end(tokenizer);
}

void editor_read_rc(EditLine *el, const char *path) {
    struct buf file = {0};
    if (io_exists(path) && io_read_file(path, MAX_RC_BYTES, &file, NULL) == 0 && file.n > 0) {
        char *rest = file.data, *line;
        while ((line = strsep(&rest, "\n")))
            if (*line && *line != '#' && strlen(line) < MAX_RC_LINE) run_line(el, line);
    }
    buf_release(&file);
}
