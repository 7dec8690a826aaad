/*
 * What starting on a GPU is made of, and how fast a file comes onto the card.
 *
 *   load_bench FILE [MODULE]     FILE: some GB, in the page cache or not
 *
 * Times of opening MODULE, of the first CUDA calls and of allocations; what pinned memory gives
 * over PCIe; then the file through pinned buffers of several readers in variants. The file is read
 * before each variant, so that all find it in the page cache; the first pass, over what was dropped
 * from it with `vmtouch -e` or was never there, shows the disk.
 */
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include <cuda_runtime.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static double now() {
    using namespace std::chrono;
    return duration<double>(steady_clock::now().time_since_epoch()).count();
}

static void must(bool is_so, const char *what) {
    if (is_so) return;
    fprintf(stderr, "load_bench: %s\n", what);
    fflush(stdout);
    _Exit(1);
}

static void must(cudaError_t error) {
    must(error == cudaSuccess, cudaGetErrorString(error));
}

/* Says what f() took. */
template <typename F> static void stage(const char *what, F f) {
    const double begin = now();
    f();
    printf("%-34s %8.1f ms\n", what, 1e3 * (now() - begin));
}

enum copy { BY_READ, BY_MAP, BY_POPULATED_MAP };
static const char *const copy_names[] = {"pread", "mmap", "mmap, populated"};

struct variant {
    enum copy copy;
    int readers, buffers;
    size_t bytes; /* of a buffer */
    bool sleeps;  /* while it waits for a buffer */
};

struct file {
    int fd;
    size_t size;
    const char *map;
};

static void read_piece(const struct file &f, enum copy copy, char *to, size_t at, size_t n) {
    if (copy == BY_READ) {
        for (size_t done = 0; done < n;) {
            const ssize_t got = pread(f.fd, to + done, n - done, (off_t)(at + done));
            must(got > 0, "cannot read the file");
            done += (size_t)got;
        }
        return;
    }
#ifdef MADV_POPULATE_READ
    if (copy == BY_POPULATED_MAP) madvise((void *)(uintptr_t)(f.map + at), n, MADV_POPULATE_READ);
#endif
    memcpy(to, f.map + at, n);
}

static void reader(const struct file &f, const struct variant &v, std::atomic<size_t> &next,
                   char *device, cudaStream_t stream) {
    std::vector<char *> pinned((size_t)v.buffers);
    std::vector<cudaEvent_t> is_free((size_t)v.buffers);
    const unsigned flags = cudaEventDisableTiming | (v.sleeps ? cudaEventBlockingSync : 0);
    for (int i = 0; i < v.buffers; i++) {
        must(cudaHostAlloc((void **)&pinned[(size_t)i], v.bytes, cudaHostAllocDefault));
        must(cudaEventCreateWithFlags(&is_free[(size_t)i], flags));
    }
    size_t turn = 0;
    for (size_t at; (at = next.fetch_add(v.bytes)) < f.size; turn++) {
        const size_t b = turn % (size_t)v.buffers, n = std::min(v.bytes, f.size - at);
        must(cudaEventSynchronize(is_free[b]));
        read_piece(f, v.copy, pinned[b], at, n);
        must(cudaMemcpyAsync(device + at, pinned[b], n, cudaMemcpyHostToDevice, stream));
        must(cudaEventRecord(is_free[b], stream));
    }
    must(cudaStreamSynchronize(stream));
    for (int i = 0; i < v.buffers; i++) {
        must(cudaFreeHost(pinned[(size_t)i]));
        must(cudaEventDestroy(is_free[(size_t)i]));
    }
}

static void load(struct file &f, const struct variant &v, char *device, cudaStream_t stream) {
    std::atomic<size_t> next = 0;
    std::vector<std::thread> readers;
    if (v.copy != BY_READ) {
        f.map = (const char *)mmap(NULL, f.size, PROT_READ, MAP_SHARED, f.fd, 0);
        must(f.map != MAP_FAILED, "cannot map the file");
    }
    const double begin = now();
    for (int i = 0; i < v.readers; i++)
        readers.emplace_back([&] { reader(f, v, next, device, stream); });
    for (auto &r : readers) r.join();
    const double seconds = now() - begin;
    printf("%-16s %2d readers %d x %2zu MB %-6s %8.1f ms %7.1f GB/s\n", copy_names[v.copy],
           v.readers, v.buffers, v.bytes >> 20, v.sleeps ? "sleeps" : "spins", 1e3 * seconds,
           (double)f.size * 1e-9 / seconds);
    if (v.copy != BY_READ) munmap((void *)(uintptr_t)f.map, f.size);
}

static void show_pcie(char *device, size_t bytes, cudaStream_t stream) {
    void *pinned = NULL;
    stage("pinned memory, 256 MB", [&] { must(cudaHostAlloc(&pinned, 256 << 20, 0)); });
    for (int i = 0; i < 2; i++) {
        const double begin = now();
        size_t n = 0;
        for (; n + (256 << 20) <= bytes && n < (size_t)8 << 30; n += 256 << 20)
            must(cudaMemcpyAsync(device + n, pinned, 256 << 20, cudaMemcpyHostToDevice, stream));
        must(cudaStreamSynchronize(stream));
        if (i) printf("pinned to the card: %.1f GB/s\n", (double)n * 1e-9 / (now() - begin));
    }
    must(cudaFreeHost(pinned));
}

int main(int argc, char **argv) {
    must(argc >= 2, "load_bench FILE [MODULE]");
    struct stat st;
    struct file f = {open(argv[1], O_RDONLY), 0, NULL};
    must(f.fd >= 0 && fstat(f.fd, &st) == 0, "cannot open the file");
    f.size = (size_t)st.st_size;
    if (argc > 2)
        stage("dlopen of the module", [&] { must(dlopen(argv[2], RTLD_NOW) != NULL, dlerror()); });
    int n = 0;
    size_t free_bytes = 0, total_bytes = 0;
    stage("cuInit (cudaGetDeviceCount)", [&] { must(cudaGetDeviceCount(&n)); });
    stage("context (cudaSetDevice, cudaFree)", [&] {
        must(cudaSetDevice(0));
        must(cudaFree(NULL));
    });
    must(cudaMemGetInfo(&free_bytes, &total_bytes));
    printf("the context has %zu MB\n", (total_bytes - free_bytes) >> 20);
    char *device = NULL;
    cudaStream_t stream;
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    stage("cudaMalloc of the file's size", [&] { must(cudaMalloc((void **)&device, f.size)); });
    show_pcie(device, f.size, stream);
    load(f, {BY_READ, 16, 2, 4 << 20, false}, device, stream);
    for (const int readers : {4, 8, 12, 16})
        for (const bool sleeps : {false, true})
            load(f, {BY_READ, readers, 2, 4 << 20, sleeps}, device, stream);
    load(f, {BY_READ, 16, 3, 4 << 20, true}, device, stream);
    load(f, {BY_READ, 16, 4, 1 << 20, true}, device, stream);
    load(f, {BY_READ, 16, 4, 2 << 20, true}, device, stream);
    load(f, {BY_READ, 8, 2, 8 << 20, true}, device, stream);
    load(f, {BY_MAP, 16, 2, 4 << 20, true}, device, stream);
    load(f, {BY_POPULATED_MAP, 16, 2, 4 << 20, true}, device, stream);
    return 0;
}
