// A page that shows what the one before showed is not read again. The law: whatever changes on a page or does not, its
// readings are those of a source that reads every page, here because a comment on it is always another one.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import * as fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Accepted } from "../../../agent/meter/counters/increments.ts";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { TokenReading, TokenSample } from "../../../agent/model.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { silentLog } from "../../../agent/platform/log.ts";
import { llamaCpp } from "../../../agent/servers/llama-cpp.ts";
import { vllm } from "../../../agent/servers/vllm.ts";
import type { PullServerSource } from "../../../agent/source.ts";

const clock = systemClock();
const began = Math.floor(Date.now() / 1000) - 5000;
let text = "";
let cutTo: number | undefined;
/** Names the run of a page that does not; 0: not named. */
let run = 0;
let pages = 0;

/** `/plain` as it is, `/never-same` with a comment that no page had before. */
const server = createServer((request, response) => {
  const lines = text.split("\n");
  const body = [...(request.url === "/plain" ? [] : [`# page ${pages++}`]), ...lines.slice(0, cutTo)];
  if (run > 0) response.setHeader("process-start-time-unix", run);
  if (cutTo === undefined) response.end(`${body.join("\n")}\n`);
  // Without a length: it ends where the connection does.
  else request.socket.end(`HTTP/1.0 200 OK\r\n\r\n${body.join("\n")}`);
});
beforeAll(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)));
afterAll(() => {
  server.close();
  server.closeAllConnections();
});

function open(path: string, type: typeof vllm = vllm): PullServerSource {
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`;
  const context = { clock, log: silentLog, signal: new AbortController().signal };
  return type.open(type.config.parse({ id: "s", endpoint }), context) as PullServerSource;
}

interface Page {
  hasStart: boolean;
  tokens: [number, number];
  running: number;
  start: number;
  created: number;
}

/** What changes from one page to the next; `still` is nothing. */
const change = fc.oneof(
  { weight: 10, arbitrary: fc.constant("still" as const) },
  {
    weight: 12,
    arbitrary: fc.constantFrom(
      ...(["rise", "gauge", "nan", "order", "gone", "created", "restart"] as const),
      ...(["stamps", "cut", "fall", "junk", "other family"] as const),
    ),
  },
);

const changes = fc.array(fc.tuple(change, fc.nat(50)), { maxLength: 16 });

function written(page: Page, how: string, at: number): string {
  const lines = page.tokens.flatMap((tokens, model) => {
    const labels = `engine="0",model_name="m${model}"`;
    if (how === "gone" && model === 1) return [];
    return [
      `vllm:prompt_tokens_total{${labels}} ${tokens * 3}`,
      `vllm:generation_tokens_total{${labels}} ${tokens}`,
      `vllm:generation_tokens_created{${labels}} ${page.created}`,
      `vllm:num_requests_running{${labels}} ${how === "nan" ? "NaN" : page.running}`,
      `vllm:e2e_request_latency_seconds_bucket{${labels},le="1"} ${tokens}`,
      `vllm:e2e_request_latency_seconds_bucket{${labels},le="+Inf"} ${tokens}`,
      `vllm:e2e_request_latency_seconds_count{${labels}} ${tokens}`,
      `vllm:e2e_request_latency_seconds_sum{${labels}} ${tokens / 2}`,
    ];
  });
  if (how === "order") lines.reverse();
  if (how === "junk") lines.push("x{ 1");
  const start = page.hasStart ? [`process_start_time_seconds ${page.start}`] : [];
  const all = [...lines, ...start, `unread_total ${at}`];
  return (how === "stamps" ? all.map((line) => `${line} ${1000 + at}`) : all).join("\n");
}

function apply(page: Page, how: string, amount: number): void {
  if (how === "rise") page.tokens[amount % 2 === 0 ? 0 : 1] += amount;
  else if (how === "fall") page.tokens[0] = Math.floor(page.tokens[0] / 3);
  else if (how === "gauge") page.running = amount;
  else if (how === "created") page.created++;
  else if (how === "restart") {
    page.start++;
    page.created++;
    page.tokens = [amount, 0];
  }
}

/** Both sources and their books at the next page, which both are to take for the same. */
async function expectSame(
  sources: readonly PullServerSource[],
  books: readonly Increments[],
): Promise<unknown> {
  const [one, two] = (await Promise.all(sources.map((source) => source.poll()))) as [
    TokenSample,
    TokenSample,
  ];
  expect(said(one)).toEqual(said(two));
  const moved = (all: Accepted | undefined): unknown => ({
    ...{ dropped: all?.dropped, resets: all?.resets, unmetered: all?.unmetered },
    poll: { ...all?.poll, at: 0 },
    increments: all?.increments.map(({ at: _at, ...rest }) => rest),
  });
  expect(moved(books[0]?.countSample(one))).toEqual(moved(books[1]?.countSample(two)));
  return one.readings;
}

function said({ doubt, errors, notes, readings, restarts }: TokenSample): unknown {
  return { readings, restarts, doubt, kinds: notes?.map(({ kind }) => kind), wrong: errors.length };
}

describe("a source read by its page", () => {
  test("means by a page that is the same what it would mean by one that is not", async () => {
    let same = 0;
    await fc.assert(
      fc.asyncProperty(changes, fc.boolean(), async (all, hasStart) => {
        const [plain, other] = [open("/plain"), open("/never-same")];
        const books = [plain, other].map(() => new Increments({ agentStarted: clock.now() }));
        const page: Page = { hasStart, tokens: [100, 50], running: 1, start: began, created: began };
        let before: unknown;
        for (const [at, [how, amount]] of all.entries()) {
          apply(page, how, amount);
          text = written(page, how, at);
          cutTo = how === "cut" ? 5 : undefined;
          const readings = await expectSame([plain, other], books);
          if (readings === before) same++;
          before = readings;
        }
        await plain.close();
        await other.close();
      }),
      { numRuns: 40 },
    );
    // The shortcut was taken at all.
    expect(same).toBeGreaterThan(10);
  });

  test("means it of the run that the answer's header names, also where its page is that of the run before", async () => {
    const turn = fc.tuple(fc.constantFrom("still", "still", "rise", "run", "restart"), fc.nat(50));
    await fc.assert(
      fc.asyncProperty(fc.array(turn, { maxLength: 12 }), async (all) => {
        const sources = [open("/plain", llamaCpp), open("/never-same", llamaCpp)];
        const books = sources.map(() => new Increments({ agentStarted: clock.now() }));
        let tokens = 100;
        run = 0;
        for (const [how, amount] of all) {
          if (how === "rise") tokens += amount;
          if (how === "restart") tokens = amount;
          if (how === "run" || how === "restart") run++;
          text = `llamacpp:tokens_predicted_total ${tokens}\nllamacpp:requests_processing 1`;
          cutTo = undefined;
          const readings = (await expectSame(sources, books)) as readonly TokenReading[];
          expect(readings.map(({ epoch }) => epoch)).toEqual([run === 0 ? undefined : `header:${run}`]);
        }
        for (const source of sources) await source.close();
      }),
      { numRuns: 20 },
    );
  });
});
