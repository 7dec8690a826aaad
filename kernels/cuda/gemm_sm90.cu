/*
 * Products of many rows on sm_90a: y = x w', x [rows, k], w [n, k], sums in float.
 *
 *   tile     128 rows of x by 2 HALF rows of w (256, 224 or 192): two warpgroups compute 64 rows
 * each and keep the sums in registers; a warp asks the copy engine for 64 columns of both at a
 *            time, STAGES ahead, into a ring in shared memory.
 *   cluster  two blocks, one below the other, share a tile's rows of w: each copies one half of
 * them into both. So L2 is read 32 KB for each 128 x 256 x 64 products instead of 48. order blocks
 * stay; clusters take tiles by turns: 2,048 rows down, then the next columns, so that x stays in L2
 * and w is read once for every 2,048 rows.
 *
 * The halves of w may be of two matrices, gate and up: then a thread has both sums of a value and
 * writes silu(gate) * up. A row's result depends on its own values alone, in an order that is
 * always the same.
 */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/fragments.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/tensor_map.cuh"
#include "kernels/cuda/wgmma.cuh"

enum {
    CLUSTER = 2,     /* blocks */
    TILE_ROWS = 128, /* of x, in a block */
    PAIR_ROWS = CLUSTER * TILE_ROWS,
    STEP = 64,            /* columns at a time: 128 bytes, a row of the swizzle */
    ROW_BYTES = 2 * STEP, /* of a tile in shared memory */
    ATOM_BYTES = 1024,    /* 8 rows: what the swizzle repeats after */
    GROUP_PAIRS = 8,      /* pairs of tiles in 2,048 rows */
    WARPGROUPS = 2,       /* that compute */
    GEMM_THREADS = (WARPGROUPS + 1) * WARPGROUP,
    RING_BYTES = 192 << 10,
    MOST_STAGES = 8,
    LEAST_ROWS = 257, /* with fewer, products are bound by the weights' bytes */
};

enum epilogue { STORE, ADD, SILU };

template <typename T_, int HALF_, enum epilogue EPILOGUE_>
struct gemm_shape {
    typedef T_ T; static constexpr enum epilogue EPILOGUE = EPILOGUE_; enum {
        HALF = HALF_, N = 2 * HALF,        /* columns of sums */
        OUT = EPILOGUE == SILU ? HALF : N, /* of y */
        SUMS = N / 2,                      /* of a thread */
        X_BYTES = TILE_ROWS *ROW_BYTES, HALF_BYTES = HALF *ROW_BYTES,
        STAGE_BYTES = X_BYTES + 2 * HALF_BYTES, STAGES = 4,
        SHARED_BYTES = STAGES *STAGE_BYTES + 1024, /* to begin at a multiple */
    };
};

struct gemm_args {
    void *y;
    int rows, n, k;         /* n: columns of y */
    int n_pairs, n_columns; /* of tiles */
};

template <int STAGES> struct gemm_barriers { uint64_t full[STAGES], empty[STAGES]; };

/* ---- what clusters add to wgmma.cuh ---- */

static __device__ __forceinline__ unsigned cluster_rank(void) {
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
/* All blocks of the cluster have come here; barriers_are_ready() before it is seen behind it. */
static __device__ __forceinline__ void cluster_sync(void) {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::
                     : "memory");
}
/* At the barrier in the same place of block `rank` of the cluster. Nothing that this thread wrote
 * is handed over (`.release.cluster` would be a fence to L2, a microsecond each time). */
static __device__ __forceinline__ void barrier_arrive_at(uint64_t *barrier, unsigned rank) {
    asm volatile("{\n"
                 ".reg .b32 a;\n"
                 "mapa.shared::cluster.u32 a, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [a];\n"
                 "}" ::"r"(shared_address(barrier)),
                 "r"(rank)
                 : "memory");
}
static __device__ __forceinline__ void copy_plane(void *to, const CUtensorMap *map, int x, int y,
                                                  uint64_t *barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to)),
                 "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier))
                 : "memory");
}
/* To the same place of all blocks of the cluster, and their barriers. */
static __device__ __forceinline__ void copy_plane_to_all(void *to, const CUtensorMap *map, int x,
                                                         int y, uint64_t *barrier) {
    const uint16_t all = (1 << CLUSTER) - 1;
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
                 "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier)), "h"(all)
                 : "memory");
}

