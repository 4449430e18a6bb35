// The agent's own history in the ledger: its start, what an earlier run read but did not book, steps of the wall clock,
// and the time without an agent: from the last commit of an earlier run to this start. Since boot that is `unobserved` GPU
// time (rent does not stop); while the host was off there were no GPU-seconds, and only the audit record says so.
import { uptime } from "node:os";
import type { Books } from "../meter/books.ts";
import { restorePending } from "../meter/counters/pending.ts";
import type {
  GpuInfo,
  GpuInterval,
  GpuState,
  LedgerRestored,
  Nanos,
  SettledInterval,
  TokenIncrement,
  UnixNanos,
} from "../model.ts";
import { BUCKET_NANOS } from "../model.ts";
import type { Clock, SystemClock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import { programVersion } from "../platform/version.ts";
import type { Pipeline } from "./pipeline.ts";

/** The parts that history is written with. */
export interface History {
  readonly books: Books;
  readonly clock: Clock;
  readonly log: Log;
  readonly pipeline: Pipeline;
}

/** Notes the start, and books what an earlier run read but did not book and the time since it ended, unless it was booked. */
export function noteStart(
  history: History,
  stateDir: string,
  {
    outdated,
    restored,
  }: { readonly outdated?: string | undefined; readonly restored: LedgerRestored | undefined },
): void {
  const { books, clock, pipeline } = history;
  const start = pipeline.settledUntil;
  books.note("start", start, { version: programVersion(), pid: process.pid, stateDir });
  if (restored === undefined || outdated === "behind" || outdated === "copied") return;
  const late = restorePending(restored.state);
  if (late.length > 0) books.post(lateInterval(late, start), pipeline.intake);
  const absence = {
    last: BigInt(restored.time),
    booted: clock.unixNanos(clock.now()) - BigInt(Math.round(uptime() * 1e9)),
    start: clock.unixNanos(start),
  };
  bookAbsence(books, absence, pipeline.intake.gpus, (at) => clock.instant(at));
}

/** Follows a stepped wall clock and puts the step on record; a step back begins every series anew. */
export function watchWall({ books, clock, log, pipeline }: History): void {
  const step = "adjust" in clock ? (clock as SystemClock).adjust() : undefined;
  if (step === undefined) return;
  const at = pipeline.settledUntil;
  const facts = { seconds: Number(step.nanos) / 1e9, seriesBeginAnew: step.restarted };
  if (step.restarted) books.ledger.startAnew(clock.unixNanos(at));
  books.note("clock_step", at, facts);
  books.ledger.post([{ metric: "tokenwatt.clock_steps", dimensions: {}, amount: 1 }], at);
  log.warn("wall clock stepped", facts);
}

/** What is known of the time before this start. */
interface Absence {
  /** End of the last committed interval. */
  readonly last: UnixNanos;
  readonly booted: UnixNanos;
  readonly start: UnixNanos;
}

/** Books the absence of every GPU, in the buckets it lies in, and notes it. */
function bookAbsence(
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
function lateInterval(increments: readonly TokenIncrement[], at: Nanos): SettledInterval {
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
