import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readPage } from "../../agent/cli/probe-target.ts";
import { parsePage } from "../../agent/page/parse.ts";
import { serverTypes } from "../../agent/servers/registry.ts";
import { sglang } from "../../agent/servers/sglang.ts";
import { vllm } from "../../agent/servers/vllm.ts";
import type { ServerType } from "../../agent/source.ts";

const folder = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const fixtures = folder("../fixtures/servers");
const unknown = folder("../fixtures/unknown-pages");
const recordings = readdirSync(fixtures).filter((name) => name.endsWith(".prom"));

/** Names of the server types a file of the room exports. */
async function typesIn(file: string): Promise<string[]> {
  const exported = Object.values((await import(`../../agent/servers/${file}`)) as Record<string, unknown>);
  return exported.flatMap((each) => {
    const type = each as Partial<ServerType> | null;
    return typeof type === "object" && type !== null && "example" in type && type.open
      ? [type.name as string]
      : [];
  });
}

/** The server a recording is of: the longest registered name its file name starts with. */
function serverOf(recording: string): string | undefined {
  return serverTypes
    .map((type) => type.name)
    .filter((name) => recording.startsWith(`${name}-`))
    .sort((a, b) => b.length - a.length)[0];
}

describe("the registry of servers", () => {
  test("names every server type of the folder, each in the file of its name", async () => {
    const room = folder("../../agent/servers/");
    const files = readdirSync(room, { recursive: true, encoding: "utf8" }).filter((name) =>
      /^(?!registry)[^/]+(\/index)?\.ts$/.test(name),
    );
    const found: string[] = [];
    for (const file of files) {
      for (const name of await typesIn(file)) {
        expect([`${name}.ts`, `${name}/index.ts`]).toContain(file);
        found.push(name);
      }
    }
    expect(serverTypes.map((type) => type.name).sort()).toEqual(found.sort());
  });

  test("is described in SERVERS.md, every type and nothing else", () => {
    const page = readFileSync(folder("../../agent/servers/SERVERS.md"), "utf8");
    const described = [...page.matchAll(/^\| ([a-z][a-z0-9-]*) \|/gm)].map((row) => row[1]);
    const types = serverTypes.map((type) => type.name).filter((name) => name !== "replay");
    expect(described.filter((name) => name !== "type" && name !== "annotation").sort()).toEqual(types.sort());
  });

  test("keeps recordings named <server>-<version>-<situation>", () => {
    for (const recording of recordings) expect([recording, serverOf(recording)]).not.toContain(undefined);
  });

  describe.each(serverTypes.map((type) => [type.name, type] as const))("%s", (_name, type) => {
    test("accepts its example and refuses an unknown key", () => {
      expect(type.config.safeParse(type.example).error?.issues ?? []).toEqual([]);
      expect(type.config.safeParse({ ...type.example, bananas: 1 }).success).toBe(false);
    });
  });
});

describe("recognition", () => {
  const pages = readdirSync(unknown);

  test.each(recordings)("%s is taken for its own server and no other", (recording) => {
    const page = parsePage(readFileSync(`${fixtures}/${recording}`));
    const takers = serverTypes.filter((type) => type.page?.recognises(page) !== undefined);
    expect(takers.map((type) => type.name)).toEqual([serverOf(recording)]);
  });

  test.each(pages)("unknown-pages/%s is taken for none, whichever type is asked", (name) => {
    const page = parsePage(readFileSync(`${unknown}/${name}`));
    expect(serverTypes.filter((type) => type.page?.recognises(page) !== undefined)).toEqual([]);
  });

  test.each(pages.filter((name) => /metrics|federation/.test(name)))(
    "unknown-pages/%s is refused by the engine it was merged from",
    (name) => {
      const page = parsePage(readFileSync(`${unknown}/${name}`));
      const engine = name.includes("sglang") ? sglang : vllm;
      const { errors, readings } = engine.page.read(page);
      expect(readings).toEqual([]);
      expect(errors.join()).toMatch(/no engine of this host/);
    },
  );
});

describe("recordings", () => {
  test.each(recordings)("%s is recognised and read as recorded", async (recording) => {
    const path = `${fixtures}/${recording}`;
    const result = readPage(readFileSync(path));
    expect(result.server).toBe(serverOf(recording));
    await expect(`${JSON.stringify(result, undefined, 1)}\n`).toMatchFileSnapshot(`${path}.json`);
  });

  test("every expected reading belongs to a recording", () => {
    for (const name of readdirSync(fixtures).filter((name) => name.endsWith(".prom.json"))) {
      expect([name, existsSync(`${fixtures}/${name.replace(/\.json$/, "")}`)]).toEqual([name, true]);
    }
  });

  test.each(serverTypes.filter((type) => type.page !== undefined).map((type) => type.name))(
    "%s has at least one recording",
    (name) => {
      expect(recordings.filter((recording) => serverOf(recording) === name)).not.toEqual([]);
    },
  );
});