/* ---- one product of 64 rows, 16 columns at a time ---- */

#define D8(i)                                                                                      \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]),    \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#define D56 D8(0), D8(8), D8(16), D8(24), D8(32), D8(40), D8(48)
#define NAMES_56                                                                                   \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%"  \
    "25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%" \
    "48,%49,%50,%51,%52,%53,%54,%55"
#define D64      D56, D8(56)
#define NAMES_64 NAMES_56 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define D72      D64, D8(64)
#define NAMES_72 NAMES_64 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define D96      D72, D8(72), D8(80), D8(88)
#define NAMES_96                                                                                   \
    NAMES_72 ",%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%"  \
             "92,%93,%94,%95"
#define D112 D96, D8(96), D8(104)
#define NAMES_112                                                                                  \
    NAMES_96 ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define D128 D112, D8(112), D8(120)
#define NAMES_128                                                                                  \
    NAMES_112 ",%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define MULTIPLY(type, n, names, a_name, b_name, adds_name, ...)                                   \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " adds_name ", 0;\n"                            \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" names         \
                 "}, " a_name ", " b_name ", p, 1, 1, 0, 0;\n}"                                    \
                 : __VA_ARGS__                                                                     \
                 : "l"(a), "l"(b), "r"((int)adds))
/* d (+)= a b', a [64, 16] and b [2 sums, 16] in shared memory */
#define MULTIPLY_ROWS(sums, n, names, a_name, b_name, adds_name, ...)                              \
    template <typename T>                                                                          \
    static __device__ __forceinline__ void multiply_rows(float(&d)[sums], uint64_t a, uint64_t b,  \
                                                         bool adds) {                              \
        if constexpr (is_bf16<T>)                                                                  \
            MULTIPLY("bf16", n, names, a_name, b_name, adds_name, __VA_ARGS__);                    \
        else                                                                                       \
            MULTIPLY("f16", n, names, a_name, b_name, adds_name, __VA_ARGS__);                     \
    }
MULTIPLY_ROWS(56, "112", NAMES_56, "%56", "%57", "%58", D56)
MULTIPLY_ROWS(64, "128", NAMES_64, "%64", "%65", "%66", D64)
MULTIPLY_ROWS(72, "144", NAMES_72, "%72", "%73", "%74", D72)
MULTIPLY_ROWS(96, "192", NAMES_96, "%96", "%97", "%98", D96)
MULTIPLY_ROWS(112, "224", NAMES_112, "%112", "%113", "%114", D112)
MULTIPLY_ROWS(128, "256", NAMES_128, "%128", "%129", "%130", D128)

/* ---- tiles ---- */

struct gemm_tile {
    int pair, column;
};

static __device__ __forceinline__ struct gemm_tile tile_of(const gemm_args &a, int number) {
    const int group = number / (GROUP_PAIRS * a.n_columns), first = group * GROUP_PAIRS;
    const int n = min((int)GROUP_PAIRS, a.n_pairs - first);
    const int within = number - first * a.n_columns;
    return {first + within % n, within / n};
}

/* ---- the thread that copies ---- */

