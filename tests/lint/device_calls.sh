#!/usr/bin/env bash
# No host code of a CUDA source calls a function of the device: nvcc compiles such a call without a
# warning where the caller is a template, as a call of exit(1). So no CUDA object may know exit.
#
#   tests/lint/device_calls.sh OBJECT...      77: cannot be looked at
set -euo pipefail
command -v nm > /dev/null || exit 77
status=0
for object in "$@"; do
  if nm -u "$object" | grep -qE ' exit(@.*)?$'; then
    echo "$object calls exit: does host code call a __device__ function? (_Exit is allowed)"
    status=1
  fi
done
echo "$# objects"
[ $# -gt 0 ] && exit $status
