// Finds libnvidia-ml.so.1, opens it with koffi and binds each symbol on its own: a driver that lacks one call still
// serves the others, a missing symbol answers FUNCTION_NOT_FOUND (13) as NVML itself would.
// Runs only in the reader child: a wrong pointer kills the process, a driver call can hang for ever.
import { existsSync } from "node:fs";
import type { LibraryHandle } from "koffi";
import koffi from "koffi";
import { CODE } from "../codes.ts";
import type { Cell } from "./layouts.ts";

/** Argument types of our NVML prototypes. Handles travel as uint64: the same registers as a pointer, no wrapping. */
const PROTOTYPES = {
  nvmlInit_v2: "",
  nvmlShutdown: "",
  nvmlSystemGetDriverVersion: "void *, unsigned int",
  nvmlSystemGetNVMLVersion: "void *, unsigned int",
  nvmlDeviceGetCount_v2: "void *",
  nvmlDeviceGetHandleByIndex_v2: "unsigned int, void *",
  nvmlDeviceGetUUID: "uint64_t, void *, unsigned int",
  nvmlDeviceGetName: "uint64_t, void *, unsigned int",
  nvmlDeviceGetPciInfo_v3: "uint64_t, void *",
  nvmlDeviceGetArchitecture: "uint64_t, void *",
  nvmlDeviceGetCudaComputeCapability: "uint64_t, void *, void *",
  nvmlDeviceGetPersistenceMode: "uint64_t, void *",
  nvmlDeviceGetEnforcedPowerLimit: "uint64_t, void *",
  nvmlDeviceGetMemoryInfo_v2: "uint64_t, void *",
  nvmlDeviceGetMemoryInfo: "uint64_t, void *",
  nvmlDeviceGetUtilizationRates: "uint64_t, void *",
  nvmlDeviceGetSamples: "uint64_t, unsigned int, uint64_t, void *, void *, void *",
  nvmlDeviceGetTotalEnergyConsumption: "uint64_t, void *",
  nvmlDeviceGetPowerUsage: "uint64_t, void *",
  nvmlDeviceGetFieldValues: "uint64_t, int, void *",
  nvmlDeviceGetComputeRunningProcesses_v3: "uint64_t, void *, void *",
  nvmlDeviceGetMPSComputeRunningProcesses_v3: "uint64_t, void *, void *",
  nvmlDeviceGetProcessUtilization: "uint64_t, void *, void *, uint64_t",
  nvmlDeviceGetClockInfo: "uint64_t, unsigned int, void *",
  nvmlDeviceGetEncoderUtilization: "uint64_t, void *, void *",
  nvmlDeviceGetDecoderUtilization: "uint64_t, void *, void *",
  nvmlDeviceGetTemperature: "uint64_t, unsigned int, void *",
  nvmlDeviceGetTotalEccErrors: "uint64_t, unsigned int, unsigned int, void *",
  nvmlDeviceGetMigMode: "uint64_t, void *, void *",
  nvmlDeviceGetMaxMigDeviceCount: "uint64_t, void *",
  nvmlDeviceGetMigDeviceHandleByIndex: "uint64_t, unsigned int, void *",
  nvmlDeviceGetGpuInstanceId: "uint64_t, void *",
  nvmlDeviceGetComputeInstanceId: "uint64_t, void *",
  nvmlDeviceGetAttributes_v2: "uint64_t, void *",
  nvmlGpmQueryDeviceSupport: "uint64_t, void *",
  nvmlGpmSampleAlloc: "void *",
  nvmlGpmSampleFree: "uint64_t",
  nvmlGpmSampleGet: "uint64_t, uint64_t",
  nvmlGpmMigSampleGet: "uint64_t, unsigned int, uint64_t",
  nvmlGpmMetricsGet: "void *",
  nvmlEventSetCreate: "void *",
  nvmlEventSetFree: "uint64_t",
  nvmlDeviceGetSupportedEventTypes: "uint64_t, void *",
  nvmlDeviceRegisterEvents: "uint64_t, uint64_t, uint64_t",
  nvmlEventSetWait_v2: "uint64_t, void *, unsigned int",
} as const;

/** A symbol of the library that we call. */
export type NvmlCall = keyof typeof PROTOTYPES;
type Argument = number | Cell;

/**
 * Names a call had in older libraries, newest first, tried where the newest is not exported: 470 ends at _v2 of the
 * process lists, whose rows are those of _v3; older structs are shorter and their buffers keep what was not written.
 */
const OLDER: Partial<Record<NvmlCall, readonly string[]>> = {
  nvmlInit_v2: ["nvmlInit"],
  nvmlDeviceGetCount_v2: ["nvmlDeviceGetCount"],
  nvmlDeviceGetHandleByIndex_v2: ["nvmlDeviceGetHandleByIndex"],
  nvmlDeviceGetPciInfo_v3: ["nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"],
  nvmlDeviceGetComputeRunningProcesses_v3: [
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses",
  ],
  nvmlDeviceGetMPSComputeRunningProcesses_v3: [
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses",
  ],
  nvmlEventSetWait_v2: ["nvmlEventSetWait"],
};

