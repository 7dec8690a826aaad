/*
 * attention for many rows on sm_90a: a tile of query rows of one head passes over the keys it sees,
 * 128 at a time, with both products on the tensor cores and the weights never in memory.
 *
 *   block   a warp that copies (TMA) and WARPGROUPS warpgroups that compute, 64 query rows each.
 * Blocks stay and take one item (a tile of rows of a head) after the other. keys    come in tiles
 * of 128, counted from key 0 of the sequence, into a ring of STAGES buffers. A tile is 8 blocks of
 * the paged cache, each one box of the copy engine. order   Q K' of a tile is issued before P V of
 * the tile before it, so that the softmax of one runs while the tensor cores do the other; and
 * warpgroups issue by turns, so that their softmaxes do not meet.
 *
 * A row's result depends on its own query and keys alone: tiles of keys begin at key 0 whatever the
 * row, keys it does not see weigh exactly 0, and nothing is split over keys.
 *
 * Sources: FlashAttention-3 (arXiv 2407.08608) for the order of the two products and the turns;
 * FlashAttention (arXiv 2205.14135) for the softmax in one pass.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/flash.h"
#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/tensor_map.cuh"
#include "kernels/cuda/wgmma.cuh"

#include <math_constants.h>
#include <type_traits>

enum {
    KEYS = 128,                /* of a tile */
    BLOCK_KEYS = 16,           /* of a block of the cache */
    ATOM = 64,                 /* values in the 128 bytes that the copy engine swizzles */
    WARPGROUP_ROWS = 64,       /* queries */
    ATOM_ROW = 128,            /* bytes */
    ATOM_BYTES = 8 * ATOM_ROW, /* 8 rows: what the swizzle repeats after */
    BOXES = KEYS / BLOCK_KEYS, /* a lane for each */
};

struct flash_args {
    void *y;
    int heads, kv_heads, max_blocks, n_rows, n_seqs, n_items;
    float scale; /* times log2(e): weights are powers of 2 */
    const int *positions, *slots, *starts, *block_table;
    int *next_item; /* 0 between launches; NULL: blocks take every gridDim-th item */
};

/* T: of keys, values and weights; A: of queries and results, which become T's where it is another
 */
template <typename T_, int HEAD_, int WARPGROUPS_, int STAGES_, typename A_ = T_>
struct flash_shape {
    typedef T_ T;
    typedef A_ A;
    enum {
        HEAD = HEAD_,
        ATOMS = HEAD / ATOM, /* side by side in a row */
        WARPGROUPS = WARPGROUPS_,
        STAGES = STAGES_,
        ROWS = WARPGROUPS * WARPGROUP_ROWS,
        THREADS = (WARPGROUPS + 1) * WARPGROUP,
        CONSUMER_WARPS = WARPGROUPS * WARPGROUP / WARP,
        /* of 65,536 on a multiprocessor */
        PRODUCER_REGISTERS = WARPGROUPS == 3 ? 32 : 40,
        CONSUMER_REGISTERS = WARPGROUPS == 3 ? 160 : 232,
        /* queries: [warpgroup][atom][64 rows], twice */
        Q_ATOM_BYTES = WARPGROUP_ROWS * ATOM_ROW,
        Q_BYTES = WARPGROUPS * ATOMS * Q_ATOM_BYTES,
        /* keys and values: [8 rows][atom], as the boxes bring them */
        GROUP_BYTES = ATOMS * ATOM_BYTES,
        BOX_BYTES = BLOCK_KEYS / 8 * GROUP_BYTES,
        TILE_BYTES = KEYS / 8 * GROUP_BYTES,
        SHARED_BYTES = 2 * Q_BYTES + 2 * STAGES * TILE_BYTES + 1024, /* to begin at a multiple */
    };
};

/* A tile of query rows of one head. n_rows 0: there are no more. n_tiles 0: rows of padding. */
struct flash_item {
    int first_row, n_rows, first_position, head, n_tiles;
};

