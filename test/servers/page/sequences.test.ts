// Pages as servers really gave them one after the other, each sequence with the tokens that were made in it: series that
// go, values that are cut or fall, workers that take turns. Read over HTTP by the source of the type, and booked.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, onTestFinished, test } from "vitest";
import { Increments } from "../../../agent/meter/counters/increments.ts";
import type { StateRow } from "../../../agent/model.ts";
import { systemClock } from "../../../agent/platform/clock.ts";
import { serverTypes } from "../../../agent/servers/registry.ts";
import type { PullServerSource } from "../../../agent/source.ts";

const folder = fileURLToPath(new URL("../../fixtures/sequences", import.meta.url));
/** Polls of the last page, for what waits to be believed. */
const AFTER = 5;

interface Sequence {
  readonly type: string;
  readonly entry?: Readonly<Record<string, unknown>>;
  /** By page: it ends after so many lines, over a connection that does not say so. */
  readonly faults?: Readonly<Record<string, { readonly lines: number }>>;
  /** The agent is restarted after so many pages. */
  readonly restartAfter?: number;
  /** Least and most by kind, and of all kinds together. */
  readonly tokens: Readonly<Record<string, readonly [number, number]>>;
}

function pagesOf(name: string): readonly string[] {
  const began = Math.floor(Date.now() / 1000);
  const pages: string[] = [];
  while (existsSync(join(folder, name, `${pages.length}.prom`))) {
    const text = readFileSync(join(folder, name, `${pages.length}.prom`), "utf8");
    pages.push(
      text.replaceAll(/@START(?:-(\d+(?:\.\d+)?))?@/g, (_, back: string | undefined) =>
        String(began - Number(back ?? 3600)),
      ),
    );
  }
  return pages;
}

/** Serves the page that `at` names. */
async function serve(
  pages: readonly string[],
  at: () => number,
  faults: Sequence["faults"],
): Promise<string> {
  const answer = (request: IncomingMessage, response: ServerResponse): void => {
    const page = pages[at()] as string;
    const lines = faults?.[String(at())]?.lines;
    if (lines === undefined) {
      response.end(page);
      return;
    }
    request.socket.end(`HTTP/1.0 200 OK\r\n\r\n${page.split("\n").slice(0, lines).join("\n")}\n`);
  };
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/metrics`;
}

describe("sequences of pages", () => {
  test.each(readdirSync(folder))("%s: books what was made, no more and no less", async (name) => {
    const sequence = JSON.parse(readFileSync(join(folder, name, "case.json"), "utf8")) as Sequence;
    const pages = pagesOf(name);
    let page = 0;
    const endpoint = await serve(pages, () => Math.min(page, pages.length - 1), sequence.faults);
    const type = serverTypes.find((one) => one.name === sequence.type);
    const clock = systemClock();
    const rows = new Map<string, string>();
    const signal = new AbortController().signal;
    const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    const remembered = (): StateRow[] => [...rows].map(([key, value]) => ({ key, value }));
    const open = (): PullServerSource => {
      const entry = type?.config.parse({ id: "t", endpoint, ...sequence.entry });
      return type?.open(entry, { clock, log, signal, remembered } as never) as PullServerSource;
    };
    let source = open();
    let increments = new Increments({ agentStarted: clock.now() });
    const booked: Record<string, number> = { all: 0 };
    for (; page < pages.length + AFTER; page++) {
      if (page === sequence.restartAfter) {
        for (const row of source.state?.() ?? []) rows.set(row.key, row.value);
        for (const row of increments.takeChanges((at) => clock.unixNanos(at))) rows.set(row.key, row.value);
        await source.close();
        source = open();
        increments = new Increments({ agentStarted: clock.now() });
        const samples = remembered().filter(({ key }) => key.startsWith('["sample"'));
        expect(increments.restore(samples, (at) => clock.instant(at))).toBe(0);
      }
      for (const { tokens } of increments.countSample(await source.poll()).increments) {
        for (const [kind, amount] of Object.entries(tokens)) {
          booked[kind] = (booked[kind] ?? 0) + amount;
          booked["all"] = (booked["all"] ?? 0) + amount;
        }
      }
    }
    await source.close();
    for (const [kind, [least, most]] of Object.entries(sequence.tokens)) {
      expect(booked[kind] ?? 0, kind).toBeGreaterThanOrEqual(least);
      expect(booked[kind] ?? 0, kind).toBeLessThanOrEqual(most);
    }
  });
});
