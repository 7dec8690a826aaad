/*
 * Products with some rows of x (here: columns; 8 to 64), on Hopper's tensor cores: as in gemv.cuh
 * each weight is read once, so what counts is that the memory never waits; but here x is as large
 * as the weights of a block, and comes along with them.
 *
 * y^T = W x^T: a *tile* is 64 or 128 rows of the matrix and all columns, summed over *chunks* of 64
 * values. One thread asks the copy engine for chunks of W and x, STAGES ahead, into a ring in
 * shared memory; a warpgroup multiplies them from there (wgmma). Weights do not depend on the
 * kernel before this one: the ring is filled with them before it has ended.
 *
 * All chunks of all tiles, in that order, are cut into equal runs, one for each multiprocessor
 * (stream-K, arXiv 2301.03598). So a tile may be shared: its sums are finished by the block that
 * has its last chunk, to which the others leave theirs in memory. A block begins with its last tile
 * and ends with its first: what it has to leave it leaves first, and who finishes a tile waits only
 * for blocks of lower number.
 *
 * Sums: in float, the chunks of a run in order (from tile to tile it begins elsewhere, so that not
 * all blocks want the same piece of x at once); to the last run's those of the others in order. All
 * of it is fixed by the shape and the number of multiprocessors alone.
 */
#pragma once

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/wgmma.cuh"

enum {
    SKINNY_CHUNK = 64, /* values: 128 bytes, a row of the swizzle */
    SKINNY_ROW_BYTES = 2 * SKINNY_CHUNK,
    SKINNY_M = 64, /* rows of a product */
    SKINNY_MAX_PARTS = 3,
    SKINNY_RING_BYTES = 96 << 10, /* two blocks have room on a multiprocessor */
    SKINNY_MOST_COLS = 64,
    SKINNY_MOST_PARTIAL_BYTES = 128 * SKINNY_MOST_COLS * 4,
    SKINNY_CONSUMERS = 1, /* a named barrier */
};

/* TILE_ROWS: 64, or 128 that are finished one half after the other. */
template <typename Type, int COLUMNS, int TILE_ROWS, int RING_BYTES> struct skinny_shape {
    typedef Type T;
    enum {
        COLS = COLUMNS,
        ROWS = TILE_ROWS,
        HALVES = ROWS / SKINNY_M,
        THREADS = WARPGROUP + WARP,
        W_BYTES = ROWS * SKINNY_ROW_BYTES,
        X_BYTES = COLS * SKINNY_ROW_BYTES,
        STAGE_BYTES = W_BYTES + X_BYTES,
        STAGES = RING_BYTES / STAGE_BYTES,
        VALUES = COLS / 2, /* sums of a thread in a half */
        /* sums change hands through shared memory, some columns at a time, which are PITCH floats
         * apart so that no two of a warp's lanes meet in a bank */
        TURN = COLS < 16 ? COLS : 16,
        PITCH = SKINNY_M + 4,
        TURN_BYTES = TURN * PITCH * 4,
        RING = STAGES * STAGE_BYTES,
        SCALES = STAGES * SKINNY_CHUNK * 4, /* the norm's weights of the ring's chunks */
        /* the ring is at a multiple of 1024; sums of squares are last */
        SHARED_BYTES = 1024 + RING + TURN_BYTES + SCALES + COLS * 4,
        PARTIAL_BYTES = ROWS * COLS * 4,
        /* have the threads registers for what is added to the sums, beside the sums? */
        LOOKS_EARLY = COLS <= 32 && HALVES == 1,
    };
};

/*
 * A part of the matrix, as the copy engine sees it: [heads, groups, pair, rows, k]. A tile of
 * single rows is a box of them. With atoms of two rows that one thread finishes together (gate and
 * up, the halves of a rotation) a box alternates between eight first rows and their eight second
 * ones: the thread that has the sums of row r of each 16 has those of r + 8 too.
 */
