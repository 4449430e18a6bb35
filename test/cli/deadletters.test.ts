// `tokenwatt deadletters` over a real folder and a collector that answers as it is told.
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { status } from "../../agent/platform/grpc.ts";
import { deadLetterFolder, openDeadLetters } from "../../agent/store/dead-letters.ts";
import { bulk } from "../export/snapshots.ts";
import { encodeOtlp } from "../fakes/encode-otlp.ts";
import type { Answer, FakeCollector } from "../fakes/otlp-collector.ts";
import { startCollector } from "../fakes/otlp-collector.ts";
import type { Captured } from "./capture-io.ts";
import { runCommand } from "./capture-io.ts";

const T = 1_767_225_600_000;
let folder = "";
let collector: FakeCollector;
let answers: (index: number) => Answer = () => ({ kind: "ok" });
let timeoutMs = 0;

beforeEach(async () => {
  timeoutMs = 60_000;
  folder = mkdtempSync(join(tmpdir(), "deadletters-"));
  answers = () => ({ kind: "ok" });
  collector = await startCollector({ receiveBytesMax: 2_000, answer: (index) => answers(index) });
});
afterEach(async () => {
  await collector.close();
  rmSync(folder, { recursive: true, force: true });
});

function request(beat: number, series = 2): Uint8Array {
  return encodeOtlp(bulk(series, beat), {})[0] as Uint8Array;
}

async function keep(
  count: number,
  destination = "main",
  why = "INVALID_ARGUMENT",
  series = 2,
): Promise<void> {
  const letters = openDeadLetters({ folder: deadLetterFolder(folder) });
  for (let n = 1; n <= count; n++) {
    const times = { dataSeconds: T / 1000 + n * 10, unixMs: T + n * 10_000 };
    await letters.put({ destination, why, points: series, ...times }, request(n, series));
  }
}

function run(...words: string[]): Promise<Captured> {
  const endpoint = `http://127.0.0.1:${collector.port}`;
  const otlp = [`export.otlp.endpoint=${endpoint}`, `export.otlp.timeoutMs=${timeoutMs}`];
  const set = [`stateDir=${folder}`, ...otlp];
  return runCommand(["deadletters", ...words, ...set.flatMap((one) => ["--set", one])]);
}

const left = (): string[] => readdirSync(deadLetterFolder(folder));
const ids = async (): Promise<string[]> =>
  (JSON.parse((await run("list", "--json")).stdout) as { id: string }[]).map(({ id }) => id);

describe("deadletters list", () => {
  test("shows what was refused, for people and as JSON, and nothing where there is none", async () => {
    expect(await run("list")).toMatchObject({
      stdout: "",
      exitCode: 0,
      stderr: expect.stringContaining("no dead letters"),
    });
    await keep(2);
    await keep(1, "archive", "partial");
    const { exitCode, stdout } = await run("list");
    expect(exitCode).toBe(0);
    expect(stdout.trimEnd().split("\n")).toHaveLength(4);
    expect(stdout).toMatch(
      /2026-01-01T00:00:10\.000Z +main +INVALID_ARGUMENT +2026-01-01T00:00:10\.000Z +2$/m,
    );
    const { stdout: json } = await run("list", "--json", "--destination", "archive");
    expect(JSON.parse(json)).toEqual([
      expect.objectContaining({ destination: "archive", why: "partial", points: 2 }),
    ]);
  });
});

describe("deadletters resend", () => {
  test("sends oldest first with the bytes as they were, and removes what was taken", async () => {
    await keep(3);
    const { exitCode, stderr, stdout } = await run("resend", "--out-of-order");
    expect([exitCode, stderr]).toEqual([0, "sent 3, refused again 0, left 0\n"]);
    expect(stdout.trimEnd().split("\n")).toHaveLength(3);
    expect(collector.requests.map((one) => Buffer.from(one))).toEqual(
      [1, 2, 3].map((n) => Buffer.from(request(n))),
    );
    expect(left()).toEqual([]);
  });

  test("never sends old points to a destination that wants each series in order, unless told that it does not", async () => {
    await keep(1);
    const refused = await run("resend");
    expect(refused).toMatchObject({ exitCode: 2, stdout: "" });
    expect(refused.stderr).toContain("--out-of-order");
    expect(collector.seen()).toBe(0);
    expect((await run("resend", "--set", "export.otlp.backlog=parallel")).exitCode).toBe(0);
    expect(left()).toEqual([]);
  });

  test("keeps what is refused again and goes on; only the chosen ones are sent", async () => {
    await keep(4);
    const all = await ids();
    answers = (index) => (index === 0 ? { kind: "error", code: status.INVALID_ARGUMENT } : { kind: "ok" });
    const { exitCode, stdout } = await run("resend", ...all.slice(0, 2), "--out-of-order", "--json");
    expect(exitCode).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject([
      { id: all[0], outcome: "refused", why: "INVALID_ARGUMENT: told to fail" },
      { id: all[1], outcome: "sent" },
    ]);
    expect(await ids()).toEqual([all[0], all[2], all[3]]);
  });

  test("stops at a destination that is away: one call, no order broken, every letter kept", async () => {
    await keep(3);
    const before = await ids();
    for (const answer of [{ kind: "error", code: status.UNAVAILABLE }, { kind: "silence" }] as const) {
      const calls = collector.seen();
      if (answer.kind === "silence") timeoutMs = 400;
      answers = () => answer;
      const { exitCode, stderr } = await run("resend", "--out-of-order");
      expect([exitCode, stderr]).toEqual([1, "sent 0, refused again 0, left 3\n"]);
      expect(collector.seen()).toBe(calls + 1);
    }
    expect(await ids()).toEqual(before);
  });

  test("splits what is too large, keeps a damaged file and a destination that is gone", async () => {
    await keep(1, "main", "too_large", 40);
    await keep(1, "former");
    writeFileSync(join(deadLetterFolder(folder), "000000000000020000-1-1-main-partial.otlp.gz"), "no gzip");
    const { exitCode, stdout } = await run("resend", "--out-of-order");
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/refused {2}the file is damaged\n\d+ {2}sent\n\d+ {2}left {2}no such destination/);
    expect(collector.requests.length).toBeGreaterThan(1);
    expect(left()).toHaveLength(2);
  });
});

describe("deadletters drop", () => {
  test("removes the named or all, and says which; without either it does nothing", async () => {
    await keep(3);
    await keep(1, "archive");
    expect((await run("drop")).exitCode).toBe(2);
    const [first = ""] = await ids();
    expect(await run("drop", first)).toMatchObject({
      exitCode: 0,
      stdout: `${first}\n`,
      stderr: "dropped 1\n",
    });
    expect((await run("drop", first)).exitCode).toBe(2);
    const { stdout } = await run("drop", "--all", "--destination", "main", "--json");
    expect(JSON.parse(stdout).dropped).toHaveLength(2);
    expect(left()).toHaveLength(1);
    expect(collector.seen()).toBe(0);
  });
});
