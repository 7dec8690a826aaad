"""Compares the ids of random strings with those of Python's tokenizers and tiktoken.

    python3 tests/golden/tokens/compare_random.py TOKENIZE QWEN_TIKTOKEN STARTER [N] [SEED]

TOKENIZE is the program of tests/tools/tokenize.c. Ends with 1 at the first difference.
"""

import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata
from array import array

from tokenizers import normalizers

import reference
from strings import Strings

TABLE = os.path.join(os.path.dirname(__file__), "../../../engine/text/unicode.def")


def later_points():
    with open(TABLE) as lines:
        found = re.findall(r"UNICODE_(?:LETTER|NUMBER)\((\w+), (\w+)\)", lines.read())
    return {c for a, b in found for c in range(int(a, 16), int(b, 16) + 1)}


def marks_unknown_to_tokenizers():
    """The NFC of Python's tokenizers is that of Unicode 9: it does not reorder later marks."""
    nfc = normalizers.NFC()
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
    pairs = {m: [m + "\u0327", m + "\u0301", "\u0345" + m] for m in marks}
    return {
        m
        for m in marks
        if any(nfc.normalize_str(p) != unicodedata.normalize("NFC", p) for p in pairs[m])
    }


def run(program, tokenizer, mode, texts):
    data = b"".join(struct.pack("<I", len(t)) + t for t in texts)
    done = subprocess.run([program, tokenizer, mode], input=data, stdout=subprocess.PIPE, check=True)
    numbers = array("i", done.stdout)
    ids, at = [], 0
    for _ in texts:
        n = numbers[at]
        ids.append(numbers[at + 1 : at + 1 + n].tolist())
        at += 1 + n
    return ids


def compare(name, program, path, oracle, strings, n):
    texts = [strings.make() for _ in range(n)]
    encoded = [t.encode() for t in texts]
    for mode, encode in (("ids", oracle.encode), ("added", oracle.encode_with_added)):
        ours = run(program, path, mode, encoded)
        different = [i for i in range(n) if ours[i] != encode(texts[i])]
        print(f"{name}, {mode}: {n} strings, {len(different)} differ", flush=True)
        for i in different[:10]:
            print(f"  {texts[i]!r}\n    {ours[i]}\n    {encode(texts[i])}")
        if different:
            sys.exit(1)


def main():
    program, qwen_tiktoken, starter = sys.argv[1:4]
    n = int(sys.argv[4]) if len(sys.argv) > 4 else 100000
    seed = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    ranks = reference.load_ranks(qwen_tiktoken)
    qwen25 = reference.qwen25_json(ranks, pairs=True)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(qwen25, file, ensure_ascii=False)
        file.flush()
        marks = marks_unknown_to_tokenizers()
        rows = [
            ("Qwen2.5 tokenizer.json", file.name, reference.FromJson(qwen25), marks),
            ("Qwen v1 qwen.tiktoken", qwen_tiktoken, reference.FromTiktoken(ranks), ()),
            ("the starter's GGUF", starter, reference.open_starter(starter), ()),
        ]
        for name, path, oracle, without in rows:
            strings = Strings(seed, ranks, without=without)
            compare(name, program, path, oracle, strings, n)
            strings = Strings(seed, ranks, later=later_points(), without=without)
            compare(name + ", letters after Unicode 14", program, path, oracle, strings, n // 10)


if __name__ == "__main__":
    main()
