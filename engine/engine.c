/*
 * The engine: what was opened, the requests in flight, and the step that moves them. The order of
 * the functions is the order of a request's life, backwards: emit and end, a pass, a step, submit;
 * then opening and closing.
 */
#include "engine/engine.h"

#include "engine/base/clock.h"
#include "engine/base/io.h"
#include "engine/base/mem.h"
#include "engine/forward/graph_cache.h"
#include "engine/open_device.h"
#include "engine/plan.h"
#include "engine/request.h"
#include "engine/schedule/pace.h"
#include "engine/weights/checkpoint.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* A pass that was launched and whose tokens are not delivered yet. */
struct pass {
    struct scheduler_pick *picks; /* [max_sequences]; sequence NULL: it has ended since */
    int n_picks, n_outputs;
    int box;         /* of the device, where what was drawn arrives */
    int prompt_rows; /* where it reads prompts: its rows; else 0 */
    double launched;
};

/* The tokenizer on its way, on a thread of its own. */
struct text_opening {
    pthread_t thread;
    bool is_running;
    const struct checkpoint *checkpoint;
    const char *folder;
    struct tokenizer *tokenizer;
    int result;
    struct err err;
};

struct engine {
    /* immutable once opened */
    struct checkpoint *checkpoint;
    struct tokenizer *tokenizer;
    const struct chat_template *chat; /* not owned; NULL: a base model */
    struct device *device;
    struct weights weights;
    struct model_info info;
    uint8_t *is_token; /* device [V] 0: a padding row of the embedding; NULL: there are none */
    bool defers;       /* a step returns the tokens of the pass before its own */

    /* opening */
    struct text_opening text;
    double stage_began;

    /* a pass */
    struct kv_cache kv;
    struct activations activations;
    struct graph_cache graphs;
    struct block_manager blocks;
    struct scheduler scheduler;
    struct pace pace;
    struct batch batch;
    struct pass passes[2]; /* in turn; in_flight is one of them */
    struct pass *in_flight;
    double last_arrived; /* when the pass before was over */
    float *logits;       /* [V] the row being looked at */

    /* requests */
    uint64_t last_id, n_drawn;
    struct request *live;  /* submitted and not ended, the newest first */
    struct request *ended; /* in this step: events point to them until the next */
    int n_live;
    struct engine_event *events; /* room for three per live request */
    size_t n_events, events_capacity;
};

enum { EVENTS_PER_REQUEST = 3 }; /* of one step: prompt, token, end */

/* ---- events ---- */

static struct engine_event *emit(struct engine *e, const struct request *r,
                                 enum engine_event_kind kind) {
    struct engine_event *event = &e->events[e->n_events++];
    *event =
        (struct engine_event){.request = r->sequence.number, .kind = kind, .token = -1, .text = ""};
    return event;
}

static void set_text(struct engine_event *event, const struct buf *text) {
    event->text = text->data ? text->data : "";
    event->n_text = text->n;
}

static void emit_prompt(struct engine *e, const struct request *r, int done) {
    struct engine_event *event = emit(e, r, EVENT_PROMPT);
    event->done = done;
    event->total = r->sequence.n_prompt;
}

static void emit_token(struct engine *e, const struct request *r, int32_t token) {
    struct engine_event *event = emit(e, r, EVENT_TOKEN);
    event->token = token;
    set_text(event, &r->text);
    e->n_drawn++;
}

/* What the pass in flight computes for it is nobody's any more. */
static void leave_pass(struct pass *pass, const struct sequence *seq) {
    for (int i = 0; pass && i < pass->n_picks; i++)
        if (pass->picks[i].sequence == seq) pass->picks[i].sequence = NULL;
}

/* Moves a request from the living to the ended; its blocks go back. */
static void end(struct engine *e, struct request *r, enum engine_stop stop) {
    struct request **link = &e->live;
    while (*link != r) link = &(*link)->next;
    *link = r->next;
    r->next = e->ended;
    e->ended = r;
    e->n_live--;
    scheduler_remove(&e->scheduler, &r->sequence);
    leave_pass(e->in_flight, &r->sequence);
    detokenizer_finish(&r->detokenizer, &r->rest);
    r->usage.cached_tokens = r->sequence.n_cached > 0 ? r->sequence.n_cached : 0;
    r->usage.answer_tokens = request_n_answer(r);

    struct engine_event *event = emit(e, r, EVENT_END);
    set_text(event, &r->rest);
    event->stop = stop;
    event->usage = &r->usage;
    event->err = stop == STOP_ERROR ? &r->err : NULL;
}