template <typename Shape>
static __device__ __forceinline__ void produce(const gemm_args &a, const CUtensorMap &x_map,
                                               const CUtensorMap &w_map, char *memory,
                                               gemm_barriers<Shape::STAGES> &barriers) {
    const int rank = (int)cluster_rank(), n_tiles = a.n_pairs * a.n_columns;
    const int n_steps = (a.k + STEP - 1) / STEP;
    int stage = 0;
    unsigned parity = 1;
    for (int t = (int)blockIdx.x / CLUSTER; t < n_tiles; t += (int)gridDim.x / CLUSTER) {
        const struct gemm_tile tile = tile_of(a, t);
        const int row = (tile.pair * CLUSTER + rank) * TILE_ROWS;
        const int w_row = Shape::EPILOGUE == SILU ? tile.column * Shape::HALF
                                                  : tile.column * Shape::N + rank * Shape::HALF;
        for (int step = 0; step < n_steps; step++) {
            char *to = memory + stage * Shape::STAGE_BYTES;
            barrier_wait(&barriers.empty[stage], parity, 1);
            barrier_arrive_expecting(&barriers.full[stage], Shape::STAGE_BYTES);
            copy_plane(to, &x_map, step * STEP, row, &barriers.full[stage]);
            copy_plane_to_all(to + Shape::X_BYTES + rank * Shape::HALF_BYTES, &w_map, step * STEP,
                              w_row, &barriers.full[stage]);
            if (++stage == Shape::STAGES) stage = 0, parity ^= 1;
        }
    }
    /* the other block arrives here no more: this one may go */
    for (int i = 0; i < Shape::STAGES; i++) {
        barrier_wait(&barriers.empty[stage], parity, 3);
        if (++stage == Shape::STAGES) stage = 0, parity ^= 1;
    }
}

/* ---- the warpgroups that compute ---- */

static __device__ __forceinline__ float silu_times(float gate, float up) {
    float e, inverse;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(gate * -1.44269504f));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1 + e));
    return gate * inverse * up;
}

/*
 * A thread has of each 8 columns two adjacent ones, of row `row` and of the one 8 below: 32 columns
 * of a row become 16 bytes in each of four lanes.
 */
template <typename Shape>
static __device__ __forceinline__ void write_sums(const gemm_args &a, int row, int column,
                                                  const float (&d)[Shape::SUMS]) {
    typedef typename Shape::T T;
    const int lane = (int)threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        const int at_row = row + 8 * r;
        const bool is_row = at_row < a.rows;
        T *to = (T *)a.y + (size_t)(is_row ? at_row : 0) * (size_t)a.n;
#pragma unroll
        for (int i = 0; i < (Shape::OUT + 31) / 32; i++) {
            const int at = column + 32 * i + lane * 8;
            const bool is_own = Shape::OUT % 32 == 0 || 32 * i + lane * 8 < Shape::OUT;
            const bool is_there = is_row && is_own && at < a.n; /* n is a multiple of 8 */
            unsigned w[4] = {0, 0, 0, 0};
            if constexpr (Shape::EPILOGUE == ADD) {
                uint4 before = make_uint4(0, 0, 0, 0);
                if (is_there) before = *(const uint4 *)(to + at);
                w[0] = before.x, w[1] = before.y, w[2] = before.z, w[3] = before.w;
                transpose(w);
            }
#pragma unroll
            for (int x = 0; x < 4; x++) {
                const int own = 16 * i + 4 * x + 2 * r;
                if (32 * i + 8 * x >= Shape::OUT) break;
                float2 y = make_float2(d[own], d[own + 1]);
                if constexpr (Shape::EPILOGUE == SILU) {
                    y.x = silu_times(y.x, d[own + Shape::SUMS / 2]);
                    y.y = silu_times(y.y, d[own + 1 + Shape::SUMS / 2]);
                }
                if constexpr (Shape::EPILOGUE == ADD) {
                    const float2 before = unpack_two<T>(w[x]);
                    y.x += before.x, y.y += before.y;
                }
                w[x] = pack_two<T>(y.x, y.y);
            }
            transpose(w);
            if (is_there) *(uint4 *)(to + at) = make_uint4(w[0], w[1], w[2], w[3]);
        }
    }
}

