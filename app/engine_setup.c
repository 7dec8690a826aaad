#include "app/engine_setup.h"

struct engine_options engine_setup(const struct config *config, const char *model) {
    return (struct engine_options){
        .model = model,
        .tokenizer = config->tokenizer,
        .template_name = config->template,
        .threads = (int)config->threads,
        .context_tokens = (int)config->context,
        .max_sequences = 1,
        .kv_format = FORMAT_F16,
        .is_exact = config->exact,
        .memory_bytes = config->memory,
        .device = config->device,
        .cuda_module = config->cuda_module,
        .gpu_memory_bytes = config->gpu_memory,
    };
}
