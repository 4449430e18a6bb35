// Latencies by how requests ended, from single records to the ledger and the report. The laws: summed over outcomes they are
// the latencies of all requests, whatever is told of them; and a request that is known to have failed, however slow or quick,
// moves no percentile of served ones and meets no objective.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Books } from "../../agent/meter/books.ts";
import { addHistograms } from "../../agent/meter/counters/histograms.ts";
import { Increments } from "../../agent/meter/counters/increments.ts";
import { latencyOf, outcomeOf } from "../../agent/meter/counters/latency-keys.ts";
import { Sums } from "../../agent/meter/figures/group-sums.ts";
import { reportLine } from "../../agent/meter/figures/report.ts";
import { planReport } from "../../agent/meter/figures/report-plan.ts";
import type {
  Histogram,
  Latencies,
  LatencyKey,
  LedgerPoint,
  Outcome,
  TokenReading,
} from "../../agent/model.ts";
import { UsageTotals } from "../../agent/servers/receive/usage-totals.ts";
import { factsOf, gateway, intervalOf, moved, SECOND, START, unixNanos } from "./fixtures.ts";

const outcomes: readonly Outcome[] = ["ok", "error", "aborted", "rejected"];
const outcome = fc.option(fc.constantFrom(...outcomes), { nil: undefined });
const seconds = fc.constantFrom(0.001, 0.03, 0.3, 2, 600);
const request = fc.record({
  outcome,
  seconds,
  tenant: fc.constantFrom("a", "b"),
  endpoint: fc.constantFrom("chat", "batch"),
});
type Request = typeof request extends fc.Arbitrary<infer Each> ? Each : never;

const DURATION = "tokenwatt.gateway.request_duration";

/** What a host exports and keeps of these requests, reported to it one by one in beats. */
function booked(beats: readonly (readonly Request[])[]): readonly LedgerPoint[] {
  const objectives = [{ name: "fast", seconds: { request_duration: 0.5 } }];
  const books = new Books({ start: START, unixNanos, objectives });
  const totals = new UsageTotals(gateway, 0, "e");
  const counters = new Increments({ agentStarted: 0 });
  for (const [beat, requests] of beats.entries()) {
    for (const { endpoint, outcome: ended, seconds: took, tenant } of requests) {
      const told = ended === undefined ? {} : { outcome: ended };
      totals.addUsage({
        ...{ model: "m", tenant, endpoint, requests: 1, seconds: { request_duration: took } },
        ...told,
      });
    }
    const sample = totals.sample((beat + 1) * SECOND, "gateway");
    const { increments } = counters.countSample({ ...sample, server: "g" });
    books.bookInterval(intervalOf({ from: beat, to: beat + 1, increments }), factsOf({ gateway: true }));
  }
  const end = beats.length * SECOND;
  return books.commit(unixNanos(end), end).snapshot.points;
}

function summed(points: readonly LedgerPoint[]): Histogram | undefined {
  return points
    .filter(({ metric }) => metric === DURATION)
    .map(({ value }) => value as Histogram)
    .reduce<Histogram | undefined>(
      (sum, one) => (sum === undefined ? one : addHistograms(sum, one)),
      undefined,
    );
}

const beats = fc.array(fc.array(request, { maxLength: 12 }), { minLength: 1, maxLength: 5 });

describe("latencies by outcome", () => {
  it("sum over outcomes to the latencies of all requests, each told as its source told it", () => {
    fc.assert(
      fc.property(beats, (all) => {
        const points = booked(all);
        const untold = booked(all.map((some) => some.map((one) => ({ ...one, outcome: undefined }))));
        const [sum, whole] = [summed(points), summed(untold)];
        expect(sum?.counts).toEqual(whole?.counts);
        expect(sum?.sum ?? 0).toBeCloseTo(whole?.sum ?? 0, 6);
        for (const ended of [undefined, ...outcomes]) {
          const wanted = all.flat().filter((one) => one.outcome === ended).length;
          const own = points.filter(({ dimensions }) => dimensions["tokenwatt.outcome"] === ended);
          expect(summed(own)?.count ?? 0).toBe(wanted);
        }
      }),
      { numRuns: 100 },
    );
  });

  it("of failed requests move no percentile of served ones, in any group but that of their outcome", () => {
    fc.assert(
      fc.property(beats, (all) => {
        const served = all.map((some) => some.filter((one) => (one.outcome ?? "ok") === "ok"));
        const lines = [all, served].map((some) => {
          const plan = planReport([], "gateway");
          const sums = new Sums(plan);
          for (const { dimensions, metric, value } of booked(some))
            if (typeof value === "object") sums.addMoved(metric, dimensions, value);
          return reportLine(plan, sums, { seconds: 1, settled: sums, isNamed: true });
        });
        expect(lines[0]?.percentiles).toEqual(lines[1]?.percentiles);
        const failed = all.flat().length > served.flat().length;
        expect(lines[0]?.failedPercentiles.request_duration !== undefined).toBe(failed);
      }),
      { numRuns: 100 },
    );
  });

  it("are those of all of a line's requests where lines are of one outcome each", () => {
    const plan = planReport(["outcome"], "gateway");
    const sums = new Sums(plan);
    const histogram = { bounds: [1, 10], counts: [0, 4, 0], sum: 20, count: 4 };
    sums.addMoved(DURATION, { "tokenwatt.outcome": "error" }, histogram);
    const line = reportLine(plan, sums, { seconds: 1, settled: sums, isNamed: true });
    expect(line.percentiles.request_duration?.p50).toBe(5.5);
    expect(line.failedPercentiles).toEqual({});
  });

  it("of failed requests meet no objective", () => {
    const histogram = (counts: readonly number[]): Histogram => ({
      ...{ bounds: [0.2], counts, sum: 1, count: counts.reduce((sum, one) => sum + one, 0) },
    });
    const metIn = (latencies: Latencies): (bigint | undefined)[] => {
      const objectives = [{ name: "fast", seconds: { request_duration: 0.2 } }];
      const books = new Books({ start: START, unixNanos, objectives });
      books.bookInterval(intervalOf({ from: 0, to: 900, increments: [moved({ latencies })] }), factsOf());
      const { points } = books.commit(unixNanos(900 * SECOND), 900 * SECOND).snapshot;
      return ["min", "max"].map((side) => {
        const found = points.find(({ metric }) => metric === `tokenwatt.slo.met_requests_${side}`);
        return found?.value as bigint | undefined;
      });
    };
    const served: Latencies = {
      "request_duration ok": histogram([5, 2]),
      request_duration: histogram([3, 0]),
    };
    expect(metIn(served)).toEqual([8n, 8n]);
    const refused = { "request_duration rejected": histogram([900, 0]) };
    expect(metIn({ ...served, ...refused })).toEqual([8n, 8n]);
    expect(metIn(refused)).toEqual([undefined, undefined]);
  });
});

