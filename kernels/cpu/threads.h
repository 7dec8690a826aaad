/*
 * A team of threads that runs one function on all of them at once.
 *
 * The caller is thread 0. Waiting threads spin briefly, then sleep in the kernel, so an idle team
 * costs nothing and a busy one answers within a microsecond. One thread owns the team.
 */
#pragma once

#include <stddef.h>

struct team;

/* A team of n threads including the caller; NULL when they cannot be started. */
struct team *team_create(int n_threads);
void team_free(struct team *team);
int team_size(const struct team *team);

/* Runs fn(arg, 0 .. size-1) on all threads and returns when all are done. */
void team_run(struct team *team, void (*fn)(void *arg, int index), void *arg);

/* Inside fn: waits until all threads are here; what they wrote is then seen by all. */
void team_barrier(struct team *team);

/* Inside fn: the first of the next n items of work that no thread has taken; counts from 0 anew
 * after each barrier and in each run. */
size_t team_take(struct team *team, size_t n);

/* The same one by one, with a count for each thread: the next item of those meant for `whose`. */
size_t team_take_of(struct team *team, int whose);
