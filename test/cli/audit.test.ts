// `tokenwatt audit`: every entry of the chain as it was written, filters, and nothing beyond an entry that was changed.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import * as fc from "fast-check";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import type { AuditEntry } from "../../agent/model.ts";
import { migrate } from "../../agent/store/ledger/schema.ts";
import { LedgerWriter } from "../../agent/store/ledger/writer.ts";
import { ledgerPath } from "../../agent/store/state-folder.ts";
import { runCommand } from "./capture-io.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-audit-"));
const file = ledgerPath(folder);
afterAll(() => rmSync(folder, { recursive: true }));

const START = 1_793_491_200_000_000_000n;
const at = (seconds: number): string => String(START + BigInt(seconds) * 1_000_000_000n);
const entries: readonly AuditEntry[] = [
  { at: at(0), kind: "start", body: { version: "1", pid: 7 } },
  { at: at(60), kind: "config", body: { changed: ["servers.vllm[0]", "prices"] } },
  {
    at: at(900),
    kind: "access",
    body: { listener: "http", from: at(0), to: at(900), callers: { loopback: { ok: 9 } } },
  },
  { at: at(1000), kind: "gap", body: { source: "gpu", why: "the driver's reader died" } },
  {
    at: at(1800),
    kind: "access",
    body: { listener: "server:usage", from: at(900), to: at(1800), callers: {} },
  },
];

function write(all: readonly AuditEntry[] = entries): void {
  mkdirSync(folder, { recursive: true });
  for (const suffix of ["", "-wal", "-shm"]) rmSync(file + suffix, { force: true });
  const database = new DatabaseSync(file);
  migrate(database, file);
  const writer = new LedgerWriter(database);
  for (const entry of all) writer.audit(entry);
  database.close();
}
function change(sql: string): void {
  const database = new DatabaseSync(file);
  database.exec(sql);
  database.close();
}
const audit = (...options: readonly string[]) => runCommand(["audit", "--state-dir", folder, ...options]);
const kinds = (stdout: string): unknown[] =>
  stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { kind: unknown }).kind);

beforeEach(() => write());

describe("tokenwatt audit", () => {
  test("prints every entry for people, oldest first, and says that the chain holds", async () => {
    const { exitCode, stderr, stdout } = await audit();
    expect(stdout).toBe(
      `${[
        "2026-11-01T00:00:00.000Z      1 start      pid=7 version=1",
        '2026-11-01T00:01:00.000Z      2 config     changed=["servers.vllm[0]","prices"]',
        '2026-11-01T00:15:00.000Z      3 access     callers={"loopback":{"ok":9}} from=2026-11-01T00:00:00.000Z listener=http to=2026-11-01T00:15:00.000Z',
        `2026-11-01T00:16:40.000Z      4 gap        source=gpu why="the driver's reader died"`,
        "2026-11-01T00:30:00.000Z      5 access     callers={} from=2026-11-01T00:15:00.000Z listener=server:usage to=2026-11-01T00:30:00.000Z",
      ].join("\n")}\n`,
    );
    expect(stderr).toMatch(/^5 of 5 entries; the chain holds, head [0-9a-f]{64}\n$/);
    expect(exitCode).toBe(0);
  });

  test.each<[string[], string[]]>([
    [
      ["--kind", "access"],
      ["access", "access"],
    ],
    [
      ["--kind", "config, gap"],
      ["config", "gap"],
    ],
    [
      ["--from", "2026-11-01T00:15Z"],
      ["access", "gap", "access"],
    ],
    [
      ["--to", "2026-11-01T00:15Z"],
      ["start", "config"],
    ],
    [
      ["--from", "2026-11-01T00:01Z", "--to", "2026-11-01T00:16Z"],
      ["config", "access"],
    ],
    [["--from", "2026-11-01T01:15", "--time-zone", "Europe/Berlin", "--kind", "gap"], ["gap"]],
  ])("with %j prints %j", async (options, wanted) => {
    const { exitCode, stdout } = await audit("--json", ...options);
    expect(kinds(stdout)).toEqual(wanted);
    expect(exitCode).toBe(0);
  });

  test("prints what came after a head that left, and nothing of a history that does not hold it", async () => {
    const [, second] = (await audit("--json")).stdout.split("\n").map((line) => JSON.parse(line || "{}"));
    const heads = join(folder, "heads.jsonl");
    const keep = (hash: string, length: number): void =>
      writeFileSync(heads, JSON.stringify({ length, hash }));
    keep(second.hash, 2);
    expect(kinds((await audit("--json", "--since-head", heads)).stdout)).toEqual(["access", "gap", "access"]);
    keep("f".repeat(64), 2);
    const rewritten = await audit("--json", "--since-head", heads);
    expect([rewritten.stdout, rewritten.exitCode]).toEqual(["", 2]);
    expect(rewritten.stderr).toBe(
      "entry 2 (config): it left the host with another hash: the history was rewritten\n",
    );
    keep(second.hash, 9);
    expect(await audit("--since-head", heads)).toMatchObject({
      exitCode: 2,
      stderr: "the record ends at 5, and had 9 entries when the head left: it was rewritten\n",
    });
  });

  test("ends with 2 at the entry that was changed, wherever and however, and prints those before it", async () => {
    const changes = fc.constantFrom(
      (n: number) => `UPDATE audit SET body = replace(body, '{', '{"x":1,') WHERE sequence = ${n}`,
      (n: number) => `UPDATE audit SET at = at || '1' WHERE sequence = ${n}`,
      (n: number) => `UPDATE audit SET kind = 'loss' WHERE sequence = ${n}`,
      (n: number) => `UPDATE audit SET hash = upper(hash) || 'A' WHERE sequence = ${n}`,
      (n: number) => `UPDATE audit SET sequence = 100 WHERE sequence = ${n}`,
    );
    await fc.assert(
      fc.asyncProperty(changes, fc.integer({ min: 1, max: entries.length }), async (how, place) => {
        write();
        change(how(place));
        const { exitCode, stderr, stdout } = await audit("--json");
        expect(kinds(stdout)).toEqual(entries.slice(0, place - 1).map(({ kind }) => kind));
        expect(exitCode).toBe(2);
        expect(stderr).toMatch(/^entry \d+ \(\w+\): /);
      }),
      { numRuns: 20 },
    );
  });

  test.each<[string[], RegExp]>([
    [["--kind", "acces"], /Cannot use --kind: got "acces".*\nhint: wanted some of start, /],
    [["--from", "soon"], /Cannot read --from: got "soon"/],
    [["--since-head", "/nowhere"], /Cannot read --since-head \/nowhere/],
    [["--time-zone", "Mars/Base"], /Cannot use --time-zone: got "Mars\/Base"/],
  ])("refuses %j", async (options, words) => {
    const { exitCode, stderr } = await audit(...options);
    expect(stderr).toMatch(words);
    expect(exitCode).toBe(2);
  });

  test("says where there is no ledger", async () => {
    const { exitCode, stderr } = await runCommand(["audit", "--state-dir", join(folder, "none")]);
    expect(stderr).toContain(join(folder, "none"));
    expect(exitCode).not.toBe(0);
  });
});
