// A power cut at any moment: a process is recorded call by call over several lives, each ended by kill -9. For many
// moments of the record the disk is rebuilt with what was not synced lost, kept, torn or out of order, and an agent is
// started on it. Judged: it starts; what was promised is there; nothing is there that was never committed; what was not
// delivered can still be, with its true values; every gap is on record; and it goes on.
// E2E_POWER_CUTS moments a scene (40 here, three disks each); needs a C compiler.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { Loss } from "../../../agent/store/spool/spool.ts";
import type { Call, Survival } from "./power/disk-model.ts";
import { DiskModel, readCalls } from "./power/disk-model.ts";
import type { PowerState } from "./power/power-state.ts";
import { openPowerState } from "./power/power-state.ts";
import { beatOf, DESTINATIONS, START, totalsOf, truthAt } from "./power/power-truth.ts";

const CUTS = Number(process.env["E2E_POWER_CUTS"] ?? 40);
const SEED = Number(process.env["E2E_SEED"] ?? Date.now() % 1_000_000);
const LIVES = 6;
const START_CUTS = 8;
const CHECKPOINT_CUTS = 4;
const CALLS_AFTER = 40;
const here = (name: string): string => fileURLToPath(new URL(`power/${name}`, import.meta.url));

interface Scene {
  readonly name: string;
  /** Ledger time between two beats: 10 s makes a backlog old enough to be thinned. */
  readonly spacingMs: number;
  readonly bytesMax: number;
}
const SCENES: readonly Scene[] = [
  { name: "a spool with room", spacingMs: 10, bytesMax: 4_000_000 },
  { name: "a small spool that thins and evicts", spacingMs: 10_000, bytesMax: 40_000 },
];

function hasCompiler(): boolean {
  if (spawnSync("cc", ["--version"]).status === 0) return true;
  console.warn("SKIPPED: no power cuts without a C compiler: apt-get install gcc libc6-dev");
  return false;
}

function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state ^ (state >>> 15), 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** What was promised and seen outside up to a moment. */
interface Told {
  /** By beat: the life that committed it. */
  readonly lives: number[];
  readonly got: ReadonlyMap<string, Set<number>>;
  /** The life that makes beats, and the one that has begun and not opened the state yet. */
  life: number;
  next: number;
}

function record(scene: Scene, work: string): Call[] {
  const root = join(work, "root");
  const library = join(work, "record-calls.so");
  execFileSync("cc", ["-O2", "-shared", "-fPIC", "-o", library, here("record-calls.c"), "-ldl", "-lpthread"]);
  execFileSync("mkdir", [root]);
  const log = join(work, "calls");
  const env = {
    ...process.env,
    LD_PRELOAD: library,
    RECORD_ROOT: root,
    RECORD_LOG: log,
    UV_USE_IO_URING: "0",
  };
  for (let life = 1; life <= LIVES; life++) {
    const told = [life, scene.spacingMs, scene.bytesMax, 900, SEED].map(String);
    const child = spawnSync(process.execPath, [here("power-child.ts"), root, ...told], {
      env,
      encoding: "utf8",
    });
    if (child.signal !== "SIGKILL") throw new Error(`life ${life} ended by itself: ${child.stderr}`);
  }
  return readCalls(readFileSync(log), root);
}

/** From each start to its first commit: a small part of the record, and the one where least is known. */
function starts(calls: readonly Call[]): [number, number][] {
  const found: [number, number][] = [];
  let from: number | undefined;
  for (const [index, call] of calls.entries()) {
    const line = call.kind === "write" ? call.first.toString() : "";
    if (line.startsWith("life ")) from = index;
    if (!line.startsWith("commit ") || from === undefined) continue;
    found.push([from, index]);
    from = undefined;
  }
  return found;
}

