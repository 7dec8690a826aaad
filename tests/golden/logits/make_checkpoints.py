"""Writes checkpoints/: the tiny models of cases.py as Hugging Face folders and GGUF files."""

import json
import shutil

import gguf
import numpy as np

from cases import GGUF, HF, without_old_keys
from common import (CHATML, CHECKPOINTS, EOS, MERGES, N_BASE, base_vocabulary, write_safetensors,
                    write_tiktoken, write_tokenizer_json)
from gguf_files import ROPE_DIVISORS, gguf_name, interleave

# ---- weights ---------------------------------------------------------------------------------


class Draw:
    """Random weights of such sizes that attention chooses, every part counts and logits spread."""

    def __init__(self, case):
        self.rng = np.random.default_rng(sum(map(ord, case)) + 1)
        # in bf16 larger ones would drown everything else in the oracle's own rounding
        self.outlier = 10 if "bf16" in case else 40

    def matrix(self, rows, cols, gain=1.0):
        return (self.rng.standard_normal((rows, cols)) * gain / np.sqrt(cols)).astype(np.float32)

    def norm(self, n):
        return (1 + 0.3 * self.rng.standard_normal(n)).astype(np.float32)

    def bias(self, n, size=0.5):
        return (size * self.rng.standard_normal(n)).astype(np.float32)

    def k_bias(self, heads, head_dim):
        """With two outliers a head, as Qwen2.5 has them."""
        b = self.bias(heads * head_dim).reshape(heads, head_dim)
        for h in range(heads):
            where = self.rng.choice(head_dim, 2, replace=False)
            b[h, where] = self.rng.choice([-1, 1], 2) * self.outlier
        return b.reshape(-1)


