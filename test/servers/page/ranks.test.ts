// Data-parallel ranks behind one page: each rank's part adds up to the reading, on recordings and on pages that come one after
// the other with series missing and one rank started again; and what a page without ranks, or with one, says of them: nothing.
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Accepted } from "../../../agent/meter/counters/increments.ts";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { RankReading, TokenKind, TokenReading, TokenSample } from "../../../agent/model.ts";
import { parsePage } from "../../../agent/page/parse.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { withRanks } from "../../../agent/servers/page/ranks.ts";
import { serverTypes } from "../../../agent/servers/registry.ts";
import { vllm } from "../../../agent/servers/vllm.ts";
import type { PullServerSource } from "../../../agent/source.ts";

const fixtures = fileURLToPath(new URL("../../fixtures/servers", import.meta.url));
const KINDS: readonly TokenKind[] = ["input_uncached", "input_cached", "input_unsplit", "output"];

function readingsOf(name: string): readonly TokenReading[] {
  const page = parsePage(readFileSync(`${fixtures}/${name}`));
  const type = serverTypes.find((each) => each.page?.recognises(page) !== undefined);
  return type?.page?.read(page).readings ?? [];
}

const total = (ranks: readonly RankReading[], of: (rank: RankReading) => number | undefined): number =>
  ranks.reduce((sum, rank) => sum + (of(rank) ?? 0), 0);

describe("ranks of recorded pages", () => {
  const told = readdirSync(fixtures)
    .filter((name) => name.endsWith(".prom"))
    .map((name) => ({ name, readings: readingsOf(name) }))
    .filter(({ readings }) => readings.some(({ ranks }) => ranks !== undefined));

  test("are told of these", () => {
    expect(told.map(({ name }) => name)).toEqual([
      "dynamo-worker-1.6.1-vllm.prom",
      "sglang-0.5.23-two-tenants.prom",
      "sglang-2026-two-ranks.prom",
      "vllm-0.16-two-engines.prom",
      "vllm-0.20-kv-transfer-disjoint.prom",
      "vllm-0.33.0-rust-front-end.prom",
      "vllm-0.33.0-two-engines.prom",
      "vllm-rust-openmetrics.prom",
      "vllm-shape-python-client-0.26-one-process.prom",
    ]);
  });

  test.each(told)("of $name add up to the reading", ({ readings }) => {
    for (const reading of readings) {
      const { ranks } = reading;
      if (ranks === undefined) continue;
      for (const kind of KINDS) {
        if (ranks.every(({ tokens }) => tokens[kind] === undefined)) continue;
        expect(total(ranks, ({ tokens }) => tokens[kind])).toBe(reading.tokens[kind]);
      }
      expect(total(ranks, ({ running }) => running)).toBe(reading.running ?? 0);
      expect(total(ranks, ({ waiting }) => waiting)).toBe(reading.waiting ?? 0);
      if (ranks.some(({ progress }) => progress !== undefined))
        expect({
          input: total(ranks, ({ progress }) => progress?.input),
          output: total(ranks, ({ progress }) => progress?.output),
        }).toEqual(reading.progress);
      for (const name of ["request_duration", "time_to_first_token"] as const) {
        if (ranks.every(({ latencies }) => latencies?.[name] === undefined)) continue;
        expect(total(ranks, ({ latencies }) => latencies?.[name]?.count)).toBe(
          reading.latencies?.[name]?.count,
        );
      }
    }
  });

  test("give each scheduler's busy time to its rank, which is nobody's on a page of several", () => {
    const [reading] = readingsOf("sglang-0.5.23-two-tenants.prom").filter(({ ranks }) => ranks !== undefined);
    expect(reading?.ranks?.map(({ activeNanos, rank }) => [rank, activeNanos]).sort()).toEqual([
      ["0", 1_750_000_000],
      ["1", 1_750_000_000],
    ]);
  });
});

test("a rank's busy time is said once, however many models its page has", () => {
  const lines = ["0", "1"].flatMap((rank) => [
    ...["a", "b"].map((model) => `vllm:generation_tokens_total{engine="${rank}",model_name="${model}"} 5`),
  ]);
  const page = vllm.page?.read(parsePage(Buffer.from(`${lines.join("\n")}\n`)));
  if (page === undefined) throw new Error("vLLM has a page");
  const whole = withRanks(page, ["0", "1"], (rank) => ({ ...page, activeNanos: 7 + Number(rank) }));
  const told = whole.readings.flatMap(({ ranks = [] }) => ranks.map(({ activeNanos }) => activeNanos));
  expect(told.filter((one) => one !== undefined)).toEqual([7, 8]);
  expect(told).toHaveLength(4);
});

