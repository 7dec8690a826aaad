#!/usr/bin/env python3
"""A checkpoint of some shape with random bf16 weights, for measurements: config.json, shards of
safetensors as published ones are cut, and a tokenizer where one is given.

    make_checkpoint.py tests/shapes/qwen2.5-7b FOLDER [TOKENIZER_FILE] [--layers N]

The values are random within two powers of 4 or so of a scale that keeps a pass finite; some MB of
them are repeated. Needs nothing but Python.
"""
import json, math, os, shutil, sys
from concurrent.futures import ThreadPoolExecutor

SHARD = 4 << 30
BLOCK = 32 << 20


def tensors(c):
    hidden, ffn, vocab = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    size = c.get("head_dim", hidden // c["num_attention_heads"])
    q, kv = c["num_attention_heads"] * size, c["num_key_value_heads"] * size
    yield "model.embed_tokens.weight", [vocab, hidden]
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", [hidden]
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            yield layer + f"self_attn.{name}_proj.weight", [rows, hidden]
            if c["model_type"] == "qwen2":
                yield layer + f"self_attn.{name}_proj.bias", [rows]
            elif name != "v":
                yield layer + f"self_attn.{name}_norm.weight", [size]
        yield layer + "self_attn.o_proj.weight", [hidden, q]
        yield layer + "post_attention_layernorm.weight", [hidden]
        for name in ("gate", "up"):
            yield layer + f"mlp.{name}_proj.weight", [ffn, hidden]
        yield layer + "mlp.down_proj.weight", [hidden, ffn]
    yield "model.norm.weight", [hidden]
    if not c.get("tie_word_embeddings"):
        yield "lm_head.weight", [vocab, hidden]


def random_block(hidden):
    """bf16: sign and the upper 7 bits of the exponent in one byte, which has two values here; the
    last bit of the exponent and 7 of the fraction in the other, which is random."""
    exponent = 127 + math.floor(math.log2(hidden ** -0.5)) - 1
    high = bytes((i & 0x80) | exponent >> 1 for i in range(256))
    block = bytearray(BLOCK)
    block[0::2] = os.urandom(BLOCK // 2)
    block[1::2] = os.urandom(BLOCK // 2).translate(high)
    return bytes(block)


def write(path, header, size, block):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.write(fd, len(text).to_bytes(8, "little") + text)
    begin = 8 + len(text)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: os.pwrite(fd, block[: size - at], begin + at),
                      range(0, size, len(block))))
    os.close(fd)


def main():
    arguments = sys.argv[1:]
    config = json.load(open(os.path.join(arguments[0], "config.json")))
    folder = arguments[1]
    if "--layers" in arguments:
        config["num_hidden_layers"] = int(arguments[arguments.index("--layers") + 1])
        config.pop("layer_types", None)
    os.makedirs(folder, exist_ok=True)
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    shards, size = [{}], 0
    for name, shape in tensors(config):
        bytes = 2 * math.prod(shape)
        if size and size + bytes > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = {"dtype": "BF16", "shape": shape, "data_offsets": [size, size + bytes]}
        size += bytes
    block, where = random_block(config["hidden_size"]), {}
    for i, header in enumerate(shards):
        name = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write(os.path.join(folder, name), header, max(t["data_offsets"][1] for t in header.values()),
              block)
        where.update({tensor: name for tensor in header})
    json.dump({"metadata": {}, "weight_map": where},
              open(os.path.join(folder, "model.safetensors.index.json"), "w"))
    if len(arguments) > 2 and not arguments[2].startswith("--"):
        shutil.copy(arguments[2], folder)


main()
