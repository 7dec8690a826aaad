"""GGUF names, the row order of `llama`, and reading a file back as Hugging Face tensors."""

import re

import gguf
import numpy as np

NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
HF_NAMES = {v: k for k, v in NAMES.items()}
ROPE_DIVISORS = "rope_freqs.weight"  # a Hugging Face folder has its config instead


def gguf_name(name):
    stem, end = name.rsplit(".", 1)
    if stem.startswith("model.layers."):
        _, _, layer, part = stem.split(".", 3)
        return f"blk.{layer}.{NAMES[part]}.{end}"
    return f"{NAMES[stem]}.{end}"


def hf_name(name):
    if name == ROPE_DIVISORS:
        return name
    stem, end = name.rsplit(".", 1)
    if stem.startswith("blk."):
        _, layer, part = stem.split(".", 2)
        return f"model.layers.{layer}.{HF_NAMES[part]}.{end}"
    return f"{HF_NAMES[stem]}.{end}"


def interleave(x, heads):
    """Rows (i, i + K/2) of each head become neighbours, as convert_hf_to_gguf stores `llama`."""
    return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def deinterleave(x, heads):
    return x.reshape(heads, -1, 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def files_of(path):
    """The file, or the parts of a split one whose first is <stem>-00001-of-n.gguf."""
    if path.exists():
        return [path]
    return sorted(path.parent.glob(f"{path.stem}-*-of-*.gguf"))


def read(path):
    """(metadata, Hugging Face name -> float32 tensor with rows in Hugging Face's order)."""
    fields, tensors = {}, {}
    for file in files_of(path):
        reader = gguf.GGUFReader(file)
        fields |= {k: f.contents() for k, f in reader.fields.items()}
        for t in reader.tensors:
            shape = tuple(int(n) for n in reversed(t.shape))
            x = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32).reshape(shape)
            tensors[t.name] = x
    arch = fields["general.architecture"]
    if arch == "llama":
        for name, x in tensors.items():
            if re.search(r"\.attn_[qk]\.", name):
                heads = fields[f"{arch}.attention.head_count{'_kv' if '.attn_k.' in name else ''}"]
                tensors[name] = deinterleave(x, heads)
    return fields, {hf_name(k): v for k, v in tensors.items()}