static void end_all(struct engine *e, const struct err *err) {
    while (e->live) {
        e->live->err = *err;
        end(e, e->live, STOP_ERROR);
    }
}

static void end_cancelled(struct engine *e) {
    for (struct request *r = e->live, *next; r; r = next) {
        next = r->next;
        if (r->is_cancelled) end(e, r, STOP_CANCELLED);
    }
}

static void free_requests(struct request **list) {
    while (*list) {
        struct request *r = *list;
        *list = r->next;
        request_free(r);
    }
}

/* ---- what a pass gave: logits, tokens ---- */

/* A token of the answer, or its end. */
static void take_token(struct engine *e, struct request *r, int32_t token) {
    const struct sequence *seq = &r->sequence;
    if (seq->n_tokens == e->info.context_tokens) return end(e, r, STOP_CONTEXT);
    double time = clock_seconds();
    if (r->first_token == 0) {
        r->first_token = time;
        r->usage.prompt_seconds = time - r->submitted;
    }
    r->usage.answer_seconds = time - r->first_token;
    if (token == SAMPLE_NOT_FINITE) {
        err_set(&r->err, ERR_MODEL,
                "the model's numbers are not finite behind token %d: the answer ends here",
                seq->n_tokens);
        return end(e, r, STOP_ERROR);
    }
    if (request_is_stop_id(r, token)) return end(e, r, STOP_END);
    buf_clear(&r->text);
    enum engine_stop stop = request_add_token(r, token, e->info.context_tokens);
    emit_token(e, r, token);
    if (stop != STOP_NONE) end(e, r, stop);
}

/* Row `row` of the pass's logits, those after the token at `position`, to whoever asked. */
static enum op_status give_logits(struct engine *e, struct request *r, int row, int position) {
    size_t vocab = (size_t)e->info.config->vocab;
    if (position < r->n_logits_given) return OP_OK;
    enum op_status status =
        e->device->download(e->device, e->logits, e->activations.logits + (size_t)row * vocab,
                            vocab * sizeof *e->logits);
    if (status == OP_OK) status = e->device->sync(e->device);
    if (status != OP_OK) return status;
    r->logits(r->logits_ud, (size_t)position, e->logits, (int)vocab);
    r->n_logits_given = position + 1;
    return OP_OK;
}

/* What a pass gave to one sequence, in the rows of its outputs from `output` on. */
static enum op_status deliver_pick(struct engine *e, const struct scheduler_pick *pick, int output,
                                   const int32_t *drawn) {
    struct request *r = request_of(pick->sequence);
    int end_position = pick->first + pick->n_rows;
    if (request_n_answer(r) == 0) emit_prompt(e, r, end_position);
    for (int i = 0; r->logits && i < pick->n_outputs; i++) {
        enum op_status status = give_logits(e, r, output + i, end_position - pick->n_outputs + i);
        if (status != OP_OK) return status;
    }
    if (pick->draws) take_token(e, r, drawn[output + pick->n_outputs - 1]);
    return OP_OK;
}

/* A pass on a device of its own lasts from its launch, or from the end of the pass before, until
 * what it posted arrives. */
static enum op_status wait_for(struct engine *e, const struct pass *pass, const void **drawn) {
    const enum op_status status = e->device->collect(e->device, pass->box, drawn);
    const double now = clock_seconds();
    const double began = pass->launched > e->last_arrived ? pass->launched : e->last_arrived;
    if (pass->prompt_rows > 0 && e->device->is_async && status == OP_OK)
        pace_measured(&e->pace, pass->prompt_rows, now - began);
    e->last_arrived = now;
    return status;
}

static enum op_status deliver(struct engine *e, const struct pass *pass) {
    const void *drawn = NULL;
    enum op_status status = wait_for(e, pass, &drawn);
    for (int i = 0, output = 0; i < pass->n_picks && status == OP_OK; i++) {
        const struct scheduler_pick *pick = &pass->picks[i];
        if (pick->sequence) status = deliver_pick(e, pick, output, drawn);
        output += pick->n_outputs;
    }
    return status;
}