struct skinny_part {
    int first_tile, first_row, end_row;        /* in atoms */
    int row_step;                              /* from one tile to the next, or 0 */
    int tiles_per_head, group_step, head_step; /* the same for groups, then heads */
};
struct skinny_plan {
    struct skinny_part part[SKINNY_MAX_PARTS];
    int n_parts, n_tiles, n_chunks, n_cols;
    float2 *partial;   /* [blocks, COLS, ROWS / 2]: PARTIAL_BYTES */
    float *squares;    /* [blocks, SKINNY_MOST_COLS], where x is normalised */
    int *flags;        /* [blocks]: is there a partial result? 0 between launches */
    const float *norm; /* [k]: the norm's weights, or NULL */
    float norm_eps;
};
struct skinny_maps {
    CUtensorMap x;
    CUtensorMap part[SKINNY_MAX_PARTS];
};

/* ---- who does what ---- */

/* The first chunk, of all, that a block has. */
static __device__ __forceinline__ int skinny_begin(const struct skinny_plan &p, int block) {
    return (int)((long long)p.n_tiles * p.n_chunks * block / (int)gridDim.x);
}
/* Which block has a chunk. */
static __device__ __forceinline__ int skinny_block_of(const struct skinny_plan &p, int chunk) {
    return (int)((((long long)chunk + 1) * (int)gridDim.x - 1) /
                 ((long long)p.n_tiles * p.n_chunks));
}

/* A run of chunks of one tile. */
struct skinny_segment {
    int tile, begin, end;
};

/* A block's segments, the last one first. */
struct skinny_walk {
    int begin, end;

    __device__ skinny_walk(const struct skinny_plan &p)
        : begin(skinny_begin(p, (int)blockIdx.x)), end(skinny_begin(p, (int)blockIdx.x + 1)) {}
    __device__ bool next(const struct skinny_plan &p, struct skinny_segment *s) {
        if (end <= begin) return false;
        const int tile = (end - 1) / p.n_chunks, first = tile * p.n_chunks;
        *s = {tile, max(begin - first, 0), end - first};
        end = first + s->begin;
        return true;
    }
};

static __device__ __forceinline__ int skinny_part_of(const struct skinny_plan &p, int tile) {
    int part = 0;
#pragma unroll
    for (int i = 1; i < SKINNY_MAX_PARTS; i++)
        if (i < p.n_parts && tile >= p.part[i].first_tile) part = i;
    return part;
}

/* ---- copies ---- */

/* Weights are not worth a place in L2. */
static __device__ __forceinline__ uint64_t skinny_read_once(void) {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0;" : "=l"(policy));
    return policy;
}
static __device__ __forceinline__ void skinny_copy_w(void *to, const CUtensorMap *map, int k,
                                                     int row, int group, int head,
                                                     uint64_t *barrier, uint64_t policy) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%2, %3, %4, %5, %6}], [%7], %8;" ::"r"(shared_address(to)),
        "l"(map), "r"(k), "r"(row), "r"(0), "r"(group), "r"(head), "r"(shared_address(barrier)),
        "l"(policy)
        : "memory");
}
static __device__ __forceinline__ void skinny_copy_x(void *to, const CUtensorMap *map, int k,
                                                     uint64_t *barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
                 "l"(map), "r"(k), "r"(0), "r"(shared_address(barrier))
                 : "memory");
}

static __device__ __forceinline__ void skinny_copy_scales(void *to, const float *from,
                                                          uint64_t *barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "n"(SKINNY_CHUNK * 4), "r"(shared_address(barrier))
                 : "memory");
}

template <int STAGES> struct skinny_barriers { uint64_t full[STAGES], empty[STAGES]; };

