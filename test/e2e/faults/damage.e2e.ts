// Every class of bytes of a spool damaged in turn under an undelivered backlog. The agent starts, later beats bring the
// totals right, no value is wrong, and what cannot be delivered any more is on record: no more and no less.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { createOtlpEncoder } from "../../../agent/export/otlp/encoder.ts";
import { Sender } from "../../../agent/export/otlp/sender.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { openSegmentSpool } from "../../../agent/store/spool/segment-spool.ts";
import type { Spool } from "../../../agent/store/spool/spool.ts";
import { Oracle } from "./oracle.ts";
import { snapshotAt } from "./truth.ts";

const BEATS = 12;
const START = 1_793_491_200_000_000_000n;
const root = mkdtempSync(join(tmpdir(), "damage-"));
const report: string[] = [];
afterAll(() => {
  rmSync(root, { recursive: true, force: true });
  console.log(`lost and doubled tokens by damage:\n  ${report.join("\n  ")}`);
});

const encoder = createOtlpEncoder({ resource: { "service.name": "tokenwatt" }, version: "0" });
function open(folder: string): Promise<Spool> {
  const options = { folder, destinations: ["main"], log: silentLog, freeBytesMin: 0, committed: BEATS };
  return openSegmentSpool({ ...options, bytesMax: 8_000_000, segmentBytes: 4096 });
}

const whole = join(root, "whole");
const spool = await openSegmentSpool({
  folder: whole,
  destinations: ["main"],
  log: silentLog,
  freeBytesMin: 0,
  bytesMax: 8_000_000,
  segmentBytes: 4096,
});
for (let beat = 1; beat <= BEATS; beat++)
  spool.commit(await spool.append(encoder.encode(snapshotAt(beat, START))));
await spool.close();
const names = readdirSync(whole)
  .filter((name) => name.endsWith(".segment"))
  .sort();

/** Where a class of bytes lies in a segment; a record's header is 56 bytes long and follows the segment's 32. */
const bytes: Record<string, readonly [at: number, length: number]> = {
  "segment magic": [0, 4],
  "segment checksum": [4, 4],
  "segment sequence": [8, 8],
  "segment padding": [16, 16],
  "record magic": [32, 4],
  "header checksum": [36, 4],
  "payload checksum": [40, 4],
  "payload length": [44, 4],
  "raw length": [48, 4],
  points: [52, 4],
  codec: [56, 4],
  skipped: [60, 4],
  sequence: [64, 8],
  time: [72, 8],
  layout: [80, 8],
  "payload, first byte": [88, 1],
  "payload, middle": [150, 8],
};
const changes: Record<string, (content: Buffer) => Buffer> = Object.fromEntries(
  Object.entries(bytes).flatMap(([name, [at, length]]) => [
    [`${name} inverted`, (content: Buffer) => patched(content, at, (i) => ~(content[at + i] ?? 0), length)],
    [`${name} zeroed`, (content: Buffer) => patched(content, at, () => 0, length)],
  ]),
);
changes["cut in a header"] = (content) => content.subarray(0, 50);
changes["cut in a payload"] = (content) => content.subarray(0, 150);
changes["emptied"] = () => Buffer.alloc(0);
changes["all zeros"] = (content) => Buffer.alloc(content.length);
changes["noise"] = (content) => Buffer.from(crypto.getRandomValues(new Uint8Array(content.length)));

function patched(content: Buffer, at: number, value: (i: number) => number, length: number): Buffer {
  const copy = Buffer.from(content);
  for (let i = 0; i < length; i++) copy[at + i] = value(i);
  return copy;
}

async function judge(name: string, folder: string): Promise<void> {
  const damaged = await open(folder);
  const oracle = new Oracle(START);
  const sender = new Sender({
    destination: "main",
    spool: damaged,
    clock: systemClock(),
    log: silentLog,
    limits: { thinAfterMs: 1e15, drainTimesLive: 10, jitterMs: 0 },
    transport: {
      send: async (request) => {
        oracle.accept(request);
        return { kind: "accepted" };
      },
      close: () => {},
    },
  });
  sender.start();
  for (let beat = BEATS + 1; beat <= BEATS + 3; beat++)
    damaged.commit(await damaged.append(encoder.encode(snapshotAt(beat, START))));
  expect(await sender.flush(10_000)).toBe(true);
  const promised = Array.from({ length: BEATS + 3 }, (_, i) => i + 1);
  const verdict = oracle.verdict(BEATS + 3, promised);
  const told = damaged.status().losses.reduce((sum, loss) => sum + loss.records, 0);
  await sender.stop();
  await damaged.close();
  report.push(`${name}: lost ${verdict.lostTokens}, doubled ${verdict.doubledTokens}, told ${told}`);
  const perSeries = verdict.missingBeats / 12;
  expect({ ...verdict, missingBeats: 0 }).toEqual({
    lostTokens: 0n,
    doubledTokens: 0n,
    wrongPoints: 0,
    outOfOrder: 0,
    missingBeats: 0,
    uncommitted: 0,
  });
  expect(told, name).toBe(perSeries);
}

test.each(["first", "middle", "last"])("the %s segment", async (place) => {
  const name = names[place === "first" ? 0 : place === "last" ? names.length - 1 : names.length >> 1] ?? "";
  for (const [what, change] of Object.entries(changes)) {
    const folder = join(root, "damaged");
    cpSync(whole, folder, { recursive: true });
    writeFileSync(join(folder, name), change(readFileSync(join(folder, name))));
    await judge(`${place} segment, ${what}`, folder);
    rmSync(folder, { recursive: true });
  }
});

test("a segment that is gone, a state that is cut, noise or gone, each alone", async () => {
  const damages: Record<string, (folder: string) => void> = {
    "segment gone": (folder) => rmSync(join(folder, names[1] ?? "")),
    "state cut": (folder) => truncateSync(join(folder, "state"), 100),
    "state noise": (folder) =>
      writeFileSync(join(folder, "state"), crypto.getRandomValues(new Uint8Array(200))),
    "state gone": (folder) => rmSync(join(folder, "state")),
  };
  for (const [what, damage] of Object.entries(damages)) {
    const folder = join(root, "damaged");
    cpSync(whole, folder, { recursive: true });
    damage(folder);
    await judge(what, folder);
    rmSync(folder, { recursive: true });
  }
});
