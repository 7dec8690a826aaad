/* Reads /proc, /sys and cpuid. A file that is missing or odd is as one that sets no limit. */
#include "kernels/cpu/machine.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

/* ---- small files ---- */

static bool read_text(const char *folder, const char *name, char *out, size_t n) {
    char path[1024];
    if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, name) >= sizeof path) return false;
    FILE *file = fopen(path, "re");
    if (!file) return false;
    size_t n_read = fread(out, 1, n - 1, file);
    fclose(file);
    out[n_read] = '\0';
    return n_read > 0;
}

/* The number after `key` in the text ("" for a file of one number), or `otherwise`. */
static uint64_t number_after(const char *text, const char *key, uint64_t otherwise) {
    const char *at = strstr(text, key);
    uint64_t value;
    return at && sscanf(at + strlen(key), "%" SCNu64, &value) == 1 ? value : otherwise;
}

static uint64_t read_number(const char *folder, const char *name, uint64_t otherwise) {
    char text[64];
    return read_text(folder, name, text, sizeof text) ? number_after(text, "", otherwise)
                                                      : otherwise;
}

/* ---- cgroups ---- */

typedef void group_visitor(const char *folder, void *ud);

/* The group at base/path and all around it. */
static void visit_upwards(const char *base, const char *path, group_visitor *visit, void *ud) {
    char folder[768];
    int n = snprintf(folder, sizeof folder, "%s%s", base, path);
    if (n < 0 || (size_t)n >= sizeof folder) return;
    size_t n_base = strlen(base);
    for (;;) {
        visit(folder, ud);
        char *slash = strrchr(folder + n_base, '/');
        if (!slash) return;
        *slash = '\0';
    }
}

/* Every cgroup, version 1 or 2, that this process is in for the controller. */
static void visit_groups(const char *controller, group_visitor *visit, void *ud) {
    char text[4096], *rest = text;
    if (!read_text("/proc/self", "cgroup", text, sizeof text)) return;
    for (char *line; (line = strsep(&rest, "\n"));) { /* number:controller,controller:path */
        strsep(&line, ":");
        char *controllers = strsep(&line, ":");
        if (!controllers || !line) continue;
        if (controllers[0] == '\0') {
            visit_upwards("/sys/fs/cgroup", line, visit, ud);
            visit_upwards("/sys/fs/cgroup/unified", line, visit, ud);
        }
        for (char *name; (name = strsep(&controllers, ","));) {
            char base[64];
            if (strcmp(name, controller) != 0) continue;
            snprintf(base, sizeof base, "/sys/fs/cgroup/%s", controller);
            visit_upwards(base, line, visit, ud);
        }
    }
}

/* ud: double, the processors that the quota pays for */
static void limit_processors(const char *folder, void *ud) {
    double *processors = ud;
    char text[64];
    double quota = 0, period = 0;
    if (!read_text(folder, "cpu.max", text, sizeof text) ||
        sscanf(text, "%lf %lf", &quota, &period) != 2) {
        quota = (double)(int64_t)read_number(folder, "cpu.cfs_quota_us", 0);
        period = (double)read_number(folder, "cpu.cfs_period_us", 0);
    }
    if (quota > 0 && period > 0 && quota / period < *processors) *processors = quota / period;
}

/* ud: struct device_memory. Pages of files that were not used lately count as free. */
static void limit_memory(const char *folder, void *ud) {
    struct device_memory *memory = ud;
    char stat[4096] = "";
    uint64_t limit = read_number(folder, "memory.max", UINT64_MAX);
    uint64_t used = read_number(folder, "memory.current", 0);
    if (limit == UINT64_MAX) {
        limit = read_number(folder, "memory.limit_in_bytes", UINT64_MAX);
        used = read_number(folder, "memory.usage_in_bytes", 0);
    }
    if (limit == UINT64_MAX) return;
    read_text(folder, "memory.stat", stat, sizeof stat);
    uint64_t reclaimable = number_after(stat, "\ninactive_file ", 0);
    used -= reclaimable < used ? reclaimable : used;
    uint64_t left = used < limit ? limit - used : 0;
    if (limit < memory->total_bytes) memory->total_bytes = limit;
    if (left < memory->free_bytes) memory->free_bytes = left;
}

struct device_memory machine_memory(void) {
    char text[4096] = "";
    read_text("/proc", "meminfo", text, sizeof text);
    struct device_memory memory = {
        .total_bytes = number_after(text, "MemTotal:", 0) * 1024,
        .free_bytes = number_after(text, "MemAvailable:", 0) * 1024,
    };
    visit_groups("memory", limit_memory, &memory);
    return memory;
}

/* ---- processors ---- */

static bool allowed_processors(cpu_set_t *set) {
    CPU_ZERO(set);
    return sched_getaffinity(0, sizeof *set, set) == 0;
}

int machine_processors(void) {
    cpu_set_t set;
    long n = allowed_processors(&set) ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

/* Of the processors that a file lists ("0-3,8-11") only the first allowed one counts. */
static bool is_first_in(const char *folder, const char *list, int cpu, const cpu_set_t *set) {
    char text[256];
    if (!read_text(folder, list, text, sizeof text)) return true;
    char *rest = text;
    for (char *part; (part = strsep(&rest, ","));) {
        int first, last, n = sscanf(part, "%d-%d", &first, &last);
        if (n < 1) continue;
        for (int i = first; i <= (n == 2 ? last : first); i++)
            if (i >= 0 && i < CPU_SETSIZE && CPU_ISSET((size_t)i, set)) return i == cpu;
    }
    return true;
}

/* Of the hardware threads of a core. */
static bool is_first_of_core(int cpu, const cpu_set_t *set) {
    char folder[96];
    snprintf(folder, sizeof folder, "/sys/devices/system/cpu/cpu%d/topology", cpu);
    return is_first_in(folder, "thread_siblings_list", cpu, set);
}

uint64_t machine_cache_bytes(void) {
    char folder[96];
    cpu_set_t set;
    uint64_t bytes = 0;
    if (!allowed_processors(&set)) return 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET((size_t)cpu, &set)) continue;
        snprintf(folder, sizeof folder, "/sys/devices/system/cpu/cpu%d/cache/index3", cpu);
        if (is_first_in(folder, "shared_cpu_list", cpu, &set))
            bytes += read_number(folder, "size", 0) * 1024; /* "32768K" */
    }
    return bytes;
}

int machine_threads(void) {
    cpu_set_t set;
    int n_cores = 0;
    if (allowed_processors(&set)) {
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET((size_t)cpu, &set) && is_first_of_core(cpu, &set)) n_cores++;
    } else {
        n_cores = machine_processors();
    }
    double paid = n_cores;
    visit_groups("cpu", limit_processors, &paid);
    return paid >= 1 ? (int)paid : 1;
}

void machine_cpu_name(char *out, size_t n) {
    char brand[49] = "";
#if defined(__x86_64__) || defined(__i386__)
    unsigned words[12], highest = __get_cpuid_max(0x80000000, NULL);
    if (highest >= 0x80000004) {
        for (unsigned i = 0; i < 3; i++)
            __get_cpuid(0x80000002 + i, &words[i * 4], &words[i * 4 + 1], &words[i * 4 + 2],
                        &words[i * 4 + 3]);
        memcpy(brand, words, 48);
    }
#endif
    const char *start = brand + strspn(brand, " ");
    size_t length = strlen(start);
    while (length > 0 && start[length - 1] == ' ') length--;
    snprintf(out, n, "%.*s", length > 0 ? (int)length : 3, length > 0 ? start : "CPU");
}
