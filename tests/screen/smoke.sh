#!/bin/bash
# The real program with the starter model in tmux, 80x24, as a person would use it. Each step waits
# for what it must show; the screens are recorded in the folder given.
#
#   tests/screen/smoke.sh PROGRAM MODEL FOLDER
set -u
export LC_ALL=C.UTF-8 # tmux's and grep's own
unset TMUX
program=$1 model=$2 folder=$3
if [ ! -e "$model" ] || ! command -v tmux >/dev/null; then exit 77; fi # the test is skipped

mkdir -p "$folder"
record=$folder/screens.txt
home=$(mktemp -d)
socket=qwen-smoke-$$
: >"$record"

tm() { tmux -L "$socket" "$@"; }
screen() { tm capture-pane -p -t main; }
finish() {
  tm kill-server 2>/dev/null
  rm -rf "$home"
}
trap finish EXIT

# seen SECONDS REGEX: does the screen get it in time? It is recorded then.
seen() {
  local end=$((SECONDS + $1))
  while ! screen | grep -Eq -- "$2"; do
    if [ $SECONDS -ge $end ]; then return 1; fi
    sleep 0.1
  done
  { echo "=== $2"; screen; } >>"$record"
}

# wait_for REGEX: until the screen has it. Only what never comes takes two minutes.
wait_for() {
  seen 120 "$1" && return
  echo "not seen: $1" >&2
  screen >&2
  exit 1
}
keys() { tm send-keys -t main "$@"; }
text() { tm send-keys -t main -l "$1"; }

# the command line of the pane, with further flags
chat() {
  echo "env -i PATH=\"\$PATH\" TERM=\"\$TERM\" HOME=$home LC_ALL=C.UTF-8 QWEN_CHAT_DEVICE=cpu \
    '$program' -m '$model' --temp 0 -n 80 $* 2>'$folder/errors'; code=\$?; echo left with \$code; sleep 600"
}

tm -f /dev/null new-session -d -s main -x 80 -y 24 "$(chat)"
wait_for '/help lists the commands'
wait_for ' ready'
text '你好！请写 Python: write a hello world program in a python code block'
keys Enter
wait_for '^  \[1\]'                          # a code block, laid out
wait_for 'tok/s; prompt'
for _ in $(seq 60); do                        # it is read; the roof is measured meanwhile
  text '/stats'
  keys Enter
  wait_for 'Esc closes'
  seen 1 'as fast as memory can be read' && break
  keys Escape
  wait_for 'tok/s; prompt'
done
wait_for 'as fast as memory can be read'
keys Escape
wait_for 'tok/s; prompt'
text '/help'                                  # a view, and out of it
keys Enter
wait_for 'Enter types it'
keys Escape
wait_for 'tok/s; prompt'
keys PPage
wait_for 'hello world program'
keys NPage
keys C-r
text '请写'                                   # the search that libedit fails at
wait_for '\(search\) 请写: 你好'
keys C-c C-c
wait_for '^>$'

for i in $(seq 300); do echo "line $i of a paste"; done >"$home/paste"
tm load-buffer -b paste "$home/paste"
tm paste-buffer -p -b paste -t main
wait_for '^  line 300 of a paste'
keys C-c
wait_for '^>$'

text '/set max_tokens 2000'
keys Enter
wait_for 'sampling.max_tokens  2000'
text 'Tell me a long story about a river.'
for _ in 1 2 3 4 5; do # a fast machine may be at its end before it is interrupted
  keys Enter
  is_interrupted=false
  if seen 20 'tok/s .* % of the roof .*answering'; then
    keys C-c
    seen 10 'interrupted; seed' && is_interrupted=true
  fi
  $is_interrupted && break
  text '/regen'
done
wait_for 'interrupted; seed'
text '/set max_tokens 80'
keys Enter
wait_for 'sampling.max_tokens  80'
text '/regen'
keys Enter
wait_for 'length; seed|stop; seed'
text '/set tempe'
keys Tab
wait_for '^> /set temperature'
text '0.7'
keys Enter
wait_for 'sampling.temperature  0.7'
text '/bench -p 16 -n 4 -r 1'                 # a view of its own; what it measured stays
keys Enter
wait_for 'Esc or Ctrl-C stops it'
wait_for '^tg4 .* %.*█'
wait_for ' ready'
keys Escape
wait_for '> /bench -p 16'
text '/bench -r 50'                           # and stopped between two passes
keys Enter
wait_for '% *$|left *$'
keys Escape
wait_for 'the bench was stopped'
keys Escape
wait_for '> /bench -r 50'
keys C-d
wait_for 'Resume with: qwen-chat --resume='
wait_for 'left with 0'
tm respawn-pane -k -t main "$(chat --resume)"
wait_for ' ready'
wait_for 'river'
keys C-d
wait_for 'left with 0'
echo "recorded in $record"
