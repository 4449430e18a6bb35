// From page to booked tokens, for every server type on every recording: the first look is the base, what grew after it is
// booked once, the same page again books nothing.
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Increments } from "../../agent/meter/counters/increments.ts";
import type { TokenIncrement } from "../../agent/model.ts";
import { parsePage } from "../../agent/page/parse.ts";
import { virtualClock } from "../../agent/platform/clock.ts";
import { silentLog } from "../../agent/platform/log.ts";
import { serverTypes } from "../../agent/servers/registry.ts";
import type { PullServerSource, ServerType } from "../../agent/source.ts";

const fixtures = fileURLToPath(new URL("../fixtures/servers", import.meta.url));
const recordings = readdirSync(fixtures).filter((name) => name.endsWith(".prom"));

let body = "";
const server = createServer((_request, response) => response.end(body));
beforeAll(() => new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve)));
afterAll(() => {
  server.close();
  server.closeAllConnections();
});

/** The page with every value but start times and bounds times `scale`. */
function grown(text: string, scale: number): string {
  return text.replaceAll(
    /^([^#\s{]+(?:\{.*\})?) ([\d.eE+]+)(?=\s|$)/gm,
    (line, series: string, value: string) =>
      /process_start_time_seconds|_created/.test(series) ? line : `${series} ${Number(value) * scale}`,
  );
}

/** Tokens by kind. */
function sumOf(
  parts: readonly { readonly tokens: Readonly<Record<string, number>> }[],
): Record<string, number> {
  const sum: Record<string, number> = {};
  for (const { tokens } of parts) {
    for (const [kind, value] of Object.entries(tokens)) if (value > 0) sum[kind] = (sum[kind] ?? 0) + value;
  }
  return sum;
}

describe.each(recordings)("%s", (name) => {
  const text = readFileSync(`${fixtures}/${name}`, "utf8");
  const page = parsePage(Buffer.from(text));
  const type = serverTypes.find((each) => each.page?.recognises(page) !== undefined) as ServerType;

  test("books what grew since the first look, once", async () => {
    const clock = virtualClock(1_900_000_000_000_000_000n);
    const context = { clock, log: silentLog, signal: new AbortController().signal };
    const endpoint = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const source = type.open(type.config.parse({ endpoint }), context) as PullServerSource;
    const increments = new Increments({ agentStarted: clock.now() });
    const poll = async (next: string): Promise<readonly TokenIncrement[]> => {
      body = next;
      const { increments: moved } = increments.countSample(await source.poll());
      // Long enough that no recording's counters grow faster than a page without a start time is believed to.
      await clock.advance(clock.now() + 3600e9);
      return moved;
    };
    expect(sumOf(await poll(text))).toEqual({});
    const moved = await poll(grown(text, 2));
    expect(sumOf(moved)).toEqual(sumOf(type.page?.read(page).readings ?? []));
    expect(sumOf(await poll(grown(text, 2)))).toEqual({});
    expect(sumOf(await poll(grown(text, 3)))).toEqual(sumOf(moved));
    await source.close();
  });
});