/* One thread brings it all. */
template <class Shape, bool NORMS>
static __device__ __forceinline__ void
skinny_produce(const struct skinny_plan &p, const struct skinny_maps &maps, char *ring,
               float *scales, struct skinny_barriers<Shape::STAGES> &b) {
    enum { STAGES = Shape::STAGES, BYTES = Shape::STAGE_BYTES + (NORMS ? SKINNY_CHUNK * 4 : 0) };
    const uint64_t policy = skinny_read_once();
    struct skinny_segment s;
    /* the ring's first round: weights before the wait, x behind it */
    for (int round = 0, is_first = 1; round < 2; round++, is_first = 0) {
        struct skinny_walk walk(p);
        int count = 0, stage = 0;
        unsigned parity = 1;
        while (walk.next(p, &s) && !(is_first && count == STAGES)) {
            const int i = skinny_part_of(p, s.tile);
            const struct skinny_part &part = p.part[i];
            const int tile = s.tile - part.first_tile, head = tile / part.tiles_per_head;
            const int row = tile * part.row_step,
                      group = tile % part.tiles_per_head * part.group_step;
            const int shift = s.tile; /* blocks that run side by side want other pieces of x */
            for (int chunk = s.begin; chunk < s.end; chunk++, count++) {
                if (is_first && count == STAGES) break;
                char *w = ring + stage * Shape::STAGE_BYTES;
                const int k = (chunk + shift) % p.n_chunks * SKINNY_CHUNK;
                if (!is_first && count >= STAGES) barrier_wait(&b.empty[stage], parity, 1);
                if (is_first || count >= STAGES) {
                    barrier_arrive_expecting(&b.full[stage], BYTES);
                    if (NORMS)
                        skinny_copy_scales(scales + stage * SKINNY_CHUNK, p.norm + k,
                                           &b.full[stage]);
                    skinny_copy_w(w, &maps.part[i], k, row, group, head * part.head_step,
                                  &b.full[stage], policy);
                }
                if (!is_first) skinny_copy_x(w + Shape::W_BYTES, &maps.x, k, &b.full[stage]);
                if (++stage == STAGES) stage = 0, parity ^= 1;
            }
        }
        if (!is_first) break;
        let_next_begin(); /* with this ring filled: its copies come before the next kernel's */
        wait_for_previous();
    }
}

/* ---- the kernel ---- */

/*
 * x in shared memory becomes x times the norm's weights; the sums of its squares come along, and
 * scale the product's sums in the end: so nobody has to see all of a row first. (bfloat16 has the
 * range for it.) A thread has the same 16 bytes of every chunk, of some rows.
 */
template <class Shape> struct skinny_normer {
    enum { PIECES = (Shape::COLS + 15) / 16 };
    float squares[PIECES];

    __device__ void clear() {
#pragma unroll
        for (int i = 0; i < PIECES; i++) squares[i] = 0;
    }
    __device__ __forceinline__ void scale(char *x, const float *scales) {
        const int row = (int)threadIdx.x / 8, place = (int)threadIdx.x % 8;
        if (row >= Shape::COLS) return;
        const float4 *of = (const float4 *)(scales + (place ^ (row % 8)) * 8); /* the swizzle */
        const float4 low = of[0], high = of[1];
        const float weights[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            uint4 *at = (uint4 *)(x + (row + 16 * i) * SKINNY_ROW_BYTES + place * 16);
            float v[8];
            unpack<typename Shape::T>(*at, v);
#pragma unroll
            for (int k = 0; k < 8; k++) {
                squares[i] += v[k] * v[k];
                v[k] *= weights[k];
            }
            *at = make_uint4(
                pack_two<typename Shape::T>(v[0], v[1]), pack_two<typename Shape::T>(v[2], v[3]),
                pack_two<typename Shape::T>(v[4], v[5]), pack_two<typename Shape::T>(v[6], v[7]));
        }
        stores_are_ready();
    }
    /* To squares [COLS] of the block, which are to be seen after the next barrier. */
    __device__ void leave(float *of_block) {
        const int row = (int)threadIdx.x / 8;
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
#pragma unroll
            for (int step = 4; step > 0; step /= 2)
                squares[i] += __shfl_xor_sync(~0u, squares[i], step);
            if (threadIdx.x % 8 == 0 && row < Shape::COLS) of_block[row + 16 * i] = squares[i];
        }
    }
};

