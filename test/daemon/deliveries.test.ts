// What a destination refuses: kept as a letter, counted, on the audit record; and what else the spool loses.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { loadConfig } from "../../agent/config/load.ts";
import { Deliveries } from "../../agent/daemon/deliveries.ts";
import { createOtlpEncoder } from "../../agent/export/otlp/encoder.ts";
import { Books } from "../../agent/meter/books.ts";
import { systemClock } from "../../agent/platform/clock.ts";
import { status } from "../../agent/platform/grpc.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { deadLetterFolder, openDeadLetters } from "../../agent/store/dead-letters.ts";
import { memorySpool } from "../../agent/store/spool/memory-spool.ts";
import { bulk, T0 } from "../export/snapshots.ts";
import { startCollector } from "../fakes/otlp-collector.ts";

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

test("Deliveries keep what is refused for good and put it on record with from, to, how much and why", async () => {
  const stateDir = mkdtempSync(join(tmpdir(), "deliveries-"));
  closing.push(() => rmSync(stateDir, { recursive: true, force: true }));
  const answer = (index: number) =>
    index === 0 ? ({ kind: "ok" } as const) : ({ kind: "error", code: status.UNAUTHENTICATED } as const);
  const collector = await startCollector({ answer });
  closing.push(() => collector.close());
  const settings = [`stateDir=${stateDir}`, `export.otlp.endpoint=http://127.0.0.1:${collector.port}`];
  const { config } = loadConfig({ env: {}, settings });
  const clock = systemClock();
  const books = new Books({ start: T0, unixNanos: (at) => clock.unixNanos(at) });
  const spool = memorySpool(["main"], 1_500);
  const deliveries = new Deliveries({
    config,
    clock,
    log: silentLog,
    spool,
    books,
    env: {},
    keepsLetters: true,
  });
  const [sender] = deliveries.senders;
  const encoder = createOtlpEncoder({ resource: {}, version: "0" });
  sender?.start();
  closing.push(() => sender?.stop());
  for (let beat = 1; beat <= 3; beat++) {
    spool.commit(await spool.append(encoder.encode(bulk(4, beat))));
    await sender?.flush(5_000);
  }
  await spool.append([4, 5, 6, 7, 8].flatMap((beat) => encoder.encode(bulk(4, beat))));
  await deliveries.beforeCommit(true);
  expect(deliveries.deadLetters).toBe(2);
  expect(deliveries.statuses()).toMatchObject([{ droppedPoints: { UNAUTHENTICATED: 8 }, unsentSeconds: 0 }]);
  const letters = openDeadLetters({ folder: deadLetterFolder(stateDir) });
  expect(
    (await letters.list()).map(({ dataSeconds, points, why }) => [Number(dataSeconds), points, why]),
  ).toEqual([
    [Number(T0 / 1_000_000_000n) + 20, 4, "UNAUTHENTICATED"],
    [Number(T0 / 1_000_000_000n) + 30, 4, "UNAUTHENTICATED"],
  ]);
  const { audit } = books.commit(T0 + 1n, 1).batch;
  const at = (beat: number): string => String(T0 + BigInt(beat) * 10_000_000_000n);
  expect(audit.filter(({ kind }) => kind === "loss").map(({ body }) => body)).toEqual([
    {
      why: "refused",
      reason: "UNAUTHENTICATED",
      destination: "main",
      from: at(2),
      to: at(3),
      records: 2,
      points: 8,
    },
    expect.objectContaining({ why: "evicted_bytes", from: at(4) }),
  ]);
});