/* ---- a pass: fill, compute ---- */

static void fill_batch(struct engine *e) {
    batch_clear(&e->batch);
    for (int i = 0; i < e->scheduler.n_picks; i++) {
        struct request *r = request_of(e->scheduler.picks[i].sequence);
        if (r->usage.queue_seconds == 0) r->usage.queue_seconds = clock_seconds() - r->submitted;
        batch_add(&e->batch, &e->scheduler.picks[i], &r->sampling);
    }
}

static enum op_status compute(struct engine *e, struct pass *pass) {
    pass->launched = clock_seconds();
    pass->prompt_rows = batch_is_decode(&e->batch) ? 0 : e->batch.n_rows;
    enum op_status status = graph_cache_run(&e->graphs, &e->batch);
    if (pass->prompt_rows > 0 && !e->device->is_async)
        pace_measured(&e->pace, pass->prompt_rows, clock_seconds() - pass->launched);
    return status;
}

/* Whichever of the two is not in flight. */
static struct pass *next_pass(struct engine *e) {
    struct pass *pass = &e->passes[e->in_flight == &e->passes[0]];
    pass->n_picks = e->scheduler.n_picks;
    pass->n_outputs = 0;
    for (int i = 0; i < pass->n_picks; i++) {
        pass->picks[i] = e->scheduler.picks[i];
        pass->n_outputs += pass->picks[i].n_outputs;
    }
    return pass;
}

/* Sends what was picked on its way. *err: the files were lost, and nothing of it is to be
 * believed. */
static enum op_status launch(struct engine *e, struct pass *pass, struct err *err) {
    fill_batch(e);
    enum op_status status = compute(e, pass);
    if (status != OP_OK || checkpoint_is_lost(e->checkpoint, err)) return status;
    scheduler_commit(&e->scheduler);
    /* a pass that draws nothing posts something too: at most one is ahead of what has arrived, so
     * that a long prompt can be left and its progress is true */
    const size_t n = pass->n_outputs > 0 ? (size_t)pass->n_outputs : 1;
    return e->device->post(e->device, pass->box, e->activations.drawn, n * sizeof(int32_t));
}

/* A device that failed holds nothing that can be trusted; other trouble ends what is in flight. */
static int end_step(struct engine *e, enum op_status status, struct err *trouble, struct err *err) {
    if (status == OP_FAULT)
        return err_set(err, ERR_MEMORY, "%s failed; the model must be opened again",
                       e->device->name);
    if (status != OP_OK)
        err_set(trouble, status == OP_NO_MEMORY ? ERR_MEMORY : ERR_OTHER,
                "%s cannot compute this: %s", e->device->name, op_status_text(status));
    if (trouble->kind != ERR_NONE) end_all(e, trouble);
    return 0;
}

/* Whose logits are looked at, the pass must be delivered before the next one overwrites them. */
static bool somebody_sees_logits(const struct engine *e) {
    for (const struct request *r = e->live; r; r = r->next)
        if (r->logits) return true;
    return false;
}

/* Sends the next pass on its way; *launched is NULL where there is nothing to compute. */
static enum op_status launch_next(struct engine *e, struct pass **launched, struct err *trouble) {
    *launched = NULL;
    if (scheduler_pick(&e->scheduler, pace_rows(&e->pace)) == 0) return OP_OK;
    struct pass *pass = next_pass(e);
    enum op_status status = launch(e, pass, trouble);
    if (status == OP_OK && trouble->kind == ERR_NONE) *launched = pass;
    return status;
}

/*
 * One pass in, one pass out: where steps defer, the pass of the step before, while the device
 * computes this step's; else the same one.
 */
static int run_step(struct engine *e, struct err *err) {
    struct pass *before = e->in_flight, *pass = NULL;
    bool defers = e->defers && !somebody_sees_logits(e);
    struct err trouble = {0};
    enum op_status status = OP_OK;
    if (!before || defers) status = launch_next(e, &pass, &trouble);
    e->in_flight = defers ? pass : NULL;
    struct pass *finished = defers || before ? before : pass;
    if (status == OP_OK && finished) status = deliver(e, finished);
    return end_step(e, status, &trouble, err);
}

