/*
 * How much slower this machine computes just now than one that the figures of the tests are meant
 * for (a core of a server of 2023): an old one, or one whose cores other programs share. At least
 * 1, so that a fast machine is held to the figures themselves. In processor time, the best of some
 * tries.
 */
#pragma once

#include <stdint.h>
#include <time.h>

static inline double thread_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline double machine_slowness(void) {
    enum { STEPS = 1000000, TRIES = 7 };
    static const double usual_seconds = 5e-3;
    static uint32_t table[4096]; /* as many branches and loads as a program that handles text */
    double best = 1e9;
    for (int try = 0; try < TRIES; try++) {
        double begin = thread_seconds();
        uint64_t x = 88172645463325252;
        for (int i = 0; i < STEPS; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            if (table[x % 4096] & 1)
                table[(x >> 12) % 4096] += (uint32_t)x;
            else
                table[(x >> 24) % 4096] ^= (uint32_t)(x >> 32);
        }
        double seconds = thread_seconds() - begin;
        if (seconds < best) best = seconds;
    }
    return best > usual_seconds ? best / usual_seconds : 1;
}