template <int STAGES> struct flash_barriers {
    uint64_t q_full[2], q_empty[2];
    uint64_t k_full[STAGES], k_empty[STAGES], v_full[STAGES], v_empty[STAGES];
    struct flash_item items[4]; /* the last two, their results not yet written, and the next */
};

/* Where one is in a ring of buffers: the buffer, and the parity of the phase in which it fills. */
template <int STAGES> struct ring {
    int stage = 0;
    unsigned parity = 0;
    __device__ __forceinline__ void step(void) {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

/* ---- the warp that copies ---- */

/* Finds tile `tile` of the pass; all lanes. The rows behind the last sequence are padding too. */
static __device__ struct flash_item find_tile(const flash_args &a, int tile, int rows, int *seq) {
    const int lane = (int)threadIdx.x % WARP;
    for (int first = 0, before = 0; first <= a.n_seqs; first += WARP) {
        const int s = first + lane;
        const int begin = s <= a.n_seqs ? a.starts[s] : a.n_rows;
        const int end = s < a.n_seqs ? a.starts[s + 1] : a.n_rows;
        const int n = end > begin ? (end - begin + rows - 1) / rows : 0;
        int sum = n;
#pragma unroll
        for (int step = 1; step < WARP; step *= 2) {
            const int other = __shfl_up_sync(~0u, sum, step);
            if (lane >= step) sum += other;
        }
        const int from = before + sum - n;
        const unsigned found = __ballot_sync(~0u, from <= tile && tile < from + n);
        if (found) {
            const int at = __ffs((int)found) - 1;
            const int b = __shfl_sync(~0u, begin, at), e = __shfl_sync(~0u, end, at);
            const int last = __shfl_sync(~0u, from + n - 1, at);
            const int row = b + (last - tile) * rows; /* those with the most keys first */
            const int n_rows = min(rows, e - row);
            const bool is_padding = first + at == a.n_seqs || a.slots[row] < 0;
            const int position = is_padding ? 0 : a.positions[row];
            *seq = first + at;
            return {row, n_rows, position, 0,
                    is_padding ? 0 : (position + n_rows + KEYS - 1) / KEYS};
        }
        before += __shfl_sync(~0u, sum, WARP - 1);
    }
    return {0, 0, 0, 0, 0};
}

static __device__ __forceinline__ int take_item(const flash_args &a, int before) {
    if (!a.next_item) return before < 0 ? (int)blockIdx.x : before + (int)gridDim.x;
    int item = 0;
    if (threadIdx.x % WARP == 0) {
        item = atomicAdd(a.next_item, 1);
        if (item == a.n_items + (int)gridDim.x - 1) *a.next_item = 0; /* nobody comes after it */
    }
    return __shfl_sync(~0u, item, 0);
}

template <typename Shape>
static __device__ __forceinline__ void produce(const flash_args &a, const CUtensorMap &q_map,
                                               const CUtensorMap &k_map, const CUtensorMap &v_map,
                                               char *q, char *k, char *v,
                                               flash_barriers<Shape::STAGES> &barriers) {
    const int lane = (int)threadIdx.x % WARP;
    enum { SOME = 4 };
    const int box = lane % BOXES;
    ring<Shape::STAGES> k_ring, v_ring;
    unsigned count = 0; /* of items */

    /* `group`: where in the cache, in groups of 8 rows, lane i's box begins, for i < BOXES */
    const auto copy_tile = [&](char *ring_memory, const CUtensorMap &map, uint64_t *full,
                               uint64_t *empty, ring<Shape::STAGES> &at, int group, int what) {
        barrier_wait(&empty[at.stage], at.parity ^ 1, what);
        const bool copies = is_elected();
        char *to = ring_memory + at.stage * Shape::TILE_BYTES;
        if (copies) barrier_arrive_expecting(&full[at.stage], Shape::TILE_BYTES);
#pragma unroll
        for (int first = 0; first < BOXES; first += SOME) { /* few registers, few branches */
            int groups[SOME];
#pragma unroll
            for (int i = 0; i < SOME; i++) groups[i] = __shfl_sync(~0u, group, first + i);
            if (!copies) continue;
#pragma unroll
            for (int i = 0; i < SOME; i++)
                copy_box(to + (first + i) * Shape::BOX_BYTES, &map, 0, 0, 0, groups[i],
                         &full[at.stage]);
        }
        __syncwarp();
        at.step();
    };

    for (int number = take_item(a, -1);; number = take_item(a, number)) {
        struct flash_item item = {0, 0, 0, 0, 0};
        int seq = 0;
        if (number < a.n_items) {
            item = find_tile(a, number / a.heads, Shape::ROWS, &seq);
            if (item.n_rows == 0) continue;
            item.head = number % a.heads;
        }
        const unsigned buffer = count % 2;
        barrier_wait(&barriers.q_empty[buffer], (count / 2 & 1) ^ 1, 1);
        if (is_elected()) {
            barriers.items[count % 4] = item;
            if (item.n_tiles == 0) {
                barrier_arrive(&barriers.q_full[buffer]);
            } else {
                barrier_arrive_expecting(&barriers.q_full[buffer], Shape::Q_BYTES);
                for (int i = 0; i < Shape::WARPGROUPS * Shape::ATOMS; i++)
                    copy_box(q + buffer * Shape::Q_BYTES + i * Shape::Q_ATOM_BYTES, &q_map,
                             i % Shape::ATOMS * ATOM, item.head,
                             item.first_row + i / Shape::ATOMS * WARPGROUP_ROWS,
                             &barriers.q_full[buffer]);
            }
        }
        count++;
        if (item.n_rows == 0) return;
        if (item.n_tiles == 0) continue;

        const int *table = a.block_table + (size_t)seq * (size_t)a.max_blocks;
        const int n_blocks = (item.first_position + item.n_rows + BLOCK_KEYS - 1) / BLOCK_KEYS;
        const int kv_head = item.head / (a.heads / a.kv_heads);
        /* where this lane's box begins; before the cache there are zeros */
        const auto group_of = [&](int tile) {
            const int block = tile * BOXES + box;
            return (block < n_blocks ? table[block] * a.kv_heads + kv_head : -1) * (BLOCK_KEYS / 8);
        };
        int group = group_of(0), group_before = 0;
        for (int tile = 0; tile < item.n_tiles; tile++) {
            const int group_after = group_of(tile + 1);
            copy_tile(k, k_map, barriers.k_full, barriers.k_empty, k_ring, group, 2);
            if (tile > 0)
                copy_tile(v, v_map, barriers.v_full, barriers.v_empty, v_ring, group_before, 3);
            group_before = group;
            group = group_after;
        }
        copy_tile(v, v_map, barriers.v_full, barriers.v_empty, v_ring, group_before, 4);
    }
}

/* ---- the warpgroups that compute ---- */

/* The same in all lanes, as the compiler knows then: wgmma may be under way across a branch on it.
 */
static __device__ __forceinline__ int uniform(int x) {
    return __shfl_sync(~0u, x, 0);
}

/* 2^x for x <= 0 in the special unit. */
static __device__ __forceinline__ float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* Two rows of a thread: 8 lines apart. */
struct flash_softmax {
    float largest[2], sum[2]; /* the sum over this thread's columns only */
};

/*
 * Scores of a tile become weights relative to each row's largest so far; `factor` is what weights
 * of earlier tiles are to be multiplied with. A thread has for each 8 columns two adjacent ones of
 * two rows. `first_hidden`: the first key of the tile that row 0 of the thread does not see.
 */
template <bool MASKED>
static __device__ __forceinline__ void weigh(float (&s)[KEYS / 2], flash_softmax &state,
                                             float scale, int first_hidden, float (&factor)[2]) {
    if constexpr (MASKED) {
        const int column = (int)threadIdx.x % 4 * 2;
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            const int at = i / 4 * 8 + i % 2; /* + column */
            if (at + column >= first_hidden + (i & 2 ? 8 : 0)) s[i] = -CUDART_INF_F;
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float largest = fmaxf(s[2 * r], s[2 * r + 1]);
#pragma unroll
        for (int i = 4; i < KEYS / 2; i += 4)
            largest = fmaxf(largest, fmaxf(s[i + 2 * r], s[i + 2 * r + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
        /* rounded as written, so that all copies of this code come to the same bits, and the factor
         * is 1 where the largest stays */
        largest = fmaxf(state.largest[r], __fmul_rn(largest, scale));
        const float base = largest == -CUDART_INF_F ? 0 : largest;
        factor[r] = power_of_2(__fsub_rn(state.largest[r], base));
        state.largest[r] = largest;
        float sum = __fmul_rn(state.sum[r], factor[r]);
#pragma unroll
        for (int i = 0; i < KEYS / 2; i += 4) {
#pragma unroll
            for (int x = i + 2 * r; x < i + 2 * r + 2; x++) {
                s[x] = power_of_2(fmaf(s[x], scale, -base));
                sum += s[x];
            }
        }
        state.sum[r] = sum;
    }
}

template <typename T, int HEAD>
static __device__ __forceinline__ void write_rows(const flash_args &a, const flash_item &item,
                                                  int row_of_thread, float (&o)[HEAD / 2],
                                                  const flash_softmax &state) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float sum = state.sum[r];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        const float inverse = 1 / sum;
        const int row = row_of_thread + 8 * r;
        const bool is_there = row < item.n_rows;
        const size_t t = (size_t)item.first_row + (size_t)(is_there ? row : 0);
        const bool is_padding = a.slots[t] < 0;
        T *to = (T *)a.y + (t * (size_t)a.heads + (size_t)item.head) * HEAD;
#pragma unroll
        for (int i = 0; i < HEAD / 32; i++) { /* 32 columns: 8 in each of 4 lanes */
            unsigned w[4];
#pragma unroll
            for (int x = 0; x < 4; x++) {
                const float *two = o + 16 * i + 4 * x + 2 * r;
                w[x] = is_padding ? 0 : pack_two<T>(two[0] * inverse, two[1] * inverse);
            }
            transpose(w);
            if (is_there)
                *(uint4 *)(to + 32 * i + threadIdx.x % 4 * 8) = make_uint4(w[0], w[1], w[2], w[3]);
        }
    }
}

template <typename T, int HEAD>
static __device__ __forceinline__ void write_zeros(const flash_args &a, const flash_item &item,
                                                   int first, int n) {
    enum { CHUNKS = HEAD / 8 };
    for (int i = (int)threadIdx.x % WARPGROUP; i < n * CHUNKS; i += WARPGROUP) {
        const size_t t = (size_t)(item.first_row + first + i / CHUNKS);
        T *to = (T *)a.y + (t * (size_t)a.heads + (size_t)item.head) * HEAD + i % CHUNKS * 8;
        *(uint4 *)to = make_uint4(0, 0, 0, 0);
    }
}

/* A warpgroup's own queries, where they lie, in the format of the keys. */
template <typename T, typename A>
static __device__ __forceinline__ void convert_queries(char *q, int bytes) {
    for (int i = (int)threadIdx.x % WARPGROUP * 16; i < bytes; i += WARPGROUP * 16) {
        float values[8];
        unpack<A>(*(const uint4 *)(q + i), values);
        *(uint4 *)(q + i) =
            make_uint4(pack_two<T>(values[0], values[1]), pack_two<T>(values[2], values[3]),
                       pack_two<T>(values[4], values[5]), pack_two<T>(values[6], values[7]));
    }
}

/* Values behind the last key, in its block of the cache, are anything: 0 times them must be 0. */
template <typename Shape>
static __device__ __forceinline__ void clear_values(char *tile, int n_keys, int warpgroup) {
    enum { CHUNKS = Shape::HEAD / 8 };
    const int n = (BLOCK_KEYS - n_keys % BLOCK_KEYS) % BLOCK_KEYS;
    if (n == 0) return;
    for (int i = (int)threadIdx.x % WARPGROUP; i < n * CHUNKS; i += WARPGROUP) {
        const int row = n_keys % KEYS + i / CHUNKS, chunk = i % CHUNKS;
        *(uint4 *)(tile + row / 8 * Shape::GROUP_BYTES + chunk / 8 * ATOM_BYTES +
                   row % 8 * ATOM_ROW + chunk % 8 * 16) = make_uint4(0, 0, 0, 0);
    }
    stores_are_ready();
    named_wait(1 + Shape::WARPGROUPS + warpgroup, WARPGROUP);
}

/* s = q k' */
template <typename Shape>
static __device__ __forceinline__ void multiply_keys(float (&s)[KEYS / 2], uint64_t q, uint64_t k) {
#pragma unroll
    for (int i = 0; i < Shape::HEAD / 16; i++)
        wgmma_rows<typename Shape::T>(s, advance(q, i / 4 * Shape::Q_ATOM_BYTES + i % 4 * 32),
                                      advance(k, i / 4 * ATOM_BYTES + i % 4 * 32), i > 0);
    wgmma_commit();
}

/* o (+)= p v */
template <typename Shape>
static __device__ __forceinline__ void
multiply_values(float (&o)[Shape::HEAD / 2], const unsigned (&p)[KEYS / 4], uint64_t v, bool adds) {
#pragma unroll
    for (int i = 0; i < KEYS / 16; i++)
        wgmma_columns<typename Shape::T>(o, p + 4 * i, advance(v, i * 2 * Shape::GROUP_BYTES),
                                         adds || i > 0);
    wgmma_commit();
}

template <typename T>
static __device__ __forceinline__ void to_operand(unsigned (&p)[KEYS / 4],
                                                  const float (&s)[KEYS / 2]) {
#pragma unroll
    for (int i = 0; i < KEYS / 4; i++) p[i] = pack_two<T>(s[2 * i], s[2 * i + 1]);
}

/* A warpgroup, where it stands in the rings, and what it does with its 64 rows of an item. */
template <typename Shape> struct flash_consumer {
    typedef typename Shape::T T;
    typedef typename Shape::A A;
    enum { HEAD = Shape::HEAD, TURN = 1 /* the first of the barriers */ };
    const flash_args &a;
    flash_barriers<Shape::STAGES> &barriers;
    const int warpgroup, thread, row; /* `row`: of the item, the thread's first; and that + 8 */
    char *own_q, *v;
    uint64_t q_matrix, k_matrix, v_matrix;
    ring<Shape::STAGES> k_ring, v_ring; /* keys to come, and the values one tile behind them */

    __device__ __forceinline__ flash_consumer(const flash_args &args, char *q, char *k,
                                              char *values, flash_barriers<Shape::STAGES> &b)
        : a(args), barriers(b), warpgroup(uniform((int)threadIdx.x / WARPGROUP - 1)),
          thread((int)threadIdx.x % WARPGROUP),
          row(warpgroup * WARPGROUP_ROWS + thread / WARP * 16 + thread % WARP / 4),
          own_q(q + warpgroup * Shape::ATOMS * Shape::Q_ATOM_BYTES), v(values) {
        q_matrix = matrix_in_shared(own_q, ATOM_BYTES, 16);
        k_matrix = matrix_in_shared(k, Shape::GROUP_BYTES, 16);
        v_matrix = matrix_in_shared(v, Shape::GROUP_BYTES, ATOM_BYTES);
        if (warpgroup == Shape::WARPGROUPS - 1) pass_turn(); /* the first is the first */
    }

    /* The warp reads no more of what the barrier guards. */
    __device__ __forceinline__ void leave(uint64_t *barrier) {
        __syncwarp();
        if (thread % WARP == 0) barrier_arrive(barrier);
    }
    __device__ __forceinline__ void take_turn(void) {
        named_wait(TURN + warpgroup, 2 * WARPGROUP);
    }
    __device__ __forceinline__ void pass_turn(void) {
        named_arrive(TURN + (warpgroup + 1) % Shape::WARPGROUPS, 2 * WARPGROUP);
    }
    __device__ __forceinline__ void step(void) {
        v_ring = k_ring;
        k_ring.step();
    }

    /* s, p: weights of tile 0 */
    __device__ __forceinline__ void first_tile(uint64_t q, int position, float (&s)[KEYS / 2],
                                               unsigned (&p)[KEYS / 4], flash_softmax &state) {
        const int stage = uniform(k_ring.stage);
        float factor[2];
        barrier_wait(&barriers.k_full[stage], k_ring.parity, 4);
        take_turn();
        hold(s);
        wgmma_begin();
        multiply_keys<Shape>(s, q, advance(k_matrix, stage * Shape::TILE_BYTES));
        pass_turn();
        wgmma_wait<0>();
        hold(s);
        leave(&barriers.k_empty[stage]);
        weigh<true>(s, state, a.scale, position + 1, factor);
        to_operand<T>(p, s);
        step();
    }

    /* s, p: weights of this tile; o gets what those of the tile before come to */
    template <bool MASKED>
    __device__ __forceinline__ void next_tile(uint64_t q, int tile, int position,
                                              float (&s)[KEYS / 2], unsigned (&p)[KEYS / 4],
                                              float (&o)[HEAD / 2], flash_softmax &state) {
        const int k_stage = uniform(k_ring.stage), v_stage = uniform(v_ring.stage);
        float factor[2];
        barrier_wait(&barriers.k_full[k_stage], k_ring.parity, 5);
        take_turn();
        hold(s);
        hold(p);
        hold(o);
        wgmma_begin();
        multiply_keys<Shape>(s, q, advance(k_matrix, k_stage * Shape::TILE_BYTES));
        barrier_wait(&barriers.v_full[v_stage], v_ring.parity, 6);
        wgmma_begin(); /* the compiler would do so behind the branches of the wait */
        multiply_values<Shape>(o, p, advance(v_matrix, v_stage * Shape::TILE_BYTES), tile > 1);
        pass_turn();
        wgmma_wait<1>();
        hold(s);
        leave(&barriers.k_empty[k_stage]);
        weigh<MASKED>(s, state, a.scale, position + 1 - tile * KEYS, factor);
        wgmma_wait<0>();
        hold(o);
        hold(p);
        leave(&barriers.v_empty[v_stage]);
        step();
        if (__any_sync(~0u, factor[0] != 1 || factor[1] != 1)) {
#pragma unroll
            for (int i = 0; i < HEAD / 2; i++) o[i] *= factor[i / 2 % 2];
        }
        to_operand<T>(p, s);
    }

    /* `n_keys`: where keys end in this tile, counted from key 0; 0: they do not */
    __device__ __forceinline__ void last_values(int n_tiles, int n_keys, unsigned (&p)[KEYS / 4],
                                                float (&o)[HEAD / 2]) {
        const int stage = uniform(v_ring.stage);
        barrier_wait(&barriers.v_full[stage], v_ring.parity, 7);
        clear_values<Shape>(v + stage * Shape::TILE_BYTES, n_keys, warpgroup);
        hold(p);
        hold(o);
        wgmma_begin();
        multiply_values<Shape>(o, p, advance(v_matrix, stage * Shape::TILE_BYTES), n_tiles > 1);
        wgmma_wait<0>();
        hold(o);
        leave(&barriers.v_empty[stage]);
    }

    /* A tile that only other warpgroups need. */
    __device__ __forceinline__ void skip_tile(void) {
        barrier_wait(&barriers.k_full[k_ring.stage], k_ring.parity, 8);
        leave(&barriers.k_empty[k_ring.stage]);
        take_turn();
        pass_turn();
        barrier_wait(&barriers.v_full[k_ring.stage], k_ring.parity, 9);
        leave(&barriers.v_empty[k_ring.stage]);
        step();
    }

    /* False: there are no more. */
    __device__ __forceinline__ bool do_item(unsigned count) {
        const unsigned buffer = count % 2;
        barrier_wait(&barriers.q_full[buffer], count / 2 & 1, 10);
        const struct flash_item &item = barriers.items[count % 4];
        const int first = warpgroup * WARPGROUP_ROWS; /* of the item's rows */
        const int n_rows = min(uniform(item.n_rows) - first, (int)WARPGROUP_ROWS);
        const int all_tiles = uniform(item.n_tiles);
        const int position = uniform(item.first_position) + first; /* of row 0 of the warpgroup */
        const int n_tiles = n_rows > 0 && all_tiles > 0 ? (position + n_rows - 1) / KEYS + 1 : 0;
        const int n_plain = min(n_tiles, (position + 1) / KEYS); /* all rows see all keys */
        const int own_position = position + row - first;

        if (n_tiles > 0) {
            const uint64_t q = advance(q_matrix, uniform((int)buffer) * Shape::Q_BYTES);
            if constexpr (!std::is_same<T, A>::value) {
                convert_queries<T, A>(own_q + buffer * Shape::Q_BYTES,
                                      Shape::ATOMS * Shape::Q_ATOM_BYTES);
                stores_are_ready();
                named_wait(1 + Shape::WARPGROUPS + warpgroup, WARPGROUP);
            }
            float s[KEYS / 2], o[HEAD / 2];
            unsigned p[KEYS / 4];
            flash_softmax state = {{-CUDART_INF_F, -CUDART_INF_F}, {0, 0}};
            first_tile(q, own_position, s, p, state);
            int tile = 1;
            for (; tile < n_plain; tile++) next_tile<false>(q, tile, own_position, s, p, o, state);
            for (; tile < n_tiles; tile++) next_tile<true>(q, tile, own_position, s, p, o, state);
            leave(&barriers.q_empty[buffer]);
            const int n_keys = item.first_position + item.n_rows;
            last_values(n_tiles, n_tiles == all_tiles ? uniform(n_keys) : 0, p, o);
            write_rows<A, HEAD>(a, item, row, o, state);
        } else {
            if (uniform(item.n_rows) == 0) return false;
            if (all_tiles == 0) write_zeros<A, HEAD>(a, item, first, n_rows);
            leave(&barriers.q_empty[buffer]);
        }
        for (int tile = n_tiles; tile < all_tiles; tile++) skip_tile();
        return true;
    }
};

template <typename Shape>
static __global__ void __launch_bounds__(Shape::THREADS, 1)
    flash_kernel(const flash_args a, const __grid_constant__ CUtensorMap q_map,
                 const __grid_constant__ CUtensorMap k_map,
                 const __grid_constant__ CUtensorMap v_map) {
    extern __shared__ char memory[];
    __shared__ flash_barriers<Shape::STAGES> barriers;
    char *q = memory + (1024 - shared_address(memory) % 1024) % 1024;
    char *k = q + 2 * Shape::Q_BYTES, *v = k + Shape::STAGES * Shape::TILE_BYTES;
    if (threadIdx.x == 0) {
        prefetch_map(&q_map);
        prefetch_map(&k_map);
        prefetch_map(&v_map);
        for (int i = 0; i < 2; i++) {
            barrier_init(&barriers.q_full[i], 1);
            barrier_init(&barriers.q_empty[i], Shape::CONSUMER_WARPS);
        }
        for (int i = 0; i < Shape::STAGES; i++) {
            barrier_init(&barriers.k_full[i], 1);
            barrier_init(&barriers.v_full[i], 1);
            barrier_init(&barriers.k_empty[i], Shape::CONSUMER_WARPS);
            barrier_init(&barriers.v_empty[i], Shape::CONSUMER_WARPS);
        }
        barriers_are_ready();
    }
    let_next_begin();
    wait_for_previous();
    __syncthreads();
    if (threadIdx.x < WARPGROUP) {
        give_registers<Shape::PRODUCER_REGISTERS>();
        if (threadIdx.x < WARP) produce<Shape>(a, q_map, k_map, v_map, q, k, v, barriers);
    } else {
        take_registers<Shape::CONSUMER_REGISTERS>();
        flash_consumer<Shape> consumer(a, q, k, v, barriers);
        for (unsigned count = 0; consumer.do_item(count);) count++;
    }
}

/* ---- the host's side ---- */

template <typename Shape>
static enum op_status flash_launch(struct cuda_device *cuda, const struct op_attention *op,
                                   int *next_item) {
    const struct op_batch *b = op->batch;
    const cuuint64_t head = (cuuint64_t)op->kv.head_size;
    const cuuint64_t row = 2 * head, q_row = row * (cuuint64_t)op->heads;
    const cuuint64_t q_sizes[3] = {head, (cuuint64_t)op->heads, (cuuint64_t)b->n_rows};
    const cuuint64_t q_strides[2] = {row, q_row};
    const cuuint32_t q_box[3] = {ATOM, 1, WARPGROUP_ROWS};
    /* groups of 8 rows, 64 columns at a time; who wrote block_table knows how many there are */
    const cuuint64_t kv_sizes[4] = {ATOM, 8, Shape::ATOMS, 0x0fffffff};
    const cuuint64_t kv_strides[3] = {row, ATOM_ROW, 8 * row};
    const cuuint32_t kv_box[4] = {ATOM, 8, Shape::ATOMS, BLOCK_KEYS / 8};
    CUtensorMap q_map, k_map, v_map;
    if (!tensor_map(&q_map, cuda->base.activation, op->q, 3, q_sizes, q_strides, q_box) ||
        !tensor_map(&k_map, op->kv.format, op->kv.k, 4, kv_sizes, kv_strides, kv_box) ||
        !tensor_map(&v_map, op->kv.format, op->kv.v, 4, kv_sizes, kv_strides, kv_box))
        return OP_NOT_SUPPORTED;
    /* each sequence, and the rows behind the last one, ends in a tile that may not be full */
    const int n_tiles = (b->n_rows + Shape::ROWS - 1) / Shape::ROWS + b->n_seqs;
    const struct flash_args a = {
        op->y,        op->heads, op->kv.n_kv_heads,   b->max_blocks,
        b->n_rows,    b->n_seqs, n_tiles * op->heads, op->scale * 1.44269504f,
        b->positions, b->slots,  b->starts,           b->block_table,
        next_item};
    const enum op_status status =
        cuda_status(cuda, cudaFuncSetAttribute((const void *)flash_kernel<Shape>,
                                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               Shape::SHARED_BYTES));
    if (status != OP_OK) return status;
    const int blocks = next_item && a.n_items > cuda->n_sms ? cuda->n_sms : a.n_items;
    return launch(cuda, flash_kernel<Shape>, dim3((unsigned)blocks), Shape::THREADS,
                  Shape::SHARED_BYTES, a, q_map, k_map, v_map);
}

bool flash_can(const struct cuda_device *cuda, const struct op_attention *op) {
    const struct kv_view *kv = &op->kv;
    const uintptr_t all = (uintptr_t)op->y | (uintptr_t)op->q | (uintptr_t)kv->k | (uintptr_t)kv->v;
    return cuda->capability == 90 && (kv->head_size == 64 || kv->head_size == 128) &&
           kv->block_tokens == BLOCK_KEYS && op->window == 0 && op->scale > 0 && all % 16 == 0 &&
           cuda->base.activation != FORMAT_F32 &&
           (kv->format == cuda->base.activation || kv->format == FORMAT_F16);
}

/* Of heads of 64, a block takes 192 rows; or 128, where few blocks would have much to do. */
template <typename T, typename A>
static enum op_status flash_heads(struct cuda_device *cuda, const struct op_attention *op,
                                  int *next_item) {
    if (op->kv.head_size == 128)
        return flash_launch<flash_shape<T, 128, 2, 2, A>>(cuda, op, next_item);
    const long n_items = (long)((op->batch->n_rows + 191) / 192) * op->heads;
    if (2 * n_items < 5l * cuda->n_sms)
        return flash_launch<flash_shape<T, 64, 2, 4, A>>(cuda, op, next_item);
    return flash_launch<flash_shape<T, 64, 3, 4, A>>(cuda, op, next_item);
}

enum op_status flash_attention(struct cuda_device *cuda, const struct op_attention *op,
                               int *next_item) {
    if (op->kv.format == FORMAT_BF16) return flash_heads<bf16, bf16>(cuda, op, next_item);
    if (cuda->base.activation == FORMAT_F16) return flash_heads<f16, f16>(cuda, op, next_item);
    return flash_heads<f16, bf16>(cuda, op, next_item);
}
