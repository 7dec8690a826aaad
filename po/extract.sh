#!/bin/sh
# Collects what is to be translated from the sources into the file given: what _() and N_() mark,
# the formats of err_set() and its kin, the help texts of the tables.
#
#   po/extract.sh OUT.pot         then: msgmerge -U --no-fuzzy-matching po/zh_CN.po OUT.pot
set -eu
cd "$(dirname "$0")/.."
find app ui engine -name '*.c' -o -name '*.def' | LC_ALL=C sort |
  LC_ALL=C.UTF-8 xgettext --files-from=- --language=C --from-code=UTF-8 --no-location \
    --output="$1" -k -k_ -kN_ -kerr_text -kERR_TEXT \
    -kerr_set:3 -kerr_within:2 -kerr_memory:3 -kchat_refuse:2 -krefuse:3 -kbegin_stage:3 \
    -krow:2 -kOPTION:9 -kCOMMAND:6 2>"$1.log" || { cat "$1.log" >&2; exit 1; }
rm -f "$1.log"
