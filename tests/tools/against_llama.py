#!/usr/bin/env python3
"""Speeds beside llama.cpp's on the same files: both programs in turn, the medians of some rounds.

against_llama.py QWEN-CHAT LLAMA-BENCH STARTER.gguf Q4_K_M.gguf Q8_0.gguf BF16.gguf [ROUNDS [ROW ...]]

The last three are what make_bench_gguf.py writes. RUN in the environment: what stands before each
command, e.g. "taskset -c 0,1".
"""
import json
import os
import shlex
import statistics
import subprocess
import sys

# what, file, flags of both programs, are the flags llama-bench's too?
ROWS = [("starter", 0, "-p 512 -n 128 -r 2", True),
        ("0.5B q4_k_m", 1, "-p 512 -n 64 -r 2", True),
        ("0.5B q8_0", 2, "-p 0 -n 48 -r 3", True),
        ("0.5B bf16", 3, "-p 512 -n 32 -r 2", True),
        ("starter", 0, "-p 0 -n 64 -d 4096 -r 3", False),
        ("starter", 0, "-p 0 -n 128 -r 3 -npl 1,4", False)]


def bench(program, file, flags):
    command = shlex.split(os.environ.get("RUN", "")) + program + ["-m", file] + shlex.split(flags)
    done = subprocess.run(command + ["-t", "2", "-o", "json"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout)


def name(row):
    text = f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}"
    text += f" @ d{row['n_depth']}" if row.get("n_depth") else ""
    return text + (f" x{row['n_seqs']}" if row.get("n_seqs", 1) > 1 else "")


def middle(values):
    return f"{statistics.median(values):.4g} ({min(values):.4g} to {max(values):.4g})"


def main():
    ours, theirs, *files = sys.argv[1:7]
    rounds = int(sys.argv[7]) if len(sys.argv) > 7 else 5
    rows = [ROWS[int(i)] for i in sys.argv[8:]] or ROWS
    speeds, shares, roofs, ratios = {}, {}, {}, {}
    for _ in range(rounds):
        for what, file, flags, is_common in rows:
            now = {}
            for row in bench([ours, "bench"], files[file], flags):
                key = (what, name(row))
                now[key] = row["avg_ts"]
                speeds.setdefault(key, ([], []))[0].append(row["avg_ts"])
                if row["roof_share"] is not None:
                    shares.setdefault(key, []).append(row["roof_share"] * 100)
                roofs.setdefault(key, []).append(row["roof_bytes_per_second"] * 1e-9)
            for row in bench([theirs], files[file], flags) if is_common else []:
                key = (what, name(row))
                speeds[key][1].append(row["avg_ts"])
                ratios.setdefault(key, []).append(now[key] / row["avg_ts"])
    print("| work | ours, tok/s | llama.cpp, tok/s | ours over it | % of the roof | roof, GB/s |")
    print("|---|---|---|---|---|---|")
    for key, (mine, other) in speeds.items():
        cells = [" ".join(key), middle(mine), middle(other) if other else "",
                 middle(ratios[key]) if other else "",
                 middle(shares[key]) if key in shares else "", middle(roofs[key])]
        print("| " + " | ".join(cells) + " |")


main()
