// The whole pipeline on real H100 runs, held against the truth by the bars of METERING.md sections 2 and 6.
// Run through the command itself, as its user would: `tokenwatt replay DIR --json`.
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { runProgram } from "../../agent/cli/program.ts";
import type { TraceTruth } from "../tools/trace-truth.ts";
import { traceTruth, within } from "../tools/trace-truth.ts";

const traces = new URL("../fixtures/traces/", import.meta.url);
const folder = (name: string): URL => new URL(`${name}/`, traces);
const STATES = ["token_active", "stalled", "parked", "other", "free", "unobserved"] as const;

type States = Readonly<Record<string, number>>;
interface IntervalLine {
  readonly type: "interval";
  readonly from: number;
  readonly to: number;
  readonly gpu: string;
  readonly state_seconds: States;
  readonly energy_joules: States;
  readonly busy_seconds: number;
  readonly servers: Readonly<Record<string, { gpu_seconds: States; energy_joules: States; method: string }>>;
}
interface ServerLine {
  readonly type: "server";
  readonly from: number;
  readonly to: number;
  readonly server: string;
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly active_seconds: number;
}
interface TotalsLine {
  readonly type: "totals";
  readonly gpus: Readonly<Record<string, { state_seconds: States; energy_joules: States }>>;
  readonly state_seconds: States;
  readonly energy_joules: States;
  readonly servers: Readonly<
    Record<
      string,
      { input_tokens: number; output_tokens: number; gpu_seconds: number; energy_joules: number }
    >
  >;
  readonly kpis: Readonly<Record<string, number | null>>;
}
interface Replay {
  readonly intervals: readonly IntervalLine[];
  readonly servers: readonly ServerLine[];
  readonly totals: TotalsLine;
  readonly exit: number;
  readonly talk: string;
  readonly text: string;
}

async function replay(path: string, ...options: string[]): Promise<Replay> {
  let out = "";
  let talk = "";
  const exit = await runProgram(["replay", path, "--json", ...options], {
    stdout: { write: (text) => (out += text) },
    stderr: { write: (text) => (talk += text) },
    env: {},
  });
  const lines = out
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as { type: string });
  return {
    intervals: lines.filter((line) => line.type === "interval") as unknown as IntervalLine[],
    servers: lines.filter((line) => line.type === "server") as unknown as ServerLine[],
    totals: lines.at(-1) as unknown as TotalsLine,
    exit,
    talk,
    text: out,
  };
}

const path = (name: string): string => folder(name).pathname;
const sum = (values: Iterable<number>): number => [...values].reduce((total, value) => total + value, 0);

/** Sum over 10 s windows of |estimated - true| token-active seconds of the GPU. */
function windowError(truth: TraceTruth, run: Replay): number {
  let error = 0;
  for (let from = truth.first; from < truth.last; from += 10) {
    const to = Math.min(from + 10, truth.last);
    const lines = run.intervals.filter((line) => line.from >= from - 1e-6 && line.from < to - 1e-6);
    error += Math.abs(
      sum(lines.map((line) => line.state_seconds["token_active"] ?? 0)) - within(truth.active, from, to),
    );
  }
  return error;
}

describe.each(["h100-solo-8b", "h100-low-load-1b", "h100-shared-8b-1b"])("replay of %s", (name) => {
  const truth = traceTruth(folder(name));
  const length = truth.last - truth.first;

  test.each([
    ["1s", 0.02, 0.035, 0.02],
    ["5s", 0.03, 0.055, 0.08],
  ])("meets the accuracy of the contract at %s polls", async (poll, whole, windows, server) => {
    const run = await replay(path(name), "--token-poll", poll);
    const active = sum(run.intervals.map((line) => line.state_seconds["token_active"] ?? 0));
    expect(Math.abs(active - within(truth.active, truth.first, truth.last)) / length).toBeLessThanOrEqual(
      whole,
    );
    expect(windowError(truth, run) / length).toBeLessThanOrEqual(windows);
    for (const one of truth.servers) {
      const own = sum(
        run.servers.filter((line) => line.server === one.name).map((line) => line.active_seconds),
      );
      expect(Math.abs(own - within(one.active, truth.first, truth.last)) / length).toBeLessThanOrEqual(
        server,
      );
    }
  });

  test("has next to no token-active time in phases without tokens", async () => {
    const run = await replay(path(name));
    for (const { phase, from, to } of truth.servers.length === 1 ? (truth.servers[0]?.phases ?? []) : []) {
      if (!["idle", "burn", "spin"].includes(phase)) continue;
      const inside = run.intervals.filter((line) => line.from >= from && line.to <= to);
      const active = sum(inside.map((line) => line.state_seconds["token_active"] ?? 0));
      expect(active, `${phase} at ${from}`).toBeLessThanOrEqual(0.03 * (to - from) + 1);
    }
  });

  test.each(["250ms", "1s", "2s", "5s", "15s"])("counts every token once at %s polls", async (poll) => {
    const run = await replay(path(name), "--token-poll", poll);
    for (const one of truth.servers) {
      const lines = run.servers.filter((line) => line.server === one.name);
      expect(sum(lines.map((line) => line.input_tokens))).toBe(one.inputTokens);
      expect(sum(lines.map((line) => line.output_tokens))).toBe(one.outputTokens);
      expect(run.totals.servers[one.name]).toMatchObject({
        input_tokens: one.inputTokens,
        output_tokens: one.outputTokens,
      });
    }
  });

  test("adds every second and every joule up", async () => {
    const run = await replay(path(name));
    let at = truth.first;
    for (const line of run.intervals) {
      expect(line.from).toBeCloseTo(at, 5);
      expect(sum(STATES.map((state) => line.state_seconds[state] ?? 0))).toBeCloseTo(line.to - line.from, 5);
      at = line.to;
    }
    expect(at).toBeCloseTo(truth.last, 5);
    expect(Math.round(1e9 * sum(STATES.map((state) => run.totals.state_seconds[state] ?? 0)))).toBe(
      Math.round((Math.round(truth.last * 1e6) - Math.round(truth.first * 1e6)) * 1e3),
    );
    const lines = run.intervals.length;
    const counter = Number(truth.gpuLines.at(-1)?.["energy_mj"]) - Number(truth.gpuLines[0]?.["energy_mj"]);
    expect(lines).toBe(Math.ceil(length));
    expect(Math.round(1e3 * sum(Object.values(run.totals.energy_joules)))).toBe(counter);
  });

  test("gives the same figures on a copy without the truth in it", async () => {
    const copy = mkdtempSync(join(tmpdir(), "tokenwatt-replay-"));
    const text = (lines: readonly object[]): string => lines.map((line) => JSON.stringify(line)).join("\n");
    const source = traceSource(name);
    for (const [file, lines] of Object.entries(source)) {
      const kept = lines
        .filter((line) => line["event"] !== "phase")
        .map(({ e2e_s: _e2e, ttft_s: _ttft, ...line }) => line);
      writeFileSync(join(copy, file), text(kept));
    }
    const strip = (run: Replay): unknown => [run.intervals, run.servers, run.totals];
    expect(strip(await replay(copy))).toEqual(strip(await replay(path(name))));
  });
});

