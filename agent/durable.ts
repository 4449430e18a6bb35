// What survives a restart: the ledger database and the spool, both in the state directory.
// A directory that cannot be used costs durability, not metering: the agent says so loudly and goes on in memory. Only
// a directory that another agent meters into is refused.
import { join } from "node:path";
import type { Config } from "./config.ts";
import type { Destination } from "./export/otlp-config.ts";
import type { Log } from "./log.ts";
import type { LedgerRestored, StateRow } from "./model.ts";
import { SourceError } from "./source.ts";
import { LedgerStore, LedgerStoreError } from "./store/ledger-store.ts";
import { memorySpool } from "./store/memory-spool.ts";
import { openSegmentSpool } from "./store/segment-spool.ts";
import type { Spool } from "./store/spool.ts";

const SPOOL_KEY = '["spool"]';

/** The open state of an agent. */
export interface Durable {
  /** Absent: nothing survives this process. */
  readonly store: LedgerStore | undefined;
  readonly restored: LedgerRestored | undefined;
  readonly agentId: string | undefined;
  /** Opens the queue in front of the destinations; in memory where there is no store. */
  openSpool(destinations: readonly Destination[]): Promise<Spool>;
}

/** State in memory only: demo, tests. */
export const forgetful: Durable = {
  store: undefined,
  restored: undefined,
  agentId: undefined,
  openSpool: async (destinations) => memorySpool(destinations.map((one) => one.name)),
};

/** Opens the state directory. Throws SourceError `misconfigured` when another agent has it. */
export async function openDurable(config: Config, log: Log): Promise<Durable> {
  let store: LedgerStore;
  try {
    store = await LedgerStore.open({ folder: config.stateDir, pid: process.pid });
  } catch (error) {
    const hint = error instanceof LedgerStoreError && error.hint !== undefined ? { hint: error.hint } : {};
    const { message } = error as Error;
    if (error instanceof LedgerStoreError && error.pid !== undefined) {
      throw new SourceError("misconfigured", message, { cause: error, ...hint });
    }
    const cause = `Cannot keep the ledger in ${config.stateDir}: ${message}`;
    log.error("nothing will survive a restart", {
      cause,
      hint: "give the folder to this user, or set stateDir",
    });
    return forgetful;
  }
  const { agentId, quarantined, restored } = store.opened;
  if (quarantined !== undefined) {
    log.error("damaged ledger put aside, totals begin anew", { ...quarantined });
  }
  return {
    store,
    restored,
    agentId,
    openSpool: (destinations) => openSpool(config, log, destinations, committedSpool(restored)),
  };
}

/** The row that ties the spool to the ledger: later records belong to a beat that was never committed. */
export function spoolRow(sequence: number): StateRow {
  return { key: SPOOL_KEY, value: String(sequence) };
}

function committedSpool(restored: LedgerRestored | undefined): number | undefined {
  const value = Number(restored?.state.find((row) => row.key === SPOOL_KEY)?.value);
  return Number.isSafeInteger(value) ? value : undefined;
}

async function openSpool(
  config: Config,
  log: Log,
  destinations: readonly Destination[],
  committed: number | undefined,
): Promise<Spool> {
  const names = destinations.map((one) => one.name);
  const { spoolBytesMax, spoolHoursMax } = config.export.otlp;
  if (names.length === 0) return memorySpool(names);
  try {
    return await openSegmentSpool({
      folder: join(config.stateDir, "spool"),
      destinations: names,
      log,
      bytesMax: spoolBytesMax,
      hoursMax: spoolHoursMax,
      ...(committed === undefined ? {} : { committed }),
    });
  } catch (error) {
    log.error("spool cannot be opened, telemetry waits in memory only", { cause: (error as Error).message });
    return memorySpool(names);
  }
}
