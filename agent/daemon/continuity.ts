// The time nobody metered: from the last commit of an earlier run to this start. Since boot it is `unobserved` GPU time
// (rent does not stop); while the host was off there were no GPU-seconds, and only the audit record says so.
import type { Books } from "../meter/books.ts";
import type {
  GpuInfo,
  GpuInterval,
  GpuState,
  Nanos,
  SettledInterval,
  TokenIncrement,
  UnixNanos,
} from "../model.ts";
import { BUCKET_NANOS } from "../model.ts";

/** What is known of the time before this start. */
export interface Absence {
  /** End of the last committed interval. */
  readonly last: UnixNanos;
  readonly booted: UnixNanos;
  readonly start: UnixNanos;
}

/** Books the absence of every GPU, in the buckets it lies in, and notes it. */
export function bookAbsence(
  books: Books,
  absence: Absence,
  gpus: ReadonlyMap<string, GpuInfo>,
  instant: (at: UnixNanos) => Nanos,
): void {
  const { booted, last, start } = absence;
  const from = last > booted ? last : booted;
  if (booted > last) {
    books.note("gap", instant(start), { why: "host off", from: String(last), to: String(booted) });
  }
  if (start <= from) return;
  books.note("gap", instant(start), { why: "agent down", from: String(from), to: String(start) });
  for (let at = from; at < start; ) {
    const bucketEnd = at - (at % BUCKET_NANOS) + BUCKET_NANOS;
    const to = bucketEnd < start ? bucketEnd : start;
    const rows = [...gpus.values()].map((gpu) => unobserved(gpu, Number(to - at)));
    const interval = { gpus: rows, servers: [], lateSamples: 0, violations: [] };
    books.post({ from: instant(at), to: instant(to), ...interval }, { gpus, servers: new Map() });
    at = to;
  }
}

/** Tokens an earlier run had read but not booked, as an interval without time at `at`. */
export function lateInterval(increments: readonly TokenIncrement[], at: Nanos): SettledInterval {
  const servers = Map.groupBy(increments, (increment) => increment.server);
  return {
    from: at,
    to: at,
    gpus: [],
    lateSamples: 0,
    violations: [],
    servers: [...servers].map(([server, own]) => ({
      server,
      nanos: { token_active: 0, stalled: 0, parked: 0, unknown: 0 },
      activityMethod: "unknown",
      increments: own,
    })),
  };
}

function unobserved(gpu: GpuInfo, nanos: number): GpuInterval {
  const none = (): Record<GpuState, number> => ({
    token_active: 0,
    stalled: 0,
    parked: 0,
    other: 0,
    free: 0,
    unobserved: 0,
  });
  return {
    gpu: gpu.uuid,
    nanos: { ...none(), unobserved: Math.round(nanos * gpu.weight) },
    millijoules: { ...none(), unattributed: 0 },
    busyNanos: 0,
    activityMethod: "unknown",
    energyMethod: "none",
    rejectedMillijoules: 0,
    residents: [],
  };
}
