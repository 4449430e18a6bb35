#!/bin/sh
# Runs the Node that lies beside it on the program that lies beside it; needs nothing else but glibc and libstdc++.
self=$(readlink -f "$0")
home=${self%/bin/tokenwatt}
# Small young generation and few malloc arenas: the agent holds little and must weigh little.
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-2}"
# Compiled code is kept only where a service manager gives a folder that can be written.
if [ -z "${NODE_COMPILE_CACHE:-}" ] && [ -n "${CACHE_DIRECTORY:-}" ] && [ -w "$CACHE_DIRECTORY" ]; then
  export NODE_COMPILE_CACHE="$CACHE_DIRECTORY/compile"
fi
exec "$home/bin/node" --max-semi-space-size=2 --heap-growing-percent=70 "$home/app/main.mjs" "$@"
