// Opens a spool folder as a crash, a full disk or a stranger left it. Nothing in it can stop the start: what is whole is
// kept, what is damaged goes to quarantine and is reported as a loss, what was never promised is cut silently.

import type { UnixNanos } from "../../model.ts";
import type { Log } from "../../platform/log.ts";
import type { Files } from "./files.ts";
import { LossBook } from "./losses.ts";
import type { Damage, Entry } from "./segment.ts";
import { Segment } from "./segment.ts";
import type { Held } from "./segment-list.ts";
import type { SlotFile } from "./slot-file.ts";
import { openSlotFile } from "./slot-file.ts";
import type { SpoolOptions } from "./spool.ts";
import type { KeptState } from "./state.ts";
import { SpoolState } from "./state.ts";

const QUARANTINE_FILES_MAX = 64;

/** What a spool folder held when it was opened, and what of it was damaged. */
export interface SpoolFolder {
  readonly state: SpoolState;
  readonly segments: Segment[];
  readonly tornTails: number;
  readonly quarantined: number;
  /** The positions are beyond what the ledger committed. */
  readonly isAhead: boolean;
}

/** Opens or makes the folder. Throws only when it can be neither made nor listed. */
export async function openSpoolFolder(files: Files, options: SpoolOptions): Promise<SpoolFolder> {
  const { log, committed } = options;
  const slots = await openFolder(files, options);
  const kept = slots?.initial as Partial<KeptState> | undefined;
  const losses = new LossBook(kept?.losses);
  const found = await findSegments(files, options);
  const uncut = committed === undefined ? 0 : await cutUncommitted(found.segments, committed, losses, log);
  const entries = found.segments.flatMap((segment) => segment.entries);
  for (const segment of found.segments) segment.forget((entry) => losses.knows(entry.sequence));
  const held = found.segments.filter((segment) => segment.entries.length > 0);
  for (const segment of found.segments) if (!held.includes(segment)) await discard(files, segment);
  const newest = held.at(-1)?.last ?? 0;
  // The ledger is synced with each beat, the state here is not: after a power cut it may be older.
  const head = committed ?? kept?.head ?? newest;
  const positions = positionsOf(options, kept, Math.max(newest, head));
  const last = Math.max(newest, head, uncut, ...positions.values());
  const before = kept === undefined ? (entries[0]?.sequence ?? 1) - 1 : 0;
  if (kept === undefined && entries.length === 0) tellNothingLeft(options, losses);
  else tellHoles(entries, Math.max(before, Math.min(...positions.values())), head, losses, kept?.volatile);
  const isAhead = Object.values(kept?.positions ?? {}).some((position) => position > (committed ?? position));
  const state = new SpoolState({ positions, losses, head: last }, slots, log);
  return { state, segments: held, tornTails: found.tornTails, quarantined: found.quarantined, isAhead };
}

async function openFolder(files: Files, { folder, log }: SpoolOptions): Promise<SlotFile | undefined> {
  await files.makeFolder(`${folder}/quarantine`);
  return openSlotFile(files, `${folder}/state`).catch((error: Error) => {
    log.error("cannot keep spool positions", { source: "spool", cause: error.message });
    return undefined;
  });
}

/**
 * Puts back what was removed while it was in use: this process alone still has the files open, and a crash would lose
 * what waits in them. Throws when the folder cannot be made; what cannot be written stays open, and is delivered from there.
 */
export async function restoreFolder(
  files: Files,
  options: SpoolOptions,
  segments: Held[],
  state: SpoolState,
): Promise<void> {
  const { folder, log } = options;
  await state.moveTo(await openFolder(files, options));
  let [restored, failed] = [0, 0];
  for (const [index, segment] of segments.entries()) {
    if (!(segment instanceof Segment) || (await segment.isInPlace())) continue;
    try {
      segments[index] = await segment.rewrite(files, segment.entries);
      restored += segment.entries.length;
      await segment.close().catch(() => {});
    } catch (error) {
      failed++;
      log.warn("cannot put back a removed spool segment", {
        source: "spool",
        cause: (error as Error).message,
      });
    }
  }
  log.error("files of the spool were removed while in use, what waits in them was put back", {
    ...{ source: "spool", folder, records: restored, segmentsNotPutBack: failed },
    hint: `${failed === 0 ? "nothing is lost" : "what was not put back is lost with this process"}; stop the agent before you remove files of its state directory`,
  });
}