int engine_step(struct engine *e, const struct engine_event **events, size_t *n, struct err *err) {
    e->n_events = 0;
    free_requests(&e->ended);
    end_cancelled(e);
    int result = run_step(e, err);
    *events = e->events;
    *n = e->n_events;
    return result;
}

/* ---- requests in ---- */

int engine_submit(struct engine *e, const struct engine_request *from, uint64_t *id,
                  struct err *err) {
    struct request *r;
    const struct request_context context = {.config = e->info.config,
                                            .generation = e->info.generation,
                                            .tokenizer = e->tokenizer,
                                            .context_tokens = e->info.context_tokens,
                                            .block_tokens = KV_BLOCK_TOKENS};
    size_t n_events = EVENTS_PER_REQUEST * ((size_t)e->n_live + 1);
    if (mem_grow((void **)&e->events, &e->events_capacity, n_events, sizeof *e->events) != 0)
        return err_memory(err, n_events * sizeof *e->events, "the events of a step");
    if (request_create(&r, from, &context, err) != 0) return -1;
    r->sequence.number = *id = ++e->last_id;
    r->submitted = clock_seconds();
    r->usage.prompt_tokens = r->sequence.n_prompt;
    r->next = e->live;
    e->live = r;
    e->n_live++;
    scheduler_add(&e->scheduler, &r->sequence);
    return 0;
}

void engine_cancel(struct engine *e, uint64_t id) {
    for (struct request *r = e->live; r; r = r->next)
        if (r->sequence.number == id) r->is_cancelled = true;
}

bool engine_is_busy(const struct engine *e) {
    return e->live != NULL;
}

void engine_forget(struct engine *e) {
    block_manager_forget(&e->blocks);
}

/* ---- what there is ---- */

const char *engine_stop_name(enum engine_stop stop) {
    switch (stop) {
    case STOP_NONE:
        return "";
    case STOP_END:
    case STOP_STRING:
        return "stop";
    case STOP_LENGTH:
    case STOP_CONTEXT:
        return "length";
    case STOP_CANCELLED:
        return "cancelled";
    case STOP_ERROR:
        return "error";
    }
    bug("stop %d", (int)stop);
}

const struct model_info *engine_info(const struct engine *e) {
    return &e->info;
}

const struct tokenizer *engine_tokenizer(const struct engine *e) {
    return e->tokenizer;
}

const struct chat_template *engine_chat(const struct engine *e) {
    return e->chat;
}

struct sampling engine_default_sampling(const struct engine *e) {
    const struct generation_defaults *g = e->info.generation;
    return (struct sampling){
        .temperature = g->do_sample ? g->temperature : 0,
        .top_k = g->top_k,
        .top_p = g->top_p,
        .min_p = g->min_p,
        .repetition_penalty = g->repetition_penalty,
    };
}

struct engine_load engine_load(const struct engine *e) {
    uint64_t block_bytes = KV_BLOCK_TOKENS * e->info.plan.kv_bytes_per_token;
    return (struct engine_load){
        .n_running = e->scheduler.n_running,
        .n_waiting = e->scheduler.n_waiting,
        .kv_used_bytes = (uint64_t)e->blocks.n_used * block_bytes,
        .kv_taken_bytes = (uint64_t)e->blocks.n_taken * block_bytes,
        .kv_cached_bytes = (uint64_t)e->blocks.n_cached * block_bytes,
        .n_drawn = e->n_drawn,
    };
}

uint64_t engine_memory_bytes(const struct engine *e) {
    const struct memory_plan *plan = &e->info.plan;
    return e->device->reads_host_memory
               ? plan_resident_bytes()
               : plan->total_bytes - plan->weights_bytes + e->weights.owned_bytes;
}

double engine_keys_seen(const struct model_config *c, double context) {
    bool is_cut = c->sliding_window && context > c->sliding_window;
    int n_windows =
        is_cut && c->sliding_from_layer < c->n_layers ? c->n_layers - c->sliding_from_layer : 0;
    return context + (c->sliding_window - context) * n_windows / c->n_layers;
}