test("a gauge that is missing for one rank, the others at 0, is not known to be 0", () => {
  const page = (running: readonly string[]): TokenReading | undefined =>
    vllm.page?.read(
      parsePage(
        Buffer.from(
          `${["0", "1"].map((rank) => `vllm:generation_tokens_total{engine="${rank}",model_name="m"} 5`).join("\n")}\n${running.join("\n")}\n`,
        ),
      ),
    ).readings[0];
  const gauge = (rank: string, value: number): string =>
    `vllm:num_requests_running{engine="${rank}",model_name="m"} ${value}`;
  expect(page([gauge("0", 0), gauge("1", 0)])?.running).toBe(0);
  expect(page([gauge("0", 0)])?.running).toBeUndefined();
  expect(page([gauge("1", 4)])?.running).toBe(4);
  expect(page([gauge("1", 4)])?.ranks?.map(({ running }) => running)).toEqual([undefined, 4]);
});

interface Look {
  /** Tokens that each rank made since the page before. */
  readonly made: readonly { readonly input: number; readonly output: number }[];
  /** The rank whose series this page leaves out. */
  readonly missing: number | undefined;
}

/** Serves the pages one after the other to a vLLM source and books what it reads. */
async function booked(pages: readonly string[], samples: TokenSample[] = []): Promise<Accepted[]> {
  let at = 0;
  const server = createServer((_, response) => response.end(pages[at]));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const clock = systemClock();
  const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
  const entry = vllm.config.parse({ id: "t", endpoint: `http://127.0.0.1:${port}/metrics` });
  const context = { clock, log, signal: new AbortController().signal };
  const source = vllm.open(entry, context as never) as PullServerSource;
  const increments = new Increments({ agentStarted: clock.now() });
  const accepted: Accepted[] = [];
  try {
    for (; at < pages.length; at++) {
      const sample = await source.poll();
      samples.push(sample);
      accepted.push(increments.countSample(sample));
    }
  } finally {
    await source.close();
    server.closeAllConnections();
    server.close();
  }
  return accepted;
}

function pageAt(totals: readonly { input: number; output: number }[], missing: number | undefined): string {
  const lines = totals.flatMap(({ input, output }, rank) => {
    if (rank === missing) return [];
    const labels = `{engine="${rank}",model_name="m"}`;
    return [
      `vllm:prompt_tokens_total${labels} ${input}`,
      `vllm:generation_tokens_total${labels} ${output}`,
      `vllm:num_requests_running${labels} ${output % 3}`,
    ];
  });
  return `process_start_time_seconds 1700000000\n${lines.join("\n")}\n`;
}

const amount = fc.record({ input: fc.nat(5000), output: fc.nat(2000) });
const looks = fc.integer({ min: 2, max: 4 }).chain((count) =>
  fc.array(
    fc.record({
      made: fc.array(amount, { minLength: count, maxLength: count }),
      missing: fc.option(fc.nat(count - 1), { nil: undefined, freq: 4 }),
    }),
    { minLength: 2, maxLength: 6 },
  ),
);

