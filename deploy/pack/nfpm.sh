#!/bin/sh
# The nfpm that writes packages, of one pinned version: `nfpm.sh install` builds it by Go from the module proxy, which
# checks it against Go's checksum database; everything else is handed to it. Its folder is the one of the suite's tools.
# 2.46 and later need a module that not every proxy serves.
set -e
version=2.45.2
folder=${XDG_CACHE_HOME:-$HOME/.cache}/tokenwatt-tools
program=$folder/nfpm-$version
if [ "$1" = install ]; then
  [ ! -x "$program" ] || exit 0
  mkdir -p "$folder"
  work=$(mktemp -d "$folder/nfpm.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  CGO_ENABLED=0 GOBIN=$work GOFLAGS=-trimpath go install "github.com/goreleaser/nfpm/v2/cmd/nfpm@v$version"
  mv "$work/nfpm" "$program"
  exit 0
fi
if [ ! -x "$program" ]; then
  echo "nfpm $version is not installed" >&2
  exit 127
fi
exec "$program" "$@"