async function findSegments(files: Files, options: SpoolOptions) {
  const { folder, log } = options;
  const segments: Segment[] = [];
  let tornTails = 0;
  let quarantined = 0;
  const all = await files.list(folder);
  const names = all.filter((name) => name.endsWith(".segment")).sort();
  for (const name of all.filter((one) => one.endsWith(".tmp")))
    await files.remove(`${folder}/${name}`).catch(() => {});
  for (const name of names) {
    try {
      const found = await Segment.find(files, `${folder}/${name}`);
      if (found === "empty") {
        await files.remove(`${folder}/${name}`);
        continue;
      }
      if (found === undefined || found.segment.first <= (segments.at(-1)?.last ?? 0)) {
        await found?.segment.close();
        quarantined++;
        await quarantineFile(files, folder, name);
        continue;
      }
      if (found.tornTail) tornTails++;
      for (const damage of found.damages)
        quarantined += await quarantineBytes(files, folder, found.segment, damage);
      await found.segment.seal().catch(() => {});
      segments.push(found.segment);
    } catch (error) {
      log.error("cannot read a spool segment", {
        source: "spool",
        cause: (error as Error).message,
        file: name,
      });
    }
  }
  if (quarantined > 0) log.warn("damaged spool data was put aside", { source: "spool", quarantined, folder });
  return { segments, tornTails, quarantined };
}

/** Cuts what was never promised. Returns the newest sequence of what the disk would not cut, 0 when it cut all. */
async function cutUncommitted(
  segments: readonly Segment[],
  committed: number,
  losses: LossBook,
  log: Log,
): Promise<number> {
  let uncut = 0;
  for (const segment of segments) {
    const { last } = segment;
    await segment.cutAfter(committed).catch((error: Error) => {
      log.warn("cannot cut an uncommitted spool record", { source: "spool", cause: error.message });
      losses.know([committed + 1, last]);
      uncut = last;
    });
  }
  return uncut;
}

/** A destination that is not known yet begins with what comes now, unless no position at all is known. */
function positionsOf(
  options: SpoolOptions,
  kept: Partial<KeptState> | undefined,
  head: number,
): Map<string, number> {
  const known = kept?.positions;
  return new Map(options.destinations.map((name) => [name, known === undefined ? 0 : (known[name] ?? head)]));
}

/** Neither records nor positions although the ledger committed some: how much of it waited is not known. */
function tellNothingLeft({ committed = 0, committedTime = 0n }: SpoolOptions, losses: LossBook): void {
  if (committed === 0) return;
  losses.recordLoss({ from: committedTime, to: committedTime, records: 0, points: 0, why: "corrupt" }, [
    1,
    committed,
  ]);
}

/** Sequences between the positions and the head that are in no segment were lost: damaged, or only in memory. */
function tellHoles(
  entries: readonly Entry[],
  passed: number,
  head: number,
  losses: LossBook,
  volatile: KeptState["volatile"],
): void {
  let before: { sequence: number; time: UnixNanos } | undefined;
  const tell = (from: number, to: number, fromTime: UnixNanos, toTime: UnixNanos): void => {
    const missing = Array.from({ length: Math.min(to - from + 1, 100_000) }, (_, i) => from + i).filter(
      (sequence) => sequence > passed && !losses.knows(sequence),
    );
    if (missing.length === 0) return;
    const inMemory = volatile !== undefined && from >= volatile[0] && to <= volatile[1];
    const why = inMemory ? "disk_full" : "corrupt";
    losses.recordLoss({ from: fromTime, to: toTime, records: missing.length, points: 0, why }, [from, to]);
  };
  for (const { sequence, time, skipped = 0 } of entries) {
    const expected = (before?.sequence ?? Math.min(passed, sequence - 1)) + 1;
    if (sequence - skipped > expected) tell(expected, sequence - skipped - 1, before?.time ?? time, time);
    before = { sequence, time };
  }
  const end = before ?? { sequence: passed, time: 0n };
  if (head > end.sequence) tell(end.sequence + 1, head, end.time, end.time);
}

async function quarantineFile(files: Files, folder: string, name: string): Promise<void> {
  const kept = await files.list(`${folder}/quarantine`);
  if (kept.length >= QUARANTINE_FILES_MAX) await files.remove(`${folder}/${name}`);
  else await files.move(`${folder}/${name}`, `${folder}/quarantine/${name}.bad`);
}

/** Copies a damaged stretch aside; returns 1 whether or not there was room for it. */
export async function quarantineBytes(
  files: Files,
  folder: string,
  segment: Segment,
  damage: Damage,
): Promise<number> {
  try {
    const kept = await files.list(`${folder}/quarantine`);
    if (kept.length >= QUARANTINE_FILES_MAX) return 1;
    const bytes = await segment.raw(damage.from, damage.to);
    const file = await files.open(`${folder}/quarantine/${segment.first}-${damage.from}.bad`, "create");
    await file.write(bytes, 0);
    await file.close();
  } catch {}
  return 1;
}

async function discard(files: Files, segment: Segment): Promise<void> {
  await segment.close().catch(() => {});
  await files.remove(segment.path).catch(() => {});
}
