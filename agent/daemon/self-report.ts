// The agent's reports about itself: begun a little after the start, because loading the OpenTelemetry SDK takes a tenth of a
// second and 17 MB, and only where there is a destination. What they say is on /metrics too.
import type { Attributes } from "../export/otlp/attributes.ts";
import type { Destination } from "../export/otlp/config.ts";
import type { SenderStatus } from "../export/otlp/sender-status.ts";
import type { SelfMetrics } from "../export/self/metrics.ts";
import type { SelfReading, SelfStats } from "../export/self/points.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";
import type { SpoolStatus } from "../store/spool/spool.ts";
import type { SourceHealth } from "./source-health.ts";

const AFTER_MS = 2000;
/** Reports are no further apart than this, as gauges and alerts need them, unless beats are; and no more beats than these. */
const [REPORT_MS, REPORT_BEATS] = [60_000, 6];

/** What the reports are made from and where they go. */
export interface SelfReportParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly destination: Destination | undefined;
  readonly resource: Attributes;
  readonly intervalMs: number;
  /** Of the first report, which does not wait for the interval: whoever looks shall see who is there. */
  readonly firstMs: number;
  readonly version: string;
  readonly read: () => SelfReading;
}

/** Reports until stopped; what cannot be loaded is logged and costs nothing else. */
export class SelfReport {
  #cancel: Cancel;
  #metrics: Promise<SelfMetrics | undefined> | undefined;

  constructor({ clock, log, destination, firstMs, ...report }: SelfReportParts) {
    if (destination === undefined) {
      this.#cancel = () => {};
      return;
    }
    this.#cancel = clock.at(clock.now() + AFTER_MS * 1e6, () => {
      this.#metrics = import("../export/self/metrics.ts")
        .then(({ startSelfMetrics }) => startSelfMetrics({ destination, ...report }))
        .catch((error: Error) => {
          log.error("own metrics cannot be reported", { cause: error.message });
          return undefined;
        });
      this.#cancel = clock.at(clock.now() + firstMs * 1e6, async () => (await this.#metrics)?.report());
    });
  }

  /** Reports once more and ends. */
  async stop(): Promise<void> {
    this.#cancel();
    await (await this.#metrics)?.stop();
  }
}

/** With each how-manieth beat of `exportMs` the agent's own figures go out. */
export function beatsOfReport(exportMs: number): number {
  return Math.max(1, Math.min(REPORT_BEATS, Math.floor(REPORT_MS / exportMs)));
}

/** How long the event loop was held up in the last beats: as many as one report covers, so that no report leaves one out. */
export class LoopDelays {
  readonly #beats: number;
  readonly #seconds: number[] = [];

  constructor(beats: number) {
    this.#beats = beats;
  }

  /** The longest; undefined where none was noted. */
  get longest(): number | undefined {
    return this.#seconds.length === 0 ? undefined : Math.max(...this.#seconds);
  }

  /** Notes the longest delay of a beat. */
  noteBeat(seconds: number): void {
    this.#seconds.push(seconds);
    if (this.#seconds.length > this.#beats) this.#seconds.shift();
  }
}

/** The agent's own work as plain numbers: what was shipped, queued, lost, polled and missed since start. */
export function selfStats(
  senders: readonly SenderStatus[],
  spool: SpoolStatus,
  deadLetters: number,
  health: SourceHealth,
  restarts: Readonly<Record<string, number>>,
  ledgerHead: SelfStats["ledgerHead"],
  loopDelaySeconds?: number,
): SelfStats {
  const by = (pick: (status: SenderStatus) => number): Record<string, number> =>
    Object.fromEntries(senders.map((status) => [status.destination, pick(status)]));
  const sources = [...health.entries()];
  return {
    exportedPoints: by((status) => status.sentPoints),
    droppedPoints: Object.fromEntries(senders.map((status) => [status.destination, status.droppedPoints])),
    exportDurations: Object.fromEntries(senders.map((status) => [status.destination, status.durations])),
    retries: by((status) => status.retries),
    queuedRecords: spool.records,
    queuedBytes: spool.bytes,
    lostPoints: spool.lostPointsBy,
    unsentSeconds: by((status) => status.unsentSeconds),
    deadLetters,
    ledgerHead,
    loopDelaySeconds,
    polls: Object.fromEntries(sources.map(([source, one]) => [source, one.reads])),
    pollSeconds: Object.fromEntries(sources.map(([source, one]) => [source, one.readNanos / 1e9])),
    gaps: Object.fromEntries(sources.map(([source, one]) => [source, one.failures])),
    sourceRestarts: restarts,
  };
}
