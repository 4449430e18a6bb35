// How Node is started for the daemon, in every artefact; bin/tokenwatt (tokenwatt.sh) and `npm start` say the same, and a test
// holds them together. The agent lives for months, holds little and must weigh little on somebody else's host.

/**
 * Flags of node: a small young generation, and an old one that is collected before it has grown by much. Two megabytes are
 * collected in a millisecond: to share that out to four threads costs more than it saves. Collections of the old one put
 * what lives together (`--optimize-for-size`, which halves the young one again): without that a quarter of its pages was
 * free space in between. V8 would make one more eight seconds after each, to give memory back (`--memory-reducer`): without
 * it and with less growth, a fifteenth of the processor time is saved for at most 4 MB. Objects are made in the young one
 * always: V8 learns from a start, where all that is made stays, and from pages that are read in a rush, to make such objects in
 * the old one, and went on to do so with readings that are dropped at once, a quarter of all that the old one grew by
 * (`--no-allocation-site-pretenuring`: 1.6 MB and a fortieth of the processor time less). And both optimising compilers come
 * to a function later than by default: a daemon that works for a hundredth of a core kept TurboFan busy for as much as a
 * tenth of that for ten minutes, one warm function after the other, for code that saves nothing one could measure (without
 * TurboFan it takes a seventh more); and Maglev's code for what is only warm takes 5 MB and saves as little.
 */
export const NODE_FLAGS = [
  "--max-semi-space-size=2",
  "--heap-growing-percent=30",
  "--no-memory-reducer",
  "--no-allocation-site-pretenuring",
  "--no-parallel-scavenge",
  "--optimize-for-size",
  "--invocation-count-for-maglev=1500",
  "--invocation-count-for-turbofan=30000",
] as const;

/**
 * What glibc is told: one arena, and large blocks (pages, batches) given back to the system as soon as they are free. By
 * default it learns from the first large block to keep them all.
 */
export const MALLOC = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_MMAP_THRESHOLD_: "131072",
  MALLOC_TRIM_THRESHOLD_: "131072",
} as const;
