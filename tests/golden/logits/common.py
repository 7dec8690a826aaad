"""What the golden-logits scripts share: the file of expected logits, reading and writing
safetensors without a framework, and the tiny vocabularies.

expected/<case>.bin, little endian:

    char[8] "QGOLDEN1"
    i32 vocab, n_prompts
    per prompt:
        i32 n_tokens, n_answer, n_positions
        f32 own_worst, own_mean      error of the oracle's own 16-bit run; 0: none was made
        i32 tokens[n_tokens]
        i32 answer[n_answer]         the greedy continuation
        i32 positions[n_positions]   ascending; position p is the logits after token p of
                                     tokens + answer
        f32 logits[n_positions][vocab]

The error at a position is max |a - b| / max |b|, b being the float32 logits; `worst` and `mean` are
over the positions of a prompt.
"""

import base64
import json
import pathlib
import struct

import numpy as np

HERE = pathlib.Path(__file__).parent
CHECKPOINTS = HERE / "checkpoints"
EXPECTED = HERE / "expected"
N_ANSWER = 16

# The best logit leads by this share of the largest: a continuation must not hang on rounding.
MIN_LEAD = 1e-3


# ---- expected logits -------------------------------------------------------------------------


def stored_positions(n_tokens, n_most=20):
    """Positions whose logits are kept: ends of the prompt, some between, some of the answer."""
    inside = np.unique(np.linspace(0, n_tokens - 1, min(n_tokens, n_most - 3)).round().astype(int))
    return [int(p) for p in inside] + [n_tokens, n_tokens + 7, n_tokens + N_ANSWER - 2]


def errors(a, b):
    """Of logits a against b, per position."""
    return np.abs(a - b).max(axis=-1) / np.abs(b).max(axis=-1)


def write_expected(case, vocab, prompts):
    EXPECTED.mkdir(exist_ok=True)
    with open(EXPECTED / f"{case}.bin", "wb") as f:
        f.write(b"QGOLDEN1" + struct.pack("<2i", vocab, len(prompts)))
        for p in prompts:
            assert p["logits"].shape == (len(p["positions"]), vocab)
            f.write(struct.pack("<3i", len(p["tokens"]), len(p["answer"]), len(p["positions"])))
            f.write(struct.pack("<2f", *p["own"]))
            for key in ("tokens", "answer", "positions"):
                f.write(np.asarray(p[key], "<i4").tobytes())
            f.write(p["logits"].astype("<f4").tobytes())


def read_expected(case):
    data = (EXPECTED / f"{case}.bin").read_bytes()
    assert data[:8] == b"QGOLDEN1"
    vocab, n_prompts = struct.unpack_from("<2i", data, 8)
    at, prompts = 16, []
    for _ in range(n_prompts):
        n_tokens, n_answer, n_positions = struct.unpack_from("<3i", data, at)
        own = struct.unpack_from("<2f", data, at + 12)
        at += 20
        row = {"own": own}
        for key, n in (("tokens", n_tokens), ("answer", n_answer), ("positions", n_positions)):
            row[key] = np.frombuffer(data, "<i4", n, at)
            at += 4 * n
        row["logits"] = np.frombuffer(data, "<f4", n_positions * vocab, at).reshape(-1, vocab)
        at += 4 * n_positions * vocab
        prompts.append(row)
    assert at == len(data)
    return vocab, prompts


