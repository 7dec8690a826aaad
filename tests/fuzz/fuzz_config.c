/* config.yaml: any bytes either set options that can be printed, or give a sentence with a place.
 */
#include "app/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    struct config c = {0};
    struct err err = {0};
    struct buf out = {0};
    if (config_defaults(&c, &err) != 0) abort();
    if (config_read_yaml(&c, (const char *)data, n, "f", &err) == 0) {
        config_print_all(&c, &out);
        if (out.failed) abort();
    } else if (err.kind != ERR_USAGE || strncmp(err.text, "f:", 2) != 0) {
        abort();
    }
    buf_release(&out);
    config_release(&c);
    return 0;
}
