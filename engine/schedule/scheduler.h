/*
 * Which sequences run in the next pass, and with how many tokens each. Pure: it moves numbers
 * between the block manager and sequences and knows nothing of models, devices or time.
 *
 *   scheduler_add … [ scheduler_pick -> (the pass) -> scheduler_commit ]* … scheduler_remove
 *
 * Rules
 *   - First come, first served. Running sequences are older than waiting ones, and nobody is
 *     admitted before an older one.
 *   - Every running sequence that needs one token gets it in every pass; what is left of the row
 *     budget goes to prompts, the oldest first, a chunk per pass.
 *   - Blocks are taken as tokens need them. When they run out, the newest running sequence gives
 *     all of its own back and waits again; so the oldest always moves, and every sequence ends.
 *   - A sequence is admitted when its present tokens fit and each running one could still take a
 *     block, so that it is not thrown out again at once.
 */
#pragma once

#include "engine/schedule/block_manager.h"
#include "engine/schedule/sequence.h"

struct scheduler_pick {
    struct sequence *sequence;
    int first;     /* position of its first row in this pass */
    int n_rows;    /* tokens first .. first + n_rows - 1 */
    int n_outputs; /* rows at the end of these whose logits are wanted */
    bool draws;    /* the last one's draw the sequence's next token */
};

struct scheduler {
    struct block_manager *blocks; /* not owned */
    int max_sequences;            /* running at once */
    int max_outputs;              /* of a pass; at least max_sequences */
    struct sequence **running;    /* [max_sequences], the oldest first */
    int n_running;
    struct sequence *waiting; /* the oldest first */
    int n_waiting;
    struct scheduler_pick *picks; /* [max_sequences] the next pass */
    int n_picks;
    uint64_t n_preemptions;
};

/* The pool must hold the longest sequence that will ever be added. */
int scheduler_init(struct scheduler *s, struct block_manager *blocks, int max_sequences,
                   int max_outputs, struct err *err);
void scheduler_release(struct scheduler *s);

/* Queues; `number` must be larger than that of any sequence added before. */
void scheduler_add(struct scheduler *s, struct sequence *seq);

/* Ends a sequence in whatever state; its blocks are returned. Not between pick and commit. */
void scheduler_remove(struct scheduler *s, struct sequence *seq);

/*
 * Fills picks for a pass of at most max(row_budget, max_sequences) rows. Returns n_picks; 0 only
 * when there is no sequence but those whose last token is being drawn.
 */
int scheduler_pick(struct scheduler *s, int row_budget);

/* The pass is done, or on its way: whoever comes behind it finds its keys and values in the blocks.
 * Full blocks of known tokens become findable. */
void scheduler_commit(struct scheduler *s);
