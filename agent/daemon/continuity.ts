// The agent's own history in the ledger: its start, what an earlier run read but did not book, steps of the wall clock,
// and the time without an agent: from the last commit of an earlier run to this start. Since boot that is `unobserved` GPU
// time (rent does not stop); while the host was off there were no GPU-seconds, and only the audit record says so.
import type { Books } from "../meter/books.ts";
import { restorePending } from "../meter/counters/pending.ts";
import type {
  GpuInfo,
  GpuInterval,
  GpuState,
  LedgerRestored,
  Nanos,
  ServerInfo,
  SettledInterval,
  TokenIncrement,
  UnixNanos,
} from "../model.ts";
import { BUCKET_NANOS } from "../model.ts";
import type { Clock, SystemClock } from "../platform/clock.ts";
import type { FileFacts } from "../platform/files.ts";
import type { Log } from "../platform/log.ts";
import { programVersion } from "../platform/version.ts";
import { GPUS_KEY } from "./intake.ts";
import type { Pipeline } from "./pipeline.ts";

/** The parts that history is written with. */
export interface History {
  readonly books: Books;
  readonly clock: Clock;
  readonly log: Log;
  readonly pipeline: Pipeline;
}

/** What the last run left. */
export interface Past {
  readonly stateDir: string;
  readonly outdated?: string | undefined;
  readonly restored: LedgerRestored | undefined;
  /** The servers of the configuration: what waited of them is booked as theirs. */
  readonly servers: readonly ServerInfo[];
  /** The file the configuration is from: it may have been changed while the agent was away. */
  readonly configFile?: FileFacts | undefined;
}

/** The file of a configuration as audit records name it. */
export function recordOf(config: FileFacts | undefined): { readonly config?: FileFacts } {
  return config === undefined ? {} : { config };
}

/**
 * Notes the start, books what an earlier run read but did not book and the time since it ended, and expects the GPUs it
 * had. Call it before anything may be committed: a commit stores a later time and an empty row of what waits, and a kill
 * after it would lose both. GPUs that no reader finds stay `unobserved`: their rent goes on.
 */
export function bookPast(history: History, past: Past): void {
  const { books, clock, pipeline } = history;
  const { configFile, outdated, restored, servers, stateDir } = past;
  const start = pipeline.settledUntil;
  books.noteAudit("start", start, {
    version: programVersion(),
    pid: process.pid,
    uid: process.getuid?.(),
    stateDir,
    ...recordOf(configFile),
  });
  if (restored === undefined || outdated === "behind" || outdated === "copied") return;
  pipeline.intake.expectGpus(knownGpus(restored));
  const { gpus } = pipeline.intake;
  const late = restorePending(restored.state);
  const facts = { gpus, servers: new Map(servers.map((info) => [info.id, info])) };
  if (late.length > 0) books.bookInterval(lateInterval(late, start), facts);
  const absence = { last: BigInt(restored.time), booted: clock.booted(), start: clock.unixNanos(start) };
  bookAbsence(books, absence, gpus, (at) => clock.instant(at));
}

/** The GPUs an earlier run had; of a ledger that does not list them yet, those whose time it still counted. */
function knownGpus({ series, state }: LedgerRestored): readonly GpuInfo[] {
  const row = state.find(({ key }) => key === GPUS_KEY);
  if (row !== undefined) return parsedGpus(row.value);
  const found = new Map<string, GpuInfo>();
  for (const { dimensions, ended, metric } of series) {
    const uuid = dimensions["hw.id"];
    if (metric !== "tokenwatt.gpu.time" || uuid === undefined || ended !== undefined) continue;
    // The share of a MIG instance is not in its series.
    if (dimensions["hw.parent"] !== undefined) continue;
    found.set(uuid, { uuid, weight: 1, index: found.size, name: dimensions["hw.model"] ?? "" });
  }
  return [...found.values()];
}

function parsedGpus(text: string): readonly GpuInfo[] {
  try {
    const value = JSON.parse(text) as readonly GpuInfo[];
    return Array.isArray(value) ? value.filter((one) => typeof one.uuid === "string" && one.weight > 0) : [];
  } catch {
    return [];
  }
}

/**
 * Follows a stepped wall clock and puts the step on record. What was metered before is committed first, under the time it
 * was metered in. A host that slept is told from a clock that was set: its time is `unobserved`. A step back begins every
 * series again, and opens the buckets it goes back to.
 */
export async function watchWall(history: History, commit: () => Promise<void>): Promise<void> {
  const { books, clock, log, pipeline } = history;
  if (!isSystemClock(clock) || clock.pendingStep() === undefined) return;
  await commit();
  const step = clock.pendingStep();
  if (step === undefined) return;
  const at = pipeline.settledUntil;
  const last = clock.unixNanos(at);
  clock.follow(step);
  const facts = { seconds: Number(step.nanos) / 1e9, seriesBeginAgain: step.restarted };
  if (step.slept) {
    const absence = { last, booted: 0n, start: clock.unixNanos(at) };
    bookAbsence(books, absence, pipeline.intake.gpus, (instant) => clock.instant(instant), "host asleep");
    log.info("the host slept", { seconds: facts.seconds });
    return;
  }
  if (step.restarted) books.stepBack(clock.unixNanos(at));
  books.noteAudit("clock_step", at, facts);
  books.ledger.bookPostings([{ metric: "tokenwatt.clock_steps", dimensions: {}, amount: 1 }], at);
  log.warn("wall clock stepped", facts);
}

function isSystemClock(clock: Clock): clock is SystemClock {
  return "pendingStep" in clock;
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
  why = "agent down",
): void {
  const { booted, last, start } = absence;
  const from = last > booted ? last : booted;
  if (booted > last) {
    books.noteAudit("gap", instant(start), { why: "host off", from: String(last), to: String(booted) });
  }
  if (start <= from) return;
  books.noteAudit("gap", instant(start), { why, from: String(from), to: String(start) });
  for (let at = from; at < start; ) {
    const bucketEnd = at - (at % BUCKET_NANOS) + BUCKET_NANOS;
    const to = bucketEnd < start ? bucketEnd : start;
    const rows = [...gpus.values()].map((gpu) => unobserved(gpu, Number(to - at) * ownShare(gpu, gpus)));
    const interval = { gpus: rows, servers: [], lateSamples: 0, violations: [] };
    books.bookInterval({ from: instant(at), to: instant(to), ...interval }, { gpus, servers: new Map() });
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

/** What of a board's time is its own: all of it, its slice, or under MIG what no instance has. */
function ownShare(gpu: GpuInfo, gpus: ReadonlyMap<string, GpuInfo>): number {
  let share = gpu.weight;
  for (const one of gpus.values()) if (one.parent === gpu.uuid) share -= one.weight;
  return Math.max(0, share);
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
    nanos: { ...none(), unobserved: Math.round(nanos) },
    millijoules: { ...none(), unattributed: 0 },
    busyNanos: 0,
    activityMethod: "unknown",
    energyMethod: "none",
    rejectedMillijoules: 0,
    residents: [],
  };
}
