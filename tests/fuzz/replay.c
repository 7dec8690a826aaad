/* main() of a fuzz target in builds without libFuzzer: runs each file of the given folders once. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return perror(path), -1;
    uint8_t *data = malloc(1 << 24);
    size_t n = data ? fread(data, 1, 1 << 24, file) : 0;
    fclose(file);
    /* an exact copy, so that a sanitizer sees a read past the end */
    uint8_t *exact = malloc(n ? n : 1);
    for (size_t i = 0; exact && i < n; i++) exact[i] = data[i];
    if (exact) LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    free(data);
    return 0;
}

int main(int argc, char **argv) {
    int n_files = 0;
    for (int i = 1; i < argc; i++) {
        struct dirent **entries;
        int n = scandir(argv[i], &entries, NULL, alphasort);
        if (n < 0) return perror(argv[i]), 1;
        for (int k = 0; k < n; k++) {
            char path[4096];
            struct stat st;
            snprintf(path, sizeof path, "%s/%s", argv[i], entries[k]->d_name);
            free(entries[k]);
            if (stat(path, &st) != 0 || !S_ISREG(st.st_mode)) continue;
            if (replay(path) != 0) return 1;
            n_files++;
        }
        free(entries);
    }
    printf("replayed %d files\n", n_files);
    return n_files > 0 ? 0 : 1;
}
