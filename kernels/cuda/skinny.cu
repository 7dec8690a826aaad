/* The ops' products with 9 to 64 rows: what skinny.cuh multiplies, and what becomes of it. */
#include "kernels/cuda/rotate.cuh"
#include "kernels/cuda/skinny.cuh"
#include "kernels/cuda/tensor_map.cuh"

template <typename T> constexpr enum format format_of = is_bf16<T> ? FORMAT_BF16 : FORMAT_F16;
#include "kernels/cuda/skinny.h"

/* ---- the host's side ---- */

/* x, and the norm that the kernel gives it on the way in, if any. */
struct input {
    const void *x;
    const float *norm;
    float eps;
};

/*
 * bfloat16 is normalised on the way in (skinny_normer), where the chunks are whole. Half has not
 * the range for it: a kernel of its own writes rms_norm(x) to `h`.
 */
template <typename T> constexpr bool norms_on_the_way = is_bf16<T>;

template <typename T>
static enum op_status input_of(struct cuda_device *cuda, struct input *out, const void *x,
                               const float *norm, float eps, void *h, int rows, int k) {
    if (norms_on_the_way<T>) {
        *out = {x, norm, eps};
        return k % SKINNY_CHUNK == 0 && (uintptr_t)norm % 16 == 0 ? OP_OK : OP_NOT_SUPPORTED;
    }
    *out = {h, NULL, 0};
    const struct op_rms_norm op = {h, x, norm, rows, k, eps};
    return cuda_rms_norm(cuda, &op);
}

/*
 * One part of a matrix: `heads` heads of `groups` groups of eight atoms; the bytes from an atom to
 * the next, from its first row to its second, from a head to the next.
 */
struct part_layout {
    const void *data;
    int n_atoms, heads, groups;
    cuuint64_t atom_bytes, pair_bytes, head_bytes;
};

template <class Shape, class Job> struct skinny_call {
    struct skinny_plan plan;
    struct skinny_maps maps;

    /* Adds a part; false where its shape does not fit. */
    bool add(const struct part_layout &l, int k) {
        typedef typename Shape::T T;
        struct skinny_part &part = plan.part[plan.n_parts];
        const int rows = Shape::ROWS, atoms = rows / Job::ATOM, tile_groups = rows / 16;
        const int first_row = plan.n_parts ? plan.part[plan.n_parts - 1].end_row : 0;
        cuuint32_t box[5] = {SKINNY_CHUNK, (cuuint32_t)rows, 1, 1, 1};
        cuuint64_t sizes[5] = {(cuuint64_t)k, (cuuint64_t)l.n_atoms, 1, 1, 1};
        cuuint64_t strides[4] = {l.atom_bytes, 16, 16, 16};
        part = {plan.n_tiles, first_row, first_row + l.n_atoms, rows, 1, 0, 0};
        if (Job::ATOM == 2) {
            /* a tile is some groups of a head, or some heads */
            const bool is_of_head = l.heads == 1 || l.groups % tile_groups == 0;
            if (l.pair_bytes % 16 != 0 || (!is_of_head && tile_groups % l.groups != 0))
                return false;
            box[1] = 8, box[2] = 2;
            box[3] = (cuuint32_t)(is_of_head ? tile_groups : l.groups);
            box[4] = (cuuint32_t)(is_of_head ? 1 : tile_groups / l.groups);
            sizes[1] = 8, sizes[2] = 2, sizes[3] = (cuuint64_t)l.groups;
            sizes[4] = (cuuint64_t)l.heads;
            strides[1] = l.pair_bytes, strides[2] = 8 * l.atom_bytes, strides[3] = l.head_bytes;
            part.row_step = 0;
            part.tiles_per_head = is_of_head ? (l.groups + tile_groups - 1) / tile_groups : 1;
            part.group_step = tile_groups, part.head_step = (int)box[4];
        }
        if (!tensor_map(&maps.part[plan.n_parts], format_of<T>, l.data, 5, sizes, strides, box))
            return false;
        plan.n_tiles += (l.n_atoms + atoms - 1) / atoms;
        plan.n_parts++;
        return true;
    }

    enum op_status run(struct cuda_device *cuda, const Job &job, const void *x, int rows, int k) {
        typedef typename Shape::T T;
        const cuuint64_t sizes[2] = {(cuuint64_t)k, (cuuint64_t)rows};
        const cuuint64_t strides[1] = {(cuuint64_t)k * sizeof(T)};
        const cuuint32_t box[2] = {SKINNY_CHUNK, Shape::COLS};
        if (!tensor_map(&maps.x, format_of<T>, x, 2, sizes, strides, box)) return OP_NOT_SUPPORTED;
        plan.n_chunks = (k + SKINNY_CHUNK - 1) / SKINNY_CHUNK;
        plan.n_cols = rows;
        const long long n = (long long)plan.n_tiles * plan.n_chunks;
        if (n > INT32_MAX) return OP_NOT_SUPPORTED;
        const int blocks = n < cuda->n_sms ? (int)n : cuda->n_sms;
        const size_t n_sms = (size_t)cuda->n_sms;
        enum op_status status =
            cuda_workspace(cuda, &cuda->product_memory,
                           n_sms * (SKINNY_MOST_PARTIAL_BYTES + SKINNY_MOST_COLS * 4 + 4));
        if (status != OP_OK) return status;
        plan.partial = (float2 *)cuda->product_memory.at;
        plan.squares = (float *)((char *)plan.partial + n_sms * SKINNY_MOST_PARTIAL_BYTES);
        plan.flags = (int *)(plan.squares + n_sms * SKINNY_MOST_COLS);
        status = cuda_status(cuda, cudaFuncSetAttribute((const void *)skinny_kernel<Shape, Job>,
                                                        cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                        Shape::SHARED_BYTES));
        if (status != OP_OK) return status;
        return launch(cuda, skinny_kernel<Shape, Job>, dim3((unsigned)blocks), (int)Shape::THREADS,
                      Shape::SHARED_BYTES, job, plan, maps);
    }
};

