/*
 * flash_sm90.cu against a naive kernel in double, then its speed.
 *
 *   nvcc -std=c++17 -O3 -I. -gencode=arch=compute_90a,code=sm_90a tests/gpu/flash_bench.cu
 *   flash_bench [test|bench] [number of a variant …], flash_bench profile variant rows
 *
 * Every case: block numbers shuffled, what no key owns in the cache is NaN, outputs start as NaN,
 * two runs are bit-equal, and a sequence computed in other chunks and company gives the same bits.
 * -DQWEN_CUDA_BOUND_WAITS: a wait that never ends says where it is.
 */
#include "kernels/cuda/flash_sm90.cu"

#include <algorithm>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

enum op_status cuda_status(struct cuda_device *, cudaError_t error) {
    if (error == cudaSuccess) return OP_OK;
    printf("CUDA: %s\n", cudaGetErrorString(error));
    return OP_FAULT;
}

#define CHECK(call)                                                                                \
    do {                                                                                           \
        const cudaError_t error_ = (call);                                                         \
        if (error_ != cudaSuccess) {                                                               \
            printf("%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error_));                 \
            fflush(stdout);                                                                        \
            _Exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* ---- variants ---- */

typedef enum op_status launch_fn(struct cuda_device *, const struct op_attention *, int *);

struct variant {
    const char *name;
    int head;
    launch_fn *bf16_, *f16_;
};
#define VARIANT(name, head, ...)                                                                   \
    {                                                                                              \
        name, head, flash_launch<flash_shape<bf16, head, __VA_ARGS__>>,                            \
            flash_launch<flash_shape<f16, head, __VA_ARGS__>>                                      \
    }
/* by warpgroups and stages of the ring */
static const struct variant variants[] = {
    {"heads of 128, as chosen", 128, flash_attention, flash_attention},
    {"heads of 64, as chosen", 64, flash_attention, flash_attention},
    VARIANT("128 rows, 2 stages", 128, 2, 2),
    VARIANT("128 rows, 4 stages", 64, 2, 4),
    VARIANT("192 rows, 4 stages", 64, 3, 4),
};
enum { N_VARIANTS = sizeof variants / sizeof variants[0] };
static bool is_wanted[N_VARIANTS];

/* ---- a pass ---- */

struct sequence {
    int first, n_rows; /* position of the first row; 0 rows: the sequence is not in this pass */
    bool is_padding;
};

struct layout {
    int heads, kv_heads, head;
    enum format format;
};

static __host__ __device__ unsigned mix(unsigned x) {
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu, x ^= x >> 16;
    return x;
}
/* About normal, from the sum of four uniform ones. */
static __host__ __device__ float noise(unsigned seed, unsigned i) {
    float sum = 0;
    for (unsigned k = 0; k < 4; k++) sum += (float)(mix(mix(i * 4 + k) + seed) >> 8) / (1 << 24);
    return (sum - 2) * 1.732f;
}

template <typename T> static __global__ void fill_nan(T *to, size_t n) {
    const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i < n) to[i] = from_float<T>(__int_as_float(0x7fffffff));
}
/* Keys or values of one sequence: those of a position are the same in every pass. */
template <typename T>
static __global__ void fill_cache(T *cache, const int *table, int n_keys, int kv_heads, int head,
                                  unsigned seed, float size) {
    const size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    const int width = kv_heads * head;
    if (i >= (size_t)n_keys * width) return;
    const int key = (int)(i / width), g = (int)(i % width) / head, c = (int)(i % width) % head;
    const size_t row = ((size_t)table[key / 16] * kv_heads + g) * 16 + key % 16;
    cache[row * head + c] = from_float<T>(size * noise(seed, (unsigned)i));
}
template <typename T>
static __global__ void fill_queries(T *q, const int *positions, int first_row, int width,
                                    unsigned seed, float size) {
    const size_t row = first_row + blockIdx.x;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        q[row * width + i] =
            from_float<T>(size * noise(seed, (unsigned)(positions[row] * width + i)));
}

/* A block for each row and head. */
template <typename T>
static __global__ void reference(float *y, const T *q, const T *k, const T *v, const int *positions,
                                 const int *seq_of, const int *slots, const int *block_table,
                                 int max_blocks, int heads, int kv_heads, int head, float scale) {
    extern __shared__ double weights[]; /* [position + 1] */
    __shared__ double total;
    const int t = blockIdx.x, h = blockIdx.y, g = h / (heads / kv_heads);
    const size_t at = ((size_t)t * heads + h) * head;
    if (slots[t] < 0) {
        for (int c = threadIdx.x; c < head; c += blockDim.x) y[at + c] = 0;
        return;
    }
    const int n = positions[t] + 1, *table = block_table + (size_t)seq_of[t] * max_blocks;
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        const size_t row = (((size_t)table[j / 16] * kv_heads + g) * 16 + j % 16) * head;
        double sum = 0;
        for (int c = 0; c < head; c++) sum += (double)to_float(q[at + c]) * to_float(k[row + c]);
        weights[j] = sum * scale;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        double largest = -1e300, sum = 0;
        for (int j = 0; j < n; j++) largest = fmax(largest, weights[j]);
        for (int j = 0; j < n; j++) sum += weights[j] = exp(weights[j] - largest);
        total = sum;
    }
    __syncthreads();
    for (int c = threadIdx.x; c < head; c += blockDim.x) {
        double sum = 0;
        for (int j = 0; j < n; j++) {
            const size_t row = (((size_t)table[j / 16] * kv_heads + g) * 16 + j % 16) * head;
            sum += weights[j] * to_float(v[row + c]);
        }
        y[at + c] = (float)(sum / total);
    }
}

template <typename T> static T *to_device(const std::vector<T> &x) {
    T *p;
    CHECK(cudaMalloc(&p, (x.size() + 1) * sizeof(T)));
    CHECK(cudaMemcpy(p, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice));
    return p;
}

/* Device arrays of a pass over sequences; sequence s has the keys and queries of `seeds[s]`. */
struct pass {
    struct layout layout;
    struct op_batch batch;
    struct op_attention op;
    size_t n_values; /* of q and y */
    int most_keys;

    std::vector<struct sequence> seqs;
    std::vector<int> starts;
};

template <typename T>
static void make_pass(struct pass &p, struct layout l, const std::vector<struct sequence> &seqs,
                      const std::vector<unsigned> &seeds, float q_size, float k_size, float v_size,
                      int n_behind = 0) {
    std::vector<int> positions, seq_of, slots, starts = {0}, numbers;
    int n_blocks = 0, max_blocks = 1;
    p.most_keys = 0;
    for (const struct sequence &s : seqs) {
        const int n = (s.first + s.n_rows + 15) / 16;
        n_blocks += n, max_blocks = std::max(max_blocks, n);
        p.most_keys = std::max(p.most_keys, s.first + s.n_rows);
    }
    n_blocks += 3;
    for (int i = 0; i < n_blocks; i++) numbers.push_back(i);
    for (int i = n_blocks - 1; i > 0; i--)
        std::swap(numbers[(size_t)i], numbers[mix((unsigned)i + seeds[0]) % (unsigned)(i + 1)]);
    std::vector<int> table(seqs.size() * (size_t)max_blocks, 0x3fffffff); /* not to be looked at */
    int next = 0;
    for (size_t s = 0; s < seqs.size(); s++) {
        const int n = (seqs[s].first + seqs[s].n_rows + 15) / 16;
        for (int i = 0; i < n; i++)
            table[s * (size_t)max_blocks + (size_t)i] = numbers[(size_t)next++];
        for (int i = 0; i < seqs[s].n_rows; i++) {
            const int position = seqs[s].first + i;
            positions.push_back(position), seq_of.push_back((int)s);
            slots.push_back(seqs[s].is_padding
                                ? -1
                                : table[s * (size_t)max_blocks + (size_t)position / 16] * 16 +
                                      position % 16);
        }
        starts.push_back((int)positions.size());
    }
    for (int i = 0; i < n_behind; i++) /* rows of no sequence */
        positions.push_back(0), seq_of.push_back(0), slots.push_back(-1);
    const int width = l.heads * l.head, rows = (int)positions.size();
    p.layout = l, p.seqs = seqs, p.starts = starts;
    p.n_values = (size_t)rows * (size_t)width;
    p.batch = {};
    p.batch.n_rows = rows, p.batch.n_seqs = (int)seqs.size(), p.batch.max_blocks = max_blocks;
    int *table_there = to_device(table);
    p.batch.positions = to_device(positions), p.batch.seq_of = to_device(seq_of);
    p.batch.slots = to_device(slots), p.batch.starts = to_device(starts);
    p.batch.block_table = table_there;
    T *q, *y, *k, *v;
    const size_t cache = (size_t)n_blocks * 16 * (size_t)l.kv_heads * (size_t)l.head;
    CHECK(cudaMalloc(&q, p.n_values * sizeof(T)));
    CHECK(cudaMalloc(&y, p.n_values * sizeof(T)));
    CHECK(cudaMalloc(&k, cache * sizeof(T)));
    CHECK(cudaMalloc(&v, cache * sizeof(T)));
    fill_nan<T><<<(unsigned)(cache / 256 + 1), 256>>>(k, cache);
    fill_nan<T><<<(unsigned)(cache / 256 + 1), 256>>>(v, cache);
    for (size_t s = 0; s < seqs.size(); s++) {
        if (seqs[s].n_rows == 0) continue;
        const int n = seqs[s].is_padding ? 0 : seqs[s].first + seqs[s].n_rows;
        const unsigned grid = (unsigned)((size_t)n * (size_t)(l.kv_heads * l.head) / 256 + 1);
        const int *of_seq = table_there + s * (size_t)max_blocks;
        fill_cache<T><<<grid, 256>>>(k, of_seq, n, l.kv_heads, l.head, seeds[s] * 3 + 1, k_size);
        fill_cache<T><<<grid, 256>>>(v, of_seq, n, l.kv_heads, l.head, seeds[s] * 3 + 2, v_size);
        fill_queries<T><<<(unsigned)seqs[s].n_rows, 256>>>(q, p.batch.positions, starts[s], width,
                                                           seeds[s] * 3 + 3, q_size);
    }
    CHECK(cudaDeviceSynchronize());
    p.op = {y, q, {k, v, l.format, 16, l.kv_heads, l.head}, l.heads, 0, 0, &p.batch};
    p.op.scale = 1 / sqrtf((float)l.head);
}

static void free_pass(struct pass &p) {
    const void *all[] = {
        p.op.y,         p.op.q,        p.op.kv.k,      p.op.kv.v,          p.batch.positions,
        p.batch.seq_of, p.batch.slots, p.batch.starts, p.batch.block_table};
    for (const void *x : all) CHECK(cudaFree((void *)x));
}

static struct cuda_device cuda;
static int *next_item;

template <typename T>
static std::vector<T> run_pass(struct pass &p, const struct variant &v, bool is_persistent) {
    p.op.batch = &p.batch;
    fill_nan<T><<<(unsigned)(p.n_values / 256 + 1), 256>>>((T *)p.op.y, p.n_values);
    launch_fn *launch = p.layout.format == FORMAT_BF16 ? v.bf16_ : v.f16_;
    if (launch(&cuda, &p.op, is_persistent ? next_item : NULL) != OP_OK) printf("not launched\n");
    CHECK(cudaDeviceSynchronize());
    std::vector<T> y(p.n_values);
    CHECK(cudaMemcpy(y.data(), p.op.y, p.n_values * sizeof(T), cudaMemcpyDeviceToHost));
    int left;
    CHECK(cudaMemcpy(&left, next_item, sizeof left, cudaMemcpyDeviceToHost));
    if (left) printf("  the counter is left at %d\n", left), cudaMemset(next_item, 0, sizeof left);
    return y;
}

/* Relative error over all, and the worst row's; < 0: a value is not finite. */
template <typename T>
static bool compare(struct pass &p, const std::vector<T> &got, const std::vector<float> &want,
                    float bound, const char *name) {
    double all = 0, all_ref = 0, worst = 0;
    size_t worst_at = 0, bad = 0, first_bad = 0;
    const size_t head = (size_t)p.layout.head;
    for (size_t r = 0; r < p.n_values / head; r++) {
        double error = 0, ref = 1e-20;
        for (size_t c = 0; c < head; c++) {
            const double x = (float)got[r * head + c], w = want[r * head + c];
            if (!isfinite(x) && !bad++) first_bad = r * head + c;
            error += (x - w) * (x - w), ref += w * w;
        }
        all += error, all_ref += ref;
        const double relative = sqrt(error / ref);
        if (relative > worst || !(relative == relative)) worst = relative, worst_at = r;
    }
    const double error = sqrt(all / all_ref);
    const bool ok = bad == 0 && error < bound && worst < 4 * bound;
    if (!ok) {
        printf("  WRONG %s: error %.2e, worst row %d head %d: %.2e, %zu not finite", name, error,
               (int)(worst_at / (size_t)p.layout.heads), (int)(worst_at % (size_t)p.layout.heads),
               worst, bad);
        if (bad)
            printf(" from row %d head %d column %d",
                   (int)(first_bad / head / (size_t)p.layout.heads),
                   (int)(first_bad / head % (size_t)p.layout.heads), (int)(first_bad % head));
        printf("\n   ");
        for (size_t c = 0; c < 8; c++)
            printf(" %.3f/%.3f", (double)(float)got[worst_at * head + c],
                   (double)want[worst_at * head + c]);
        printf("\n");
    }
    return ok;
}

template <typename T> static std::vector<float> reference_of(struct pass &p) {
    float *y;
    CHECK(cudaMalloc(&y, p.n_values * sizeof(float)));
    const size_t shared = (size_t)p.most_keys * sizeof(double);
    CHECK(cudaFuncSetAttribute((const void *)reference<T>,
                               cudaFuncAttributeMaxDynamicSharedMemorySize, 200 << 10));
    reference<T><<<dim3((unsigned)p.batch.n_rows, (unsigned)p.op.heads), 128, shared>>>(
        y, (const T *)p.op.q, (const T *)p.op.kv.k, (const T *)p.op.kv.v, p.batch.positions,
        p.batch.seq_of, p.batch.slots, p.batch.block_table, p.batch.max_blocks, p.op.heads,
        p.op.kv.n_kv_heads, p.op.kv.head_size, p.op.scale);
    CHECK(cudaDeviceSynchronize());
    std::vector<float> out(p.n_values);
    CHECK(cudaMemcpy(out.data(), y, p.n_values * sizeof(float), cudaMemcpyDeviceToHost));
    CHECK(cudaFree(y));
    return out;
}

struct test_case {
    const char *name;
    int heads, kv_heads;
    std::vector<struct sequence> seqs;
    float q_size, k_size;
};

/* The last chunk of `seqs[0]` computed in other chunks and other company: the same bits. */
template <typename T>
static bool is_independent(struct layout l, const struct test_case &c, const struct variant &v,
                           const std::vector<T> &whole) {
    const struct sequence s = c.seqs[0];
    if (s.is_padding || s.n_rows < 3) return true;
    const int cut = s.n_rows / 3 + 1;
    const std::vector<struct sequence> other = {
        {5, 77, false}, {s.first + cut, s.n_rows - cut, false}, {0, 1, true}, {200, 1, false}};
    struct pass p;
    make_pass<T>(p, l, other, {901, 11, 902, 903}, c.q_size, c.k_size, 1);
    const std::vector<T> y = run_pass<T>(p, v, true);
    const size_t width = (size_t)(l.heads * l.head), n = (size_t)(s.n_rows - cut) * width;
    const bool same =
        !memcmp(y.data() + 77 * width, whole.data() + (size_t)cut * width, n * sizeof(T));
    free_pass(p);
    return same;
}

template <typename T>
static bool test(const struct test_case &c, const struct variant &v, enum format format) {
    const struct layout l = {c.heads, c.kv_heads, v.head, format};
    std::vector<unsigned> seeds;
    for (size_t s = 0; s < c.seqs.size(); s++) seeds.push_back(11 + (unsigned)s);
    struct pass p;
    make_pass<T>(p, l, c.seqs, seeds, c.q_size, c.k_size, 1, c.seqs.size() > 5 ? 200 : 0);
    const std::vector<float> want = reference_of<T>(p);
    const std::vector<T> y = run_pass<T>(p, v, true), again = run_pass<T>(p, v, true),
                         plain = run_pass<T>(p, v, false);
    bool ok = compare<T>(p, y, want, format == FORMAT_BF16 ? 6e-3f : 1e-3f, c.name);
    static std::map<std::string, std::vector<T>> first_variant;
    std::vector<T> &before = first_variant[c.name + std::to_string(v.head)];
    if (before.empty()) before = y;
    if (memcmp(y.data(), before.data(), y.size() * sizeof(T)))
        printf("  %s: another variant came to other bits\n", c.name), ok = false;
    if (memcmp(y.data(), again.data(), y.size() * sizeof(T)))
        printf("  %s: two runs differ\n", c.name), ok = false;
    if (memcmp(y.data(), plain.data(), y.size() * sizeof(T)))
        printf("  %s: the plain grid differs\n", c.name), ok = false;
    if (!is_independent<T>(l, c, v, y))
        printf("  %s: depends on its company\n", c.name), ok = false;
    free_pass(p);
    return ok;
}

static int run_tests(const struct variant *v) {
    std::vector<struct sequence> ragged = {{0, 5, false}};
    for (int i = 0; i < 40; i++)
        ragged.push_back({(i * 37) % 300, i % 7 == 3 ? 0 : (i * 53) % 150 + 1, i % 9 == 8});
    const std::vector<struct test_case> cases = {
        {"one tile, keys 0: weights alike", 1, 1, {{0, 128, false}}, 1, 0},
        {"one tile", 1, 1, {{0, 128, false}}, 1, 1},
        {"two tiles", 1, 1, {{0, 256, false}}, 1, 1},
        {"one row", 4, 2, {{0, 1, false}}, 1, 1},
        {"odd length", 14, 2, {{0, 397, false}}, 1, 1},
        {"a chunk", 7, 1, {{1000, 333, false}}, 1, 1},
        {"steep scores", 2, 2, {{0, 1500, false}}, 5, 2},
        {"several",
         16,
         2,
         {{0, 700, false},
          {130, 65, false},
          {127, 129, false},
          {0, 1, true},
          {2000, 1, false},
          {64, 64, false},
          {0, 1, true}},
         1,
         1},
        {"ragged", 8, 8, ragged, 1, 1},
        {"long", 2, 1, {{0, 4100, false}}, 1, 1},
    };
    int n_wrong = 0;
    for (const struct test_case &c : cases) {
        n_wrong += !test<bf16>(c, *v, FORMAT_BF16);
        n_wrong += !test<f16>(c, *v, FORMAT_F16);
    }
    printf("%-32s %s (%d cases, both types)\n", v->name, n_wrong ? "WRONG" : "right",
           (int)cases.size());
    fflush(stdout);
    return n_wrong;
}

/* ---- speed ---- */

/* One launch, in milliseconds. */
static float time_once(struct pass &p, launch_fn *launch, int *counter) {
    static cudaEvent_t from, to;
    if (!from) {
        CHECK(cudaEventCreate(&from));
        CHECK(cudaEventCreate(&to));
    }
    p.op.batch = &p.batch;
    CHECK(cudaEventRecord(from, cuda.stream));
    if (launch(&cuda, &p.op, counter) != OP_OK) return -1;
    CHECK(cudaEventRecord(to, cuda.stream));
    CHECK(cudaEventSynchronize(to));
    float ms;
    CHECK(cudaEventElapsedTime(&ms, from, to));
    return ms;
}

struct size {
    int n, first, rows; /* sequences of so many rows from that position on */
    bool is_half;
};

/* Variants by turns, so that all see the card as warm; medians. */
static void bench_size(struct pass &p, const struct size &size, double *tflops) {
    enum { RUNS = 15, WARM = 2 };
    std::vector<float> times[N_VARIANTS];
    for (int run = 0; run < RUNS + WARM; run++)
        for (int i = 0; i < N_VARIANTS; i++) {
            launch_fn *launch = size.is_half ? variants[i].f16_ : variants[i].bf16_;
            if (variants[i].head != p.layout.head || !launch || !is_wanted[i]) continue;
            const float ms = time_once(p, launch, next_item);
            if (run >= WARM) times[i].push_back(ms);
        }
    const double pairs =
        size.n * (double)size.rows * (size.first + (size.rows + 1) / 2.); /* query, key */
    for (int i = 0; i < N_VARIANTS; i++) {
        std::vector<float> &t = times[i];
        std::sort(t.begin(), t.end());
        tflops[i] =
            t.empty() ? 0 : 4.0 * p.layout.heads * p.layout.head * pairs / t[t.size() / 2] * 1e-9;
    }
}

static void bench(void) {
    enum { N_SIZES = 9 };
    static const struct size sizes[N_SIZES] = {
        {1, 0, 512, false},      {1, 0, 2048, false},  {8, 0, 2048, false},
        {1, 0, 4096, false},     {1, 0, 16384, false}, {1, 0, 32768, false},
        {1, 14336, 2048, false}, {1, 0, 2048, true},   {1, 0, 16384, true}};
    printf("TFLOP/s causal\n");
    for (int head = 128; head >= 64; head -= 64) {
        struct layout l = {head == 128 ? 28 : 14, head == 128 ? 4 : 2, head, FORMAT_BF16};
        static double tflops[N_SIZES][N_VARIANTS];
        printf("%d/%d heads of %-22d", l.heads, l.kv_heads, head);
        for (int i = 0; i < N_SIZES; i++) {
            const struct sequence one = {sizes[i].first, sizes[i].rows, false};
            const std::vector<struct sequence> seqs((size_t)sizes[i].n, one);
            static struct pass p;
            l.format = sizes[i].is_half ? FORMAT_F16 : FORMAT_BF16;
            if (sizes[i].is_half)
                make_pass<f16>(p, l, seqs, {1, 2, 3, 4, 5, 6, 7, 8}, 1, 1, 1);
            else
                make_pass<bf16>(p, l, seqs, {1, 2, 3, 4, 5, 6, 7, 8}, 1, 1, 1);
            bench_size(p, sizes[i], tflops[i]);
            free_pass(p);
            printf(sizes[i].first ? "  %dx%d@%d" : "  %dx%d", sizes[i].n, sizes[i].rows,
                   sizes[i].first);
            printf(sizes[i].is_half ? ",fp16" : "");
        }
        printf("\n");
        for (int v = 0; v < N_VARIANTS; v++) {
            if (variants[v].head != head || !is_wanted[v]) continue;
            printf("%-36s", variants[v].name);
            for (int i = 0; i < N_SIZES; i++) printf("  %6.0f", tflops[i][v]);
            printf("\n");
        }
        fflush(stdout);
    }
}

/* For a profiler: one launch. */
static void profile(const struct variant &v, int rows) {
    const struct layout l = {v.head == 128 ? 28 : 14, v.head == 128 ? 4 : 2, v.head, FORMAT_BF16};
    static struct pass p;
    make_pass<bf16>(p, l, {{0, rows, false}}, {1}, 1, 1, 1);
    for (int i = 0; i < 3; i++) printf("%.3f ms\n", time_once(p, v.bf16_, next_item));
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "test";
    cudaDeviceProp prop;
    CHECK(cudaGetDeviceProperties(&prop, 0));
    cuda.n_sms = prop.multiProcessorCount;
    cuda.capability = prop.major * 10 + prop.minor;
    CHECK(cudaMalloc(&next_item, sizeof *next_item));
    CHECK(cudaMemset(next_item, 0, sizeof *next_item));
    for (int i = 0; i < N_VARIANTS; i++) {
        is_wanted[i] = argc <= 2;
        for (int a = 2; a < argc; a++) is_wanted[i] |= atoi(argv[a]) == i;
    }
    if (!strcmp(what, "bench")) {
        printf("%s, %d multiprocessors\n", prop.name, cuda.n_sms);
        bench();
        return 0;
    }
    if (!strcmp(what, "profile") && argc > 3) {
        profile(variants[atoi(argv[2])], atoi(argv[3]));
        return 0;
    }
    int n_wrong = 0;
    for (int i = 0; i < N_VARIANTS; i++) {
        if (variants[i].f16_ && is_wanted[i]) n_wrong += run_tests(&variants[i]);
    }
    return n_wrong > 0;
}
