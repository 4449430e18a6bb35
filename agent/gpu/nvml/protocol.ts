// What the agent and the NVML reader child say to each other over Node's IPC (serialization "advanced").
// Instants on this wire are the child's CLOCK_MONOTONIC in nanoseconds; the parent maps them to the agent's clock.
// Long lists travel as typed arrays: thousands of small objects would block the agent's event loop.
import type { GpuInfo, GpuSample } from "../../model.ts";

/** How a reader opens the library. */
export interface OpenOptions {
  readonly libraryPath?: string;
  /** Period of the readings that change slowly or cost much: clocks, temperatures, counters, GPM. */
  readonly slowMs: number;
  readonly events: boolean;
  /** Indexes to leave out: their driver calls hang. */
  readonly skip?: readonly number[];
  /** The only index to look at: a probe. */
  readonly only?: number;
}

/** Every ask carries an id; every answer to it repeats that id. */
export type Ask =
  | { readonly ask: "open"; readonly id: number; readonly options: OpenOptions }
  /** GPUs in `skip` are left out, those in `last` read after all others: they hung before. */
  | {
      readonly ask: "poll";
      readonly id: number;
      readonly skip: readonly string[];
      readonly last: readonly string[];
    }
  /** Find the GPUs again: limits change, instances come and go. */
  | { readonly ask: "enumerate"; readonly id: number }
  | { readonly ask: "close"; readonly id: number };

/** Why something could not be read. `code` is NVML's, absent for our own reasons (no library, nothing found). */
export interface Failure {
  readonly code?: number;
  readonly message: string;
  readonly hint?: string;
}

/** A GPU index that answered with an error at enumeration, so its UUID is not known. */
export interface Unreadable {
  readonly index: number;
  readonly failure: Failure;
  /** It was not asked, because its calls hang. */
  readonly hangs?: boolean;
}

/** What an enumeration found. */
export interface Inventory {
  readonly gpus: readonly GpuInfo[];
  readonly unreadable: readonly Unreadable[];
  readonly facts: Readonly<Record<string, unknown>>;
}

/** The processes of one GPU, one entry a process in every list. */
export interface ProcessTable {
  readonly pids: Float64Array;
  /** Bytes; NaN where the driver does not say. */
  readonly memory: Float64Array;
  /** 1 = MPS client. */
  readonly mps: Uint8Array;
  readonly names: readonly string[];
}

/** A GpuSample on the child's clock, lists packed: rings as [at, value, ...], shares as [pid, at, ratio, ...]. */
export interface Reading
  extends Omit<GpuSample, "processes" | "utilizationRing" | "powerRing" | "processShares"> {
  readonly utilizationRing?: Float64Array;
  readonly powerRing?: Float64Array;
  readonly processShares?: Float64Array;
  /** "same" = as in the reading before. */
  readonly processes?: ProcessTable | "same";
}

/** A Reading being put together. */
export type Draft = { -readonly [K in keyof Reading]: Reading[K] };

/** `arrived` and `left`: the child's clock at the ask's arrival and at this answer's leaving. */
interface Stamped {
  readonly id: number;
  readonly arrived: number;
  readonly left: number;
}

/** What the child says; the last answer to an ask ends it. */
export type Answer =
  /** To "open" and "enumerate". */
  | (Stamped & { readonly answer: "inventory"; readonly inventory: Inventory })
  /** The next driver calls concern this GPU: if nothing follows, it is the one that hangs. */
  | (Stamped & { readonly answer: "begin"; readonly gpu: string })
  /** `next`: the GPU that is read now, as "begin" would say. */
  | (Stamped & { readonly answer: "reading"; readonly reading: Reading; readonly next?: string })
  | (Stamped & { readonly answer: "lost"; readonly gpu: string; readonly failure: Failure })
  | (Stamped & { readonly answer: "done"; readonly inventory?: Inventory; readonly status?: ReaderStatus })
  | (Stamped & { readonly answer: "failed"; readonly failure: Failure })
  | (Stamped & { readonly answer: "closed" });

/** Counted by the child over its life. */
export interface ReaderStatus {
  readonly absurdReadings: number;
  /** Size of a row of the process lists as this driver writes them; absent before a process was listed. */
  readonly processRowBytes?: number;
  readonly unsupported: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

const INDEX_PREFIX = "index ";

/** What a reader calls a GPU whose UUID it does not know yet: `index 3`. */
export function indexName(index: number): string {
  return `${INDEX_PREFIX}${index}`;
}

/** The index in such a name; undefined for a UUID. */
export function indexOf(name: string | undefined): number | undefined {
  return name?.startsWith(INDEX_PREFIX) ? Number(name.slice(INDEX_PREFIX.length)) : undefined;
}