template <class Shape, class Job>
static enum op_status run_shape(struct cuda_device *cuda, const Job &job,
                                const struct part_layout *parts, int n_parts, const struct input &x,
                                int rows, int k) {
    struct skinny_call<Shape, Job> call = {};
    call.plan.norm = x.norm, call.plan.norm_eps = x.eps;
    for (int i = 0; i < n_parts; i++)
        if (!call.add(parts[i], k)) return OP_NOT_SUPPORTED;
    return call.run(cuda, job, x.x, rows, k);
}

/* Tiles of 64 rows where few columns make x cheap: more of them are whole. */
template <typename T> using shape_8 = skinny_shape<T, 8, 64, SKINNY_RING_BYTES + 8192>;
template <typename T> using shape_16 = skinny_shape<T, 16, 64, SKINNY_RING_BYTES + 8192>;
template <typename T> using shape_32 = skinny_shape<T, 32, 64, SKINNY_RING_BYTES + 8192>;
template <typename T> using shape_64 = skinny_shape<T, 64, 128, SKINNY_RING_BYTES>;

template <typename T, class Job>
static enum op_status run_rows(struct cuda_device *cuda, const Job &job,
                               const struct part_layout *parts, int n_parts, const struct input &x,
                               int rows, int k) {
    if (rows <= 8) return run_shape<shape_8<T>>(cuda, job, parts, n_parts, x, rows, k);
    if (rows <= 16) return run_shape<shape_16<T>>(cuda, job, parts, n_parts, x, rows, k);
    if (rows <= 32) return run_shape<shape_32<T>>(cuda, job, parts, n_parts, x, rows, k);
    return run_shape<shape_64<T>>(cuda, job, parts, n_parts, x, rows, k);
}

static bool can(const struct cuda_device *cuda, const void *w, const void *x, int rows, int k) {
    return cuda->capability == 90 && rows <= SKINNY_MAX_ROWS && k % 8 == 0 &&
           (uintptr_t)w % 16 == 0 && (uintptr_t)x % 16 == 0;
}

/* f<T>(…), where there is 16-bit T */
#define FOR_16_BITS(cuda, f, ...)                                                                  \
    ((cuda)->base.activation == FORMAT_BF16  ? f<bf16>(__VA_ARGS__)                                \
     : (cuda)->base.activation == FORMAT_F16 ? f<f16>(__VA_ARGS__)                                 \
                                             : OP_NOT_SUPPORTED)

/* ---- linear ---- */

/* Two neighbours, as they are stored. */
template <typename T> struct two_of { T first, second; };
template <> struct __align__(8) two_of<float> {
    float first, second;
};
template <> struct __align__(4) two_of<f16> {
    f16 first, second;
};
template <> struct __align__(4) two_of<bf16> {
    bf16 first, second;
};

