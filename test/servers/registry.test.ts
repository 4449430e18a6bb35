import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readPage } from "../../agent/cli/probe-target.ts";
import { serverTypes } from "../../agent/servers/registry.ts";
import { parsePage } from "../../agent/text/parse.ts";

const folder = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const fixtures = folder("../fixtures/servers");
const recordings = readdirSync(fixtures).filter((name) => name.endsWith(".prom"));

/** Files of the room that are no server: shared by several of them. */
const HELPERS = new Set([
  "entry",
  "get-loads-facts",
  "grpc-call",
  "grpc-errors",
  "grpc-server-type",
  "outcomes",
  "page-histograms",
  "page-readings",
  "page-watch",
  "receiver",
  "registry",
  "text-server",
  "token-counters-server",
  "usage-totals",
  "wire",
]);

/** The server a recording is of: the longest registered name its file name starts with. */
function serverOf(recording: string): string | undefined {
  return serverTypes
    .map((type) => type.name)
    .filter((name) => recording.startsWith(`${name}-`))
    .sort((a, b) => b.length - a.length)[0];
}

describe("the registry of servers", () => {
  test("names exactly the files of the folder", () => {
    const files = readdirSync(folder("../../agent/servers")).map((name) => basename(name, ".ts"));
    const servers = [...new Set(files)].filter((name) => !HELPERS.has(name)).sort();
    expect(serverTypes.map((type) => type.name).sort()).toEqual(servers);
  });

  test("keeps recordings named <server>-<version>-<situation>", () => {
    for (const recording of recordings) expect([recording, serverOf(recording)]).not.toContain(undefined);
  });

  describe.each(serverTypes.map((type) => [type.name, type] as const))("%s", (name, type) => {
    test("accepts its example and refuses an unknown key", () => {
      expect(type.config.safeParse(type.example).error?.issues ?? []).toEqual([]);
      expect(type.config.safeParse({ ...type.example, bananas: 1 }).success).toBe(false);
    });

    test.runIf(type.page !== undefined)("has at least one recording", () => {
      expect(recordings.filter((recording) => serverOf(recording) === name)).not.toEqual([]);
    });
  });
});

describe("recordings", () => {
  test.each(recordings)("%s is recognised and read as recorded", async (recording) => {
    const path = `${fixtures}/${recording}`;
    const result = readPage(parsePage(readFileSync(path)));
    expect(result.server).toBe(serverOf(recording));
    await expect(`${JSON.stringify(result, undefined, 1)}\n`).toMatchFileSnapshot(`${path}.json`);
  });

  test("every expected reading belongs to a recording", () => {
    for (const name of readdirSync(fixtures).filter((name) => name.endsWith(".prom.json"))) {
      expect([name, existsSync(`${fixtures}/${name.replace(/\.json$/, "")}`)]).toEqual([name, true]);
    }
  });
});
