// The part of the agent that owns what was metered: increments, correlator and the books, ready to be wired.
// The same for production, demo and replay; restored from an earlier run's state where there is one.
import { randomInt } from "node:crypto";
import type { Config } from "../config/load.ts";
import { Correlator } from "../correlate/correlator.ts";
import type { FloorState } from "../correlate/energy/floor.ts";
import type { CounterState } from "../correlate/energy/meter.ts";
import type { RankOrder } from "../correlate/ranks/finder.ts";
import { Books } from "../meter/books.ts";
import { Increments } from "../meter/counters/increments.ts";
import { Pending } from "../meter/counters/pending.ts";
import type { Booking } from "../meter/ledger/ledger.ts";
import type { Catalogue } from "../meter/money/catalogue.ts";
import type { LedgerRestored, Nanos, StateRow, UnixNanos } from "../model.ts";
import type { Clock } from "../platform/clock.ts";
import { AccessRecord } from "./access-record.ts";

const FLOORS_KEY = '["floors"]';
const COUNTERS_KEY = '["counters"]';
const RANKS_KEY = '["ranks"]';

/** What the accounting is built from. */
export interface CoreOptions {
  readonly clock: Clock;
  /** First instant that is metered; default now. */
  readonly origin?: Nanos;
  readonly intervalMs: number;
  readonly gpuPollMs: number;
  readonly correlate: Config["correlate"];
  readonly series: Config["series"];
  readonly catalogue?: Catalogue;
  readonly capacity?: Config["capacity"];
  readonly objectives?: Config["objectives"];
  readonly restored?: LedgerRestored | undefined;
  /** Called with everything that is booked in rows. */
  readonly onBooked?: (booking: Booking) => void;
  /** Restored totals may be below those seen outside: every series starts from 0. */
  readonly outdated?: string | undefined;
  /** A broken law throws instead of being booked as unattributed: tests, CI and `--strict`. */
  readonly strict: boolean;
}

/** The parts that own what was metered. */
export interface Core {
  readonly correlator: Correlator;
  readonly increments: Increments;
  readonly books: Books;
  readonly pending: Pending;
  readonly access: AccessRecord;
}

/** Everything between the sources and the exporters. */
export function createCore(options: CoreOptions): Core {
  const { clock, correlate, restored, series } = options;
  const origin = options.origin ?? clock.now();
  const increments = new Increments({ agentStarted: origin });
  if (restored !== undefined) increments.restore(restored.state, (at) => clock.instant(at));
  const books = new Books(
    {
      start: clock.unixNanos(origin),
      unixNanos: (at) => clock.unixNanos(at),
      seriesMax: series.max,
      tenantsMax: series.tenantsMax,
      latencyTenants: series.latencyTenants,
      idleSeconds: series.idleSeconds,
      hashSeed: randomInt(2 ** 32),
      weights: correlate.weights,
      ...(options.catalogue === undefined ? {} : { catalogue: options.catalogue }),
      ...(options.capacity === undefined ? {} : { capacity: options.capacity }),
      ...(options.onBooked === undefined ? {} : { onBooked: options.onBooked }),
      ...(options.objectives === undefined ? {} : { objectives: options.objectives }),
    },
    restored,
  );
  if (restored !== undefined && options.outdated !== undefined) {
    books.ledger.startAnew(clock.unixNanos(origin));
    books.noteAudit("restore", origin, { outdated: options.outdated, committed: restored.time });
  }
  const correlator = new Correlator({
    origin,
    intervalNanos: options.intervalMs * 1e6,
    gpuPollMs: options.gpuPollMs,
    stallAfterSeconds: correlate.stallAfterSeconds,
    settleMsMax: correlate.settleMsMax,
    shares: correlate.shares,
    floors: restoredFloors(restored),
    rankOrders: restoredOrders(restored),
    counters: restoredCounters(restored, (at) => clock.instant(at)),
    strict: options.strict,
  });
  const access = new AccessRecord(books, (at) => clock.unixNanos(at), origin, restored?.state);
  return { correlator, increments, books, pending: new Pending(), access };
}

/** What must be stored with a beat beside the books' own: last samples, tokens not booked yet, idle floors, energy counters, the order of ranks. */
export function coreState(core: Core, clock: Clock): readonly StateRow[] {
  const orders = core.correlator.rankOrders();
  return [
    // Most hosts have none, and never learn one.
    ...(Object.keys(orders).length === 0 ? [] : [{ key: RANKS_KEY, value: JSON.stringify(orders) }]),
    ...core.increments.takeChanges((at) => clock.unixNanos(at)),
    core.pending.row(),
    ...core.access.takeChanges(),
    { key: FLOORS_KEY, value: JSON.stringify(core.correlator.floors()) },
    {
      key: COUNTERS_KEY,
      value: JSON.stringify({
        at: String(clock.unixNanos(core.correlator.settledUntil)),
        counters: core.correlator.counters(),
      }),
    },
  ];
}

function restoredFloors(restored: LedgerRestored | undefined): Readonly<Record<string, FloorState>> {
  const row = restored?.state.find(({ key }) => key === FLOORS_KEY);
  if (row === undefined) return {};
  try {
    return JSON.parse(row.value) as Record<string, FloorState>;
  } catch {
    return {};
  }
}

/** The order of ranks by server; what is damaged is left out: it is learned again. */
function restoredOrders(restored: LedgerRestored | undefined): Readonly<Record<string, RankOrder>> {
  const row = restored?.state.find(({ key }) => key === RANKS_KEY);
  if (row === undefined) return {};
  try {
    return (JSON.parse(row.value) ?? {}) as Record<string, RankOrder>;
  } catch {
    return {};
  }
}

/** Counters with the instant up to which they were booked; none where the row is missing or damaged. */
function restoredCounters(
  restored: LedgerRestored | undefined,
  instant: (at: UnixNanos) => Nanos,
): Readonly<Record<string, CounterState & { readonly at: Nanos }>> {
  const row = restored?.state.find(({ key }) => key === COUNTERS_KEY);
  if (row === undefined) return {};
  try {
    const { at, counters } = JSON.parse(row.value) as { at: string; counters: Record<string, CounterState> };
    const booked = instant(BigInt(at));
    return Object.fromEntries(
      Object.entries(counters).map(([gpu, counter]) => [gpu, { ...counter, at: booked }]),
    );
  } catch {
    return {};
  }
}
