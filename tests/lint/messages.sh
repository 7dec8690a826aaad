#!/bin/sh
# The Chinese catalogue has every text of the program, each translated, none doubtful or left over.
#
#   tests/lint/messages.sh
set -eu
cd "$(dirname "$0")/../.."
for tool in xgettext msgcmp msgfmt msgattrib; do command -v "$tool" >/dev/null || exit 77; done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
po/extract.sh "$folder/all.pot"
n=$(grep -c '^msgid' "$folder/all.pot")
if [ "$n" -lt 500 ]; then echo "only $n texts were found: is po/extract.sh right?" >&2; exit 1; fi
msgcmp po/zh_CN.po "$folder/all.pot"
msgfmt --check-format --output-file=/dev/null po/zh_CN.po
# one that is not used any more is taken out: msgmerge marks it as obsolete
msgmerge --quiet --no-fuzzy-matching po/zh_CN.po "$folder/all.pot" >"$folder/merged.po"
if [ -n "$(msgattrib --only-obsolete "$folder/merged.po")" ]; then
  echo "po/zh_CN.po has texts that the program has no more:" >&2
  msgattrib --only-obsolete "$folder/merged.po" >&2
  exit 1
fi
echo "$n texts"
