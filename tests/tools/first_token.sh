#!/usr/bin/env bash
# How fast the program starts, and how much of the bench's speed a streamed answer keeps.
#
#   tests/tools/first_token.sh [PROGRAM [MODEL [TOKENS]]]
#
# From the start of the process to the first byte of the answer, for a raw prompt of about 20
# tokens, the best and the median of nine starts (STARTS: of so many); then the speed of an answer
# of TOKENS (128), in a pipe and on a terminal, as a share of the bench's tg behind the same prompt,
# before and after. On a GPU: QWEN_CHAT_DEVICE=cuda tests/tools/first_token.sh ...
set -euo pipefail
cd "$(dirname "$0")/../.."
program=${1:-build/qwen-chat}
model=${2:-$HOME/.local/share/qwen-chat/models/SmolLM2-135M-Instruct.Q4_1.gguf}
tokens=${3:-128}
prompt="The quick brown fox jumps over the lazy dog while the sun sets behind the distant blue hills of"
export LC_ALL=C.UTF-8

# microseconds of a time like 1700000000.123456
us() { local t=${1/./}; printf '%s' "$t"; }

# The value of a number in a line of JSON on standard input.
member() { sed -n "s/.*\"$1\": \\([0-9.]*\\).*/\\1/p"; }

start_us() {
  local begin=$EPOCHREALTIME
  "$program" -m "$model" --raw -p "$prompt" -n 2 --temp 0 < /dev/null | {
    IFS= read -r -n 1 _
    printf '%s\n' $(($(us "$EPOCHREALTIME") - $(us "$begin")))
    cat > /dev/null
  }
}

# tokens/s of generating behind a context of $1 tokens
bench() {
  "$program" bench -m "$model" -p 0 -n "$tokens" -d "$1" -r 3 -o jsonl | member avg_ts
}

# tokens/s that the engine counts while the answer is written to a pipe
piped() {
  "$program" -m "$model" --raw -p "$prompt" -n "$tokens" --temp 0 --repeat-penalty 1 --json < /dev/null |
    awk -F'"answer_tokens": |, "prompt_seconds"|"answer_seconds": |}' '{ print ($2 - 1) / $4 }'
}

# the same in line mode on a pseudo-terminal, from the line after the answer
on_terminal() {
  { sleep 1; printf '%s\r' "$prompt"; sleep "$1"; printf '/exit\r'; sleep 1; } |
    timeout "$(($1 + 10))" script -qec "timeout --foreground $(($1 + 5)) $program --plain --no-history --raw -m '$model' \
      -n $tokens --temp 0 --repeat-penalty 1" /dev/null |
    sed -n 's/.*tokens, \([0-9.]*\) tok\/s.*/\1/p' | tail -1
}

n_prompt=$("$program" -m "$model" --raw -p "$prompt" -n 1 --json < /dev/null | member prompt_tokens)
start_us > /dev/null # the files come into memory
n_starts=${STARTS:-9}
starts=$(for _ in $(seq "$n_starts"); do start_us; done | sort -n)
printf 'start to the first token, %s prompt tokens: best %d ms, median %d ms\n' "$n_prompt" \
  $(($(head -1 <<< "$starts") / 1000)) $(($(sed -n $((n_starts / 2 + 1))p <<< "$starts") / 1000))

before=$(bench "$n_prompt")
pipe=$(piped)
wait_s=$(awk -v n="$tokens" -v s="$before" 'BEGIN { printf "%d", n / s * 2 + 2 }')
terminal=$(on_terminal "$wait_s")
after=$(bench "$n_prompt")
awk -v a="$before" -v b="$after" -v p="$pipe" -v t="$terminal" 'BEGIN {
  bench = a > b ? a : b
  printf "bench %.1f and %.1f tok/s; in a pipe %.1f (%.0f %%), on a terminal %.1f (%.0f %%)\n",
         a, b, p, p / bench * 100, t, t / bench * 100 }'