template <typename Shape>
static __device__ __forceinline__ void compute(const gemm_args &a, char *memory,
                                               gemm_barriers<Shape::STAGES> &barriers) {
    const int rank = (int)cluster_rank(), n_tiles = a.n_pairs * a.n_columns;
    const int n_steps = (a.k + STEP - 1) / STEP;
    const int warpgroup = __shfl_sync(~0u, (int)threadIdx.x / WARPGROUP - 1, 0);
    const int lane = (int)threadIdx.x % WARP, thread = (int)threadIdx.x % WARPGROUP;
    const uint64_t x_matrix = matrix_in_shared(memory + warpgroup * 64 * ROW_BYTES, ATOM_BYTES, 16);
    const uint64_t w_matrix = matrix_in_shared(memory + Shape::X_BYTES, ATOM_BYTES, 16);
    int stage = 0, last = 0;
    unsigned parity = 0;
    float d[Shape::SUMS];
    const auto leave = [&](int of) { /* one lane for each block of the cluster */
                                     __syncwarp();
                                     if (lane < CLUSTER)
                                         barrier_arrive_at(&barriers.empty[of], (unsigned)lane);
    };
    for (int t = (int)blockIdx.x / CLUSTER; t < n_tiles; t += (int)gridDim.x / CLUSTER) {
        const struct gemm_tile tile = tile_of(a, t);
        for (int step = 0; step < n_steps; step++) {
            const int offset = __shfl_sync(~0u, stage, 0) * Shape::STAGE_BYTES;
            barrier_wait(&barriers.full[stage], parity, 2);
            hold(d);
            wgmma_begin();
#pragma unroll
            for (int i = 0; i < STEP / 16; i++)
                multiply_rows<typename Shape::T>(d, advance(x_matrix, offset + i * 32),
                                                 advance(w_matrix, offset + i * 32),
                                                 step > 0 || i > 0);
            wgmma_commit();
            if (step > 0) {
                wgmma_wait<1>();
                leave(last);
            }
            last = stage;
            if (++stage == Shape::STAGES) stage = 0, parity ^= 1;
        }
        wgmma_wait<0>();
        hold(d);
        leave(last);
        write_sums<Shape>(a,
                          (tile.pair * CLUSTER + rank) * TILE_ROWS + warpgroup * 64 +
                              thread / WARP * 16 + lane / 4,
                          tile.column * Shape::OUT, d);
    }
}

template <typename Shape>
static __global__ void __launch_bounds__(GEMM_THREADS, 1)
    gemm_kernel(const gemm_args a, const __grid_constant__ CUtensorMap x_map,
                const __grid_constant__ CUtensorMap w_map,
                const __grid_constant__ CUtensorMap other_map) {
    extern __shared__ char raw[];
    __shared__ gemm_barriers<Shape::STAGES> barriers;
    char *memory = raw + (1024 - shared_address(raw) % 1024) % 1024;
    if (threadIdx.x == 0) {
        prefetch_map(&x_map);
        prefetch_map(&w_map);
        prefetch_map(&other_map);
        for (int i = 0; i < Shape::STAGES; i++) {
            barrier_init(&barriers.full[i], 1);
            barrier_init(&barriers.empty[i], CLUSTER * WARPGROUPS * WARPGROUP / WARP);
        }
        barriers_are_ready();
    }
    let_next_begin();
    cluster_sync();
    wait_for_previous();
    if (threadIdx.x < WARPGROUP) {
        give_registers<40>();
        /* the second block has the second half, of the other matrix if there is one */
        if (threadIdx.x == 0)
            produce<Shape>(a, x_map, cluster_rank() ? other_map : w_map, memory, barriers);
    } else {
        take_registers<232>();
        compute<Shape>(a, memory, barriers);
    }
}

/* ---- the host's side ---- */

static int n_pairs_of(int rows) {
    return (rows + PAIR_ROWS - 1) / PAIR_ROWS;
}

/* [rows, k] of 16 bits, `box` rows of STEP columns at a time */
static bool describe(CUtensorMap *map, enum format format, const void *data, int rows, int k,
                     int box) {
    const cuuint64_t sizes[2] = {(cuuint64_t)k, (cuuint64_t)rows}, strides[1] = {2 * sizes[0]};
    const cuuint32_t boxes[2] = {STEP, (cuuint32_t)box};
    return tensor_map(map, format, data, 2, sizes, strides, boxes);
}

