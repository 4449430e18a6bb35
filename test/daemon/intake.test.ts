// Intake.bookFacts(): a rate is learned only of a server whose GPUs are all here.
import { describe, expect, test } from "vitest";
import { createCore } from "../../agent/daemon/accounting.ts";
import { Intake } from "../../agent/daemon/intake.ts";
import { standalone } from "../../agent/daemon/life.ts";
import type { BookFacts } from "../../agent/meter/books.ts";
import { Books } from "../../agent/meter/books.ts";
import { defaultWeights } from "../../agent/meter/money/tenants.ts";
import type { ServerInfo, TokenSample } from "../../agent/model.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import type { Log } from "../../agent/platform/log.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { engine, h100, intervalOf, moved, START } from "../meter/fixtures.ts";

function sampleOf(
  more: Partial<TokenSample> & { readonly waiting?: number; readonly role?: "decode" },
): TokenSample {
  const { role = "combined", waiting, ...rest } = more;
  const reading = { role, tokens: {}, requests: {}, volume: "step" } as const;
  const readings = [waiting === undefined ? reading : { ...reading, waiting }, reading];
  const plain = { server: "s", family: "engine", sent: 0, received: 0, at: 0 } as const;
  return { ...plain, readings, ignoredSamples: 0, errors: [], ...rest };
}

function intakeWith(log: Log): Intake {
  const clock = virtualClock(START);
  const core = createCore({
    clock,
    intervalMs: 1000,
    gpuPollMs: 1000,
    correlate: { stallAfterSeconds: 60, settleMsMax: 30_000, shares: {}, weights: defaultWeights },
    series: { max: 1000, tenantsMax: 10, latencyTenants: [], idleSeconds: 86_400 },
    strict: true,
  });
  return new Intake({
    ...core,
    clock,
    log,
    gpuPollMs: 1000,
    inventoryMs: 60_000,
    life: standalone,
  });
}

function facts(server: Partial<ServerInfo>, sample?: TokenSample): BookFacts {
  const intake = intakeWith(silentLog);
  intake.setGpus([h100, { ...h100, uuid: "MIG-1", parent: "GPU-2", weight: 3 / 7 }]);
  const info = { ...engine, ...server, id: "s" };
  intake.addServer(info);
  if (sample !== undefined) intake.acceptTokens(info, sample);
  return intake.bookFacts();
}

describe("Intake.bookFacts()", () => {
  test.each<[string, Partial<ServerInfo>, TokenSample | undefined, boolean]>([
    ["names no GPU", {}, undefined, true],
    ["is configured for GPUs here", { gpus: ["GPU-1", "MIG-1", "GPU-2"] }, undefined, true],
    ["is configured for a GPU of another host too", { gpus: ["GPU-1", "GPU-9"] }, undefined, false],
    ["says it runs here", {}, sampleOf({ gpus: ["GPU-1"] }), true],
    ["says it runs on another host too", {}, sampleOf({ gpus: ["GPU-1", "GPU-9"] }), false],
    ["only decodes", {}, sampleOf({ role: "decode" }), false],
  ])("whole() of a server that %s", (_what, server, sample, whole) => {
    expect(facts(server, sample).whole?.("s")).toBe(whole);
  });

  test.each([["s"], ["behind"]])("a gateway that a stream of ours brings as %s is no engine", (server) => {
    const gateway = facts({}, sampleOf({ server, family: "gateway" }));
    expect([...gateway.servers.values()]).toMatchObject([{ id: server, family: "gateway" }]);
    const both = intakeWith(silentLog);
    both.addServer({ ...engine, id: "s" });
    for (const [id, family] of [
      ["engine", "engine"],
      ["front", "gateway"],
      ["engine", "engine"],
    ] as const)
      both.acceptTokens({ ...engine, id: "s" }, sampleOf({ server: id, family }));
    const families = [...both.bookFacts().servers.values()].map((one) => [one.id, one.family]);
    expect(families).toEqual([
      ["engine", "engine"],
      ["front", "gateway"],
    ]);
  });

  test("waiting() sums what readings say, and says nothing where none does", () => {
    expect(facts({}, sampleOf({ waiting: 3 })).waiting?.("s")).toBe(3);
    expect(facts({}, sampleOf({})).waiting?.("s")).toBeUndefined();
    expect(facts({}).waiting?.("s")).toBeUndefined();
  });

  test.each([
    ["here", "GPU-1", true],
    ["also elsewhere", "GPU-9", false],
  ])("lets Books learn a capacity from a server that is %s", (_where, gpu, learned) => {
    const clock = virtualClock(START);
    const books = new Books({ start: START, unixNanos: (at) => clock.unixNanos(at) });
    const known = facts({ gpus: ["GPU-1", gpu] }, sampleOf({ waiting: 1 }));
    for (let minute = 0; minute < 10; minute++) {
      const increments = [moved({ tokens: { output: 60_000 } })];
      const times = { from: minute * 60, to: (minute + 1) * 60, seconds: { token_active: 60 } };
      books.bookInterval(intervalOf({ ...times, increments }), known);
    }
    const { snapshot } = books.commit(clock.unixNanos(600e9), 600e9);
    const sources = snapshot.points
      .filter(({ metric }) => metric === "tokenwatt.capacity_tokens")
      .map(({ dimensions }) => dimensions["tokenwatt.capacity.source"]);
    expect(sources).toEqual(learned ? ["learned"] : []);
  });
});

describe("Intake.acceptTokens()", () => {
  test("logs a problem of a page once while it lasts, and again when it comes back", () => {
    const logged: unknown[] = [];
    const intake = intakeWith({
      ...silentLog,
      warn: (_event, fields) => void logged.push(fields?.["cause"]),
    });
    const info = { ...engine, id: "s" };
    intake.addServer(info);
    const polls = [["a", "stands for 120 s"], ["a", "stands for 125 s"], ["b", "a"], [], ["a"]];
    for (const errors of polls) intake.acceptTokens(info, sampleOf({ errors }));
    expect(logged).toEqual(["a", "stands for 120 s", "b", "a"]);
  });
});
