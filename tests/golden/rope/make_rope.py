#!/usr/bin/env python3
"""Writes rope.txt: rotary frequencies as others compute them, for tests/unit/test_model_config.c.

Plain, linear, YaRN and llama3: the functions of huggingface/transformers (5.x). v1's dynamic NTK:
the formula of the published modeling_qwen.py, written out below. YaRN rows have
max_position_embeddings = factor * original, where all versions of transformers agree; rows named
"written-*" are computed here, from the paper's formula with the factor as written.

A case is a line "name", a line with the config.json members as JSON, a line "n_prompt scale", and
a line with the frequencies.   python make_rope.py > rope.txt
"""
import json
import math

import torch
from transformers import LlamaConfig, Qwen2Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS


def base_config(head, **more):
    config = dict(model_type="qwen2", hidden_size=4 * head, intermediate_size=64, num_hidden_layers=2,
                  num_attention_heads=4, num_key_value_heads=2, vocab_size=64, rms_norm_eps=1e-6,
                  max_position_embeddings=32768, rope_theta=1000000.0)
    config.update(more)
    return config


def show(name, config, n_prompt, scale, freq):
    print(name)
    print(json.dumps(config))
    print(n_prompt, repr(float(scale)))
    print(" ".join("%.9g" % f for f in freq))


def plain(name, config):
    head = config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    freq = 1.0 / (config["rope_theta"] ** (torch.arange(0, head, 2).double() / head))
    show(name, config, 1, 1, freq.tolist())


def scaled(name, config):
    make = LlamaConfig if config["model_type"] == "llama" else Qwen2Config
    made = make(**{k: v for k, v in config.items() if k != "model_type"})
    kind = config["rope_scaling"].get("rope_type", config["rope_scaling"].get("type"))
    freq, scale = ROPE_INIT_FUNCTIONS[kind](made, "cpu")
    show(name, config, 1, scale, freq.tolist())


def written_yarn(name, config):
    s = config["rope_scaling"]
    d = config["hidden_size"] // config["num_attention_heads"]
    base, factor, trained = config["rope_theta"], s["factor"], s["original_max_position_embeddings"]

    def border(turns):
        return d * math.log(trained / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = max(math.floor(border(s.get("beta_fast", 32))), 0)
    high = min(math.ceil(border(s.get("beta_slow", 1))), d - 1)
    freq = []
    for i in range(d // 2):
        ramp = min(max((i - low) / (high - low), 0), 1)
        f = base ** (-2 * i / d)
        freq.append((1 - ramp) * f + ramp * f / factor)
    show(name, config, 1, 0.1 * math.log(factor) + 1, freq)


def ntk(name, head, base, seq_length, n):
    config = dict(model_type="qwen", hidden_size=4 * head, intermediate_size=64, num_hidden_layers=2,
                  num_attention_heads=4, kv_channels=head, vocab_size=64, layer_norm_epsilon=1e-6,
                  max_position_embeddings=8 * seq_length, seq_length=seq_length,
                  rotary_emb_base=base, use_dynamic_ntk=True, use_logn_attn=True, no_bias=True)
    alpha = max(2 ** math.ceil(math.log(n / seq_length, 2) + 1) - 1, 1)
    b = base * alpha ** (head / (head - 2))
    show(name, config, n, 1, [b ** (-2 * i / head) for i in range(head // 2)])


def main():
    plain("plain-64", base_config(64))
    plain("plain-128", base_config(128, rope_theta=10000.0))
    plain("plain-head-dim", base_config(64, head_dim=96))
    scaled("linear", base_config(64, rope_scaling={"type": "linear", "factor": 4.0}))
    scaled("yarn", base_config(128, max_position_embeddings=131072, rope_scaling={
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}))
    scaled("yarn-2", base_config(64, max_position_embeddings=65536, rope_scaling={
        "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32768}))
    scaled("yarn-betas", base_config(64, max_position_embeddings=4096, rope_theta=10000.0, rope_scaling={
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512,
        "beta_fast": 16.0, "beta_slow": 2.0}))
    scaled("yarn-attention", base_config(64, max_position_embeddings=131072, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
        "attention_factor": 1.25}))
    scaled("yarn-mscale", base_config(64, max_position_embeddings=131072, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
        "mscale": 1.0, "mscale_all_dim": 0.5}))
    scaled("yarn-exact", base_config(64, max_position_embeddings=131072, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768,
        "truncate": False}))
    scaled("yarn-short", base_config(64, max_position_embeddings=256, rope_theta=10000.0, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}))
    written_yarn("written-qwen3", base_config(128, max_position_embeddings=40960, rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}))
    written_yarn("written-qwen2.5", base_config(128, rope_scaling={
        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}))
    llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
              "original_max_position_embeddings": 8192}
    scaled("llama3", base_config(128, model_type="llama", rope_theta=500000.0,
                                 max_position_embeddings=131072, rope_scaling=llama3))
    scaled("llama3-32", base_config(64, model_type="llama", rope_theta=500000.0,
                                    max_position_embeddings=131072,
                                    rope_scaling=dict(llama3, factor=32.0)))
    for n in (1, 100, 256, 257, 512, 513, 1024, 1025, 2048):
        ntk("ntk-%d" % n, 64, 10000.0, 256, n)
    ntk("ntk-128", 128, 10000.0, 2048, 6000)


main()