/* Multiplies a segment's chunks. */
template <class Shape, bool NORMS>
static __device__ __forceinline__ void
skinny_multiply(float (&sums)[Shape::HALVES][Shape::VALUES], int n_chunks, char *ring,
                const float *scales, float *squares, struct skinny_barriers<Shape::STAGES> &b,
                int &stage, unsigned &parity) {
    const bool arrives = threadIdx.x % WARP == 0;
    int previous = -1;
    struct skinny_normer<Shape> normer;
    normer.clear();
    for (int chunk = 0; chunk < n_chunks; chunk++) {
        char *w = ring + stage * Shape::STAGE_BYTES;
        const uint64_t x = matrix_in_shared(w + Shape::W_BYTES, 1024, 0);
        barrier_wait(&b.full[stage], parity, 2);
        if (NORMS) {
            normer.scale(w + Shape::W_BYTES, scales + stage * SKINNY_CHUNK);
            named_wait(SKINNY_CONSUMERS, WARPGROUP);
        }
#pragma unroll
        for (int h = 0; h < Shape::HALVES; h++) hold(sums[h]);
        wgmma_begin();
#pragma unroll
        for (int h = 0; h < Shape::HALVES; h++) {
            const uint64_t a = matrix_in_shared(w + h * (SKINNY_M * SKINNY_ROW_BYTES), 1024, 0);
#pragma unroll
            for (int i = 0; i < SKINNY_CHUNK / 16; i++)
                wgmma_rows<typename Shape::T>(sums[h], advance(a, 32 * i), advance(x, 32 * i),
                                              chunk > 0 || i > 0);
        }
        wgmma_commit();
        wgmma_wait<1>(); /* the chunk before is done with */
        if (previous >= 0 && arrives) barrier_arrive(&b.empty[previous]);
        previous = stage;
        if (++stage == Shape::STAGES) stage = 0, parity ^= 1;
    }
    wgmma_wait<0>();
#pragma unroll
    for (int h = 0; h < Shape::HALVES; h++) hold(sums[h]);
    if (arrives) barrier_arrive(&b.empty[previous]);
    if (NORMS) normer.leave(squares);
}

/*
 * Job: what becomes of the sums, which come in pairs of rows: of two neighbours, or those of an
 * atom of two rows. `row`: the number of the first one, or of the atom.
 *
 *   enum { ATOM, NORMS };            rows of an atom, 1 or 2; is x normalised on the way in?
 *   struct row_facts, facts          what finish() needs beside the sums: of a pair, and of each of
 *                                    its columns
 *   rows_of(row)                     weights
 *   begin(facts &, row, col)         the batch's facts, before the wait
 *   look_up(facts &, row, col)       what earlier kernels wrote
 *   finish(row_facts, facts, row, col, sums)
 */