describe("KPIs of the contract", () => {
  test.each([
    ["h100-solo-8b", 24.6e6, 10.2e6, 0.54, 6.7],
    ["h100-low-load-1b", 10.1e6, 3.36e6, 0.465, 4.6],
  ])("%s comes out as published", async (name, tokens, output, active, perJoule) => {
    const { kpis } = (await replay(path(name))).totals;
    expect(Math.abs((kpis["tokens_per_gpu_hour"] ?? 0) / tokens - 1)).toBeLessThan(0.01);
    expect(Math.abs((kpis["output_tokens_per_gpu_hour"] ?? 0) / output - 1)).toBeLessThan(0.01);
    expect(Math.abs((kpis["token_active_utilization"] ?? 0) - active)).toBeLessThan(0.02);
    expect(Math.abs((kpis["output_tokens_per_joule"] ?? 0) / perJoule - 1)).toBeLessThan(0.015);
  });
});

describe("two servers on one GPU", () => {
  const run = replay(path("h100-shared-8b-1b"));
  const truth = traceTruth(folder("h100-shared-8b-1b"));

  test("share its allocated seconds and joules exactly", async () => {
    for (const line of (await run).intervals) {
      const allocated = ["token_active", "stalled", "parked"];
      const own = (key: "gpu_seconds" | "energy_joules"): number =>
        sum(
          Object.values(line.servers).flatMap((server) => allocated.map((state) => server[key][state] ?? 0)),
        );
      expect(own("gpu_seconds")).toBeCloseTo(
        sum(allocated.map((state) => line.state_seconds[state] ?? 0)),
        8,
      );
      expect(own("energy_joules")).toBeCloseTo(
        sum(allocated.map((state) => line.energy_joules[state] ?? 0)),
        6,
      );
    }
  });

  test("the idle one gets no active energy", async () => {
    const eight = truth.servers.find((server) => server.name === "tokens-8b");
    const idle = eight?.phases.find((phase) => phase.phase === "idle");
    if (idle === undefined) throw new Error("the trace has no idle phase of the 8B server");
    const inside = (await run).intervals.filter((line) => line.from > idle.from + 1 && line.to < idle.to - 1);
    expect(inside.length).toBeGreaterThan(5);
    for (const line of inside) {
      expect(line.servers["tokens-8b"]?.energy_joules["token_active"] ?? 0).toBe(0);
      expect(line.servers["tokens-1b"]?.energy_joules["token_active"] ?? 0).toBeGreaterThan(0);
    }
  });
});

describe("bad recordings", () => {
  test("a folder without gpu.jsonl is refused with what was found", async () => {
    const empty = mkdtempSync(join(tmpdir(), "tokenwatt-replay-"));
    writeFileSync(join(empty, "tokens.jsonl"), "");
    const run = await replay(empty);
    expect(run.exit).toBe(2);
    expect(run.talk).toContain("wanted gpu.jsonl in it, found tokens.jsonl");
    expect(run.talk).toContain("hint:");
  });

  test("a malformed line is named and left out, the rest is metered", async () => {
    const copy = mkdtempSync(join(tmpdir(), "tokenwatt-replay-"));
    for (const [file, lines] of Object.entries(traceSource("h100-low-load-1b"))) {
      const texts = lines.map((line) => JSON.stringify(line));
      if (file === "gpu.jsonl") texts.splice(200, 0, '{"t":1795419997.9,"gpu_ut');
      writeFileSync(join(copy, file), texts.join("\n"));
    }
    const run = await replay(copy);
    expect(run.exit).toBe(0);
    expect(run.talk).toMatch(/gpu\.jsonl:201: no JSON/);
    const clean = await replay(path("h100-low-load-1b"));
    expect(run.totals).toEqual(clean.totals);
  });

  test("a missing folder is refused", async () => {
    const run = await replay("/nonexistent/recording");
    expect(run.exit).toBe(2);
    expect(run.talk).toContain("Cannot open recording /nonexistent/recording");
  });
});

function traceSource(name: string): Record<string, Record<string, unknown>[]> {
  const at = folder(name);
  const files: Record<string, Record<string, unknown>[]> = {};
  for (const file of readdirSync(at)) {
    const text = gunzipSync(readFileSync(new URL(file, at))).toString();
    files[file.replace(/\.gz$/, "")] = text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line));
  }
  return files;
}
