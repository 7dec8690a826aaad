"""Makes the golden ids: strings.bin, *.ids and the two small tokenizers beside this file.

    python3 tests/golden/tokens/make_golden.py QWEN_TIKTOKEN STARTER

strings.bin: of each string its length (varint) and bytes. *.ids: of each of the first strings the
ids of tokenizer_encode() as a count and ids (varints), then those of _with_added() in the same
way, or 0 where they are the same. Varints are LEB128.
"""

import json
import os
import sys

import tokenizers

import reference
from compare_random import later_points, marks_unknown_to_tokenizers
from strings import CHINESE, CODE, CONTRACTIONS, EMOJI, LOOKALIKES, SPACES, WORDS, Strings

HERE = os.path.dirname(os.path.abspath(__file__))
N_STRINGS, N_LATER, N_SMALL = 6000, 200, 3000


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def fixed_strings():
    """What must be among them, whatever the seed."""
    yield from ("", "Hello world", " Hello world", 'print("<|endoftext|>")', " 根", "\0", "\n" * 300)
    for part in (WORDS, CHINESE, CODE, EMOJI, SPACES, CONTRACTIONS, LOOKALIKES):
        yield from part
    for space in SPACES:
        yield from (space * 3, "a" + space + "b", space + "1", "x" + space * 2 + "y", "." + space)
    for mark in CONTRACTIONS:
        yield from ("I" + mark + "x", mark + "1")
    yield from ("x" * 95, "x" * 96, "x" * 97, "=" * 1000, "ab" * 500, "中" * 200, "😀" * 100, "1" * 99)


def make_strings(ranks, marks):
    strings = list(dict.fromkeys(fixed_strings()))
    made = Strings(20, ranks, without=marks)
    later = Strings(21, ranks, later=later_points(), without=marks)
    strings += [later.make() for _ in range(N_LATER)]
    while len(strings) < N_STRINGS:
        strings.append(made.make()[:300])
    return strings


def train_small(strings, pre_tokenizer, normalizer, first):
    """A byte-level BPE of 2,000 tokens; `first` are control tokens before the others."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=2000, special_tokens=first, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(strings, trainer)
    return json.loads(tokenizer.to_str())


def small_qwen(strings):
    pre = tokenizers.pre_tokenizers
    data = train_small(
        strings,
        pre.Sequence([
            pre.Split(tokenizers.Regex(reference.QWEN_PATTERN), "isolated"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ]),
        tokenizers.normalizers.NFC(),
        [],
    )  # fmt: skip
    first = len(data["model"]["vocab"])
    data["added_tokens"] = [
        {"id": first + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": special}
        for i, (text, special) in enumerate(reference.QWEN25_ADDED)
    ]  # fmt: skip
    data["decoder"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                       "use_regex": False}  # fmt: skip
    return data


def small_smollm(strings):
    pre = tokenizers.pre_tokenizers
    data = train_small(
        strings,
        pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)]),
        None,
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"],
    )
    data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    return data


def write(name, data):
    with open(os.path.join(HERE, name), "wb") as file:
        file.write(data)


def list_ids(ids):
    return varint(len(ids)) + b"".join(map(varint, ids))


def write_ids(name, oracle, strings):
    out = bytearray()
    for text in strings:
        plain, added = oracle.encode(text), oracle.encode_with_added(text)
        out += list_ids(plain) + (list_ids(added) if added != plain else varint(0))
    write(name, bytes(out))


def main():
    ranks = reference.load_ranks(sys.argv[1])
    strings = make_strings(ranks, marks_unknown_to_tokenizers())
    encoded = [text.encode() for text in strings]
    write("strings.bin", b"".join(varint(len(e)) + e for e in encoded))
    write_ids("qwen25.ids", reference.FromJson(reference.qwen25_json(ranks, pairs=True)), strings)
    write_ids("qwen_v1.ids", reference.FromTiktoken(ranks), strings)
    write_ids("starter.ids", reference.open_starter(sys.argv[2]), strings)
    for name, make in (("small_qwen", small_qwen), ("small_smollm", small_smollm)):
        data = make(strings)
        text = json.dumps(data, ensure_ascii=False, indent=None)
        write(name + ".json", text.encode())
        write_ids(name + ".ids", reference.FromJson(data), strings[:N_SMALL])


if __name__ == "__main__":
    main()
