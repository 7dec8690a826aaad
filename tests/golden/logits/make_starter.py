"""Writes starter.bin: what transformers predicts for starter.txt with the starter's real weights.

    python make_starter.py SmolLM2-135M-Instruct.Q4_1.gguf

The weights are dequantized to float32. starter.bin, little endian:

    char[8] "QSTARTER"
    i32 n_texts, n_kept (K)
    per text: i32 n_tokens, i32 tokens[n_tokens]
              per token, i.e. for what follows it: u16 ids[K] of the K likeliest, the best first;
              f32 logprob[K] of them; f32 logprob of all others together

KL divergences are taken over these K + 1 outcomes, so they are a lower bound of the whole, and
a close one: the K tokens hold nearly all of the mass (main() prints how much).
"""

import pathlib
import struct
import sys

import numpy as np
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models
from tokenizers import pre_tokenizers as pre

import gguf_files
from common import HERE

N_KEPT = 256
N_POSITIONS = 1000


def open_model(fields, tensors):
    config = transformers.LlamaConfig(
        vocab_size=fields["llama.vocab_size"], hidden_size=fields["llama.embedding_length"],
        intermediate_size=fields["llama.feed_forward_length"],
        num_hidden_layers=fields["llama.block_count"],
        num_attention_heads=fields["llama.attention.head_count"],
        num_key_value_heads=fields["llama.attention.head_count_kv"],
        max_position_embeddings=fields["llama.context_length"],
        rms_norm_eps=fields["llama.attention.layer_norm_rms_epsilon"],
        rope_theta=fields["llama.rope.freq_base"], tie_word_embeddings=True)
    assert config.rope_parameters["rope_theta"] == fields["llama.rope.freq_base"]
    config._attn_implementation = "eager"
    model = transformers.LlamaForCausalLM(config)
    state = {k: torch.tensor(v) for k, v in tensors.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and missing == ["lm_head.weight"], (missing, unexpected)
    model.tie_weights()
    return model.eval()


def open_tokenizer(fields):
    words = fields["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ")) for m in fields["tokenizer.ggml.merges"]]
    t = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
    t.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True),
                                    pre.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    control = [w for w, kind in zip(words, fields["tokenizer.ggml.token_type"]) if kind == 3]
    t.add_special_tokens([AddedToken(w, special=True, normalized=False) for w in control])
    return t


@torch.inference_mode()
def predictions(model, tokens):
    """([T, K] ids, [T, K + 1] log probabilities, loss); the best first, the rest last."""
    logprob = torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), dim=-1)
    kept, ids = logprob.topk(N_KEPT, dim=-1)
    rest = torch.logsumexp(logprob.scatter(1, ids, -torch.inf), dim=-1, keepdim=True)
    loss = -logprob[:-1].gather(1, torch.tensor(tokens[1:])[:, None]).mean().item()
    return ids.numpy(), torch.cat([kept, rest], dim=-1).float().numpy(), loss


def main():
    fields, tensors = gguf_files.read(pathlib.Path(sys.argv[1]))
    model, tokenizer = open_model(fields, tensors), open_tokenizer(fields)
    texts = (HERE / "starter.txt").read_text().split("%%\n")
    rows, left, masses = [], N_POSITIONS, []
    for text in texts:
        tokens = tokenizer.encode(text).ids[:left]
        left -= len(tokens)
        ids, logprob, loss = predictions(model, tokens)
        masses.append(1 - np.exp(logprob[:, -1]))
        lead = logprob[:, 0] - logprob[:, 1]
        print(f"{len(tokens):4} tokens, loss {loss:.2f}, closest lead {lead.min():.5f}")
        rows.append(struct.pack(f"<i{len(tokens)}i", len(tokens), *tokens))
        for i, l in zip(ids, logprob):
            rows.append(i.astype("<u2").tobytes() + l.astype("<f4").tobytes())
    print(f"{N_POSITIONS - left} positions; mass kept: {np.concatenate(masses).mean():.4f}")
    assert left == 0, "starter.txt is too short"
    (HERE / "starter.bin").write_bytes(
        b"QSTARTER" + struct.pack("<2i", len(texts), N_KEPT) + b"".join(rows))


if __name__ == "__main__":
    main()
