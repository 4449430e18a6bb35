// What an NVML return code means to us. Source: nvml.h 13.3 (nvmlReturn_t) and what other readers met in practice.
// A code decides who is affected: this reading, this GPU, or the whole library.

/** The codes NVML returns, by name, and one of ours. */
export const CODE = {
  /** Our own: the call wrote behind a buffer, so this driver's struct is larger than any header we know. */
  wrotePastBuffer: -1,
  success: 0,
  uninitialized: 1,
  invalidArgument: 2,
  notSupported: 3,
  noPermission: 4,
  notFound: 6,
  insufficientSize: 7,
  driverNotLoaded: 9,
  timeout: 10,
  libraryNotFound: 12,
  functionNotFound: 13,
  gpuIsLost: 15,
  resetRequired: 16,
  operatingSystem: 17,
  versionMismatch: 18,
  inUse: 19,
  noData: 21,
  insufficientResources: 23,
  argumentVersionMismatch: 25,
  deprecated: 26,
  notReady: 27,
  gpuNotFound: 28,
  invalidState: 29,
  unknown: 999,
} as const;

/**
 * ok; unsupported: remember and stop asking until the GPUs change; empty: nothing to report now; grow: retry with a
 * larger buffer; permission: needs a right; lifecycle: the library must be loaded again; lost: this GPU is down;
 * stale: the handle is out of date, enumerate again.
 */
export type Meaning = "ok" | "unsupported" | "empty" | "grow" | "permission" | "lifecycle" | "lost" | "stale";

const TABLE: Readonly<Record<number, readonly [name: string, meaning: Meaning]>> = {
  [-1]: ["WROTE_PAST_BUFFER", "unsupported"],
  0: ["SUCCESS", "ok"],
  1: ["UNINITIALIZED", "lifecycle"],
  2: ["INVALID_ARGUMENT", "stale"],
  3: ["NOT_SUPPORTED", "unsupported"],
  4: ["NO_PERMISSION", "permission"],
  6: ["NOT_FOUND", "empty"],
  7: ["INSUFFICIENT_SIZE", "grow"],
  9: ["DRIVER_NOT_LOADED", "lifecycle"],
  10: ["TIMEOUT", "empty"],
  12: ["LIBRARY_NOT_FOUND", "lifecycle"],
  13: ["FUNCTION_NOT_FOUND", "unsupported"],
  15: ["GPU_IS_LOST", "lost"],
  16: ["RESET_REQUIRED", "lost"],
  17: ["OPERATING_SYSTEM", "lifecycle"],
  18: ["LIB_RM_VERSION_MISMATCH", "lifecycle"],
  19: ["IN_USE", "stale"],
  21: ["NO_DATA", "empty"],
  23: ["INSUFFICIENT_RESOURCES", "stale"],
  25: ["ARGUMENT_VERSION_MISMATCH", "unsupported"],
  26: ["DEPRECATED", "unsupported"],
  27: ["NOT_READY", "empty"],
  28: ["GPU_NOT_FOUND", "lost"],
  29: ["INVALID_STATE", "stale"],
  999: ["UNKNOWN", "lifecycle"],
};

/** What a code means; a code no header knows is taken as unsupported, so that it is asked no more. */
export function meaning(code: number): Meaning {
  return TABLE[code]?.[1] ?? "unsupported";
}

/** `NOT_SUPPORTED (3)`. */
export function codeName(code: number): string {
  return `${TABLE[code]?.[0] ?? "UNLISTED"} (${code})`;
}

const HINTS: Readonly<Record<number, string>> = {
  [-1]: "this driver's struct is larger than the one we know: report the driver's version",
  4: "run with the rights this reading needs, or set NVreg_RestrictProfilingToAdminUsers=0",
  9: "load the NVIDIA kernel driver (modprobe nvidia) and check dmesg for NVRM lines",
  12: "install the NVIDIA driver's user libraries, or run the container with the utility capability",
  17: "the device files are blocked: in a container this follows a systemd reload on the host; restart the container",
  18: "the loaded kernel driver and the library on disk differ: reload the driver or reboot; restart the container",
  999: "access to /dev/nvidia* was withdrawn (often a systemd reload under a container); restart the container",
};

/** How to fix a code, where there is something to do. */
export function codeHint(code: number): string | undefined {
  return HINTS[code];
}
