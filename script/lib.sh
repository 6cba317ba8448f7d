# Shared by the other scripts; sourced, not run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${VENV:-$ROOT/.venv}
RUST_AT_LEAST=1.85
cd "$ROOT" || exit 1
[ -d "${HOME:-/root}/.cargo/bin" ] && PATH=${HOME:-/root}/.cargo/bin:$PATH

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'tollgate: %s\n' "$*" >&2; exit 1; }

# help_of "$@": when it is asked for, prints the head of the script that sources this, and ends.
help_of() {
  case "${1:-}" in
  -h | --help)
    sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$ROOT/script/${0##*/}"
    exit
    ;;
  esac
}

# run DESCRIPTION COMMAND...: quiet on success; on failure the output's end and one line that says what failed.
run() {
  local what=$1 log
  shift
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 30 "$log" >&2
    rm -f "$log"
    die "$what failed: $* (output above)"
  fi
  rm -f "$log"
}

# need_packages PACKAGE...: installs what is missing of Debian's packages; without root, says what to install.
need_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    die "these Debian packages are missing; as root run: apt-get install --no-install-recommends ${missing[*]}"
  fi
  command -v apt-get >/dev/null || die "no apt-get here; install by hand the equals of: ${missing[*]}"
  say "installing ${missing[*]}"
  run "refreshing the package lists" apt-get -o DPkg::Lock::Timeout=300 update -q
  DEBIAN_FRONTEND=noninteractive run "installing system packages" \
    apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "${missing[@]}"
}

# version_at_least HAVE WANT
version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# stamp NAME: a file that remembers what a step was last done for.
stamp() { printf '%s/.stamp-%s' "$VENV" "$1"; }

# digest FILE-OR-FOLDER...: one line for the contents of all files.
digest() { find "$@" -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1; }