double engine_pass_bytes(const struct model_info *info, int n_sequences, double context) {
    return (double)info->weight_bytes + n_sequences * engine_keys_seen(info->config, context) *
                                            (double)info->plan.kv_bytes_per_token;
}

double engine_read_speed(struct engine *e) {
    return e->device->read_speed ? e->device->read_speed(e->device) : 0;
}

/* ---- opening ---- */

static void add_notice(struct engine *e, const char *text) {
    struct model_info *info = &e->info;
    size_t most = sizeof info->notices / sizeof *info->notices;
    if (!text[0] || info->n_notices == (int)most) return;
    snprintf(info->notices[info->n_notices++], sizeof info->notices[0], "%s", text);
}

static void notice_long_context(struct engine *e) {
    const struct model_config *c = e->info.config;
    int context = e->info.context_tokens;
    char text[256];
    if (context <= c->trained_tokens) return;
    int n = snprintf(
        text, sizeof text,
        err_text("The context of %d tokens is longer than the %d the model was trained on"),
        context, c->trained_tokens);
    char *rest = text + n;
    size_t room = sizeof text - (size_t)n;
    if (context > c->max_tokens)
        snprintf(rest, room, err_text("; beyond %d the answers will be poor."), c->max_tokens);
    else if (c->rope_scaling == ROPE_DYNAMIC_NTK)
        snprintf(rest, room,
                 err_text("; for prompts past that, dynamic NTK stretches the rotation."));
    else if (c->rope_scaling == ROPE_YARN)
        snprintf(rest, room,
                 err_text("; YaRN (factor %g) reaches that far, and may cost a little on short "
                          "texts."),
                 c->rope_factor);
    else
        snprintf(rest, room, err_text("; the checkpoint's rotation is scaled to reach that far."));
    add_notice(e, text);
}

/* The next stage begins; what the last one took is kept. */
static int begin_stage(struct engine *e, const struct engine_options *o, const char *what,
                       float share, struct err *err) {
    struct model_info *info = &e->info;
    const double now = clock_seconds();
    if (info->n_stages > 0) info->stages[info->n_stages - 1].seconds = now - e->stage_began;
    e->stage_began = now;
    if (share < 1 && info->n_stages < ENGINE_STAGES)
        info->stages[info->n_stages++] = (struct engine_stage){.what = what};
    if (!o->progress || o->progress(o->progress_ud, what, share)) return 0;
    return err_set(err, ERR_OTHER, "opening the model was cancelled");
}

static int choose_device(struct engine *e, const struct engine_options *o, struct err *err) {
    char notice[DEVICE_NOTICE_BYTES];
    if (open_device(&e->device, o, most_stored(e->checkpoint), notice, err) != 0) return -1;
    e->device->copy_source = io_map_copy;
    add_notice(e, notice);
    return 0;
}

/* Which ids are tokens: the others are padding rows of the embedding, and never drawn. */
static int find_tokens(struct engine *e, struct err *err) {
    size_t vocab = (size_t)e->info.config->vocab, n_tokens = 0;
    uint8_t *is_token = mem_alloc(vocab);
    e->is_token = e->device->alloc(e->device, vocab);
    if (!is_token || !e->is_token) {
        mem_free(is_token);
        return err_memory(err, vocab, "the list of tokens");
    }
    for (size_t id = 0; id < vocab; id++) {
        size_t n;
        is_token[id] = tokenizer_bytes(e->tokenizer, (int32_t)id, &n) != NULL;
        n_tokens += is_token[id];
    }
    enum op_status status = e->device->upload(e->device, e->is_token, is_token, vocab);
    mem_free(is_token);
    if (status != OP_OK)
        return err_set(err, ERR_MEMORY, "%s failed: %s", e->device->name, op_status_text(status));
    if (n_tokens > 0) return 0;
    return err_set(err, ERR_MODEL, "%s: the tokenizer has no token for any row of the embedding",
                   e->info.path);
}

static void *read_tokenizer(void *opening) {
    struct text_opening *text = opening;
    text->result =
        checkpoint_open_tokenizer(text->checkpoint, text->folder, &text->tokenizer, &text->err);
    return NULL;
}

