/*
 * One safetensors file: u64 header length, JSON header, tensor bytes. Every rule of the format is
 * enforced: sorted offsets without hole or overlap, exact sizes, nothing behind the last byte, no
 * duplicate name, __metadata__ of strings only. Source: the README of huggingface/safetensors.
 */
#pragma once

#include "engine/weights/tensor_list.h"

/*
 * Adds the tensors of data[0..n) to `out`, which points into data afterwards. `name` is for
 * messages; `file` becomes checkpoint_tensor.file.
 */
int safetensors_parse(const unsigned char *data, size_t n, const char *name, int file,
                      struct tensor_list *out, struct err *err);
