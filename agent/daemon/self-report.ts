// The agent's reports about itself: begun a little after the start, because loading the OpenTelemetry SDK takes a tenth of a
// second and 17 MB, and only where somebody listens.

import type { Attributes } from "../export/otlp/attributes.ts";
import type { Destination } from "../export/otlp/config.ts";
import type { SelfMetrics, SelfStats } from "../export/self/metrics.ts";
import type { Cancel, Clock } from "../platform/clock.ts";
import type { Log } from "../platform/log.ts";

const AFTER_MS = 2000;

export interface SelfReportParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly destination: Destination | undefined;
  readonly resource: Attributes;
  readonly intervalMs: number;
  readonly stats: () => SelfStats;
}

/** Reports until stopped; what cannot be loaded is logged and costs nothing else. */
export class SelfReport {
  readonly #cancel: Cancel;
  #metrics: Promise<SelfMetrics | undefined> | undefined;

  constructor({ clock, log, destination, ...report }: SelfReportParts) {
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
    });
  }

  /** Reports once more and ends. */
  async stop(): Promise<void> {
    this.#cancel();
    await (await this.#metrics)?.stop();
  }
}