/* While a GPU is made ready and filled, which leaves the processors idle, the tokenizer is read; a
 * CPU that computes packs the weights with all of them, and reads it by itself before. */
static void begin_text(struct engine *e, const struct engine_options *o) {
    struct text_opening *text = &e->text;
    *text = (struct text_opening){.checkpoint = e->checkpoint, .folder = o->tokenizer};
    if (o->ids_only || !o->device || strcmp(o->device, "cpu") == 0) return;
    text->is_running = pthread_create(&text->thread, NULL, read_tokenizer, text) == 0;
}

static void end_text(struct text_opening *text) {
    if (text->is_running) pthread_join(text->thread, NULL);
    text->is_running = false;
}

static int open_text(struct engine *e, const struct engine_options *o, struct err *err) {
    const struct generation_defaults *g = e->info.generation;
    struct text_opening *text = &e->text;
    if (o->ids_only) return 0; /* all ids are tokens */
    if (text->is_running)
        end_text(text);
    else
        read_tokenizer(text);
    e->tokenizer = text->tokenizer;
    if (text->result != 0) {
        if (err) *err = text->err;
        return -1;
    }
    if (find_tokens(e, err) != 0) return -1;
    if (o->template_name) {
        e->chat = chat_template_by_name(o->template_name);
        if (e->chat) return 0;
        return err_set(err, ERR_USAGE, "there is no chat template \"%s\"", o->template_name);
    }
    const struct chat_template_choice choice =
        chat_template_choose(checkpoint_chat_template(e->checkpoint), e->info.config->model_type,
                             g->chat_format[0] ? g->chat_format : NULL);
    e->chat = choice.chat;
    add_notice(e, choice.notice);
    return 0;
}

static void describe_weights(struct engine *e) {
    snprintf(e->info.format, sizeof e->info.format, "%s",
             format_table[most_stored(e->checkpoint)].name);
    const struct matrix *embed = &e->weights.embed;
    e->info.stored_bytes = checkpoint_bytes(e->checkpoint);
    e->info.parameters = weights_parameters(e->info.config);
    e->info.weight_bytes = e->weights.matrix_bytes;
    if (e->weights.head.data != embed->data)
        e->info.weight_bytes -=
            (uint64_t)embed->rows * format_row_bytes(embed->format, (size_t)embed->cols);
}

/* Everything that a pass needs, as planned. */
static int make_room(struct engine *e, const struct plan *plan, enum format kv_format,
                     struct err *err) {
    const struct model_config *c = e->info.config;
    size_t vocab = (size_t)c->vocab;
    if (kv_cache_init(&e->kv, e->device, c, kv_format, plan->n_blocks, err) != 0 ||
        activations_init(&e->activations, e->device, c, &plan->batch, err) != 0 ||
        block_manager_init(&e->blocks, plan->n_blocks, KV_BLOCK_TOKENS, err) != 0 ||
        scheduler_init(&e->scheduler, &e->blocks, plan->max_sequences, plan->batch.max_outputs,
                       err) != 0 ||
        batch_init(&e->batch, plan->batch, err) != 0)
        return -1;
    const int n_outputs = plan->batch.max_outputs;
    if (plan->work_bytes > 0 && e->device->take_work(e->device, n_outputs, c->vocab) != OP_OK)
        return err_memory(err, plan->work_bytes, "the buffers of the ops");
    e->logits = mem_alloc(vocab * sizeof *e->logits);
    if (!e->logits) return err_memory(err, vocab * sizeof *e->logits, "a row of logits");
    for (int i = 0; i < 2; i++) {
        size_t n = (size_t)plan->max_sequences;
        e->passes[i].box = i;
        e->passes[i].picks = mem_zalloc(n, sizeof *e->passes[i].picks);
        if (!e->passes[i].picks) return err_memory(err, n, "the picks of a pass");
    }
    pace_init(&e->pace, plan->max_rows, plan->seconds_per_row, plan->is_gpu);
    graph_cache_init(&e->graphs, &(struct model){.device = e->device,
                                                 .config = c,
                                                 .weights = &e->weights,
                                                 .kv = &e->kv,
                                                 .activations = &e->activations,
                                                 .is_token = e->is_token});
    return 0;
}

