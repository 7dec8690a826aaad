/*
 * The thread team: one barrier is all its machinery. Workers wait in it for the next run, all
 * threads meet in it inside and at the end of a run.
 *
 * A barrier is a count of arrivals and a phase number. The last to arrive clears the count and
 * raises the phase; the others watch the phase, and after a while sleep on it (futex). The
 * sequentially consistent order of `phase` and `n_asleep` makes sure that either the waker sees
 * the sleeper or the sleeper sees the new phase.
 */
#include "kernels/cpu/threads.h"

#include "kernels/cpu/machine.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* About 50 us of pause instructions: longer than the single-threaded gaps inside a step, far
 * shorter than a pause of the user's. */
enum { SPINS = 2000 };

struct worker {
    struct team *team;
    int index;
    pthread_t thread;
};

/* Each on a cache line of its own: they are written by different threads at the same time. */
struct team {
    _Alignas(64) atomic_int n_arrived;
    _Alignas(64) atomic_uint phase;
    atomic_int n_asleep;
    _Alignas(64) atomic_size_t n_taken;
    _Alignas(64) atomic_int n_threads; /* team_free() may lower it */
    int spins;                         /* 0 where threads outnumber processors */
    bool is_closing;
    void (*fn)(void *arg, int index);
    void *arg;
    int n_workers; /* started */
    struct worker *workers;
    struct own_count *own_counts; /* one for each thread */
};

/* What was taken of the items meant for a thread: the phase it was in, and in the lower half how
 * many. Of an earlier phase it counts as 0, so nobody has to clear it. */
struct own_count {
    _Alignas(64) atomic_uint_least64_t taken;
};

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

static void futex(atomic_uint *at, int operation, unsigned value) {
    syscall(SYS_futex, at, operation, value, NULL, NULL, 0);
}

int team_size(const struct team *team) {
    return atomic_load_explicit(&team->n_threads, memory_order_relaxed);
}

void team_barrier(struct team *team) {
    unsigned phase = atomic_load(&team->phase);
    if (atomic_fetch_add(&team->n_arrived, 1) + 1 == team_size(team)) {
        atomic_store(&team->n_arrived, 0);
        atomic_store(&team->n_taken, 0);
        atomic_store(&team->phase, phase + 1);
        if (atomic_load(&team->n_asleep) > 0) futex(&team->phase, FUTEX_WAKE_PRIVATE, INT_MAX);
        return;
    }
    for (int i = 0; i < team->spins; i++) {
        if (atomic_load_explicit(&team->phase, memory_order_acquire) != phase) return;
        pause_briefly();
    }
    atomic_fetch_add(&team->n_asleep, 1);
    while (atomic_load(&team->phase) == phase) futex(&team->phase, FUTEX_WAIT_PRIVATE, phase);
    atomic_fetch_sub(&team->n_asleep, 1);
}

size_t team_take(struct team *team, size_t n) {
    return atomic_fetch_add_explicit(&team->n_taken, n, memory_order_relaxed);
}

size_t team_take_of(struct team *team, int whose) {
    atomic_uint_least64_t *taken = &team->own_counts[whose].taken;
    uint64_t phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    uint64_t seen = atomic_load_explicit(taken, memory_order_relaxed), next;
    do next = seen >> 32 == phase ? seen + 1 : (phase << 32) + 1;
    while (!atomic_compare_exchange_weak_explicit(taken, &seen, next, memory_order_relaxed,
                                                  memory_order_relaxed));
    return (uint32_t)next - 1;
}

static void *worker_main(void *arg) {
    struct worker *worker = arg;
    struct team *team = worker->team;
    for (;;) {
        team_barrier(team);
        if (team->is_closing) return NULL;
        team->fn(team->arg, worker->index);
        team_barrier(team);
    }
}

void team_run(struct team *team, void (*fn)(void *arg, int index), void *arg) {
    team->fn = fn;
    team->arg = arg;
    team_barrier(team);
    fn(arg, 0);
    team_barrier(team);
}

/* Workers take no signals: those are for the threads that know the terminal. */
static bool start_workers(struct team *team) {
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS); /* a page of a mapped file may be gone: its handler must run */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_ok = true;
    for (int i = 0; is_ok && i < team_size(team) - 1; i++) {
        struct worker *worker = &team->workers[i];
        *worker = (struct worker){.team = team, .index = i + 1};
        is_ok = pthread_create(&worker->thread, NULL, worker_main, worker) == 0;
        if (is_ok) team->n_workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_ok;
}

static struct own_count *own_counts_new(size_t n) {
    struct own_count *counts = aligned_alloc(_Alignof(struct own_count), n * sizeof *counts);
    for (size_t i = 0; counts && i < n; i++) counts[i] = (struct own_count){0};
    return counts;
}

struct team *team_create(int n_threads) {
    struct team *team = aligned_alloc(_Alignof(struct team), sizeof *team);
    if (!team) return NULL;
    *team = (struct team){.n_threads = n_threads,
                          .spins = n_threads <= machine_processors() ? SPINS : 0};
    team->workers = calloc((size_t)n_threads, sizeof *team->workers);
    team->own_counts = own_counts_new((size_t)n_threads);
    if (!team->workers || !team->own_counts || !start_workers(team)) {
        team_free(team);
        return NULL;
    }
    return team;
}

void team_free(struct team *team) {
    if (!team) return;
    /* after a failed start fewer wait in the barrier than were asked for */
    team->is_closing = true;
    atomic_store(&team->n_threads, team->n_workers + 1);
    team_barrier(team);
    for (int i = 0; i < team->n_workers; i++) pthread_join(team->workers[i].thread, NULL);
    free(team->workers);
    free(team->own_counts);
    free(team);
}