template <class Shape, class Job> struct skinny_finisher {
    enum { COLUMNS = Shape::COLS / 4 }; /* of a thread: every fourth */
    const Job &job;
    const struct skinny_plan &p;
    float *turn, *squares; /* shared memory: what changes hands; of x [COLS] */
    const int lane;
    int warp, tile, half, row;
    bool has_rows, has_looked;
    typename Job::row_facts row_facts;
    typename Job::facts facts[COLUMNS];
    float2 values[COLUMNS];

    __device__ skinny_finisher(const Job &j, const struct skinny_plan &plan, float *memory,
                               float *of_x)
        : job(j), p(plan), turn(memory), squares(of_x), lane((int)threadIdx.x % WARP),
          warp((int)threadIdx.x / WARP), tile(-1), half(-1) {}
    __device__ int col_of(int i) const {
        return i * 4 + warp;
    }
    /* Where this thread's column i of a block's partial results is. */
    __device__ float2 *partial(int block, int of_half, int i) const {
        return p.partial + (size_t)block * (Shape::PARTIAL_BYTES / 8) +
               col_of(i) * (Shape::ROWS / 2) + of_half * (SKINNY_M / 2) + lane;
    }
    /* What can be known of a half of a tile before its sums, unless it is known already. */
    __device__ __forceinline__ void begin(int of, int of_half) {
        if (tile == of && half == of_half) return;
        const struct skinny_part &part = p.part[skinny_part_of(p, of)];
        const int pair = of_half * (SKINNY_M / 2) + lane, first = of - part.first_tile;
        tile = of, half = of_half;
        row = part.first_row + first * (Shape::ROWS / Job::ATOM) + pair * (2 / Job::ATOM);
        has_rows = row < part.end_row;
        has_looked = false;
        row_facts = job.rows_of(has_rows ? row : 0);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            if (has_rows && col_of(i) < p.n_cols) job.begin(facts[i], row, col_of(i));
    }
    /* From the threads that multiplied, which have two columns of row r and of r + 8 of each 16. */
    __device__ __forceinline__ void take(const float (&sums)[Shape::VALUES]) {
        /* addresses are made when they are needed: the registers are the sums' until then */
        asm volatile("" : "+r"(row), "+r"(warp)::"memory");
        const int first = Job::ATOM == 1 ? 2 * lane : lane / 8 * 16 + lane % 8;
        const int second = first + (Job::ATOM == 1 ? 1 : 8);
#pragma unroll
        for (int from = 0; from < Shape::COLS; from += Shape::TURN) {
            named_wait(SKINNY_CONSUMERS, WARPGROUP);
#pragma unroll
            for (int i = from / 2; i < (from + Shape::TURN) / 2; i++) {
                const int col = i / 4 * 8 + lane % 4 * 2 + i % 2 - from;
                turn[col * Shape::PITCH + warp * 16 + lane / 4 + i / 2 % 2 * 8] = sums[i];
            }
            named_wait(SKINNY_CONSUMERS, WARPGROUP);
#pragma unroll
            for (int i = from / 4; i < (from + Shape::TURN) / 4; i++) {
                const float *column = turn + (col_of(i) - from) * Shape::PITCH;
                values[i] = make_float2(column[first], column[second]);
            }
        }
    }
    /* This block's sums, for the one that finishes the tile; leave() when all of them are there. */
    __device__ __forceinline__ void put_down(int of_half) {
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            if (col_of(i) < p.n_cols) __stcg(partial((int)blockIdx.x, of_half, i), values[i]);
        if (Job::NORMS && of_half == 0 && (int)threadIdx.x < Shape::COLS)
            __stcg(p.squares + (int)blockIdx.x * SKINNY_MOST_COLS + (int)threadIdx.x,
                   squares[threadIdx.x]);
    }
    __device__ __forceinline__ void leave() {
        named_wait(SKINNY_CONSUMERS, WARPGROUP);
        if (threadIdx.x == 0) {
            __threadfence();
            atomicExch(p.flags + blockIdx.x, 1);
        }
    }
    /* Until the blocks from `first` to the one before this have left their sums. */
    __device__ __forceinline__ void await(int first) {
        for (int block = first + (int)threadIdx.x; block < (int)blockIdx.x; block += WARPGROUP) {
            while (atomicAdd(p.flags + block, 0) == 0) {
            }
            p.flags[block] = 0;
            __threadfence();
        }
        named_wait(SKINNY_CONSUMERS, WARPGROUP);
    }
    __device__ __forceinline__ void pick_up(int first, int of_half) {
        if (Job::NORMS && of_half == 0 && (int)threadIdx.x < Shape::COLS)
            for (int block = first; block < (int)blockIdx.x; block++)
                squares[threadIdx.x] +=
                    __ldcg(p.squares + block * SKINNY_MOST_COLS + (int)threadIdx.x);
        for (int block = first; block < (int)blockIdx.x; block++) {
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) {
                if (col_of(i) >= p.n_cols) continue;
                const float2 other = __ldcg(partial(block, of_half, i));
                values[i].x += other.x, values[i].y += other.y;
            }
        }
        if (Job::NORMS && of_half == 0) named_wait(SKINNY_CONSUMERS, WARPGROUP);
    }
    /* The sums become those of rms_norm(x). */
    __device__ __forceinline__ void scale() {
        const float n = (float)(p.n_chunks * SKINNY_CHUNK);
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            const float by = 1 / sqrtf(squares[col_of(i)] / n + p.norm_eps);
            values[i].x *= by, values[i].y *= by;
        }
    }
    __device__ __forceinline__ void look_up() {
        if (has_looked) return;
        has_looked = true;
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            if (has_rows && col_of(i) < p.n_cols) job.look_up(facts[i], row, col_of(i));
    }
    __device__ __forceinline__ void finish() const {
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            if (has_rows && col_of(i) < p.n_cols)
                job.finish(row_facts, facts[i], row, col_of(i), values[i]);
    }
};