enum { WEIGHTS_FROM = 20, WEIGHTS_TO = 90 }; /* percent of opening */

static bool weights_told(void *ud, float share) {
    const struct engine_options *o = ud;
    const float percent = WEIGHTS_FROM + (WEIGHTS_TO - WEIGHTS_FROM) * share;
    return !o->progress || o->progress(o->progress_ud, "weights", percent / 100);
}

static int open_weights(struct engine *e, const struct engine_options *o, struct err *err) {
    struct engine_options copy = *o;
    const struct weights_progress progress = {weights_told, &copy};
    if (begin_stage(e, o, "weights", WEIGHTS_FROM / 100.0f, err) != 0) return -1;
    return weights_bind(&e->weights, e->checkpoint, e->device, &progress, err);
}

/* Where the tokenizer is read beside it, weights come first. */
static int open_contents(struct engine *e, const struct engine_options *o, struct err *err) {
    const bool is_beside = e->text.is_running;
    if (is_beside && open_weights(e, o, err) != 0) return -1;
    if (begin_stage(e, o, "tokenizer", is_beside ? WEIGHTS_TO / 100.0f : 0.1f, err) != 0 ||
        open_text(e, o, err) != 0)
        return -1;
    return is_beside ? 0 : open_weights(e, o, err);
}

/* The plan comes before anything large is taken. */
static int open_all(struct engine *e, const struct engine_options *o, struct err *err) {
    struct plan plan;
    struct model_info *info = &e->info;
    if (begin_stage(e, o, "checkpoint", 0, err) != 0 ||
        plan_open_checkpoint(&e->checkpoint, o, err) != 0)
        return -1;
    begin_text(e, o);
    if (begin_stage(e, o, "device", 0.05f, err) != 0 || choose_device(e, o, err) != 0) return -1;
    info->config = checkpoint_config(e->checkpoint);
    info->generation = checkpoint_generation(e->checkpoint);
    info->path = checkpoint_path(e->checkpoint);
    info->device = e->device->name;
    e->defers = o->defers || e->device->is_async;
    info->backend = e->device->backend;
    struct device_memory memory;
    e->device->memory(e->device, &memory);
    info->device_bytes = memory.total_bytes;
    info->threads = e->device->threads;
    device_cpu_name(info->processor, sizeof info->processor);
    info->facts = plan_facts(e->device);
    if (plan_make(&plan, o, e->checkpoint, &info->facts, err) != 0 ||
        plan_check(&plan, info->config, err) != 0)
        return -1;
    info->plan = plan.memory;
    info->context_tokens = plan.memory.context_tokens;
    info->kv_format = o->kv_format;
    info->max_sequences = plan.max_sequences;
    info->pass_rows = plan.max_rows;
    if (open_contents(e, o, err) != 0) return -1;
    describe_weights(e);
    notice_long_context(e);
    if (begin_stage(e, o, "memory", 0.95f, err) != 0 || make_room(e, &plan, o->kv_format, err) != 0)
        return -1;
    return begin_stage(e, o, "ready", 1, err);
}

int engine_open(struct engine **out, const struct engine_options *options, struct err *err) {
    struct engine *e = mem_zalloc(1, sizeof *e);
    if (!e) return err_memory(err, sizeof *e, "the engine");
    if (open_all(e, options, err) != 0) {
        engine_close(e);
        return -1;
    }
    *out = e;
    return 0;
}

void engine_close(struct engine *e) {
    if (!e) return;
    free_requests(&e->live);
    free_requests(&e->ended);
    mem_free(e->events);
    graph_cache_release(&e->graphs);
    mem_free(e->logits);
    mem_free(e->passes[0].picks);
    mem_free(e->passes[1].picks);
    batch_release(&e->batch);
    scheduler_release(&e->scheduler);
    block_manager_release(&e->blocks);
    activations_release(&e->activations);
    kv_cache_release(&e->kv);
    weights_release(&e->weights);
    if (e->is_token) e->device->release(e->device, e->is_token);
    end_text(&e->text); /* its own is the engine's once it was taken */
    tokenizer_close(e->tokenizer ? e->tokenizer : e->text.tokenizer);
    if (e->device) e->device->close(e->device);
    checkpoint_close(e->checkpoint);
    mem_free(e);
}