/** From the first page a checkpoint writes to the calls after its sync, when the journal begins again over what it held. */
function checkpoints(calls: readonly Call[]): [number, number][] {
  const file = calls.find(({ first, kind }) => kind === "create" && first.toString() === "/ledger.db")?.inode;
  const found: [number, number][] = [];
  let from: number | undefined;
  for (const [index, { inode, kind }] of calls.entries()) {
    if (inode !== file) continue;
    if (kind === "write") from ??= index;
    if (kind !== "sync" || from === undefined) continue;
    found.push([from, Math.min(index + CALLS_AFTER, calls.length - 1)]);
    from = undefined;
  }
  return found;
}

function note(told: Told, line: string): void {
  const [word, name = "", value = ""] = line.split(" ");
  if (word === "commit") {
    told.lives[Number(name)] = Number(value);
  } else if (word === "life") {
    told.next = Number(name);
  } else if (word === "from") {
    // Committed by the last life and not promised by it, before it was killed; promised by this one, which goes on from it.
    for (let beat = told.lives.length; beat <= Number(name); beat++) told.lives[beat] = told.life;
    told.life = told.next;
  } else if (word === "got") told.got.get(name)?.add(Number(value));
}

/** What is wrong with a state that was opened after a power cut; and how many beats its destinations still get. */
async function judge(state: PowerState, scene: Scene, told: Told): Promise<string[]> {
  const wrong: string[] = [];
  const promised = told.lives.length - 1;
  if (state.beat < promised) wrong.push(`beat ${promised} was promised, ${state.beat} is restored`);
  const lives = [...told.lives];
  // A beat whose commit was under way may be there: it is of the life that ran.
  for (let beat = promised + 1; beat <= state.beat; beat++) lives[beat] = told.life;
  const { losses } = state.spool.status();
  for (const destination of DESTINATIONS) {
    const seen = new Set(told.got.get(destination));
    for (const beat of seen)
      if (beat > state.beat) wrong.push(`${destination} got beat ${beat}, restored ${state.beat}`);
    const held = await heldBy(state, scene, destination, lives, wrong);
    for (const beat of held) seen.add(beat);
    for (let beat = 1; beat <= state.beat; beat++) {
      if (
        seen.has(beat) ||
        isThinned(beat, scene, seen, state.beat) ||
        isTold(beat, scene, destination, losses)
      )
        continue;
      wrong.push(`beat ${beat} never reaches ${destination}, and no loss says so`);
    }
  }
  for (const loss of losses)
    if (loss.why === "corrupt") wrong.push(`a loss of ${loss.records} records as corrupt, nothing is`);
  return wrong;
}

async function heldBy(
  { beat: restored, spool }: PowerState,
  scene: Scene,
  destination: string,
  lives: readonly number[],
  wrong: string[],
): Promise<number[]> {
  const held: number[] = [];
  for (let at = spool.peek(spool.position(destination)); at !== undefined; at = spool.peek(at.sequence)) {
    const bytes = await spool.read(at.sequence);
    if (bytes === undefined) continue;
    const beat = beatOf(bytes, scene.spacingMs);
    if (beat > restored) wrong.push(`${destination} would get beat ${beat}, which was never committed`);
    else if (totalsOf(bytes).join() !== truthAt(beat, lives).join())
      wrong.push(`beat ${beat} says ${totalsOf(bytes)}, the truth is ${truthAt(beat, lives)}`);
    held.push(beat);
  }
  return held;
}

/** A later beat of the same minute says all of it. */
function isThinned(beat: number, scene: Scene, seen: ReadonlySet<number>, last: number): boolean {
  const minute = (one: number): number =>
    Math.floor((Number(START / 1_000_000n) + one * scene.spacingMs) / 60_000);
  if (scene.spacingMs < 10_000) return false;
  for (let later = beat + 1; later <= last && minute(later) === minute(beat); later++)
    if (seen.has(later)) return true;
  return false;
}

function isTold(beat: number, scene: Scene, destination: string, losses: readonly Loss[]): boolean {
  const time = START + BigInt(beat * scene.spacingMs) * 1_000_000n;
  return losses.some(
    (loss) =>
      loss.from <= time &&
      time <= loss.to &&
      (loss.destination === undefined || loss.destination === destination),
  );
}

