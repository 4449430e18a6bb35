// What every source promises, checked for all of them alike: registry and folder name the same sources, the smallest
// configuration is accepted, an unknown key is refused, and at least one recording proves it.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { gpuBackends } from "../agent/gpu/registry.ts";
import { serverTypes } from "../agent/servers/registry.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** Sources that exist as files or folders beside a registry: modules that export an object like a source. */
async function sourcesIn(room: "gpu" | "servers"): Promise<string[]> {
  const names: string[] = [];
  for (const entry of readdirSync(join(root, "agent", room), { withFileTypes: true })) {
    const file = entry.isDirectory() ? join(entry.name, "index.ts") : entry.name;
    const path = join(root, "agent", room, file);
    if (!/^[a-z0-9-]+(\/index)?\.ts$/.test(file) || /child|registry/.test(file) || !existsSync(path))
      continue;
    const exported = Object.values((await import(path)) as Record<string, unknown>);
    if (exported.some(isSource)) names.push(entry.name.replace(/\.ts$/, ""));
  }
  return names;
}

function isSource(value: unknown): boolean {
  return (
    typeof value === "object" && value !== null && ["name", "config", "open"].every((key) => key in value)
  );
}

const tests = readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".test.ts"))
  .map((file) => [file, readFileSync(join(root, "test", file), "utf8")] as const);

/** Test files that import the source's own module. Its name in quotes proves nothing: it may be any word. */
function testsOf(room: string, name: string): string[] {
  const imported = new RegExp(`from "[./]*/agent/${room}/${name}(/index)?\\.ts"`);
  return tests.filter(([, text]) => imported.test(text)).map(([file]) => file);
}

/** Fixtures named after the source, and not after another whose name only begins so. */
function recordingsOf(room: string, name: string, names: readonly string[]): string[] {
  const longer = names.filter((other) => other.startsWith(`${name}-`));
  return readdirSync(join(root, "test", "fixtures", room)).filter(
    (file) => file.startsWith(`${name}-`) && !longer.some((other) => file.startsWith(`${other}-`)),
  );
}

describe.each([
  ["gpu", gpuBackends],
  ["servers", serverTypes],
] as const)("%s/registry.ts", (room, registered) => {
  const names = registered.map((source) => source.name);

  test("names the sources of its folder, each once, in kebab-case", async () => {
    expect([...names].sort()).toEqual((await sourcesIn(room)).sort());
    for (const name of names) expect(name).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
  });

  // A recording is a fixture named after the source; where the real thing is a library or a service, its test has a fake.
  test.each(names)("%s has a recording, or a test that drives a fake of it", (name) => {
    expect([...recordingsOf(room, name, names), ...testsOf(room, name)]).not.toEqual([]);
  });
});

describe.each(gpuBackends.map((backend) => [backend.name, backend] as const))("gpu.%s", (_, backend) => {
  test("accepts {} and refuses an unknown key", () => {
    expect(backend.config.safeParse({}).error).toBeUndefined();
    const refused = backend.config.safeParse({ surelyUnknown: 1 });
    expect(refused.error?.issues).toMatchObject([{ code: "unrecognized_keys" }]);
  });
});

describe.each(serverTypes.map((type) => [type.name, type] as const))("servers.%s", (_, type) => {
  test("accepts its example and refuses an unknown key", () => {
    expect(type.config.safeParse(type.example).error).toBeUndefined();
    const refused = type.config.safeParse({ ...type.example, surelyUnknown: 1 });
    expect(refused.error?.issues).toMatchObject([{ code: "unrecognized_keys" }]);
  });

  test("takes an id, so that two of a kind can be told apart", () => {
    expect(type.config.safeParse({ ...type.example, id: "one" }).error).toBeUndefined();
  });
});

test("a source without a recording and a test of its module is found", () => {
  expect(recordingsOf("servers", "triton", ["triton", "triton-grpc"])).not.toEqual([]);
  expect(recordingsOf("servers", "trito", ["trito", "triton"])).toEqual([]);
  // A word that stands in quotes in many tests.
  expect(testsOf("servers", "gateway")).toEqual([]);
});
