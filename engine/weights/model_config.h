/*
 * A model as facts, not names: what config.json or GGUF metadata says, checked and normalised, so
 * that forward() asks "has it q/k norms?" and never "is it Qwen3?". Plain data.
 */
#pragma once

#include "engine/base/err.h"
#include "engine/base/json.h"
#include "kernels/ops.h"

#include <stdbool.h>
#include <stdint.h>

enum rope_scaling {
    ROPE_PLAIN,
    ROPE_LINEAR,      /* positions divided by factor */
    ROPE_YARN,        /* arXiv 2309.00071; static */
    ROPE_DYNAMIC_NTK, /* Qwen v1: the base grows with the prompt's length */
    ROPE_LLAMA3,      /* frequencies scaled by wavelength */
    ROPE_DIVISORS,    /* a divisor for each frequency (GGUF's rope_freqs tensor) */
};

struct model_config {
    char model_type[32]; /* "qwen", "qwen2", "qwen3", "llama" */
    char name[128];      /* for people: the folder's or general.name */
    int n_layers;        /* L */
    int hidden;          /* D */
    int ffn;             /* F (v1: half of intermediate_size) */
    int n_heads;         /* H */
    int n_kv_heads;      /* G */
    int head_size;       /* K */
    int vocab;           /* V: rows of the embedding, padding rows included */
    bool has_qkv_bias, has_o_bias;
    bool has_qk_norm;   /* RMSNorm over K on q and k before rotation */
    bool has_tied_head; /* the head is the embedding */
    float norm_eps;
    /* rotation */
    double rope_base;
    enum rope_scaling rope_scaling;
    double rope_factor;       /* linear, YaRN, llama3 */
    int rope_original_tokens; /* YaRN, llama3: trained length; NTK: seq_length */
    double yarn_beta_fast, yarn_beta_slow;
    double yarn_attention_factor; /* 0: 0.1 ln(factor) + 1 */
    bool yarn_is_exact;           /* the borders of its ramp are not rounded to whole pairs */
    double llama3_low_freq, llama3_high_freq;
    float rope_divisors[MAX_HEAD_SIZE / 2];
    bool rope_interleaved;  /* GGUF `llama`: q and k rows stored as adjacent pairs */
    int logn_tokens;        /* v1: 0 or seq_length */
    int sliding_window;     /* 0: none */
    int sliding_from_layer; /* layers >= this use the window */
    int trained_tokens;     /* context it was trained on */
    int max_tokens;         /* context with the scaling that the checkpoint asks for */
};

/* Defaults of sampling as the checkpoint (generation_config.json, GGUF) or its family has them. */
struct generation_defaults {
    bool is_from_file;
    bool do_sample;
    float temperature, top_p, min_p;
    int top_k;                /* 0: off */
    float repetition_penalty; /* 1: off */
    int32_t stop_ids[16];
    int n_stop_ids;
    char chat_format[16]; /* v1: "chatml", "raw"; else "" */
};

/* From a parsed config.json; names key, value and allowed range in errors. */
int model_config_from_json(struct model_config *c, const cJSON *json, struct err *err);

/* From a parsed generation_config.json (NULL: the family's published values). `config_json` may
 * hold eos_token_id where there is no generation config; may be NULL. */
int generation_defaults_from_json(struct generation_defaults *g, const cJSON *json,
                                  const cJSON *config_json, const struct model_config *c,
                                  struct err *err);

/* Cross checks that hold for both sources: heads divide, sizes within budgets, no zero. */
int model_config_check(const struct model_config *c, struct err *err);

/*
 * Rotary frequencies for a sequence whose prompt has n_prompt tokens: inv_freq [K/2] and the
 * factor on cos and sin. Only v1's NTK depends on n_prompt; rope_variant() numbers what it gives
 * (0, 1, …): sequences of different variants must not share cached keys.
 */
void rope_frequencies(const struct model_config *c, int n_prompt, float *inv_freq, float *scale);
int rope_variant(const struct model_config *c, int n_prompt);