/** An open library. */
export interface Nvml {
  readonly path: string;
  /**
   * Calls a symbol, or the newest older one the library has, and returns its NVML code; 13 where it has none, -1 when
   * the driver wrote past one of the buffers.
   */
  call(symbol: NvmlCall, ...values: Argument[]): number;
  /** Calls a symbol on a thread of koffi's pool: for the calls that block by design. */
  callAsync(symbol: NvmlCall, ...values: Argument[]): Promise<number>;
  /** The symbol that answers for this one: itself or an older one; itself where there is none. */
  nameOf(symbol: NvmlCall): string;
  /** The calls of ours that this library has under no name. */
  missing(): readonly NvmlCall[];
}

const NAME = "libnvidia-ml.so.1";
const PLACES = [
  "/usr/lib/x86_64-linux-gnu",
  "/usr/lib/aarch64-linux-gnu",
  "/usr/lib64",
  "/usr/lib",
  "/usr/local/nvidia/lib64",
  "/run/nvidia/driver/usr/lib/x86_64-linux-gnu",
  "/run/nvidia/driver/usr/lib/aarch64-linux-gnu",
  "/run/nvidia/driver/usr/lib64",
  "/home/kubernetes/bin/nvidia/lib64",
  "/opt/nvidia/lib64",
  "/run/opengl-driver/lib",
  "/usr/lib/wsl/lib",
] as const;

/** Every path tried, in order: only the configured one if there is one, else the loader's own, then known places. */
function libraryCandidates(configured?: string): readonly string[] {
  if (configured !== undefined) return [configured];
  return [NAME, ...PLACES.map((place) => `${place}/${NAME}`).filter((path) => existsSync(path))];
}

/** Opens the first candidate that loads. Throws an Error that lists what was tried when none does. */
export function openLibrary(configured?: string): Nvml {
  const problems: string[] = [];
  for (const path of libraryCandidates(configured)) {
    try {
      return bind(path, koffi.load(path));
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  }
  // One candidate that is not there says what koffi takes three sentences for.
  const [only = "", more] = problems;
  const isMissing = more === undefined && /No such file or directory/.test(only);
  throw new Error(
    `Cannot load ${configured ?? NAME}: ${isMissing ? "it is not on this host" : problems.join("; ")}`,
  );
}

interface Bound {
  readonly name: string;
  readonly call: ReturnType<LibraryHandle["func"]>;
}

function bind(path: string, library: LibraryHandle): Nvml {
  const bound = new Map<NvmlCall, Bound | undefined>();
  const find = (symbol: NvmlCall): Bound | undefined => {
    if (!bound.has(symbol)) bound.set(symbol, bindNewest(library, symbol));
    return bound.get(symbol);
  };
  return {
    path,
    call: (symbol, ...values) => {
      const code = find(symbol)?.call(...values.map(pointer));
      return code === undefined ? CODE.functionNotFound : judgeBuffers(code, values);
    },
    callAsync: (symbol, ...values) => {
      const call = find(symbol)?.call;
      if (call === undefined) return Promise.resolve(CODE.functionNotFound);
      return new Promise((resolve, reject) => {
        call.async(...values.map(pointer), (error: unknown, code: number) =>
          error ? reject(error) : resolve(judgeBuffers(code, values)),
        );
      });
    },
    nameOf: (symbol) => find(symbol)?.name ?? symbol,
    missing: () => (Object.keys(PROTOTYPES) as NvmlCall[]).filter((symbol) => find(symbol) === undefined),
  };
}

function pointer(value: Argument): number | Uint8Array {
  return typeof value === "number" ? value : value.bytes;
}

function judgeBuffers(code: number, values: readonly Argument[]): number {
  let overrun = false;
  for (const value of values) if (typeof value !== "number") overrun = value.takeOverrun() || overrun;
  return overrun ? CODE.wrotePastBuffer : code;
}

function bindNewest(library: LibraryHandle, symbol: NvmlCall): Bound | undefined {
  for (const name of [symbol, ...(OLDER[symbol] ?? [])]) {
    try {
      return { name, call: library.func(`int ${name}(${PROTOTYPES[symbol] || "void"})`) };
    } catch {
      // Not in this library.
    }
  }
  return undefined;
}

/** Asks the kernel to kill this process when its parent dies, even while a driver call is stuck. Linux only. */
export function dieWithParent(): void {
  try {
    const prctl = koffi
      .load("libc.so.6")
      .func("int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)");
    prctl(1, 9, 0, 0, 0);
  } catch {
    // Not glibc: leaving on `disconnect` is then the only cure.
  }
}
