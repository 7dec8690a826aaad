/*
 * The engine: one model, many sequences, one owner thread. The only engine header that app/ needs
 * (with text/chat_template.h for conversations and base/ for errors).
 *
 *   engine_open -> [ engine_submit … engine_step* … engine_cancel ]* -> engine_close
 *
 * Invariants
 *   - One thread calls everything here. engine_tokenizer() and engine_chat() give immutable
 *     objects that any thread may use while the engine is open.
 *   - The caller hands over the whole token prefix each time. The engine finds the longest prefix
 *     whose keys and values it still has and computes only the rest; so edit, regenerate, branch
 *     and resume need nothing else.
 *   - engine_step() runs one pass over the sequences that are ready (a chunk of a prompt, a token
 *     of each answer) and returns what came of it; where the device computes by itself (a GPU),
 * what came of the pass before, while it computes this one. On the CPU a step lasts at most about
 *     250 ms.
 *   - A request's text does not depend on what else runs beside it.
 */
#pragma once

#include "engine/base/err.h"
#include "engine/text/chat_template.h"
#include "engine/text/tokenizer.h"
#include "engine/weights/model_config.h"
#include "kernels/format.h"
#include "kernels/sampling.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine;

struct engine_options {
    const char *model;          /* folder, file or org/name */
    const char *tokenizer;      /* folder to take the tokenizer from, or NULL */
    const char *template_name;  /* row of the chat templates to use instead, or NULL */
    int threads;                /* 0: as many as the machine gives */
    int context_tokens;         /* of a sequence, and of all that run at once together; 0: the
                                   smaller of the model's and what fits */
    int max_sequences;          /* in flight at once; 0: 8 */
    int prefill_tokens;         /* rows of a pass at most; 0: 512, fewer where a step would last
                                   longer than 250 ms */
    enum format kv_format;      /* FORMAT_F16 unless a test wants FORMAT_F32 */
    const char *random_weights; /* not NULL: only config.json is read, weights are random in this
                                   format or mix; "": in the one that it names (bench) */
    bool ids_only;    /* no tokenizer is opened: requests are ids, events have no text (bench) */
    bool is_exact;    /* weights as stored, activations float: the reference */
    bool is_baseline; /* kernels of every x86-64 only (tests) */
    bool defers;      /* as on a GPU: a step returns what the pass before it drew (tests) */
    uint64_t memory_bytes;     /* budget for everything; 0: what is free now */
    const char *device;        /* "auto", "cpu", "cuda", "cuda:N"; NULL: the CPU */
    const char *cuda_module;   /* the file of the CUDA backend; NULL: beside the program */
    uint64_t gpu_memory_bytes; /* the same budget where a GPU computes */
    bool in_float;             /* a GPU computes in float as the CPU does (tests) */
    /* Called while opening: what is being done and how far it is, 0 to 1; false cancels. */
    bool (*progress)(void *ud, const char *what, float share);
    void *progress_ud;
};

/* What a plan must know of the device. */
struct device_facts {
    bool is_gpu, has_bf16;
    uint64_t free_bytes; /* what could be taken before the model was */
    uint64_t own_bytes;  /* what the process, or on a GPU its backend, has and will take */
    size_t (*work_bytes)(int n_outputs, int vocab); /* kernels/device.h; may be NULL */
};

/* Where the memory goes: predicted before it is taken, within 5 % of what a run then takes. */
struct memory_plan {
    uint64_t weights_bytes; /* mapped (what is read of it) or uploaded */
    uint64_t kv_bytes;      /* KV cache at context_tokens */
    uint64_t kv_bytes_per_token;
    uint64_t activations_bytes; /* arena and logits */
    uint64_t tokenizer_bytes;
    uint64_t program_bytes; /* the process itself; on a GPU context, code and buffers of ops */
    uint64_t total_bytes;
    uint64_t available_bytes; /* what may be taken: the budget or free memory */
    int context_tokens;
};

enum { ENGINE_STAGES = 8 };

struct model_info {
    const struct model_config *config;
    const struct generation_defaults *generation;
    const char *path;      /* what was opened */
    const char *device;    /* "AMD EPYC 7763, 2 threads, AVX2" */
    char format[32];       /* the format of most matrix bytes: "q4_1" */
    int context_tokens;    /* per sequence */
    uint64_t weight_bytes; /* read per token */
    uint64_t stored_bytes; /* of all tensors */
    uint64_t parameters;
    const char *backend; /* "CPU" */
    char processor[64];  /* of the host: "AMD EPYC 7763" */
    int threads;
    enum format kv_format;
    int max_sequences;
    int pass_rows;         /* of a pass at most */
    uint64_t device_bytes; /* of memory that the device has: the machine's, or its own */
    struct memory_plan plan;
    struct device_facts facts; /* before this model was opened */
    char notices[4][256];      /* sentences for the user: unknown template, context above trained */
    int n_notices;
    struct engine_stage { /* of opening, in order: where its time went */
        const char *what;
        double seconds;
    } stages[ENGINE_STAGES];
    int n_stages;
};

int engine_open(struct engine **out, const struct engine_options *options, struct err *err);
void engine_close(struct engine *e);

