/* A growing list of tensors with a sorted index of their names. */
#include "engine/weights/tensor_list.h"

#include "engine/base/checked.h"
#include "engine/base/mem.h"

#include <stdlib.h>
#include <string.h>

static int compare_names(const void *a, const void *b) {
    const struct checkpoint_tensor *const *left = a, *const *right = b;
    return strcmp((*left)->name, (*right)->name);
}

void tensor_list_release(struct tensor_list *list) {
    for (size_t i = 0; i < list->n; i++) mem_free((char *)(uintptr_t)list->items[i].name);
    mem_free(list->items);
    mem_free(list->by_name);
    *list = (struct tensor_list){0};
}

struct checkpoint_tensor *tensor_list_add(struct tensor_list *list, const char *name, size_t n,
                                          struct err *err) {
    void *items = list->items;
    char *copy = mem_strndup(name, n);
    if (!copy || mem_grow(&items, &list->capacity, list->n + 1, sizeof *list->items) != 0) {
        mem_free(copy);
        err_memory(err, sizeof *list->items, "the list of tensors");
        return NULL;
    }
    list->items = items;
    struct checkpoint_tensor *t = &list->items[list->n++];
    *t = (struct checkpoint_tensor){.name = copy};
    return t;
}

struct checkpoint_tensor *tensor_list_from(struct tensor_list *list, size_t first) {
    return first < list->n ? &list->items[first] : NULL;
}

int tensor_list_index(struct tensor_list *list, struct err *err) {
    size_t bytes = list->n * sizeof *list->by_name;
    list->by_name = mem_alloc(bytes);
    if (!list->by_name) return err_memory(err, bytes, "the index of tensors");
    for (size_t i = 0; i < list->n; i++) list->by_name[i] = &list->items[i];
    qsort(list->by_name, list->n, sizeof *list->by_name, compare_names);
    for (size_t i = 1; i < list->n; i++) {
        if (strcmp(list->by_name[i - 1]->name, list->by_name[i]->name) != 0) continue;
        return err_set(err, ERR_MODEL, "tensor '%.80s' is there twice, each name may stand once",
                       list->by_name[i]->name);
    }
    return 0;
}

const struct checkpoint_tensor *tensor_list_find(const struct tensor_list *list, const char *name) {
    struct checkpoint_tensor key = {.name = name};
    const struct checkpoint_tensor *at = &key;
    const struct checkpoint_tensor **found =
        list->n ? bsearch(&at, list->by_name, list->n, sizeof *list->by_name, compare_names) : NULL;
    return found ? *found : NULL;
}

bool tensor_elements(const struct checkpoint_tensor *t, uint64_t *out) {
    *out = 1;
    for (int i = 0; i < t->n_dims; i++)
        if (!checked_mul(*out, t->dims[i], out)) return false;
    return true;
}