def sizes(c):
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    return (hidden, heads, c.get("num_key_value_heads", heads),
            c.get("head_dim", c.get("kv_channels", hidden // heads)))


def weights_v2(case, c):
    """qwen2, qwen3 and llama."""
    d = Draw(case)
    hidden, heads, kv_heads, head_dim = sizes(c)
    ffn, vocab = c["intermediate_size"], c["vocab_size"]
    is_qwen2 = c["model_type"] == "qwen2"
    w = {"model.embed_tokens.weight": d.matrix(vocab, hidden, 2.0)}
    w["model.embed_tokens.weight"][N_BASE + len(CHATML):] *= 0.1
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        w[at + "input_layernorm.weight"] = d.norm(hidden)
        for name, rows in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            w[at + f"self_attn.{name}_proj.weight"] = d.matrix(rows * head_dim, hidden, 1.4)
        if is_qwen2 or c.get("attention_bias"):
            w[at + "self_attn.q_proj.bias"] = d.bias(heads * head_dim)
            w[at + "self_attn.k_proj.bias"] = d.k_bias(kv_heads, head_dim)
            w[at + "self_attn.v_proj.bias"] = d.bias(kv_heads * head_dim)
        if c["model_type"] == "qwen3":
            w[at + "self_attn.q_norm.weight"] = 1.4 * d.norm(head_dim)
            w[at + "self_attn.k_norm.weight"] = 1.4 * d.norm(head_dim)
        w[at + "self_attn.o_proj.weight"] = d.matrix(hidden, heads * head_dim)
        if c.get("attention_bias"):
            w[at + "self_attn.o_proj.bias"] = d.bias(hidden)
        w[at + "post_attention_layernorm.weight"] = d.norm(hidden)
        w[at + "mlp.gate_proj.weight"] = d.matrix(ffn, hidden, 1.4)
        w[at + "mlp.up_proj.weight"] = d.matrix(ffn, hidden)
        w[at + "mlp.down_proj.weight"] = d.matrix(hidden, ffn)
    w["model.norm.weight"] = d.norm(hidden)
    if not c["tie_word_embeddings"]:
        w["lm_head.weight"] = d.matrix(vocab, hidden, 2.0)
        w["lm_head.weight"][N_BASE + len(CHATML):] *= 0.1
    return w


def weights_v1(case, c):
    d = Draw(case)
    hidden, _, _, _ = sizes(c)
    ffn, vocab = c["intermediate_size"] // 2, c["vocab_size"]
    w = {"transformer.wte.weight": d.matrix(vocab, hidden, 2.0)}
    for i in range(c["num_hidden_layers"]):
        at = f"transformer.h.{i}."
        w[at + "ln_1.weight"] = d.norm(hidden)
        w[at + "attn.c_attn.weight"] = d.matrix(3 * hidden, hidden, 1.4)
        w[at + "attn.c_attn.bias"] = np.concatenate(
            [d.bias(hidden), d.k_bias(c["num_attention_heads"], c["kv_channels"]), d.bias(hidden)])
        w[at + "attn.c_proj.weight"] = d.matrix(hidden, hidden)
        w[at + "ln_2.weight"] = d.norm(hidden)
        w[at + "mlp.w1.weight"] = d.matrix(ffn, hidden)
        w[at + "mlp.w2.weight"] = d.matrix(ffn, hidden, 1.4)
        w[at + "mlp.c_proj.weight"] = d.matrix(hidden, ffn)
    w["transformer.ln_f.weight"] = d.norm(hidden)
    w["lm_head.weight"] = d.matrix(vocab, hidden, 2.0)
    return w


# ---- Hugging Face folders --------------------------------------------------------------------


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def write_shards(folder, tensors, dtype, n):
    if n == 1:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
        return
    names, where, total = list(tensors), {}, sum(x.size for x in tensors.values())
    share = -(-len(names) // n)
    for i in range(n):
        part = {k: tensors[k] for k in names[i * share:(i + 1) * share]}
        file = f"model-{i + 1:05}-of-{n:05}.safetensors"
        write_safetensors(folder / file, part, dtype)
        where |= dict.fromkeys(part, file)
    width = 4 if dtype == "F32" else 2
    write_json(folder / "model.safetensors.index.json",
               {"metadata": {"total_size": total * width},
                "weight_map": dict(sorted(where.items()))})


def write_folder(case, config, dtype, n_shards):
    folder = CHECKPOINTS / case
    folder.mkdir(parents=True)
    is_v1 = config["model_type"] == "qwen"
    write_json(folder / "config.json", config)
    tensors = weights_v1(case, without_old_keys(config)) if is_v1 else weights_v2(case, config)
    write_shards(folder, tensors, dtype, n_shards)
    if is_v1:
        write_tiktoken(folder / "qwen.tiktoken")
        write_json(folder / "generation_config.json",
                   {"chat_format": "chatml", "eos_token_id": N_BASE, "pad_token_id": N_BASE,
                    "max_window_size": 6144, "max_new_tokens": 512, "do_sample": True, "top_k": 0,
                    "top_p": 0.8, "transformers_version": "4.31.0"})
    else:
        write_tokenizer_json(folder / "tokenizer.json", config["model_type"] == "llama")
        write_json(folder / "generation_config.json",
                   {"bos_token_id": N_BASE, "do_sample": True, "eos_token_id": [EOS, N_BASE],
                    "pad_token_id": N_BASE, "temperature": 0.7, "top_k": 20, "top_p": 0.8,
                    "transformers_version": "4.40.1"})


# ---- GGUF ------------------------------------------------------------------------------------

def random_k_blocks(rng, kind, n, std):
    """n valid blocks of a K type whose values have about mean 0 and the given deviation.

    Random bits rather than a quantizer's: every field takes all its values.
    Q4_K, Q5_K: d, dmin (f16), 12 bytes of 6-bit scales and minima, high bits, low bits; a value is
    d * scale * q - dmin * min, so dmin = d * (largest q) / 2 and min ~ scale centre it.
    Q6_K: low bits, high bits, 16 signed scales, d; a value is d * scale * (q - 32).
    """
    size = {"Q4_K": 144, "Q5_K": 176, "Q6_K": 210}[kind]
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    spread = rng.uniform(0.8, 1.2, n)
    if kind == "Q6_K":
        scales = rng.integers(30, 128, (n, 16)) * rng.choice([-1, 1], (n, 16))
        blocks[:, 192:208] = scales.astype(np.int8).view(np.uint8)
        d = std * spread / (80 * 18.5)
        blocks[:, 208:210] = d.astype("<f2")[:, None].view(np.uint8)
        return blocks
    top = 15 if kind == "Q4_K" else 31
    scales = rng.integers(16, 64, (n, 8))
    minima = np.clip(scales + rng.integers(-1, 2, (n, 8)), 0, 63)
    blocks[:, 4:8] = scales[:, :4] | (scales[:, 4:] >> 4 << 6)
    blocks[:, 8:12] = minima[:, :4] | (minima[:, 4:] >> 4 << 6)
    blocks[:, 12:16] = (scales[:, 4:] & 15) | ((minima[:, 4:] & 15) << 4)
    d = std * spread / (40 * top * 0.3)
    blocks[:, 0:2] = d.astype("<f2")[:, None].view(np.uint8)
    blocks[:, 2:4] = (d * top / 2).astype("<f2")[:, None].view(np.uint8)
    return blocks


def encode(rng, x, kind):
    """(bytes as rows, GGUF type) of a matrix."""
    q = gguf.GGMLQuantizationType[kind]
    if kind in ("Q4_K", "Q5_K", "Q6_K"):
        blocks = random_k_blocks(rng, kind, x.size // 256, float(x.std()))
        return blocks.reshape(x.shape[0], -1), q
    return gguf.quants.quantize(x, q), q


def add_metadata(w, c):
    hidden, heads, kv_heads, head_dim = sizes(c)
    w.add_name("tiny")
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(hidden)
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv_heads)
    w.add_rope_freq_base(c["rope_theta"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    if c["model_type"] == "llama":
        w.add_vocab_size(c["vocab_size"])
        w.add_rope_dimension_count(head_dim)
    if c["model_type"] == "qwen3":
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if (c.get("rope_scaling") or {}).get("type") == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(c["rope_scaling"]["factor"])
        w.add_rope_scaling_orig_ctx_len(c["rope_scaling"]["original_max_position_embeddings"])


def add_vocabulary(w, c):
    tokens = base_vocabulary() + CHATML
    types = [gguf.TokenType.NORMAL] * N_BASE + [gguf.TokenType.CONTROL] * len(CHATML)
    padding = range(len(tokens), c["vocab_size"])
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm" if c["model_type"] == "llama" else "qwen2")
    w.add_token_list(tokens + [f"[PAD{i}]" for i in padding])
    w.add_token_types(types + [gguf.TokenType.UNUSED] * len(padding))
    w.add_token_merges(MERGES)
    w.add_eos_token_id(EOS)
    w.add_bos_token_id(N_BASE)


def rope_divisors(c):
    """Llama 3's scaling as convert_hf_to_gguf stores it: divisors of the rotary frequencies."""
    rope, (_, _, _, head_dim) = c["rope_scaling"], sizes(c)
    freq = c["rope_theta"] ** (-np.arange(0, head_dim, 2) / head_dim)
    turns = rope["original_max_position_embeddings"] * freq / (2 * np.pi)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / (keep + (1 - keep) / rope["factor"])).astype(np.float32)


def write_gguf(case, config, rules, n_files):
    tensors = weights_v2(case, config)
    _, heads, kv_heads, _ = sizes(config)
    rng = np.random.default_rng(len(case))
    path = CHECKPOINTS / f"{case}.gguf"
    split = {"split_max_tensors": -(-len(tensors) // n_files)} if n_files > 1 else {}
    w = gguf.GGUFWriter(path, config["model_type"], **split)
    add_metadata(w, config)
    add_vocabulary(w, config)
    if (config.get("rope_scaling") or {}).get("rope_type") == "llama3":
        w.add_tensor(ROPE_DIVISORS, rope_divisors(config))
    for name, x in tensors.items():
        to = gguf_name(name)
        if config["model_type"] == "llama" and (".attn_q." in to or ".attn_k." in to):
            x = interleave(x, heads if ".attn_q." in to else kv_heads)
        if x.ndim == 1:
            w.add_tensor(to, x)
            continue
        kind = next(kind for part, kind in rules.items() if part in to)
        data, q = encode(rng, x, kind)
        w.add_tensor(to, data, raw_dtype=q)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    if CHECKPOINTS.exists():
        shutil.rmtree(CHECKPOINTS)
    CHECKPOINTS.mkdir()
    for case, (config, dtype, n_shards, _) in HF.items():
        write_folder(case, config, dtype, n_shards)
    for case, (config, rules, n_files, _) in GGUF.items():
        write_gguf(case, config, rules, n_files)


if __name__ == "__main__":
    main()