it("a latency is read by name alone nowhere: each place that names one reads all its outcomes, or chooses", () => {
  const agent = fileURLToPath(new URL("../../agent", import.meta.url));
  const names =
    /\b(request_duration|queue_time|time_to_first_token|time_per_output_token|inter_token_latency)\b/;
  const rooms = ["correlate", "meter", "daemon", "policy", "export", "discovery", "store"];
  const found = rooms.flatMap((room) =>
    readdirSync(join(agent, room), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts") && names.test(readFileSync(join(agent, room, file), "utf8")))
      .map((file) => `${room}/${file}`),
  );
  // The first sums over outcomes, the others map names to metrics or get what was served.
  expect(found.sort()).toEqual([
    "correlate/ended.ts",
    "export/metrics/conventions.ts",
    "export/metrics/servers.ts",
    "meter/figures/report-plan.ts",
    "meter/figures/slo.ts",
    "meter/names.ts",
  ]);
});

describe("a source that begins to say how requests ended, or ceases to", () => {
  it("has no request counted twice, on a scale of its own or not", () => {
    const poll = fc.record({
      /** What ended between two polls, by outcome. */
      ended: fc.array(fc.constantFrom(...outcomes), { maxLength: 6 }),
      tells: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(poll, { minLength: 1, maxLength: 12 }), fc.boolean(), (polls, isScaled) => {
        const counters = new Increments({ agentStarted: 0 });
        const counts = new Map<Outcome, number>();
        let [counted, changed, before] = [0, 0, polls[0]?.tells];
        const requests = polls.slice(1).map(({ ended }) => ended.length);
        const histogram = (count: number): Histogram => ({
          ...{ bounds: [1], counts: [count, 0], sum: count / 2, count },
        });
        for (const [index, { ended, tells }] of polls.entries()) {
          for (const one of ended) counts.set(one, (counts.get(one) ?? 0) + 1);
          const all = [...counts.values()].reduce((sum, one) => sum + one, 0);
          const byOutcome = Object.fromEntries(
            [...counts].map(([one, count]) => [`queue_time ${one}` satisfies LatencyKey, histogram(count)]),
          );
          const latencies: Latencies = tells ? byOutcome : { queue_time: histogram(all) };
          const reading: TokenReading = {
            role: "combined",
            tokens: {},
            requests: {},
            volume: "finish",
            latencies,
          };
          const at = (index + 1) * SECOND;
          const sample = { server: "g", family: "gateway", sent: at, received: at, at } as const;
          const { increments } = counters.countSample({
            ...{ ...sample, readings: [reading], ignoredSamples: 0, errors: [] },
            ...(isScaled ? { scale: "one" } : {}),
          });
          const moved = increments.flatMap((one) => Object.values(one.latencies));
          if (index > 0) counted += moved.reduce((sum, one) => sum + one.count, 0);
          if (index > 0 && tells !== before) changed += ended.length;
          before = tells;
        }
        const truth = requests.reduce((sum, one) => sum + one, 0);
        expect(counted).toBeLessThanOrEqual(truth);
        // On a scale every request counts but those that ended as the source changed its words.
        if (isScaled && (polls[0]?.ended.length ?? 0) > 0)
          expect(counted).toBeGreaterThanOrEqual(truth - changed);
      }),
      { numRuns: 300 },
    );
  });

  it("has its keys read as they are written", () => {
    expect(latencyOf("request_duration error")).toBe("request_duration");
    expect(outcomeOf("request_duration error")).toBe("error");
    expect([latencyOf("queue_time"), outcomeOf("queue_time")]).toEqual(["queue_time", undefined]);
  });
});
