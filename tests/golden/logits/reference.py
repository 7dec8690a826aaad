"""The model in numpy, float64, written from its definition and independent of transformers.

    python reference.py            checks expected/ of every case; prints a row each
    python reference.py --mutate   shows that expected/ notices each fact of the model left out

It reads the same files as the engine: config.json and safetensors, or GGUF with its metadata.
Sources: Qwen (arXiv 2309.16609), Qwen2 (2407.10671), Qwen3 (2505.09388), RoFormer (2104.09864),
YaRN (2309.00071), GQA (2305.13245), the published modeling_qwen.py for v1's NTK and logn.
"""

import json
import math
import sys

import numpy as np

import gguf_files
from cases import GGUF, HF, without_old_keys
from common import CHECKPOINTS, errors, read_expected, read_folder

# float32 runs differ from float64 by rounding alone; the engine's bound is 1e-4.
BOUND = 5e-5


# ---- the model as facts ----------------------------------------------------------------------


def facts_from_config(c):
    """config.json of any family, either spelling."""
    c = without_old_keys(c)
    is_v1 = c["model_type"] == "qwen"
    heads = c["num_attention_heads"]
    rope = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
    return {
        "layers": c["num_hidden_layers"], "heads": heads,
        "kv_heads": c.get("num_key_value_heads", heads),
        "head_dim": c.get("head_dim") or c.get("kv_channels") or c["hidden_size"] // heads,
        "eps": c.get("rms_norm_eps", c.get("layer_norm_epsilon")),
        "base": c.get("rope_theta") or rope.get("rope_theta") or c.get("rotary_emb_base"),
        "scaling": rope.get("rope_type", rope.get("type", "default")), "rope": rope,
        "ntk": c["seq_length"] if is_v1 and c["use_dynamic_ntk"] else 0,
        "logn": c["seq_length"] if is_v1 and c["use_logn_attn"] else 0,
        "window": c["sliding_window"] if c.get("use_sliding_window") else 0,
        "window_from": c.get("max_window_layers", 0),
    }


