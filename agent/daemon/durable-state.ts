// What survives a restart: the ledger database and the spool, both in the state directory.
// A directory that cannot be used costs durability, not metering: the agent says so loudly and goes on in memory. Only
// a directory that another agent meters into is refused.
import { join } from "node:path";
import type { Config } from "../config/load.ts";
import type { Destination } from "../export/otlp/config.ts";
import type { LedgerRestored, StateRow } from "../model.ts";
import type { Log } from "../platform/log.ts";
import { SourceError } from "../source.ts";
import { LedgerStore, LedgerStoreError } from "../store/ledger/store.ts";
import { narrowFolder } from "../store/private-files.ts";
import { memorySpool } from "../store/spool/memory-spool.ts";
import { openSegmentSpool } from "../store/spool/segment-spool.ts";
import type { Spool } from "../store/spool/spool.ts";
import { stateRemedy } from "../store/state-folder.ts";
import { underPresentAttributes, underPresentNames } from "./present-names.ts";

const MOVE_MS_MAX = 600_000;
const SPOOL_KEY = '["spool"]';
/** The last beat whose requests are in the spool: one that the spool did not take is stored all the same. */
const SPOOLED_BEAT_KEY = '["spooled-beat"]';

/** The open state of an agent. */
export interface Durable {
  /** Absent: nothing survives this process. */
  readonly store: LedgerStore | undefined;
  /** Why the state folder cannot be used; undefined where it is, or none is wanted. */
  readonly unusable?: string;
  readonly restored: LedgerRestored | undefined;
  readonly agentId: string | undefined;
  /**
   * Why totals may be below those seen outside: `moved`, the ledger was copied right after its last commit; `copied`, it
   * was brought back from an older copy; `behind`, it is older than what the spool has delivered.
   */
  readonly outdated: "moved" | "copied" | "behind" | undefined;
  /** Opens the queue in front of the destinations; in memory where there is no store. */
  openSpool(destinations: readonly Destination[]): Promise<Spool>;
}

/** State in memory only: demo, tests. */
export const forgetful: Durable = {
  store: undefined,
  restored: undefined,
  agentId: undefined,
  outdated: undefined,
  openSpool: async (destinations) => memorySpool(destinations.map((one) => one.name)),
};

/** Opens the state directory. Throws SourceError `misconfigured` when another agent has it. */
export async function openDurable(config: Config, log: Log): Promise<Durable> {
  let store: LedgerStore;
  try {
    closeToOthers(config.stateDir, log);
    store = await LedgerStore.open({ folder: config.stateDir, pid: process.pid });
  } catch (error) {
    if (error instanceof SourceError) throw error;
    const hint = error instanceof LedgerStoreError && error.hint !== undefined ? { hint: error.hint } : {};
    const { message } = error as Error;
    if (error instanceof LedgerStoreError && error.pid !== undefined) {
      throw new SourceError("misconfigured", message, { cause: error, ...hint });
    }
    const cause = `Cannot keep the ledger in ${config.stateDir}: ${message}`;
    const isNewer = message.startsWith("Cannot use");
    log.error("nothing will survive a restart", {
      cause,
      hint: isNewer
        ? "run the version that wrote it, or give this one a folder of its own (stateDir)"
        : stateRemedy(message),
    });
    return { ...forgetful, unusable: message };
  }
  const { agentId, copiedAt, quarantined, restored } = store.opened;
  if (quarantined !== undefined) {
    log.error("damaged ledger put aside, totals start from 0", { ...quarantined });
  }
  return {
    store,
    restored: restored && {
      ...restored,
      state: underPresentNames(restored.state),
      series: underPresentAttributes(restored.series),
    },
    agentId,
    outdated: outdatedBy(copiedAt, restored),
    openSpool: (destinations) => openSpool(config, log, destinations, store),
  };
}

/** Takes from others what an older version, a copy or an administrator left open. Throws where a file of ours is a link. */
function closeToOthers(stateDir: string, log: Log): void {
  const { links, narrowed, open } = narrowFolder(stateDir);
  if (narrowed.length > 0)
    log.warn("the state was open to others, it is for this user and its group now", {
      stateDir,
      files: narrowed.length,
      first: narrowed.slice(0, 5),
    });
  if (open.length > 0)
    log.warn("the state is open to others", {
      stateDir,
      files: open.length,
      first: open.slice(0, 5),
      hint: "it belongs to another user: chmod it to 0750, files to 0640",
    });
  if (links.length > 0)
    throw new SourceError(
      "misconfigured",
      `Cannot use ${stateDir}: a link is in the place of ${links.join(", ")}`,
      {
        hint: "remove the link; to keep the state elsewhere name that folder with stateDir",
      },
    );
}