/* w and other: the matrices of the halves, [n, k] each; the same where there is one */
template <typename Shape>
static enum op_status gemm_launch(struct cuda_device *cuda, void *y, const void *x, const void *w,
                                  const void *other, int rows, int n, int k) {
    const enum format format = cuda->base.activation;
    CUtensorMap x_map, w_map, other_map;
    if (!describe(&x_map, format, x, rows, k, TILE_ROWS) ||
        !describe(&w_map, format, w, n, k, Shape::HALF) ||
        !describe(&other_map, format, other, n, k, Shape::HALF))
        return OP_NOT_SUPPORTED;
    const gemm_args a = {y, rows, n, k, n_pairs_of(rows), (n + Shape::OUT - 1) / Shape::OUT};
    const enum op_status status =
        cuda_status(cuda, cudaFuncSetAttribute((const void *)gemm_kernel<Shape>,
                                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               Shape::SHARED_BYTES));
    if (status != OP_OK) return status;
    const int n_tiles = a.n_pairs * a.n_columns, n_clusters = cuda->n_sms / CLUSTER;
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = CLUSTER;
    attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(CLUSTER * (n_tiles < n_clusters ? n_tiles : n_clusters)));
    config.blockDim = dim3(GEMM_THREADS);
    config.dynamicSmemBytes = Shape::SHARED_BYTES;
    config.stream = cuda->stream;
    config.attrs = attributes;
    config.numAttrs = 2;
    return cuda_status(cuda,
                       cudaLaunchKernelEx(&config, gemm_kernel<Shape>, a, x_map, w_map, other_map));
}

bool gemm_can(const struct cuda_device *cuda, const void *x, const struct matrix *w, int rows) {
    const uintptr_t all = (uintptr_t)x | (uintptr_t)w->data;
    const bool is_full = 4 * rows >= 3 * n_pairs_of(rows) * PAIR_ROWS; /* else cuBLASLt is faster */
    return cuda->capability == 90 && rows >= LEAST_ROWS && is_full && all % 16 == 0 &&
           w->cols >= STEP && w->cols % 8 == 0 && w->rows % 8 == 0 &&
           w->format == cuda->base.activation && w->format != FORMAT_F32;
}

/* Time of all rounds of tiles, of `half` rows of w twice, in that unit: narrow tiles take more from
 * L2 for each product. */
static double time_of(const struct cuda_device *cuda, int rows, int n, int half, int out) {
    const int n_clusters = cuda->n_sms / CLUSTER;
    const int n_tiles = n_pairs_of(rows) * ((n + out - 1) / out);
    return (double)((n_tiles + n_clusters - 1) / n_clusters) * (half + 12);
}

typedef enum op_status launch_fn(struct cuda_device *, void *y, const void *x, const void *w,
                                 const void *other, int rows, int n, int k);
struct gemm_choice {
    int half;
    launch_fn *launch;
};

/* `choices` of tiles whose results are `twice` as wide as a half, or as wide. */
static enum op_status launch_best(struct cuda_device *cuda, const struct gemm_choice *choices,
                                  int n_choices, bool is_twice, void *y, const void *x,
                                  const void *w, const void *other, int rows, int n, int k) {
    const struct gemm_choice *best = choices;
    double least = 0;
    for (int i = 0; i < n_choices; i++) {
        const int half = choices[i].half;
        const double time = time_of(cuda, rows, n, half, is_twice ? 2 * half : half);
        if (i == 0 || time < least) best = &choices[i], least = time;
    }
    return best->launch(cuda, y, x, w, other, rows, n, k);
}

#define CHOICE(half, epilogue)                                                                     \
    { half, gemm_launch<gemm_shape<T, half, epilogue>> }

template <typename T>
static enum op_status silu_mul(struct cuda_device *cuda, const struct gemm_silu *op) {
    static const struct gemm_choice choices[] = {CHOICE(128, SILU), CHOICE(96, SILU),
                                                 CHOICE(64, SILU)};
    return launch_best(cuda, choices, 3, false, op->y, op->x, op->gate, op->up, op->rows, op->n,
                       op->hidden);
}

enum op_status gemm_silu_mul(struct cuda_device *cuda, const struct gemm_silu *op) {
    return cuda->base.activation == FORMAT_BF16 ? silu_mul<bf16>(cuda, op)
                                                : silu_mul<f16>(cuda, op);
}