template <class Shape, class Job>
static __global__ void __launch_bounds__(Shape::THREADS, 2)
    skinny_kernel(const __grid_constant__ Job job, const __grid_constant__ struct skinny_plan p,
                  const __grid_constant__ struct skinny_maps maps) {
    extern __shared__ unsigned char shared[];
    __shared__ struct skinny_barriers<Shape::STAGES> barriers;
    char *ring = (char *)shared + (1024 - shared_address(shared) % 1024) % 1024;
    float *turn = (float *)(ring + Shape::RING), *scales = turn + Shape::TURN_BYTES / 4;
    float *squares = scales + Shape::SCALES / 4;
    if (threadIdx.x == 0) {
        for (int i = 0; i < Shape::STAGES; i++) {
            barrier_init(&barriers.full[i], 1);
            barrier_init(&barriers.empty[i], WARPGROUP / WARP);
        }
        barriers_are_ready();
    }
    __syncthreads();
    if (threadIdx.x >= WARPGROUP) {
        if (threadIdx.x == WARPGROUP)
            skinny_produce<Shape, Job::NORMS>(p, maps, ring, scales, barriers);
        return;
    }

    struct skinny_walk walk(p);
    struct skinny_segment s;
    float sums[Shape::HALVES][Shape::VALUES];
    int stage = 0;
    unsigned parity = 0;
    skinny_finisher<Shape, Job> finisher(job, p, turn, squares);
    /* the tile that this block finishes first, most often the only one */
    finisher.begin(max(walk.end / p.n_chunks - 1, 0), 0);
    wait_for_previous();
    if (Shape::LOOKS_EARLY) finisher.look_up();
    while (walk.next(p, &s)) {
        const bool is_owner = s.end == p.n_chunks, is_shared = is_owner && s.begin > 0;
        const int first = is_shared ? skinny_block_of(p, s.tile * p.n_chunks) : 0;
        skinny_multiply<Shape, Job::NORMS>(sums, s.end - s.begin, ring, scales, squares, barriers,
                                           stage, parity);
#pragma unroll
        for (int half = 0; half < Shape::HALVES; half++) {
            if (is_owner) finisher.begin(s.tile, half);
            finisher.take(sums[half]);
            if (!is_owner) {
                finisher.put_down(half);
                continue;
            }
            finisher.look_up();
            if (is_shared && half == 0) finisher.await(first);
            if (is_shared) finisher.pick_up(first, half);
            if (Job::NORMS) finisher.scale();
            finisher.finish();
        }
        if (!is_owner) finisher.leave();
    }
}
