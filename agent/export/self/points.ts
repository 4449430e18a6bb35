// The agent's own figures as points of the metrics in names.ts, taken when they are asked for: the SDK's reader sends
// them, /metrics shows them. Totals run from the process' start; what is not known has no point.
import type { Dimensions, Histogram, UnixNanos } from "../../model.ts";
import type { Metric } from "../metrics/metric.ts";
import { RPC_CODE, selfMetrics } from "./names.ts";

/** Counted by name of what it is counted for: a reason, a source, a destination. */
export type Tally = Readonly<Record<string, number>>;

/** What is reported beside the process' own figures; totals since start unless said otherwise. */
export interface SelfStats {
  readonly exportedPoints: Tally;
  readonly droppedPoints: Readonly<Record<string, Tally>>;
  /** By destination, then by what went wrong; "" where nothing did. */
  readonly exportDurations: Readonly<Record<string, Readonly<Record<string, Histogram>>>>;
  readonly retries: Tally;
  /** Now. */
  readonly queuedRecords: number;
  readonly queuedBytes: number;
  /** By reason. */
  readonly lostPoints: Tally;
  readonly deadLetters: number;
  /** By destination: age of the oldest record that waits for it. */
  readonly unsentSeconds: Tally;
  /** The audit chain as last stored; absent without a ledger on disk. */
  readonly ledgerHead?: { readonly length: number; readonly hash: string } | undefined;
  /** Longest delay of the event loop lately; absent where it is not watched. */
  readonly loopDelaySeconds?: number | undefined;
  readonly polls: Tally;
  readonly pollSeconds: Tally;
  readonly gaps: Tally;
  readonly sourceRestarts: Tally;
  /** Rate-limit calls by status code, and the seconds they took; absent where none are answered. */
  readonly rlsCalls?: Tally;
  readonly rlsSeconds?: number | undefined;
  /** By destination: audit records that wait for it, and that it refused. */
  readonly auditWaiting?: Tally;
  readonly auditLost?: Tally;
  /** Now; absent where load is not reported. */
  readonly orcaStreams?: number | undefined;
}

/** One value of one series of the agent's own. */
export interface SelfPoint {
  readonly metric: Metric;
  readonly attributes: Dimensions;
  readonly value: number | Histogram;
}

/** What there is to say at one time; totals began at `start`. */
export interface SelfReading {
  readonly points: readonly SelfPoint[];
  readonly start: UnixNanos;
  readonly time: UnixNanos;
}

const COMPONENT = "otlp_grpc_metric_exporter";

/** Every point there is at `time`. */
export function readSelf(stats: SelfStats, time: UnixNanos): SelfReading {
  return {
    points: [
      ...processPoints(stats),
      ...deliveryPoints(stats),
      ...ledgerPoints(stats),
      ...policyPoints(stats),
      ...auditPoints(stats),
      ...tallies(stats),
    ],
    start: time - BigInt(Math.round(process.uptime() * 1e9)),
    time,
  };
}

function processPoints({ loopDelaySeconds }: SelfStats): SelfPoint[] {
  const { user, system } = process.cpuUsage();
  return [
    point(selfMetrics.cpuTime, user / 1e6, { "cpu.mode": "user" }),
    point(selfMetrics.cpuTime, system / 1e6, { "cpu.mode": "system" }),
    point(selfMetrics.memory, process.memoryUsage.rss()),
    point(selfMetrics.uptime, process.uptime()),
    ...(loopDelaySeconds === undefined ? [] : [point(selfMetrics.eventLoopDelay, loopDelaySeconds)]),
  ];
}

function deliveryPoints({ droppedPoints, exportDurations, exportedPoints }: SelfStats): SelfPoint[] {
  const { exportDuration, exportedPoints: exported } = selfMetrics;
  return [
    ...Object.entries(exportedPoints).map(([to, count]) => point(exported, count, exporter(to))),
    ...Object.entries(droppedPoints).flatMap(([to, reasons]) =>
      Object.entries(reasons).map(([reason, count]) => point(exported, count, exporter(to, reason))),
    ),
    ...Object.entries(exportDurations).flatMap(([to, outcomes]) =>
      Object.entries(outcomes).map(([error, histogram]) =>
        point(exportDuration, histogram, exporter(to, error)),
      ),
    ),
  ];
}

/** Who exported, and with what error, if any. */
function exporter(destination: string, error = ""): Dimensions {
  return {
    "tokenwatt.destination": destination,
    "otel.component.type": COMPONENT,
    "otel.component.name": `${COMPONENT}/${destination}`,
    ...(error === "" ? {} : { "error.type": error }),
  };
}

/** A hash as an attribute would be a series for every beat; 52 bits of it fit a number, and leave the host all the same. */
function ledgerPoints({ ledgerHead }: SelfStats): SelfPoint[] {
  if (ledgerHead === undefined) return [];
  return [
    point(selfMetrics.ledgerRecords, ledgerHead.length),
    point(selfMetrics.ledgerHead, Number.parseInt(ledgerHead.hash.slice(0, 13) || "0", 16)),
  ];
}

function auditPoints({ auditLost = {}, auditWaiting = {} }: SelfStats): SelfPoint[] {
  const by = (metric: Metric, tally: Tally): SelfPoint[] =>
    Object.entries(tally).map(([to, count]) => point(metric, count, { "tokenwatt.destination": to }));
  return [...by(selfMetrics.auditUnsent, auditWaiting), ...by(selfMetrics.auditLost, auditLost)];
}

function policyPoints({ orcaStreams, rlsCalls = {}, rlsSeconds }: SelfStats): SelfPoint[] {
  return [
    ...Object.entries(rlsCalls).map(([code, count]) =>
      point(selfMetrics.rlsCalls, count, { [RPC_CODE]: code }),
    ),
    ...(rlsSeconds === undefined ? [] : [point(selfMetrics.rlsSeconds, rlsSeconds)]),
    ...(orcaStreams === undefined ? [] : [point(selfMetrics.orcaStreams, orcaStreams)]),
  ];
}

const TALLIES = [
  "retries",
  "unsentSeconds",
  "lostPoints",
  "polls",
  "pollSeconds",
  "gaps",
  "sourceRestarts",
] as const;
const PLAIN = ["queuedRecords", "queuedBytes", "deadLetters"] as const;

function tallies(stats: SelfStats): SelfPoint[] {
  return [
    ...PLAIN.map((key) => point(selfMetrics[key], stats[key])),
    ...TALLIES.flatMap((key) => {
      const metric = selfMetrics[key];
      const [attribute = ""] = metric.attributes;
      return Object.entries(stats[key]).map(([name, count]) => point(metric, count, { [attribute]: name }));
    }),
  ];
}

function point(metric: Metric, value: number | Histogram, attributes: Dimensions = {}): SelfPoint {
  return { metric, attributes, value };
}
