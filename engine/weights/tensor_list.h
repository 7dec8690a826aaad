/*
 * The tensors that file headers list, before anybody asks what they are for. Names are copied and
 * owned by the list; data points into the maps.
 */
#pragma once

#include "engine/weights/checkpoint.h"

struct tensor_list {
    struct checkpoint_tensor *items;
    size_t n, capacity;
    const struct checkpoint_tensor **by_name; /* after tensor_list_index() */
};

void tensor_list_release(struct tensor_list *list);

/* A zeroed entry with that name; NULL: out of memory, err says so. */
struct checkpoint_tensor *tensor_list_add(struct tensor_list *list, const char *name, size_t n,
                                          struct err *err);

/* The entries from `first` on; NULL where there are none. */
struct checkpoint_tensor *tensor_list_from(struct tensor_list *list, size_t first);

/* Makes names searchable; nothing may be added afterwards. Refuses a name that is there twice. */
int tensor_list_index(struct tensor_list *list, struct err *err);
const struct checkpoint_tensor *tensor_list_find(const struct tensor_list *list, const char *name);

/* The product of the dimensions; false where it does not fit 64 bits. */
bool tensor_elements(const struct checkpoint_tensor *t, uint64_t *out);