def golden_prompts(case, n_ids, lengths, run, run_16bit=None):
    """Random prompts of the given lengths with a continuation that rounding cannot turn.

    run(tokens, n_prompt) -> logits [len(tokens), V] in float32, as after a prompt of n_prompt
    tokens and the rest fed one by one; run_16bit the same in the checkpoint's own format.
    """
    rng = np.random.default_rng(sum(map(ord, case)))
    prompts = []
    for n in lengths:
        for _ in range(50):
            tokens = rng.integers(0, n_ids, n).tolist()
            answer, lead = [], np.inf
            for _ in range(N_ANSWER):
                last = run(tokens + answer, n)[-1]
                order = np.argsort(last)
                lead = min(lead, (last[order[-1]] - last[order[-2]]) / np.abs(last).max())
                answer.append(int(order[-1]))
            if lead >= MIN_LEAD and max(answer) < n_ids:
                break
        else:
            raise SystemExit(f"{case}: no prompt of {n} tokens with a clear continuation")
        positions = stored_positions(n)
        logits = run(tokens + answer, n)[positions]
        own = (0.0, 0.0)
        if run_16bit:
            e = errors(run_16bit(tokens + answer, n)[positions], logits)
            own = (float(e.max()), float(e.mean()))
        print(f"{case:28} n {n:4} std {logits.std():5.2f} lead {lead:.4f} distinct "
              f"{len(set(answer)):2} own worst {own[0]:.2e} mean {own[1]:.2e}")
        prompts.append({"tokens": tokens, "answer": answer, "positions": positions,
                        "logits": logits, "own": own})
    return prompts


# ---- safetensors -----------------------------------------------------------------------------


def to_bf16(x):
    """float32 -> bfloat16 bits, to nearest even."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


ENCODE = {"F32": lambda x: x.astype("<f4"), "F16": lambda x: x.astype("<f2"), "BF16": to_bf16}


def write_safetensors(path, tensors, dtype):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, x in tensors.items():
        blob = ENCODE[dtype](x).tobytes()
        header[name] = {"dtype": dtype, "shape": list(x.shape),
                        "data_offsets": [at, at + len(blob)]}
        at += len(blob)
        blobs.append(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def read_safetensors(path):
    data = path.read_bytes()
    (n,) = struct.unpack_from("<Q", data)
    tensors = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name == "__metadata__":
            continue
        begin, end = t["data_offsets"]
        raw = data[8 + n + begin:8 + n + end]
        x = {"F32": lambda: np.frombuffer(raw, "<f4"), "F16": lambda: np.frombuffer(raw, "<f2"),
             "BF16": lambda: from_bf16(np.frombuffer(raw, "<u2"))}[t["dtype"]]()
        tensors[name] = x.astype(np.float32).reshape(t["shape"])
    return tensors


def read_folder(folder):
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors.update(read_safetensors(path))
    return tensors


# ---- vocabularies ----------------------------------------------------------------------------

MERGES = """t h|th e|i n|e r|a n|r e|o n|a t|e n|o r|Ġ t|Ġ the|Ġ a|Ġ s|Ġ w|in g|e s|an d|Ġ o|o u|
            Ġ c|Ġ b|i s|i t|Ġ Ġ|ĠĠ ĠĠ|Ċ Ċ|ä ½|ä½ ł|å ¥|å¥ ½""".replace("\n", "").split("|")
MERGES = [m.strip() for m in MERGES]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
N_EXTRA_V1 = 205  # <|extra_0|> ... of Qwen v1


def byte_letters():
    """GPT-2's letters for the 256 bytes, in the order of their ids."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


def base_vocabulary():
    """Letters of the tokens, id order: the bytes, then a token per merge."""
    return [*byte_letters().values(), *(m.replace(" ", "") for m in MERGES)]


N_BASE = 256 + len(MERGES)
N_IDS = N_BASE + len(CHATML)
N_IDS_V1 = N_IDS + N_EXTRA_V1
EOS = N_BASE + 2  # <|im_end|>

QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def write_tokenizer_json(path, is_llama):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers as pre

    vocab = {letters: i for i, letters in enumerate(base_vocabulary())}
    t = Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in MERGES]))
    if is_llama:
        t.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True),
                                        pre.ByteLevel(add_prefix_space=False)])
    else:
        t.normalizer = normalizers.NFC()
        t.pre_tokenizer = pre.Sequence([pre.Split(Regex(QWEN2_PATTERN), "isolated"),
                                        pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    t.decoder = decoders.ByteLevel()
    t.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in CHATML])
    assert t.get_vocab_size() == N_IDS
    t.save(str(path))


def write_tiktoken(path):
    bytes_of = {letter: b for b, letter in byte_letters().items()}
    rows = [bytes(bytes_of[c] for c in letters) for letters in base_vocabulary()]
    path.write_bytes(b"".join(base64.b64encode(r) + b" %d\n" % i for i, r in enumerate(rows)))
