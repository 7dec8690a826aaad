"""Writes expected/ for the Qwen v1 cases with the published modeling_qwen.py, and the token ids
that its make_context gives for conversations (v1-contexts.bin).

    python make_expected_v1.py FOLDER

FOLDER holds modeling_qwen.py, configuration_qwen.py, tokenization_qwen.py and
qwen_generation_utils.py as Qwen-7B publishes them (README.md says which). They are imported from
there and are no part of this project.
"""

import importlib
import pathlib
import struct
import sys

import torch

from cases import HF, without_old_keys
from common import (CHECKPOINTS, EXPECTED, N_BASE, N_IDS_V1, golden_prompts, read_folder,
                    write_expected)

DEFAULT_SYSTEM = "You are a helpful assistant."  # of QWenLMHeadModel.chat

# (system, turns that are over, what the user says now)
CONVERSATIONS = [
    (DEFAULT_SYSTEM, [], "hello"),
    (DEFAULT_SYSTEM, [], "\n\n你好 the  end\n"),
    ("", [], "no system text"),
    (DEFAULT_SYSTEM, [], ""),
    ("Answer in rhyme.\n", [("hi", "Hello there!")], "and then?"),
    (DEFAULT_SYSTEM, [("a <|im_end|> in the text", "<|im_start|>user\nno"), ("", "\n")],
     "<|extra_0|>"),
]


def published(name):
    folder = pathlib.Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(folder.parent))
    return importlib.import_module(f"{folder.name}.{name}")


def load(case, config, dtype):
    config = without_old_keys(config) | {"use_flash_attn": False, "bf16": dtype == torch.bfloat16,
                                         "fp16": False, "fp32": dtype == torch.float32}
    config = published("configuration_qwen").QWenConfig(**config)
    model = published("modeling_qwen").QWenLMHeadModel(config)
    state = {k: torch.tensor(v) for k, v in read_folder(CHECKPOINTS / case).items()}
    model.load_state_dict(state, strict=True)
    model = model.to(dtype).eval()

    @torch.inference_mode()
    def run(tokens, n_prompt):
        """The prompt in one pass, then token by token: alpha stays that of the prompt."""
        ids = torch.tensor([tokens])
        out = model(ids[:, :n_prompt], use_cache=True)
        rows = [out.logits[0]]
        for i in range(n_prompt, len(tokens)):
            out = model(ids[:, i:i + 1], past_key_values=out.past_key_values, use_cache=True)
            rows.append(out.logits[0])
        return torch.cat(rows).float().numpy()
    return run


def tokenizer_of(case):
    """The published tokenizer over a tiny vocabulary: its special ids begin after that one."""
    module = published("tokenization_qwen")
    module.SPECIAL_TOKENS = tuple(enumerate((t for _, t in module.SPECIAL_TOKENS), start=N_BASE))
    return module.QWenTokenizer(str(CHECKPOINTS / case / "qwen.tiktoken"))


def write_contexts(case):
    """i32 n; per conversation: i32 n_texts, then system, question, answer, ..., question as i32
    n_bytes and bytes padded to 4; i32 n_ids, i32 ids."""
    tokenizer = tokenizer_of(case)
    make_context = published("qwen_generation_utils").make_context
    out = [b"QCONTEXT", struct.pack("<i", len(CONVERSATIONS))]
    for system, history, query in CONVERSATIONS:
        _, ids = make_context(tokenizer, query, history, system)
        texts = [system, *(text for turn in history for text in turn), query]
        out.append(struct.pack("<i", len(texts)))
        for text in texts:
            data = text.encode()
            out.append(struct.pack("<i", len(data)) + data + b"\0" * (-len(data) % 4))
        out.append(struct.pack(f"<{len(ids) + 1}i", len(ids), *ids))
    (EXPECTED / "v1-contexts.bin").write_bytes(b"".join(out))


def main():
    torch.set_num_threads(1)
    for case, (config, dtype, _, lengths) in HF.items():
        if config["model_type"] != "qwen":
            continue
        run = load(case, config, torch.float32)
        own = load(case, config, torch.bfloat16) if dtype == "BF16" else None
        vocab = without_old_keys(config)["vocab_size"]
        write_expected(case, vocab, golden_prompts(case, N_IDS_V1, lengths, run, own))
    write_contexts("qwen-v1-f32")


if __name__ == "__main__":
    main()
