// The part of the agent that owns what was metered: increments, correlator, meter and ledger, ready to be wired.
// The same for production, demo and replay.
import type { Clock } from "./clock.ts";
import type { Config } from "./config.ts";
import { Correlator } from "./correlate/correlator.ts";
import { Increments } from "./meter/increments.ts";
import { Ledger } from "./meter/ledger.ts";
import { Meter } from "./meter/meter.ts";
import type { Nanos } from "./model.ts";

export interface CoreOptions {
  readonly clock: Clock;
  /** First instant that is metered; default now. */
  readonly origin?: Nanos;
  readonly intervalMs: number;
  readonly gpuPollMs: number;
  readonly correlate: Config["correlate"];
  readonly series: Config["series"];
  /** A broken law throws instead of being booked as unattributed: tests, CI and `--strict`. */
  readonly strict: boolean;
}

export interface Core {
  readonly correlator: Correlator;
  readonly increments: Increments;
  readonly meter: Meter;
  readonly ledger: Ledger;
}

/** Everything between the sources and the exporters, empty. */
export function createCore(options: CoreOptions): Core {
  const origin = options.origin ?? options.clock.now();
  return {
    correlator: new Correlator({
      origin,
      intervalNanos: options.intervalMs * 1e6,
      gpuPollMs: options.gpuPollMs,
      stallAfterSeconds: options.correlate.stallAfterSeconds,
      shares: options.correlate.shares,
      strict: options.strict,
    }),
    increments: new Increments({ agentStarted: origin }),
    meter: new Meter(),
    ledger: new Ledger(options.clock.unixNanos(origin), {
      seriesMax: options.series.max,
      tenantsMax: options.series.tenantsMax,
      unixNanos: (at) => options.clock.unixNanos(at),
    }),
  };
}
