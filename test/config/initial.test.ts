// Files people start from: what `config init` prints and the example in deploy/config.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { initialConfig } from "../../agent/config/initial.ts";
import { configuredServers, loadConfig } from "../../agent/config/load.ts";
import { serverTypes } from "../../agent/servers/registry.ts";
import { runCommand } from "../cli/capture-io.ts";

const folder = mkdtempSync(join(tmpdir(), "tokenwatt-initial-"));
afterAll(() => rmSync(folder, { recursive: true }));

function load(text: string): ReturnType<typeof loadConfig> {
  const file = join(folder, "config.yaml");
  writeFileSync(file, text);
  return loadConfig({ env: {}, file });
}

describe("tokenwatt config init", () => {
  test("prints a file that is valid as it is", async () => {
    const { stdout, exitCode } = await runCommand(["config", "init"]);
    expect(exitCode).toBe(0);
    const [socket, port] = ["endpoint: unix:/", "endpoint: 127.0.0.1:4317"].map((text) =>
      stdout.indexOf(text),
    );
    expect(socket).toBeGreaterThan(0);
    expect(socket).toBeLessThan(port ?? 0);
    expect(configuredServers(load(stdout).config)).toEqual([]);
  });

  test("stays valid when its comments are opened", () => {
    const opened = initialConfig(serverTypes).replaceAll(
      /^( *)# (?=( *- )? *[\w.-]+:( |$))(?!yaml-language-server)/gm,
      "$1",
    );
    const { config } = load(opened);
    expect(configuredServers(config)).toHaveLength(serverTypes.length - 1);
    expect(config.export.otlp.endpoint).toBe("http://localhost:4317");
  });

  test("puts in the servers that are named, each at its example address", () => {
    const named = serverTypes.filter((type) => type.name !== "replay").map((type) => type.name);
    for (const name of named) {
      const { config } = load(initialConfig(serverTypes, [name]));
      expect(configuredServers(config).map(({ type }) => type.name)).toEqual([name]);
    }
  });

  test("refuses a type it does not know with a did-you-mean", async () => {
    const { stderr, exitCode } = await runCommand(["config", "init", "vlm"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain("did you mean vllm?");
  });
});

describe("deploy/config/tokenwatt.yaml", () => {
  test("is valid and names every section", () => {
    const file = fileURLToPath(new URL("../../deploy/config/tokenwatt.yaml", import.meta.url));
    const { config, origin } = loadConfig({ env: {}, file });
    expect(configuredServers(config)).toHaveLength(3);
    for (const section of Object.keys(config)) expect(origin([section]), section).toContain("tokenwatt.yaml");
  });
});
