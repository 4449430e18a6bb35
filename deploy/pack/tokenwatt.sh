#!/bin/sh
# Runs the Node that lies beside it on the program that lies beside it; needs nothing else but glibc and libstdc++.
self=$(readlink -f "$0")
home=${self%/bin/tokenwatt}
# Small generations, one malloc arena, large blocks given back at once: the agent must weigh little (runtime.ts).
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-1}"
export MALLOC_MMAP_THRESHOLD_="${MALLOC_MMAP_THRESHOLD_:-131072}"
export MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-131072}"
# Compiled code is kept only where a service manager gives a folder that can be written.
if [ -z "${NODE_COMPILE_CACHE:-}" ] && [ -n "${CACHE_DIRECTORY:-}" ] && [ -w "$CACHE_DIRECTORY" ]; then
  export NODE_COMPILE_CACHE="$CACHE_DIRECTORY/compile"
fi
exec "$home/bin/node" --max-semi-space-size=2 --heap-growing-percent=30 --no-memory-reducer --no-allocation-site-pretenuring --no-parallel-scavenge --optimize-for-size --invocation-count-for-maglev=1500 --invocation-count-for-turbofan=30000 "$home/app/main.mjs" "$@"
