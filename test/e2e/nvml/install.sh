# Puts real driver libraries (Debian's libnvidia-ml1 of drivers 470, 535 and 550, unpacked, not installed) and the public
# headers of NVML 11.8 to 13.5 (PyPI, about 2 MiB each, only nvml.h is kept) into $E2E_TOOLS/nvml (default
# ~/.cache/tokenwatt-tools). What cannot be had is said and left out: the tests of it then skip.
tools=${E2E_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools}/nvml
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$tools/libraries" "$tools/headers"
missing() { echo "NOT INSTALLED: $1" >&2; }

# A list of our own: the packages are in Debian's non-free part, which the machine's own lists need not have.
library() { # version, package, suite
  [ -e "$tools/libraries/$1/libnvidia-ml.so.1" ] && return
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep -m1 '/debian/$')
  [ -n "$mirror" ] || { missing "libnvidia-ml.so.1 of $1: no Debian mirror in apt's lists"; return; }
  own="-o Dir::Etc::sourcelist=$work/own.sources -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$work/lists"
  own="$own -o Dir::Cache=$work/cache -o Acquire::Languages=none -o APT::Sandbox::User=root"
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
  printf 'Types: deb\nURIs: %s\nSuites: bookworm trixie\nComponents: non-free\nSigned-By: %s\n' "$mirror" \
    /usr/share/keyrings/debian-archive-keyring.gpg >"$work/own.sources"
  [ -n "${updated-}" ] || apt-get $own update -q >/dev/null 2>&1
  updated=1
  (mkdir -p "$work/$1" && cd "$work/$1" && apt-get $own download "$2/$3" && dpkg-deb -x ./*.deb unpacked) >/dev/null 2>&1
  found=$(find "$work/$1" -name 'libnvidia-ml.so.*.*' 2>/dev/null | head -n1)
  [ -n "$found" ] || { missing "libnvidia-ml.so.1 of driver $1: package $2 of $3 could not be had"; return; }
  mkdir -p "$tools/libraries/$1" && cp "$found" "$tools/libraries/$1/libnvidia-ml.so.1"
}

header() { # version, package
  [ -e "$tools/headers/$1/nvml.h" ] && return
  (mkdir -p "$work/$1" && cd "$work/$1" && python3 -m pip download -q --no-deps "$2==$1" && python3 -m zipfile -e ./*.whl .) >/dev/null 2>&1
  found=$(find "$work/$1" -name nvml.h 2>/dev/null | head -n1)
  [ -n "$found" ] || { missing "nvml.h $1: PyPI's $2 could not be had"; return; }
  mkdir -p "$tools/headers/$1" && cp "$found" "$tools/headers/$1/nvml.h"
}

library 470 libnvidia-tesla-470-ml1 bookworm
library 535 libnvidia-ml1 bookworm
library 550 libnvidia-ml1 trixie
header 11.8.86 nvidia-nvml-dev-cu11
for version in 12.0.76 12.2.140 12.4.127 12.6.77 12.8.90 12.9.79; do header $version nvidia-nvml-dev-cu12; done
for version in 13.0.87 13.1.115 13.2.86 13.3.29 13.4.92 13.5.37; do header $version nvidia-nvml-dev; done
