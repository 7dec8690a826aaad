#!/bin/sh
# Without msgfmt there is no catalogue: the build has no target for it, and the program speaks
# English whatever language is asked for.
#
#   tests/integration/no_catalogue.sh PROGRAM SOURCE
set -eu
program=$1 source=$2
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cmake -S "$source" -B "$folder/build" -DQWEN_MSGFMT=OFF -DQWEN_TESTS=OFF -DQWEN_CUDA=off >"$folder/log" ||
  { cat "$folder/log" >&2; exit 1; }
if cmake --build "$folder/build" --target help | grep -q catalogues; then
  echo "there is a target for the catalogues without msgfmt" >&2
  exit 1
fi

# the program alone, away from the catalogue that was built beside it
cp "$program" "$folder/qwen-chat"
for language in zh en auto; do
  said=$(env -i LC_ALL=C.UTF-8 HOME="$folder" "$folder/qwen-chat" --language $language inspect a b 2>&1) && exit 1
  case $said in
  *"inspect takes one path"*) ;;
  *) echo "--language $language without a catalogue: $said" >&2; exit 1 ;;
  esac
done
