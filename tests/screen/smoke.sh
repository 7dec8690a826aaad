#!/bin/bash
# The real program with the starter model in tmux, 80x24, as a person would use it. Each step waits
# for what it must show; the screens are recorded in the folder given.
#
#   tests/screen/smoke.sh PROGRAM MODEL FOLDER
set -u
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

# wait_for SECONDS REGEX: until the screen has it; the screen is recorded.
wait_for() {
  local end=$((SECONDS + $1))
  while ! screen | grep -Eq -- "$2"; do
    if [ $SECONDS -ge $end ]; then
      echo "not seen: $2" >&2
      screen >&2
      exit 1
    fi
    sleep 0.1
  done
  { echo "=== $2"; screen; } >>"$record"
}
keys() { tm send-keys -t main "$@"; }
text() { tm send-keys -t main -l "$1"; }

# the command line of the pane, with further flags
chat() {
  echo "env -u NO_COLOR QWEN_CHAT_DEVICE=cpu HOME=$home XDG_DATA_HOME= XDG_STATE_HOME= XDG_CONFIG_HOME= LC_ALL=C.UTF-8 \
    '$program' -m '$model' --temp 0 -n 80 $* 2>'$folder/errors'; code=\$?; echo left with \$code; sleep 60"
}

tm -f /dev/null new-session -d -s main -x 80 -y 24 "$(chat)"
wait_for 5 '/help lists the commands'
wait_for 20 ' ready'
text '你好！请写 Python: write a hello world program in a python code block'
keys Enter
wait_for 60 'answering'
wait_for 90 '^  \[1\]'                       # a code block, laid out
wait_for 90 'tok/s; prompt'
sleep 2                                       # it is read; the roof is measured meanwhile
text '/help'                                  # a view, and out of it
keys Enter
wait_for 5 'Enter types it'
keys Escape
wait_for 5 'tok/s; prompt'
keys PPage
wait_for 5 'hello world program'
keys NPage
keys C-r
text '请写'                                   # the search that libedit fails at
wait_for 5 '\(search\) 请写: 你好'
keys C-c C-c
wait_for 5 '^>$'

for i in $(seq 300); do echo "line $i of a paste"; done >"$home/paste"
tm load-buffer -b paste "$home/paste"
tm paste-buffer -p -b paste -t main
wait_for 5 '^  line 300 of a paste'
keys C-c
wait_for 5 '^>$'

text '/set max_tokens 2000'
keys Enter
wait_for 5 'sampling.max_tokens  2000'
text 'Tell me a long story about a river.'
keys Enter
wait_for 60 'tok/s .* % of the roof .*answering'
keys C-c
wait_for 10 'interrupted; seed'
text '/set max_tokens 80'
keys Enter
wait_for 5 'sampling.max_tokens  80'
text '/regen'
keys Enter
wait_for 90 'length; seed|stop; seed'
text '/set tempe'
keys Tab
wait_for 5 '^> /set temperature'
text '0.7'
keys Enter
wait_for 5 'sampling.temperature  0.7'
text '/bench -p 16 -n 4 -r 1'                 # a view of its own; what it measured stays
keys Enter
wait_for 60 'Esc or Ctrl-C stops it'
wait_for 60 '^tg4 .* %.*█'
wait_for 60 ' ready'
keys Escape
wait_for 5 '> /bench -p 16'
text '/bench -r 50'                           # and stopped between two passes
keys Enter
wait_for 20 '% *$|left *$'
keys Escape
wait_for 10 'the bench was stopped'
keys Escape
wait_for 5 '> /bench -r 50'
keys C-d
wait_for 10 'Resume with: qwen-chat --resume='
wait_for 5 'left with 0'
tm respawn-pane -k -t main "$(chat --resume)"
wait_for 20 ' ready'
wait_for 5 'river'
keys C-d
wait_for 10 'left with 0'
echo "recorded in $record"