def facts_from_gguf(fields):
    arch = fields["general.architecture"]

    def get(key, default=None):
        return fields.get(f"{arch}.{key}", default)
    heads = get("attention.head_count")
    return {
        "layers": get("block_count"), "heads": heads,
        "kv_heads": get("attention.head_count_kv", heads),
        "head_dim": get("attention.key_length", get("embedding_length") // heads),
        "eps": get("attention.layer_norm_rms_epsilon"), "base": get("rope.freq_base"),
        "scaling": get("rope.scaling.type", "default"),
        "rope": {"factor": get("rope.scaling.factor"),
                 "original_max_position_embeddings": get("rope.scaling.original_context_length")},
        "ntk": 0, "logn": 0, "window": 0, "window_from": 0,
    }


def named_as_v2(w, facts):
    """Qwen v1's tensors under the names of its successors: c_attn split, w2 is the gate."""
    if "transformer.wte.weight" not in w:
        return w
    out = {"model.embed_tokens.weight": w["transformer.wte.weight"],
           "model.norm.weight": w["transformer.ln_f.weight"], "lm_head.weight": w["lm_head.weight"]}
    parts = {"ln_1": "input_layernorm", "attn.c_proj": "self_attn.o_proj",
             "ln_2": "post_attention_layernorm", "mlp.w2": "mlp.gate_proj", "mlp.w1": "mlp.up_proj",
             "mlp.c_proj": "mlp.down_proj"}
    for i in range(facts["layers"]):
        old, new = f"transformer.h.{i}.", f"model.layers.{i}."
        for a, b in parts.items():
            out[f"{new}{b}.weight"] = w[f"{old}{a}.weight"]
        for end in ("weight", "bias"):
            for name, part in zip("qkv", np.split(w[f"{old}attn.c_attn.{end}"], 3)):
                out[f"{new}self_attn.{name}_proj.{end}"] = part
    return out


def load(case):
    if case in GGUF:
        fields, w = gguf_files.read(CHECKPOINTS / f"{case}.gguf")
        facts = facts_from_gguf(fields)
        if gguf_files.ROPE_DIVISORS in w:
            facts |= {"scaling": "divided", "rope": w.pop(gguf_files.ROPE_DIVISORS)}
    else:
        facts = facts_from_config(json.loads((CHECKPOINTS / case / "config.json").read_text()))
        w = read_folder(CHECKPOINTS / case)
    w = named_as_v2(w, facts)
    return facts, {k: v.astype(np.float64) for k, v in w.items()}


# ---- the model -------------------------------------------------------------------------------


def inverse_frequencies(f, n_prompt):
    """([K/2] rotary frequencies, factor on cos and sin)."""
    d, base, rope = f["head_dim"], f["base"], f["rope"]
    if f["ntk"]:
        alpha = max(2 ** math.ceil(math.log2(n_prompt / f["ntk"]) + 1) - 1, 1)
        base = base * alpha ** (d / (d - 2))
    i = np.arange(d // 2)
    plain = base ** (-2.0 * i / d)
    if f["scaling"] == "divided":
        return plain / rope, 1.0
    if f["scaling"] == "linear":
        return plain / rope["factor"], 1.0
    if f["scaling"] == "yarn":
        def dim_of(rotations):
            length = rope["original_max_position_embeddings"]
            return d * math.log(length / (rotations * 2 * math.pi)) / (2 * math.log(base))
        low = max(math.floor(dim_of(32)), 0)
        high = min(math.ceil(dim_of(1)), d - 1)
        keep = 1 - np.clip((i - low) / max(high - low, 1e-3), 0, 1)
        factor = rope["factor"]
        return plain * keep + plain / factor * (1 - keep), 0.1 * math.log(factor) + 1
    if f["scaling"] == "llama3":
        turns = rope["original_max_position_embeddings"] * plain / (2 * math.pi)
        low, high = rope["low_freq_factor"], rope["high_freq_factor"]
        keep = np.clip((turns - low) / (high - low), 0, 1)
        return plain * keep + plain / rope["factor"] * (1 - keep), 1.0
    assert f["scaling"] == "default", f["scaling"]
    return plain, 1.0


def rms_norm(x, weight, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight


def rotate(x, cos, sin):
    """x [T, heads, K]; pairs (i, i + K/2)."""
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attention(f, q, k, v, window):
    """q [T, H, K], k and v [T, G, K] -> [T, H K]"""
    t = len(q)
    k, v = (np.repeat(x, f["heads"] // f["kv_heads"], axis=1) for x in (k, v))
    scores = np.einsum("thk,shk->hts", q, k) / math.sqrt(f["head_dim"])
    distance = np.arange(t)[:, None] - np.arange(t)[None, :]
    seen = (distance >= 0) & ((distance < window) if window else True)
    scores = np.where(seen, scores, -np.inf)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    return np.einsum("hts,shk->thk", p, v).reshape(t, -1)


def forward(f, w, tokens, n_prompt):
    """Logits [T, V] of a sequence whose prompt had n_prompt tokens."""
    def linear(x, name):
        y = x @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    t = len(tokens)
    inv_freq, rope_scale = inverse_frequencies(f, n_prompt)
    angles = np.arange(t)[:, None, None] * inv_freq
    cos, sin = np.cos(angles) * rope_scale, np.sin(angles) * rope_scale
    logn = np.ones(t)
    if f["logn"]:
        logn = np.maximum(np.log(np.arange(1, t + 1)) / math.log(f["logn"]), 1)
    x = w["model.embed_tokens.weight"][tokens]
    for i in range(f["layers"]):
        at = f"model.layers.{i}."
        h = rms_norm(x, w[at + "input_layernorm.weight"], f["eps"])
        q, k, v = (linear(h, f"{at}self_attn.{name}_proj").reshape(t, -1, f["head_dim"])
                   for name in "qkv")
        if at + "self_attn.q_norm.weight" in w:
            q = rms_norm(q, w[at + "self_attn.q_norm.weight"], f["eps"])
            k = rms_norm(k, w[at + "self_attn.k_norm.weight"], f["eps"])
        q, k = rotate(q, cos, sin) * logn[:, None, None], rotate(k, cos, sin)
        window = f["window"] if i >= f["window_from"] else 0
        x = x + linear(attention(f, q, k, v, window), at + "self_attn.o_proj")
        h = rms_norm(x, w[at + "post_attention_layernorm.weight"], f["eps"])
        gate = linear(h, at + "mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, at + "mlp.up_proj"),
                       at + "mlp.down_proj")
    x = rms_norm(x, w["model.norm.weight"], f["eps"])
    return x @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T


# ---- checks ----------------------------------------------------------------------------------


def worst_error(case, facts, w):
    worst = 0.0
    for p in read_expected(case)[1]:
        tokens = np.concatenate([p["tokens"], p["answer"]])
        logits = forward(facts, w, tokens, len(p["tokens"]))
        answer = logits[len(p["tokens"]) - 1:-1].argmax(axis=-1)
        if facts.get("is_whole", True):
            assert (answer == p["answer"]).all(), case
        worst = max(worst, errors(logits[p["positions"]], p["logits"]).max())
    return worst


# What a careless engine might leave out: name, does the case have it, how to take it away.
MUTATIONS = [
    ("no NTK", lambda f, w: f["ntk"], lambda f, w: f.update(ntk=0)),
    ("no logn", lambda f, w: f["logn"], lambda f, w: f.update(logn=0)),
    ("no rope scaling", lambda f, w: f["scaling"] != "default",
     lambda f, w: f.update(scaling="default")),
    ("no window", lambda f, w: f["window"], lambda f, w: f.update(window=0)),
    ("window in all layers", lambda f, w: f["window"], lambda f, w: f.update(window_from=0)),
    ("window one longer", lambda f, w: f["window"], lambda f, w: f.update(window=f["window"] + 1)),
    ("base 1 % off", lambda f, w: True, lambda f, w: f.update(base=f["base"] * 1.01)),
    ("eps 1e-3", lambda f, w: True, lambda f, w: f.update(eps=1e-3)),
] + [
    (f"no {part}", lambda f, w, part=part: any(part in k for k in w),
     lambda f, w, part=part: [w.update({k: v * 0}) for k, v in w.items() if part in k])
    for part in ("q_proj.bias", "k_proj.bias", "v_proj.bias", "o_proj.bias")
] + [
    (f"{part} of ones", lambda f, w, part=part: any(part in k for k in w),
     lambda f, w, part=part: [w.update({k: v * 0 + 1}) for k, v in w.items() if part in k])
    for part in ("q_norm", "k_norm", "input_layernorm", "model.norm")
]


def mutate(case, facts, w):
    for name, applies, apply in MUTATIONS:
        if not applies(facts, w):
            continue
        f, changed = dict(facts, is_whole=False), dict(w)
        apply(f, changed)
        error = worst_error(case, f, changed)
        print(f"{case:26} {name:22} {error:.1e}")
        assert error > 1e-3, f"{case} does not notice: {name}"


def main():
    for case in [*HF, *GGUF]:
        facts, w = load(case)
        if "--mutate" in sys.argv:
            mutate(case, facts, w)
            continue
        error = worst_error(case, facts, w)
        print(f"{case:26} {error:.1e}")
        assert error < BOUND, case


if __name__ == "__main__":
    main()