template <typename T, typename Y> struct skinny_linear_job {
    enum { ATOM = 1, NORMS = 0 };
    Y *y;
    const float *bias; /* or NULL */
    int n;
    bool adds;

    /* of two neighbouring rows */
    struct row_facts {
        float2 bias;
    };
    struct facts {
        struct two_of<Y> y;
    };
    __device__ struct row_facts rows_of(int row) const {
        if (!bias) return {{0, 0}};
        return {{bias[row], row + 1 < n ? bias[row + 1] : 0}};
    }
    __device__ void begin(struct facts &, int, int) const {}
    __device__ void look_up(struct facts &f, int row, int col) const {
        const Y *from = y + (size_t)col * (size_t)n + (size_t)row;
        if (!adds)
            f.y = {from_float<Y>(0), from_float<Y>(0)};
        else if (n % 2 == 0)
            f.y = *(const struct two_of<Y> *)from;
        else
            f.y = {from[0], row + 1 < n ? from[1] : from_float<Y>(0)};
    }
    __device__ void finish(const struct row_facts &r, const struct facts &f, int row, int col,
                           float2 sums) const {
        Y *to = y + (size_t)col * (size_t)n + (size_t)row;
        const struct two_of<Y> two = {
            from_float<Y>(sums.x + r.bias.x + to_float(f.y.first)),
                from_float<Y>(sums.y + r.bias.y + to_float(f.y.second))
        };
        if (n % 2 == 0) {
            *(struct two_of<Y> *)to = two;
        } else {
            to[0] = two.first;
            if (row + 1 < n) to[1] = two.second;
        }
    }
};

template <typename T, typename Y>
static enum op_status linear_to(struct cuda_device *cuda, const struct op_linear *op) {
    const int n = op->w->rows, k = op->w->cols;
    const struct skinny_linear_job<T, Y> job = { (Y *)op->y, op->bias, n, op->accumulate };
    const struct part_layout part = {op->w->data, n, 1, 0, (cuuint64_t)k * sizeof(T), 0, 0};
    return run_rows<T>(cuda, job, &part, 1, {op->x, NULL, 0}, op->rows, k);
}

template <typename T>
static enum op_status linear(struct cuda_device *cuda, const struct op_linear *op) {
    return op->y_is_float ? linear_to<T, float>(cuda, op) : linear_to<T, T>(cuda, op);
}

enum op_status skinny_linear(struct cuda_device *cuda, const struct op_linear *op) {
    if (!can(cuda, op->w->data, op->x, op->rows, op->w->cols) || op->rows > SKINNY_MAX_LINEAR_ROWS)
        return OP_NOT_SUPPORTED;
    return FOR_16_BITS(cuda, linear, cuda, op);
}

/* ---- gate_up ---- */

template <typename T> struct skinny_gate_up_job {
    enum { ATOM = 2, NORMS = norms_on_the_way<T> };
    T *y;
    int n;
    bool is_up_first; /* in memory, and so in an atom */

    struct row_facts {};
    struct facts {};
    __device__ struct row_facts rows_of(int) const {
        return {};
    }
    __device__ void begin(struct facts &, int, int) const {}
    __device__ void look_up(struct facts &, int, int) const {}
    __device__ void finish(const struct row_facts &, const struct facts &, int atom, int col,
                           float2 sums) const {
        const float g = is_up_first ? sums.y : sums.x, up = is_up_first ? sums.x : sums.y;
        y[(size_t)col * (size_t)n + (size_t)atom] = from_float<T>(g / (1 + __expf(-g)) * up);
    }
};

template <typename T>
static enum op_status gate_up(struct cuda_device *cuda, const struct op_gate_up *op) {
    const int n = op->gate->rows, k = op->gate->cols;
    const char *gate = (const char *)op->gate->data, *up = (const char *)op->up->data;
    const bool is_up_first = up < gate;
    const struct skinny_gate_up_job<T> job = { (T *)op->y, n, is_up_first };
    const struct part_layout part = {is_up_first ? up : gate,
                                     n,
                                     1,
                                     n / 8,
                                     (cuuint64_t)k * sizeof(T),
                                     (cuuint64_t)(is_up_first ? gate - up : up - gate),
                                     16};
    struct input x;
    const enum op_status status =
        input_of<T>(cuda, &x, op->x, op->norm, op->eps, op->scratch, op->rows, k);
    return status == OP_OK ? run_rows<T>(cuda, job, &part, 1, x, op->rows, k) : status;
}

enum op_status skinny_gate_up(struct cuda_device *cuda, const struct op_gate_up *op) {
    const int k = op->gate->cols;
    if (!can(cuda, op->gate->data, op->x, op->rows, k) ||
        !can(cuda, op->gate->data, op->scratch, op->rows, k) || (uintptr_t)op->up->data % 16 != 0 ||
        op->gate->rows % 8 != 0)
        return OP_NOT_SUPPORTED;
    return FOR_16_BITS(cuda, gate_up, cuda, op);
}

/* ---- qkv ---- */