describe("ranks of pages one after the other", () => {
  test("count what each made, whatever a page leaves out, and together what is booked", async () => {
    await fc.assert(
      fc.asyncProperty(looks, async (all: readonly Look[]) => {
        const count = all[0]?.made.length ?? 0;
        const totals = Array.from({ length: count }, () => ({ input: 1000, output: 1000 }));
        // The first page shows every rank: what one had made before it was seen is not ours. So does the last.
        const pages = [pageAt(totals, undefined)];
        for (const [index, { made, missing }] of all.entries()) {
          made.forEach(({ input, output }, rank) => {
            const own = totals[rank] as { input: number; output: number };
            own.input += input;
            own.output += output;
          });
          pages.push(pageAt(totals, index + 1 < all.length ? missing : undefined));
        }
        const accepted = await booked(pages);
        const moved = accepted.flatMap(({ increments }) => increments);
        const sum = (of: (one: (typeof moved)[number]) => number): number =>
          moved.reduce((all, one) => all + of(one), 0);
        totals.forEach(({ input, output }, rank) => {
          const own = (kind: TokenKind): number =>
            sum(({ ranks = [] }) => ranks.find((one) => one.rank === String(rank))?.tokens[kind] ?? 0);
          expect([own("input_unsplit"), own("output")]).toEqual([input - 1000, output - 1000]);
          const poll = accepted.at(-1)?.poll?.ranks?.find((one) => one.rank === String(rank));
          expect(poll).toEqual({
            rank: String(rank),
            inputTokens: input - 1000,
            outputTokens: output - 1000,
            inFlight: output % 3,
          });
        });
        for (const one of moved)
          for (const kind of KINDS)
            expect((one.ranks ?? []).reduce((all, { tokens }) => all + (tokens[kind] ?? 0), 0)).toBe(
              one.tokens[kind] ?? 0,
            );
      }),
      { numRuns: 12 },
    );
  });

  test("go on where one rank starts again, of which nothing is counted twice", async () => {
    const totals = [
      { input: 50_000, output: 40_000 },
      { input: 50_000, output: 40_000 },
    ];
    const step = (): string => {
      for (const own of totals) {
        own.input += 100;
        own.output += 50;
      }
      return pageAt(totals, undefined);
    };
    const pages = [pageAt(totals, undefined), step(), step()];
    totals[1] = { input: 0, output: 0 };
    for (let page = 0; page < 8; page++) pages.push(step());
    const accepted = await booked(pages);
    const outputOf = (rank: string): number =>
      accepted
        .flatMap(({ increments }) => increments)
        .reduce((all, { ranks = [] }) => {
          return all + (ranks.find((one) => one.rank === rank)?.tokens.output ?? 0);
        }, 0);
    expect(outputOf("0")).toBe(10 * 50);
    // Two steps before; those until its low level was believed are held, and told.
    expect(outputOf("1")).toBeGreaterThanOrEqual(2 * 50);
    expect(outputOf("1")).toBeLessThanOrEqual(10 * 50);
    const whole = accepted
      .flatMap(({ increments }) => increments)
      .reduce((all, { tokens }) => all + (tokens.output ?? 0), 0);
    expect(outputOf("0") + outputOf("1")).toBe(whole);
  });

  test("tell the ranks that are left apart where a server started again with fewer", async () => {
    const totals = Array.from({ length: 4 }, () => ({ input: 3000, output: 3000 }));
    const pages = [pageAt(totals, undefined)];
    totals.length = 2;
    for (let page = 0; page < 20; page++) {
      for (const own of totals) own.output += 3;
      pages.push(pageAt(totals, undefined).replace("1700000000", "1700009000"));
    }
    const samples: TokenSample[] = [];
    await booked(pages, samples);
    const ranks = (index: number) =>
      samples.at(index)?.readings[0]?.ranks?.map(({ rank, running }) => [rank, running]);
    // One page may leave a rank out, and what it runs is not known then.
    expect(ranks(1)).toEqual([
      ["0", 0],
      ["1", 0],
      ["2", undefined],
      ["3", undefined],
    ]);
    expect(samples[1]?.readings[0]?.running).toBeUndefined();
    expect(ranks(-1)).toEqual([
      ["0", 0],
      ["1", 0],
    ]);
    expect(samples.at(-1)?.readings[0]?.running).toBe(0);
  });

  test.each(["counters", "gauge"])("keep a rank of which only its %s are on the page", async (kept) => {
    const totals = Array.from({ length: 3 }, () => ({ input: 3000, output: 3000 }));
    const isLeft = (line: string): boolean =>
      line.includes('engine="2"') && line.includes("num_requests_running") === (kept === "counters");
    const pages = [pageAt(totals, undefined)];
    for (let page = 0; page < 20; page++) {
      for (const own of totals) own.output += 2;
      const lines = pageAt(totals, undefined).split("\n");
      pages.push(lines.filter((line) => !isLeft(line)).join("\n"));
    }
    const samples: TokenSample[] = [];
    await booked(pages, samples);
    const told = samples.map(({ readings }) => readings[0]?.ranks?.map(({ rank }) => rank));
    expect(told).toEqual(Array.from({ length: 21 }, () => ["0", "1", "2"]));
    const { output } = totals[2] as { output: number };
    const running = samples.at(-1)?.readings[0]?.ranks?.[2]?.running;
    expect(running).toBe(kept === "gauge" ? output % 3 : undefined);
  });
});