/** Two more beats, a clean stop, another start: the state works. */
async function goesOn(folder: string, scene: Scene, state: PowerState, encode: Encode): Promise<string[]> {
  const from = state.beat;
  for (const beat of [from + 1, from + 2]) {
    const { batch, snapshot } = state.post(beat, 99, START + BigInt(beat * scene.spacingMs) * 1_000_000n);
    await state.commit(batch, encode(snapshot), () => {});
  }
  await state.close();
  const again = await openPowerState(folder, scene.bytesMax);
  const newest = again.spool.peek(again.spool.head() - 1);
  const bytes = newest === undefined ? undefined : await again.spool.read(newest.sequence);
  const beat = bytes === undefined ? -1 : beatOf(bytes, scene.spacingMs);
  await again.close();
  return again.beat === from + 2 && beat === from + 2
    ? []
    : [`it went on to beat ${again.beat}, spool ${beat}`];
}

type Encode = (snapshot: ReturnType<PowerState["post"]>["snapshot"]) => Parameters<PowerState["commit"]>[1];

test.skipIf(!hasCompiler()).each(SCENES)("power cuts: $name", async (scene) => {
  const { createOtlpEncoder } = await import("../../../agent/export/otlp/encoder.ts");
  const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
  const work = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "power-"));
  const calls = record(scene, work);
  const random = randomFrom(SEED);
  const cuts = new Set(Array.from({ length: CUTS }, () => Math.floor(random() * calls.length)));
  // Half of them close before the commit, when the first record is on disk and its ledger is not.
  for (const [from, to] of starts(calls))
    for (let cut = 0; cut < START_CUTS; cut++)
      cuts.add(to - Math.floor(random() * (cut % 2 === 0 ? to - from : Math.min(32, to - from))));
  // One close before the sync that ends it, the rest anywhere.
  for (const [from, to] of checkpoints(calls)) {
    cuts.add(to - CALLS_AFTER - 1);
    for (let cut = 1; cut < CHECKPOINT_CUTS; cut++) cuts.add(to - Math.floor(random() * (to - from)));
  }
  const disk = new DiskModel();
  const told: Told = {
    lives: [0],
    got: new Map(DESTINATIONS.map((name) => [name, new Set()])),
    life: 1,
    next: 1,
  };
  const wrong: string[] = [];
  let marks: bigint | undefined;
  let disks = 0;
  for (const [index, call] of calls.entries()) {
    if (call.kind === "create" && call.first.toString() === "/marks") marks = call.inode;
    else if (call.kind === "write" && call.inode === marks) note(told, call.first.toString().trim());
    else disk.apply(call);
    if (!cuts.has(index)) continue;
    for (const survival of ["nothing", "everything", random] as const) {
      const folder = join(work, `disk-${disks++}`);
      const found = await startOn(disk, folder, survival, scene, told, (snapshot) =>
        encoder.encode(snapshot),
      );
      for (const one of found)
        wrong.push(`cut ${index} of ${calls.length}, unsynced ${nameOf(survival)}: ${one}`);
      rmSync(folder, { recursive: true, force: true });
    }
  }
  const promised = told.lives.length - 1;
  console.log(
    `${scene.name}: seed ${SEED}, ${LIVES} lives, ${checkpoints(calls).length} checkpoints, ${promised} beats, ${calls.length} calls, ${cuts.size} power cuts, ${disks} disks, ` +
      `lost, doubled or invented beats: ${wrong.length}`,
  );
  rmSync(work, { recursive: true, force: true });
  expect(promised).toBeGreaterThan(100);
  expect(wrong.slice(0, 20)).toEqual([]);
});

async function startOn(
  disk: DiskModel,
  folder: string,
  survival: Survival,
  scene: Scene,
  told: Told,
  encode: Encode,
): Promise<string[]> {
  disk.image(folder, survival);
  try {
    const state = await openPowerState(folder, scene.bytesMax);
    const wrong = await judge(state, scene, told);
    return [...wrong, ...(await goesOn(folder, scene, state, encode))];
  } catch (error) {
    return [`does not start: ${(error as Error).message}`];
  }
}

function nameOf(survival: Survival): string {
  return typeof survival === "string" ? `${survival} kept` : "torn";
}