/** The queue in front of the destinations, and the state as it may be continued with it. */
export async function continueState(
  opened: Durable,
  targets: readonly Destination[],
  log: Log,
): Promise<{ readonly durable: Durable; readonly spool: Spool }> {
  const spool = await opened.openSpool(targets);
  return { spool, durable: continued(opened, spool, targets, log) };
}

/**
 * Between its last commit and the copy an agent may have metered on, without a trace in the copy. In a move it was
 * stopped for it, so a short time says that nothing was.
 */
function outdatedBy(copiedAt: number | undefined, restored: LedgerRestored | undefined): Durable["outdated"] {
  if (copiedAt === undefined || restored === undefined) return undefined;
  return copiedAt - Number(BigInt(restored.time) / 1_000_000n) <= MOVE_MS_MAX ? "moved" : "copied";
}

/**
 * The state as it may be continued. Where the ledger may be older than what was delivered every series starts from 0.
 * Where it most likely is, its last samples are forgotten too: the difference to them was delivered already.
 */
function continued(durable: Durable, spool: Spool, targets: readonly Destination[], log: Log): Durable {
  const outdated = spool.isAhead ? "behind" : durable.outdated;
  const { restored } = durable;
  if (restored === undefined) return durable;
  if (outdated === undefined) {
    return isSpooled(restored, spool, targets)
      ? { ...durable, restored: announcedBefore(restored) }
      : durable;
  }
  log.error("the ledger is a copy, series start from 0", { outdated, committed: restored.time });
  if (outdated === "moved") return durable;
  const state = restored.state.filter(({ key }) => !/^\["(sample|pending|counters)"/.test(key));
  return { ...durable, outdated, restored: { ...restored, state } };
}

/** Whether every destination has the last commit's requests, or gets them from the spool. */
function isSpooled(restored: LedgerRestored, spool: Spool, targets: readonly Destination[]): boolean {
  const last = committedSpool(restored);
  const beat = restored.state.find((row) => row.key === SPOOLED_BEAT_KEY)?.value ?? String(restored.sequence);
  if (last === undefined || targets.length === 0 || beat !== String(restored.sequence)) return false;
  const isHeld = spool.peek(last - 1)?.sequence === last;
  return isHeld || targets.every(({ name }) => spool.position(name) >= last);
}

/** Series that began in the last commit need no second zero: it would be older than what follows the first. */
function announcedBefore(restored: LedgerRestored): LedgerRestored {
  const latest = restored.sequence - 1;
  const series = restored.series.map((one) => ({ ...one, announced: Math.min(one.announced, latest) }));
  return { ...restored, series };
}

/**
 * The rows that tie the spool to the ledger: records after `sequence` belong to a beat that was never committed, and `beat`
 * is the last one it has. Not for a spool in memory, whose sequences would cut what the one on disk still holds.
 */
export function spoolRows(
  spool: Pick<Spool, "isDurable">,
  sequence: number,
  beat: number,
): readonly StateRow[] {
  if (!spool.isDurable) return [];
  return [
    { key: SPOOL_KEY, value: String(sequence) },
    { key: SPOOLED_BEAT_KEY, value: String(beat) },
  ];
}

function committedSpool(restored: LedgerRestored | undefined): number | undefined {
  const value = Number(restored?.state.find((row) => row.key === SPOOL_KEY)?.value);
  return Number.isSafeInteger(value) ? value : undefined;
}

/**
 * A record that was synced before its beat was committed is cut. Where nothing was committed with this spool yet, all
 * it holds is another ledger's and counts; that point is stored before the first record of this one is written.
 */
async function openSpool(
  config: Config,
  log: Log,
  destinations: readonly Destination[],
  store: LedgerStore,
): Promise<Spool> {
  const { restored, spoolStart } = store.opened;
  const committed = committedSpool(restored) ?? spoolStart;
  const names = destinations.map((one) => one.name);
  const { spoolBytesMax, spoolHoursMax } = config.export.otlp;
  if (names.length === 0) return memorySpool(names);
  let spool: Spool | undefined;
  try {
    spool = await openSegmentSpool({
      folder: join(config.stateDir, "spool"),
      destinations: names,
      log,
      bytesMax: spoolBytesMax,
      hoursMax: spoolHoursMax,
      ...(committed === undefined ? {} : { committed }),
      ...(restored === undefined ? {} : { committedTime: BigInt(restored.time) }),
    });
    if (committed === undefined) await store.startSpool(spool.head());
    return spool;
  } catch (error) {
    await spool?.close();
    log.error("spool cannot be opened, telemetry waits in memory only", { cause: (error as Error).message });
    return memorySpool(names);
  }
}