/* Atoms are the pairs that are rotated together, of the heads of q, k and v in this order. */
template <typename T> struct skinny_qkv_job {
    enum { ATOM = 2, NORMS = norms_on_the_way<T> };
    T *q;
    const float *q_bias, *k_bias, *v_bias; /* or NULL */
    struct rope_params rope;
    struct kv_view kv;
    int n_heads;
    struct row_facts rows;

    struct place {
        int part, head, pair; /* q, k or v; the head in it */
    };
    __device__ struct place place_of(int atom) const {
        const int n_pairs = rope.head_size / 2, head = atom / n_pairs, pair = atom % n_pairs;
        if (head < n_heads) return {0, head, pair};
        if (head < n_heads + kv.n_kv_heads) return {1, head - n_heads, pair};
        return {2, head - n_heads - kv.n_kv_heads, pair};
    }

    struct row_facts {
        float2 bias;
    };
    struct facts {
        float2 rotation;
    };
    __device__ struct row_facts rows_of(int atom) const {
        const struct place at = place_of(atom);
        const int2 pair = pair_at(at.pair, rope.head_size / 2, rope.interleaved);
        const float *bias = at.part == 0 ? q_bias : at.part == 1 ? k_bias : v_bias;
        if (!bias) return {{0, 0}};
        bias += at.head * rope.head_size;
        return {{bias[pair.x], bias[pair.y]}};
    }
    __device__ void begin(struct facts &f, int atom, int col) const {
        const struct place at = place_of(atom);
        f.rotation = make_float2(1, 0);
        if (at.part < 2 && rows.slots[col] >= 0)
            f.rotation = rotation_of(rows, (size_t)col, at.pair, rope.head_size / 2,
                                     rope.logn_tokens, at.part == 0);
    }
    __device__ void look_up(struct facts &, int, int) const {}
    __device__ void finish(const struct row_facts &r, const struct facts &f, int atom, int col,
                           float2 sums) const {
        const struct place at = place_of(atom);
        const int n = rope.head_size, slot = rows.slots[col];
        if (slot < 0) return;
        const int2 pair = pair_at(at.pair, n / 2, rope.interleaved);
        const float2 y = rotate(sums.x + r.bias.x, sums.y + r.bias.y, f.rotation);
        if (at.part == 0) {
            T *to = q + ((size_t)col * (size_t)n_heads + (size_t)at.head) * (size_t)n;
            to[pair.x] = from_float<T>(y.x);
            to[pair.y] = from_float<T>(y.y);
        } else {
            void *plane = at.part == 1 ? kv.k : kv.v;
            const size_t to = cache_row(kv, slot, at.head);
            store_as(plane, to + (size_t)pair.x, kv.format, y.x);
            store_as(plane, to + (size_t)pair.y, kv.format, y.y);
        }
    }
};

template <typename T> static enum op_status qkv(struct cuda_device *cuda, const struct op_qkv *op) {
    const int k = op->wq->cols, n = op->rope.head_size, n_pairs = n / 2;
    const cuuint64_t row = (cuuint64_t)k * sizeof(T);
    const cuuint64_t atom = op->rope.interleaved ? 2 * row : row;
    const cuuint64_t pair = op->rope.interleaved ? row : (cuuint64_t)n_pairs * row;
    const struct skinny_qkv_job<T> job = {
        (T *)op->q, op->bq, op->bk, op->bv, op->rope, op->kv, op->heads, row_facts_of(op->batch)
    };
    const struct matrix *const matrices[3] = {op->wq, op->wk, op->wv};
    struct part_layout parts[3];
    for (int i = 0; i < 3; i++)
        parts[i] = {matrices[i]->data,
                    matrices[i]->rows / 2,
                    matrices[i]->rows / n,
                    n_pairs / 8,
                    atom,
                    pair,
                    (cuuint64_t)n * row};
    struct input x;
    const int rows = op->batch->n_rows;
    const enum op_status status =
        input_of<T>(cuda, &x, op->x, op->norm, op->eps, op->scratch, rows, k);
    return status == OP_OK ? run_rows<T>(cuda, job, parts, 3, x, rows, k) : status;
}

enum op_status skinny_qkv(struct cuda_device *cuda, const struct op_qkv *op) {
    const int rows = op->batch->n_rows, k = op->wq->cols;
    if (!can(cuda, op->wq->data, op->x, rows, k) ||
        !can(cuda, op->wk->data, op->scratch, rows, k) ||
        !can(cuda, op->wv->data, op->x, rows, k) || op->rope.head_size % 16 != 0 || op->q_norm ||
        op->k_norm)
        return OP_NOT_SUPPORTED;
    return FOR_16_BITS(cuda, qkv, cuda, op);
}