const struct model_info *engine_info(const struct engine *e);
const struct tokenizer *engine_tokenizer(const struct engine *e); /* NULL: ids_only */
const struct chat_template *engine_chat(const struct engine *e);  /* NULL: a base model */

/* Sampling as the checkpoint (or its family) recommends; seed 0. */
struct sampling engine_default_sampling(const struct engine *e);

struct engine_request {
    const int32_t *tokens; /* the whole prefix; copied. Longer than the context: ERR_CONTEXT */
    size_t n_tokens;       /* at least 1 */
    struct sampling sampling;
    int max_tokens;           /* answer length; <= 0: to the end of the context */
    const char *const *stops; /* stop strings; copied */
    size_t n_stops;
    const int32_t *stop_ids; /* besides those of the checkpoint; copied */
    size_t n_stop_ids;
    bool ignore_stop_ids; /* bench: run to max_tokens */
    bool show_control;    /* raw mode: control tokens appear in the text */
    /* Where not NULL: called in engine_step with the float logits [V] after each prefix token
     * (position 0 .. n_tokens-1; no prefix is reused then) or, with only_last, after the last one,
     * and after each answer token. The row is valid during the call. */
    void (*logits)(void *ud, size_t position, const float *row, int vocab);
    void *logits_ud;
    bool logits_only_last;
};

enum engine_stop {
    STOP_NONE,
    STOP_END,     /* a stop id */
    STOP_STRING,  /* a stop string */
    STOP_LENGTH,  /* max_tokens */
    STOP_CONTEXT, /* the context is full */
    STOP_CANCELLED,
    STOP_ERROR, /* not-finite logits, a lost file, a device fault */
};
const char *engine_stop_name(enum engine_stop stop); /* "stop", "stop", "length" … OpenAI's words */

/* Times are of the monotonic clock. */
struct engine_usage {
    int prompt_tokens, cached_tokens; /* of the prompt, how many came from the cache */
    int answer_tokens;
    double prompt_seconds; /* submit to the first token */
    double answer_seconds; /* first token to the last */
    double queue_seconds;  /* submit to the first pass */
};

enum engine_event_kind {
    EVENT_PROMPT, /* part of the prompt was computed: done of total */
    EVENT_TOKEN,  /* one more token of the answer; text may be empty (half a character) */
    EVENT_END,    /* the last event of a request; text is what was still held back */
};

/* Valid until the next engine_step(). */
struct engine_event {
    uint64_t request;
    enum engine_event_kind kind;
    int done, total;  /* EVENT_PROMPT */
    int32_t token;    /* EVENT_TOKEN; -1 in others */
    const char *text; /* whole UTF-8 characters, not sanitized, not NUL-terminated */
    size_t n_text;
    enum engine_stop stop;            /* EVENT_END */
    const struct engine_usage *usage; /* EVENT_END */
    const struct err *err;            /* EVENT_END with STOP_ERROR */
};

/* Queues a request; its number in *id (never 0). ERR_CONTEXT when the prefix does not fit. */
int engine_submit(struct engine *e, const struct engine_request *request, uint64_t *id,
                  struct err *err);

/* The request ends with STOP_CANCELLED at the next step; unknown numbers are ignored. */
void engine_cancel(struct engine *e, uint64_t id);

/* One pass. *events and *n are the engine's. -1: the engine is broken and must be closed. With
 * nothing to do it returns 0 at once with n = 0. */
int engine_step(struct engine *e, const struct engine_event **events, size_t *n, struct err *err);
bool engine_is_busy(const struct engine *e);

/* Bytes of KV blocks in use and taken, and the tokens drawn since the engine was opened. */
struct engine_load {
    int n_running, n_waiting;
    uint64_t kv_used_bytes, kv_taken_bytes, kv_cached_bytes;
    uint64_t n_drawn;
};
struct engine_load engine_load(const struct engine *e);

/* What is in memory now: of the process; on a device with memory of its own, of that by this
 * engine. It is part of model_info's device_bytes. */
uint64_t engine_memory_bytes(const struct engine *e);

/* Keys that a layer looks at, on average over them, from a row that sees `context` tokens. */
double engine_keys_seen(const struct model_config *c, double context);
/* Bytes that a decode pass must read: the weights once, keys and values of each sequence. */
double engine_pass_bytes(const struct model_info *info, int n_sequences, double context);

/* What decoding is measured against: bytes per second that the device, with the engine's threads,
 * reads memory with. Measured now, which takes some tenths of a second; 0: it cannot be. */
double engine_read_speed(struct engine *e);

/* Drops every cached prefix (/clear, tests). */
void engine_forget(struct engine *e);

/* The plan for a model that is not opened: reads headers only. `facts`: of the device that the
 * options name; NULL: asks it, which on a GPU takes some tenths of a second. */
int engine_plan(const struct engine_options *options, const struct device_facts *facts,
                struct memory_plan *plan, struct err *err);

/* What there is before a model is opened. model_info has them of a model's device. */
int engine_device_facts(const struct engine_options *options, struct device_facts *facts,
                        struct err *err);
