#!/usr/bin/env python3
"""Writes a GGUF file of a Qwen2 shape with random weights, for speeds beside other programs, which
cannot run a config.json alone as `qwen-chat bench --random-weights` can.

make_bench_gguf.py VOCABULARY.gguf CONFIG.json q4_k_m|q8_0|bf16 OUT.gguf

VOCABULARY.gguf lends its tokenizer (llama.cpp's models/ggml-vocab-qwen2.gguf). The mix is that of
engine/weights/random_weights.c. Blocks repeat after some thousands: nothing here depends on values.
"""
import json
import random
import struct
import sys

PERIOD = 4099  # blocks, a prime
TYPES = {"f32": (0, 1, 4), "bf16": (30, 1, 2), "q8_0": (8, 32, 34), "q5_0": (6, 32, 22),
         "q4_k": (12, 256, 144), "q6_k": (14, 256, 210)}  # number, values and bytes of a block
UINT32, FLOAT32, STRING, ARRAY = 4, 6, 8, 9
FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def skip_value(data, kind, at):
    if kind == STRING:
        return at + 8 + struct.unpack_from("<Q", data, at)[0]
    if kind == ARRAY:
        kind, n = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(n):
            at = skip_value(data, kind, at)
        return at
    return at + FIXED[kind]


def tokenizer_pairs(path):
    """The pairs named tokenizer.*, as they are, and how many tokens they list."""
    data = open(path, "rb").read()
    n_pairs = struct.unpack_from("<Q", data, 16)[0]
    at, out, n_tokens = 24, [], 0
    for _ in range(n_pairs):
        begin = at
        length = struct.unpack_from("<Q", data, at)[0]
        name = data[at + 8:at + 8 + length].decode()
        at += 8 + length
        kind = struct.unpack_from("<I", data, at)[0]
        if name == "tokenizer.ggml.tokens":
            n_tokens = struct.unpack_from("<Q", data, at + 8)[0]
        at = skip_value(data, kind, at + 4)
        if name.startswith("tokenizer."):
            out.append(data[begin:at])
    return out, n_tokens


def text(s):
    return struct.pack("<Q", len(s.encode())) + s.encode()


def pair(name, value):
    if isinstance(value, str):
        return text(name) + struct.pack("<I", STRING) + text(value)
    kind = "<If" if isinstance(value, float) else "<II"
    return text(name) + struct.pack(kind, FLOAT32 if isinstance(value, float) else UINT32, value)


def random_block(kind, r):
    half = struct.pack("<e", 0.02 / {"q8_0": 50, "q5_0": 8, "q4_k": 200, "q6_k": 400}.get(kind, 1))
    if kind == "bf16":
        return struct.pack("<f", r.gauss(0, 0.02))[2:]
    if kind == "q8_0":
        return half + r.randbytes(32)
    if kind == "q5_0":
        return half + r.randbytes(20)
    if kind == "q4_k":
        return half + half + r.randbytes(140)
    return r.randbytes(208) + half  # q6_k


def is_better_layer(layer, n_layers):
    eighth = n_layers // 8
    return layer < eighth or layer >= 7 * n_layers // 8 or (layer - eighth) % 3 == 2


def pick(mix, name, layer, n_layers, cols):
    kind = mix
    if mix == "q4_k_m":
        sensitive = name in ("attn_v", "ffn_down") and is_better_layer(layer, n_layers)
        kind = "q6_k" if sensitive or name == "token_embd" else "q4_k"
        if cols % 256:
            kind = {"q4_k": "q5_0", "q6_k": "q8_0"}[kind]
    return kind


def tensors_of(c, mix):
    """name, dimensions (the row's length first), kind"""
    d, ffn, n = c["hidden_size"], c["intermediate_size"], c["num_hidden_layers"]
    kv = d // c["num_attention_heads"] * c["num_key_value_heads"]
    out = [("token_embd.weight", (d, c["vocab_size"]), pick(mix, "token_embd", 0, n, d)),
           ("output_norm.weight", (d,), "f32")]
    for i in range(n):
        for name, rows, cols in (("attn_q", d, d), ("attn_k", kv, d), ("attn_v", kv, d),
                                 ("attn_output", d, d), ("ffn_gate", ffn, d), ("ffn_up", ffn, d),
                                 ("ffn_down", d, ffn)):
            out.append((f"blk.{i}.{name}.weight", (cols, rows), pick(mix, name, i, n, cols)))
            if name in ("attn_q", "attn_k", "attn_v"):
                out.append((f"blk.{i}.{name}.bias", (rows,), "f32"))
        out += [(f"blk.{i}.{name}.weight", (d,), "f32") for name in ("attn_norm", "ffn_norm")]
    return out


def main():
    vocabulary, config, mix, path = sys.argv[1:]
    c = json.load(open(config))
    pairs, n_tokens = tokenizer_pairs(vocabulary)
    c["vocab_size"] = n_tokens
    arch = c["model_type"]
    pairs = [pair("general.architecture", arch), pair("general.name", f"random {mix}"),
             pair(f"{arch}.context_length", c["max_position_embeddings"]),
             pair(f"{arch}.embedding_length", c["hidden_size"]),
             pair(f"{arch}.block_count", c["num_hidden_layers"]),
             pair(f"{arch}.feed_forward_length", c["intermediate_size"]),
             pair(f"{arch}.attention.head_count", c["num_attention_heads"]),
             pair(f"{arch}.attention.head_count_kv", c["num_key_value_heads"]),
             pair(f"{arch}.rope.freq_base", float(c["rope_theta"])),
             pair(f"{arch}.attention.layer_norm_rms_epsilon", float(c["rms_norm_eps"]))] + pairs
    tensors, offset, infos, sizes = tensors_of(c, mix), 0, [], []
    for name, dims, kind in tensors:
        number, values, bytes_ = TYPES[kind]
        size = dims[0] // values * bytes_ * (dims[1] if len(dims) > 1 else 1)
        infos.append(text(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *dims) +
                     struct.pack("<IQ", number, offset))
        sizes.append(size)
        offset += (size + 31) // 32 * 32
    r = random.Random(1)
    periods = {kind: b"".join(random_block(kind, r) for _ in range(PERIOD))
               for kind in {t[2] for t in tensors if t[2] != "f32"}}
    with open(path, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)))
        out.write(b"".join(pairs) + b"".join(infos))
        out.write(bytes(-out.tell() % 32))
        for (name, _, kind), size in zip(tensors, sizes):
            if kind == "f32":
                one = struct.pack("<f", 0 if name.endswith("bias") else 1)
                out.write(one * (size // 4))
            else:
                whole, rest = divmod(size, len(periods[kind]))
                for _ in range(whole):
                    out.write(periods[kind])
                out.write(periods[kind][:rest])
            out.write(bytes(-size % 32))


main()
